use axum::Router;
use axum::extract::{ConnectInfo, Request};
use axum::http::HeaderMap;
use axum::middleware::{Next, from_fn};
use std::net::{IpAddr, SocketAddr};

/// Takes the client's address from where these proxies write it. What comes from elsewhere may claim anything.
pub(super) fn forwarded(routes: Router, proxies: &[IpAddr]) -> Router {
    if proxies.is_empty() {
        return routes;
    }
    let proxies: Vec<IpAddr> = proxies.iter().map(IpAddr::to_canonical).collect();
    routes.layer(from_fn(move |mut request: Request, next: Next| {
        let from = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip().to_canonical());
        if from.is_some_and(|from| proxies.contains(&from))
            && let Some(client) = last_of(request.headers())
        {
            request.extensions_mut().insert(ConnectInfo(SocketAddr::new(client, 0)));
        }
        next.run(request)
    }))
}

/// The last one is the proxy's own word: what stands before it came from the client.
fn last_of(headers: &HeaderMap) -> Option<IpAddr> {
    let line = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
    line.rsplit(',').next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::routing::get;
    use tower_service::Service;

    async fn seen(from: &str, headers: &[&str]) -> String {
        let show = get(|ConnectInfo(client): ConnectInfo<SocketAddr>| async move { client.ip().to_string() });
        let mut routes = forwarded(Router::new().route("/", show), &["10.0.0.1".parse().unwrap()]);
        let mut request = Request::builder().uri("/");
        for header in headers {
            request = request.header("x-forwarded-for", *header);
        }
        let mut request = request.body(Body::empty()).unwrap();
        request.extensions_mut().insert(ConnectInfo::<SocketAddr>((from.parse::<IpAddr>().unwrap(), 1).into()));
        let answer = routes.call(request).await.unwrap();
        String::from_utf8(axum::body::to_bytes(answer.into_body(), 100).await.unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn only_a_proxy_says_where_a_client_is() {
        assert_eq!(seen("10.0.0.1", &["1.2.3.4"]).await, "1.2.3.4");
        assert_eq!(seen("::ffff:10.0.0.1", &["6.6.6.6, 1.2.3.4"]).await, "1.2.3.4");
        assert_eq!(seen("10.0.0.1", &["6.6.6.6", "1.2.3.4"]).await, "1.2.3.4");
        assert_eq!(seen("10.0.0.1", &["6.6.6.6, nonsense"]).await, "10.0.0.1");
        assert_eq!(seen("10.0.0.1", &[]).await, "10.0.0.1");
        assert_eq!(seen("10.0.0.2", &["1.2.3.4"]).await, "10.0.0.2");
    }
}

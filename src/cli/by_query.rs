use crate::service::hub_name;
use crate::transport::Query;
use axum::Router;
use axum::extract::Request;
use axum::http::{StatusCode, Uri};
use axum::middleware::{Next, from_fn};
use axum::routing::any;
use std::collections::BTreeMap;
use std::sync::Arc;
use tower_service::Service;

/// Serves clients that name their hub in the query, as those of the service do, from the hubs that have a path of their own; what is for
/// none of them is left to `routes`.
pub(super) fn by_query(routes: Router, hubs: Router, paths: BTreeMap<String, String>) -> Router {
    let paths = Arc::new(paths);
    routes.layer(from_fn(move |mut request: Request, next: Next| {
        let (mut hubs, paths) = (hubs.clone(), paths.clone());
        async move {
            match own_uri(request.uri(), &paths) {
                Some(uri) => {
                    *request.uri_mut() = uri;
                    hubs.call(request).await.unwrap_or_else(|never| match never {})
                }
                None => next.run(request).await,
            }
        }
    }))
}

/// The paths of clients where nothing is behind them.
pub(super) fn nothing() -> Router {
    let nobody = || any(|| async { StatusCode::NOT_FOUND });
    Router::new()
        .route("/client", nobody())
        .route("/client/", nobody())
        .route("/client/negotiate", nobody())
        .route("/client/negotiate/", nobody())
}

/// The same request at the path of the hub that it names.
fn own_uri(uri: &Uri, paths: &BTreeMap<String, String>) -> Option<Uri> {
    let rest = uri.path().strip_prefix("/client")?;
    let path = paths.get(&hub_name(Query::new(uri.query()))?)?;
    let path = path.trim_end_matches('/');
    format!("{path}{rest}?{}", uri.query().unwrap_or_default()).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hub_of_the_query_has_a_path() {
        let paths = BTreeMap::from([("chat".into(), "/hubs/chat".into()), ("root".into(), "/".into())]);
        let own = |uri: &'static str| own_uri(&Uri::from_static(uri), &paths).map(|uri| uri.to_string());
        assert_eq!(own("/client/?hub=Chat&id=1").unwrap(), "/hubs/chat/?hub=Chat&id=1");
        assert_eq!(own("/client?hub=chat").unwrap(), "/hubs/chat?hub=chat");
        assert_eq!(own("/client/negotiate?hub=root&x=%20").unwrap(), "/negotiate?hub=root&x=%20");
        assert_eq!(own("/client/?hub=other"), None);
        assert_eq!(own("/server/?hub=chat"), None);
        assert_eq!(own("/client/"), None);
    }
}

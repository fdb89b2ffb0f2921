use super::Origins;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use pin_project_lite::pin_project;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tower_layer::Layer;
use tower_service::Service;

/// Lets pages of other origins use what it is put around: negotiate, server-sent events, long polling. WebSockets need none of it, see
/// [`TransportOptions::allowed_origins`](crate::TransportOptions::allowed_origins).
///
/// It answers a preflight itself, since no preflight carries a token: put it around whatever authenticates, that is, add it last. Clients
/// send credentials, so the origin is named exactly, `null` included, with leave for credentials and for the headers that were asked for.
///
/// ```
/// use axum::Router;
/// use hubwire::{Cors, Hub};
///
/// let chat = Hub::with_state(()).build();
/// let router: Router = Router::new().merge(chat.routes("/chat")).layer(Cors::origins(["https://app.example"]));
/// ```
#[derive(Debug, Clone)]
pub struct Cors(Origins);

impl Cors {
    /// Lets pages of these origins.
    pub fn origins(origins: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(Origins::List(origins.into_iter().map(Into::into).collect()))
    }

    /// Lets pages of every origin, with the credentials of whoever looks at them: fit for hubs that need a token in a header, not for those
    /// that know their users by a cookie.
    pub fn any_origin() -> Self {
        Self(Origins::Any)
    }

    /// Lets pages of these origins, given as they are.
    #[cfg(feature = "service")]
    pub(crate) fn of(origins: Origins) -> Self {
        Self(origins)
    }

    /// The headers that an answer to this request carries.
    fn headers<B>(&self, request: &Request<B>) -> Option<HeaderMap> {
        let origin = request.headers().get(header::ORIGIN)?;
        let mut headers = HeaderMap::new();
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        if !self.0.allow(request) {
            return Some(headers);
        }
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        if is_preflight(request) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE"));
            if let Some(asked) = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
                headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
            }
        }
        Some(headers)
    }
}

fn is_preflight<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    request.method() == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

impl<S> Layer<S> for Cors {
    type Service = CorsService<S>;

    fn layer(&self, inner: S) -> CorsService<S> {
        CorsService { inner, cors: self.clone() }
    }
}

/// What [`Cors`] makes of a service.
#[derive(Debug, Clone)]
pub struct CorsService<S> {
    inner: S,
    cors: Cors,
}

impl<S, B> Service<Request<B>> for CorsService<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = CorsFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let headers = self.cors.headers(&request);
        let answer = if is_preflight(&request) { None } else { Some(self.inner.call(request)) };
        CorsFuture { answer, headers }
    }
}

pin_project! {
    /// The answer of a [`CorsService`].
    #[derive(Debug)]
    pub struct CorsFuture<F> {
        #[pin]
        answer: Option<F>,
        headers: Option<HeaderMap>,
    }
}

impl<F: Future<Output = Result<Response<Body>, E>>, E> Future for CorsFuture<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let mut response = match this.answer.as_pin_mut() {
            Some(answer) => ready!(answer.poll(cx))?,
            None => {
                let mut preflight = Response::new(Body::empty());
                *preflight.status_mut() = StatusCode::NO_CONTENT;
                preflight
            }
        };
        for (name, value) in this.headers.take().into_iter().flatten() {
            match name {
                Some(header::VARY) => drop(response.headers_mut().append(header::VARY, value)),
                Some(name) => drop(response.headers_mut().insert(name, value)),
                None => {}
            }
        }
        Poll::Ready(Ok(response))
    }
}

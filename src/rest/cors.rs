use crate::transport::Origins;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};

/// What a page of another origin has to be told. (Not [`Cors`](crate::Cors): that one knows the methods of hubs only.)
pub(super) struct Crossing {
    headers: HeaderMap,
    preflight: bool,
}

impl Crossing {
    pub(super) fn of(origins: &Origins, request: &Request<Body>) -> Self {
        let asked = request.headers();
        let mut headers = HeaderMap::new();
        let preflight =
            request.method() == Method::OPTIONS && asked.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        let Some(origin) = asked.get(header::ORIGIN) else { return Self { headers, preflight: false } };
        headers.insert(header::VARY, HeaderValue::from_static("Origin"));
        if origins.allow(request) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            if preflight {
                for (from, to) in ECHOED {
                    asked.get(&from).map(|value| headers.insert(to, value.clone()));
                }
            } else {
                headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
            }
        }
        Self { headers, preflight }
    }

    /// No preflight carries a token, so it is answered before anybody asks for one.
    pub(super) fn preflight(&self) -> Option<Response<Body>> {
        self.preflight.then(|| super::errors::empty(StatusCode::NO_CONTENT))
    }

    pub(super) fn finish(self, response: &mut Response<Body>) {
        response.headers_mut().extend(self.headers);
    }
}

const ECHOED: [(HeaderName, HeaderName); 2] = [
    (header::ACCESS_CONTROL_REQUEST_METHOD, header::ACCESS_CONTROL_ALLOW_METHODS),
    (header::ACCESS_CONTROL_REQUEST_HEADERS, header::ACCESS_CONTROL_ALLOW_HEADERS),
];
/// What a page's script could not read otherwise.
const EXPOSED: &str = "x-ms-error-code, x-protocol, retry-after";

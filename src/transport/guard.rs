use super::Identity;
use super::routes::{Endpoints, plain};
use super::websocket::UpgradeRequest;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use std::sync::Arc;

/// Stands before every route of a hub: nothing of a request is looked at before it is known that it may use the hub.
pub(super) async fn guard(State(endpoints): State<Arc<Endpoints>>, request: Request, next: Next) -> Response {
    if let Some(policy) = endpoints.policy() {
        let anonymous = Identity::anonymous();
        let identity = request.extensions().get::<Identity>().unwrap_or(&anonymous);
        if !policy.allows(identity) {
            return if identity.is_authenticated() { plain(StatusCode::FORBIDDEN, "") } else { unauthorized() };
        }
    }
    // a browser lets every page open a WebSocket anywhere, and sends cookies with it
    if UpgradeRequest::is_valid(&request) && !endpoints.options().allowed_origins.allow(&request) {
        return plain(StatusCode::FORBIDDEN, "");
    }
    next.run(request).await
}

/// The answer to somebody who has to say first who it is.
pub(crate) fn unauthorized() -> Response {
    let mut response = plain(StatusCode::UNAUTHORIZED, "");
    response.headers_mut().remove(header::CONTENT_TYPE);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

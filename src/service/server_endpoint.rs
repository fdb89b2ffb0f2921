use super::NoHub;
use super::audience::{Entrance, hub_name};
use super::server_driver::{self, Accepted};
use super::service::{Service, random_name};
use crate::transport::{Query, UpgradeRequest, unauthorized, upgrade};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use std::fmt::Display;
use std::time::{Duration, Instant, SystemTime};
use tracing::{debug, warn};

/// Where application servers connect. A library of theirs reads no body and logs at most the status.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(service: Service) -> Router<S> {
    Router::new().route("/server", any(connect)).route("/server/", any(connect)).with_state(service)
}

async fn connect(State(service): State<Service>, mut request: Request) -> Response {
    let accepted = match admit(&service, &request) {
        Ok(accepted) => accepted,
        Err(refused) => {
            debug!(reason = %refused, "an application server was refused");
            return refused.into_response();
        }
    };
    let Some(request) = UpgradeRequest::take(&mut request) else { return Refused::NoUpgrade.into_response() };
    let tasks = service.0.tasks.clone();
    // its send buffer is the kernel's to size: there are few of them, and each carries many clients
    upgrade(request, None, move |duplex, early| {
        tasks.spawn(server_driver::run(service, accepted, duplex, early));
    })
}

fn admit(service: &Service, request: &Request) -> Result<Accepted, Refused> {
    if service.is_closed() {
        return Err(Refused::ShuttingDown);
    }
    let query = Query::new(request.uri().query());
    let name = hub_name(query).ok_or(Refused::NoHub)?;
    let options = &service.0.options;
    // never from the query, where browsers have it: no page is an application server
    let token = bearer(request.headers()).ok_or(Refused::NoToken)?;
    let token = service.0.keys.verify(token, SystemTime::now(), options.token_skew).map_err(|error| {
        service.warn_of_token(&name, &error);
        Refused::BadToken
    })?;
    if !Entrance::Server.is_opened_by(&token, &name, &options.endpoints) {
        service.warn_of_token(&name, &"the token is for something else");
        return Err(Refused::BadToken);
    }
    if !UpgradeRequest::is_valid(request) {
        return Err(Refused::NoUpgrade);
    }
    let server_id = request.headers().get(SERVER_ID).and_then(|id| id.to_str().ok()).or(token.claim("nameid"));
    let server_id = match server_id.filter(|id| !id.is_empty()) {
        Some(id) if id.len() > LONGEST_ID => return Err(Refused::LongId),
        Some(id) => id.to_owned(),
        None => random_name(),
    };
    let cid = query.value("cid").filter(|cid| !cid.is_empty() && cid.len() <= LONGEST_ID);
    let id = cid.map_or_else(random_name, |cid| cid.into_owned());
    let place = service.0.places.clone().try_acquire_owned().map_err(|_| Refused::TooMany)?;
    let hub = service.open(&name).map_err(|e| match e {
        NoHub::TooMany => Refused::TooMany,
        NoHub::NotServed => Refused::NotServed,
    })?;
    Ok(Accepted { hub, server_id: server_id.into(), id, place })
}

impl Service {
    /// Who has the wrong key tries for ever, and can be helped only by somebody who looks at the log; which nobody must be able to fill.
    fn warn_of_token(&self, hub: &str, error: &dyn Display) {
        let mut warned = self.0.warned.lock();
        if warned.is_none_or(|at| at.elapsed() >= BETWEEN_WARNINGS) {
            *warned = Some(Instant::now());
            warn!(hub, %error, "the token of an application server was refused");
        }
    }
}

/// The token of the header.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Why an application server is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Refused {
    #[error("the hub is missing, or is no name that a hub can have")]
    NoHub,
    #[error("a WebSocket upgrade is expected here")]
    NoUpgrade,
    #[error("the server id is too long")]
    LongId,
    #[error("there is no token")]
    NoToken,
    #[error("the token is not good for this hub")]
    BadToken,
    #[error("there is no such hub here")]
    NotServed,
    #[error("there are too many hubs or server connections")]
    TooMany,
    #[error("the service is shutting down")]
    ShuttingDown,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match self {
            Self::NoToken => return unauthorized(),
            Self::BadToken => {
                let mut response = unauthorized();
                let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
                return response;
            }
            Self::NoHub | Self::NoUpgrade | Self::LongId => StatusCode::BAD_REQUEST,
            Self::NotServed => StatusCode::NOT_FOUND,
            Self::TooMany | Self::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, self.to_string()).into_response()
    }
}

/// The same for all connections of one process.
const SERVER_ID: &str = "x-asrs-server-id";
const BETWEEN_WARNINGS: Duration = Duration::from_secs(1);
/// Bytes of a name that a server gives itself or a connection.
const LONGEST_ID: usize = 256;

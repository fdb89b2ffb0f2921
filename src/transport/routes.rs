use super::guard::guard;
use super::refresh::refresh;
use super::registry::Unusable;
use super::websocket::{self, UpgradeRequest};
use super::{
    Accept, ConnectionId, ConnectionToken, Facts, Identity, Opening, Origins, Policy, Query, Registry, Transport,
    TransportOptions,
};
use crate::protocol::negotiate::{self, NegotiateRequest, NegotiateResponse, Transports};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware;
use axum::response::Response;
use axum::routing::any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The HTTP side of one mounted hub: what its routes share.
pub(crate) struct Endpoints {
    options: TransportOptions,
    registry: Arc<Registry>,
    accept: Arc<dyn Accept>,
    /// Who may use the hub.
    policy: Option<Policy>,
    /// Set by a drain: nobody new gets in.
    closed: AtomicBool,
}

impl Endpoints {
    pub(crate) fn new(options: TransportOptions, policy: Option<Policy>, accept: Arc<dyn Accept>) -> Arc<Self> {
        let registry = Registry::new(options.negotiate_timeout, options.max_negotiated);
        Arc::new(Self { options, registry, accept, policy, closed: AtomicBool::new(false) })
    }

    pub(super) fn options(&self) -> &TransportOptions {
        &self.options
    }

    pub(super) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    pub(super) fn policy(&self) -> Option<&Policy> {
        self.policy.as_ref()
    }

    /// Answers 503 to everybody new from now on.
    pub(crate) fn close(&self) {
        self.closed.store(true, Relaxed);
    }
}

/// The routes of a hub at a path. The form with a slash at its end, which a nested router could not have, is the same hub.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>(path: &str, endpoints: Arc<Endpoints>) -> Router<S> {
    let path = path.trim_end_matches('/');
    let mut router = Router::new();
    if !path.is_empty() {
        router = router.route(path, any(connect));
    }
    if endpoints.options.authentication_refresh.is_some() {
        router = router.route(&format!("{path}/refresh"), any(refresh));
    }
    router = router.route(&format!("{path}/"), any(connect)).route(&format!("{path}/negotiate"), any(negotiate));
    if endpoints.policy.is_some() || endpoints.options.allowed_origins != Origins::Any {
        router = router.route_layer(middleware::from_fn_with_state(endpoints.clone(), guard));
    }
    router.with_state(endpoints)
}

async fn negotiate(State(endpoints): State<Arc<Endpoints>>, request: Request) -> Response {
    if request.method() != Method::POST {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "");
    }
    if endpoints.closed.load(Relaxed) {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "");
    }
    let query = request.uri().query().unwrap_or_default();
    let body = match NegotiateRequest::from_query(query, endpoints.options.minimum_negotiate_version) {
        Err(e) => negotiate::refusal(&e.to_string()),
        Ok(asked) => {
            let id = ConnectionId::random();
            let token = if asked.version == 0 { ConnectionToken::same_as(id) } else { ConnectionToken::random() };
            let identity = identity(&request);
            let token_lifetime = endpoints.token_lifetime(&identity);
            if endpoints.registry.negotiate(id, token, identity).is_none() {
                return plain(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "Too many connections have been negotiated and not opened",
                );
            }
            let offers = |transport| endpoints.options.transports.contains(&transport);
            NegotiateResponse {
                version: asked.version,
                stateful_reconnect: false,
                connection_id: id.as_str(),
                connection_token: token.reveal(),
                token_lifetime,
                transports: Transports {
                    websockets: offers(Transport::WebSockets),
                    server_sent_events: offers(Transport::ServerSentEvents),
                    long_polling: offers(Transport::LongPolling),
                },
            }
            .to_json()
        }
    };
    respond(StatusCode::OK, "application/json", body)
}

async fn connect(State(endpoints): State<Arc<Endpoints>>, mut request: Request) -> Response {
    if !matches!(*request.method(), Method::GET | Method::POST | Method::DELETE) {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "");
    }
    let identity = identity(&request);
    let query = Query::new(request.uri().query());
    let token = query.value("id").filter(|id| !id.is_empty());
    if request.method() != Method::GET {
        return not_websocket(&endpoints, request.method(), token.as_deref(), &identity);
    }
    let wants = wanted_transport(&request);
    let (id, registration) = match token.as_deref() {
        None if wants == Transport::WebSockets => {
            let id = ConnectionId::random();
            (id, endpoints.registry.add(id, identity.clone(), wants))
        }
        None => return plain(StatusCode::BAD_REQUEST, "Connection ID required"),
        Some(text) => {
            let token = ConnectionToken::parse(text);
            let known = token.map_or(Err(Unusable::Unknown), |t| endpoints.registry.transport(t, &identity).map(|_| t));
            match known {
                Err(unusable) => return refuse(unusable, wants),
                Ok(_) if !endpoints.options.transports.contains(&wants) => {
                    let text = format!("{} transport not supported by this end point type", wants.name());
                    return plain(StatusCode::NOT_FOUND, &text);
                }
                Ok(token) => match endpoints.registry.start(token, &identity, wants) {
                    Ok(started) => started,
                    Err(unusable) => return refuse(unusable, wants),
                },
            }
        }
    };
    if endpoints.closed.load(Relaxed) {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "");
    }
    let facts = Facts { identity: endpoints.limited(identity), transport: wants, query: query.without_secrets() };
    let Some(upgrade) = UpgradeRequest::take(&mut request) else {
        return plain(StatusCode::BAD_REQUEST, "The connection cannot be upgraded");
    };
    let accept = endpoints.accept.clone();
    websocket::upgrade(upgrade, endpoints.options.send_buffer, move |duplex, early| {
        accept.accept(Opening { id, facts, duplex, early, registration: Some(registration) });
    })
}

/// POST and DELETE belong to the HTTP transports.
fn not_websocket(endpoints: &Endpoints, method: &Method, token: Option<&str>, identity: &Identity) -> Response {
    let Some(text) = token else { return plain(StatusCode::BAD_REQUEST, "Connection ID required") };
    let known =
        ConnectionToken::parse(text).map_or(Err(Unusable::Unknown), |t| endpoints.registry.transport(t, identity));
    match known {
        Err(unusable) => refuse(unusable, Transport::LongPolling),
        Ok(_) if *method == Method::DELETE => {
            plain(StatusCode::BAD_REQUEST, "Cannot terminate this connection using the DELETE endpoint.")
        }
        Ok(_) => plain(StatusCode::METHOD_NOT_ALLOWED, "POST requests are not allowed for WebSocket connections."),
    }
}

/// As the reference decides: an exact media type first, then an upgrade that is whole, then a poll.
fn wanted_transport(request: &Request) -> Transport {
    let accepts_events = request.headers().get_all(header::ACCEPT).iter().any(|value| {
        let Ok(value) = value.to_str() else { return false };
        value.split(',').any(|media| media.trim().eq_ignore_ascii_case("text/event-stream"))
    });
    if accepts_events {
        Transport::ServerSentEvents
    } else if UpgradeRequest::is_valid(request) {
        Transport::WebSockets
    } else {
        Transport::LongPolling
    }
}

fn refuse(unusable: Unusable, wants: Transport) -> Response {
    match unusable {
        Unusable::Unknown => plain(StatusCode::NOT_FOUND, "No Connection with that ID"),
        // up to .NET 10 the reference lets anybody in who has the token, and logs
        Unusable::Foreign => plain(StatusCode::FORBIDDEN, "The user associated with this connection changed."),
        Unusable::Started(transport) if transport == wants => plain(StatusCode::CONFLICT, ""),
        Unusable::Started(_) => plain(StatusCode::BAD_REQUEST, "Cannot change transports mid-connection"),
    }
}

pub(super) fn identity(request: &Request) -> Identity {
    request.extensions().get::<Identity>().cloned().unwrap_or_default()
}

pub(super) fn plain(status: StatusCode, text: &str) -> Response {
    respond(status, "text/plain", text.to_owned())
}

pub(super) fn respond(status: StatusCode, content_type: &'static str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

impl std::fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Endpoints").field("options", &self.options).finish_non_exhaustive()
    }
}

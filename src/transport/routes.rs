use super::guard::guard;
use super::long_polling::{self, Polled};
use super::post::{Budget, post};
use super::refresh::refresh;
use super::registry::{Started, Unusable};
use super::serve::Line;
use super::websocket::{self, UpgradeRequest};
use super::{
    Accept, ConnectionId, ConnectionToken, Duplex, Facts, Identity, Opening, Origins, Policy, Query, Registry,
    Resumable, Terms, Transport, TransportOptions, sse,
};
use crate::protocol::negotiate::{self, NegotiateError, NegotiateRequest, NegotiateResponse, Transports};
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware;
use axum::response::Response;
use axum::routing::any;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The HTTP side of one mounted hub: what its routes share.
pub(crate) struct Endpoints {
    options: TransportOptions,
    registry: Arc<Registry>,
    accept: Arc<dyn Accept>,
    /// Who may use the hub.
    policy: Option<Policy>,
    /// What POST bodies may hold.
    budget: Arc<Budget>,
    /// Set by a drain: nobody new gets in.
    closed: AtomicBool,
}

impl Endpoints {
    pub(crate) fn new(options: TransportOptions, policy: Option<Policy>, accept: Arc<dyn Accept>) -> Arc<Self> {
        let registry = Registry::new(
            options.negotiate_timeout,
            options.max_negotiated,
            options.max_connections,
            options.inbox_limit,
        );
        let budget = Budget::new(options.post_budget);
        Arc::new(Self { options, registry, accept, policy, budget, closed: AtomicBool::new(false) })
    }

    pub(super) fn options(&self) -> &TransportOptions {
        &self.options
    }

    pub(crate) fn registry(&self) -> &Arc<Registry> {
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

/// The routes of a hub at a path. The forms with a slash at their end, which a nested router could not have, are the same hub.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>(path: &str, endpoints: Arc<Endpoints>) -> Router<S> {
    let path = path.trim_end_matches('/');
    let mut router = Router::new();
    if !path.is_empty() {
        router = router.route(path, any(connect));
    }
    router = router
        .route(&format!("{path}/"), any(connect))
        .route(&format!("{path}/negotiate"), any(negotiate))
        .route(&format!("{path}/negotiate/"), any(negotiate));
    if endpoints.options.authentication_refresh.is_some() {
        router =
            router.route(&format!("{path}/refresh"), any(refresh)).route(&format!("{path}/refresh/"), any(refresh));
    }
    if endpoints.policy.is_some() || endpoints.options.allowed_origins != Origins::Any {
        router = router.route_layer(middleware::from_fn_with_state(endpoints.clone(), guard));
    }
    router.with_state(endpoints)
}

async fn negotiate(State(endpoints): State<Arc<Endpoints>>, request: Request) -> Response {
    let query = request.uri().query().unwrap_or_default();
    endpoints.negotiate(&request, NegotiateRequest::from_query(query, endpoints.options.minimum_negotiate_version))
}

async fn connect(State(endpoints): State<Arc<Endpoints>>, request: Request) -> Response {
    endpoints.connect(request).await
}

impl Endpoints {
    /// Makes room for a connection that is about to come, and says how it may.
    pub(crate) fn negotiate(&self, request: &Request, asked: Result<NegotiateRequest, NegotiateError>) -> Response {
        if request.method() != Method::POST {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "");
        }
        if self.closed.load(Relaxed) {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "");
        }
        let body = match asked {
            Err(e) => negotiate::refusal(&e.to_string()),
            Ok(asked) => {
                let id = ConnectionId::random();
                let token = if asked.version == 0 { ConnectionToken::same_as(id) } else { ConnectionToken::random() };
                let resumes = self.options.stateful_reconnect || terms(request).is_some_and(|t| t.stateful_reconnect);
                let may_resume = asked.stateful_reconnect && resumes;
                let identity = identity(request);
                let token_lifetime = self.token_lifetime(&identity);
                if self.registry.negotiate(id, token, identity, may_resume).is_none() {
                    return plain(
                        StatusCode::SERVICE_UNAVAILABLE,
                        "Too many connections have been negotiated and not opened",
                    );
                }
                NegotiateResponse {
                    version: asked.version,
                    stateful_reconnect: may_resume,
                    connection_id: id.as_str(),
                    connection_token: token.reveal(),
                    token_lifetime,
                    transports: Transports {
                        websockets: self.offers(Transport::WebSockets, request),
                        server_sent_events: self.offers(Transport::ServerSentEvents, request),
                        long_polling: self.offers(Transport::LongPolling, request),
                    },
                }
                .to_json()
            }
        };
        respond(StatusCode::OK, "application/json", body)
    }

    /// Serves a connection: its GETs, and what it posts.
    pub(crate) async fn connect(&self, request: Request) -> Response {
        match *request.method() {
            Method::GET => {
                let wants = wanted_transport(&request);
                let mut response = self.get(wants, request).await.unwrap_or_else(|refusal| refusal.response(wants));
                if wants == Transport::LongPolling {
                    long_polling::forbid_caching(response.headers_mut());
                }
                response
            }
            Method::POST => self.post(request).await,
            Method::DELETE => self.delete(&request),
            _ => plain(StatusCode::METHOD_NOT_ALLOWED, ""),
        }
    }

    fn offers(&self, transport: Transport, request: &Request) -> bool {
        let granted = terms(request).and_then(|terms| terms.transports.as_ref());
        self.options.transports.contains(&transport) && granted.is_none_or(|granted| granted.contains(&transport))
    }

    /// Opens a WebSocket or an event stream, or polls.
    async fn get(&self, wants: Transport, request: Request) -> Result<Response, Refusal> {
        let identity = identity(&request);
        let Some(token) = token(&request)? else {
            return if wants == Transport::WebSockets { self.skip_negotiation(request) } else { Err(Refusal::NoId) };
        };
        let transport = self.registry.transport(token, &identity)?;
        if !self.offers(wants, &request) {
            return Err(Refusal::NotOffered);
        }
        if transport.is_none() && self.closed.load(Relaxed) {
            return Err(Refusal::Draining);
        }
        match self.registry.start(token, &identity, wants) {
            Ok(started) => self.start(started, wants, request),
            Err(Unusable::Started(Transport::LongPolling)) if wants == Transport::LongPolling => {
                self.poll(token, request).await
            }
            Err(Unusable::Started(Transport::WebSockets)) if wants == Transport::WebSockets => {
                self.resume(token, request).await
            }
            Err(unusable) => Err(unusable.into()),
        }
    }

    /// A WebSocket for a connection that had one: stateful reconnect.
    async fn resume(&self, token: ConnectionToken, mut request: Request) -> Result<Response, Refusal> {
        let connection = self.registry.resume(token, &identity(&request))?;
        let connection = connection.ok_or(Unusable::Started(Transport::WebSockets))?;
        match connection.resumable() {
            Resumable::Yes => {}
            Resumable::No => return Err(Unusable::Started(Transport::WebSockets).into()),
            Resumable::Ended => return Ok(plain(StatusCode::NO_CONTENT, "")),
        }
        if let Err(refused) = self.renew_by_get(token, &identity(&request)).await {
            return Ok(refused);
        }
        let upgrade = UpgradeRequest::take(&mut request).ok_or(Refusal::NoUpgrade)?;
        let opened = move |duplex, early| connection.resume(duplex, early);
        Ok(websocket::upgrade(upgrade, self.options.send_buffer, opened))
    }

    /// A WebSocket may come without an id: it is a new connection then.
    fn skip_negotiation(&self, request: Request) -> Result<Response, Refusal> {
        let wants = Transport::WebSockets;
        if !self.offers(wants, &request) {
            return Err(Refusal::NotOffered);
        }
        if self.closed.load(Relaxed) {
            return Err(Refusal::Draining);
        }
        let id = ConnectionId::random();
        let registration = self.registry.add(id, identity(&request), wants).ok_or(Unusable::Full)?;
        self.start(Started { id, registration, channel: None }, wants, request)
    }

    /// Starts a connection.
    fn start(&self, started: Started, transport: Transport, mut request: Request) -> Result<Response, Refusal> {
        let Started { id, registration, channel } = started;
        let terms = terms(&request).cloned();
        let query = match terms {
            // its tenant keeps what it wants of it
            Some(_) => Box::default(),
            None => Query::new(request.uri().query()).without_secrets(),
        };
        let address = address(&request);
        let facts = Facts { identity: self.limited(identity(&request)), transport, address, query, terms };
        let Some(channel) = channel else {
            let upgrade = UpgradeRequest::take(&mut request).ok_or(Refusal::NoUpgrade)?;
            let accept = self.accept.clone();
            let opened = move |duplex, early| {
                accept.accept(Opening { id, facts, duplex, early, registration: Some(registration) });
            };
            return Ok(websocket::upgrade(upgrade, self.options.send_buffer, opened));
        };
        // an event stream reads from its start, the first poll only opens
        let reading = (transport == Transport::ServerSentEvents).then(|| channel.enter(line(&request)));
        let (duplex, early) = (Duplex::Http(channel), Box::default());
        self.accept.accept(Opening { id, facts, duplex, early, registration: Some(registration) });
        match reading {
            None => Ok(long_polling::opened()),
            Some(Some(reading)) => Ok(sse::stream(reading)),
            Some(None) => Err(Refusal::Ended),
        }
    }

    async fn poll(&self, token: ConnectionToken, request: Request) -> Result<Response, Refusal> {
        let channel = self.registry.channel(token, &identity(&request))?.ok_or(Refusal::Ended)?;
        if let Err(refused) = self.renew_by_get(token, &identity(&request)).await {
            return Ok(refused);
        }
        match long_polling::poll(&channel, line(&request), self.options.poll_timeout).await {
            Polled::Answer(response) => Ok(response),
            Polled::Superseded => Ok(plain(StatusCode::NO_CONTENT, "")),
            Polled::Over => {
                self.registry.remove(&token);
                Ok(plain(StatusCode::NO_CONTENT, ""))
            }
        }
    }

    /// What the client of an HTTP transport sends.
    async fn post(&self, request: Request) -> Response {
        let found = token(&request).and_then(|token| {
            let token = token.ok_or(Refusal::NoId)?;
            Ok(self.registry.channel(token, &identity(&request))?)
        });
        match found {
            Err(refusal) => refusal.response(Transport::LongPolling),
            Ok(None) => {
                plain(StatusCode::METHOD_NOT_ALLOWED, "POST requests are not allowed for WebSocket connections.")
            }
            Ok(Some(channel)) => match post(&channel, request.into_body(), &self.options, &self.budget).await {
                Ok(()) => plain(StatusCode::OK, ""),
                Err(e) => plain(e.status(), &e.to_string()),
            },
        }
    }

    /// Ends a connection over long polling, which has no other goodbye.
    fn delete(&self, request: &Request) -> Response {
        let found = token(request).and_then(|token| {
            let token = token.ok_or(Refusal::NoId)?;
            match self.registry.transport(token, &identity(request))? {
                Some(Transport::LongPolling) => Ok(Some((token, self.registry.channel(token, &identity(request))?))),
                _ => Ok(None),
            }
        });
        match found {
            Err(refusal) => refusal.response(Transport::LongPolling),
            Ok(None) => plain(StatusCode::BAD_REQUEST, "Cannot terminate this connection using the DELETE endpoint."),
            Ok(Some((token, channel))) => {
                self.registry.remove(&token);
                let was_first = channel.is_some_and(|channel| channel.delete());
                plain(if was_first { StatusCode::ACCEPTED } else { StatusCode::NOT_FOUND }, "")
            }
        }
    }
}

/// The connection that a request is about: `None` if it names none.
fn token(request: &Request) -> Result<Option<ConnectionToken>, Refusal> {
    match Query::new(request.uri().query()).value("id").filter(|id| !id.is_empty()) {
        None => Ok(None),
        Some(text) => Ok(Some(ConnectionToken::parse(&text).ok_or(Unusable::Unknown)?)),
    }
}

fn line(request: &Request) -> Option<Line> {
    request.extensions().get::<Line>().cloned()
}

/// As the reference decides: an exact media type first, then an upgrade that is whole, then a poll.
pub(crate) fn wanted_transport(request: &Request) -> Transport {
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

/// Why a request is not served.
enum Refusal {
    NoId,
    Unusable(Unusable),
    NotOffered,
    NoUpgrade,
    /// The connection is about to go.
    Ended,
    /// The server is about to stop.
    Draining,
}

impl Refusal {
    /// The answer, to a request for a transport.
    fn response(self, wants: Transport) -> Response {
        match self {
            Self::NoId => plain(StatusCode::BAD_REQUEST, "Connection ID required"),
            Self::Unusable(Unusable::Unknown) => {
                let mut response = plain(StatusCode::NOT_FOUND, "No Connection with that ID");
                if wants == Transport::WebSockets {
                    response.headers_mut().remove(header::CONTENT_TYPE);
                }
                response
            }
            // up to .NET 10 the reference lets anybody in who has the token, and logs
            Self::Unusable(Unusable::Foreign) => {
                plain(StatusCode::FORBIDDEN, "The user associated with this connection changed.")
            }
            Self::NotOffered => {
                let text = format!("{} transport not supported by this end point type", wants.name());
                plain(StatusCode::NOT_FOUND, &text)
            }
            Self::Unusable(Unusable::Full) => plain(StatusCode::TOO_MANY_REQUESTS, "Connection count reaches limit"),
            Self::Unusable(Unusable::Started(transport)) if transport == wants => plain(StatusCode::CONFLICT, ""),
            Self::Unusable(Unusable::Started(_)) => {
                plain(StatusCode::BAD_REQUEST, "Cannot change transports mid-connection")
            }
            Self::NoUpgrade => plain(StatusCode::BAD_REQUEST, "The connection cannot be upgraded"),
            Self::Ended => plain(StatusCode::NOT_FOUND, ""),
            Self::Draining => plain(StatusCode::SERVICE_UNAVAILABLE, ""),
        }
    }
}

impl From<Unusable> for Refusal {
    fn from(unusable: Unusable) -> Self {
        Self::Unusable(unusable)
    }
}

pub(super) fn identity(request: &Request) -> Identity {
    request.extensions().get::<Identity>().cloned().unwrap_or_default()
}

fn terms(request: &Request) -> Option<&Arc<Terms>> {
    request.extensions().get::<Arc<Terms>>()
}

/// Where the TCP connection of a request comes from.
pub(crate) fn address(request: &Request) -> Option<IpAddr> {
    request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip())
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

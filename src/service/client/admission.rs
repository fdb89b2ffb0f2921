use super::bound::Limits;
use super::{ClientOptions, Clients, kept, terms};
use crate::auth::LONGEST_TOKEN;
use crate::connection::{ConnectionOptions, Endpoint};
use crate::lifetime::Lifetime;
use crate::observe::HubMetrics;
use crate::protocol::negotiate::{NegotiateError, NegotiateRequest};
use crate::service::{ClientResults, Entrance, NoHub, Servers, Service, hub_name};
use crate::transport::{
    ConnectionToken, Cors, Endpoints, Identity, Query, Registry, Terms, Transport, address, unauthorized,
    wanted_transport,
};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::Response;
use axum::routing::any;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio_util::task::TaskTracker;
use tracing::debug;

/// One hub, as its clients see it.
pub(crate) struct ClientFace {
    clients: Arc<Clients>,
    endpoint: Arc<Endpoint<Clients>>,
    endpoints: Arc<Endpoints>,
}

impl ClientFace {
    /// `instance` is the name of this process among those of the service.
    pub(crate) fn new(
        lifetime: Arc<Lifetime>,
        servers: Arc<Servers>,
        results: Arc<ClientResults>,
        instance: Arc<str>,
        metrics: Arc<HubMetrics>,
        options: &ClientOptions,
    ) -> Arc<Self> {
        let tasks = TaskTracker::new();
        let clients = Arc::new(Clients {
            lifetime,
            servers,
            results,
            instance,
            grace: options.server_grace,
            limits: Limits { relay: options.relay_limit, pause: options.pause_above },
            tasks: tasks.clone(),
            waiting: Default::default(),
        });
        // a client that is not read because of what its server sends could neither ping nor cancel that
        let connection = ConnectionOptions { reply_limit: usize::MAX, ..options.connection.clone() };
        let endpoint = Arc::new(Endpoint::new(clients.clone(), connection, metrics, tasks));
        let mut transport = options.transport.clone();
        transport.negotiate_timeout = options.negotiate_timeout;
        transport.max_connections = options.max_connections.unwrap_or(usize::MAX).min(transport.max_connections);
        let endpoints = Endpoints::new(transport, None, endpoint.clone());
        Arc::new(Self { clients, endpoint, endpoints })
    }

    /// A server connection has shaken hands: whoever waits for one has another look.
    pub(crate) fn server_came(&self) {
        self.clients.server_came();
    }

    /// Lets nobody in any more, closes the connections in paced batches, with permission to connect again, and says whether all had gone
    /// `within` that time.
    pub(crate) async fn drain(&self, within: Duration) -> bool {
        self.endpoints.close();
        self.endpoint.drain(within).await
    }

    /// Nobody is connected, or about to be.
    pub(crate) fn is_idle(&self) -> bool {
        self.registry().is_idle()
    }

    pub(super) fn clients(&self) -> &Clients {
        &self.clients
    }

    pub(super) fn registry(&self) -> &Arc<Registry> {
        self.endpoints.registry()
    }
}

/// The routes of clients, at the paths that the service's libraries expect.
pub(crate) fn client_routes<S: Clone + Send + Sync + 'static>(service: Service) -> Router<S> {
    let cors = Cors::of(service.0.options.clients.origins.clone());
    Router::new()
        .route("/client", any(connect))
        .route("/client/", any(connect))
        .route("/client/negotiate", any(negotiate))
        .route("/client/negotiate/", any(negotiate))
        .layer(cors)
        .with_state(service)
}

async fn negotiate(State(service): State<Service>, mut request: Request) -> Response {
    match admit(&service, &mut request) {
        Err(refused) => refused.response(),
        Ok(face) => {
            let asked = asked(Query::new(request.uri().query()));
            face.endpoints.negotiate(&request, asked)
        }
    }
}

async fn connect(State(service): State<Service>, mut request: Request) -> Response {
    match admit(&service, &mut request) {
        Err(refused) => refused.response(),
        Ok(face) => {
            *request.uri_mut() = own_uri(request.uri());
            face.endpoints.connect(request).await
        }
    }
}

/// What of a URI is for us. Of several ids the last is: an application's own query stands in front.
fn own_uri(uri: &Uri) -> Uri {
    let plain = || Uri::from_static("/client/");
    let Some(id) = last(Query::new(uri.query()), "id") else { return plain() };
    let id: String = form_urlencoded::byte_serialize(id.as_bytes()).collect();
    format!("/client/?id={id}").parse().unwrap_or_else(|_| plain())
}

/// Lets a request to the hub that its token is for, with what that grants in its extensions.
fn admit(service: &Service, request: &mut Request) -> Result<Arc<ClientFace>, Refused> {
    let options = &service.0.options;
    let query = Query::new(request.uri().query());
    let hub = hub_name(query).ok_or(Refused::Hub)?;
    let known = service.hub(&hub).map(|hub| hub.face().clone());
    let shown = shown(request).ok_or(Refused::Token)?;
    let connection = known.as_ref().and_then(|face| standing(face, query));
    // each poll shows the token that the connection began with: it counts as long as the connection lives
    let skew = if connection.is_some() { Duration::MAX } else { options.token_skew };
    let token = service.0.keys.verify(&shown, SystemTime::now(), skew).map_err(|e| {
        debug!(error = %e, "a client's token is refused");
        Refused::Token
    })?;
    if !Entrance::Client.is_opened_by(&token, &hub, &options.endpoints) {
        return Err(Refused::Token);
    }
    let claims: Vec<_> = token.claims().collect();
    let identity = terms::identity(claims.into_iter());
    if identity.size() > LARGEST_IDENTITY {
        debug!("a client's token is refused: its claims take too much");
        return Err(Refused::Token);
    }
    let options = &options.clients;
    let face = match known {
        Some(face) => face,
        None => service.open(&hub).map_err(Refused::NoSuchHub)?.face().clone(),
    };
    if let Some(owner) = connection {
        // by the credential in force, which may be a newer one than was shown
        let identity = if owner.is_same_user(&identity) { owner } else { identity };
        request.extensions_mut().insert(identity);
        return Ok(face);
    }
    if service.is_closed() {
        return Err(Refused::ShuttingDown);
    }
    // whoever comes at the same moment is refused by the registry
    if face.registry().is_full() {
        return Err(Refused::Full);
    }
    let granted = granted(&face, &identity, request, options);
    request.extensions_mut().insert(Arc::new(granted));
    request.extensions_mut().insert(identity);
    Ok(face)
}

/// Who a connection belongs to that has a transport already.
fn standing(face: &ClientFace, query: Query<'_>) -> Option<Identity> {
    let token = ConnectionToken::parse(&last(query, "id")?)?;
    let owner = face.registry().credential(token)?.identity;
    matches!(face.registry().transport(token, &owner), Ok(Some(_))).then_some(owner)
}

fn granted(face: &ClientFace, identity: &Identity, request: &Request, options: &ClientOptions) -> Terms {
    let query = request.uri().query().unwrap_or_default();
    let kept = kept::pack(query, request.headers(), address(request), options.trusts_forwarded);
    let resumes = face.clients.servers.links().iter().any(|link| link.facts().stateful_reconnect);
    let mut terms = terms::terms(identity, resumes, kept);
    if wanted_transport(request) == Transport::LongPolling {
        terms.disconnect_timeout.get_or_insert(options.poll_interval);
    }
    terms
}

/// The token of a request: of the header, or where browsers have to put it.
fn shown(request: &Request) -> Option<String> {
    if let Some(header) = request.headers().get(header::AUTHORIZATION) {
        let (scheme, token) = header.to_str().ok()?.split_once(' ')?;
        return scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned());
    }
    match wanted_transport(request) {
        Transport::LongPolling => None,
        Transport::WebSockets | Transport::ServerSentEvents => last(Query::new(request.uri().query()), "access_token"),
    }
}

/// The last value of a name.
fn last(query: Query<'_>, wanted: &str) -> Option<String> {
    let values = query.pairs().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
    values.last().map(|(_, value)| value.into_owned())
}

/// What a client wants to negotiate. An application's query, copied in front, may have asked for the same.
fn asked(query: Query<'_>) -> Result<NegotiateRequest, NegotiateError> {
    let values = |wanted: &'static str| {
        query.pairs().filter(move |(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.into_owned())
    };
    let mut version = None;
    for value in values("negotiateVersion") {
        let value: i32 = value.trim().parse().map_err(|_| NegotiateError::NotAnInteger)?;
        version = version.max(Some(value));
    }
    let resumes = values("useStatefulReconnect").any(|value| value.trim().eq_ignore_ascii_case("true"));
    NegotiateRequest::from_query(
        &format!("negotiateVersion={}&useStatefulReconnect={resumes}", version.unwrap_or(0)),
        0,
    )
}

/// Why a request is not let in.
#[derive(Debug)]
enum Refused {
    Hub,
    Token,
    Full,
    NoSuchHub(NoHub),
    ShuttingDown,
}

impl Refused {
    fn response(self) -> Response {
        match self {
            Self::Token => unauthorized(),
            Self::Hub => plain(StatusCode::BAD_REQUEST, "The query parameter hub is missing or not a hub's name."),
            Self::NoSuchHub(NoHub::TooMany) => plain(StatusCode::SERVICE_UNAVAILABLE, "There are too many hubs"),
            Self::NoSuchHub(NoHub::NotServed) => plain(StatusCode::NOT_FOUND, "There is no such hub"),
            Self::ShuttingDown => plain(StatusCode::SERVICE_UNAVAILABLE, ""),
            Self::Full => plain(StatusCode::TOO_MANY_REQUESTS, "Connection count reaches limit"),
        }
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain"));
    response
}

impl fmt::Debug for ClientFace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientFace").field("clients", &self.clients).finish_non_exhaustive()
    }
}

/// Bytes of what is kept of a token's claims: four times the longest token. A list repeats its name with each value.
pub(crate) const LARGEST_IDENTITY: usize = 4 * LONGEST_TOKEN;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_versions_the_larger_counts() {
        let version = |query: &str| asked(Query::new(Some(query))).map(|asked| asked.version);
        assert_eq!(version("negotiateVersion=0&x=1&negotiateVersion=1"), Ok(1));
        assert_eq!(version("hub=a"), Ok(0));
        assert!(version("negotiateVersion=x").is_err());
    }
}

use super::{ClientOptions, Clients, kept, terms};
use crate::auth::AccessKeys;
use crate::connection::Endpoint;
use crate::lifetime::Lifetime;
use crate::observe::HubMetrics;
use crate::protocol::negotiate::{NegotiateError, NegotiateRequest};
use crate::service::Servers;
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

/// The hubs of a service, as clients find them.
pub(crate) trait ClientFaces: Send + Sync + 'static {
    /// What tokens are signed with.
    fn keys(&self) -> &AccessKeys;
    fn client_options(&self) -> &ClientOptions;
    /// A hub that is known, by its name in lower case.
    fn face(&self, hub: &str) -> Option<Arc<ClientFace>>;
    /// Makes one known: somebody has a token for it. `None`: there are too many.
    fn open(&self, hub: &str) -> Option<Arc<ClientFace>>;
}

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
        instance: Arc<str>,
        metrics: Arc<HubMetrics>,
        options: &ClientOptions,
    ) -> Arc<Self> {
        let tasks = TaskTracker::new();
        let clients = Arc::new(Clients {
            lifetime,
            servers,
            instance,
            grace: options.server_grace,
            tasks: tasks.clone(),
            waiting: Default::default(),
        });
        let endpoint = Arc::new(Endpoint::new(clients.clone(), options.connection.clone(), metrics, tasks));
        let endpoints = Endpoints::new(options.transport.clone(), None, endpoint.clone());
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

    pub(super) fn clients(&self) -> &Clients {
        &self.clients
    }

    pub(super) fn registry(&self) -> &Arc<Registry> {
        self.endpoints.registry()
    }
}

/// The routes of clients, at the paths that the service's libraries expect.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>(faces: Arc<dyn ClientFaces>) -> Router<S> {
    let cors = Cors::of(faces.client_options().origins.clone());
    Router::new()
        .route("/client", any(connect))
        .route("/client/", any(connect))
        .route("/client/negotiate", any(negotiate))
        .route("/client/negotiate/", any(negotiate))
        .layer(cors)
        .with_state(faces)
}

type Served = State<Arc<dyn ClientFaces>>;

async fn negotiate(State(faces): Served, mut request: Request) -> Response {
    match admit(&*faces, &mut request) {
        Err(refused) => refused.response(),
        Ok(face) => {
            let asked = asked(Query::new(request.uri().query()));
            face.endpoints.negotiate(&request, asked)
        }
    }
}

async fn connect(State(faces): Served, mut request: Request) -> Response {
    match admit(&*faces, &mut request) {
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
fn admit(faces: &dyn ClientFaces, request: &mut Request) -> Result<Arc<ClientFace>, Refused> {
    let options = faces.client_options();
    let query = Query::new(request.uri().query());
    let hub = hub_name(query).ok_or(Refused::Hub)?;
    let known = faces.face(&hub);
    let shown = shown(request).ok_or(Refused::Token)?;
    let connection = known.as_ref().and_then(|face| standing(face, query));
    // each poll shows the token that the connection began with: it counts as long as the connection lives
    let skew = if connection.is_some() { Duration::MAX } else { options.skew };
    let token = faces.keys().verify(&shown, SystemTime::now(), skew).map_err(|e| {
        debug!(error = %e, "a client's token is refused");
        Refused::Token
    })?;
    if !token.audiences().any(|audience| is_for(audience, &hub, &options.audiences)) {
        return Err(Refused::Token);
    }
    let claims: Vec<_> = token.claims().collect();
    let identity = terms::identity(claims.into_iter());
    let face = known.or_else(|| faces.open(&hub)).ok_or(Refused::TooManyHubs)?;
    if let Some(owner) = connection {
        // by the credential in force, which may be a newer one than was shown
        let identity = if owner.is_same_user(&identity) { owner } else { identity };
        request.extensions_mut().insert(identity);
        return Ok(face);
    }
    if options.max_connections.is_some_and(|most| face.clients.lifetime.connection_count() >= most) {
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

/// The hub's name, of which the first counts, in lower case.
fn hub_name(query: Query<'_>) -> Option<String> {
    let (_, name) = query.pairs().find(|(name, _)| name.eq_ignore_ascii_case("hub"))?;
    let mut characters = name.chars();
    let is_name = characters.next().is_some_and(|first| first.is_ascii_alphabetic())
        && characters.all(|c| c.is_ascii_alphanumeric() || "_`,.[]".contains(c))
        && name.len() <= LONGEST_HUB_NAME;
    is_name.then(|| name.to_ascii_lowercase())
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

/// A token for one hub opens no other, and a server's no client connection. Ports never count, nor does the host where none is demanded.
fn is_for(audience: &str, hub: &str, demanded: &[String]) -> bool {
    let Some((scheme, rest)) = audience.split_once("://") else { return false };
    let Some((host, path)) = rest.split_once('/') else { return false };
    let Some(query) = path.strip_prefix("client/?") else { return false };
    let base = format!("{scheme}://{host}");
    hub_name(Query::new(Some(query))).is_some_and(|name| name == hub)
        && (demanded.is_empty() || demanded.iter().any(|one| one.trim_end_matches('/').eq_ignore_ascii_case(&base)))
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
    TooManyHubs,
}

impl Refused {
    fn response(self) -> Response {
        match self {
            Self::Token => unauthorized(),
            Self::Hub => plain(StatusCode::BAD_REQUEST, "The query parameter hub is missing or not a hub's name."),
            Self::TooManyHubs => plain(StatusCode::SERVICE_UNAVAILABLE, "There are too many hubs"),
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

const LONGEST_HUB_NAME: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audience_is_of_one_hub_and_of_clients() {
        let is_for = |audience| super::is_for(audience, "app_chat", &[]);
        assert!(is_for("http://localhost/client/?hub=app_chat") && is_for("https://any.example/client/?hub=App_Chat"));
        for other in [
            "http://localhost/server/?hub=app_chat",
            "http://localhost/client/?hub=app_chat2",
            "http://localhost/client?hub=app_chat",
            "http://localhost/client/?x=1",
            "http://localhost/x/client/?hub=app_chat",
            "app_chat",
            "",
        ] {
            assert!(!is_for(other), "{other}");
        }
        let demanded = ["https://chat.example/".to_owned()];
        assert!(super::is_for("https://chat.example/client/?hub=a", "a", &demanded));
        assert!(!super::is_for("http://chat.example/client/?hub=a", "a", &demanded));
        assert!(super::is_for("http://x/client/?hub=chathub`1", "chathub`1", &[]));
        assert!(super::is_for("http://x/client/?hub=chathub%601", "chathub`1", &[]));
    }

    #[test]
    fn the_first_hub_counts_if_it_is_a_name() {
        let name = |query| hub_name(Query::new(Some(query)));
        assert_eq!(name("hub=Chat&hub=other").as_deref(), Some("chat"));
        assert_eq!(name("a=b&Hub=app_chat`1").as_deref(), Some("app_chat`1"));
        for bad in ["", "hub=", "hub=1a", "hub=a%20b", "hub=%C3%A4", "x=1"] {
            assert_eq!(name(bad), None, "{bad}");
        }
        assert_eq!(name(&format!("hub={}", "a".repeat(128))).map(|n| n.len()), Some(128));
        assert_eq!(name(&format!("hub={}", "a".repeat(129))), None);
    }

    #[test]
    fn of_two_versions_the_larger_counts() {
        let version = |query| asked(Query::new(Some(query))).map(|asked| asked.version);
        assert_eq!(version("negotiateVersion=0&x=1&negotiateVersion=1"), Ok(1));
        assert_eq!(version("hub=a"), Ok(0));
        assert!(version("negotiateVersion=x").is_err());
    }
}

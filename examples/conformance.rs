//! The conformance hub: what the client suites of `tests/interop` and the load generator run against, method by method as a reference
//! server has it.
//!
//! ```text
//! cargo run --release --example conformance -- --urls http://127.0.0.1:5200
//! ```
//! `--detailed true`: detailed errors. `--parallel N`: invocations at a time a connection, default 2. `--workers N`: threads, default 2.
//! Of `/conformance-auth`, `--secret TEXT`: what tokens are signed with. `--refresh true`: credentials can be renewed. `--close-expired true`:
//! connections end with their credential. `--origin ORIGIN`: pages of no other may open a WebSocket. `--log FILTER` in place of `RUST_LOG`.

use axum::Router;
use axum::extract::{FromRef, Query, State};
use axum::routing::{get, post};
use futures_util::{Stream, StreamExt, TryStreamExt, future, stream};
use hubwire::{
    AuthenticationRefresh, Binary, Caller, Cancellation, ClientMethod, Clients, CloseReason, Cors, Groups, Hub,
    HubBuilder, HubError, HubOptions, HubResult, Items, JwtBearer, Origins, Policy, UploadStream, Value,
};
use serde::de::{MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const WELCOME: ClientMethod<(String,)> = ClientMethod::new("welcome");
const MESSAGE: ClientMethod<(String, Value)> = ClientMethod::new("message");
const ANSWER: ClientMethod<(String,), Option<String>> = ClientMethod::new("answer");
const BROADCAST: ClientMethod<(Value,)> = ClientMethod::new("broadcast");
const GROUP: ClientMethod<(Value,)> = ClientMethod::new("group");

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let flags = Flags::parse(std::env::args().skip(1))?;
    let filter = match &flags.log {
        Some(filter) => EnvFilter::new(filter),
        None => EnvFilter::from_default_env(),
    };
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(flags.workers).enable_all().build()?;
    runtime.block_on(run(flags))
}

async fn run(flags: Flags) -> Result<(), Box<dyn std::error::Error>> {
    let app = App::default();
    let options = HubOptions::default()
        .with_max_parallel_invocations(flags.parallel)
        .with_detailed_errors(flags.detailed)
        .with_stateful_reconnect(true);
    let mut small = options.clone();
    small.connection.maximum_receive_message_size = Some(4 * 1024);
    small.connection.handshake_timeout = Duration::from_secs(2);
    small.connection.keep_alive_interval = Duration::from_secs(1);
    small.connection.client_timeout = Duration::from_secs(3);
    let mut guarded = options.clone();
    if let Some(origin) = flags.origin {
        guarded.transport.allowed_origins = Origins::List(vec![origin]);
    }
    guarded.connection.close_on_authentication_expiration = flags.close_expired;
    guarded.transport.authentication_refresh = flags.refresh.then(|| {
        AuthenticationRefresh::default().with_check(|request| async move { !request.renewed.has_role("refused") })
    });
    small.transport.post_timeout = Duration::from_secs(2);
    let hubs = [
        ("/conformance", conformance(app.clone()).options(options.clone()).build()),
        ("/conformance-auth", guarded_conformance(app.clone()).options(guarded).build()),
        ("/conformance-small", conformance(app.clone()).options(small).build()),
        ("/load", load().options(options).build()),
    ];

    let stop = Arc::new(Notify::new());
    let stopping = stop.clone();
    let mut router = Router::new()
        .route("/stop", post(move || async move { stopping.notify_one() }))
        .route("/websocket-echo", hubwire::testing::websocket_echo());
    for (path, hub) in &hubs {
        router = router.merge(hub.routes(path));
    }
    let bearer = JwtBearer::builder().secret(&flags.secret).build()?;
    let secret = flags.secret;
    let router = router
        .route("/token", get(move |Query(query): Query<TokenQuery>| async move { token(&secret, &query) }))
        .layer(bearer)
        .layer(Cors::any_origin());

    let listener = TcpListener::bind(&flags.address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let drained = async move {
        stop.notified().await;
        for (_, hub) in hubs {
            hub.drain(Duration::from_secs(5)).await;
        }
    };
    Ok(hubwire::serve(listener, router).with_graceful_shutdown(drained).await?)
}

fn conformance(app: App) -> HubBuilder<App> {
    let hub = Hub::with_state(app).on_connected(connected).on_disconnected(disconnected);
    streams(sends(calls(hub)))
}

/// With two things that the reference's lacks: a method for one role, and word of a refresh.
fn guarded_conformance(app: App) -> HubBuilder<App> {
    conformance(app)
        .authorize(Policy::authenticated())
        .method("AdminOnly", |caller: Caller| async move { Ok(caller.user_id().map(str::to_owned)) })
        .authorize_method("AdminOnly", Policy::role("admin"))
        .on_authentication_refreshed(|caller: Caller, clients: Clients| async move {
            clients.caller().send("refreshed", (caller.identity().has_role("admin"),)).await
        })
}

/// The four methods of the load generator.
fn load() -> HubBuilder<()> {
    Hub::with_state(())
        .method("Echo", echo)
        .method("Broadcast", |clients: Clients, x: Value| async move { clients.all().send(BROADCAST, (x,)).await })
        .method("JoinGroup", join)
        .method("SendGroup", |clients: Clients, group: String, x: Value| async move {
            clients.group(group).send(GROUP, (x,)).await
        })
}

#[derive(Clone, Default, FromRef)]
struct App {
    departures: Departures,
}

/// Who has left, and the error that ended it.
#[derive(Clone, Default)]
struct Departures(Arc<Mutex<HashMap<String, Option<String>>>>);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Departure {
    connection_id: String,
    error: Option<String>,
}

async fn connected(caller: Caller, clients: Clients) -> HubResult {
    clients.caller().send(WELCOME, (caller.id(),)).await
}

async fn disconnected(caller: Caller, reason: CloseReason, State(departures): State<Departures>) -> HubResult {
    let error = match reason {
        CloseReason::InvalidMessage(text)
        | CloseReason::MisplacedMessage(text)
        | CloseReason::ClientClosed(Some(text)) => Some(text.into_string()),
        CloseReason::ClientTimeout | CloseReason::SlowReceiver => Some(reason.to_string()),
        _ => None,
    };
    departures.0.lock().unwrap().insert(caller.id().to_owned(), error);
    Ok(())
}

async fn departed(State(departures): State<Departures>, id: String) -> HubResult<Option<Departure>> {
    let error = departures.0.lock().unwrap().get(&id).cloned();
    Ok(error.map(|error| Departure { connection_id: id, error }))
}

fn calls(hub: HubBuilder<App>) -> HubBuilder<App> {
    hub.method("Echo", echo)
        .method("Add", |a: i32, b: i32| async move { Ok(a.wrapping_add(b)) })
        .method("Nothing", || async { Ok(()) })
        .method("Null", || async { Ok(None::<Value>) })
        .method("Throw", |message: String| async move { Err::<(), _>(HubError::client(message)) })
        .method("Crash", crash)
        .method("Slow", slow)
        .method("Cancellations", |caller: Caller| async move { Ok(caller.cancelled_calls()) })
        .method("Large", large)
        .method("Types", |Object(types): Object<Types>| async move { Ok(types) })
        .method("WhoAmI", who_am_i)
        .method("SetItem", set_item)
        .method("GetItem", get_item)
        .method("Abort", |caller: Caller| async move {
            caller.abort();
            Ok(())
        })
        .method("Order", order)
        .method("Departed", departed)
        .method("Ask", ask)
        .method("AskTimeout", ask_timeout)
}

async fn echo(x: Value) -> HubResult<Value> {
    Ok(x)
}

async fn crash() -> HubResult {
    Err(InvalidOperationException)?
}

/// Named as the reference's, so that detailed errors read the same.
#[derive(Debug)]
struct InvalidOperationException;

impl std::error::Error for InvalidOperationException {}

impl fmt::Display for InvalidOperationException {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("secret detail")
    }
}

async fn slow(cancellation: Cancellation, ms: i32) -> HubResult<&'static str> {
    tokio::select! {
        () = pause(ms) => Ok("done"),
        () = cancellation.cancelled() => Err(HubError::client("the call was cancelled")),
    }
}

async fn large(n: i32) -> HubResult<String> {
    let n = usize::try_from(n)?;
    if n > 64 * 1024 * 1024 { Err(HubError::client("that is too large")) } else { Ok("x".repeat(n)) }
}

/// Every kind of value, typed.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Types {
    text: Option<String>,
    int: i32,
    long: i64,
    float: f64,
    bool: bool,
    bytes: Option<Binary>,
    list: Option<Vec<i32>>,
    map: Option<BTreeMap<String, String>>,
    nothing: Option<Value>,
}

/// A struct that comes as an object only: serde also reads one from an array of its fields.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(Members(PhantomData))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Who {
    connection_id: String,
    user_id: Option<String>,
    claims: BTreeMap<String, String>,
    transport: &'static str,
    protocol: &'static str,
    query: BTreeMap<String, String>,
}

async fn who_am_i(caller: Caller) -> HubResult<Who> {
    Ok(Who {
        connection_id: caller.id().to_owned(),
        user_id: caller.user_id().map(Into::into),
        claims: caller.identity().claims().map(|(kind, value)| (long_name(kind).into(), value.into())).collect(),
        transport: caller.transport().name(),
        protocol: caller.protocol().name(),
        query: caller.query().map(|(name, value)| (name.into(), value.into())).collect(),
    })
}

/// As .NET names the claims of a token.
fn long_name(kind: &str) -> &str {
    match kind {
        "sub" => "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier",
        "role" => "http://schemas.microsoft.com/ws/2008/06/identity/claims/role",
        other => other,
    }
}

#[derive(Default)]
struct Stored(Mutex<HashMap<String, Value>>);

async fn set_item(items: Items, key: String, x: Value) -> HubResult {
    items.get_or_default::<Stored>().0.lock().unwrap().insert(key, x);
    Ok(())
}

async fn get_item(items: Items, key: String) -> HubResult<Option<Value>> {
    Ok(items.get_or_default::<Stored>().0.lock().unwrap().get(&key).cloned())
}

#[derive(Default)]
struct Ordered(Mutex<Vec<i32>>);

async fn order(items: Items, n: i32) -> HubResult<Vec<i32>> {
    let ordered = items.get_or_default::<Ordered>();
    let mut list = ordered.0.lock().unwrap();
    list.push(n);
    Ok(list.clone())
}

async fn ask(clients: Clients, id: String, question: String) -> HubResult<Option<String>> {
    clients.client(id).invoke(ANSWER, (&question,)).await
}

async fn ask_timeout(clients: Clients, id: String, ms: i32) -> HubResult<Option<String>> {
    let limit = Duration::from_millis(u64::try_from(ms)?);
    clients.client(id).invoke(ANSWER, ("timeout?",)).timeout(limit).await
}

fn sends(hub: HubBuilder<App>) -> HubBuilder<App> {
    type C = Caller;
    type T = Clients;
    type Ids = Vec<String>;
    hub.method("ToAll", |c: C, to: T, x: Value| async move { to.all().send(MESSAGE, (c.id(), x)).await })
        .method("ToOthers", |c: C, to: T, x: Value| async move { to.others().send(MESSAGE, (c.id(), x)).await })
        .method("ToCaller", |c: C, to: T, x: Value| async move { to.caller().send(MESSAGE, (c.id(), x)).await })
        .method("ToAllExcept", |c: C, to: T, ids: Ids, x: Value| async move {
            to.all_except(ids).send(MESSAGE, (c.id(), x)).await
        })
        .method("ToConnection", |c: C, to: T, id: String, x: Value| async move {
            to.client(id).send(MESSAGE, (c.id(), x)).await
        })
        .method("ToConnections", |c: C, to: T, ids: Ids, x: Value| async move {
            to.clients(ids).send(MESSAGE, (c.id(), x)).await
        })
        .method("ToGroup", |c: C, to: T, group: String, x: Value| async move {
            to.group(group).send(MESSAGE, (c.id(), x)).await
        })
        .method("ToGroups", |c: C, to: T, groups: Ids, x: Value| async move {
            to.groups(groups).send(MESSAGE, (c.id(), x)).await
        })
        .method("ToGroupExcept", |c: C, to: T, group: String, ids: Ids, x: Value| async move {
            to.group_except(group, ids).send(MESSAGE, (c.id(), x)).await
        })
        .method("ToOthersInGroup", |c: C, to: T, group: String, x: Value| async move {
            to.others_in_group(group).send(MESSAGE, (c.id(), x)).await
        })
        .method("ToUser", |c: C, to: T, user: String, x: Value| async move {
            to.user(user).send(MESSAGE, (c.id(), x)).await
        })
        .method("ToUsers", |c: C, to: T, users: Ids, x: Value| async move {
            to.users(users).send(MESSAGE, (c.id(), x)).await
        })
        .method("Join", join)
        .method("Leave", |c: C, groups: Groups, group: String| async move { groups.remove(c.id(), group).await })
}

async fn join(caller: Caller, groups: Groups, group: String) -> HubResult {
    groups.add(caller.id(), group).await
}

fn streams(hub: HubBuilder<App>) -> HubBuilder<App> {
    hub.stream("Counter", counter)
        .stream("CounterThrow", counter_throw)
        .stream("Forever", || async { Ok(ticks(5).enumerate().map(|(n, ())| Ok(n))) })
        .method("Sum", sum)
        .method("Join2", join2)
        .stream("EchoStream", |items: UploadStream<Value>| async move { Ok(items) })
        .method("UploadError", upload_error)
}

async fn counter(count: i32, delay_ms: i32) -> HubResult<impl Stream<Item = HubResult<i32>>> {
    Ok(stream::iter(0..count).then(move |n| async move {
        pause(delay_ms).await;
        Ok(n)
    }))
}

async fn counter_throw(count: i32) -> HubResult<impl Stream<Item = HubResult<i32>>> {
    Ok(stream::iter((0..count).map(Ok)).chain(stream::once(async { Err(HubError::client("counter failed")) })))
}

async fn sum(mut numbers: UploadStream<i32>) -> HubResult<i32> {
    let mut sum = 0_i32;
    while let Some(number) = numbers.try_next().await? {
        sum = sum.wrapping_add(number);
    }
    Ok(sum)
}

async fn join2(a: UploadStream<String>, b: UploadStream<String>) -> HubResult<String> {
    let (a, b): (Vec<_>, Vec<_>) = future::try_join(a.try_collect(), b.try_collect()).await?;
    Ok(format!("{}|{}", a.join("+"), b.join("+")))
}

async fn upload_error(mut numbers: UploadStream<i32>) -> HubResult<String> {
    loop {
        match numbers.next().await {
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                return Ok(error.client_text().unwrap_or("an error that is not for clients").to_owned());
            }
            None => return Ok("none".to_owned()),
        }
    }
}

fn ticks(ms: i32) -> impl Stream<Item = ()> {
    stream::repeat(()).then(move |()| pause(ms))
}

/// Not at all for no time at all.
async fn pause(ms: i32) {
    if ms > 0 {
        tokio::time::sleep(Duration::from_millis(ms.unsigned_abs().into())).await;
    }
}

/// What the token endpoint makes a token of.
#[derive(Deserialize)]
struct TokenQuery {
    user: String,
    role: Option<String>,
    /// How long it is good for. Ours only, as the flag `--secret`: for the tests.
    seconds: Option<i64>,
}

fn token(secret: &str, query: &TokenQuery) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
    let mut claims = serde_json::json!({ "sub": query.user, "exp": now + query.seconds.unwrap_or(3600) });
    if let Some(role) = &query.role {
        claims["role"] = role.as_str().into();
    }
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("a secret signs anything")
}

struct Flags {
    address: String,
    detailed: bool,
    parallel: usize,
    workers: usize,
    secret: String,
    refresh: bool,
    close_expired: bool,
    origin: Option<String>,
    log: Option<String>,
}

impl Flags {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, Box<dyn std::error::Error>> {
        let mut flags = Self {
            address: "127.0.0.1:5200".into(),
            detailed: false,
            parallel: 2,
            workers: 2,
            secret: "conformance: everybody knows this secret".into(),
            refresh: false,
            close_expired: false,
            origin: None,
            log: None,
        };
        while let Some(flag) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{flag} needs a value"))?;
            match &*flag {
                "--urls" => {
                    flags.address =
                        value.strip_prefix("http://").ok_or("an http:// URL is expected")?.trim_end_matches('/').into()
                }
                "--detailed" => flags.detailed = value.parse()?,
                "--parallel" => flags.parallel = value.parse()?,
                "--workers" => flags.workers = value.parse()?,
                "--secret" => flags.secret = value,
                "--refresh" => flags.refresh = value.parse()?,
                "--origin" => flags.origin = Some(value),
                "--log" => flags.log = Some(value),
                "--close-expired" => flags.close_expired = value.parse()?,
                _ => return Err(format!("{flag} is not known").into()),
            }
        }
        Ok(flags)
    }
}

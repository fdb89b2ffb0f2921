//! suite URL [--transports WebSockets] [--without TEXT,TEXT] [--only TEXT]
//!
//! The cases of the conformance hub that `signalr-client` can do: WebSockets, JSON and MessagePack.

use std::env;
use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use futures::StreamExt;
use serde_json::{Value, json};
use signalr_client::{CallbackHandler, InvocationContext, SignalRClient};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{sleep, timeout};

/// What a case ends with when it does not pass.
enum Outcome {
    Failed(String),
    /// The client cannot do it, whatever the server.
    Cannot(&'static str),
}

type Case = fn(Lane) -> Pin<Box<dyn Future<Output = Result<(), Outcome>>>>;

#[derive(Clone)]
struct Lane {
    host: String,
    port: i32,
    binary: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (host, port) = address(&arguments[0]);
    let without = option(&arguments, "--without");
    let only = option(&arguments, "--only");
    let (mut passed, mut failed) = (0, 0);
    let over_web_sockets = arguments.iter().all(|argument| argument != "--transports")
        || option(&arguments, "--transports").split(',').any(|transport| transport == "WebSockets");
    for binary in [false, true].into_iter().filter(|_| over_web_sockets) {
        for (name, case) in CASES {
            let label = format!("WebSockets/{} {name}", if binary { "messagepack" } else { "json" });
            if !label.contains(&only) {
                continue;
            }
            if without.split(',').any(|text| !text.is_empty() && label.contains(text)) {
                println!("left out {label}");
                continue;
            }
            let lane = Lane { host: host.clone(), port, binary };
            match timeout(Duration::from_secs(30), case(lane)).await {
                Ok(Ok(())) => {
                    passed += 1;
                    println!("ok   {label}");
                }
                Ok(Err(Outcome::Cannot(reason))) => println!("cannot {label}: {reason}"),
                Ok(Err(Outcome::Failed(problem))) => {
                    failed += 1;
                    println!("FAIL {label}: {problem}");
                }
                Err(_) => {
                    failed += 1;
                    println!("FAIL {label}: not done after 30 s");
                }
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn option(arguments: &[String], name: &str) -> String {
    let at = arguments.iter().position(|argument| argument == name);
    at.and_then(|at| arguments.get(at + 1)).cloned().unwrap_or_default()
}

fn address(url: &str) -> (String, i32) {
    let authority = url.trim_start_matches("http://").trim_end_matches('/');
    let (host, port) = authority.split_once(':').expect("the URL names a port");
    (host.to_owned(), port.parse().expect("a port is a number"))
}

// ---------------------------------------------------------------------------------------------- peers

struct Peer {
    client: SignalRClient,
    id: String,
    binary: bool,
    messages: UnboundedReceiver<(String, Value)>,
    unregister: Vec<Box<dyn FnOnce()>>,
}

impl Peer {
    async fn open(lane: &Lane) -> Result<Self, Outcome> {
        Self::open_at(lane, "conformance", None).await
    }

    async fn open_at(lane: &Lane, hub: &str, token: Option<String>) -> Result<Self, Outcome> {
        let connected = SignalRClient::connect_with(&lane.host, hub, |configuration| {
            configuration.with_port(lane.port);
            configuration.unsecure();
            if lane.binary {
                configuration.with_messagepack_protocol();
            }
            if let Some(token) = &token {
                configuration.authenticate_bearer(token.clone());
            }
        });
        let client = connected.await.map_err(|error| Outcome::Failed(format!("connect: {error}")))?;
        let (sender, messages) = unbounded_channel();
        let mut peer = Self { client, id: String::new(), binary: lane.binary, messages, unregister: Vec::new() };
        peer.on("message", move |context| {
            let from = context.argument(0).unwrap_or_default();
            let _ = sender.send((from, context.argument(1).unwrap_or(Value::Null)));
        });
        // A handler can be registered only once the connection is up, too late for the welcome.
        let me = peer.invoke("WhoAmI", vec![]).await?;
        peer.id = me["connectionId"].as_str().unwrap_or_default().to_owned();
        Ok(peer)
    }

    fn on(&mut self, target: &str, handler: impl Fn(InvocationContext) + Send + 'static) {
        let registration = self.client.register(target.to_owned(), handler);
        self.unregister.push(Box::new(move || registration.unregister()));
    }

    /// Every registered handler holds the client, which disconnects only when nobody else does.
    fn close(mut self) {
        for unregister in self.unregister.drain(..) {
            unregister();
        }
    }

    async fn attempt(&self, method: &str, arguments: Vec<Value>) -> Result<Value, String> {
        let mut client = self.client.clone();
        let call = client.invoke_with_args::<Value, _>(method.to_owned(), |call| {
            for argument in &arguments {
                call.argument(argument);
            }
        });
        timeout(PATIENCE, call).await.map_err(|_| format!("{method}: no answer"))?
    }

    async fn invoke(&self, method: &str, arguments: Vec<Value>) -> Result<Value, Outcome> {
        let described = format!("{method}{arguments:?}");
        self.attempt(method, arguments).await.map_err(|error| Outcome::Failed(format!("{described}: {error}")))
    }

    /// Calls a method without a result. In JSON a null result ends this client's reader for good, so the call goes one way
    /// there and one with a result behind it shows that it is done.
    async fn call(&self, method: &str, arguments: Vec<Value>) -> Result<(), Outcome> {
        if self.binary {
            return equal(self.invoke(method, arguments).await?, Value::Null, method);
        }
        self.send(method, arguments).await?;
        equal(self.invoke("Add", vec![json!(1), json!(1)]).await?, json!(2), "Add")
    }

    async fn send(&self, method: &str, arguments: Vec<Value>) -> Result<(), Outcome> {
        let mut client = self.client.clone();
        let sent = client.send_with_args(method.to_owned(), |call| {
            for argument in &arguments {
                call.argument(argument);
            }
        });
        sent.await.map_err(|error| Outcome::Failed(format!("{method}: {error}")))
    }

    async fn fails(&self, text: &str, method: &str, arguments: Vec<Value>) -> Result<(), Outcome> {
        match self.attempt(method, arguments).await {
            Ok(value) => Err(Outcome::Failed(format!("{method} gave {value} instead of an error"))),
            Err(error) => equal(error, text, method),
        }
    }

    async fn stream(&self, method: &str, arguments: Vec<Value>) -> Result<Vec<Value>, Outcome> {
        let mut client = self.client.clone();
        let items = client.enumerate_with_args::<Value, _>(method.to_owned(), |call| {
            for argument in &arguments {
                call.argument(argument);
            }
        });
        let items = items.await.collect();
        timeout(PATIENCE, items).await.map_err(|_| Outcome::Failed(format!("{method}: the stream does not end")))
    }

    /// The next message from that connection; broadcasts of others pass by.
    async fn message_from(&mut self, id: &str) -> Result<Value, Outcome> {
        loop {
            let message = timeout(PATIENCE, self.messages.recv()).await;
            match message {
                Ok(Some((from, x))) if from == id => return Ok(x),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return Err(Outcome::Failed("no message came".to_owned())),
            }
        }
    }
}

fn equal<A, B>(actual: A, expected: B, what: &str) -> Result<(), Outcome>
where
    A: PartialEq<B> + std::fmt::Debug,
    B: std::fmt::Debug,
{
    if actual == expected {
        return Ok(());
    }
    Err(Outcome::Failed(format!("{what}: got {actual:.300?}, wanted {expected:.300?}")))
}

/// The record of a departure. It is null before, so a peer that speaks MessagePack asks.
async fn departed(lane: &Lane, id: &str) -> Result<Value, Outcome> {
    let watcher = Peer::open(&Lane { binary: true, ..lane.clone() }).await?;
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        let record = watcher.invoke("Departed", vec![json!(id)]).await?;
        if !record.is_null() {
            return Ok(record);
        }
        sleep(Duration::from_millis(20)).await;
    }
    Err(Outcome::Failed("no record of the departure".to_owned()))
}

/// Has the peer `from` call the send and asserts, by a fence behind it, how many copies each peer got.
async fn delivered(
    crowd: &mut [Peer],
    from: usize,
    copies: &[usize],
    method: &str,
    mut arguments: Vec<Value>,
) -> Result<(), Outcome> {
    let sender = crowd[from].id.clone();
    let tag = format!("{method} of {sender} {:?}", Instant::now());
    let fence = format!("fence {tag}");
    arguments.push(json!(tag));
    crowd[from].call(method, arguments).await?;
    for number in 0..crowd.len() {
        crowd[from].call("ToConnection", vec![json!(crowd[number].id), json!(fence)]).await?;
        let mut count = 0;
        loop {
            let x = crowd[number].message_from(&sender).await?;
            if x == json!(fence) {
                break;
            }
            count += usize::from(x == json!(tag));
        }
        equal(count, copies[number], &format!("copies of {method} for peer {number}"))?;
    }
    Ok(())
}

fn unexpected(method: &str, detail: &str) -> String {
    let detail = if detail.is_empty() { String::new() } else { format!(" HubException: {detail}") };
    format!("An unexpected error occurred invoking '{method}' on the server.{detail}")
}

// ---------------------------------------------------------------------------------------------- cases

const CASES: &[(&str, Case)] = &[
    ("who am I", |lane| Box::pin(who_am_i(lane))),
    ("welcome names the connection", |_| {
        Box::pin(async {
            Err(Outcome::Cannot("a handler can be registered only after the start, and the welcome came before"))
        })
    }),
    ("echo values", |lane| Box::pin(echo_values(lane))),
    ("error texts", |lane| Box::pin(error_texts(lane))),
    ("typed object", |lane| Box::pin(typed_object(lane))),
    ("order of calls", |lane| Box::pin(order_of_calls(lane))),
    ("items belong to the connection", |lane| Box::pin(items(lane))),
    ("sends", |lane| Box::pin(sends(lane))),
    ("groups", |lane| Box::pin(groups(lane))),
    ("server stream", |lane| Box::pin(server_stream(lane))),
    ("a cancelled stream stops", |_| Box::pin(async { Err(Outcome::Cannot("this client cannot cancel a stream")) })),
    ("upload stream", |_| Box::pin(async { Err(Outcome::Cannot("this client has no upload streams")) })),
    ("client results", |lane| Box::pin(client_results(lane))),
    ("large messages", |lane| Box::pin(large_messages(lane))),
    ("a message over the limit closes the connection", |lane| Box::pin(over_the_limit(lane))),
    ("abort", |lane| Box::pin(abort(lane))),
    ("departed after a stop", |lane| Box::pin(departure(lane))),
    ("bearer token, user and role", |lane| Box::pin(bearer_token(lane))),
    ("an idle connection that never pinged is kept", |lane| Box::pin(idle(lane))),
];

async fn who_am_i(lane: Lane) -> Result<(), Outcome> {
    let peer = Peer::open(&lane).await?;
    let me = peer.invoke("WhoAmI", vec![]).await?;
    equal(peer.id.len(), 22, "length of the id")?;
    equal((&me["userId"], &me["transport"]), (&Value::Null, &json!("WebSockets")), "me")
}

async fn echo_values(lane: Lane) -> Result<(), Outcome> {
    let peer = Peer::open(&lane).await?;
    let values = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(127),
        json!(128),
        json!(65536),
        json!(i64::MIN),
        json!(i64::MAX),
        json!(0.5),
        json!(""),
        json!("text"),
        json!("quote \" backslash \\ feed \n"),
        json!("ünï ☃ 😀"),
        json!("<>&'+"),
        json!([]),
        json!([1, "two", null, [3]]),
        json!({}),
        json!({"A": 1, "B": {"C": [true, null]}}),
    ];
    // In JSON it takes a null result for a broken answer.
    for value in values.into_iter().filter(|value| lane.binary || !value.is_null()) {
        equal(peer.invoke("Echo", vec![value.clone()]).await?, value, "Echo")?;
    }
    equal(peer.invoke("aDD", vec![json!(i32::MIN), json!(i32::MAX)]).await?, json!(-1), "Add")?;
    if lane.binary {
        equal(peer.invoke("Nothing", vec![]).await?, Value::Null, "Nothing")?;
        equal(peer.invoke("Null", vec![]).await?, Value::Null, "Null")?;
    }
    Ok(())
}

async fn error_texts(lane: Lane) -> Result<(), Outcome> {
    let peer = Peer::open(&lane).await?;
    let not_invoked = |method: &str| format!("Failed to invoke '{method}' due to an error on the server.");
    peer.fails(&unexpected("Throw", "boom ☃"), "Throw", vec![json!("boom ☃")]).await?;
    peer.fails(&unexpected("Crash", ""), "Crash", vec![]).await?;
    peer.fails(&(not_invoked("nosuch") + " HubException: Method does not exist."), "nosuch", vec![]).await?;
    peer.fails(&not_invoked("Add"), "Add", vec![json!(1)]).await?;
    peer.fails(&not_invoked("Add"), "Add", vec![json!(1), json!("two")]).await?;
    let streaming = "The client attempted to invoke the streaming 'Counter' method with a non-streaming invocation.";
    peer.fails(streaming, "Counter", vec![json!(1), json!(0)]).await?;
    equal(peer.invoke("Add", vec![json!(1), json!(1)]).await?, json!(2), "after the errors")
}

async fn typed_object(lane: Lane) -> Result<(), Outcome> {
    if lane.binary {
        return Err(Outcome::Cannot("this client rewrites the keys of every map in MessagePack"));
    }
    let peer = Peer::open(&lane).await?;
    let full = json!({
        "text": "ünï ☃", "int": i32::MIN, "long": i64::MIN, "float": 1.5, "bool": true, "bytes": "AH//",
        "list": [1, -2], "map": {"a": "b"}, "nothing": null,
    });
    equal(peer.invoke("Types", vec![full.clone()]).await?, full, "Types")
}

async fn order_of_calls(lane: Lane) -> Result<(), Outcome> {
    let peer = Peer::open(&lane).await?;
    for n in 0..100 {
        peer.send("Order", vec![json!(n)]).await?;
    }
    equal(peer.invoke("Order", vec![json!(100)]).await?, json!((0..=100).collect::<Vec<_>>()), "order")?;
    equal(peer.invoke("Slow", vec![json!(100)]).await?, json!("done"), "Slow")
}

async fn items(lane: Lane) -> Result<(), Outcome> {
    let (a, b) = (Peer::open(&lane).await?, Peer::open(&lane).await?);
    a.call("SetItem", vec![json!("k"), json!({"Deep": [1, "x"]})]).await?;
    equal(a.invoke("GetItem", vec![json!("k")]).await?, json!({"Deep": [1, "x"]}), "item")?;
    b.call("SetItem", vec![json!("k"), json!("other")]).await?;
    equal(b.invoke("GetItem", vec![json!("k")]).await?, json!("other"), "item")
}

async fn crowd(lane: &Lane) -> Result<Vec<Peer>, Outcome> {
    Ok(vec![Peer::open(lane).await?, Peer::open(lane).await?, Peer::open(lane).await?])
}

async fn sends(lane: Lane) -> Result<(), Outcome> {
    let mut peers = crowd(&lane).await?;
    let ids: Vec<Value> = peers.iter().map(|peer| json!(peer.id)).collect();
    delivered(&mut peers, 0, &[1, 1, 1], "ToAll", vec![]).await?;
    delivered(&mut peers, 0, &[0, 1, 1], "ToOthers", vec![]).await?;
    delivered(&mut peers, 0, &[1, 0, 0], "ToCaller", vec![]).await?;
    delivered(&mut peers, 0, &[0, 1, 0], "ToAllExcept", vec![json!([ids[0], ids[2]])]).await?;
    delivered(&mut peers, 0, &[0, 1, 0], "ToConnection", vec![ids[1].clone()]).await?;
    delivered(&mut peers, 1, &[1, 0, 1], "ToConnections", vec![json!([ids[0], ids[2]])]).await?;
    delivered(&mut peers, 1, &[0, 0, 0], "ToUser", vec![json!("nobody")]).await
}

async fn groups(lane: Lane) -> Result<(), Outcome> {
    let mut peers = crowd(&lane).await?;
    let (red, blue) = (json!(format!("red {}", peers[0].id)), json!(format!("blue {}", peers[0].id)));
    for (peer, group) in [(0, &red), (1, &red), (1, &blue), (2, &blue)] {
        peers[peer].call("Join", vec![group.clone()]).await?;
    }
    let first = json!([peers[0].id]);
    delivered(&mut peers, 2, &[1, 1, 0], "ToGroup", vec![red.clone()]).await?;
    delivered(&mut peers, 2, &[1, 2, 1], "ToGroups", vec![json!([red, blue])]).await?;
    delivered(&mut peers, 2, &[0, 1, 0], "ToGroupExcept", vec![red.clone(), first]).await?;
    delivered(&mut peers, 0, &[0, 1, 0], "ToOthersInGroup", vec![red.clone()]).await?;
    peers[1].call("Leave", vec![red.clone()]).await?;
    delivered(&mut peers, 2, &[1, 0, 0], "ToGroup", vec![red]).await
}

async fn server_stream(lane: Lane) -> Result<(), Outcome> {
    let peer = Peer::open(&lane).await?;
    let numbers = |count: u32| (0..count).map(|n| json!(n)).collect::<Vec<_>>();
    equal(peer.stream("Counter", vec![json!(5), json!(10)]).await?, numbers(5), "items")?;
    equal(peer.stream("Counter", vec![json!(0), json!(0)]).await?, numbers(0), "items")?;
    equal(peer.stream("Counter", vec![json!(1000), json!(0)]).await?, numbers(1000), "items")?;
    // It does not tell the error of a stream, only its end.
    equal(peer.stream("CounterThrow", vec![json!(3)]).await?, numbers(3), "items before the error")
}

async fn client_results(lane: Lane) -> Result<(), Outcome> {
    let (a, mut b, mute) = (Peer::open(&lane).await?, Peer::open(&lane).await?, Peer::open(&lane).await?);
    // Who has no handler gives no answer at all.
    match a.attempt("AskTimeout", vec![json!(mute.id), json!(200)]).await {
        Err(error) if error.starts_with(&unexpected("AskTimeout", "")) => {}
        outcome => return Err(Outcome::Failed(format!("AskTimeout of a mute client: {outcome:?}"))),
    }
    if lane.binary {
        return Err(Outcome::Cannot("this client answers in JSON text even on a MessagePack connection"));
    }
    b.on("answer", |mut context| {
        let question: String = context.argument(0).unwrap_or_default();
        InvocationContext::spawn(async move {
            let _ = context.complete(format!("b: {question}")).await;
        });
    });
    equal(a.invoke("Ask", vec![json!(b.id), json!("who ☃?")]).await?, json!("b: who ☃?"), "Ask")?;
    equal(b.invoke("Ask", vec![json!(b.id), json!("myself?")]).await?, json!("b: myself?"), "Ask")?;
    a.fails(&unexpected("Ask", ""), "Ask", vec![json!("no-such-connection"), json!("x")]).await
}

async fn large_messages(lane: Lane) -> Result<(), Outcome> {
    let peer = Peer::open(&lane).await?;
    for n in [0, 1, 125, 126, 65_535, 65_536, 2_000_000] {
        equal(peer.invoke("Large", vec![json!(n)]).await?, json!("x".repeat(n)), "Large")?;
    }
    let fits = json!("y".repeat(32_000));
    equal(peer.invoke("Echo", vec![fits.clone()]).await?, fits, "Echo")
}

async fn over_the_limit(lane: Lane) -> Result<(), Outcome> {
    let peer = Peer::open(&lane).await?;
    peer.send("Echo", vec![json!("z".repeat(40_000))]).await?;
    let record = departed(&lane, &peer.id).await?;
    let text = record["error"].as_str().unwrap_or_default();
    equal(text.contains("maximum message size"), true, &format!("recorded {record}"))
}

async fn abort(lane: Lane) -> Result<(), Outcome> {
    let peer = Peer::open(&lane).await?;
    peer.send("Abort", vec![]).await?;
    equal(&departed(&lane, &peer.id).await?["error"], &Value::Null, "recorded error")
}

async fn departure(lane: Lane) -> Result<(), Outcome> {
    let peer = Peer::open(&lane).await?;
    let id = peer.id.clone();
    peer.close();
    equal(&departed(&lane, &id).await?["error"], &Value::Null, "recorded error")
}

async fn bearer_token(lane: Lane) -> Result<(), Outcome> {
    let token = token(&lane, "ann", "boss").map_err(|error| Outcome::Failed(format!("token: {error}")))?;
    let peer = Peer::open_at(&lane, "conformance-auth", Some(token)).await?;
    let me = peer.invoke("WhoAmI", vec![]).await?;
    equal(&me["userId"], &json!("ann"), "user")?;
    let is_boss = me["claims"].as_object().is_some_and(|claims| claims.values().any(|value| value == "boss"));
    equal(is_boss, true, &format!("role in {me}"))
}

async fn idle(lane: Lane) -> Result<(), Outcome> {
    let peer = Peer::open_at(&lane, "conformance-small", None).await?;
    sleep(Duration::from_secs(5)).await;
    equal(peer.invoke("Add", vec![json!(1), json!(1)]).await?, json!(2), "Add")
}

/// A plain HTTP/1.0 request: not worth a dependency.
fn token(lane: &Lane, user: &str, role: &str) -> std::io::Result<String> {
    use std::io::{Read as _, Write as _};
    let mut socket = std::net::TcpStream::connect((lane.host.as_str(), lane.port as u16))?;
    write!(socket, "GET /token?user={user}&role={role} HTTP/1.0\r\nHost: {}\r\n\r\n", lane.host)?;
    let mut response = String::new();
    socket.read_to_string(&mut response)?;
    Ok(response.split_once("\r\n\r\n").map(|(_, body)| body.trim().to_owned()).unwrap_or_default())
}

const PATIENCE: Duration = Duration::from_secs(10);

//! The relay hub over sockets: whom its methods reach, who may call them, and what refused clients are told.

use crate::support::hub::{Client, Event, Message, PROTOCOLS, Protocol, record};
use crate::support::msgpack::Mp;
use crate::support::ws::{RawPeer, upgrade_request_with};
use crate::{client::serve_routes, eventually, support::within};
use axum::Router;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::middleware::{self, Next};
use hubwire::relay::{self, Action, Relay, RelayOptions};
use hubwire::{Hub, HubBuilder, HubOptions, Identity, Permissions, Policy};
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// A relay hub at `/hub`, whose clients say in headers who they are.
pub(crate) struct Site {
    pub(crate) hub: Hub,
    pub(crate) addr: SocketAddr,
}

impl Site {
    pub(crate) async fn start(hub: HubBuilder<Relay>) -> Self {
        let hub = hub.build();
        let routes = hub.routes("/hub").layer(middleware::from_fn(async |mut request: Request, next: Next| {
            let identity = identity(request.headers());
            request.extensions_mut().insert(identity);
            next.run(request).await
        }));
        Self { addr: serve_routes(Router::new().merge(routes)).await, hub }
    }

    /// Everything is allowed.
    pub(crate) async fn open() -> Self {
        Self::start(relay::hub(RelayOptions::default().with_permissions(everything()))).await
    }

    pub(crate) async fn client(&self, protocol: Protocol, who: &str) -> Client {
        self.client_at("/hub", protocol, who).await
    }

    pub(crate) async fn client_at(&self, path: &str, protocol: Protocol, who: &str) -> Client {
        let mut client = Client::silent(self.socket(path, who).await, protocol);
        client.send(protocol.handshake()).await;
        assert_eq!(client.message().await.raw, b"{}");
        client
    }

    /// A client that may come back on another socket, and the path for that.
    pub(crate) async fn resumable(&self, protocol: Protocol, who: &str) -> (Client, String) {
        let mut peer = self.tcp().await;
        let negotiate = "POST /hub/negotiate?negotiateVersion=1&useStatefulReconnect=true HTTP/1.1\r\nHost: test\r\n";
        peer.send(format!("{negotiate}Content-Length: 0\r\n{who}\r\n")).await.unwrap();
        let answer = peer.response().await.expect("an answer").json();
        let path = format!("/hub?id={}", answer["connectionToken"].as_str().expect("a token"));
        let mut client = Client::silent(self.socket(&path, who).await, protocol);
        client.send(record(&format!(r#"{{"protocol":"{}","version":2}}"#, protocol.name()))).await;
        assert_eq!(client.message().await.raw, b"{}");
        (client, path)
    }

    /// A WebSocket.
    pub(crate) async fn socket(&self, path: &str, who: &str) -> RawPeer {
        let mut peer = self.tcp().await;
        let headers = format!("Connection: Upgrade\r\nUpgrade: websocket\r\n{who}");
        peer.send(upgrade_request_with(path, &headers)).await.expect("the server reads");
        peer.expect_upgrade().await;
        peer
    }

    pub(crate) async fn tcp(&self) -> RawPeer {
        RawPeer::over(within("a connection", TcpStream::connect(self.addr)).await.unwrap())
    }
}

/// `X-User` is the user, each `X-Claim: type=value` a claim.
fn identity(headers: &HeaderMap) -> Identity {
    let text = |name: &str| headers.get(name).map(|value| String::from_utf8(value.as_bytes().to_vec()).unwrap());
    let claims: Vec<String> =
        headers.get_all("x-claim").iter().map(|claim| claim.to_str().unwrap().to_owned()).collect();
    let user = text("x-user");
    if user.is_none() && claims.is_empty() {
        return Identity::anonymous();
    }
    Identity::new(user.as_deref(), claims.iter().map(|claim| claim.split_once('=').expect("type=value")))
}

pub(crate) fn everything() -> Permissions {
    Permissions::default().grant("*", "*", Policy::custom(|_| true))
}

/// What came before the answer to a message to everybody, which every client waits for.
async fn heard(sender: &mut Client, receivers: &mut [&mut Client]) -> Vec<Vec<Value>> {
    sender.call("SendToAll", json!(["mark", []])).await.unwrap();
    let mut all = Vec::new();
    for client in [sender].into_iter().chain(receivers.iter_mut().map(|client| &mut **client)) {
        let mut heard = Vec::new();
        loop {
            let message = client.message().await;
            match message.target() {
                "mark" => break,
                target => heard.push(json!([target, message.arguments()])),
            }
        }
        all.push(heard);
    }
    all
}

#[tokio::test]
async fn each_method_reaches_whom_it_is_for() {
    for protocol in PROTOCOLS {
        let site = Site::open().await;
        let mut ann = site.client(protocol, "X-User: ann\r\n").await;
        let mut bob = site.client(Protocol::Json, "X-User: bob\r\n").await;
        let mut phone = site.client(Protocol::MessagePack, "X-User: bob\r\n").await;
        let mut eve = site.client(Protocol::MessagePack, "").await;
        for client in [&mut ann, &mut phone, &mut eve] {
            assert_eq!(client.call("JoinGroup", json!(["room"])).await, Ok(Value::Null));
            assert_eq!(client.call("JoinGroup", json!(["room"])).await, Ok(Value::Null), "twice is once");
        }
        eve.call("LeaveGroup", json!(["room"])).await.unwrap();
        eve.call("LeaveGroup", json!(["room"])).await.unwrap();
        let members = site.hub.context().connections_of_user("bob").await.unwrap();
        let in_room = site.hub.context().membership().members("room").await.unwrap();
        let phone_id = members.into_iter().find(|id| in_room.contains(id)).unwrap();
        let cases = [
            ("SendToAll", json!(["m", [1]]), [1, 1, 1, 1]),
            ("SendToOthers", json!(["m", [1]]), [0, 1, 1, 1]),
            ("SendToGroup", json!(["room", "m", [1]]), [1, 0, 1, 0]),
            ("SendToOthersInGroup", json!(["room", "m", [1]]), [0, 0, 1, 0]),
            ("SendToUser", json!(["bob", "m", [1]]), [0, 1, 1, 0]),
            ("SendToConnection", json!([phone_id, "m", [1]]), [0, 0, 1, 0]),
            ("SendToGroup", json!(["nobody", "m", [1]]), [0, 0, 0, 0]),
            ("SendToUser", json!(["Bob", "m", [1]]), [0, 0, 0, 0]),
            ("SendToConnection", json!(["no such id", "m", [1]]), [0, 0, 0, 0]),
        ];
        for (method, arguments, wanted) in cases {
            assert_eq!(ann.call(method, arguments.clone()).await, Ok(Value::Null), "{method}");
            let heard = heard(&mut ann, &mut [&mut bob, &mut phone, &mut eve]).await;
            let wanted = wanted.map(|times| vec![json!(["m", [1]]); times]);
            assert_eq!(heard, wanted, "{method}({arguments})");
        }
    }
}

#[tokio::test]
async fn values_arrive_as_they_were_sent() {
    let site = Site::open().await;
    let mut json_client = site.client(Protocol::Json, "").await;
    let mut packed = site.client(Protocol::MessagePack, "").await;
    let text = r#"[18446744073709551615,1.0,-0.5e3,"\u00e4\n",null,true,[[],{}],{"b":1,"a":[2]}]"#;
    let call = format!(r#"{{"type":1,"invocationId":"x","target":"SendToAll","arguments":["m",{text}]}}"#);
    json_client.send(record(&call)).await;
    let received = json_client.target("m").await.text();
    assert!(received.contains(&format!(r#""arguments":{text}"#)), "{received}");
    assert_eq!(
        packed.target("m").await.item(4),
        &Mp::Array(vec![
            Mp::Int(u64::MAX.into()),
            Mp::F64(1.0),
            Mp::F64(-500.0),
            Mp::str("ä\n"),
            Mp::Nil,
            Mp::Bool(true),
            Mp::Array(vec![Mp::Array(vec![]), Mp::Map(vec![])]),
            Mp::Map(vec![(Mp::str("b"), Mp::Int(1)), (Mp::str("a"), Mp::Array(vec![Mp::Int(2)]))]),
        ])
    );

    let values =
        vec![Mp::Bin(vec![0, 255]), Mp::Int(i64::MIN.into()), Mp::F32(0.5), Mp::Map(vec![(Mp::Int(7), Mp::Nil)])];
    let done = packed.call_mp("SendToAll", vec![Mp::str("m"), Mp::Array(values.clone())]).await;
    assert_eq!(done.error(), "");
    assert_eq!(packed.target("m").await.item(4), &Mp::Array(values));
    let received = json_client.target("m").await;
    assert_eq!(*received.arguments(), json!(["AP8=", i64::MIN, 0.5, {"7": null}]));
}

#[tokio::test]
async fn what_a_receiver_cannot_be_given_nobody_gets() {
    let site = Site::open().await;
    let mut packed = site.client(Protocol::MessagePack, "").await;
    let mut other = site.client(Protocol::MessagePack, "").await;
    let nan = vec![Mp::str("m"), Mp::Array(vec![Mp::F64(f64::NAN)])];
    assert_eq!(packed.call_mp("SendToOthers", nan.clone()).await.error(), "");
    assert!(
        matches!(other.target("m").await.item(4), Mp::Array(values) if matches!(values[0], Mp::F64(n) if n.is_nan()))
    );
    let mut json_client = site.client(Protocol::Json, "").await;
    let refused = packed.call_mp("SendToOthers", nan).await;
    assert!(refused.error().contains("sent to nobody") && refused.error().contains("NaN"), "{}", refused.error());
    assert_eq!(heard(&mut packed, &mut [&mut other, &mut json_client]).await, [[Value::Null; 0], [], []]);
}

#[tokio::test]
async fn bad_arguments_are_explained_and_cost_nothing_else() {
    let options = RelayOptions::default().with_permissions(everything()).with_max_name_length(5).with_max_groups(2);
    let site = Site::start(relay::hub(options)).await;
    for protocol in PROTOCOLS {
        let mut client = site.client(protocol, "").await;
        let cases = [
            ("SendToAll", json!(["m", "hello", 1]), "Invocation provides 3 argument(s) but target expects 2."),
            ("SendToAll", json!(["m", "hello"]), "must be an array"),
            ("SendToAll", json!(["m", {"0": "hello"}]), "must be an array"),
            ("SendToAll", json!(["m", null]), "must be an array"),
            ("SendToAll", json!([7, []]), "The name of a client method must be a string."),
            ("SendToGroup", json!([["a"], "m", []]), "The name of a group must be a string."),
            ("SendToUser", json!(["", "m", []]), "The name of a user must not be blank."),
            ("SendToConnection", json!([" \t", "m", []]), "The name of a connection must not be blank."),
            ("JoinGroup", json!(["123456"]), "The name of a group has at most 5 characters."),
            ("JoinGroup", json!(["\u{1f600}\u{1f600}\u{1f600}"]), "The name of a group has at most 5 characters."),
            ("SendToAll", json!(["target", []]), "The name of a client method has at most 5 characters."),
        ];
        for (method, arguments, wanted) in cases {
            let error = client.call(method, arguments.clone()).await.unwrap_err();
            assert!(error.contains(wanted), "{method}({arguments}): {error}");
        }
        for group in ["ä{}*'", "\u{1f600}\u{1f600}"] {
            client.call("JoinGroup", json!([group])).await.unwrap();
        }
        client.call("JoinGroup", json!(["ä{}*'"])).await.unwrap();
        let error = client.call("JoinGroup", json!(["third"])).await.unwrap_err();
        assert!(error.contains("in 2 groups, and 2 is the most. Leave one first."), "{error}");
        client.call("LeaveGroup", json!(["ä{}*'"])).await.unwrap();
        client.call("JoinGroup", json!(["third"])).await.unwrap();
        client.call("SendToGroup", json!(["third", "m", ["here"]])).await.unwrap();
        assert_eq!(*client.target("m").await.arguments(), json!(["here"]));
    }
}

#[tokio::test]
async fn a_message_over_the_limit_ends_its_sender_only() {
    let mut options = RelayOptions::default().with_permissions(everything());
    options.hub.connection.maximum_receive_message_size = Some(1000);
    let site = Site::start(relay::hub(options)).await;
    for protocol in PROTOCOLS {
        let mut other = site.client(protocol, "").await;
        let mut sender = site.client(protocol, "").await;
        sender.call("SendToOthers", json!(["m", ["x".repeat(800)]])).await.unwrap();
        assert_eq!(other.target("m").await.arguments()[0].as_str().unwrap().len(), 800);
        sender.start("SendToOthers", json!(["m", ["x".repeat(1000)]])).await;
        let (messages, _) = sender.until_end().await;
        assert!(messages[0].error().contains("1000"), "{messages:?}");
        other.call("SendToAll", json!(["m", ["still here"]])).await.unwrap();
        assert_eq!(*other.target("m").await.arguments(), json!(["still here"]));
    }
}

/// All methods with arguments about the group, user or connection `x`.
fn calls() -> Vec<(&'static str, Value)> {
    let named = json!(["x", "m", []]);
    vec![
        ("SendToAll", json!(["m", []])),
        ("SendToOthers", json!(["m", []])),
        ("SendToGroup", named.clone()),
        ("SendToOthersInGroup", named.clone()),
        ("SendToUser", named.clone()),
        ("SendToConnection", named),
        ("JoinGroup", json!(["x"])),
        ("LeaveGroup", json!(["x"])),
        ("Presence", json!(["x"])),
    ]
}

#[tokio::test]
async fn without_a_table_nobody_may_do_anything() {
    let site = Site::start(relay::hub(RelayOptions::default())).await;
    let mut admin = site.client(Protocol::Json, "X-User: ann\r\nX-Claim: role=admin\r\n").await;
    for (method, arguments) in calls() {
        let error = admin.call(method, arguments).await.unwrap_err();
        assert!(error.contains("The user 'ann' has no permission '"), "{method}: {error}");
    }
    let (items, end) = stream(&mut admin, "PresenceChanges", json!(["x"])).await;
    assert!(items.is_empty() && end.error().contains("has no permission 'see-presence' on 'x'"), "{end:?}");
    assert!(site.hub.context().membership().members("x").await.unwrap().is_empty());
    let mut nobody = site.client(Protocol::MessagePack, "").await;
    let error = nobody.call("JoinGroup", json!(["x"])).await.unwrap_err();
    assert!(error.contains("A client that has not signed in has no permission 'join' on 'x'."), "{error}");
}

#[tokio::test]
async fn each_action_allows_its_methods_and_no_other() {
    for action in Action::ALL {
        let permissions = Permissions::default().grant(action.name(), "*", Policy::authenticated());
        let site = Site::start(relay::hub(RelayOptions::default().with_permissions(permissions))).await;
        let mut ann = site.client(Protocol::Json, "X-User: ann\r\n").await;
        let mut nobody = site.client(Protocol::Json, "").await;
        for (method, arguments) in calls() {
            let allowed = action.methods().contains(&method);
            assert_eq!(ann.call(method, arguments.clone()).await.is_ok(), allowed, "{action}: {method}");
            assert!(nobody.call(method, arguments).await.is_err(), "{action}: {method}");
        }
    }
}

#[tokio::test]
async fn the_table_tells_roles_claims_and_names_apart() {
    let permissions = Permissions::default()
        .grant("join", "room-*", Policy::authenticated())
        .grant("join", "inbox-{user}", Policy::authenticated())
        .grant("send-to-group", "news", Policy::role("editor"))
        .grant("send-to-group", "team-*", Policy::claim("tenant", "acme"))
        .grant("send-to-user", "{user}", Policy::authenticated())
        .grant("*", "*", Policy::role("admin"));
    let site = Site::start(relay::hub(RelayOptions::default().with_permissions(permissions))).await;
    let people = [
        "",
        "X-User: ann\r\n",
        "X-User: ann\r\nX-Claim: role=editor\r\n",
        "X-User: bob\r\nX-Claim: tenant=acme\r\nX-Claim: role=reader\r\n",
        "X-Claim: role=admin\r\n",
        "X-User: *\r\n",
    ];
    let cases = [
        ("JoinGroup", json!(["room-1"]), [0, 1, 1, 1, 1, 1]),
        ("JoinGroup", json!(["Room-1"]), [0, 0, 0, 0, 1, 0]),
        ("JoinGroup", json!(["inbox-ann"]), [0, 1, 1, 0, 1, 0]),
        ("JoinGroup", json!(["inbox-*"]), [0, 0, 0, 0, 1, 1]),
        ("JoinGroup", json!(["inbox-{user}"]), [0, 0, 0, 0, 1, 0]),
        ("SendToGroup", json!(["news", "m", []]), [0, 0, 1, 0, 1, 0]),
        ("SendToGroup", json!(["news ", "m", []]), [0, 0, 0, 0, 1, 0]),
        ("SendToGroup", json!(["team-1", "m", []]), [0, 0, 0, 1, 1, 0]),
        ("SendToUser", json!(["ann", "m", []]), [0, 1, 1, 0, 1, 0]),
        ("SendToAll", json!(["m", []]), [0, 0, 0, 0, 1, 0]),
    ];
    for protocol in PROTOCOLS {
        for (at, who) in people.iter().enumerate() {
            let mut client = site.client(protocol, who).await;
            for (method, arguments, allowed) in &cases {
                let outcome = client.call(method, arguments.clone()).await;
                assert_eq!(outcome.is_ok(), allowed[at] == 1, "{method}({arguments}) by {who:?}: {outcome:?}");
            }
        }
    }
}

#[tokio::test]
async fn groups_are_kept_over_a_cut_socket() {
    let options = HubOptions::default().with_stateful_reconnect(true);
    let options = RelayOptions::default().with_permissions(everything()).with_hub(options);
    let site = Site::start(relay::hub(options)).await;
    for protocol in PROTOCOLS {
        let mut other = site.client(Protocol::Json, "").await;
        let (mut client, path) = site.resumable(protocol, "").await;
        client.call("JoinGroup", json!(["room"])).await.unwrap();
        client.peer.reset_on_drop();
        drop(client);

        // sent into the gap; the group has it still
        other.call("SendToGroup", json!(["room", "m", ["in between"]])).await.unwrap();
        let mut client = Client::resumed(site.socket(&path, "").await, protocol);
        client.say(json!({"type": 9, "sequenceId": 2})).await;
        assert_eq!(*client.target("m").await.arguments(), json!(["in between"]));
        other.call("SendToGroup", json!(["room", "m", ["after"]])).await.unwrap();
        assert_eq!(*client.target("m").await.arguments(), json!(["after"]));
        client.start("LeaveGroup", json!(["room"])).await;
        client.first("its completion", |message| message.kind() == 3 && message.error().is_empty()).await;
        client.leave().await;
    }
}

#[tokio::test]
async fn a_new_connection_is_in_the_groups_that_its_url_names() {
    let permissions = Permissions::default().grant("join", "room*", Policy::custom(|_| true)).grant(
        "send-to-group",
        "*",
        Policy::custom(|_| true),
    );
    let site = Site::start(relay::hub(RelayOptions::default().with_permissions(permissions))).await;
    let path = "/hub?group=room%201&x=y&group=room%C3%A4";
    for protocol in PROTOCOLS {
        for round in ["first", "again"] {
            let mut client = site.client_at(path, protocol, "").await;
            let mut other = site.client(protocol, "").await;
            for group in ["room 1", "roomä"] {
                // its own first call is answered when it is in both
                client.call("SendToGroup", json!([group, "m", [round]])).await.unwrap();
                assert_eq!(*client.target("m").await.arguments(), json!([round]));
                other.call("SendToOthersInGroup", json!([group, "m", [round]])).await.unwrap();
                assert_eq!(*client.target("m").await.arguments(), json!([round]));
            }
        }
        let mut refused = site.client_at("/hub?group=room&group=vault", protocol, "X-User: eve\r\n").await;
        let Event::Message(close) = refused.event().await else { panic!("no close message") };
        assert_eq!(close.kind(), 7);
        assert!(close.error().contains("The user 'eve' has no permission 'join' on 'vault'."), "{close:?}");
    }
    eventually!(site.hub.context().membership().members("room").await.unwrap().is_empty());
}

#[tokio::test]
async fn the_log_sees_who_was_refused_and_not_what_was_sent() {
    let log = crate::log::Captured::start();
    let site = Site::start(relay::hub(RelayOptions::default())).await;
    let mut ann = site.client_at("/hub?secret=query", Protocol::Json, "X-User: ann\r\n").await;
    let id = site.hub.context().connections_of_user("ann").await.unwrap().remove(0);
    for _ in 0..30 {
        ann.call("SendToGroup", json!(["va\nult", "m", ["secret payload"]])).await.unwrap_err();
    }
    let text = log.text();
    let lines: Vec<_> = text.lines().filter(|line| line.contains("a permission was refused")).collect();
    for field in
        ["WARN", "user=\"ann\"", &format!("connection=\"{id}\""), "action=\"send-to-group\"", "name=\"va\\nult\""]
    {
        assert!(lines[0].contains(field), "{field} in {}", lines[0]);
    }
    assert_eq!(lines.iter().filter(|line| line.contains("WARN")).count(), 10, "nobody fills the log");
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test]
async fn the_demo_allows_everything_and_counts() {
    let site = Site::start(relay::demo::hub()).await;
    for protocol in PROTOCOLS {
        let mut client = site.client(protocol, "").await;
        for (method, arguments) in calls() {
            client.call(method, arguments).await.unwrap();
        }
        let (items, end) = stream(&mut client, "Counter", json!([3, 1])).await;
        assert_eq!((items, end.error()), (vec![json!(1), json!(2), json!(3)], ""));
        let (_, end) = stream(&mut client, "Counter", json!([1_000_000, 1])).await;
        assert!(end.error().contains("10000 at most"), "{end:?}");
        let error = client.call("SendToAll", json!(["m"])).await.unwrap_err();
        assert!(error.contains("Invocation provides 1 argument(s) but target expects 2."), "{error}");
    }
}

/// The items of a stream that ends, and its completion.
async fn stream(client: &mut Client, method: &str, arguments: Value) -> (Vec<Value>, Message) {
    begin(client, "s", method, arguments).await;
    client.stream_end("s").await
}

pub(crate) async fn begin(client: &mut Client, id: &str, method: &str, arguments: Value) {
    client.say(json!({"type": 4, "invocationId": id, "target": method, "arguments": arguments})).await;
}

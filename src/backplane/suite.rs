//! What every backplane must do, written against the trait: mounted once for each implementation.

use super::{
    Answer, Audience, Backplane, BackplaneError, Closing, Deliver, Encoded, Existence, Found, Member, Membership, News,
    NodeId, Page, Query, Reached, Told, UserMembership, Watching, Whom,
};
use crate::protocol::hub::{EncodeError, Frame, Protocol};
use parking_lot::Mutex;
use std::sync::Arc;

/// Runs the whole suite on two nodes that `join` connects to each other.
pub(crate) async fn check(mut join: impl FnMut() -> Arc<dyn Backplane>) {
    let nodes = [Node::start(join(), "a"), Node::start(join(), "b")];
    every_node_delivers_once_and_in_order(&nodes).await;
    a_message_that_cannot_be_encoded_is_its_senders_error(&nodes).await;
    group_changes_reach_the_connection(&nodes).await;
    a_question_is_answered_to_who_asked(&nodes).await;
    a_question_to_nobody_fails(&nodes).await;
    closing_and_queries_reach_all_nodes(&nodes).await;
    a_node_that_is_gone_is_not_missed(join(), &nodes).await;
    who_watches_a_group_is_told(&nodes).await;
    later_nodes_tell_too_and_lost_ones_are_reported(join(), &nodes).await;
}

async fn every_node_delivers_once_and_in_order(nodes: &[Arc<Node>; 2]) {
    let audience = Audience::GroupExcept { group: "lobby".into(), connections: vec!["x".into()], users: Vec::new() };
    for text in ["one", "two", "three"] {
        done(nodes[0].backplane.send(&audience, &Text(text)).unwrap()).await;
    }
    for node in nodes {
        eventually(|| node.seen().len() == 3).await;
        let want = ["one", "two", "three"].map(|text| format!("{audience:?} {text}"));
        assert_eq!(node.take(), want);
    }
}

async fn a_message_that_cannot_be_encoded_is_its_senders_error(nodes: &[Arc<Node>; 2]) {
    let refused = nodes[0].backplane.send(&Audience::All, &Text(UNENCODABLE));
    assert!(matches!(refused, Err(BackplaneError::Encode(_))), "{refused:?}");
    assert!(nodes[0].take().is_empty());
}

async fn group_changes_reach_the_connection(nodes: &[Arc<Node>; 2]) {
    assert!(done(nodes[0].backplane.change_group("b-1", Membership::Join("lobby"))).await);
    eventually(|| nodes[1].seen().contains(&r#"Join("lobby") b-1"#.into())).await;
    assert!(!done(nodes[0].backplane.change_group("nobody", Membership::LeaveAll)).await);
    let change = UserMembership::Join { group: "lobby", remembered: None };
    done(nodes[0].backplane.change_user("ann", change)).await;
    for node in nodes {
        eventually(|| node.seen().contains(&format!("{change:?} ann"))).await;
    }
    nodes.iter().for_each(|node| drop(node.take()));
}

async fn a_question_is_answered_to_who_asked(nodes: &[Arc<Node>; 2]) {
    let [a, b] = nodes;
    let id = a.backplane.question_id();
    assert_ne!(id, b.backplane.question_id());
    done(a.backplane.ask("b-1", &id, &Text("name?")).unwrap()).await;
    eventually(|| b.seen().contains(&format!("ask b-1 {id} name?"))).await;
    b.backplane.answer(&id, Answer::Result(Protocol::Json, b"\"ann\"".to_vec()));
    eventually(|| a.seen().iter().any(|line| line.starts_with(&format!("answered {id} Result")))).await;
    // a second answer has nobody to go to
    b.backplane.answer(&id, Answer::Void);
    let id = a.backplane.question_id();
    done(a.backplane.ask("b-1", &id, &Text("name?")).unwrap()).await;
    a.backplane.give_up(&id);
    eventually(|| b.seen().contains(&format!("given up {id}"))).await;
    nodes.iter().for_each(|node| drop(node.take()));
}

async fn a_question_to_nobody_fails(nodes: &[Arc<Node>; 2]) {
    let [a, _] = nodes;
    let id = a.backplane.question_id();
    let outcome = match a.backplane.ask("nobody", &id, &Text("name?")) {
        Ok(reached) => reached.wait().await,
        Err(e) => Err(e),
    };
    assert!(matches!(outcome, Err(BackplaneError::NoConnection(id)) if id == "nobody"));
    nodes.iter().for_each(|node| drop(node.take()));
}

async fn closing_and_queries_reach_all_nodes(nodes: &[Arc<Node>; 2]) {
    let closing = Closing {
        whom: Whom::User("ann".into()),
        except: vec!["x".into()],
        error: Some("enough".into()),
        allow_reconnect: true,
    };
    done(nodes[0].backplane.close(&closing)).await;
    for node in nodes {
        eventually(|| node.seen().contains(&format!("close {closing:?}"))).await;
        node.take();
    }
    let query = Query::Connections(Whom::Group("lobby".into()), Page::ALL);
    let mut known = nodes[0].backplane.query(&query).wait().await.unwrap();
    known.sort();
    assert_eq!(known.iter().map(|found| &found.id).collect::<Vec<_>>(), ["a-1", "b-1"]);
    for (connection, there) in [("a-1", true), ("b-1", true), ("c-1", false)] {
        let existence = Existence::Of(Whom::Connection(connection.into()));
        assert_eq!(done(nodes[0].backplane.exists(&existence)).await, there, "{connection}");
    }
}

async fn a_node_that_is_gone_is_not_missed(third: Arc<dyn Backplane>, nodes: &[Arc<Node>; 2]) {
    drop(Node::start(third, "c"));
    done(nodes[0].backplane.send(&Audience::All, &Text("still here")).unwrap()).await;
    for node in nodes {
        let lines = || node.seen().into_iter().filter(|line| !line.starts_with("lost"));
        eventually(|| lines().eq(["All still here"])).await;
    }
}

async fn who_watches_a_group_is_told(nodes: &[Arc<Node>; 2]) {
    let [a, b] = nodes;
    nodes.iter().for_each(|node| drop(node.take()));
    let asked = done(a.backplane.watch("lobby", 7)).await;
    for node in nodes {
        eventually(|| node.seen().iter().any(|line| line.starts_with("lobby is watched: true, 7"))).await;
    }
    let heard = |node: &Node| -> Vec<_> { node.seen().into_iter().filter(|line| line.starts_with("heard")).collect() };
    a.backplane.tell("lobby", &joined(1));
    eventually(|| heard(a).len() == 1).await;
    b.backplane.tell("other", &joined(1));
    for number in 2..=4 {
        b.backplane.tell("lobby", &joined(number));
    }
    eventually(|| heard(a).len() == 4).await;
    let from = |number, id: &NodeId| format!("heard {id:?} lobby {:?}", joined(number));
    let own = asked.iter().find(|id| heard(a)[0] == from(1, id)).expect("one of those that were asked");
    let other = asked.iter().find(|id| *id != own).expect("two were asked");
    assert_eq!(heard(a)[1..], [2, 3, 4].map(|number| from(number, other)));
    assert!(heard(b).is_empty(), "it does not watch");

    nodes.iter().for_each(|node| drop(node.take()));
    a.backplane.unwatch("lobby", 7);
    for node in nodes {
        eventually(|| node.seen().iter().any(|line| line.starts_with("lobby is watched: false, 7"))).await;
    }
    b.backplane.tell("lobby", &joined(3));
    done(b.backplane.send(&Audience::All, &Text("after")).unwrap()).await;
    eventually(|| a.seen().contains(&"All after".into())).await;
    assert!(heard(a).is_empty());
    nodes.iter().for_each(|node| drop(node.take()));
}

async fn later_nodes_tell_too_and_lost_ones_are_reported(third: Arc<dyn Backplane>, nodes: &[Arc<Node>; 2]) {
    let [a, b] = nodes;
    let before = done(a.backplane.watch("lobby", 8)).await;
    let c = Node::start(third, "c");
    eventually(|| c.seen().iter().any(|line| line.starts_with("lobby is watched: true, 8"))).await;
    let after = done(b.backplane.watch("lobby", 9)).await;
    let id = after.into_iter().find(|id| !before.contains(id)).expect("the third is asked");
    c.backplane.tell("lobby", &joined(1));
    for node in nodes {
        eventually(|| node.seen().contains(&format!("heard {id:?} lobby {:?}", joined(1)))).await;
    }
    drop(c);
    for node in nodes {
        eventually(|| node.seen().contains(&format!("lost {id:?}"))).await;
    }
}

fn joined(number: u64) -> News {
    News { number, told: Told::Joined(Member::new("x", None::<&str>)) }
}

/// A node that has one connection, named after it, and notes what it is told.
struct Node {
    name: &'static str,
    backplane: Arc<dyn Backplane>,
    log: Mutex<Vec<String>>,
}

impl Node {
    fn start(backplane: Arc<dyn Backplane>, name: &'static str) -> Arc<Self> {
        let node = Arc::new(Self { name, backplane, log: Mutex::default() });
        let end: std::sync::Weak<dyn Deliver> = Arc::downgrade(&node) as _;
        node.backplane.attach(end);
        node
    }

    fn seen(&self) -> Vec<String> {
        self.log.lock().clone()
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock())
    }

    fn note(&self, line: String) {
        self.log.lock().push(line);
    }

    fn has(&self, connection: &str) -> bool {
        connection == format!("{}-1", self.name)
    }
}

impl Deliver for Node {
    fn deliver(&self, audience: &Audience, message: &dyn Encoded) -> Result<(), EncodeError> {
        let text = text(message)?;
        self.note(format!("{audience:?} {text}"));
        Ok(())
    }

    fn change_group(&self, connection: &str, change: Membership<'_>) -> bool {
        if self.has(connection) {
            self.note(format!("{change:?} {connection}"));
        }
        self.has(connection)
    }

    fn change_user(&self, user: &str, change: UserMembership<'_>) {
        self.note(format!("{change:?} {user}"));
    }

    fn ask(&self, connection: &str, question: &str, message: &dyn Encoded) -> Result<bool, EncodeError> {
        if !self.has(connection) {
            return Ok(false);
        }
        self.note(format!("ask {connection} {question} {}", text(message)?));
        Ok(true)
    }

    fn answered(&self, question: &str, answer: Answer) {
        self.note(format!("answered {question} {answer:?}"));
    }

    fn given_up(&self, question: &str) {
        self.note(format!("given up {question}"));
    }

    fn close(&self, closing: &Closing) {
        self.note(format!("close {closing:?}"));
    }

    fn query(&self, _: &Query) -> Vec<Found> {
        vec![Found::group(format!("{}-1", self.name), 1)]
    }

    fn exists(&self, what: &Existence) -> bool {
        matches!(what, Existence::Of(Whom::Connection(id)) if self.has(id))
    }

    fn watched(&self, group: &str, watching: Watching, begins: bool) {
        self.note(format!("{group} is watched: {begins}, {}", watching.number));
    }

    fn hear(&self, node: NodeId, group: &str, news: &News) {
        self.note(format!("heard {node:?} {group} {news:?}"));
    }

    fn lose(&self, node: NodeId) {
        self.note(format!("lost {node:?}"));
    }
}

struct Text(&'static str);

impl Encoded for Text {
    fn frame(&self, protocol: Protocol) -> Result<Option<Frame>, EncodeError> {
        if self.0 == UNENCODABLE {
            return Err(EncodeError { protocol, source: "not a number".into() });
        }
        Ok(Some(Frame::of_framed(protocol, self.0.as_bytes())))
    }

    fn key(&self) -> &str {
        self.0
    }
}

fn text(message: &dyn Encoded) -> Result<String, EncodeError> {
    let frame = message.frame(Protocol::Json)?.expect("it is for everybody");
    Ok(String::from_utf8(frame.payload().to_vec()).unwrap())
}

async fn done<T>(reached: Reached<T>) -> T {
    reached.wait().await.unwrap()
}

/// Waits for what another node, which may be another process one day, has to do first.
async fn eventually(condition: impl Fn() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("did not happen within 5 s");
}

const UNENCODABLE: &str = "NaN";

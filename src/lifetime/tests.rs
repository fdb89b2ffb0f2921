use super::*;
use crate::backplane::Bus;
use crate::protocol::hub::RawValue;
use crate::transport::Identity;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

fn alone() -> Arc<Lifetime> {
    Lifetime::new(Bus::single())
}

fn nodes<const N: usize>() -> [Arc<Lifetime>; N] {
    let bus = Arc::new(Bus::default());
    std::array::from_fn(|_| Lifetime::new(bus.join()))
}

fn come(node: &Lifetime) -> Arc<Link> {
    come_as(node, Identity::anonymous())
}

fn come_as(node: &Lifetime, identity: Identity) -> Arc<Link> {
    let link = Link::detached(identity);
    node.add(&link);
    link
}

fn name(link: &Link) -> String {
    link.id().to_string()
}

fn names(links: &[&Arc<Link>]) -> Vec<String> {
    links.iter().map(|link| name(link)).collect()
}

fn send(node: &Lifetime, audience: &Audience, target: &str) {
    node.send(audience, &Outgoing::new(target, &(), None)).unwrap();
}

/// The targets of what has come since the last time.
fn heard(link: &Link) -> Vec<String> {
    invocations(link).iter().map(|call| call["target"].as_str().unwrap().to_owned()).collect()
}

fn invocations(link: &Link) -> Vec<Value> {
    let frames = link.take_queued();
    let texts = frames.iter().map(|frame| frame.payload().strip_suffix(b"\x1e").unwrap());
    texts.map(|text| serde_json::from_slice(text).unwrap()).collect()
}

async fn groups_of(node: &Lifetime, connection: String) -> Vec<String> {
    sorted(node.groups_of(connection).wait().await.unwrap())
}

async fn members(node: &Lifetime, whom: Whom) -> Vec<String> {
    sorted(node.connection_ids(whom).wait().await.unwrap())
}

fn put_question(
    node: &Lifetime,
    connection: &str,
    target: &str,
    arguments: &dyn EncodeArguments,
) -> Result<(Reached<()>, Asked), BackplaneError> {
    let id = node.question_id();
    node.ask(connection, &id, &Outgoing::question(&id, target, arguments))
}

fn except(group: &str, connections: Vec<String>) -> Audience {
    Audience::GroupExcept { group: group.into(), connections, users: Vec::new() }
}

async fn close(node: &Lifetime, whom: Whom) {
    node.close(&Closing::of(whom)).wait().await.unwrap();
}

fn sorted(mut list: Vec<String>) -> Vec<String> {
    list.sort();
    list
}

mod pages {
    use super::*;

    #[tokio::test]
    async fn pages_of_connections_meet_each_other() {
        let nodes = nodes::<3>();
        let links: Vec<_> = (0..25).map(|n| come_as(&nodes[n % 3], Identity::user(format!("u{n}")))).collect();
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let page = Page { after, most: 10 };
            let found = nodes[0].connections(Whom::All, page).wait().await.unwrap();
            after = found.last().map(|found| found.id.clone());
            seen.extend(found.into_iter().map(|found| found.id));
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, sorted(links.iter().map(|link| name(link)).collect()));
    }

    #[tokio::test]
    async fn a_group_of_several_nodes_is_one() {
        let nodes = nodes::<2>();
        for node in &nodes {
            for group in ["red", "blue"] {
                node.add_to_group(&name(&come(node)), group).wait().await.unwrap();
            }
        }
        let page = |after: Option<&str>, most| Page { after: after.map(Into::into), most };
        let groups = |page| nodes[1].groups(page).wait();
        assert_eq!(groups(Page::ALL).await.unwrap(), [Found::group("blue", 2), Found::group("red", 2)]);
        assert_eq!(groups(page(None, 1)).await.unwrap(), [Found::group("blue", 2)]);
        assert_eq!(groups(page(Some("blue"), 1)).await.unwrap(), [Found::group("red", 2)]);
        assert_eq!(groups(page(Some("red"), 1)).await.unwrap(), []);
    }
}

mod user_groups {
    use super::*;
    use std::time::Duration;

    async fn join(node: &Lifetime, remembered: Option<Duration>) {
        node.change_user("ann", UserMembership::Join { group: "red", remembered }).wait().await.unwrap();
    }

    async fn is_in(node: &Lifetime, user: &str, group: &str) -> bool {
        node.exists(Existence::UserInGroup { user: user.into(), group: group.into() }).wait().await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_is_in_a_group_with_what_it_has_and_what_will_come() {
        let nodes = nodes::<2>();
        let here = come_as(&nodes[0], Identity::user("ann"));
        join(&nodes[1], None).await;
        let later = come_as(&nodes[1], Identity::user("ann"));
        let bob = come_as(&nodes[1], Identity::user("bob"));
        assert_eq!(members(&nodes[0], Whom::Group("red".into())).await, sorted(names(&[&here, &later])));
        assert!(is_in(&nodes[0], "ann", "red").await && !is_in(&nodes[0], "bob", "red").await);
        nodes[0].add_to_group(&name(&bob), "red").wait().await.unwrap();
        assert!(is_in(&nodes[0], "bob", "red").await, "a connection of its own is");
        nodes[0].change_user("ann", UserMembership::LeaveAll).wait().await.unwrap();
        assert_eq!(members(&nodes[0], Whom::Group("red".into())).await, names(&[&bob]));
        assert!(!is_in(&nodes[0], "ann", "red").await);
    }

    #[tokio::test(start_paused = true)]
    async fn what_lapses_leaves_members_where_they_are() {
        let node = alone();
        let second = Duration::from_secs(1);
        join(&node, Some(second)).await;
        let member = come_as(&node, Identity::user("ann"));
        tokio::time::advance(2 * second).await;
        let stranger = come_as(&node, Identity::user("ann"));
        join(&node, Some(Duration::ZERO)).await;
        let late = come_as(&node, Identity::user("ann"));
        assert_eq!(members(&node, Whom::Group("red".into())).await, sorted(names(&[&member, &stranger])));
        node.change_user("ann", UserMembership::Leave("red")).wait().await.unwrap();
        assert!(members(&node, Whom::Group("red".into())).await.is_empty());
        drop(late);
    }
}

mod groups {
    use super::*;

    #[tokio::test]
    async fn leaving_all_leaves_every_group_and_says_whether_there_is_the_connection() {
        let node = alone();
        let a = come(&node);
        for group in ["red", "blue"] {
            assert!(node.add_to_group(&name(&a), group).wait().await.unwrap());
        }
        assert!(node.remove_from_all_groups(&name(&a)).wait().await.unwrap());
        assert_eq!(node.group_count(), 0);
        node.remove(&a);
        for there in [node.add_to_group(&name(&a), "red"), node.remove_from_all_groups(&name(&a))] {
            assert!(!there.wait().await.unwrap());
        }
    }

    #[tokio::test]
    async fn joining_and_leaving_twice_is_as_once() {
        let node = alone();
        let (a, b) = (come(&node), come(&node));
        for _ in 0..2 {
            node.add_to_group(&name(&a), "red").wait().await.unwrap();
        }
        node.add_to_group(&name(&b), "red").wait().await.unwrap();
        send(&node, &Audience::Group("red".into()), "one");
        assert_eq!((heard(&a), heard(&b)), (vec!["one".into()], vec!["one".into()]));
        assert_eq!(members(&node, Whom::Group("red".into())).await, sorted(names(&[&a, &b])));
        for _ in 0..2 {
            node.remove_from_group(&name(&a), "red").wait().await.unwrap();
        }
        send(&node, &Audience::Group("red".into()), "two");
        assert_eq!((heard(&a), heard(&b)), (vec![], vec!["two".into()]));
        assert_eq!(members(&node, Whom::Group("red".into())).await, names(&[&b]));
    }

    #[tokio::test]
    async fn names_are_compared_byte_by_byte() {
        let node = alone();
        let a = come(&node);
        node.add_to_group(&name(&a), "Red");
        send(&node, &Audience::Groups(vec!["red".into(), "Red ".into(), "".into()]), "other");
        send(&node, &Audience::Group("Red".into()), "mine");
        assert_eq!(heard(&a), ["mine"]);
    }

    #[tokio::test]
    async fn a_group_is_forgotten_with_its_last_member() {
        let node = alone();
        let (a, b) = (come(&node), come(&node));
        for (link, group) in [(&a, "red"), (&a, "blue"), (&b, "red")] {
            node.add_to_group(&name(link), group);
        }
        assert_eq!(node.group_count(), 2);
        assert_eq!(groups_of(&node, name(&a)).await, ["blue", "red"]);
        node.remove_from_group(&name(&a), "blue");
        assert_eq!(node.group_count(), 1);
        node.remove(&a);
        assert_eq!(node.group_count(), 1);
        node.remove(&b);
        assert_eq!(node.group_count(), 0);
        assert!(groups_of(&node, name(&a)).await.is_empty());
    }

    #[tokio::test]
    async fn who_has_left_joins_nothing() {
        let node = alone();
        let a = come(&node);
        node.remove(&a);
        node.add_to_group(&name(&a), "red").wait().await.unwrap();
        node.add_to_group("no id at all", "red").wait().await.unwrap();
        assert_eq!(node.group_count(), 0);
    }

    #[tokio::test]
    async fn ten_thousand_groups_leave_nothing_behind() {
        let node = alone();
        let links: Vec<_> = (0..10).map(|_| come_as(&node, Identity::user("ann"))).collect();
        for link in &links {
            for n in 0..1_000 {
                node.add_to_group(&name(link), &format!("group {n}"));
            }
        }
        assert_eq!((node.connection_count(), node.group_count(), node.users.count()), (10, 1_000, 1));
        links.iter().for_each(|link| node.remove(link));
        assert_eq!((node.connection_count(), node.group_count(), node.users.count()), (0, 0, 0));
        assert!(node.connections.is_empty() && node.all.list().is_empty());
        let held: usize = links.iter().map(|link| Arc::strong_count(link) - 1).sum();
        assert_eq!(held, 0, "nothing holds a connection that has left");
    }
}

mod audiences {
    use super::*;

    /// Ann twice, Bob, and somebody; Ann's first and Bob are red, Bob and somebody are blue.
    fn four(node: &Lifetime) -> [Arc<Link>; 4] {
        let ann = || come_as(node, Identity::user("ann"));
        let links = [ann(), ann(), come_as(node, Identity::user("bob")), come(node)];
        for (index, group) in [(0, "red"), (2, "red"), (2, "blue"), (3, "blue")] {
            node.add_to_group(&name(&links[index]), group);
        }
        links
    }

    /// How many copies each gets.
    #[track_caller]
    fn reaches(audience: impl Fn(&[Arc<Link>; 4]) -> Audience, copies: [usize; 4]) {
        let node = alone();
        let links = four(&node);
        let audience = audience(&links);
        send(&node, &audience, "hello");
        assert_eq!(links.each_ref().map(|link| heard(link).len()), copies, "{audience:?}");
    }

    #[tokio::test]
    async fn everybody() {
        reaches(|_| Audience::All, [1, 1, 1, 1]);
        reaches(|_| Audience::AllExcept(vec![]), [1, 1, 1, 1]);
        reaches(|l| Audience::AllExcept(names(&[&l[1], &l[2]])), [1, 0, 0, 1]);
        reaches(|l| Audience::AllExcept(names(&[&l[0], &l[1], &l[2], &l[3]])), [0, 0, 0, 0]);
    }

    #[tokio::test]
    async fn ids_that_no_connection_has_exclude_nobody() {
        let strangers =
            || (0..20).map(|n| format!("stranger {n}")).chain([name(&Link::detached(Identity::anonymous()))]);
        reaches(|_| Audience::AllExcept(strangers().collect()), [1, 1, 1, 1]);
        reaches(|l| Audience::AllExcept(strangers().chain([name(&l[3])]).collect()), [1, 1, 1, 0]);
    }

    #[tokio::test]
    async fn many_excluded_ones_are_found_too() {
        let others = || (0..20).map(|_| name(&Link::detached(Identity::anonymous())));
        reaches(|l| Audience::AllExcept(others().chain([name(&l[0])]).collect()), [0, 1, 1, 1]);
        reaches(|l| except("red", others().chain([name(&l[0])]).collect()), [0, 0, 1, 0]);
    }

    #[tokio::test]
    async fn connections() {
        reaches(|l| Audience::Connection(name(&l[1])), [0, 1, 0, 0]);
        reaches(|_| Audience::Connection("nobody".into()), [0, 0, 0, 0]);
        reaches(|_| Audience::Connections(vec![]), [0, 0, 0, 0]);
        reaches(|l| Audience::Connections(names(&[&l[1], &l[3], &l[1]])), [0, 1, 0, 1]);
    }

    #[tokio::test]
    async fn groups() {
        reaches(|_| Audience::Group("red".into()), [1, 0, 1, 0]);
        reaches(|_| Audience::Group("green".into()), [0, 0, 0, 0]);
        reaches(|_| Audience::Groups(vec!["red".into(), "green".into(), "blue".into()]), [1, 0, 2, 1]);
        reaches(|l| except("red", names(&[&l[0], &l[3]])), [0, 0, 1, 0]);
        reaches(|l| except("green", names(&[&l[0]])), [0, 0, 0, 0]);
    }

    #[tokio::test]
    async fn users() {
        reaches(|_| Audience::User("ann".into()), [1, 1, 0, 0]);
        reaches(|_| Audience::User("Ann".into()), [0, 0, 0, 0]);
        reaches(|_| Audience::User("".into()), [0, 0, 0, 0]);
        reaches(|_| Audience::Users(vec!["ann".into(), "bob".into(), "ann".into()]), [1, 1, 1, 0]);
    }

    #[tokio::test]
    async fn a_user_is_there_while_one_of_its_connections_is() {
        let node = alone();
        let [a1, a2, ..] = four(&node);
        assert_eq!(members(&node, Whom::User("ann".into())).await, sorted(names(&[&a1, &a2])));
        node.remove(&a1);
        send(&node, &Audience::User("ann".into()), "hello");
        assert_eq!((heard(&a1).len(), heard(&a2).len()), (0, 1));
        assert_eq!(members(&node, Whom::User("ann".into())).await, names(&[&a2]));
        node.remove(&a2);
        node.remove(&a2);
        assert!(members(&node, Whom::User("ann".into())).await.is_empty());
        assert_eq!((node.users.count(), node.connection_count()), (1, 2));
    }

    #[tokio::test]
    async fn users_are_left_out_of_a_group() {
        let users = vec!["ann".into(), "nobody".into()];
        let audience = Audience::GroupExcept { group: "red".into(), connections: Vec::new(), users };
        reaches(|_| audience.clone(), [0, 0, 1, 0]);
    }

    #[tokio::test]
    async fn closing_tells_why_and_leaves_some_out() {
        let node = alone();
        let links = four(&node);
        let closing = Closing {
            whom: Whom::All,
            except: names(&[&links[2]]),
            error: Some("enough".into()),
            allow_reconnect: true,
        };
        node.close(&closing).wait().await.unwrap();
        let told = CloseReason::Requested { error: Some("enough".into()), allow_reconnect: true };
        assert_eq!(links.each_ref().map(|link| link.close_reason() == Some(&told)), [true, true, false, true]);
        // they are gone for whoever asks, though their tasks have not ended yet
        let exists = |whom| node.exists(Existence::Of(whom)).wait();
        assert!(!exists(Whom::Connection(name(&links[0]))).await.unwrap());
        assert!(!exists(Whom::User("ann".into())).await.unwrap());
        assert!(exists(Whom::Group("red".into())).await.unwrap());
        assert_eq!(members(&node, Whom::All).await, names(&[&links[2]]));
    }

    #[tokio::test]
    async fn closing_ends_all_of_a_users_or_a_groups_connections() {
        for (whom, ends) in [
            (Whom::User("ann".into()), [true, true, false, false]),
            (Whom::Group("blue".into()), [false, false, true, true]),
            (Whom::Group("green".into()), [false; 4]),
            (Whom::Connection("nobody".into()), [false; 4]),
        ] {
            let node = alone();
            let links = four(&node);
            close(&node, whom.clone()).await;
            assert_eq!(
                links.each_ref().map(|link| link.close_reason() == Some(&CloseReason::Aborted)),
                ends,
                "{whom:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_message_that_cannot_be_encoded_reaches_nobody() {
        let node = alone();
        let links = four(&node);
        let nan = (f64::NAN,);
        let refused = node.send(&Audience::All, &Outgoing::new("hello", &nan, None));
        assert!(matches!(refused, Err(BackplaneError::Encode(_))), "{refused:?}");
        assert!(links.iter().all(|link| heard(link).is_empty()));
    }
}

mod fan_out {
    use super::*;

    #[tokio::test]
    async fn one_senders_messages_keep_their_order_for_many_receivers() {
        let node = alone();
        let links: Vec<_> = (0..300).map(|_| come(&node)).collect();
        links.iter().for_each(|link| node.add_to_group(&name(link), "all").wait().now());
        let audiences = [Audience::All, Audience::Group("all".into()), Audience::AllExcept(names(&[&links[0]]))];
        thread::scope(|scope| {
            for sender in 0..2 {
                let (node, audiences) = (&node, &audiences);
                scope.spawn(move || {
                    for n in 0..300 {
                        send(node, &audiences[n % 3], &format!("{sender} {n:03}"));
                    }
                });
            }
        });
        for (index, link) in links.iter().enumerate() {
            let heard = heard(link);
            for sender in ["0 ", "1 "] {
                let own: Vec<_> = heard.iter().filter(|text| text.starts_with(sender)).collect();
                assert!(own.is_sorted(), "{own:?}");
                assert_eq!(own.len(), if index == 0 { 200 } else { 300 });
            }
        }
    }

    #[tokio::test]
    async fn who_leaves_while_a_message_is_encoded_is_left_out() {
        struct Leaves(Arc<Lifetime>, Arc<Link>);
        impl Serialize for Leaves {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.0.remove(&self.1);
                serializer.serialize_unit()
            }
        }
        let node = alone();
        let (stays, leaves) = (come(&node), come(&node));
        let arguments = (Leaves(node.clone(), leaves.clone()),);
        node.send(&Audience::All, &Outgoing::new("hello", &arguments, None)).unwrap();
        assert_eq!((heard(&stays).len(), heard(&leaves).len()), (1, 0));
    }

    #[tokio::test]
    async fn who_comes_and_goes_during_a_fan_out_disturbs_nobody() {
        const SENDS: usize = 2_000;
        let node = alone();
        let stay: Vec<_> = (0..200).map(|_| come_as(&node, Identity::user("ann"))).collect();
        stay.iter().for_each(|link| node.add_to_group(&name(link), "room").wait().now());
        let over = AtomicBool::new(false);
        let runtime = Handle::current();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let _runtime = runtime.enter();
                    while !over.load(Relaxed) {
                        let passing = come_as(&node, Identity::user("ann"));
                        node.add_to_group(&name(&passing), "room").wait().now();
                        send(&node, &Audience::Connection(name(&passing)), "welcome");
                        node.remove(&passing);
                        let heard = heard(&passing);
                        let extra = heard.iter().filter(|text| *text == "welcome").count();
                        assert_eq!(extra, 1, "{heard:?}");
                    }
                });
            }
            let audiences = [Audience::All, Audience::Group("room".into()), Audience::User("ann".into())];
            for n in 0..SENDS {
                send(&node, &audiences[n % 3], "news");
            }
            over.store(true, Relaxed);
        });
        assert!(stay.iter().all(|link| heard(link).len() == SENDS));
        assert_eq!((node.connection_count(), node.group_count(), node.users.count()), (200, 1, 1));
    }

    #[tokio::test]
    async fn a_newcomer_is_never_put_where_nobody_looks() {
        let node = alone();
        let runtime = Handle::current();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let _runtime = runtime.enter();
                    for _ in 0..20_000 {
                        let link = come(&node);
                        let is_listed = node.all.links().any(|known| Arc::ptr_eq(&known, &link));
                        assert!(is_listed, "everybody receives what is sent to all");
                        node.remove(&link);
                    }
                });
            }
        });
        assert_eq!(node.connection_count(), 0);
        assert!(node.all.list().is_empty());
    }

    #[tokio::test]
    async fn segments_that_have_become_empty_are_given_back() {
        let node = alone();
        let links: Vec<_> = (0..1_000).map(|_| come(&node)).collect();
        assert_eq!(node.all.list().len(), 8);
        links.iter().skip(1).for_each(|link| node.remove(link));
        assert_eq!((node.connection_count(), node.all.list().len()), (1, 1));
        let more: Vec<_> = (0..127).map(|_| come(&node)).collect();
        assert_eq!(node.all.list().len(), 1, "the room in a segment is used again");
        send(&node, &Audience::All, "hello");
        assert!(links.iter().take(1).chain(&more).all(|link| heard(link).len() == 1));
    }
}

mod questions {
    use super::*;

    fn ask(node: &Lifetime, link: &Link) -> (String, Asked) {
        let (_, asked) = put_question(node, &name(link), "name?", &()).unwrap();
        let question = invocations(link).pop().unwrap();
        assert_eq!(question["target"], "name?");
        (question["invocationId"].as_str().unwrap().to_owned(), asked)
    }

    fn result(json: &str) -> Completed<'_> {
        Completed::Result(RawValue { protocol: Protocol::Json, bytes: json.as_bytes() })
    }

    #[tokio::test]
    async fn every_kind_of_answer_comes_back() {
        let node = alone();
        let a = come(&node);
        for (outcome, want) in [
            (result("[1]"), Answer::Result(Protocol::Json, b"[1]".to_vec())),
            (Completed::Error("no".into()), Answer::Error("no".into())),
            (Completed::Void, Answer::Void),
        ] {
            let (id, asked) = ask(&node, &a);
            assert_eq!(node.complete(&a, &id, &outcome), Ok(true));
            assert_eq!(asked.answer().await, want);
            assert_eq!(node.complete(&a, &id, &outcome), Ok(false), "a second answer has nobody to go to");
        }
        assert_eq!(node.complete(&a, "s99", &Completed::Void), Ok(false));
        assert_eq!(node.questions.count(), 0);
    }

    #[tokio::test]
    async fn several_questions_are_answered_in_any_order() {
        let node = alone();
        let a = come(&node);
        let (first, second) = (ask(&node, &a), ask(&node, &a));
        assert_ne!(first.0, second.0);
        node.complete(&a, &second.0, &result("2")).unwrap();
        node.complete(&a, &first.0, &result("1")).unwrap();
        assert_eq!(first.1.answer().await, Answer::Result(Protocol::Json, b"1".to_vec()));
        assert_eq!(second.1.answer().await, Answer::Result(Protocol::Json, b"2".to_vec()));
    }

    #[tokio::test]
    async fn only_who_was_asked_may_answer() {
        let node = alone();
        let (asked, stranger) = (come(&node), come(&node));
        let (id, answer) = ask(&node, &asked);
        let refused = node.complete(&stranger, &id, &result("1")).unwrap_err();
        let text = format!("Connection ID '{}' is not valid for invocation ID '{id}'.", stranger.id());
        assert_eq!(refused, CloseReason::MisplacedMessage(text.into()));
        node.complete(&asked, &id, &result("2")).unwrap();
        assert_eq!(answer.answer().await, Answer::Result(Protocol::Json, b"2".to_vec()));
    }

    #[tokio::test]
    async fn who_leaves_answers_nothing_any_more() {
        let node = alone();
        let (leaves, stays) = (come(&node), come(&node));
        let (_, lost) = ask(&node, &leaves);
        let (id, kept) = ask(&node, &stays);
        node.remove(&leaves);
        assert_eq!(lost.answer().await, Answer::Disconnected);
        node.complete(&stays, &id, &Completed::Void).unwrap();
        assert_eq!(kept.answer().await, Answer::Void);
    }

    #[tokio::test]
    async fn who_is_ending_is_not_waited_for() {
        let node = alone();
        let a = come(&node);
        a.close(CloseReason::TransportLost);
        let (_, asked) = ask(&node, &a);
        assert_eq!(asked.answer().await, Answer::Disconnected);
    }

    #[tokio::test]
    async fn a_question_that_was_given_up_is_forgotten() {
        let node = alone();
        let a = come(&node);
        let (id, asked) = ask(&node, &a);
        assert_eq!(node.questions.count(), 1);
        drop(asked);
        assert_eq!(node.questions.count(), 0);
        assert_eq!(node.complete(&a, &id, &Completed::Void), Ok(false));
    }

    #[tokio::test]
    async fn nobody_cannot_be_asked() {
        let node = alone();
        let refused = put_question(&node, "nobody", "name?", &()).map(drop);
        assert!(matches!(refused, Err(BackplaneError::NoConnection(id)) if id == "nobody"));
        let a = come(&node);
        assert!(matches!(
            put_question(&node, &name(&a), "name?", &(f64::NAN,)).map(drop),
            Err(BackplaneError::Encode(_))
        ));
        assert_eq!(node.questions.count(), 0);
        assert!(heard(&a).is_empty());
    }
}

mod several_nodes {
    use super::*;

    #[tokio::test]
    async fn a_message_reaches_its_audience_on_every_node() {
        let [one, two, three] = nodes();
        let ann = [come_as(&one, Identity::user("ann")), come_as(&two, Identity::user("ann"))];
        let bob = come_as(&two, Identity::user("bob"));
        for (link, from) in [(&ann[0], &three), (&ann[1], &two), (&bob, &one)] {
            from.add_to_group(&name(link), "room").wait().await.unwrap();
        }
        let others = names(&[&ann[1]]);
        for (audience, copies) in [
            (Audience::All, [1, 1, 1]),
            (Audience::AllExcept(others.clone()), [1, 0, 1]),
            (Audience::Group("room".into()), [1, 1, 1]),
            (except("room", others), [1, 0, 1]),
            (Audience::User("ann".into()), [1, 1, 0]),
            (Audience::Connections(names(&[&ann[0], &bob])), [1, 0, 1]),
        ] {
            for from in [&one, &two, &three] {
                send(from, &audience, "hello");
                let heard = [&ann[0], &ann[1], &bob].map(|link| heard(link).len());
                assert_eq!(heard, copies, "{audience:?}");
            }
        }
        three.remove_from_group(&name(&bob), "room").wait().await.unwrap();
        assert_eq!(two.group_count(), 1);
        assert_eq!(groups_of(&three, name(&bob)).await, Vec::<String>::new());
    }

    #[tokio::test]
    async fn messages_from_one_node_keep_their_order_on_another() {
        let [one, two] = nodes();
        let links: Vec<_> = (0..100).map(|_| come(&two)).collect();
        let want: Vec<String> = (0..100).map(|n| format!("{n:03}")).collect();
        want.iter().for_each(|text| send(&one, &Audience::All, text));
        assert!(links.iter().all(|link| heard(link) == want));
    }

    #[tokio::test]
    async fn a_question_crosses_to_the_node_that_has_the_connection() {
        let [one, two] = nodes();
        let (a, stranger) = (come(&two), come(&two));
        let ask = || {
            let (_, asked) = put_question(&one, &name(&a), "name?", &()).unwrap();
            let question = invocations(&a).pop().unwrap();
            (question["invocationId"].as_str().unwrap().to_owned(), asked)
        };
        let (id, asked) = ask();
        assert!(two.complete(&stranger, &id, &Completed::Void).is_err());
        assert_eq!(
            one.complete(&come(&one), &id, &Completed::Void),
            Ok(false),
            "ids that are guessed elsewhere mean nothing"
        );
        assert_eq!(two.complete(&a, &id, &Completed::Error("no".into())), Ok(true));
        assert_eq!(asked.answer().await, Answer::Error("no".into()));

        let (id, asked) = ask();
        drop(asked);
        assert_eq!(two.questions.count(), 0, "who asked is not there to hear it");
        assert_eq!(two.complete(&a, &id, &Completed::Void), Ok(false));

        let (_, asked) = ask();
        two.remove(&a);
        assert_eq!(asked.answer().await, Answer::Disconnected);
        let ending = come(&two);
        ending.close(CloseReason::TransportLost);
        let (_, asked) = put_question(&one, &name(&ending), "name?", &()).unwrap();
        assert_eq!(asked.answer().await, Answer::Disconnected);
        assert_eq!((one.questions.count(), two.questions.count()), (0, 0));
    }

    #[tokio::test]
    async fn a_question_that_cannot_be_encoded_is_the_askers_error() {
        let [one, two] = nodes();
        let a = come(&two);
        let refused = put_question(&one, &name(&a), "name?", &(f64::NAN,)).map(drop);
        assert!(matches!(refused, Err(BackplaneError::Encode(_))), "{refused:?}");
        assert!(heard(&a).is_empty());
        assert_eq!((one.questions.count(), two.questions.count()), (0, 0));
    }

    #[tokio::test]
    async fn closing_and_queries_cross_nodes() {
        let [one, two] = nodes();
        let ann = [come_as(&one, Identity::user("ann")), come_as(&two, Identity::user("ann"))];
        let bob = come_as(&two, Identity::user("bob"));
        one.add_to_group(&name(&bob), "room").wait().await.unwrap();
        assert_eq!(members(&one, Whom::User("ann".into())).await, sorted(names(&[&ann[0], &ann[1]])));
        assert_eq!(members(&one, Whom::Connection(name(&bob))).await, names(&[&bob]));
        assert_eq!(members(&one, Whom::Group("room".into())).await, names(&[&bob]));
        assert_eq!(groups_of(&one, name(&bob)).await, ["room"]);
        close(&one, Whom::User("ann".into())).await;
        assert!(ann.iter().all(|link| link.is_closed()) && !bob.is_closed());
        close(&one, Whom::Group("room".into())).await;
        assert!(bob.is_closed());
    }

    #[tokio::test]
    async fn a_node_that_has_gone_is_not_missed() {
        let [one, two] = nodes();
        let (a, b) = (come(&one), come(&two));
        drop(two);
        send(&one, &Audience::All, "hello");
        assert_eq!((heard(&a).len(), heard(&b).len()), (1, 0));
        assert!(put_question(&one, &name(&b), "name?", &()).is_err());
        assert!(members(&one, Whom::Connection(name(&b))).await.is_empty());
    }
}

#[tokio::test]
async fn arguments_arrive_as_they_were_given() {
    let node = alone();
    let a = come(&node);
    node.send(&Audience::All, &Outgoing::new("post", &("ann", 1, Some(true)), None)).unwrap();
    assert_eq!(invocations(&a), [json!({"type": 1, "target": "post", "arguments": ["ann", 1, true]})]);
}

/// What one node alone does is done when it is returned.
trait Now {
    fn now(self);
}

impl<F: Future<Output = Result<bool, BackplaneError>>> Now for F {
    fn now(self) {
        futures_util::FutureExt::now_or_never(self).expect("nothing is waited for").unwrap();
    }
}

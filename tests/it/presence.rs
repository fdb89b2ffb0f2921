//! Who is in a group, as clients of a relay hub see it.

use crate::eventually;
use crate::relay::{Site, begin, everything};
use crate::support::PATIENCE;
use crate::support::hub::{Client, PROTOCOLS, Protocol};
use crate::support::rng::Rng;
use hubwire::HubOptions;
use hubwire::relay::{self, RelayOptions};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What a watcher knows, by the changes that it was sent.
#[derive(Default)]
struct Picture {
    here: BTreeMap<String, Value>,
    lists: usize,
}

impl Picture {
    /// Takes one item, insisting that none is missing before it and that it comes once.
    fn take(&mut self, item: &Value) {
        let id = |member: &Value| member["connectionId"].as_str().expect("an id").to_owned();
        let member = &item["member"];
        match item["type"].as_str().expect("a type") {
            "here" => {
                let members = item["members"].as_array().expect("a list");
                self.here = members.iter().map(|member| (id(member), member["userId"].clone())).collect();
                assert_eq!(self.here.len(), members.len(), "nobody is there twice: {item}");
                self.lists += 1;
            }
            "joined" => {
                assert!(self.lists > 0, "the list comes first");
                assert!(self.here.insert(id(member), member["userId"].clone()).is_none(), "{item} was there");
            }
            "left" => assert!(self.here.remove(&id(member)).is_some(), "{item} was not there"),
            other => panic!("a change of type {other}"),
        }
    }

    /// Takes items until it is so.
    async fn follow(&mut self, client: &mut Client, until: impl Fn(&Self) -> bool) {
        while !until(self) {
            let item = client.first("a change", |message| message.kind() == 2).await;
            self.take(&item.json["item"]);
        }
    }

    fn has_user(&self, user: &str) -> bool {
        self.here.values().any(|known| known == user)
    }
}

async fn watch(client: &mut Client, group: &str) -> Picture {
    begin(client, "watch", "PresenceChanges", json!([group])).await;
    let mut picture = Picture::default();
    picture.follow(client, |picture| picture.lists == 1).await;
    picture
}

/// The list that the hub gives.
async fn list(client: &mut Client, group: &str) -> BTreeMap<String, Value> {
    let list = client.call("Presence", json!([group])).await.unwrap();
    let mut picture = Picture::default();
    picture.take(&json!({"type": "here", "members": list}));
    picture.here
}

#[tokio::test]
async fn a_list_and_a_stream_say_who_is_there() {
    for protocol in PROTOCOLS {
        let site = Site::open().await;
        let mut watcher = site.client(protocol, "").await;
        assert_eq!(watcher.call("Presence", json!(["room"])).await, Ok(json!([])));
        let mut ann = site.client(Protocol::Json, "X-User: ann\r\n").await;
        let mut nobody = site.client(Protocol::MessagePack, "").await;
        ann.call("JoinGroup", json!(["room"])).await.unwrap();
        let id = site.hub.context().connections_of_user("ann").await.unwrap().remove(0);
        let member = json!({"connectionId": id, "userId": "ann"});
        assert_eq!(watcher.call("Presence", json!(["room"])).await, Ok(json!([member])));

        begin(&mut watcher, "watch", "PresenceChanges", json!(["room"])).await;
        let item = async |watcher: &mut Client| {
            watcher.first("a change", |message| message.kind() == 2).await.json["item"].clone()
        };
        assert_eq!(item(&mut watcher).await, json!({"type": "here", "members": [member]}));
        nobody.call("JoinGroup", json!(["room"])).await.unwrap();
        let joined = item(&mut watcher).await;
        assert_eq!((&joined["type"], &joined["member"]["userId"]), (&json!("joined"), &Value::Null));
        ann.call("JoinGroup", json!(["other"])).await.unwrap();
        ann.call("LeaveGroup", json!(["room"])).await.unwrap();
        assert_eq!(item(&mut watcher).await, json!({"type": "left", "member": member}));
        nobody.leave().await;
        assert_eq!(item(&mut watcher).await, json!({"type": "left", "member": joined["member"]}));

        watcher.say(json!({"type": 5, "invocationId": "watch"})).await;
        let end = watcher.completion("watch").await;
        assert_eq!(end.error(), "");
        ann.call("JoinGroup", json!(["room"])).await.unwrap();
        assert_eq!(list(&mut watcher, "room").await.len(), 1, "and no item comes any more");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pictures_are_true_when_many_have_come_and_gone() {
    let mut rng = Rng::announced("pictures_are_true_when_many_have_come_and_gone");
    let site = Site::open().await;
    let mut running = Vec::new();
    for n in 0..6 {
        let mut rng = Rng::new(rng.bits());
        let who = format!("X-User: user-{n}\r\n");
        let mut client = site.client(PROTOCOLS[n % 2], &who).await;
        running.push(tokio::spawn(async move {
            for _ in 0..60 {
                let calls: Vec<_> = (0..1 + rng.below(5)).map(|_| ["JoinGroup", "LeaveGroup"][rng.below(2)]).collect();
                let mut ids = Vec::new();
                for call in calls {
                    ids.push(client.start(call, json!(["room"])).await);
                }
                for id in ids {
                    client.outcome(&id).await.unwrap();
                }
            }
            // some stay, some have gone
            if n % 3 == 0 {
                client.leave().await;
                return None;
            }
            client.call("JoinGroup", json!(["room"])).await.unwrap();
            Some(client)
        }));
    }
    let mut watchers = Vec::new();
    for n in 0..6 {
        let mut client = site.client(PROTOCOLS[n % 2], "").await;
        let mut picture = watch(&mut client, "room").await;
        let changes = rng.below(100);
        watchers.push(tokio::spawn(async move {
            for _ in 0..changes {
                if picture.has_user("last") {
                    break;
                }
                let seen = client.first("a change", |message| message.kind() == 2).await;
                picture.take(&seen.json["item"]);
            }
            // another one begins where this one is
            let mut other = watch_again(&mut client).await;
            other.follow(&mut client, |picture| picture.has_user("last")).await;
            (other.here, client)
        }));
    }
    let mut stayed = Vec::new();
    for client in running {
        stayed.extend(client.await.unwrap());
    }
    let members = site.hub.context().membership();
    eventually!(members.members("room").await.unwrap().len() == stayed.len());
    let mut last = site.client(Protocol::Json, "X-User: last\r\n").await;
    last.call("JoinGroup", json!(["room"])).await.unwrap();
    let truth = list(&mut last, "room").await;
    assert_eq!(truth.len(), stayed.len() + 1);
    for watcher in watchers {
        assert_eq!(watcher.await.unwrap().0, truth);
    }
}

/// Ends the stream `watch`, and watches anew.
async fn watch_again(client: &mut Client) -> Picture {
    client.say(json!({"type": 5, "invocationId": "watch"})).await;
    client.first("its end", |message| message.kind() == 3 && message.id() == "watch").await;
    // what had come before the end is of the old stream
    while client.try_first(|message| message.kind() == 2).is_some() {}
    watch(client, "room").await
}

#[tokio::test]
async fn a_watcher_that_does_not_read_is_given_a_list() {
    for protocol in PROTOCOLS {
        let site = Site::open().await;
        let user = "u".repeat(1000);
        let mut crowd = Vec::new();
        for _ in 0..4 {
            crowd.push(site.client(Protocol::Json, &format!("X-User: {user}\r\n")).await);
        }
        let ids = site.hub.context().connections_of_user(&user).await.unwrap();
        let mut watcher = site.client(protocol, "").await;
        let mut picture = watch(&mut watcher, "room").await;
        let groups = site.hub.context().membership();
        // 20 MB of changes, of which the sockets and the hub hold a part
        for n in 0..20_000 {
            let id = &ids[n % 4];
            match n / 4 % 2 {
                0 => groups.add(id, "room").await.unwrap(),
                _ => groups.remove(id, "room").await.unwrap(),
            }
            if n % 100 == 0 {
                tokio::task::yield_now().await;
            }
        }
        let mut last = site.client(Protocol::Json, "X-User: last\r\n").await;
        last.call("JoinGroup", json!(["room"])).await.unwrap();
        picture.follow(&mut watcher, |picture| picture.has_user("last")).await;
        assert!(picture.lists > 1, "the list took the place of changes");
        assert_eq!(picture.here, list(&mut last, "room").await);
        // and it goes on
        groups.add(&ids[0], "room").await.unwrap();
        picture.follow(&mut watcher, |picture| picture.has_user(&user)).await;
    }
}

#[tokio::test]
async fn a_stream_that_never_ends_does_not_hold_back_a_drain() {
    let site = Site::open().await;
    let mut watcher = site.client(Protocol::Json, "").await;
    watch(&mut watcher, "room").await;
    let (is_over, _) = tokio::join!(site.hub.drain(PATIENCE), watcher.until_end());
    assert!(is_over);
}

#[tokio::test]
async fn a_group_that_is_too_large_is_not_shown() {
    let site =
        Site::start(relay::hub(RelayOptions::default().with_permissions(everything()).with_max_members(2))).await;
    let mut clients = Vec::new();
    for protocol in [Protocol::Json, Protocol::MessagePack, Protocol::Json] {
        clients.push(site.client(protocol, "").await);
    }
    for client in &mut clients[..2] {
        client.call("JoinGroup", json!(["room"])).await.unwrap();
    }
    let mut watcher = clients.pop().unwrap();
    assert_eq!(list(&mut watcher, "room").await.len(), 2);
    assert_eq!(watch(&mut watcher, "room").await.here.len(), 2);
    watcher.call("JoinGroup", json!(["room"])).await.unwrap();
    let end = watcher.completion("watch").await;
    assert!(end.error().contains("more than 2 members"), "{end:?}");
    let error = watcher.call("Presence", json!(["room"])).await.unwrap_err();
    assert!(error.contains("more than 2 members"), "{error}");
    begin(&mut watcher, "again", "PresenceChanges", json!(["room"])).await;
    assert!(watcher.completion("again").await.error().contains("more than 2 members"));
}

#[tokio::test]
async fn a_cut_socket_is_no_leaving() {
    let mut options = RelayOptions::default().with_permissions(everything());
    options.hub = HubOptions::default().with_stateful_reconnect(true);
    let site = Site::start(relay::hub(options)).await;
    let mut watcher = site.client(Protocol::Json, "").await;
    let mut picture = watch(&mut watcher, "room").await;
    let (mut client, path) = site.resumable(Protocol::MessagePack, "X-User: ann\r\n").await;
    client.call("JoinGroup", json!(["room"])).await.unwrap();
    begin(&mut client, "watch", "PresenceChanges", json!(["room"])).await;
    let mut own = Picture::default();
    own.follow(&mut client, |picture| picture.lists == 1).await;
    client.peer.reset_on_drop();
    drop(client);
    let mut other = site.client(Protocol::Json, "X-User: bob\r\n").await;
    other.call("JoinGroup", json!(["room"])).await.unwrap();
    picture.follow(&mut watcher, |picture| picture.has_user("bob")).await;
    assert!(picture.has_user("ann"));

    let mut client = Client::resumed(site.socket(&path, "X-User: ann\r\n").await, Protocol::MessagePack);
    client.say(json!({"type": 9, "sequenceId": 3})).await;
    client.say(json!({"type": 8, "sequenceId": 2})).await;
    // its stream goes on, with what happened meanwhile
    let bob = client.first("a change", |message| message.kind() == 2 && message.json["item"]["type"] == "joined").await;
    own.take(&bob.json["item"]);
    assert_eq!(own.here, list(&mut other, "room").await);
    client.leave().await;
    picture.follow(&mut watcher, |picture| !picture.has_user("ann")).await;
    assert_eq!((picture.here.len(), picture.lists), (1, 1));
}

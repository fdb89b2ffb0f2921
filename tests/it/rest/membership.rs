use super::{Service, code, escape};
use crate::eventually;
use crate::support::hub::{Client, Protocol};
use serde_json::json;

/// GET and HEAD agree; the code is in the header, and in the body where there is one.
async fn look(service: &Service, target: &str, status: u16, want: &str) {
    for method in ["GET", "HEAD"] {
        let response = service.ask(method, target).await;
        assert_eq!((response.status, code(&response)), (status, want), "{method} {target}");
        match (method, status) {
            ("GET", 404) => assert_eq!(response.json()["code"], want),
            (_, 200) => assert_eq!(response.header("content-length"), Some("0"), "{method} {target}"),
            _ => assert_ne!(response.header("content-length"), Some("0"), "{method} {target}"),
        }
    }
}

#[tokio::test]
async fn existence_is_a_status_and_its_absence_a_code() {
    let service = Service::start().await;
    let ann = service.client("ann", Protocol::Json).await;
    let id = ann.id.clone();
    for prefix in ["/api/hubs/chat", "/api/v1/hubs/chat"] {
        look(&service, &format!("{prefix}/connections/{id}"), 200, "").await;
        look(&service, &format!("{prefix}/users/ann"), 200, "").await;
        look(&service, &format!("{prefix}/connections/missing"), 404, "Warning.Connection.NotExisted").await;
        look(&service, &format!("{prefix}/users/nobody"), 404, "Warning.User.NotExisted").await;
        look(&service, &format!("{prefix}/groups/none"), 404, "Warning.Group.NotExisted").await;
        look(&service, &format!("{prefix}/users/ann/groups/g"), 404, "Info.User.NotInGroup").await;
        look(&service, &format!("{prefix}/groups/g/users/ann"), 404, "Info.User.NotInGroup").await;
    }
    look(&service, "/api/hubs/none/users/ann", 404, "Warning.User.NotExisted").await;
    assert_eq!(service.ask("PUT", &format!("/api/hubs/chat/groups/g/connections/{id}")).await.status, 200);
    look(&service, "/api/hubs/chat/groups/g", 200, "").await;
    ann.leave().await;
    eventually!(service.ask("GET", "/api/hubs/chat/users/ann").await.status == 404);
    look(&service, "/api/hubs/chat/groups/g", 404, "Warning.Group.NotExisted").await;
    look(&service, &format!("/api/hubs/chat/connections/{id}"), 404, "Warning.Connection.NotExisted").await;
}

#[tokio::test]
async fn connections_join_and_leave_groups_in_every_spelling() {
    let mut service = Service::start().await;
    let mut a = service.client("", Protocol::Json).await;
    let mut b = service.client("", Protocol::MessagePack).await;
    let id = a.id.clone();
    for (at, prefix) in ["/api/hubs/chat", "/api/v1/hubs/chat"].into_iter().enumerate() {
        for path in ["groups/g/connections/ID", "connections/ID/groups/g"] {
            let target = format!("{prefix}/{}", path.replace("ID", &id));
            for method in ["PUT", "PUT"] {
                let response = service.ask(method, &target).await;
                assert_eq!((response.status, response.header("content-length")), (200, Some("0")), "{target}");
            }
            assert_eq!(service.members("g", &mut [&mut a, &mut b]).await, [true, false], "{target}");
            for method in ["DELETE", "DELETE"] {
                assert_eq!(service.ask(method, &target).await.status, 200, "{target}");
            }
            assert_eq!(service.members("g", &mut [&mut a, &mut b]).await, [false, false], "{target}");
            let missing = format!("{prefix}/{}", path.replace("ID", "missing"));
            let response = service.ask("PUT", &missing).await;
            assert_eq!((response.status, code(&response)), (404, "Error.Connection.NotExisted"), "{missing}");
            let body = json!({"code": "Error.Connection.NotExisted", "message": "Connection `missing` is not found.", "target": "Connection"});
            assert_eq!(response.json(), body);
            let response = service.ask("DELETE", &missing).await;
            assert_eq!(response.status, [200, 404][at], "{missing}");
        }
        for group in ["one", "two"] {
            service.ask("PUT", &format!("{prefix}/groups/{group}/connections/{id}")).await;
        }
        for _ in 0..2 {
            assert_eq!(service.ask("DELETE", &format!("{prefix}/connections/{id}/groups")).await.status, 200);
        }
        assert_eq!(service.members("one", &mut [&mut a, &mut b]).await, [false, false]);
        assert_eq!(service.members("two", &mut [&mut a, &mut b]).await, [false, false]);
        assert_eq!(service.ask("DELETE", &format!("{prefix}/connections/missing/groups")).await.status, 200);
    }
}

#[tokio::test]
async fn users_join_and_leave_groups_in_every_spelling() {
    let mut service = Service::start().await;
    let [mut a, mut b, mut c, mut d] = service.four().await;
    for (prefix, added, removed, removed_all) in
        [("/api/hubs/chat", 200, 204, 204), ("/api/v1/hubs/chat", 202, 202, 200)]
    {
        for path in ["users/ann/groups/g", "groups/g/users/ann"] {
            let target = format!("{prefix}/{path}");
            for _ in 0..2 {
                let response = service.ask("PUT", &target).await;
                assert_eq!((response.status, &*response.body), (added, &b""[..]), "{target}");
            }
            let everybody: &mut [&mut Client] = &mut [&mut a, &mut b, &mut c, &mut d];
            assert_eq!(service.members("g", everybody).await, [true, true, false, false], "{target}");
            look(&service, &target, 200, "").await;
            for _ in 0..2 {
                let response = service.ask("DELETE", &target).await;
                assert_eq!((response.status, &*response.body), (removed, &b""[..]), "{target}");
            }
            assert_eq!(service.members("g", everybody).await, [false; 4], "{target}");
            look(&service, &target, 404, "Info.User.NotInGroup").await;
        }
        for group in ["one", "two"] {
            service.ask("PUT", &format!("{prefix}/users/ann/groups/{group}")).await;
        }
        for _ in 0..2 {
            assert_eq!(service.ask("DELETE", &format!("{prefix}/users/ann/groups")).await.status, removed_all);
        }
        for group in ["one", "two"] {
            assert_eq!(service.members(group, &mut [&mut a, &mut b]).await, [false; 2]);
        }
    }
}

#[tokio::test]
async fn what_is_remembered_of_users_has_its_time() {
    let mut service = Service::start().await;
    let group = |name: &str| format!("/api/hubs/chat/users/ann/groups/{}", escape(name));
    // before anybody has connected
    assert_eq!(service.ask("PUT", &group("for good")).await.status, 200);
    assert_eq!(service.ask("PUT", &format!("{}?ttl=0", group("now"))).await.status, 200);
    assert_eq!(service.ask("PUT", &format!("{}?ttl=1", group("short"))).await.status, 200);
    assert_eq!(service.ask("PUT", &format!("{}?TTL=600", group("long"))).await.status, 200);
    assert_eq!(service.ask("PUT", &format!("{}?ttl=18446744073709551616", group("ever"))).await.status, 200);
    look(&service, &group("now"), 404, "Info.User.NotInGroup").await;
    look(&service, &group("long"), 200, "").await;
    look(&service, "/api/hubs/chat/groups/long", 404, "Warning.Group.NotExisted").await;
    let mut early = service.client("ann", Protocol::Json).await;
    assert_eq!(service.ask("PUT", &format!("{}?ttl=0", group("now"))).await.status, 200);
    assert_eq!(service.members("now", &mut [&mut early]).await, [true], "those present join");
    assert_eq!(service.members("for good", &mut [&mut early]).await, [true]);
    // it lapses for those to come; who is in it stays
    assert_eq!(service.ask("PUT", &format!("{}?ttl=1", group("short"))).await.status, 200);
    let first = service.client("ann", Protocol::MessagePack).await;
    assert_eq!(service.ask("GET", &group("short")).await.status, 200);
    first.leave().await;
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    loop {
        let mut late = service.client("ann", Protocol::MessagePack).await;
        let heard = service.members("short", &mut [&mut early, &mut late]).await;
        assert!(heard[0], "who is in it stays");
        let still = heard[1];
        late.leave().await;
        if !still {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "it never lapses");
    }
    let mut late = service.client("ann", Protocol::MessagePack).await;
    for (name, want) in [("for good", true), ("long", true), ("ever", true), ("now", false)] {
        assert_eq!(service.members(name, &mut [&mut late]).await, [want], "{name}");
    }
}

#[tokio::test]
async fn of_groups_without_a_time_the_latest_hundred_are_remembered() {
    let mut service = Service::start().await;
    for n in 0..=100 {
        assert_eq!(service.ask("PUT", &format!("/api/hubs/chat/users/ann/groups/g{n}")).await.status, 200);
    }
    let mut ann = service.client("ann", Protocol::Json).await;
    assert_eq!(service.members("g0", &mut [&mut ann]).await, [false]);
    assert_eq!(service.members("g1", &mut [&mut ann]).await, [true]);
    assert_eq!(service.members("g100", &mut [&mut ann]).await, [true]);
}

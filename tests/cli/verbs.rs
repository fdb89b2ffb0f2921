//! Every verb against a running server: what it prints, and how it ends.

use crate::eventually;
use crate::program::{KEY, Server, file, hubwire, run};
use crate::support::service_peer::{self, Introduction, ServicePeer};
use crate::support::skipped;
use serde_json::{Value, json};
use std::io::Read;
use std::process::{Command, Stdio};

#[tokio::test]
async fn the_line_that_the_preset_prints_makes_a_message_appear() {
    let server = Server::preset();
    eventually!(server.stdout().contains("Ctrl-C stops."));
    let printed = server.stdout();
    let port = server.data.port();
    assert!(printed.contains(&format!("http://localhost:{port}/\n")), "{printed}");
    assert!(printed.contains(&format!("http://{}/", server.admin)), "{printed}");
    let string = format!(
        "Endpoint=http://localhost;Port={port};AccessKey=ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ABCDEFGH;Version=1.0;"
    );
    assert!(printed.contains(&string), "{printed}");
    if Command::new("curl").arg("--version").output().is_err() {
        return skipped("the curl line of the preset", "there is no curl");
    }
    let mut page = server.connect("/hubs/chat").await;
    page.call("JoinGroup", json!(["lobby"])).await.unwrap();
    let line = printed.lines().find(|line| line.trim_start().starts_with("curl ")).expect("a curl line");
    let pasted = run(Command::new("sh").args(["-c", &line.replacen("curl ", "curl -sS --fail-with-body ", 1)]));
    assert_eq!(pasted.code, Some(0), "{pasted:?}");
    assert_eq!(page.target("message").await.arguments(), &json!(["curl", "hello"]));
    page.leave().await;
}

#[tokio::test]
async fn send_reaches_whom_it_names() {
    let server = Server::preset();
    let token = |user: &str| run(&mut server.verb(&["token", "--user", user])).good().trim().to_owned();
    let mut ann = server.connect(&format!("/hubs/chat?access_token={}", token("ann"))).await;
    let mut bob = server.connect(&format!("/hubs/chat?access_token={}", token("bob"))).await;
    bob.call("JoinGroup", json!(["a/b c"])).await.unwrap();
    let people = run(&mut server.verb(&["connections", "--json"])).json();
    let people = people["connections"].as_array().unwrap();
    let id = |user: &str| {
        people.iter().find(|one| one["userId"] == user).unwrap()["connectionId"].as_str().unwrap().to_owned()
    };
    let send = |flags: &[&str], number: &str| {
        let said =
            run(&mut server.verb(&[&["send"], flags, &["message", number, "two words", "[1,{\"a\":null}]"]].concat()));
        assert_eq!(said.good(), "");
    };
    send(&[], "1");
    send(&["--all", "--except", &id("bob")], "2");
    send(&["--user", "ann"], "3");
    send(&["--group", "a/b c"], "4");
    send(&["--connection", &id("bob")], "5");
    send(&["--group", "a/b c", "--except", &id("bob")], "6");
    send(&[], "7");
    for (client, numbers) in [(&mut ann, [1, 2, 3, 7]), (&mut bob, [1, 4, 5, 7])] {
        for number in numbers {
            assert_eq!(client.target("message").await.arguments(), &json!([number, "two words", [1, { "a": null }]]));
        }
    }
    // names may begin with a hyphen, as one id in 64 does
    for whom in [["--connection", "-a"], ["--user", "-b"], ["--group", "--c"], ["--except", "-d"]] {
        send(&whom, "-8");
    }
    assert_eq!(ann.target("message").await.arguments()[0], -8);
    let said = run(&mut server.verb(&["send", "--json", "message"])).json();
    assert_eq!(said, json!({ "sent": true }));
    ann.leave().await;
    bob.leave().await;
}

#[tokio::test]
async fn who_is_connected_and_in_what_is_listed() {
    let server = Server::preset();
    assert_eq!(run(&mut server.verb(&["connections"])).good(), "");
    assert_eq!(run(&mut server.verb(&["groups", "--json"])).json(), json!({ "groups": [] }));
    let mut clients = Vec::new();
    // more than a page
    for number in 0..205 {
        let mut client = server.connect("/hubs/chat").await;
        if number < 2 {
            client.call("JoinGroup", json!(["friends"])).await.unwrap();
        }
        clients.push(client);
    }
    let all = run(&mut server.verb(&["connections", "--json"])).json();
    assert_eq!(all["connections"].as_array().unwrap().len(), 205);
    let table = run(&mut server.verb(&["connections"])).good();
    assert!(table.starts_with("connectionId") && table.lines().count() == 206, "{table}");
    assert!(table.lines().nth(1).unwrap().contains("WebSockets"), "{table}");
    let groups = run(&mut server.verb(&["groups"])).good();
    let rows: Vec<Vec<&str>> = groups.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows, [["name", "connections"], ["friends", "2"]]);
    let friends = run(&mut server.verb(&["groups", "friends", "--json"])).json();
    assert_eq!(friends["connections"].as_array().unwrap().len(), 2);
    for client in clients {
        client.leave().await;
    }
}

#[tokio::test]
async fn application_servers_are_listed_with_what_they_carry() {
    let key = service_peer::KEY;
    let server = Server::configured(&format!("[keys]\nprimary = \"{key}\"\n[service]\nenabled = true\n"));
    let string = format!("Endpoint=http://127.0.0.1:{};AccessKey={key};Version=1.0;", server.data.port());
    let list = |more: &[&str]| {
        let verb = ["connections", "--connection-string", &string, "--hub", "news", "--servers"];
        run(&mut hubwire(&[&verb, more].concat()))
    };
    assert_eq!(list(&["--json"]).json(), json!({ "servers": [] }));
    let connect = |id: &'static str| {
        let introduction = Introduction::of(id);
        async move { ServicePeer::connect(server.data, "news", &introduction).await }
    };
    let _connections = [connect("web02").await, connect("web01").await, connect("web01").await];
    let row = |id: &str, connections: u32| json!({ "serverId": id, "connections": connections, "clients": 0, "leaving": false });
    assert_eq!(list(&["--json"]).json(), json!({ "servers": [row("web01", 2), row("web02", 1)] }));
    let table = list(&[]).good();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["serverId", "connections", "clients", "leaving"]);
    assert_eq!(rows[1..], [["web01", "2", "0", "false"], ["web02", "1", "0", "false"]]);
}

#[tokio::test]
async fn what_reads_no_further_is_no_error() {
    let server = Server::preset();
    let mut listing = server.verb(&["default-config"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(listing.stdout.take());
    let mut said = String::new();
    listing.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((listing.wait().unwrap().code(), &*said), (Some(0), ""));
}

#[test]
fn a_token_says_what_it_was_asked_to() {
    let payload = |token: &str| -> Value {
        use base64::Engine;
        let part = token.trim().split('.').nth(1).unwrap();
        serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    let token = |flags: &[&str]| {
        let mut command = hubwire(&[&["token"], flags].concat());
        let string = format!("Endpoint=https://Hub.example:444;Port=8443;AccessKey={KEY};Version=1.0;");
        command.env("Azure__SignalR__ConnectionString", string);
        run(&mut command).good()
    };
    let client = payload(&token(&[
        "--user",
        "ann",
        "--role",
        "a",
        "--role",
        "b",
        "--claim",
        "tenant=x=y",
        "--expires",
        "10m",
        "--hub",
        "News",
    ]));
    assert_eq!(client["aud"], "https://hub.example/client/?hub=news");
    assert_eq!(
        (&client["asrs.s.uid"], &client["role"], &client["tenant"]),
        (&json!("ann"), &json!(["a", "b"]), &json!("x=y"))
    );
    assert_eq!(client["exp"].as_u64().unwrap() - client["nbf"].as_u64().unwrap(), 600);
    let server = payload(&token(&["--for", "server", "--user", "web01"]));
    assert_eq!((&server["aud"], &server["nameid"]), (&json!("https://hub.example/server/?hub=chat"), &json!("web01")));
    let rest = payload(&token(&["--for", "rest", "--path", "/api/hubs/chat/:send"]));
    assert_eq!(rest["aud"], "https://hub.example/api/hubs/chat/:send");
    let json: Value = serde_json::from_str(&token(&["--json"])).unwrap();
    assert_eq!(payload(json["token"].as_str().unwrap())["exp"], json["expires"]);
}

#[test]
fn a_server_that_is_not_there_is_said_to_be() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    drop(taken);
    let string = format!("Endpoint=http://127.0.0.1;Port={port};AccessKey={KEY};");
    for verb in [&["send", "message"][..], &["connections"], &["groups"], &["drain"]] {
        let said = run(hubwire(verb).args(["--connection-string", &string])).refused(1);
        assert!(said.starts_with(&format!("hubwire: http://127.0.0.1:{port}/ cannot be reached")), "{said}");
    }
    let said = run(&mut hubwire(&["connections", "--connection-string", "Endpoint=nonsense"])).refused(2);
    assert!(said.starts_with("hubwire: --connection-string: "), "{said}");
    let said =
        run(hubwire(&["serve"]).env("Azure__SignalR__ConnectionString", "AccessKey=x;Endpoint=ftp://x")).refused(2);
    assert!(said.starts_with("hubwire: Azure__SignalR__ConnectionString: "), "{said}");
}

#[tokio::test]
async fn a_key_that_is_not_the_servers_is_refused() {
    let server = Server::preset();
    let string = format!("Endpoint=http://127.0.0.1;Port={};AccessKey={KEY};", server.data.port());
    for verb in [&["send", "message"][..], &["connections"], &["groups"], &["drain"]] {
        let said = run(hubwire(verb).args(["--connection-string", &string])).refused(1);
        assert!(said.contains("does not take our key") && !said.contains(KEY), "{said}");
    }
}

#[tokio::test]
async fn the_verbs_find_the_server_of_the_same_configuration() {
    // a port that is free when it is chosen; another program may take it, and the server then says so
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = format!(
        "[server]\nlisten = [\"127.0.0.1:{port}\"]\n[admin]\nlisten = []\n[log]\nformat = \"json\"\n[keys]\nprimary = \"{KEY}\"\n[hubs.news]\nanonymous = true\n"
    );
    let path = file("hubwire.toml", config);
    let path = path.to_str().unwrap();
    let server = Server::start(&mut hubwire(&["serve", "--config", path]));
    let mut client = server.connect("/hubs/news").await;
    run(&mut hubwire(&["send", "--config", path, "--hub", "news", "message"])).good();
    client.target("message").await;
    client.leave().await;
}

#[tokio::test]
async fn health_is_asked_by_the_program_itself() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = [\"0.0.0.0:{port}\"]\n[log]\nformat = \"json\"\n[hubs.chat]\nanonymous = true\n"
    );
    let path = file("hubwire.toml", config);
    let path = path.to_str().unwrap();
    let check = |flags: &[&str]| run(&mut hubwire(&[&["healthcheck", "--config", path], flags].concat()));
    assert!(check(&[]).refused(1).contains("cannot be reached"));
    let server = Server::start(&mut hubwire(&["serve", "--config", path]));
    assert_eq!(check(&[]).good(), "");
    assert_eq!(check(&["--ready"]).good(), "");
    drop(server);
    assert!(check(&["--ready"]).refused(1).contains("cannot be reached"));
}

#[test]
fn completions_and_help_are_printed() {
    for (shell, word) in [("bash", "complete "), ("zsh", "#compdef hubwire"), ("fish", "complete -c hubwire")] {
        let script = run(&mut hubwire(&["completions", shell])).good();
        assert!(script.contains(word) && script.contains("check-config"), "{shell}");
    }
    let bash = run(&mut hubwire(&["completions", "bash"])).good();
    let path = file("hubwire.bash", bash);
    match Command::new("bash").arg("-n").arg(path).output() {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(_) => skipped("the completions for bash", "there is no bash"),
    }
    let help = run(&mut hubwire(&["--help"])).good();
    for verb in [
        "serve",
        "check-config",
        "default-config",
        "token",
        "send",
        "connections",
        "groups",
        "drain",
        "healthcheck",
        "completions",
    ] {
        assert!(help.contains(&format!("\n  {verb}")), "{verb}: {help}");
        run(&mut hubwire(&[verb, "--help"])).good();
    }
    assert_eq!(run(&mut hubwire(&["--version"])).good(), concat!("hubwire ", env!("CARGO_PKG_VERSION"), "\n"));
}

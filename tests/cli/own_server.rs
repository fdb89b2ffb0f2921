//! The verbs and the server of the same configuration.

use crate::operation::Authority;
use crate::program::{KEY, Server, file, hubwire, run};
use crate::support::{skipped, within};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use std::net::TcpListener;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A port that is free when it is chosen; another program may take it, and the server then says so.
fn port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn audience(token: &str) -> String {
    let part = URL_SAFE_NO_PAD.decode(token.trim().split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice::<Value>(&part).unwrap()["aud"].as_str().unwrap().to_owned()
}

fn configured(server: &str) -> (String, String) {
    let text = format!(
        "[server]\n{server}\n[admin]\nlisten = []\n[log]\nformat = \"json\"\n[keys]\nprimary = \"{KEY}\"\n[hubs.chat]\nanonymous = true\n"
    );
    let path = file("hubwire.toml", &text).to_str().unwrap().to_owned();
    (path, text)
}

#[tokio::test]
async fn verbs_go_to_this_machine_whatever_the_public_address_is() {
    let port = port();
    let (path, _) = configured(&format!("listen = \"0.0.0.0:{port}\"\npublic_url = \"https://hub.invalid\""));
    let mut server = Server::start(&mut hubwire(&["serve", "--config", &path]));
    let verb = |arguments: &[&str]| run(hubwire(arguments).args(["--config", &path]));
    verb(&["send", "message"]).good();
    verb(&["connections"]).good();
    verb(&["groups"]).good();
    assert_eq!(audience(&verb(&["token"]).good()), "https://hub.invalid/client/?hub=chat");
    let said = verb(&["drain"]).good();
    assert!(said.starts_with(&format!("http://127.0.0.1:{port}/ drains")), "{said}");
    assert_eq!(server.ended().await.code(), Some(0));
}

#[tokio::test]
async fn verbs_trust_the_certificate_of_the_configuration_and_no_other() {
    let (authority, other) = (Authority::new(), Authority::new());
    let port = port();
    let with = |authority: &Authority| {
        let (certificate, key) = (&authority.certificate, &authority.key);
        configured(&format!("listen = \"127.0.0.1:{port}\"\ntls_certificate = {certificate:?}\ntls_key = {key:?}")).0
    };
    let path = with(&authority);
    let server = Server::start(&mut hubwire(&["serve", "--config", &path]));
    run(&mut hubwire(&["groups", "--config", &path])).good();
    let said = run(&mut hubwire(&["groups", "--config", &with(&other)])).refused(1);
    assert!(said.contains("cannot be reached") && said.contains("is not the one that is configured here"), "{said}");

    let string = format!("Endpoint=https://localhost;Port={port};AccessKey={KEY};Version=1.0;");
    let groups = |flags: &[&str]| run(hubwire(&["groups", "--connection-string", &string]).args(flags));
    let said = groups(&[]).refused(1);
    assert!(said.contains("name its authority by --ca"), "{said}");
    groups(&["--ca", other.certificate.to_str().unwrap()]).refused(1);
    groups(&["--ca", authority.certificate.to_str().unwrap()]).good();
    let said = groups(&["--ca", "/nowhere/ca.pem"]).refused(1);
    assert!(said.starts_with("hubwire: --ca: /nowhere/ca.pem cannot be read"), "{said}");
    drop(server);
}

#[tokio::test]
async fn the_api_knows_that_it_is_asked_over_tls() {
    let authority = Authority::new();
    let (certificate, key) = (&authority.certificate, &authority.key);
    let (path, _) =
        configured(&format!("listen = \"127.0.0.1:{}\"\ntls_certificate = {certificate:?}\ntls_key = {key:?}", port()));
    let server = Server::start(&mut hubwire(&["serve", "--config", &path]));
    let call = "/api/hubs/chat/:generateToken";
    let token = run(&mut hubwire(&["token", "--config", &path, "--for", "rest", "--path", call])).good();
    let mut stream = authority.connect(&server).await.unwrap();
    let head = format!("POST {call} HTTP/1.1\r\nHost: hub.example\r\nContent-Length: 0\r\nConnection: close\r\n");
    stream.write_all(format!("{head}Authorization: Bearer {}\r\n\r\n", token.trim()).as_bytes()).await.unwrap();
    let mut answer = String::new();
    // a server over TLS may hang up without a goodbye
    let _ = within("an answer", stream.read_to_string(&mut answer)).await;
    let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap_or_default()).expect(&answer);
    assert!(audience(body["token"].as_str().unwrap()).starts_with("https://hub.example/"), "{answer}");
}

#[tokio::test]
async fn health_is_asked_whatever_is_wrong_with_the_rest() {
    let server = Server::preset();
    let config = format!(
        "[server]\ntls_certificate = \"/nowhere\"\ntls_key = \"/nowhere\"\nunknown = 1\n[admin]\nlisten = \"{}\"\n[keys]\nprimary_file = \"/nowhere\"\n",
        server.admin
    );
    let path = file("hubwire.toml", config);
    let check = |variables: &[(&str, &str)]| {
        run(hubwire(&["healthcheck", "--config", path.to_str().unwrap()]).envs(variables.iter().copied()))
    };
    check(&[]).good();
    let said = check(&[("HUBWIRE_ADMIN__LISTEN", "here")]).refused(1);
    assert!(said.starts_with("hubwire: HUBWIRE_ADMIN__LISTEN: `admin.listen`: `here` is no address"), "{said}");
    let said = check(&[("HUBWIRE_ADMIN__LISTN", "here")]).refused(1);
    assert!(said.starts_with("hubwire: HUBWIRE_ADMIN__LISTN: unknown key `listn` in [admin]"), "{said}");
}

#[tokio::test]
async fn both_kinds_of_address_can_be_served_everywhere() {
    if TcpListener::bind("[::1]:0").is_err() {
        return skipped("IPv4 and IPv6 on one port", "there is no IPv6");
    }
    let port = port();
    let (path, _) = configured(&format!("listen = [\"0.0.0.0:{port}\", \"[::]:{port}\"]"));
    let server = Server::start(&mut hubwire(&["serve", "--config", &path]));
    for address in [format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
        assert_eq!(crate::program::get(address.parse().unwrap(), "/api/health").await.status, 200);
    }
    drop(server);
    // by itself it is still both
    let (path, _) = configured(&format!("listen = \"[::]:{port}\""));
    let server = Server::start(&mut hubwire(&["serve", "--config", &path]));
    assert_eq!(crate::program::get(format!("127.0.0.1:{port}").parse().unwrap(), "/api/health").await.status, 200);
    drop(server);
}

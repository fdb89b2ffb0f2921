//! Keys: which one counts, where it may be served, and that it is not shown.

use crate::eventually;
use crate::program::{KEY, Server, file, get, hubwire, run};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

const WELL_KNOWN: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ABCDEFGH";
const OTHER: &str = "another key of this test, of more than 32 bytes";

fn check(config: &str) -> Command {
    let path = file("hubwire.toml", config);
    hubwire(&["check-config", "--json", "--config", path.to_str().unwrap()])
}

fn string(server: &Server, key: &str) -> String {
    format!("Endpoint=http://127.0.0.1;Port={};AccessKey={key};Version=1.0;", server.data.port())
}

fn preset_with(variables: &[(&str, &str)]) -> Server {
    let mut command = hubwire(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "json"]);
    Server::start(command.envs(variables.iter().copied()))
}

#[tokio::test]
async fn the_preset_shows_no_key_but_the_one_that_everybody_knows() {
    let of_others = format!("Endpoint=https://hub.example;AccessKey={KEY};");
    for variable in [("Azure__SignalR__ConnectionString", &*of_others), ("HUBWIRE_KEYS__PRIMARY", KEY)] {
        let server = preset_with(&[variable]);
        let with_key = string(&server, KEY);
        eventually!(server.stdout().contains("Ctrl-C stops."));
        let printed = server.stdout();
        assert!(!printed.contains(KEY) && !printed.contains("Bearer ey"), "{printed}");
        let string = format!("{}  (your own key", string(&server, "KEY").replace("127.0.0.1", "localhost"));
        assert!(printed.contains(&string), "{printed}");
        assert!(printed.contains("$(hubwire token --for rest --path /api/hubs/chat/groups/lobby/:send)"), "{printed}");
        assert_eq!(get(server.data, "/demo.json").await.json()["token"], Value::Null);
        run(hubwire(&["groups"]).args(["--connection-string", &with_key])).good();
    }
}

#[tokio::test]
async fn a_configured_key_goes_over_that_of_the_connection_string() {
    let of_others = format!("Endpoint=https://hub.example;AccessKey={OTHER};");
    let server = preset_with(&[("Azure__SignalR__ConnectionString", &of_others), ("HUBWIRE_KEYS__PRIMARY", KEY)]);
    let groups = |key| run(hubwire(&["groups"]).args(["--connection-string", &string(&server, key)]));
    groups(KEY).good();
    assert!(groups(OTHER).refused(1).contains("does not take our key"));
}

#[test]
fn a_secret_of_a_higher_layer_takes_the_place_of_its_sibling() {
    let key = file("key", KEY);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let key = key.to_str().unwrap();
    let keys = |command: &mut Command| run(command).json()["accessKeys"].clone();
    let in_file = "[keys]\nprimary_file = \"/nowhere\"\nsecondary_file = \"/nowhere\"\n[hubs.chat]\n";
    let variables = [("HUBWIRE_KEYS__PRIMARY", KEY), ("HUBWIRE_KEYS__SECONDARY", OTHER)];
    assert_eq!(keys(check(in_file).envs(variables)), 2);
    let written = format!("[keys]\nprimary = \"{KEY}\"\n[hubs.chat]\n");
    assert_eq!(keys(check(&written).env("HUBWIRE_KEYS__PRIMARY_FILE", key)), 1);
    assert_eq!(keys(hubwire(&["check-config", "--json"]).env("HUBWIRE_KEYS__PRIMARY_FILE", key)), 1);
    let both = [("HUBWIRE_KEYS__PRIMARY", KEY), ("HUBWIRE_KEYS__PRIMARY_FILE", key)];
    let said = run(check("[hubs.chat]\n").envs(both)).refused(1);
    assert!(said.contains("`keys.primary` and `keys.primary_file` are both given"), "{said}");

    let issuer =
        "[hubs.Secret.issuer]\nsecret_file = \"/nowhere\"\naudiences = [\"a\"]\n[hubs.secret_file]\nanonymous = true\n";
    let json = run(check(issuer).env("HUBWIRE_HUBS__SECRET__ISSUER__SECRET", KEY)).json();
    assert_eq!(json["hubs"].as_object().unwrap().len(), 2, "hubs may have such names");
}

#[test]
fn variables_reach_hubs_whose_names_have_capitals() {
    let config = "[hubs.ChatHub]\nanonymous = true\npath = \"/chat\"\n";
    let json = run(check(config).env("HUBWIRE_HUBS__CHATHUB__PATH", "/live")).json();
    assert_eq!(json["hubs"], json!({ "chathub": { "path": "/live", "anonymous": true, "maxConnections": 65536 } }));
}

#[test]
fn what_is_wrong_is_said_without_a_secret() {
    for config in [
        "keys = \"the-secret\"\n",
        "[keys]\nprimary = [\"the-secret\"]\n",
        "[keys]\nprimary_file = [\"the-secret\"]\n",
        "[keys.primary]\nvalue = \"the-secret\"\n",
        "[keys]\nprimary = \"the-secret, long enough, but; with that\"\n",
        "[hubs]\nchat = \"the-secret\"\n",
        "[hubs.chat]\nissuer = \"the-secret\"\n",
        "[hubs.chat.issuer]\naudiences = \"the-secret\"\n",
        "[server]\npublic_url = \"https://me:the-secret@hub.example\"\n",
        "[keys]\nprimary = \"the-secret\n",
    ] {
        let said = run(&mut check(config)).refused(1);
        assert!(said.contains("line ") && !said.contains("the-secret"), "{said}");
    }
    let said = run(hubwire(&["check-config"]).env("HUBWIRE_KEYS__PRIMARY", "[\"the-secret\"]")).refused(1);
    assert!(said.starts_with("hubwire: HUBWIRE_KEYS__PRIMARY: ") && !said.contains("the-secret"), "{said}");
    let said = run(&mut check("keys = \"the-secret\"\n")).refused(1);
    assert!(said.ends_with("`keys` has to be a section: write [keys] and its keys below"), "{said}");
    let said =
        run(hubwire(&["check-config"]).env("HUBWIRE_KEYS__PRIMARY", "a;b, and more than 32 bytes of that")).refused(1);
    assert!(said.contains("access key 1 has a `;` in it") && !said.contains("a;b"), "{said}");
}

#[test]
fn what_anybody_can_sign_for_is_not_for_others() {
    let well_known = format!("[keys]\nprimary = \"{WELL_KNOWN}\"\n[hubs.chat]\n");
    let issuer = |server: &str| {
        format!("[server]\n{server}\n[hubs.chat.issuer]\naudiences = [\"chat\"]\nsecret = \"{WELL_KNOWN}\"\n")
    };
    for (config, said) in [
        (
            issuer("listen = [\"0.0.0.0:0\"]"),
            "line 2: 0.0.0.0:0 can be reached by others, and `secret` of [hubs.chat.issuer]",
        ),
        (
            issuer("public_url = \"https://hub.example\""),
            "line 2: `server.public_url` says that others come by https://hub.example",
        ),
        (
            format!("[server]\npublic_url = \"https://hub.example\"\n{well_known}"),
            "line 2: `server.public_url` says that others come by",
        ),
        (
            format!("[server]\ntrusted_proxies = [\"10.0.0.1\"]\n{well_known}"),
            "line 2: `server.trusted_proxies` says that a proxy",
        ),
    ] {
        let found = run(&mut check(&config)).refused(1);
        assert!(found.contains(said) && !found.contains(WELL_KNOWN), "{found}");
    }
    let said = run(&mut hubwire(&["check-config", "--public-url", "https://hub.example"])).refused(1);
    assert!(said.starts_with("hubwire: --public-url: `server.public_url` says"), "{said}");
    let mut own = hubwire(&["check-config"]);
    let variables = [("HUBWIRE_KEYS__PRIMARY", KEY), ("HUBWIRE_SERVER__TRUSTED_PROXIES", "[\"10.0.0.1\"]")];
    let said = run(own.envs(variables)).refused(1);
    assert!(said.contains("HUBWIRE_SERVER__TRUSTED_PROXIES") && said.contains("open to everybody"), "{said}");
    for host in ["localhost:8888", "127.0.0.1", "[::1]:1"] {
        run(&mut hubwire(&["check-config", "--public-url", &format!("http://{host}")])).good();
    }
    run(&mut check(&issuer("listen = \"127.0.0.1:0\""))).good();
}

#[test]
fn secrets_that_a_platform_protects_are_not_warned_about() {
    let key = file("key", KEY);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let config = format!(
        "[keys]\nprimary_file = {key:?}\n[hubs.chat]\npermissions = [{{ who = \"authenticated\", may = \"*\" }}]\n"
    );
    assert_eq!(run(&mut check(&config)).json()["warnings"].as_array().unwrap().len(), 1);
    let guarded = run(check(&config).env("CREDENTIALS_DIRECTORY", key.parent().unwrap())).json();
    assert_eq!(guarded["warnings"], json!([]));
}

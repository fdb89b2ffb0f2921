//! What can be wrong with a configuration, one by one, and which part of it counts.

use crate::program::{KEY, Server, file, get, hubwire, run};
use serde_json::json;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

/// What `check-config` says about a file that is wrong.
fn wrong(config: &str) -> String {
    let path = file("hubwire.toml", config);
    let said = run(&mut hubwire(&["check-config", "--config", path.to_str().unwrap()])).refused(1);
    said.replace(path.to_str().unwrap(), "FILE").trim_start_matches("hubwire: ").to_owned()
}

#[test]
fn a_typo_is_named_with_what_was_meant_and_its_line() {
    for (config, said) in [
        (
            "[server]\nlisten = []\nlisen = []\n",
            "FILE, line 3: unknown key `lisen` in [server]: did you mean `listen`?",
        ),
        ("[sever]\n", "FILE, line 1: unknown key `sever` at the top: did you mean `server`?"),
        (
            "\n\nport = 1\n",
            "FILE, line 3: unknown key `port` at the top: known are `server`, `admin`, `log`, `keys`, `cors`, `rest`, `service`, `hubs`",
        ),
        (
            "[hubs.chat.connection]\n# a comment\nclient_time_out = \"30s\"\n",
            "FILE, line 3: unknown key `client_time_out` in [hubs.chat.connection]: did you mean `client_timeout`?",
        ),
        (
            "[server.limits]\nmax_conections = 1\n",
            "FILE, line 2: unknown key `max_conections` in [server.limits]: did you mean `max_connections`?",
        ),
        (
            "[[hubs.chat.permissions]]\nwho = \"everyone\"\nmay = \"*\"\n[[hubs.chat.permissions]]\nwho = \"everyone\"\nmay = \"*\"\nname = \"x\"\n",
            "FILE, line 4: unknown key `name` in [hubs.chat.permissions.1]: did you mean `names`?",
        ),
        (
            "[hubs.chat]\nanonymous = true\npermissions = [{ who = \"everyone\", may = \"jion\" }]\n",
            "FILE, line 3: [[hubs.chat.permissions]]: `may`: `jion` is nothing that one may do: did you mean `join`?",
        ),
    ] {
        assert_eq!(wrong(config), said);
    }
}

#[test]
fn a_wrong_value_names_its_line_and_what_is_allowed() {
    for (config, said) in [
        ("[server]\ndrain_timeout = 5\n", "FILE, line 2: `server.drain_timeout` is "),
        (
            "[server]\n\ndrain_timeout = \"0s\"\n",
            "FILE, line 3: `server.drain_timeout` is string \"0\", and has to be a duration that is longer than nothing",
        ),
        (
            "[server]\nlisten = [\"here\"]\n",
            "FILE, line 2: `server.listen`: `here` is no address: write an IP address and a port",
        ),
        (
            "[server]\nlisten = 8888\n",
            "FILE, line 2: `server.listen` is signed int `8888`, and has to be an address such as \"127.0.0.1:8888\", or a list of such",
        ),
        (
            "[server]\nlisten = \"here\"\n",
            "FILE, line 2: `server.listen`: `here` is no address: write an IP address and a port",
        ),
        (
            "[cors]\norigins = \"https://app.example\"\n",
            "FILE, line 2: `cors.origins` has to be a list such as [\"...\"]",
        ),
        (
            "[hubs.chat]\nanonymous = true\npermissions = [\"join\"]\n",
            "FILE, line 3: `hubs.chat.permissions.0` has to be a list of entries such as { who = \"authenticated\", may = \"join\" }",
        ),
        ("log = \"debug\"\n", "FILE, line 1: `log` has to be a section: write [log] and its keys below"),
        ("hubs = \"chat\"\n", "FILE, line 1: `hubs` has to be a section: write [hubs] and its keys below"),
        (
            "[hubs.Chat]\nanonymous = true\n[hubs.chat]\nanonymous = true\n",
            "FILE, line 3: [hubs.chat] and [hubs.Chat] have the same name: case does not count",
        ),
        (
            "[hubs.chat]\nanonymous = true\npermissions = [{ who = \"everyone\", may = [\"join\", \"send-to-all\"], names = \"room-*\" }]\n",
            "FILE, line 3: [[hubs.chat.permissions]]: `names`: `send-to-all` is about no name, so this would grant nothing",
        ),
        (
            "[hubs.ChatHub]\nanonymous = true\npath = \"/api/x\"\n",
            "FILE, line 3: [hubs.chathub]: `path`: what is below /api is the server's own",
        ),
        ("[log]\nformat = \"xml\"\n", "FILE, line 2: `log.format` cannot be `xml`: allowed are `human`, `json`"),
        ("[log]\nfilter = \"hubwire=loud\"\n", "FILE, line 2: `log.filter` cannot be read"),
        (
            "[rest]\nbody_limit = \"1 meter\"\n",
            "FILE, line 2: `rest.body_limit` is string \"1 meter\", and has to be a size such as",
        ),
        (
            "[hubs.chat.connection]\nslow_receiver = \"wait\"\n",
            "FILE, line 2: `hubs.chat.connection.slow_receiver` cannot be `wait`: allowed are `disconnect`, `drop-oldest`, `conflate`",
        ),
        (
            "[hubs.chat.transport]\ntransports = [\"Pigeons\"]\n",
            "FILE, line 2: `hubs.chat.transport.transports.0` cannot be `Pigeons`: allowed are `WebSockets`, `ServerSentEvents`, `LongPolling`",
        ),
        (
            "[hubs.chat]\nanonymous = true\npath = \"/api/x\"\n",
            "FILE, line 3: [hubs.chat]: `path`: what is below /api is the server's own",
        ),
        ("[hubs.\"9 lives\"]\n", "FILE, line 1: `9 lives` is no name of a hub"),
        (
            "[hubs.a]\nanonymous = true\n[hubs.b]\nanonymous = true\npath = \"/hubs/a\"\n",
            "FILE, line 3: [hubs.b] and [hubs.a] have the same name or path",
        ),
        (
            "[hubs.a]\nanonymous = true\n[hubs.b]\nanonymous = true\npath = \"/hubs/a/\"\n",
            "FILE, line 3: [hubs.b] and [hubs.a] have the same name or path",
        ),
        (
            "[hubs.a]\nanonymous = true\npath = \"/x/negotiate\"\n",
            "FILE, line 3: [hubs.a]: `path`: /negotiate at the end is where clients negotiate or refresh",
        ),
        (
            "[hubs.a]\nanonymous = true\n[hubs.a.transport]\ntransports = []\n",
            "FILE, line 4: [hubs.a]: `transport.transports` has to allow one at least",
        ),
        (
            "[hubs.a]\nanonymous = true\nmaximum_authentication = \"1h\"\n",
            "FILE, line 3: [hubs.a]: `maximum_authentication` needs `authentication_refresh = true`",
        ),
        ("[cors]\norigins = [\"app.example\"]\n", "FILE, line 2: `cors.origins`: `app.example` is no origin"),
        (
            "[server]\npublic_url = \"hub.example\"\n",
            "FILE, line 2: `server.public_url`: `hub.example` has to be scheme and host",
        ),
        ("[hubs.chat]\n", "FILE, line 1: [hubs.chat]: nobody could connect, as there is no access key"),
        ("server = = 1\n", "FILE, line 1: is no TOML"),
    ] {
        let found = wrong(config);
        assert!(found.starts_with(said), "{found}\n{said}");
    }
}

#[test]
fn variables_and_flags_are_named_by_their_own_names() {
    let said = run(hubwire(&["check-config"]).env("HUBWIRE_SERVER__DRAIN_TIMOUT", "5s")).refused(1);
    assert_eq!(
        said,
        "hubwire: HUBWIRE_SERVER__DRAIN_TIMOUT: unknown key `drain_timout` in [server]: did you mean `drain_timeout`?"
    );
    let said = run(hubwire(&["check-config"]).env("HUBWIRE_LOG__FORMAT", "xml")).refused(1);
    assert!(said.starts_with("hubwire: HUBWIRE_LOG__FORMAT: `log.format` cannot be `xml`"), "{said}");
    let said = run(&mut hubwire(&["check-config", "--drain-timeout", "long"])).refused(1);
    assert!(said.starts_with("hubwire: --drain-timeout: `server.drain_timeout` is string \"long\""), "{said}");
    // what is no setting, as container platforms make them of a service's name
    run(hubwire(&["check-config"]).env("HUBWIRE_PORT", "tcp://10.0.0.1:8888").env("HUBWIRE_SERVICE_HOST", "x")).good();
}

#[test]
fn flags_stand_over_variables_and_these_over_the_file() {
    let path = file(
        "hubwire.toml",
        format!(
            "[server]\nlisten = [\"127.0.0.1:1001\"]\n[admin]\nlisten = [\"127.0.0.1:1002\"]\n[keys]\nprimary = \"{KEY}\"\n[hubs.chat]\n"
        ),
    );
    let check = |flags: &[&str]| {
        let mut command = hubwire(&["check-config", "--json", "--config", path.to_str().unwrap()]);
        command.args(flags);
        command
    };
    let addresses = |command: &mut std::process::Command| {
        let json = run(command).json();
        json!([json["listen"][0], json["admin"][0]])
    };
    assert_eq!(addresses(&mut check(&[])), json!(["127.0.0.1:1001", "127.0.0.1:1002"]));
    let variable = |command: &mut std::process::Command| {
        command
            .env("HUBWIRE_SERVER__LISTEN", "[\"127.0.0.1:2001\"]")
            .env("HUBWIRE_ADMIN__LISTEN", "[\"127.0.0.1:2002\"]");
    };
    let mut command = check(&[]);
    variable(&mut command);
    assert_eq!(addresses(&mut command), json!(["127.0.0.1:2001", "127.0.0.1:2002"]));
    let mut command = check(&["--listen", "127.0.0.1:3001"]);
    variable(&mut command);
    assert_eq!(addresses(&mut command), json!(["127.0.0.1:3001", "127.0.0.1:2002"]));
    // the file may be named by a variable, too
    let json = run(hubwire(&["check-config", "--json"]).env("HUBWIRE_CONFIG", &path)).json();
    assert_eq!(json["listen"], json!(["127.0.0.1:1001"]));
}

#[test]
fn a_key_of_digits_is_a_text_wherever_it_is_written() {
    let digits = "01234567890123456789012345678901234567890";
    let run = run(hubwire(&["check-config", "--json"])
        .env("HUBWIRE_KEYS__PRIMARY", digits)
        .env("HUBWIRE_HUBS__CHAT__MAX_GROUPS", "7"))
    .json();
    assert_eq!((&run["accessKeys"], &run["preset"]), (&json!(1), &json!(false)));
}

#[test]
fn the_key_of_the_emulator_stays_on_this_machine() {
    for (command, place) in [
        (hubwire(&["serve", "--listen", "0.0.0.0:0"]), "--listen"),
        (hubwire(&["serve", "--listen", "[::]:0"]), "--listen"),
        (
            {
                let mut command = hubwire(&["serve"]);
                command.env("HUBWIRE_SERVER__LISTEN", "[\"0.0.0.0:0\"]");
                command
            },
            "HUBWIRE_SERVER__LISTEN",
        ),
        (
            {
                let config = "[server]\nlisten = [\"127.0.0.1:0\", \"0.0.0.0:0\"]\n[keys]\nprimary = \"another key, of more than 32 bytes in all\"\n\
                              secondary = \"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ABCDEFGH\"\n[hubs.chat]\n";
                hubwire(&["serve", "--config", file("hubwire.toml", config).to_str().unwrap()])
            },
            "line 2",
        ),
        (
            {
                let mut command = hubwire(&["serve", "--listen", "0.0.0.0:0"]);
                command.env("HUBWIRE_HUBS__CHAT__PATH", "/chat");
                let key = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ABCDEFGH";
                command.env("Azure__SignalR__ConnectionString", format!("Endpoint=http://localhost;AccessKey={key};"));
                command
            },
            "--listen",
        ),
    ] {
        let mut command = command;
        let said = run(&mut command).refused(1);
        assert!(said.contains(place) && said.contains("the well-known one of the emulator"), "{said}");
        assert!(!said.contains("ABCDEF"), "{said}");
    }
    // with a key of one's own the preset is still open to everybody
    let mut own = hubwire(&["serve", "--listen", "0.0.0.0:0"]);
    let said = run(own.env("HUBWIRE_KEYS__PRIMARY", KEY)).refused(1);
    assert!(said.contains("the development preset is open to everybody"), "{said}");
}

#[test]
fn keys_that_cannot_be_used_are_refused_and_never_shown() {
    let with = |keys: &str| wrong(&format!("[keys]\n{keys}\n[hubs.chat]\n"));
    let said = with("primary = \"far too short\"");
    assert!(said.starts_with("FILE, line 2: [keys]: access key 1 has 13 bytes: take one of at least 32"), "{said}");
    assert!(!said.contains("far too short"));
    let said = with("primary = 12345678901234567");
    assert_eq!(said, "FILE, line 2: `keys.primary` has to be a text in quotes");
    let said = with(&format!("secondary = \"{KEY}\""));
    assert!(said.starts_with("FILE, line 2: `keys.secondary` needs `keys.primary`"), "{said}");

    let key = file("key", format!("{KEY}\n"));
    let path = key.to_str().unwrap();
    let said = with(&format!("primary = \"{KEY}\"\nprimary_file = \"{path}\""));
    assert_eq!(said, "FILE, line 3: `keys.primary` and `keys.primary_file` are both given: leave one out");
    let said = with("primary_file = \"/nowhere/key\"");
    assert!(said.starts_with("FILE, line 2: `keys.primary_file`: /nowhere/key cannot be read"), "{said}");
    let empty = file("key", "\n");
    let said = with(&format!("primary_file = {empty:?}"));
    assert!(said.ends_with("is empty"), "{said}");
}

#[test]
fn a_key_file_that_everybody_may_read_is_warned_about() {
    let key = file("key", format!("{KEY}\n"));
    let config = file(
        "hubwire.toml",
        format!(
            "[keys]\nprimary_file = {key:?}\n[hubs.chat]\npermissions = [{{ who = \"authenticated\", may = \"*\" }}]\n"
        ),
    );
    let check = || run(&mut hubwire(&["check-config", "--json", "--config", config.to_str().unwrap()])).json();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let warnings = check()["warnings"].clone();
    assert!(warnings[0].as_str().unwrap().contains("can be read by everybody on this machine"), "{warnings}");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(check()["warnings"], json!([]));
}

#[test]
fn a_certificate_that_cannot_be_used_is_named() {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = file("tls.pem", crate::operation::pem("CERTIFICATE", key.cert.der()));
    let good = file("tls.key", crate::operation::pem("PRIVATE KEY", &key.signing_key.serialize_der()));
    let foreign = file("tls.key", crate::operation::pem("PRIVATE KEY", &other.signing_key.serialize_der()));
    let nonsense = file("tls.pem", "nonsense");
    let check = |certificate: &str, key: &str| {
        run(&mut hubwire(&["check-config", "--tls-certificate", certificate, "--tls-key", key]))
    };
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    check(&path(&certificate), &path(&good)).good();
    let said = check("/nowhere/tls.pem", &path(&good)).refused(1);
    assert!(said.contains("--tls-certificate: the certificate /nowhere/tls.pem cannot be used"), "{said}");
    let said = check(&path(&certificate), "/nowhere/tls.key").refused(1);
    assert!(said.contains("--tls-key: the key /nowhere/tls.key cannot be used"), "{said}");
    let said = check(&path(&nonsense), &path(&good)).refused(1);
    assert!(said.contains("it holds no certificate in PEM"), "{said}");
    let said = check(&path(&certificate), &path(&foreign)).refused(1);
    assert!(said.contains("do not work together"), "{said}");
    assert!(
        wrong("[server]\ntls_certificate = \"x\"\n")
            .contains("line 2: `server.tls_certificate` needs `server.tls_key`")
    );
    assert!(wrong("[server]\ntls_key = \"x\"\n").contains("line 2: `server.tls_key` needs `server.tls_certificate`"));
}

#[test]
fn an_issuer_needs_a_key_that_can_be_used() {
    let with = |issuer: &str| wrong(&format!("[hubs.chat.issuer]\naudiences = [\"chat\"]\n{issuer}\n"));
    assert!(with("").starts_with("FILE, line 1: [hubs.chat.issuer]: name a key"), "{}", with(""));
    assert!(
        with("secret = \"short\"")
            .starts_with("FILE, line 3: [hubs.chat.issuer]: `secret` has to have at least 32 bytes")
    );
    let said = with("jwks_file = \"/nowhere/jwks.json\"\nissuers = [\"me\"]");
    assert!(said.starts_with("FILE, line 3: [hubs.chat.issuer]: `jwks_file`: a key file cannot be read"), "{said}");
    let said = with("jwks_url = \"https://login.example/jwks\"");
    assert!(said.contains("a key set needs `issuers`"), "{said}");
    let said = with("jwks_url = \"http://login.example/jwks\"\nissuers = [\"me\"]");
    assert!(said.starts_with("FILE, line 3: [hubs.chat.issuer]: `jwks_url`"), "{said}");
}

#[test]
fn flags_that_contradict_each_other_are_refused() {
    for arguments in [
        &["serve", "--tls-key", "x"][..],
        &["serve", "--admin", "127.0.0.1:1", "--no-admin"],
        &["send", "--user", "ann", "--group", "g", "message"],
        &["token", "--for", "rest"],
        &["token", "--expires", "soon"],
        &["token", "--claim", "nothing"],
        &["no-such-verb"],
        &["serve", "--no-such-flag"],
    ] {
        let said = run(&mut hubwire(arguments)).refused(2);
        assert!(said.starts_with("error: "), "{said}");
    }
    let said = run(&mut hubwire(&["serve", "--listen", "127.0.0.1:7001", "--admin", "127.0.0.1:7001"])).refused(1);
    assert!(said.contains("both name 127.0.0.1:7001"), "{said}");
    let said = run(&mut hubwire(&["serve", "--config", "/nowhere/hubwire.toml"])).refused(1);
    assert!(said.starts_with("hubwire: /nowhere/hubwire.toml: cannot be read"), "{said}");
}

#[test]
fn a_port_in_use_is_named_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for arguments in
        [["--listen", &address, "--admin", "127.0.0.1:0"], ["--listen", "127.0.0.1:0", "--admin", &address]]
    {
        let said = run(&mut hubwire(&arguments)).refused(1);
        assert!(said.starts_with(&format!("hubwire: {address} is in use by another program")), "{said}");
        assert!(said.contains("choose another port"), "{said}");
    }
}

#[test]
fn the_default_configuration_is_one_and_says_what_the_defaults_are() {
    let text = run(&mut hubwire(&["default-config"])).good();
    let path = file("hubwire.toml", &text);
    let key = |command: &mut std::process::Command| run(command.env("HUBWIRE_KEYS__PRIMARY", KEY)).json();
    let written = key(&mut hubwire(&["check-config", "--json", "--config", path.to_str().unwrap()]));
    let none = file("hubwire.toml", "[hubs.chat]\n");
    let unwritten = key(&mut hubwire(&["check-config", "--json", "--config", none.to_str().unwrap()]));
    assert_eq!(written, unwritten);
}

#[test]
fn the_worst_case_is_told_term_by_term() {
    let config = "[server]\nlisten = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\n[server.limits]\nmax_connections = 10\nmax_header_bytes = \"8KiB\"\n\
                  [rest]\nmax_parallel_bodies = 2\nbody_limit = 1000\n[hubs.chat]\nanonymous = true\n[hubs.chat.connection]\noutbound_limit = 1000\n\
                  [hubs.chat.transport]\nmax_connections = 7\nmax_negotiated = 1\n";
    let path = file("hubwire.toml", config);
    let json = run(&mut hubwire(&["check-config", "--json", "--config", path.to_str().unwrap()])).json();
    let terms = json["memory"]["terms"].as_array().unwrap();
    let total = |what: &str| {
        terms
            .iter()
            .find(|term| term["what"].as_str().unwrap().contains(what))
            .map(|term| term["total"].clone())
            .unwrap()
    };
    assert_eq!(total("HTTP/2"), json!(20 * (8 * 1024 + 256 * 1024)));
    assert_eq!(total("outbound_limit"), json!(7000));
    assert_eq!(total("max_parallel_bodies"), json!(2000));
    let sum: u64 = terms.iter().map(|term| term["total"].as_u64().unwrap()).sum();
    assert_eq!(json["memory"]["total"], json!(sum));
    let text = run(&mut hubwire(&["check-config", "--config", path.to_str().unwrap()])).good();
    assert!(
        text.contains("hub chat at /hubs/chat: everybody, 7 connections at most") && text.contains("in all"),
        "{text}"
    );

    let lifted = file(
        "hubwire.toml",
        format!(
            "{config}[hubs.news]\nanonymous = true\n[hubs.news.connection]\nmaximum_receive_message_size = \"none\"\n"
        ),
    );
    let json = run(&mut hubwire(&["check-config", "--json", "--config", lifted.to_str().unwrap()])).json();
    assert_eq!(json["memory"]["total"], json!(null));
}

#[tokio::test]
async fn what_is_configured_is_what_is_served() {
    let config = format!(
        "[keys]\nprimary = \"{KEY}\"\n[hubs.News]\npath = \"/live\"\npermissions = [{{ who = {{ role = \"editor\" }}, may = \"send-to-all\" }}]\n\
         [hubs.News.transport]\ntransports = [\"WebSockets\"]\nmax_connections = 1\n"
    );
    let server = Server::configured(&config);
    assert_eq!(server.stdout(), "", "only the preset has something to try");
    let path = file("hubwire.toml", &config);
    let token = |hub: &str, flags: &[&str]| {
        let mut command = hubwire(&["token", "--config", path.to_str().unwrap(), "--hub", hub]);
        run(command.args(flags)).good().trim().to_owned()
    };
    assert_eq!(get(server.data, "/live").await.status, 401, "nobody gets in without a token");
    let foreign = token("other", &[]);
    assert_eq!(get(server.data, &format!("/live?access_token={foreign}")).await.status, 401);

    let editor = token("news", &["--user", "ann", "--role", "editor"]);
    let mut ann = server.connect(&format!("/live?access_token={editor}")).await;
    ann.call("SendToAll", json!(["message", ["hello"]])).await.unwrap();
    let refused = ann.call("JoinGroup", json!(["g"])).await.unwrap_err();
    assert!(refused.contains("join"), "{refused}");
    let second = format!("/live?access_token={editor}");
    let full = crate::program::request_upgrade(server.data, &second).await;
    assert_eq!(full.status, 429);
    ann.leave().await;
}

//! What operators see and have: metrics, logs, TLS, a service manager.

use crate::eventually;
use crate::program::{KEY, Server, file, get, hubwire, request, run};
use crate::support::{skipped, within};
use base64::Engine;
use serde_json::json;
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixDatagram};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// The text form of a certificate or key.
pub(crate) fn pem(kind: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n"))
}

/// The samples, by name and labels as written. Fails on a line that is none.
async fn metrics(server: &Server) -> BTreeMap<String, f64> {
    let response = request(server.admin, "GET", "/metrics", "Accept: application/openmetrics-text\r\n").await;
    assert!(response.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    let text = response.text();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
            assert!(name.starts_with("hubwire_") || name.starts_with("process_"), "{name}");
            (name.to_owned(), value.parse().unwrap_or_else(|e| panic!("{e}: {line}")))
        })
        .collect()
}

#[tokio::test]
async fn metrics_count_what_happens() {
    let server = Server::preset();
    let before = metrics(&server).await;
    assert_eq!(before["hubwire_connections{hub=\"chat\",kind=\"relay\"}"], 0.0);
    assert_eq!(before[concat!("hubwire_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}")], 1.0);
    assert!(before["process_resident_memory_bytes"] > 1e6 && before["process_open_fds"] > 5.0);
    let client = server.connect("/hubs/chat").await;
    let lost = server.connect("/hubs/chat").await;
    assert_eq!(metrics(&server).await["hubwire_connections{hub=\"chat\",kind=\"relay\"}"], 2.0);
    client.leave().await;
    drop(lost);
    eventually!(metrics(&server).await["hubwire_connections{hub=\"chat\",kind=\"relay\"}"] == 0.0);
    let after = metrics(&server).await;
    assert_eq!(after["hubwire_connections_ended_total{hub=\"chat\",kind=\"relay\",reason=\"client_closed\"}"], 1.0);
    assert_eq!(after["hubwire_connections_ended_total{hub=\"chat\",kind=\"relay\",reason=\"transport_lost\"}"], 1.0);
    assert_eq!(after["hubwire_sockets_raw_total{hub=\"chat\",kind=\"relay\"}"], 2.0);
    assert!(after["hubwire_uptime_seconds"] > before["hubwire_uptime_seconds"]);
    let page = include_str!("../../src/guide/server.md");
    for name in after.keys().map(|sample| sample.split('{').next().unwrap()) {
        assert!(page.contains(&format!("`{name}")), "{name} is documented");
    }
}

#[tokio::test]
async fn metrics_are_plain_text_for_who_does_not_ask_for_more() {
    let server = Server::preset();
    for accept in [
        "",
        "Accept: */*\r\n",
        "Accept: text/plain;version=0.0.4;q=1\r\n",
        "Accept: application/openmetrics-text;q=0\r\n",
    ] {
        let response = request(server.admin, "GET", "/metrics", accept).await;
        assert_eq!(response.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        let text = response.text();
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
        let mut kinds = BTreeMap::new();
        for line in text.lines() {
            match line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
                Some((name, kind)) => assert_eq!(kinds.insert(name, kind), None, "{name} comes once"),
                None if line.starts_with("# HELP ") => {}
                // a sample belongs to the lines above that name it
                None => assert!(kinds.contains_key(line.split(['{', ' ']).next().unwrap()), "{line}"),
            }
        }
        assert_eq!((kinds["hubwire_messages_dropped_total"], kinds["hubwire_connections"]), ("counter", "gauge"));
    }
    let wanted = "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5\r\n";
    let response = request(server.admin, "GET", "/metrics", wanted).await;
    assert!(response.header("content-type").unwrap().starts_with("application/openmetrics-text"));
}

#[tokio::test]
async fn health_and_metrics_stay_on_their_own_address() {
    let server = Server::preset();
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(get(server.admin, path).await.status, 200, "{path}");
        assert_eq!(get(server.data, path).await.status, 404, "{path}");
    }
    assert_eq!(get(server.data, "/api/health").await.status, 200);
    let probe = request(server.data, "HEAD", "/api/health", "").await;
    assert_eq!(probe.status, 200);
    for method in ["GET", "HEAD"] {
        assert_eq!(request(server.admin, method, "/api/health", "").await.status, 200, "where Azure's is");
    }
    assert_eq!(get(server.admin, "/hubs/chat").await.status, 404);
    let keyless = Server::configured("[hubs.chat]\nanonymous = true\n");
    for method in ["GET", "HEAD"] {
        assert_eq!(request(keyless.data, method, "/api/health", "").await.status, 200, "without a key, too");
    }
    let without = Server::start(&mut hubwire(&["--listen", "127.0.0.1:0", "--no-admin", "--log-format", "json"]));
    assert_eq!(without.admin.port(), 0, "nothing listens");
}

#[tokio::test]
async fn logs_hold_no_token_no_query_and_no_payload() {
    let path = file(
        "hubwire.toml",
        format!(
            "[log]\nfilter = \"trace\"\nformat = \"json\"\n[keys]\nprimary = \"{KEY}\"\n[hubs.chat]\npermissions = [{{ who = \"authenticated\", may = \"send-to-all\" }}]\n"
        ),
    );
    let path = path.to_str().unwrap();
    let server =
        Server::start(&mut hubwire(&["serve", "--config", path, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]));
    let token = run(&mut hubwire(&["token", "--config", path, "--user", "ann"])).good().trim().to_owned();
    let mut ann = server.connect(&format!("/hubs/chat?secret-in-the-query=1&access_token={token}")).await;
    ann.call("SendToAll", json!(["message", ["the payload"]])).await.unwrap();
    ann.call("JoinGroup", json!(["a group"])).await.unwrap_err();
    ann.leave().await;
    assert_eq!(get(server.data, "/hubs/chat?access_token=wrong.token.here").await.status, 401);
    eventually!(server.log().iter().any(|line| line["message"] == "connection closes"));
    let log: String = server.log().iter().map(|line| format!("{line}\n")).collect();
    for secret in
        [KEY, &*token, token.rsplit('.').next().unwrap(), "secret-in-the-query", "the payload", "wrong.token.here"]
    {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}

#[tokio::test]
async fn logs_for_people_are_lines() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = hubwire(&["serve", "--listen", &taken.to_string(), "--no-admin", "--log", "debug"]);
    let mut server = command.stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(server.stderr.take().unwrap()));
    let line = lines.next().unwrap().unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(line.contains(" INFO serving version=") && !line.contains('{') && !line.contains('\u{1b}'), "{line}");
}

/// A certificate for `localhost` in files, and what trusts it.
pub(crate) struct Authority {
    pub(crate) certificate: std::path::PathBuf,
    pub(crate) key: std::path::PathBuf,
    connector: TlsConnector,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = file("tls.pem", pem("CERTIFICATE", made.cert.der()));
        let key = file("tls.key", pem("PRIVATE KEY", &made.signing_key.serialize_der()));
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Self { certificate, key, connector: TlsConnector::from(Arc::new(client)) }
    }

    pub(crate) async fn connect(&self, server: &Server) -> std::io::Result<TlsStream<TcpStream>> {
        let socket = TcpStream::connect(server.data).await?;
        within("a TLS handshake", self.connector.connect("localhost".try_into().unwrap(), socket)).await
    }
}

/// Reads until what came contains a text.
async fn until(stream: &mut TlsStream<TcpStream>, wanted: &str) -> String {
    let mut input = Vec::new();
    within(wanted, async {
        while !String::from_utf8_lossy(&input).contains(wanted) {
            assert_ne!(
                stream.read_buf(&mut input).await.expect("the stream goes on"),
                0,
                "{}",
                String::from_utf8_lossy(&input)
            );
        }
    })
    .await;
    String::from_utf8_lossy(&input).into_owned()
}

#[tokio::test]
async fn a_hub_is_served_over_tls_and_its_certificate_is_read_again() {
    let authority = Authority::new();
    let config = format!(
        "[server]\ntls_certificate = {:?}\ntls_key = {:?}\n[server.limits]\nmax_connections = 3\n[hubs.chat]\nanonymous = true\npermissions = [{{ who = \"everyone\", may = \"*\" }}]\n",
        authority.certificate, authority.key
    );
    let server = Server::configured(&config);
    let mut stream = authority.connect(&server).await.unwrap();
    stream.write_all(crate::support::ws::upgrade_request("/hubs/chat").as_bytes()).await.unwrap();
    until(&mut stream, "101 Switching Protocols").await;
    let frame = |text: &str| crate::support::ws::Frame::text(format!("{text}\u{1e}")).encode();
    stream.write_all(&frame("{\"protocol\":\"json\",\"version\":1}")).await.unwrap();
    stream
        .write_all(&frame("{\"type\":1,\"target\":\"SendToAll\",\"arguments\":[\"message\",[\"over TLS\"]]}"))
        .await
        .unwrap();
    until(&mut stream, "over TLS").await;
    assert_eq!(metrics(&server).await["hubwire_sockets_boxed_total{hub=\"chat\",kind=\"relay\"}"], 1.0);

    // who speaks no TLS is let go, and takes nobody's place
    let mut plain = TcpStream::connect(server.data).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = within("the end", plain.read_to_end(&mut answer)).await;
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP/1.1"));

    let renewed = Authority::new();
    std::fs::copy(&renewed.certificate, &authority.certificate).unwrap();
    std::fs::copy(&renewed.key, &authority.key).unwrap();
    assert!(renewed.connect(&server).await.is_err(), "the old one is still in use");
    server.signal("HUP");
    eventually!(server.log().iter().any(|line| line["message"] == "the certificate has been read again"));
    renewed.connect(&server).await.unwrap();
    assert!(authority.connect(&server).await.is_err());
    stream
        .write_all(&frame("{\"type\":1,\"target\":\"SendToAll\",\"arguments\":[\"message\",[\"still there\"]]}"))
        .await
        .unwrap();
    until(&mut stream, "still there").await;

    // the WebSocket and one more hold their places; with the third there is none left
    let _second = renewed.connect(&server).await.unwrap();
    let _third = renewed.connect(&server).await.unwrap();
    let mut waiting = TcpStream::connect(server.data).await.unwrap();
    waiting.write_all(b"x").await.unwrap();
    let read = tokio::time::timeout(std::time::Duration::from_millis(300), waiting.read_u8()).await;
    assert!(read.is_err(), "it waits in the kernel's queue: {read:?}");
}

#[tokio::test]
async fn a_broken_certificate_changes_nothing() {
    let authority = Authority::new();
    let (certificate, key) = (&authority.certificate, &authority.key);
    let server = Server::configured(&format!(
        "[server]\ntls_certificate = {certificate:?}\ntls_key = {key:?}\n[hubs.chat]\nanonymous = true\n"
    ));
    std::fs::write(certificate, "nonsense").unwrap();
    server.signal("HUP");
    eventually!(server.log().iter().any(|line| line["message"] == "the certificate stays as it was"));
    authority.connect(&server).await.unwrap();
}

/// The service manager's end of a socket that programs tell it things by.
struct Manager {
    socket: UnixDatagram,
    path: std::path::PathBuf,
}

impl Manager {
    fn new() -> Self {
        let path = file("notify", "").with_file_name("socket");
        Self { socket: UnixDatagram::bind(&path).unwrap(), path }
    }

    async fn told(&self) -> String {
        let mut buffer = [0; 1024];
        let length = within("a word to the service manager", self.socket.recv(&mut buffer)).await.unwrap();
        String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
    }
}

#[tokio::test]
async fn the_service_manager_is_told() {
    let manager = Manager::new();
    // the watchdog is for the process that it names
    let script = "WATCHDOG_PID=$$ exec \"$0\" --listen 127.0.0.1:0 --admin 127.0.0.1:0 --log-format json";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_hubwire")]).env_remove("HUBWIRE_NO_SKIP");
    let mut server = Server::start(command.env("NOTIFY_SOCKET", &manager.path).env("WATCHDOG_USEC", "200000"));
    assert_eq!(manager.told().await, "READY=1");
    assert_eq!(get(server.admin, "/readyz").await.status, 200);
    for _ in 0..3 {
        assert_eq!(manager.told().await, "WATCHDOG=1");
    }
    server.signal("TERM");
    while manager.told().await != "STOPPING=1" {}
    assert_eq!(server.ended().await.code(), Some(0));
}

/// Runs the program with listening sockets as a service manager hands them over.
fn with_sockets(count: usize, names: &str, arguments: &[&str]) -> Option<Command> {
    if Command::new("python3").arg("--version").output().is_err() {
        skipped("socket activation", "there is no python3");
        return None;
    }
    let script = "import os, socket, sys\n\
        count = int(sys.argv[1])\n\
        sockets = [socket.create_server(('127.0.0.1', 0)) for _ in range(count)]\n\
        high = [os.dup2(s.fileno(), 100 + i) for i, s in enumerate(sockets)]\n\
        [os.dup2(fd, 3 + i) for i, fd in enumerate(high)]\n\
        [os.close(fd) for fd in high]\n\
        os.environ.update(LISTEN_FDS=str(count), LISTEN_PID=str(os.getpid()))\n\
        if sys.argv[2]: os.environ['LISTEN_FDNAMES'] = sys.argv[2]\n\
        os.execv(sys.argv[3], sys.argv[3:])\n";
    let mut command = Command::new("python3");
    command.args(["-c", script, &count.to_string(), names, env!("CARGO_BIN_EXE_hubwire")]).args(arguments);
    command.env_remove("HUBWIRE_NO_SKIP");
    Some(command)
}

#[tokio::test]
async fn sockets_of_the_service_manager_are_taken_by_name_or_in_order() {
    let arguments = ["--listen", "127.0.0.1:1", "--admin", "127.0.0.1:0", "--log-format", "json"];
    for (count, names) in [(1, ""), (2, ""), (2, "admin:data"), (2, "connection:admin")] {
        let Some(mut command) = with_sockets(count, names, &arguments) else { return };
        let mut server = Server::start(&mut command);
        assert_ne!(server.data.port(), 1, "{names}");
        assert_eq!(get(server.admin, "/healthz").await.status, 200, "{names}");
        server.connect("/hubs/chat").await.leave().await;
        server.signal("TERM");
        assert_eq!(server.ended().await.code(), Some(0));
    }
}

#[tokio::test]
async fn application_servers_are_let_in_where_that_is_configured() {
    let server = Server::preset();
    let token = |server: &Server, whom: &str| {
        run(&mut server.verb(&["token", "--for", whom, "--hub", "news", "--user", "web01"])).good().trim().to_owned()
    };
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let header = format!("{upgrade}Authorization: Bearer {}\r\n", token(&server, "server"));
    let mut peer = crate::support::ws::RawPeer::over(TcpStream::connect(server.data).await.unwrap());
    peer.send(crate::support::ws::upgrade_request_with("/server/?hub=news", &header)).await.unwrap();
    peer.expect_upgrade().await;
    eventually!(metrics(&server).await.get("hubwire_server_connections{hub=\"news\"}") == Some(&1.0));
    assert_eq!(metrics(&server).await["hubwire_connections{hub=\"news\",kind=\"service\"}"], 0.0);
    let header = format!("Authorization: Bearer {}\r\n", token(&server, "client"));
    let negotiated = request(server.data, "POST", "/client/negotiate?hub=news&negotiateVersion=1", &header).await;
    assert_eq!(negotiated.status, 200, "{negotiated:?}");

    let without = Server::configured("[hubs.chat]\nanonymous = true\n");
    assert_eq!(get(without.data, "/server/?hub=news").await.status, 404);
}

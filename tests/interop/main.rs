//! Real client libraries against the conformance hub, each as a child process.
//!
//! Every test starts `examples/conformance` on a port of its own, runs one client's suite against it and reads the suite's
//! closing line, `N passed, N failed`. What the machine lacks is skipped aloud by name. `README.md` has the table of what
//! each client can do. Environment:
//!
//! | variable | meaning |
//! | --- | --- |
//! | `HUBWIRE_TEST_URL` | run against the server there and start none |
//! | `HUBWIRE_TEST_REFERENCE` | that server is the reference: expect its behaviour where ours differs on purpose |
//! | `HUBWIRE_TEST_TRANSPORTS`, `HUBWIRE_TEST_WITHOUT` | override [`TRANSPORTS`] and [`WITHOUT`] |
//! | `HUBWIRE_NO_SKIP` | what would be skipped fails |
//! | `HUBWIRE_INTEROP_CACHE` | where packages are installed; `interop-cache` in the target folder by default |
//! | `HUBWIRE_DOTNET` | the script that starts the .NET programs |

#![cfg(unix)]

mod install;
mod page;
mod proxy;
mod rest;
mod server;
mod service;
mod suite;

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read as _, Write as _};
use std::process::Command;
use std::thread;
use std::time::Duration;

use install::Missing;
use proxy::{CADDY, HAPROXY, NGINX, Played, Proxy, Recipe};
use server::Server;
use service::{Application, Counting, Saw, Wire};
use suite::Suite;

/// The transports that the suites go over.
const TRANSPORTS: &[&str] = &["WebSockets", "ServerSentEvents", "LongPolling"];

/// Cases that are left out for now, by a part of their name.
const WITHOUT: &[&str] = &[];

const WEB_SOCKETS: &[&str] = &["WebSockets"];
const HTTP: &[&str] = &["ServerSentEvents", "LongPolling"];

#[test]
fn microsoft_signalr_over_web_sockets() {
    Suite::named("microsoft-signalr-web-sockets", WEB_SOCKETS).run(|run| javascript(run, "microsoft"));
}

#[test]
fn microsoft_signalr_over_http() {
    Suite::named("microsoft-signalr-http", HTTP).run(|run| javascript(run, "microsoft"));
}

#[test]
fn aspnet_signalr_over_web_sockets() {
    Suite::named("aspnet-signalr-web-sockets", WEB_SOCKETS).run(|run| javascript(run, "aspnet"));
}

#[test]
fn aspnet_signalr_over_http() {
    Suite::named("aspnet-signalr-http", HTTP).run(|run| javascript(run, "aspnet"));
}

#[test]
fn chromium_over_web_sockets() {
    Suite::named("chromium-web-sockets", WEB_SOCKETS).run(chromium);
}

#[test]
fn chromium_over_http() {
    Suite::named("chromium-http", HTTP).run(chromium);
}

#[test]
fn dotnet_over_web_sockets() {
    // The program has no switch for leaving cases out, so those may fail instead.
    Suite::named("dotnet-web-sockets", WEB_SOCKETS).tolerating(&without()).run(dotnet);
}

#[test]
fn dotnet_over_http() {
    Suite::named("dotnet-http", HTTP).tolerating(&without()).run(dotnet);
}

#[test]
fn pysignalr() {
    Suite::named("pysignalr", WEB_SOCKETS).run(|run| python(run, "run_pysignalr.py"));
}

#[test]
fn signalrcore_over_web_sockets() {
    Suite::named("signalrcore-web-sockets", WEB_SOCKETS).run(|run| python(run, "run_signalrcore.py"));
}

#[test]
fn signalrcore_over_http() {
    Suite::named("signalrcore-http", HTTP).run(|run| python(run, "run_signalrcore.py"));
}

#[test]
fn java_9_over_web_sockets() {
    Suite::named("java-9.0.3-web-sockets", WEB_SOCKETS).run(|run| java(run, "9.0.3"));
}

#[test]
fn java_9_over_long_polling() {
    Suite::named("java-9.0.3-long-polling", &["LongPolling"]).run(|run| java(run, "9.0.3"));
}

#[test]
fn java_1() {
    Suite::named("java-1.0.0", WEB_SOCKETS).run(|run| java(run, "1.0.0"));
}

#[test]
fn go_over_web_sockets() {
    Suite::named("go-web-sockets", WEB_SOCKETS).run(go);
}

#[test]
fn go_over_server_sent_events() {
    Suite::named("go-server-sent-events", &["ServerSentEvents"]).run(go);
}

#[test]
fn rust_signalr_client() {
    Suite::named("rust-signalr-client", WEB_SOCKETS).run(|run| {
        let mut suite = Command::new(install::rust_client()?);
        // This client panics inside where a connection ends badly; its backtraces would hide the lines that count.
        suite.env("RUST_BACKTRACE", "0");
        Ok(run.common_arguments(suite))
    });
}

#[test]
fn dotnet_through_the_service_over_web_sockets() {
    Suite::named("service-dotnet-web-sockets", WEB_SOCKETS).through_service().tolerating(&without()).run(dotnet);
}

#[test]
fn dotnet_through_the_service_over_http() {
    Suite::named("service-dotnet-http", HTTP).through_service().tolerating(&without()).run(dotnet);
}

#[test]
fn microsoft_signalr_through_the_service_over_web_sockets() {
    let suite = Suite::named("service-microsoft-signalr-web-sockets", WEB_SOCKETS).through_service();
    suite.run(|run| javascript(run, "microsoft"));
}

#[test]
fn microsoft_signalr_through_the_service_over_http() {
    let suite = Suite::named("service-microsoft-signalr-http", HTTP).through_service();
    suite.run(|run| javascript(run, "microsoft"));
}

/// Two application servers, one of which stops as it was told to: its clients move to the other, and notice nothing.
#[test]
fn clients_outlive_an_application_that_stops() {
    outage("service-graceful", &["--graceful", "true"], |stopped, _| {
        stopped.end("-TERM");
        |saw: &[Saw]| {
            for client in saw {
                assert_eq!((client.reconnects, client.failures, client.closed), (0, 0, 0), "{client:?}");
            }
        }
    });
}

/// One of two application servers is gone at once: its clients connect again, and those of the other notice nothing.
#[test]
fn clients_of_an_application_that_is_killed_come_back() {
    outage("service-killed", &[], |killed, _| {
        killed.end("-KILL");
        some_came_back
    });
}

/// The server connections of one of two application servers are cut: the same, and the server is back as well.
#[test]
fn clients_of_cut_server_connections_come_back() {
    outage("service-cut", &[], |_, wire| {
        assert!(wire.cut() > 4, "five server connections a hub went through");
        some_came_back
    });
}

/// Two application servers behind a service, clients at both; something happens to the first.
fn outage<C: Fn(&[Saw])>(name: &'static str, flags: &[&str], happens: impl FnOnce(&mut Application, &Wire) -> C) {
    let service = service::Service::start();
    let wire = Wire::to(service.address());
    let parts = || {
        let first = Application::start(&format!("{name}-first"), wire.address(), service.address(), flags)?;
        let second = Application::start(&format!("{name}-second"), service.address(), service.address(), flags)?;
        // Any server negotiates, as behind a load balancer: which one carries a client is the service's choice.
        let clients = Counting::start(&[second.url()])?;
        Ok((first, second, clients))
    };
    let (mut first, _second, clients) = match parts() {
        Ok(parts) => parts,
        Err(missing) => return suite::skip(name, &missing),
    };
    let judge = happens(&mut first, &wire);
    let saw = clients.finish();
    for client in &saw {
        assert_eq!(client.wrong, 0, "{client:?}");
        assert!(client.calls > 0, "{client:?}");
    }
    judge(&saw);
    let calls: u64 = saw.iter().map(|client| client.calls).sum();
    let transports: BTreeSet<_> = saw.iter().map(|client| client.transport.as_str()).collect();
    assert_eq!(transports.len(), TRANSPORTS.len(), "{transports:?}");
    let back = saw.iter().filter(|client| client.reconnects > 0).count();
    // Past libtest, which shows the output of a passed test to nobody.
    let _ = writeln!(std::io::stderr(), "{name}: {} clients, {calls} calls, {back} connected again", saw.len());
}

fn some_came_back(saw: &[Saw]) {
    let (back, stayed): (Vec<_>, Vec<_>) = saw.iter().partition(|client| client.reconnects > 0);
    assert!(!back.is_empty() && !stayed.is_empty(), "{saw:?}");
    for client in back {
        // what it was just saying, and what it tried while the server was away
        assert_eq!(client.closed, 0, "{client:?}");
        assert!(client.failures <= client.reconnects * 2, "{client:?}");
    }
    for client in stayed {
        assert_eq!((client.failures, client.closed), (0, 0), "{client:?}");
    }
}

/// Each example by itself, as its first lines say that it is used.
#[test]
fn examples() {
    Suite::named("examples", WEB_SOCKETS).run(|_| {
        let mut node = Command::new("node");
        node.arg(install::source("examples/run.mjs")).arg(server::examples());
        node.arg("--modules").arg(install::node_modules("js")?);
        node.arg("--browser-modules").arg(install::node_modules("browser")?);
        node.arg("--browser").arg(install::chromium()?);
        Ok(node)
    });
}

#[test]
fn through_nginx() {
    through("nginx", NGINX);
}

#[test]
fn through_haproxy() {
    through("haproxy", HAPROXY);
}

#[test]
fn through_caddy() {
    through("caddy", CADDY);
}

#[test]
fn dotnet_through_nginx() {
    dotnet_through("dotnet-nginx", NGINX);
}

#[test]
fn dotnet_through_haproxy() {
    dotnet_through("dotnet-haproxy", HAPROXY);
}

#[test]
fn dotnet_through_caddy() {
    dotnet_through("dotnet-caddy", CADDY);
}

/// What a hub needs to be told, and what a client must not be able to say.
#[test]
fn what_proxies_forward() {
    for (name, recipe) in [("nginx-forwards", NGINX), ("haproxy-forwards", HAPROXY), ("caddy-forwards", CADDY)] {
        let played = match Played::start(recipe, name) {
            Ok(played) => played,
            Err(missing) => {
                suite::skip(name, &missing);
                continue;
            }
        };
        let (_client, _server, head) = played.request(
            "GET /hub?id=a+b%2B HTTP/1.1\r\nHost: app.example:8443\r\nX-Forwarded-For: 192.0.2.1\r\n\
             Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        );
        assert!(head.starts_with("get /hub?id=a+b%2b http/1.1\r\n"), "{name}: {head}");
        for line in
            ["host: app.example:8443", "x-forwarded-for: 127.0.0.1", "upgrade: websocket", "connection: upgrade"]
        {
            assert!(head.lines().any(|one| one == line), "{name} forwards no {line:?}: {head}");
        }
        assert!(!head.contains("192.0.2.1"), "{name} believes the client: {head}");

        let (client, mut server, _) = played.request(POLL);
        drop(client);
        let end = server.read(&mut [0]);
        let ended = match &end {
            Ok(read) => *read == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        };
        assert!(ended, "{name} does not tell that the client has dropped its poll: {end:?}");
    }
}

/// Longer than a poll waits by default, all three at a time.
#[test]
fn idle_polls_outlast_no_proxy() {
    let idle = [("nginx-idle", NGINX), ("haproxy-idle", HAPROXY), ("caddy-idle", CADDY)].map(|(name, recipe)| {
        thread::spawn(move || {
            let played = match Played::start(recipe, name) {
                Ok(played) => played,
                Err(missing) => return suite::skip(name, &missing),
            };
            let (mut client, mut server, _) = played.request(POLL);
            thread::sleep(Duration::from_secs(92));
            let answered = server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            let mut status = [0; 12];
            client.read_exact(&mut status).expect("the poll is answered");
            assert_eq!((answered.ok(), &status), (Some(()), b"HTTP/1.1 200"), "{name}");
        })
    });
    for one in idle {
        one.join().expect("every proxy holds the poll");
    }
}

/// The WebSocket layer alone.
#[test]
fn autobahn() {
    if Server::is_reference() {
        println!("the reference has no bare echo");
        return;
    }
    Suite::named("autobahn", WEB_SOCKETS).run(|run| {
        let mut runner = Command::new(install::python("autobahn")?);
        runner.arg(install::source("autobahn/run.py"));
        runner.arg(format!("{}/websocket-echo", run.server.url().replacen("http", "ws", 1)));
        runner.arg(install::scratch("autobahn-report"));
        Ok(runner)
    });
}

/// What a suite's command is made from.
struct Run {
    server: Server,
    proxy: Option<Proxy>,
    transports: String,
}

impl Run {
    /// Where the client connects to.
    fn url(&self) -> String {
        self.proxy.as_ref().map_or_else(|| self.server.url().to_owned(), Proxy::url)
    }

    /// Puts a proxy in front of the server.
    fn behind(&mut self, recipe: Recipe, suite: &str) -> Result<(), Missing> {
        let upstream = self.server.url().trim_start_matches("http://");
        self.proxy = Some(Proxy::start(recipe, suite, upstream)?);
        Ok(())
    }

    /// Adds the arguments that every suite of ours takes.
    fn common_arguments(&self, mut suite: Command) -> Command {
        suite.arg(self.url()).args(["--transports", &self.transports, "--without", &without().join(",")]);
        // Behind the service there is the reference with the service's SDK.
        if Server::is_reference() || self.server.is_behind_service() {
            suite.arg("--reference");
        }
        suite
    }
}

fn javascript(run: &mut Run, client: &str) -> Result<Command, Missing> {
    let modules = install::node_modules("js")?;
    let mut node = Command::new("node");
    node.arg(install::source("js/run.mjs"));
    let mut node = run.common_arguments(node);
    if run.server.is_behind_service() {
        node.arg("--service");
    }
    node.args(["--client", client, "--modules"]).arg(modules);
    if run.server.expects_stop() {
        node.arg("--stop");
    }
    Ok(node)
}

fn through(name: &'static str, recipe: Recipe) {
    Suite::named(name, TRANSPORTS).run(|run| {
        run.behind(recipe, name)?;
        javascript(run, "microsoft")
    });
}

fn dotnet_through(name: &'static str, recipe: Recipe) {
    Suite::named(name, TRANSPORTS).tolerating(&without()).run(|run| {
        run.behind(recipe, name)?;
        let mut client = dotnet(run)?;
        client.arg("--quick");
        Ok(client)
    });
}

fn chromium(run: &mut Run) -> Result<Command, Missing> {
    let browser = install::chromium()?;
    let modules = install::node_modules("browser")?;
    let mut node = Command::new("node");
    node.arg(install::source("browser/run.mjs"));
    let mut node = run.common_arguments(node);
    node.arg("--modules").arg(modules).arg("--browser").arg(browser);
    Ok(node)
}

fn dotnet(run: &mut Run) -> Result<Command, Missing> {
    let mut client = Command::new(install::dotnet()?);
    client.arg("NetClient").arg(run.url()).args(["--transports", &run.transports]);
    Ok(client)
}

fn python(run: &mut Run, suite: &str) -> Result<Command, Missing> {
    let mut python = Command::new(install::python("python")?);
    // No bytecode beside the sources.
    python.arg("-B").arg(install::source("python").join(suite));
    Ok(run.common_arguments(python))
}

fn java(run: &mut Run, release: &str) -> Result<Command, Missing> {
    let mut java = Command::new("java");
    java.arg("-cp").arg(install::java(release)?).arg("Suite");
    Ok(run.common_arguments(java))
}

fn go(run: &mut Run) -> Result<Command, Missing> {
    Ok(run.common_arguments(Command::new(install::go()?)))
}

/// Seen from a proxy.
const POLL: &str = "GET /hub?id=a HTTP/1.1\r\nHost: app.example\r\n\r\n";

/// The transports of a suite that are not left out for now.
fn transports(wanted: &[&str]) -> String {
    let chosen = std::env::var("HUBWIRE_TEST_TRANSPORTS").unwrap_or_else(|_| TRANSPORTS.join(","));
    let both: Vec<_> =
        wanted.iter().copied().filter(|transport| chosen.split(',').any(|one| one == *transport)).collect();
    both.join(",")
}

fn without() -> Vec<String> {
    match std::env::var("HUBWIRE_TEST_WITHOUT") {
        Ok(list) => list.split(',').filter(|text| !text.is_empty()).map(str::to_owned).collect(),
        Err(_) => WITHOUT.iter().map(|&text| text.to_owned()).collect(),
    }
}

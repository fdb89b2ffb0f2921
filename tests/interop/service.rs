//! The service in this process, and application servers with the published SDK behind it.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::install::{self, Missing};
use crate::server::{await_accept, free_port};

/// A running service; runs as long as the test process does.
pub(crate) struct Service {
    address: SocketAddr,
}

impl Service {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("a bound socket has an address");
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a socket that does not block");
                let service = hubwire::testing::service(&[KEY], hubwire::ServiceOptions::default());
                hubwire::serve(listener, service.routes()).await.expect("it serves as long as the process runs");
            });
        });
        Self { address }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// An application server that serves its hubs through a service.
pub(crate) struct Application {
    url: String,
    pub(crate) process: Child,
}

impl Application {
    /// Starts one that finds the service at `service`, sends its clients to `clients`, and waits until it has server connections.
    pub(crate) fn start(name: &str, service: SocketAddr, clients: SocketAddr, flags: &[&str]) -> Result<Self, Missing> {
        let log = install::scratch(&format!("{name}-application.log"));
        let port = free_port();
        let url = format!("http://127.0.0.1:{port}");
        let output = File::create(&log).expect("the scratch folder takes a file");
        let mut process = Command::new(install::dotnet()?)
            .args(["AzureApp", "--urls", &url, "--azure"])
            .arg(format!("Endpoint=http://{service};ClientEndpoint=http://{clients};AccessKey={KEY};Version=1.0;"))
            .args(flags)
            .stdout(output.try_clone().expect("a file handle can be cloned"))
            .stderr(output)
            .spawn()
            .expect("the script starts");
        await_accept(port, &mut process, &log);
        let application = Self { url, process };
        application.await_service(port);
        Ok(application)
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Sends it a signal and waits for its end.
    pub(crate) fn end(&mut self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.process.id().to_string()]).status().expect("kill starts");
        assert!(sent.success(), "the application is there to be ended");
        let deadline = Instant::now() + END_PATIENCE;
        while self.process.try_wait().expect("a child can be waited for").is_none() {
            assert!(Instant::now() < deadline, "the application does not end");
            thread::sleep(TICK);
        }
    }

    /// Until it has a server connection for each of its hubs it answers 500 to whoever negotiates.
    fn await_service(&self, port: u16) {
        let deadline = Instant::now() + CONNECT_PATIENCE;
        for hub in ["conformance", "conformance-auth", "conformance-small"] {
            while !negotiates(port, hub) {
                assert!(Instant::now() < deadline, "{hub} of {} never reached the service", self.url);
                thread::sleep(TICK);
            }
        }
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whether a hub lets somebody negotiate, or asks first who it is.
fn negotiates(port: u16, hub: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return false };
    let request = format!(
        "POST /{hub}/negotiate?negotiateVersion=1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    );
    let mut answer = String::new();
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time above zero");
    let asked = stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_string(&mut answer));
    asked.is_ok() && (answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.1 401"))
}

/// Clients that count what they see while something happens to their servers: see `js/outage.mjs`.
pub(crate) struct Counting {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// What became of one client.
#[derive(Debug)]
pub(crate) struct Saw {
    pub(crate) transport: String,
    pub(crate) calls: u64,
    /// Calls that were answered with something else, and messages that never came, or came again.
    pub(crate) wrong: u64,
    pub(crate) failures: u64,
    pub(crate) reconnects: u64,
    pub(crate) closed: u64,
}

impl Counting {
    /// Starts them, half at each server, and waits until all are at work.
    pub(crate) fn start(urls: &[&str]) -> Result<Self, Missing> {
        let modules = install::node_modules("js")?;
        let mut process = Command::new("node")
            .arg(install::source("js/outage.mjs"))
            .arg(urls.join(","))
            .arg("--modules")
            .arg(modules)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node, which has told its version, starts");
        let input = process.stdin.take().expect("piped");
        let output = BufReader::new(process.stdout.take().expect("piped"));
        let mut counting = Self { process, input, output };
        assert_eq!(counting.line(), "READY");
        Ok(counting)
    }

    /// Lets them go on for a while, and tells what each has seen.
    pub(crate) fn finish(mut self) -> Vec<Saw> {
        self.input.write_all(b"\n").expect("it reads");
        let line = self.line();
        let clients: Vec<serde_json::Value> = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let of = |client: &serde_json::Value, name: &str| client[name].as_u64().unwrap_or_else(|| panic!("{client}"));
        clients
            .iter()
            .map(|client| Saw {
                transport: client["transport"].as_str().unwrap_or_default().to_owned(),
                calls: of(client, "calls"),
                wrong: of(client, "wrong") + of(client, "lost") + of(client, "doubled"),
                failures: of(client, "failures"),
                reconnects: of(client, "reconnects"),
                closed: of(client, "closed"),
            })
            .collect()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a pipe");
        line.trim().to_owned()
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A way to the service that can be cut.
pub(crate) struct Wire {
    address: SocketAddr,
    sockets: Arc<Mutex<Vec<TcpStream>>>,
}

impl Wire {
    pub(crate) fn to(service: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let sockets: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let kept = sockets.clone();
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(service) else { continue };
                let both = [(&near, &far), (&far, &near)];
                for (from, to) in both {
                    let (mut from, mut to) = (from.try_clone().expect("a socket"), to.try_clone().expect("a socket"));
                    thread::spawn(move || {
                        // However it ends, the other side is to see it.
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                kept.lock().expect("nobody panics").extend([near, far]);
            }
        });
        Self { address, sockets }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts everything that goes through it; what comes next passes again.
    pub(crate) fn cut(&self) -> usize {
        let sockets = std::mem::take(&mut *self.sockets.lock().expect("nobody panics"));
        for socket in &sockets {
            // It may have ended by itself.
            let _ = socket.shutdown(Shutdown::Both);
        }
        sockets.len() / 2
    }
}

/// A key that is nobody's.
const KEY: &str = "0123456789abcdef0123456789abcdef0123456789ab";
/// A .NET program takes its time where the machine is busy.
const CONNECT_PATIENCE: Duration = Duration::from_secs(60);
/// A graceful stop may take thirty seconds.
const END_PATIENCE: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(50);

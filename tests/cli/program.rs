//! The program, run by a test: once for its output, or as a server.

use crate::support::http::{Response, read_response};
use crate::support::hub::{Client, Protocol};
use crate::support::ws::{RawPeer, upgrade_request};
use crate::support::{PATIENCE, within};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// A key that is nobody else's.
pub(crate) const KEY: &str = "a key of this test, of more than 32 bytes";

/// The program with nothing of this process's environment but where programs are.
pub(crate) fn hubwire(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hubwire"));
    command.args(arguments).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command
}

/// What a run has left behind.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) fn run(command: &mut Command) -> Run {
    let output = command.stdin(Stdio::null()).output().expect("the program runs");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("output is UTF-8");
    Run { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

impl Run {
    /// What it printed, if it was content.
    pub(crate) fn good(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    pub(crate) fn json(self) -> Value {
        let text = self.good();
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }

    /// What it complained about: one line, and nothing on stdout.
    pub(crate) fn refused(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        assert!(!self.stderr.contains("panicked"), "{self:?}");
        self.stderr.trim_end().to_owned()
    }
}

/// A file that a test wrote, in a place of its own.
pub(crate) fn file(name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Relaxed);
    let folder =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cli").join(format!("{}-{number}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the target folder can be written");
    let path = folder.join(name);
    std::fs::write(&path, content).expect("the target folder can be written");
    path
}

/// A server that runs until it is told to stop, or the test ends.
pub(crate) struct Server {
    child: Child,
    pub(crate) data: SocketAddr,
    pub(crate) admin: SocketAddr,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
}

impl Server {
    /// The development preset, on free ports.
    pub(crate) fn preset() -> Self {
        Self::start(&mut hubwire(&["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "json"]))
    }

    /// A configuration, with the addresses of its own.
    pub(crate) fn configured(config: &str) -> Self {
        let path = file("hubwire.toml", config);
        let path = path.to_str().expect("a path of text");
        Self::start(&mut hubwire(&[
            "serve",
            "--config",
            path,
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--log-format",
            "json",
        ]))
    }

    /// Waits until it says that it serves, in a log of JSON.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program runs");
        let stdout = collect(child.stdout.take().expect("piped"));
        let stderr = collect(child.stderr.take().expect("piped"));
        let until = Instant::now() + PATIENCE;
        let serving = loop {
            if let Some(line) = logged(&stderr.lock().unwrap()).find(|line| line["message"] == "serving") {
                break line;
            }
            let ended = child.try_wait().expect("a child");
            assert!(
                ended.is_none() && Instant::now() < until,
                "it does not serve: {ended:?} {}",
                stderr.lock().unwrap()
            );
            std::thread::sleep(std::time::Duration::from_millis(5));
        };
        let address = |name: &str| {
            let list = serving[name].as_str().expect("a list of addresses").trim_matches(['[', ']']);
            list.split(", ").next().and_then(|first| first.parse().ok()).unwrap_or(([0, 0, 0, 0], 0).into())
        };
        Self { data: address("data"), admin: address("admin"), child, stdout, stderr }
    }

    pub(crate) fn stdout(&self) -> String {
        self.stdout.lock().unwrap().clone()
    }

    /// What it has logged, line by line.
    pub(crate) fn log(&self) -> Vec<Value> {
        logged(&self.stderr.lock().unwrap()).collect()
    }

    pub(crate) fn signal(&self, name: &str) {
        let done = Command::new("kill").args([format!("-{name}"), self.child.id().to_string()]).status();
        assert!(done.is_ok_and(|status| status.success()), "kill works");
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        within("the server ends", async {
            loop {
                match self.child.try_wait().expect("a child") {
                    Some(status) => return status,
                    None => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
                }
            }
        })
        .await
    }

    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// A verb that speaks to this server, with the key of the preset.
    pub(crate) fn verb(&self, arguments: &[&str]) -> Command {
        let mut command = hubwire(arguments);
        let port = self.data.port();
        let key = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ABCDEFGH";
        command.env(
            "Azure__SignalR__ConnectionString",
            format!("Endpoint=http://127.0.0.1;Port={port};AccessKey={key};Version=1.0;"),
        );
        command
    }

    /// Connects to a hub and shakes hands, in JSON.
    pub(crate) async fn connect(&self, path: &str) -> Client {
        let stream = TcpStream::connect(self.data).await.expect("the server accepts");
        stream.set_nodelay(true).expect("a TCP socket");
        let mut peer = RawPeer::over(stream);
        peer.send(upgrade_request(path)).await.expect("the server reads");
        peer.expect_upgrade().await;
        let mut client = Client::silent(peer, Protocol::Json);
        client.send(Protocol::Json.handshake()).await;
        let response = client.message().await;
        assert_eq!(response.raw, b"{}", "the handshake response: {response:?}");
        client
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the server wrote: {}", self.stderr.lock().unwrap());
        } else {
            let wrong: Vec<Value> = self.log().into_iter().filter(|line| line["level"] == "ERROR").collect();
            assert!(wrong.is_empty(), "the server logged errors: {wrong:?}");
        }
    }
}

/// Asks and reads the answer.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Response {
    request(address, "GET", path, "").await
}

pub(crate) async fn request(address: SocketAddr, method: &str, path: &str, headers: &str) -> Response {
    within("an HTTP answer", async {
        let mut stream = TcpStream::connect(address).await.expect("the server accepts");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Length: 0\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("the server reads");
        read_response(&mut stream, &mut Vec::new()).await.expect("a whole answer")
    })
    .await
}

/// The lines that are JSON: what is not came before the log was set up.
fn logged(text: &str) -> impl Iterator<Item = Value> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok())
}

fn collect(stream: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let collected = text.clone();
    std::thread::spawn(move || {
        let mut lines = BufReader::new(stream);
        let mut line = String::new();
        while lines.read_line(&mut line).is_ok_and(|length| length > 0) {
            collected.lock().unwrap().push_str(&line);
            line.clear();
        }
    });
    text
}

/// A request for a WebSocket that is refused.
pub(crate) async fn request_upgrade(address: SocketAddr, path: &str, headers: &str) -> Response {
    within("an HTTP answer", async {
        let mut stream = TcpStream::connect(address).await.expect("the server accepts");
        let head = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).await.expect("the server reads");
        read_response(&mut stream, &mut Vec::new()).await.expect("a whole answer")
    })
    .await
}

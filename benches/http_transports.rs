//! What SSE and long polling cost a server, ours or another: memory of idle connections, CPU of an echo. Raw sockets, JSON, the hub `/load`.
//!
//! The server runs already, and is named by its URL and its process, whose figures come from `/proc`:
//!
//! ```text
//! cargo run --release --example conformance -- --urls http://127.0.0.1:5230 &
//! cargo bench --bench http_transports -- echo-sse http://127.0.0.1:5230 $! [--connections 50] [--warm-up 2] [--seconds 10]
//! ```
//!
//! * `idle-sse`, `idle-polling`: opens so many connections (default 2000), waits, and prints bytes of resident memory a connection. A server
//!   that gives no memory back is to be started anew for each run.
//! * `echo-sse`, `echo-polling`: so many connections (default 50) with one call in flight each; a call is a POST, and its completion an
//!   event or the answer to a poll. Prints microseconds of CPU a call, user and system. The clock of `/proc` ticks 100 times a second.
//!
//! A server that compiles while it runs needs `--warm-up 10`.

use std::net::SocketAddr;
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Events,
    Polling,
}

struct Plan {
    idle: bool,
    transport: Transport,
    server: SocketAddr,
    pid: u32,
    connections: usize,
    warm_up: Duration,
    seconds: Duration,
}

fn main() -> Result<()> {
    let Some(plan) = Plan::parse() else {
        eprintln!("idle-sse|idle-polling|echo-sse|echo-polling URL PID [--connections N] [--warm-up S] [--seconds S]");
        // without arguments it has only been asked whether it runs
        exit(if std::env::args().len() > 2 { 2 } else { 0 });
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { if plan.idle { idle(plan).await } else { echo(plan).await } })
}

async fn idle(plan: Plan) -> Result<()> {
    // what the first connections of a process cost is not theirs
    let mut first = Vec::new();
    for _ in 0..20 {
        first.push(Client::open(plan.server, plan.transport).await?);
    }
    drop(first);
    tokio::time::sleep(SETTLE).await;
    let before = resident(plan.pid)?;
    let mut requests = Http::connect(plan.server).await?;
    let mut streams = Vec::new();
    for _ in 0..plan.connections {
        streams.push(open(plan.server, plan.transport, &mut requests).await?.0);
    }
    tokio::time::sleep(SETTLE).await;
    let bytes = (resident(plan.pid)?.saturating_sub(before)) as f64 / plan.connections as f64;
    println!("{} idle connections, {bytes:.0} bytes a connection", streams.len());
    Ok(())
}

async fn echo(plan: Plan) -> Result<()> {
    let calls = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..plan.connections {
        let mut client = Client::open(plan.server, plan.transport).await?;
        let calls = calls.clone();
        clients.spawn(async move {
            loop {
                if let Err(e) = client.call().await {
                    return e;
                }
                calls.fetch_add(1, Relaxed);
            }
        });
    }
    tokio::time::sleep(plan.warm_up).await;
    let (begun, cpu, count) = (Instant::now(), processor_time(plan.pid)?, calls.load(Relaxed));
    tokio::select! {
        Some(failed) = clients.join_next() => return Err(failed?),
        () = tokio::time::sleep(plan.seconds) => {}
    }
    let (cpu, count) = (processor_time(plan.pid)? - cpu, calls.load(Relaxed) - count);
    let each = cpu.as_secs_f64() * 1e6 / count as f64;
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    println!("{count} calls, {rate:.0} a second, {each:.1} us of CPU a call");
    Ok(())
}

/// A connection that has shaken hands.
struct Client {
    transport: Transport,
    id: String,
    /// The event stream, or where it polls.
    incoming: Http,
    posts: Http,
}

/// Opens one with the help of a socket for its short requests.
async fn open(server: SocketAddr, transport: Transport, posts: &mut Http) -> Result<(Http, String)> {
    let answer = posts.request("POST", "/load/negotiate?negotiateVersion=1", "", b"").await?;
    let token = between(&answer, "\"connectionToken\":\"", "\"").ok_or("no token")?.to_owned();
    let path = format!("/load?id={token}");
    let mut incoming = Http::connect(server).await?;
    if transport == Transport::Events {
        incoming.send("GET", &path, "Accept: text/event-stream\r\n", b"").await?;
        posts.request("POST", &path, "", HANDSHAKE).await?;
        incoming.until(|text| text.contains("{}\u{1e}")).await?;
    } else {
        incoming.request("GET", &path, "", b"").await?;
        posts.request("POST", &path, "", HANDSHAKE).await?;
        let answer = incoming.request("GET", &path, "", b"").await?;
        if answer != "{}\u{1e}" {
            return Err(format!("the handshake is answered {answer}").into());
        }
        incoming.send("GET", &path, "", b"").await?;
    }
    Ok((incoming, path))
}

impl Client {
    async fn open(server: SocketAddr, transport: Transport) -> Result<Self> {
        let mut posts = Http::connect(server).await?;
        let (incoming, id) = open(server, transport, &mut posts).await?;
        Ok(Self { transport, id, incoming, posts })
    }

    /// One call, to its completion.
    async fn call(&mut self) -> Result<()> {
        self.posts.request("POST", &self.id, "", CALL).await?;
        if self.transport == Transport::Events {
            return self.incoming.until(|text| text.contains("\"type\":3")).await;
        }
        loop {
            // the poll was sent when the last was answered, as clients do
            let answer = self.incoming.answer().await?;
            self.incoming.send("GET", &self.id, "", b"").await?;
            if answer.contains("\"type\":3") {
                return Ok(());
            }
        }
    }
}

/// HTTP/1.1 on one socket, one request after another.
struct Http {
    stream: TcpStream,
    host: SocketAddr,
    input: Vec<u8>,
}

impl Http {
    async fn connect(server: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, host: server, input: Vec::new() })
    }

    async fn request(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Result<String> {
        self.send(method, path, headers, body).await?;
        self.answer().await
    }

    async fn send(&mut self, method: &str, path: &str, headers: &str, body: &[u8]) -> Result<()> {
        let length = if method == "POST" { format!("Content-Length: {}\r\n", body.len()) } else { String::new() };
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n{length}{headers}\r\n", self.host);
        self.stream.write_all(&[head.as_bytes(), body].concat()).await?;
        Ok(())
    }

    /// The body of a whole answer, which has to be 200.
    async fn answer(&mut self) -> Result<String> {
        loop {
            if let Some((body, used)) = whole_answer(&self.input)? {
                self.input.drain(..used);
                return Ok(body);
            }
            self.read().await?;
        }
    }

    /// Reads an answer without end until what has come since the last time is enough.
    async fn until(&mut self, enough: impl Fn(&str) -> bool) -> Result<()> {
        while !enough(&String::from_utf8_lossy(&self.input)) {
            self.read().await?;
        }
        self.input.clear();
        Ok(())
    }

    async fn read(&mut self) -> Result<()> {
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err("the server has closed".into()),
            _ => Ok(()),
        }
    }
}

fn whole_answer(input: &[u8]) -> Result<Option<(String, usize)>> {
    let Some(end) = find(input, b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&input[..end])?.to_ascii_lowercase();
    if !head.starts_with("http/1.1 200") {
        return Err(format!("the server answers {}", head.lines().next().unwrap_or_default()).into());
    }
    let start = end + 4;
    if let Some(length) = between(&format!("{head}\r\n"), "content-length: ", "\r\n") {
        let end = start + length.parse::<usize>()?;
        return Ok(input.get(start..end).map(|body| (String::from_utf8_lossy(body).into_owned(), end)));
    }
    let (mut at, mut body) = (start, Vec::new());
    loop {
        let Some(line) = find(&input[at..], b"\r\n") else { return Ok(None) };
        let size = usize::from_str_radix(std::str::from_utf8(&input[at..at + line])?, 16)?;
        at += line + 2;
        let Some(chunk) = input.get(at..at + size + 2) else { return Ok(None) };
        at += size + 2;
        if size == 0 {
            return Ok(Some((String::from_utf8_lossy(&body).into_owned(), at)));
        }
        body.extend_from_slice(&chunk[..size]);
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    text.split_once(before)?.1.split_once(after).map(|(found, _)| found)
}

fn resident(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = between(&status, "VmRSS:", "kB").ok_or("no VmRSS")?.trim();
    Ok(kib.parse::<u64>()? * 1024)
}

/// User and system time of a process and its threads.
fn processor_time(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit_once(") ").ok_or("no stat")?.1.split(' ').collect();
    Ok(Duration::from_millis((fields[11].parse::<u64>()? + fields[12].parse::<u64>()?) * 10))
}

impl Plan {
    fn parse() -> Option<Self> {
        // cargo adds a flag of its own
        let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
        let what = arguments.next()?;
        let (kind, transport) = what.split_once('-')?;
        let idle = kind == "idle";
        let mut plan = Self {
            idle,
            transport: if transport == "sse" { Transport::Events } else { Transport::Polling },
            server: arguments.next()?.strip_prefix("http://")?.trim_end_matches('/').parse().ok()?,
            pid: arguments.next()?.parse().ok()?,
            connections: if idle { 2000 } else { 50 },
            warm_up: Duration::from_secs(2),
            seconds: Duration::from_secs(10),
        };
        while let Some(flag) = arguments.next() {
            let value: u64 = arguments.next()?.parse().ok()?;
            match &*flag {
                "--connections" => plan.connections = value as usize,
                "--warm-up" => plan.warm_up = Duration::from_secs(value),
                "--seconds" => plan.seconds = Duration::from_secs(value),
                _ => return None,
            }
        }
        Some(plan)
    }
}

const HANDSHAKE: &[u8] = b"{\"protocol\":\"json\",\"version\":1}\x1e";
const CALL: &[u8] = b"{\"type\":1,\"invocationId\":\"1\",\"target\":\"Echo\",\"arguments\":[\"0123456789abcdef\"]}\x1e";
const SETTLE: Duration = Duration::from_secs(3);

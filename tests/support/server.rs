//! The server under test as a process of its own, ours or the reference.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// A running server. When the last handle is dropped, or the test process ends in any way, the server is killed.
///
/// A test that fails prints what the server wrote; a test also fails if the server panicked meanwhile.
#[derive(Clone)]
pub struct TestServer {
    shared: Arc<Shared>,
    // Only handles given to tests look at what the server wrote.
    watched: bool,
}

struct Shared {
    addr: SocketAddr,
    kind: Kind,
    process: Option<Process>,
}

/// Which program answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `examples/conformance`.
    Ours,
    /// `RefServer`.
    Reference,
    /// Whatever listens at `HUBWIRE_TEST_URL`.
    Given,
}

struct Process {
    pid: u32,
    output: Arc<Mutex<Vec<u8>>>,
    // Closing it makes the shell kill the server; the shell outlives a test process that was killed itself.
    leash: Option<ChildStdin>,
    shell: Child,
}

impl TestServer {
    /// The server under test as it starts without flags, one process for the whole test binary.
    pub fn ours() -> Self {
        static OURS: OnceLock<TestServer> = OnceLock::new();
        OURS.get_or_init(|| {
            match given() {
                Some(Given::Url(url)) => Self::at(&url),
                _ => Self::start_ours(&[]).expect("without flags ours can always be started"),
            }
            .unwatched()
        })
        .watch()
    }

    /// The server under test with detailed errors, one process for the whole test binary.
    pub fn ours_detailed() -> Option<Self> {
        static OURS: OnceLock<Option<TestServer>> = OnceLock::new();
        OURS.get_or_init(|| {
            Self::ours_with("a test with detailed errors", &["--detailed", "true"]).map(Self::unwatched)
        })
        .as_ref()
        .map(Self::watch)
    }

    /// A process of the server under test with these flags, for one test. `None`, said aloud, when `HUBWIRE_TEST_URL`
    /// names a server that runs already.
    pub fn ours_with(what: &str, flags: &[&str]) -> Option<Self> {
        let server = Self::start_ours(flags);
        if server.is_none() {
            super::skipped(what, "HUBWIRE_TEST_URL names a running server, which takes no flags");
        }
        server
    }

    /// The reference, one process for each set of flags. `None`, said aloud, when it is not there.
    pub fn reference(what: &str, flags: &'static [&'static str]) -> Option<Self> {
        static RUNNING: Mutex<Vec<(&[&str], TestServer)>> = Mutex::new(Vec::new());
        let program = dotnet();
        if !program.exists() {
            super::skipped(what, &format!("there is no {}", program.display()));
            return None;
        }
        let mut running = RUNNING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some((_, server)) = running.iter().find(|(known, _)| *known == flags) {
            return Some(server.watch());
        }
        let server = Self::start(Kind::Reference, &program, &["RefServer"], flags).unwatched();
        running.push((flags, server.clone()));
        Some(server.watch())
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.shared.addr
    }

    /// Which program it is.
    pub fn kind(&self) -> Kind {
        self.shared.kind
    }

    /// What it has written to its output and error streams so far.
    pub fn output(&self) -> String {
        match &self.shared.process {
            Some(process) => String::from_utf8_lossy(&process.output.lock().expect("no reader panics")).into_owned(),
            None => String::new(),
        }
    }

    /// Resident memory in bytes, of a process of ours only: what another program needs is not ours to judge.
    pub fn resident(&self) -> Option<u64> {
        let process = self.shared.process.as_ref().filter(|_| self.kind() == Kind::Ours)?;
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid)).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
        Some(kib * 1024)
    }

    /// One that runs already, in whatever process.
    pub fn at(url: &str) -> Self {
        let host = url.strip_prefix("http://").expect("the address begins with http://").trim_end_matches('/');
        let addr = host.to_socket_addrs().expect("a host and a port").next().expect("an address");
        Self::new(Shared { addr, kind: Kind::Given, process: None })
    }

    fn start_ours(flags: &[&str]) -> Option<Self> {
        match given() {
            Some(Given::Url(_)) => None,
            Some(Given::Reference) => Some(Self::start(Kind::Reference, &dotnet(), &["RefServer"], flags)),
            None => Some(Self::start(Kind::Ours, &conformance(), &[], flags)),
        }
    }

    fn start(kind: Kind, program: &Path, first: &[&str], flags: &[&str]) -> Self {
        // The port is free when it is chosen; something else may take it before the server does.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
            let addr = SocketAddr::from(([127, 0, 0, 1], port));
            let process = Process::start(program, first, addr, flags);
            if process.accepts(addr) {
                return Self::new(Shared { addr, kind, process: Some(process) });
            }
            eprintln!("{} did not start on port {port}: {}", program.display(), process.written());
        }
        panic!("{} does not start", program.display());
    }

    fn new(shared: Shared) -> Self {
        Self { shared: Arc::new(shared), watched: true }
    }

    fn unwatched(mut self) -> Self {
        self.watched = false;
        self
    }

    fn watch(&self) -> Self {
        Self { shared: self.shared.clone(), watched: true }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if !self.watched || self.kind() != Kind::Ours {
            return;
        }
        let output = self.output();
        if std::thread::panicking() {
            let tail: Vec<&str> = output.lines().rev().take(40).collect();
            for line in tail.iter().rev() {
                eprintln!("server: {line}");
            }
        } else if let Some(at) = output.find("panicked at") {
            panic!("the server panicked: {}", output[at..].lines().take(3).collect::<Vec<_>>().join(" "));
        }
    }
}

impl Process {
    fn start(program: &Path, first: &[&str], addr: SocketAddr, flags: &[&str]) -> Self {
        let mut shell = Command::new("/bin/sh")
            .arg("-c")
            .arg("\"$@\" 2>&1 & pid=$!; echo $pid; cat >/dev/null; kill -9 $pid 2>/dev/null")
            .arg("leash")
            .arg(program)
            .args(first)
            .args(["--urls", &format!("http://{addr}")])
            .args(flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let leash = shell.stdin.take();
        let mut reader = BufReader::new(shell.stdout.take().expect("piped"));
        let mut line = String::new();
        reader.read_line(&mut line).expect("the shell writes the process id");
        let pid = line.trim().parse().expect("a process id");
        let output = Arc::new(Mutex::new(Vec::new()));
        let written = output.clone();
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut chunk) {
                let mut written = written.lock().expect("no reader panics");
                written.extend_from_slice(&chunk[..length]);
                // A server that writes without end must not take the tests' memory.
                let surplus = written.len().saturating_sub(1 << 20);
                written.drain(..surplus);
            }
        });
        Self { pid, output, leash, shell }
    }

    /// Waits until the server takes connections; false if it ended first.
    fn accepts(&self, addr: SocketAddr) -> bool {
        let until = Instant::now() + Duration::from_secs(30);
        while Instant::now() < until && self.runs() {
            if TcpStream::connect(addr).is_ok() {
                return self.runs();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    fn runs(&self) -> bool {
        // An ended child of the shell stays as a zombie until the shell waits for it.
        std::fs::read_to_string(format!("/proc/{}/stat", self.pid))
            .is_ok_and(|stat| !stat.rsplit(") ").next().unwrap_or_default().starts_with('Z'))
    }

    fn written(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().expect("no reader panics")).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.leash.take());
        let _ = self.shell.wait();
    }
}

enum Given {
    Url(String),
    Reference,
}

/// What `HUBWIRE_TEST_URL` asks for: `reference` puts the reference in our place, anything else is the URL of a server.
fn given() -> Option<Given> {
    let url = std::env::var("HUBWIRE_TEST_URL").ok().filter(|url| !url.is_empty())?;
    Some(if url == "reference" { Given::Reference } else { Given::Url(url) })
}

/// The starter of the .NET programs.
fn dotnet() -> PathBuf {
    match std::env::var_os("HUBWIRE_DOTNET") {
        Some(path) => path.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/dotnet/run"),
    }
}

/// The example binary, which cargo builds beside the tests: `target/<profile>/deps/wire-…` and `target/<profile>/examples/`.
fn conformance() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let profile = test.parent().and_then(Path::parent).expect("deps stands in the profile's folder");
    let program = profile.join("examples/conformance");
    assert!(program.exists(), "{} is missing: cargo test builds it", program.display());
    program
}

//! The server under test: the conformance example, or whatever `HUBWIRE_TEST_URL` names; for the page, the program itself.

use std::env;
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use crate::install::{self, Missing};
use crate::service::{Application, Service};

pub(crate) struct Server {
    url: String,
    process: Option<Child>,
    log: PathBuf,
    stopped_by_suite: bool,
    /// An application server behind a service, in the place of the example.
    application: Option<(Application, Service)>,
}

impl Server {
    pub(crate) fn start(suite: &str) -> Self {
        let log = install::scratch(&format!("{suite}-server.log"));
        if let Ok(url) = env::var("HUBWIRE_TEST_URL") {
            return Self {
                url: url.trim_end_matches('/').to_owned(),
                process: None,
                log,
                stopped_by_suite: false,
                application: None,
            };
        }
        let port = free_port();
        let url = format!("http://127.0.0.1:{port}");
        let mut program = Command::new(example("conformance"));
        program.args(["--urls", &url]);
        Self::spawn(program, port, log)
    }

    /// The program `hubwire` without a configuration, whatever server the other suites run against.
    pub(crate) fn preset(suite: &str) -> Self {
        let port = free_port();
        let mut program = Command::new(env!("CARGO_BIN_EXE_hubwire"));
        program.args(["--listen", &format!("127.0.0.1:{port}"), "--admin", "127.0.0.1:0"]);
        Self::spawn(program, port, install::scratch(&format!("{suite}-server.log")))
    }

    fn spawn(mut program: Command, port: u16, log: PathBuf) -> Self {
        let output = File::create(&log).expect("the scratch folder takes a file");
        let mut process = program
            .stdout(output.try_clone().expect("a file handle can be cloned"))
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("{program:?} does not start: {error}"));
        await_accept(port, &mut process, &log);
        Self {
            url: format!("http://127.0.0.1:{port}"),
            process: Some(process),
            log,
            stopped_by_suite: false,
            application: None,
        }
    }

    /// Starts an application server with the service's SDK, and the service that its clients are sent to.
    pub(crate) fn behind_service(suite: &str) -> Result<Self, Missing> {
        let service = Service::start();
        let application = Application::start(suite, service.address(), service.address(), &[])?;
        let (url, log) = (application.url().to_owned(), install::scratch(&format!("{suite}-application.log")));
        Ok(Self { url, process: None, log, stopped_by_suite: false, application: Some((application, service)) })
    }

    /// Whether the server is ASP.NET Core, which differs here and there.
    pub(crate) fn is_reference() -> bool {
        env::var_os("HUBWIRE_TEST_REFERENCE").is_some()
    }

    pub(crate) fn is_behind_service(&self) -> bool {
        self.application.is_some()
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Tells whether the suite may stop the server when it is done; [`Server::finish`] then waits for its end.
    pub(crate) fn expects_stop(&mut self) -> bool {
        self.stopped_by_suite = self.process.is_some();
        self.stopped_by_suite
    }

    /// What the server has written so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn log_file(&self) -> &Path {
        &self.log
    }

    /// Checks that the server outlived the suite, or ended well if the suite stopped it.
    pub(crate) fn finish(mut self) -> Result<(), String> {
        let Some(process) = &mut self.process else { return Ok(()) };
        if !self.stopped_by_suite {
            return match process.try_wait() {
                Ok(None) => Ok(()),
                ended => Err(format!("the server ended during the suite: {ended:?}")),
            };
        }
        let deadline = Instant::now() + STOP_PATIENCE;
        while Instant::now() < deadline {
            match process.try_wait() {
                Ok(None) => thread::sleep(TICK),
                Ok(Some(status)) if status.success() => return Ok(()),
                ended => return Err(format!("the server did not end well after its stop: {ended:?}")),
            }
        }
        Err(format!("the server is still there {STOP_PATIENCE:?} after its stop"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // Both fail only if it is gone already.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Where `cargo test` built the examples, beside this test.
pub(crate) fn examples() -> PathBuf {
    let test = env::current_exe().expect("a process knows its program");
    test.ancestors().nth(2).expect("tests lie in deps of the profile's folder").join("examples")
}

fn example(name: &str) -> PathBuf {
    let program = examples().join(name);
    assert!(
        program.exists(),
        "{} is missing; `cargo test` builds it, `cargo test --test interop` needs `cargo build --example {name}` before",
        program.display()
    );
    program
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

pub(crate) fn await_accept(port: u16, process: &mut Child, log: &PathBuf) {
    let deadline = Instant::now() + START_PATIENCE;
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        let ended = process.try_wait().expect("a child can be waited for");
        if ended.is_some() || Instant::now() > deadline {
            let _ = process.kill();
            let output = fs::read_to_string(log).unwrap_or_default();
            panic!("the server does not accept on port {port} ({ended:?}):\n{output}");
        }
        thread::sleep(TICK);
    }
}

const START_PATIENCE: Duration = Duration::from_secs(20);
const STOP_PATIENCE: Duration = Duration::from_secs(20);
const TICK: Duration = Duration::from_millis(20);

//! Runs one client's suite and judges it by its closing line.

use std::env;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use crate::Run;
use crate::install::{self, Missing};
use crate::server::Server;

pub(crate) struct Suite {
    name: &'static str,
    transports: &'static [&'static str],
    tolerated: Vec<String>,
    through_service: bool,
}

impl Suite {
    pub(crate) fn named(name: &'static str, transports: &'static [&'static str]) -> Self {
        Self { name, transports, tolerated: Vec::new(), through_service: false }
    }

    /// Clients reach the hub through the service.
    pub(crate) fn through_service(mut self) -> Self {
        self.through_service = true;
        self
    }

    /// Failing cases whose line holds one of these texts do not count.
    pub(crate) fn tolerating(mut self, cases: &[String]) -> Self {
        self.tolerated = cases.to_vec();
        self
    }

    /// Starts the server and the client that `client` prepares for it, and panics with all output unless every case passed.
    pub(crate) fn run(self, client: impl FnOnce(&mut Run) -> Result<Command, Missing>) {
        let (name, through_service) = (self.name, self.through_service);
        let server = move || if through_service { Server::behind_service(name) } else { Ok(Server::start(name)) };
        self.run_on(server, client);
    }

    /// The same with a server of another kind.
    pub(crate) fn run_on(
        self,
        server: impl FnOnce() -> Result<Server, Missing>,
        client: impl FnOnce(&mut Run) -> Result<Command, Missing>,
    ) {
        let transports = crate::transports(self.transports);
        if transports.is_empty() {
            return println!("{}: all its transports are left out for now", self.name);
        }
        let server = match server() {
            Ok(server) => server,
            Err(missing) => return skip(self.name, &missing),
        };
        let mut run = Run { server, proxy: None, transports };
        let command = match client(&mut run) {
            Ok(command) => command,
            Err(missing) => return skip(self.name, &missing),
        };
        let (status, output) = complete(self.name, command);
        let verdict = self.judge(status, &output);
        let log = run.server.log();
        match verdict.and_then(|closing| run.server.finish().map(|()| closing)) {
            Ok(closing) => {
                print!("{output}");
                // Past libtest, which shows the output of a passed test to nobody.
                let _ = writeln!(io::stderr(), "interop {}: {closing}", self.name);
            }
            Err(problem) => {
                panic!("{}: {problem}\n---- the suite said\n{output}\n---- the server said\n{log}", self.name)
            }
        }
    }

    fn judge(&self, status: Option<ExitStatus>, output: &str) -> Result<String, String> {
        let Some(status) = status else { return Err(format!("not done after {PATIENCE:?}")) };
        let (closing, passed, failed) =
            output.lines().rev().find_map(closing_line).ok_or(format!("no closing line; {status}"))?;
        let tolerated = output.lines().filter(|line| line.starts_with("FAIL") && self.tolerates(line)).count();
        match (passed, failed - tolerated.min(failed)) {
            (0, _) => Err("no case ran".to_owned()),
            (_, 0) if status.success() => Ok(closing.to_owned()),
            (_, 0) if tolerated > 0 => Ok(format!("{closing}; those are left out for now")),
            _ => Err(format!("{closing}; {status}")),
        }
    }

    fn tolerates(&self, line: &str) -> bool {
        self.tolerated.iter().any(|text| line.contains(text.as_str()))
    }
}

/// Runs the client to its end and gives what it wrote to both its outputs; no status means that it took too long.
pub(crate) fn complete(name: &str, mut command: Command) -> (Option<ExitStatus>, String) {
    let path = install::scratch(&format!("{name}.log"));
    let output = File::create(&path).expect("the scratch folder takes a file");
    command.stdout(output.try_clone().expect("a file handle can be cloned")).stderr(output);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{name}: {command:?} does not start: {error}"));
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait().expect("a child can be waited for") {
            None if Instant::now() < deadline => thread::sleep(Duration::from_millis(50)),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            ended => break ended,
        }
    };
    (status, String::from_utf8_lossy(&fs::read(&path).unwrap_or_default()).into_owned())
}

fn closing_line(line: &str) -> Option<(&str, usize, usize)> {
    let (passed, failed) = line.strip_suffix(" failed")?.split_once(" passed, ")?;
    Some((line, passed.parse().ok()?, failed.parse().ok()?))
}

pub(crate) fn skip(name: &str, missing: &Missing) {
    let Missing { what, remedy } = missing;
    assert!(env::var_os("HUBWIRE_NO_SKIP").is_none(), "{name} would be skipped: {what} ({remedy})");
    // Past libtest, which shows the output of a passed test to nobody.
    let _ = writeln!(io::stderr(), "SKIPPED: {name}: {what} ({remedy})");
}

const PATIENCE: Duration = Duration::from_secs(300);

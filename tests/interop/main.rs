//! Real client libraries against the conformance hub, each as a child process.
//!
//! Every test starts `examples/conformance` on a port of its own, runs one client's suite against it and reads the suite's
//! closing line, `N passed, N failed`. What the machine lacks is skipped aloud by name. Environment:
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
mod server;
mod suite;

use std::process::Command;

use install::Missing;
use server::Server;
use suite::Suite;

/// The transports that the suites go over.
const TRANSPORTS: &str = "WebSockets";

/// Cases that are left out for now, by a part of their name.
const WITHOUT: &[&str] = &["bearer token", "stateful reconnect"];

#[test]
fn microsoft_signalr() {
    Suite::named("microsoft-signalr").run(|server| javascript(server, "microsoft"));
}

#[test]
fn dotnet() {
    // The program has no switch for leaving cases out, so those may fail instead.
    Suite::named("dotnet").tolerating(&without()).run(|server| {
        let mut client = Command::new(install::dotnet()?);
        client.arg("NetClient").arg(server.url()).args(["--transports", &transports()]);
        Ok(client)
    });
}

#[test]
fn autobahn() {
    if Server::is_reference() {
        return; // It has no bare echo.
    }
    Suite::named("autobahn").run(|server| {
        let mut runner = Command::new(install::python("autobahn")?);
        runner.arg(install::source("autobahn/run.py"));
        runner.arg(format!("{}/websocket-echo", server.url().replacen("http", "ws", 1)));
        runner.arg(install::scratch("autobahn-report"));
        Ok(runner)
    });
}

fn javascript(server: &mut Server, client: &str) -> Result<Command, Missing> {
    let modules = install::node_modules("js")?;
    let mut node = Command::new("node");
    node.arg(install::source("js/run.mjs")).arg(server.url()).args(["--client", client]).arg("--modules").arg(modules);
    node.args(["--transports", &transports(), "--without", &without().join(",")]);
    if server.expects_stop() {
        node.arg("--stop");
    }
    if Server::is_reference() {
        node.arg("--reference");
    }
    Ok(node)
}

fn transports() -> String {
    std::env::var("HUBWIRE_TEST_TRANSPORTS").unwrap_or_else(|_| TRANSPORTS.to_owned())
}

fn without() -> Vec<String> {
    match std::env::var("HUBWIRE_TEST_WITHOUT") {
        Ok(list) => list.split(',').filter(|text| !text.is_empty()).map(str::to_owned).collect(),
        Err(_) => WITHOUT.iter().map(|&text| text.to_owned()).collect(),
    }
}

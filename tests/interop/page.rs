//! The page of the development preset, served by the program itself, in Chromium and as a client of its own in Node.js.

use std::process::Command;

use crate::install::{self, Missing};
use crate::server::Server;
use crate::suite::Suite;
use crate::{Run, WEB_SOCKETS};

#[test]
fn page_over_web_sockets() {
    on_preset("page-web-sockets", WEB_SOCKETS);
}

#[test]
fn page_over_server_sent_events() {
    on_preset("page-server-sent-events", &["ServerSentEvents"]);
}

#[test]
fn page_over_long_polling() {
    on_preset("page-long-polling", &["LongPolling"]);
}

/// The client of the page without the page: what it does when the line breaks at the worst moments.
#[test]
fn page_hub_client() {
    Suite::named("page-hub-client", WEB_SOCKETS).run_on(
        || Ok(Server::preset("page-hub-client")),
        |run| {
            install::require("node", "--version", "nodejs")?;
            let mut node = Command::new("node");
            node.arg(install::source("page/hub.mjs")).arg(run.url());
            Ok(node)
        },
    );
}

fn on_preset(name: &'static str, transports: &'static [&'static str]) {
    Suite::named(name, transports).run_on(|| Ok(Server::preset(name)), browser);
}

fn browser(run: &mut Run) -> Result<Command, Missing> {
    let browser = install::chromium()?;
    install::require("curl", "--version", "curl")?;
    let modules = install::node_modules("browser")?;
    let mut node = Command::new("node");
    node.arg(install::source("page/run.mjs")).arg(run.url()).args(["--transports", &run.transports]);
    node.arg("--modules").arg(modules).arg("--browser").arg(browser);
    node.arg("--shots").arg(install::scratch_folder("page")).arg("--banner").arg(run.server.log_file());
    Ok(node)
}

//! The command line: arguments, environment, signals, exit codes. Nothing else reads them.

mod args;
mod banner;
mod by_query;
mod check_config;
mod composition;
mod drain;
mod failure;
mod forwarded;
mod healthcheck;
mod listeners;
mod look;
mod send;
mod serve;
mod service;
mod signals;
mod sources;
mod systemd;
mod tls;
mod token;
mod trust;

use args::{Arguments, Verb};
use clap::{CommandFactory, Parser};
use failure::Failure;
use std::io::{self, Write};
use std::process::ExitCode;
use tokio_rustls::rustls::crypto::aws_lc_rs;

/// Runs the program `hubwire` with the arguments of this process.
pub fn run() -> ExitCode {
    // the HTTP client takes what the process has installed
    let _ = aws_lc_rs::default_provider().install_default();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(e) => {
            // help and version are no errors, and go to stdout; neither fails if nobody reads it
            let _ = e.print();
            return ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(2));
        }
    };
    match perform(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let text = failure.to_string();
            if !text.is_empty() {
                let _ = writeln!(io::stderr(), "hubwire: {text}");
            }
            failure.exit_code()
        }
    }
}

fn perform(arguments: Arguments) -> Result<(), Failure> {
    match arguments.verb {
        None => serve::serve(&arguments.serve),
        Some(Verb::Serve(serve)) => serve::serve(&serve),
        Some(Verb::CheckConfig(check)) => check_config::check(&check),
        Some(Verb::DefaultConfig) => print(crate::config::DEFAULT),
        Some(Verb::Token(token)) => token::token(&token),
        Some(Verb::Send(send)) => block_on(send::send(&send)),
        Some(Verb::Connections(connections)) => block_on(look::connections(&connections)),
        Some(Verb::Groups(groups)) => block_on(look::groups(&groups)),
        Some(Verb::Drain(drain)) => block_on(drain::drain(&drain)),
        Some(Verb::Healthcheck(check)) => block_on(healthcheck::check(&check)),
        Some(Verb::Completions { shell }) => completions(shell),
    }
}

fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "hubwire", &mut script);
    Ok(io::stdout().write_all(&script)?)
}

/// Prints a text as it stands.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    print(&format!("{value}\n"))
}

/// Runs one short task.
fn block_on<T>(task: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::failed(format!("cannot start: {e}")))?
        .block_on(task)
}

use std::io;
use tracing_subscriber::EnvFilter;

/// Writes the log of this process to stderr from now on: lines for people, or JSON, one object a line.
///
/// What is logged never has a token, a payload or a query string: see where it is logged. A second call changes nothing.
pub(crate) fn log(json: bool, filter: EnvFilter) {
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let set = if json {
        lines.json().flatten_event(true).with_ansi(false).try_init()
    } else {
        lines.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).with_target(false).try_init()
    };
    // only tests, several of which share a process, call it twice
    drop(set);
}

//! The command line: arguments, environment, signals, exit codes. Nothing else reads them.

use std::process::ExitCode;

/// Runs the program `hubwire` with the arguments of this process.
pub fn run() -> ExitCode {
    ExitCode::SUCCESS
}

use crate::config::ConfigError;
use std::fmt;
use std::io;
use std::process::ExitCode;

/// Why the program ends without having done what it was asked: the one place that says with which status.
#[derive(Debug)]
pub(super) enum Failure {
    /// It was asked for something that makes no sense.
    Usage(String),
    Config(ConfigError),
    /// It could not do it.
    Failed(String),
    /// It stopped, and cut what had not ended in time.
    Cut,
    /// It was told to stop twice.
    Impatient,
    /// Whoever reads its output has had enough.
    ClosedPipe,
}

impl Failure {
    pub(super) fn failed(what: impl Into<String>) -> Self {
        Self::Failed(what.into())
    }

    /// 2: wrongly asked; 3: it stopped and had to cut something; 130: it was told twice to stop; 1: anything else.
    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Self::ClosedPipe => ExitCode::SUCCESS,
            Self::Usage(_) => ExitCode::from(2),
            Self::Config(_) | Self::Failed(_) => ExitCode::FAILURE,
            Self::Cut => ExitCode::from(3),
            Self::Impatient => ExitCode::from(130),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(e: ConfigError) -> Self {
        Self::Config(e)
    }
}

/// Of writing to stdout.
impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        match e.kind() {
            io::ErrorKind::BrokenPipe => Self::ClosedPipe,
            _ => Self::Failed(format!("cannot write the output: {e}")),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(what) | Self::Failed(what) => f.write_str(what),
            Self::Config(e) => e.fmt(f),
            Self::Cut => {
                f.write_str("not everything had ended when the time to stop was over: what was left has been cut")
            }
            Self::Impatient => f.write_str("told to stop twice: ended at once"),
            Self::ClosedPipe => Ok(()),
        }
    }
}

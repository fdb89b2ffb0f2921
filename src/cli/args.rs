use crate::config::Setting;
use crate::units::parse_duration;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::path::PathBuf;
use std::time::Duration;

/// A real-time hub server that SignalR clients connect to unchanged.
///
/// Without a verb it serves. Without a configuration it serves the development preset, to this machine only, and prints what to try.
#[derive(Debug, Parser)]
#[command(name = "hubwire", version, max_term_width = 100, args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) verb: Option<Verb>,
    #[command(flatten)]
    pub(super) serve: Serve,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Serves the configured hubs (what happens without a verb, too)
    Serve(Serve),
    /// Checks a configuration and prints it in short, with the memory that clients can make it hold at most
    CheckConfig(CheckConfig),
    /// Prints every setting with its default, explained
    DefaultConfig,
    /// Prints a token, signed with the first access key
    Token(Token),
    /// Calls a method of clients: of all, a user, a group or a connection
    Send(Send),
    /// Lists who is connected to a hub of a running server
    Connections(Connections),
    /// Lists the groups of a hub of a running server, or who is in one
    Groups(Groups),
    /// Has a running server close its connections, paced and with permission to connect again, and stop
    ///
    /// The process ends; whoever supervises it may start it again (`Restart=always`, a container's restart policy, Kubernetes). Where it is to
    /// stay down, tell the supervisor to stop it: the server drains all the same.
    Drain(Drain),
    /// Asks the admin address of a server on this machine whether it is well, for container health checks
    Healthcheck(Healthcheck),
    /// Prints completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// Where the configuration is.
#[derive(Debug, Args)]
pub(super) struct File {
    /// The configuration, in TOML
    #[arg(short, long, value_name = "FILE", env = "HUBWIRE_CONFIG")]
    pub(super) config: Option<PathBuf>,
}

/// Settings, over those of the environment and the file.
#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    pub(super) file: File,
    /// Address of clients, application servers and REST calls; may be given several times
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<String>,
    /// Address of health and metrics
    #[arg(long, value_name = "ADDRESS", conflicts_with = "no_admin")]
    admin: Vec<String>,
    /// Serves neither health nor metrics
    #[arg(long)]
    no_admin: bool,
    /// URL that clients reach the server at, if it is not the address
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// Chain of certificates, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<String>,
    /// Key of the first certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<String>,
    /// How long calls and streams may go on when the server stops
    #[arg(long, value_name = "DURATION")]
    drain_timeout: Option<String>,
    /// "human" or "json"
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// A level, or one for each part: warn,hubwire=debug
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
}

impl Serve {
    /// What the flags say, as settings.
    pub(super) fn settings(&self) -> Vec<Setting> {
        let list = |values: &[String]| toml_edit::Array::from_iter(values.iter().cloned()).to_string();
        let text = |value: &String| toml_edit::Value::from(value.as_str()).to_string();
        let mut settings = Vec::new();
        let mut set = |flag, path, value: Option<String>| {
            settings.extend(value.map(|value| Setting::of_flag(flag, path, value)));
        };
        set("--listen", "server.listen", (!self.listen.is_empty()).then(|| list(&self.listen)));
        set("--admin", "admin.listen", (!self.admin.is_empty()).then(|| list(&self.admin)));
        set("--no-admin", "admin.listen", self.no_admin.then(|| list(&[])));
        set("--public-url", "server.public_url", self.public_url.as_ref().map(text));
        set("--tls-certificate", "server.tls_certificate", self.tls_certificate.as_ref().map(text));
        set("--tls-key", "server.tls_key", self.tls_key.as_ref().map(text));
        set("--drain-timeout", "server.drain_timeout", self.drain_timeout.as_ref().map(text));
        set("--log-format", "log.format", self.log_format.as_ref().map(text));
        set("--log", "log.filter", self.log.as_ref().map(text));
        settings
    }
}

#[derive(Debug, Args)]
pub(super) struct CheckConfig {
    #[command(flatten)]
    pub(super) serve: Serve,
    /// Prints it for a program
    #[arg(long)]
    pub(super) json: bool,
}

/// Which server, and with which key.
///
/// The connection string says both; without one the configuration of a server on this machine does, and without that it is the
/// development preset.
#[derive(Debug, Args)]
pub(super) struct Service {
    /// Connection string of the server [env: Azure__SignalR__ConnectionString]
    #[arg(long, value_name = "STRING")]
    pub(super) connection_string: Option<String>,
    #[command(flatten)]
    pub(super) file: File,
    /// Certificates of an authority to trust, in PEM; the configured certificate is trusted without
    #[arg(long, value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
    /// Prints the answer for a program
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct Token {
    #[command(flatten)]
    pub(super) service: Service,
    /// The hub that it is for
    #[arg(long, default_value = "chat")]
    pub(super) hub: String,
    /// Who it is for: a client of the hub, an application server, or a REST call
    #[arg(long = "for", value_enum, default_value_t = TokenKind::Client, value_name = "WHOM")]
    pub(super) kind: TokenKind,
    /// Path of the REST call, such as /api/hubs/chat/:send
    #[arg(long, value_name = "PATH", required_if_eq("kind", "rest"))]
    pub(super) path: Option<String>,
    /// User id
    #[arg(long, allow_hyphen_values = true)]
    pub(super) user: Option<String>,
    /// A role; may be given several times
    #[arg(long = "role", value_name = "ROLE")]
    pub(super) roles: Vec<String>,
    /// Another claim; may be given several times
    #[arg(long = "claim", value_name = "TYPE=VALUE", value_parser = pair)]
    pub(super) claims: Vec<(String, String)>,
    /// How long it is good
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = lifetime)]
    pub(super) expires: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum TokenKind {
    Client,
    Server,
    Rest,
}

#[derive(Debug, Args)]
pub(super) struct Send {
    #[command(flatten)]
    pub(super) service: Service,
    #[arg(long, default_value = "chat")]
    /// The hub whose clients are called
    pub(super) hub: String,
    #[command(flatten)]
    pub(super) whom: Whom,
    /// Connections that are left out, by id; may be given several times
    #[arg(long = "except", value_name = "ID", allow_hyphen_values = true, conflicts_with_all = ["user", "connection"])]
    pub(super) except: Vec<String>,
    /// The method of the clients
    pub(super) target: String,
    /// What it is called with: JSON where it is such, or else a text
    #[arg(allow_negative_numbers = true)]
    pub(super) arguments: Vec<String>,
}

/// Who is called; without any of these, everybody.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(super) struct Whom {
    /// Everybody, which is the default
    #[arg(long)]
    pub(super) all: bool,
    /// All connections of a user
    #[arg(long, allow_hyphen_values = true)]
    pub(super) user: Option<String>,
    /// The members of a group
    #[arg(long, allow_hyphen_values = true)]
    pub(super) group: Option<String>,
    // one id in 64 begins with a hyphen
    /// One connection, by its id
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    pub(super) connection: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Connections {
    #[command(flatten)]
    pub(super) service: Service,
    /// The hub
    #[arg(long, default_value = "chat")]
    pub(super) hub: String,
    /// Application servers instead, each with its connections and clients
    #[arg(long)]
    pub(super) servers: bool,
}

#[derive(Debug, Args)]
pub(super) struct Groups {
    #[command(flatten)]
    pub(super) service: Service,
    /// The hub
    #[arg(long, default_value = "chat")]
    pub(super) hub: String,
    /// The group whose members are listed
    pub(super) group: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct Drain {
    #[command(flatten)]
    pub(super) service: Service,
}

#[derive(Debug, Args)]
pub(super) struct Healthcheck {
    #[command(flatten)]
    pub(super) file: File,
    /// Asks whether it takes clients: not while it starts or drains
    #[arg(long)]
    pub(super) ready: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((kind, value)) if !kind.is_empty() => Ok((kind.into(), value.into())),
        _ => Err("write it as TYPE=VALUE".into()),
    }
}

fn lifetime(text: &str) -> Result<Duration, String> {
    parse_duration(text)
        .filter(|duration| duration.as_secs() > 0)
        .ok_or_else(|| "write it as a number and a unit, such as 30s, 10m, 8h or 30d".into())
}

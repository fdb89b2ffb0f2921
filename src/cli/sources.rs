//! The configuration of this process: its file, its environment, its flags.

use super::failure::Failure;
use crate::auth::{ConnectionString, Credential};
use crate::config::{Config, File, Secret, Setting, Sources};
use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Reads and checks the configuration. Without a file, and without a hub or the service in the environment, it is the development preset.
pub(super) fn load(file: Option<&Path>, flags: Vec<Setting>) -> Result<Config, Failure> {
    Ok(Config::load(&sources(file, flags)?, connection_key()?)?)
}

/// Only where health is served.
pub(super) fn admin(file: Option<&Path>) -> Result<Vec<SocketAddr>, Failure> {
    Ok(Config::admin(&sources(file, Vec::new())?)?)
}

fn sources(file: Option<&Path>, flags: Vec<Setting>) -> Result<Sources, Failure> {
    let mut settings = environment()?;
    let is_configured = |setting: &Setting| setting.is_below("hubs") || setting.is_below("service");
    let preset = file.is_none() && !settings.iter().any(is_configured);
    settings.extend(flags);
    let file = file.map(File::read).transpose()?;
    let guarded =
        GUARDED.iter().map(PathBuf::from).chain(env::var_os("CREDENTIALS_DIRECTORY").map(Into::into)).collect();
    Ok(Sources { preset, file, settings, guarded })
}

/// The connection string that application servers are configured with, if there is one.
pub(super) fn connection_string() -> Option<String> {
    env::var(CONNECTION_STRING).ok().filter(|text| !text.trim().is_empty())
}

pub(super) fn parse_connection_string(text: &str, origin: &str) -> Result<ConnectionString, Failure> {
    ConnectionString::parse(text).map_err(|e| Failure::Usage(format!("{origin}: {e}")))
}

/// Its access key, which serves where no other is configured.
fn connection_key() -> Result<Option<Secret>, Failure> {
    let Some(text) = connection_string() else { return Ok(None) };
    match parse_connection_string(&text, CONNECTION_STRING)?.credential() {
        Credential::AccessKey(key) => Ok(Some(Secret::new(key))),
        Credential::Identity(_) => Ok(None),
    }
}

/// In the order of their names, so that it is the same each time.
fn environment() -> Result<Vec<Setting>, Failure> {
    let mut variables: Vec<(String, String)> = Vec::new();
    for (name, text) in env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with("HUBWIRE_")) else { continue };
        let text = text.into_string().map_err(|_| Failure::Usage(format!("{name}: is not UTF-8")))?;
        variables.push((name.into(), text));
    }
    variables.sort();
    Ok(variables.iter().filter_map(|(name, text)| Setting::of_variable(name, text)).collect())
}

/// Where container platforms put secrets, with modes of their own; systemd says where it does.
const GUARDED: [&str; 2] = ["/run/secrets", "/var/run/secrets"];
pub(super) const CONNECTION_STRING: &str = "Azure__SignalR__ConnectionString";

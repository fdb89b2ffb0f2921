//! The configuration of this process: its file, its environment, its flags.

use super::failure::Failure;
use crate::auth::{ConnectionString, Credential};
use crate::config::{Config, File, Secret, Setting, Sources};
use std::env;
use std::path::Path;

/// Reads and checks the configuration. Without a file, and without a hub in the environment, it is the development preset.
pub(super) fn load(file: Option<&Path>, flags: Vec<Setting>) -> Result<Config, Failure> {
    let mut settings = environment()?;
    let preset = file.is_none() && !settings.iter().any(|setting| setting.is_below("hubs"));
    settings.extend(flags);
    let file = file.map(File::read).transpose()?;
    let sources = Sources { preset, file, settings };
    Ok(Config::load(&sources, connection_key()?)?)
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

pub(super) const CONNECTION_STRING: &str = "Azure__SignalR__ConnectionString";

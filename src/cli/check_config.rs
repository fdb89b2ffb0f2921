use super::args::CheckConfig;
use super::failure::Failure;
use super::sources::load;
use super::{print, print_json};
use crate::config::{Config, Memory};
use serde_json::{Value, json};
use std::fmt::Write;

/// Checks the configuration that `serve` would have, with the same flags.
pub(super) fn check(args: &CheckConfig) -> Result<(), Failure> {
    let config = load(args.serve.file.config.as_deref(), args.serve.settings())?;
    let memory = Memory::of(&config);
    if args.json {
        return print_json(&as_json(&config, &memory));
    }
    let mut out = String::new();
    describe(&mut out, &config).map_err(|e| Failure::failed(e.to_string()))?;
    print(&format!("{out}\nmemory, at most:\n{memory}\n"))
}

fn describe(out: &mut String, config: &Config) -> std::fmt::Result {
    if config.preset {
        writeln!(out, "development preset: nothing is configured")?;
    }
    let tls = if config.server.tls.is_some() { "TLS" } else { "no TLS" };
    let list =
        |addresses: &[std::net::SocketAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    writeln!(out, "listens on {} ({tls}), reached at {}", list(&config.server.listen), config.url())?;
    match config.admin.is_empty() {
        true => writeln!(out, "no health and metrics")?,
        false => writeln!(out, "health and metrics on {}", list(&config.admin))?,
    }
    writeln!(out, "access keys: {}", config.keys.len())?;
    let server = &config.server;
    writeln!(
        out,
        "stops within {:?} + {:?} + {:?}",
        server.drain_delay, server.drain_timeout, server.limits.shutdown_timeout
    )?;
    if config.hubs.is_empty() {
        writeln!(out, "no hub")?;
    }
    for (name, hub) in &config.hubs {
        let who = if hub.anonymous { "everybody" } else { "clients with a token" };
        let most = hub.options.hub.transport.max_connections;
        writeln!(out, "hub {name} at {}: {who}, {most} connections at most", hub.path)?;
    }
    for warning in &config.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    Ok(())
}

fn as_json(config: &Config, memory: &Memory) -> Value {
    let hubs: serde_json::Map<String, Value> = config
        .hubs
        .iter()
        .map(|(name, hub)| {
            let most = hub.options.hub.transport.max_connections;
            (name.clone(), json!({ "path": hub.path, "anonymous": hub.anonymous, "maxConnections": most }))
        })
        .collect();
    let terms: Vec<Value> = memory
        .terms()
        .iter()
        .map(|term| json!({ "what": term.what, "count": term.count, "each": term.each, "total": term.total().map(clamp) }))
        .collect();
    json!({
        "preset": config.preset,
        "listen": config.server.listen,
        "url": config.url(),
        "tls": config.server.tls.is_some(),
        "admin": config.admin,
        "accessKeys": config.keys.len(),
        "hubs": hubs,
        "memory": { "terms": terms, "total": memory.total().map(clamp) },
        "warnings": config.warnings,
    })
}

fn clamp(bytes: u128) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

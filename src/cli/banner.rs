use super::failure::Failure;
use crate::auth::{AccessKeys, Claims, ConnectionString};
use crate::config::Config;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

/// What to try with the development preset, ready to be pasted.
pub(super) fn banner(config: &Config, data: &[SocketAddr], admin: &[SocketAddr]) -> Result<String, Failure> {
    let (Some(key), Some(signing)) = (config.keys.first(), &config.signing) else { return Ok(String::new()) };
    let url = config.url_at(data);
    let is_known = config.signs_for_anybody();
    let key = if is_known { key.reveal() } else { "KEY" };
    let string = ConnectionString::new(&url, key).map_err(|e| Failure::failed(e.to_string()))?.print();
    let hint = if is_known { "" } else { "  (your own key in the place of KEY)" };
    let admin = admin
        .first()
        .map_or_else(|| "none".into(), |address| format!("http://{address}/metrics (also /healthz, /readyz)"));
    Ok(format!(
        "hubwire {version}: development preset, open to everybody on this machine

  page               {url}/
  admin              {admin}
  connection string  {string}{hint}

Open the page, and make a message appear in it:

{curl}

Start from `hubwire default-config` for a configuration of your own. Ctrl-C stops.
",
        version = env!("CARGO_PKG_VERSION"),
        curl = curl(&url, is_known.then_some(signing)),
    ))
}

/// A call that the page shows: its hub is `chat`, its group `lobby`, and it listens to `message`. A token that is good for anything else
/// than development is made by whoever calls.
fn curl(url: &str, well_known: Option<&AccessKeys>) -> String {
    let path = "/api/hubs/chat/groups/lobby/:send";
    let call = format!("{url}{path}");
    let authorization = match well_known {
        Some(keys) => {
            let claims = Claims { claims: &[], audience: &call, now: SystemTime::now(), lifetime: LIFETIME };
            format!("'Authorization: Bearer {}'", keys.sign(&claims))
        }
        None => format!("\"Authorization: Bearer $(hubwire token --for rest --path {path})\""),
    };
    format!(
        "  curl '{call}?api-version=2024-12-01' -H 'Content-Type: application/json' -d '{{\"target\":\"message\",\"arguments\":[\"curl\",\"hello\"]}}' -H {authorization}"
    )
}

/// Long enough for a terminal that stays open; the key is known to everybody anyway.
const LIFETIME: Duration = Duration::from_secs(30 * 86_400);

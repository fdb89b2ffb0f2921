//! A running server, spoken to over its REST API.

use super::args;
use super::failure::Failure;
use super::sources::{CONNECTION_STRING, connection_string, load, parse_connection_string};
use super::trust::Trust;
use crate::auth::{AccessKeys, Claims, ConnectionString, Credential};
use crate::config::Config;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use std::time::{Duration, SystemTime};

/// Where a server is, and the key to speak to it.
pub(super) struct Service {
    /// With a slash at its end.
    pub(super) base: String,
    /// What audiences begin with; with a slash at its end.
    audience_base: String,
    keys: AccessKeys,
    trust: Trust,
}

impl Service {
    pub(super) fn find(args: &args::Service) -> Result<Self, Failure> {
        let trust = args.ca.as_deref().map(Trust::authority).transpose()?;
        if let Some(text) = &args.connection_string {
            return Self::of(&parse_connection_string(text, "--connection-string")?, trust);
        }
        let file = args.file.config.as_deref();
        if let (None, Some(text)) = (file, connection_string()) {
            return Self::of(&parse_connection_string(&text, CONNECTION_STRING)?, trust);
        }
        Self::configured(&load(file, Vec::new())?, trust)
    }

    /// The server of this configuration, on this machine: its public address may lead to another one.
    fn configured(config: &Config, trust: Option<Trust>) -> Result<Self, Failure> {
        let Some(key) = config.keys.first() else {
            return Err(Failure::failed("there is no access key: set `keys.primary`, or give --connection-string"));
        };
        let url = config.url();
        let string = ConnectionString::new(&url, key.reveal())
            .map_err(|e| Failure::failed(format!("no connection string can be made for {url}: {e}")))?;
        let own = config.server.tls.as_ref().map(|tls| Trust::Own(tls.leaf.clone()));
        let service = Self::of(&string, trust.or(own))?;
        Ok(Self { base: format!("{}/", config.own_url()), ..service })
    }

    fn of(string: &ConnectionString, trust: Option<Trust>) -> Result<Self, Failure> {
        let Credential::AccessKey(key) = string.credential() else {
            return Err(Failure::failed("the connection string has no AccessKey, which is needed here"));
        };
        let keys = AccessKeys::new([key]).map_err(|e| Failure::failed(e.to_string()))?;
        let slash = |url: String| if url.ends_with('/') { url } else { format!("{url}/") };
        let (base, audience_base) = (slash(string.server_base()), slash(string.audience_base()));
        Ok(Self { base, audience_base, keys, trust: trust.unwrap_or_default() })
    }

    pub(super) fn sign(&self, path_and_query: &str, claims: &[(&str, &str)], lifetime: Duration) -> Signed {
        let audience = format!("{}{path_and_query}", self.audience_base);
        let now = SystemTime::now();
        let token = self.keys.sign(&Claims { claims, audience: &audience, now, lifetime });
        Signed { token, audience, expires: now + lifetime }
    }

    /// Sends a request below `api/`, and gives the answer's JSON: null if it has none.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        query: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let token = self.sign(path, &[], Duration::from_secs(300)).token;
        let url = format!("{}{path}?api-version={API_VERSION}{query}", self.base);
        let client = client(&self.trust)?;
        let mut request = client.request(method, &url).bearer_auth(token);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let unreachable = |e: reqwest::Error| {
            let cause = innermost(&e);
            let remedy = match cause.contains("certificate") {
                true => "for a server whose certificate this machine does not trust, name its authority by --ca",
                false => "does the server run there?",
            };
            Failure::failed(format!("{} cannot be reached: {cause}; {remedy}", self.base))
        };
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let text = response.text().await.map_err(unreachable)?;
        if status.is_success() {
            return Ok(serde_json::from_str(&text).unwrap_or(Value::Null));
        }
        Err(self.refusal(status, &text))
    }

    fn refusal(&self, status: StatusCode, body: &str) -> Failure {
        let said = serde_json::from_str::<Value>(body).ok();
        let said = said.as_ref().and_then(|json| {
            let error = json.get("error").unwrap_or(json);
            error.get("message").or_else(|| error.get("title"))?.as_str()
        });
        let base = &self.base;
        Failure::Failed(match (status, said) {
            (StatusCode::UNAUTHORIZED, _) => {
                format!(
                    "{base} does not take our key: compare the connection string with the server's `keys`, and the clocks"
                )
            }
            (status, Some(said)) => format!("{base} answered {status}: {said}"),
            (StatusCode::NOT_FOUND, None) => {
                format!("{base} answered {status}: there is no such hub, or it is no server of this kind")
            }
            (status, None) => format!("{base} answered {status}"),
        })
    }
}

/// A token, and what it says.
pub(super) struct Signed {
    pub(super) token: String,
    pub(super) audience: String,
    pub(super) expires: SystemTime,
}

pub(super) fn client(trust: &Trust) -> Result<reqwest::Client, Failure> {
    let builder = reqwest::Client::builder()
        .timeout(Duration::from_secs(30))
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none());
    let built = trust.apply(builder)?.build();
    built.map_err(|e| Failure::failed(format!("cannot make an HTTP client: {}", innermost(&e))))
}

/// The cause that says something: the outer ones only say that something failed.
pub(super) fn innermost(e: &dyn std::error::Error) -> String {
    let mut cause = e;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Writes a name as a part of a path: all but unreserved characters by their bytes.
pub(super) fn segment(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

const API_VERSION: &str = "2024-12-01";

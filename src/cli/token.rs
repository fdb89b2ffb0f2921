use super::args::{Token, TokenKind};
use super::failure::Failure;
use super::service::Service;
use super::{print, print_json};
use serde_json::json;
use std::time::SystemTime;

/// Prints a token and nothing else, so that it can be put into a variable.
pub(super) fn token(args: &Token) -> Result<(), Failure> {
    let service = Service::find(&args.service)?;
    let hub = args.hub.to_ascii_lowercase();
    let resource = match args.kind {
        TokenKind::Client => format!("client/?hub={hub}"),
        TokenKind::Server => format!("server/?hub={hub}"),
        TokenKind::Rest => args.path.as_deref().unwrap_or_default().trim_start_matches('/').to_owned(),
    };
    let user_claim = if args.kind == TokenKind::Client { "asrs.s.uid" } else { "nameid" };
    let user = args.user.as_deref().map(|user| (user_claim, user));
    let roles = args.roles.iter().map(|role| ("role", role.as_str()));
    let others = args.claims.iter().map(|(kind, value)| (kind.as_str(), value.as_str()));
    let claims: Vec<(&str, &str)> = user.into_iter().chain(roles).chain(others).collect();
    let signed = service.sign(&resource, &claims, args.expires);
    if !args.service.json {
        return print(&format!("{}\n", signed.token));
    }
    let expires = signed.expires.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    print_json(&json!({ "token": signed.token, "audience": signed.audience, "expires": expires }))
}

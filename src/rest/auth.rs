use super::errors::Refusal;
use super::options::RestOptions;
use super::request::{Asked, decode};
use super::routes::Route;
use crate::auth::AccessKeys;
use axum::http::{HeaderValue, StatusCode, header};
use std::time::SystemTime;
use tracing::{debug, warn};

/// Checks that the request carries a token that is signed with a key, is good now, and was made for this very path.
pub(super) fn check(keys: &AccessKeys, options: &RestOptions, asked: &Asked<'_>, route: &Route) -> Result<(), Refusal> {
    let Some(token) = bearer(asked) else {
        return Err(challenge("Bearer"));
    };
    let invalid = || challenge("Bearer error=\"invalid_token\"");
    let token = keys.verify(token, SystemTime::now(), options.clock_skew).map_err(|error| {
        debug!(%error, "a REST token was refused");
        invalid()
    })?;
    if token.audiences().any(|audience| is_for(audience, options, asked, route)) {
        return Ok(());
    }
    // whoever has a key is asked to read this, so it says what was expected; never the query
    let actual: Vec<&str> = token.audiences().map(|one| one.split('?').next().unwrap_or_default()).collect();
    warn!(expected = asked.path, ?actual, "the audience of a REST token is not the path of its request");
    Err(invalid())
}

/// The token of the request, if it has one.
pub(super) fn bearer<'a>(asked: &'a Asked<'_>) -> Option<&'a str> {
    let (scheme, token) = asked.header(header::AUTHORIZATION)?.split_once(' ')?;
    Some(token.trim()).filter(|token| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
}

pub(super) fn challenge(value: &'static str) -> Refusal {
    Refusal::bare(StatusCode::UNAUTHORIZED).with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static(value))
}

/// Whether an audience names the request. Libraries leave out the port, proxies change scheme and host, and some keep a part of the
/// query: what is compared is the path, and of the query what is there.
fn is_for(audience: &str, options: &RestOptions, asked: &Asked<'_>, route: &Route) -> bool {
    let Some((host, path, query)) = split(audience) else { return false };
    let known =
        |allowed: &String| allowed.eq_ignore_ascii_case(host) || allowed.eq_ignore_ascii_case(without_port(host));
    if !options.audience_hosts.is_empty() && !options.audience_hosts.iter().any(known) {
        return false;
    }
    let prefix = options.public_url.as_deref().and_then(split).map_or("", |(_, path, _)| path.trim_end_matches('/'));
    let path = path.strip_prefix(prefix).unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    is_path(path, asked, route) && is_query(query, asked)
}

/// Host, path and query of an absolute address.
fn split(url: &str) -> Option<(&str, &str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return None;
    }
    let rest = rest.split('#').next()?;
    let (host, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Some((host, path, query)).filter(|_| !host.is_empty())
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Piece by piece, as it stands or decoded once on both sides; the words of the API and the hub without regard to case. An audience that
/// was never escaped is the decoded path as a whole.
fn is_path(path: &str, asked: &Asked<'_>, route: &Route) -> bool {
    if path == asked.path {
        return true;
    }
    let wanted: Vec<&str> = asked.path.split('/').collect();
    let decoded: Option<Vec<String>> = wanted.iter().map(|piece| decode(piece)).collect();
    if decoded.is_some_and(|decoded| decoded.join("/") == path) {
        return true;
    }
    // the pieces before the template: nothing, `api`, the edition
    let before = wanted.len() - asked.segments.len();
    let exact = |at: usize| {
        let part = at.checked_sub(before).and_then(|at| route.template.split('/').nth(at));
        part.is_some_and(|part| part.starts_with('{') && part != "{hub}")
    };
    let given: Vec<&str> = path.split('/').collect();
    given.len() == wanted.len()
        && given.iter().zip(&wanted).enumerate().all(|(at, (given, wanted))| match (decode(given), decode(wanted)) {
            (Some(given), Some(wanted)) if exact(at) => given == wanted,
            (Some(given), Some(wanted)) => given.eq_ignore_ascii_case(&wanted),
            _ => false,
        })
}

/// Every pair of the audience's query is in the request's.
fn is_query(query: &str, asked: &Asked<'_>) -> bool {
    form_urlencoded::parse(query.as_bytes()).all(|(name, value)| {
        let any_case = name.eq_ignore_ascii_case("application");
        asked.parameters(&name).any(|given| given == value || any_case && given.eq_ignore_ascii_case(&value))
    })
}

#[cfg(test)]
mod tests {
    use super::super::routes::find;
    use super::*;
    use axum::http::Request;

    fn names(audience: &str, method: &str, target: &str, options: &RestOptions) -> bool {
        let (parts, ()) = Request::builder().method(method).uri(target).body(()).unwrap().into_parts();
        let asked = Asked::read(&parts).unwrap();
        is_for(audience, options, &asked, find(&asked).unwrap())
    }

    #[test]
    fn an_audience_is_compared_by_its_path() {
        let target = "/api/hubs/Chat/users/a%2Fb%20C/:send?application=App&api-version=2022-06-01&excluded=c1";
        let good = [
            "http://localhost:8888/api/hubs/chat/users/a%2Fb%20C/:send",
            "https://else/api/hubs/CHAT/users/a%2fb%20C/:SEND/",
            "HTTP://localhost/api/hubs/chat/users/a%2Fb%20C/:send?application=app&api-version=2022-06-01",
            "http://localhost/API/hubs/chat/users/%61%2Fb%20C/%3Asend?APPLICATION=App",
            "http://localhost/api/hubs/Chat/users/a/b C/:send",
        ];
        let bad = [
            "http://localhost/api/hubs/chat/users/a%2Fb%20c/:send",
            "http://localhost/api/hubs/chat/users/a%252Fb%20C/:send",
            "http://localhost/api/hubs/chat/users/a%2Fb%20C",
            "http://localhost/api/hubs/chat/users/a%2Fb%20C/:send/x",
            "http://localhost/api/hubs/chat/users/a%2Fb%20C/:send?application=other",
            "http://localhost/api/hubs/chat/users/a%2Fb%20C/:send?ttl=1",
            "http://localhost/api/hubs/chat/users/a%2Fb%20C/:send//",
            "http://localhost/client/?hub=chat",
            "http://localhost",
            "/api/hubs/chat/users/a%2Fb%20C/:send",
            "ftp://localhost/api/hubs/chat/users/a%2Fb%20C/:send",
            "",
        ];
        let any = RestOptions::default();
        good.iter().for_each(|audience| assert!(names(audience, "POST", target, &any), "{audience}"));
        bad.iter().for_each(|audience| assert!(!names(audience, "POST", target, &any), "{audience}"));
    }

    #[test]
    fn hosts_and_a_prefix_are_looked_at_if_asked_for() {
        let hosts = RestOptions { audience_hosts: vec!["svc.example".into()], ..RestOptions::default() };
        let path = "/api/v1/hubs/chat";
        assert!(names("https://SVC.example:99/api/v1/hubs/chat", "POST", path, &hosts));
        assert!(!names("https://other.example/api/v1/hubs/chat", "POST", path, &hosts));
        let behind = RestOptions { public_url: Some("https://x/signal/".into()), ..RestOptions::default() };
        assert!(names("https://x/signal/api/v1/hubs/chat", "POST", path, &behind));
        assert!(names("https://x/api/v1/hubs/chat", "POST", path, &behind));
    }
}

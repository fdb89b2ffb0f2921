use super::claims;
use crate::transport::Identity;
use axum::http::{HeaderMap, HeaderName, header};
use std::net::IpAddr;

/// What an application server is to know of the request that opened a connection, in one text of its own: the query with its question
/// mark, then the headers, each begun by a control character that can be in none of them, as are their values.
///
/// It is kept as long as the connection, since another server may have to be told.
pub(crate) fn pack(query: &str, headers: &HeaderMap, address: Option<IpAddr>, trusts_forwarded: bool) -> Box<str> {
    let mut kept = String::new();
    let mut pairs = query.split('&').filter(|pair| !pair.is_empty() && !is_named(pair, "access_token"));
    if let Some(first) = pairs.next() {
        kept.push('?');
        kept.push_str(first);
    }
    for pair in pairs {
        kept.push('&');
        kept.push_str(pair);
    }
    for name in headers.keys().filter(|name| is_passed_on(name)) {
        kept.push(HEADER);
        kept.push_str(name.as_str());
        for value in headers.get_all(name) {
            kept.push(VALUE);
            kept.push_str(&String::from_utf8_lossy(value.as_bytes()));
        }
    }
    let forwarded = forwarded_for(headers, address, trusts_forwarded);
    if !forwarded.is_empty() {
        kept.push_str(&format!("{HEADER}{FORWARDED_FOR}{VALUE}{forwarded}"));
    }
    kept.into()
}

/// The query, with its question mark unless it is empty.
pub(crate) fn query(kept: &str) -> &str {
    kept.split(HEADER).next().unwrap_or_default()
}

/// The headers, names in lower case and each once.
pub(crate) fn headers(kept: &str) -> Vec<(&str, Vec<&str>)> {
    kept.split(HEADER)
        .skip(1)
        .map(|header| {
            let mut parts = header.split(VALUE);
            (parts.next().unwrap_or_default(), parts.collect())
        })
        .collect()
}

/// Headers that the service adds for a client.
pub(crate) fn own_headers<'a>(identity: &Identity, instance: &'a str) -> Vec<(&'a str, Vec<&'a str>)> {
    let mut headers = vec![(INSTANCE, vec![instance])];
    if claims::is_set(identity, claims::DIAGNOSTIC) {
        headers.push((DIAGNOSTIC, vec!["true"]));
    }
    headers
}

/// The address of the client first: there is where a server's library looks for it.
fn forwarded_for(headers: &HeaderMap, address: Option<IpAddr>, trusts_forwarded: bool) -> String {
    let said = headers.get_all(FORWARDED_FOR).iter().filter_map(|line| line.to_str().ok()).map(str::to_owned);
    let address = address.map(|address| address.to_canonical().to_string());
    let all: Vec<String> =
        if trusts_forwarded { said.chain(address).collect() } else { address.into_iter().chain(said).collect() };
    all.join(", ")
}

/// A client's own token is nobody else's business, and what servers are told by the service no client may say.
fn is_passed_on(name: &HeaderName) -> bool {
    *name != header::AUTHORIZATION && *name != FORWARDED_FOR && !name.as_str().starts_with("asrs-")
}

fn is_named(pair: &str, wanted: &str) -> bool {
    form_urlencoded::parse(pair.as_bytes()).next().is_some_and(|(name, _)| name.eq_ignore_ascii_case(wanted))
}

/// Which instance of the service a client is at.
const INSTANCE: &str = "Asrs-Instance-Id";
const DIAGNOSTIC: &str = "Asrs-Is-Diagnostic-Client";
/// Where a client comes from, or goes to, that one server hands over to another.
pub(crate) const MIGRATE_FROM: &str = "Asrs-Migrate-From";
pub(crate) const MIGRATE_TO: &str = "Asrs-Migrate-To";
const FORWARDED_FOR: &str = "x-forwarded-for";
/// No query and no header can hold them.
const HEADER: char = '\u{1}';
const VALUE: char = '\u{0}';

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn what_was_packed_comes_back_without_what_is_nobodys_business() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("Cookie", "a=b"),
            ("X-Two", "1"),
            ("Authorization", "Bearer secret"),
            ("x-two", ""),
            ("Asrs-Migrate-From", "me"),
            ("X-Forwarded-For", "192.0.2.1"),
        ] {
            headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::from_static(value));
        }
        let address = Some("::ffff:198.51.100.7".parse().unwrap());
        let kept = pack("hub=chat&access%5Ftoken=secret&&a=%20b&id=5", &headers, address, false);
        assert!(!kept.contains("secret"));
        assert_eq!(query(&kept), "?hub=chat&a=%20b&id=5");
        let mut sorted = super::headers(&kept);
        sorted.sort();
        let want =
            [("cookie", vec!["a=b"]), ("x-forwarded-for", vec!["198.51.100.7, 192.0.2.1"]), ("x-two", vec!["1", ""])];
        assert_eq!(sorted, want);
        let trusted = pack("", &headers, address, true);
        assert_eq!(query(&trusted), "");
        assert!(super::headers(&trusted).contains(&("x-forwarded-for", vec!["192.0.2.1, 198.51.100.7"])));
    }
}

use super::errors::Refusal;
use super::options::RestOptions;
use crate::transport::Query;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use std::borrow::Cow;

/// A request as the routes see it: its path cut at the slashes first and each piece decoded once, so that a name may hold any
/// character, a slash included.
#[derive(Debug)]
pub(super) struct Asked<'r> {
    pub(super) method: &'r Method,
    pub(super) headers: &'r HeaderMap,
    pub(super) edition: Edition,
    /// The path as it was sent, without one slash at its end.
    pub(super) path: &'r str,
    /// The pieces behind the edition's prefix.
    pub(super) segments: Vec<String>,
    query: Vec<(Cow<'r, str>, Cow<'r, str>)>,
    https: bool,
    authority: Option<&'r str>,
}

/// Which of the three ways to spell the paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edition {
    /// `/api/hubs/…`, with a date in the query.
    Dated,
    V1,
    Preview,
}

impl Edition {
    pub(super) fn prefix(self) -> &'static str {
        match self {
            Self::Dated => "/api/",
            Self::V1 => "/api/v1/",
            Self::Preview => "/api/v1-preview/",
        }
    }
}

impl<'r> Asked<'r> {
    pub(super) fn read(parts: &'r Parts) -> Result<Self, Refusal> {
        check_sizes(parts)?;
        let path = parts.uri.path();
        let path = path.strip_suffix('/').unwrap_or(path);
        let decoded = path.split('/').skip(2).map(decode).collect::<Option<Vec<_>>>();
        let mut segments = decoded.ok_or_else(|| Refusal::invalid("The path is not UTF-8."))?;
        let edition = match segments.first().map(|first| first.to_ascii_lowercase()).as_deref() {
            Some("v1") => Edition::V1,
            Some("v1-preview") => Edition::Preview,
            _ => Edition::Dated,
        };
        if edition != Edition::Dated {
            segments.remove(0);
        }
        Ok(Self {
            method: &parts.method,
            headers: &parts.headers,
            edition,
            path,
            segments,
            query: Query::new(parts.uri.query()).pairs().collect(),
            https: parts.uri.scheme_str() == Some("https"),
            authority: parts.uri.authority().map(|authority| authority.as_str()),
        })
    }

    /// The first value of a parameter; names are compared without regard to case.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters(name).next()
    }

    pub(super) fn parameters(&self, name: &str) -> impl Iterator<Item = &str> {
        self.query.iter().filter(move |pair| pair.0.eq_ignore_ascii_case(name)).map(|pair| &*pair.1)
    }

    pub(super) fn header(&self, name: impl header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Where this server is for whoever sent the request; ends in a slash.
    pub(super) fn base(&self, options: &RestOptions) -> String {
        if let Some(url) = &options.public_url {
            return format!("{}/", url.trim_end_matches('/'));
        }
        let forwarded = |name: &str| self.header(name).filter(|_| options.trust_forwarded).map(first_of_list);
        let https = forwarded("x-forwarded-proto")
            .map_or(self.https || options.https, |scheme| scheme.eq_ignore_ascii_case("https"));
        let host = forwarded("x-forwarded-host").or(self.header(header::HOST)).or(self.authority);
        format!("{}://{}/", if https { "https" } else { "http" }, host.unwrap_or("localhost"))
    }
}

/// Decodes what is escaped in a piece of a path; `None` if that is no text. A percent sign that begins no escape stands for itself.
pub(super) fn decode(piece: &str) -> Option<String> {
    let bytes = piece.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let digit = |offset: usize| (*bytes.get(at + offset)? as char).to_digit(16);
        match (bytes[at], digit(1), digit(2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).ok()
}

fn check_sizes(parts: &Parts) -> Result<(), Refusal> {
    let refuse = |status, message| Err(Refusal::of(status, super::errors::INVALID, message));
    if parts.uri.path_and_query().is_some_and(|target| target.as_str().len() > LONGEST_URI) {
        return refuse(StatusCode::URI_TOO_LONG, "The URI is longer than 12 KB.");
    }
    let headers: usize = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if headers > LARGEST_HEADERS {
        return refuse(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "The headers are longer than 16 KB together.");
    }
    Ok(())
}

fn first_of_list(value: &str) -> &str {
    value.split(',').next().unwrap_or_default().trim()
}

pub(super) const LONGEST_URI: usize = 12 * 1024;
const LARGEST_HEADERS: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_decoded_once() {
        for (piece, want) in [
            ("a%2Fb", "a/b"),
            ("%252F", "%2F"),
            ("a+b%20c", "a+b c"),
            ("100%", "100%"),
            ("%zz%4", "%zz%4"),
            ("%D1%84", "ф"),
        ] {
            assert_eq!(decode(piece).as_deref(), Some(want));
        }
        assert_eq!(decode("%FF"), None);
    }
}

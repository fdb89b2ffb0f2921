use axum::http::{HeaderValue, Request, header};
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Unexpected, Visitor};
use std::fmt;

/// Pages of which origins may do something. What is no page, a program, sends no origin and is not asked.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Origins {
    /// Every origin.
    #[default]
    Any,
    /// The server's own: host and port as in the request's `Host`. The scheme may differ, since TLS may end at a proxy.
    SameHost,
    /// These, as browsers write them (`https://app.example`, `http://localhost:3000`, `null`), whatever the case.
    List(Vec<String>),
}

impl Origins {
    /// Tells whether the page that a request comes from may. A request without an origin may.
    pub(crate) fn allow<B>(&self, request: &Request<B>) -> bool {
        let Some(origin) = request.headers().get(header::ORIGIN) else { return true };
        match self {
            Self::Any => true,
            Self::SameHost => {
                let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
                is_same_host(origin, host.or(request.uri().authority().map(|a| a.as_str())))
            }
            Self::List(list) => {
                list.iter().any(|o| origin.as_bytes().eq_ignore_ascii_case(o.strip_suffix('/').unwrap_or(o).as_bytes()))
            }
        }
    }
}

/// `"any"`, `"same-host"`, or a list.
impl<'de> Deserialize<'de> for Origins {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Written;
        impl<'de> Visitor<'de> for Written {
            type Value = Origins;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"any\", \"same-host\" or a list such as [\"https://app.example\"]")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Origins, E> {
                match text {
                    "any" => Ok(Origins::Any),
                    "same-host" => Ok(Origins::SameHost),
                    other => Err(E::invalid_value(Unexpected::Str(other), &self)),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Origins, A::Error> {
                let mut origins = Vec::new();
                while let Some(origin) = list.next_element()? {
                    origins.push(origin);
                }
                Ok(Origins::List(origins))
            }
        }
        deserializer.deserialize_any(Written)
    }
}

fn is_same_host(origin: &HeaderValue, host: Option<&str>) -> bool {
    let Some((scheme, authority)) = origin.to_str().ok().and_then(|o| o.split_once("://")) else { return false };
    let port = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
    host.is_some_and(|host| host.strip_suffix(port).unwrap_or(host).eq_ignore_ascii_case(authority))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(origins: &Origins, host: &str, origin: &str) -> bool {
        let request = Request::builder().header("host", host).header("origin", origin).body(()).unwrap();
        origins.allow(&request)
    }

    #[test]
    fn an_origin_is_compared_whole() {
        let list = Origins::List(vec!["https://app.example/".into(), "null".into()]);
        assert!(allows(&list, "x", "https://APP.example") && allows(&list, "x", "null"));
        for other in
            ["http://app.example", "https://app.example.evil", "https://app.example:444", "https://a.app.example"]
        {
            assert!(!allows(&list, "x", other), "{other}");
        }
        assert!(list.allow(&Request::new(())), "no page");
    }

    #[test]
    fn the_own_host_is_known_by_host_and_port() {
        let own = Origins::SameHost;
        assert!(
            allows(&own, "app.example", "https://app.example")
                && allows(&own, "App.example:443", "https://app.example")
        );
        assert!(
            allows(&own, "localhost:5000", "http://localhost:5000") && allows(&own, "[::1]:5000", "http://[::1]:5000")
        );
        for other in [
            "null",
            "https://app.example:8443",
            "https://evil.example",
            "app.example",
            "https://app.example@evil.example",
        ] {
            assert!(!allows(&own, "app.example", other), "{other}");
        }
    }
}

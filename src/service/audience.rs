use crate::auth::Token;
use crate::transport::Query;

/// What a token opens: one entrance of the service, for one hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entrance {
    Server,
    Client,
}

impl Entrance {
    fn path(self) -> &'static str {
        match self {
            Self::Server => "/server/",
            Self::Client => "/client/",
        }
    }

    /// Tells whether a token is for this entrance and this hub: `{scheme}://{host}{path}?hub={hub}`, without a port and without anything else.
    ///
    /// Scheme and host are those of the application's connection string. Behind a proxy they are not ours to know, so they are compared only
    /// with `endpoints`, and only if there are any.
    pub(crate) fn is_opened_by(self, token: &Token, hub: &str, endpoints: &[String]) -> bool {
        token.audiences().any(|audience| self.is_audience(audience, hub, endpoints))
    }

    fn is_audience(self, audience: &str, hub: &str, endpoints: &[String]) -> bool {
        let Some((resource, query)) = audience.split_once('?') else { return false };
        let Some(endpoint) = resource.strip_suffix(self.path()) else { return false };
        let is_endpoint = endpoint.split_once("://").is_some_and(|(scheme, host)| {
            matches!(scheme, "http" | "https") && !host.is_empty() && !host.contains('/')
        });
        let mut pairs = Query::new(Some(query)).pairs();
        let is_hub = pairs.next().is_some_and(|(name, value)| name == "hub" && value.eq_ignore_ascii_case(hub));
        let is_allowed = endpoints.is_empty()
            || endpoints.iter().any(|allowed| allowed.trim_end_matches('/').eq_ignore_ascii_case(endpoint));
        is_endpoint && is_hub && pairs.next().is_none() && is_allowed
    }
}

/// Reads the name of a hub as a request has it: the first, decoded, in lower case. `None` if there is none that a hub can have.
pub(crate) fn hub_name(query: Query<'_>) -> Option<String> {
    let (_, name) = query.pairs().find(|(name, _)| name.eq_ignore_ascii_case("hub"))?;
    is_hub_name(&name).then(|| name.to_ascii_lowercase())
}

/// Class names of .NET, generic ones as well.
fn is_hub_name(name: &str) -> bool {
    let mut characters = name.chars();
    name.len() <= LONGEST_HUB_NAME
        && characters.next().is_some_and(|first| first.is_ascii_alphabetic())
        && characters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '`' | ',' | '.' | '[' | ']'))
}

const LONGEST_HUB_NAME: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audience_is_for_one_entrance_and_one_hub() {
        let none = [];
        for (audience, opens) in [
            ("http://localhost/server/?hub=chat", true),
            ("https://a.example/server/?hub=CHAT", true),
            ("http://[::1]/server/?hub=chat", true),
            ("http://localhost/server/?hub=%63hat", true),
            ("http://localhost/client/?hub=chat", false),
            ("http://localhost/server/?hub=chat2", false),
            ("http://localhost/server/?hub=chat&hub=chat", false),
            ("http://localhost/server/?hub=chat&a=b", false),
            ("http://localhost/server/?Hub=chat", false),
            ("http://localhost/server?hub=chat", false),
            ("http://localhost/x/server/?hub=chat", false),
            ("http://localhost/server/", false),
            ("ftp://localhost/server/?hub=chat", false),
            ("http:///server/?hub=chat", false),
            ("/server/?hub=chat", false),
            ("", false),
        ] {
            assert_eq!(Entrance::Server.is_audience(audience, "chat", &none), opens, "{audience}");
        }
        let generic = "http://localhost/client/?hub=app_chathub`1[[a.b,c]]";
        assert!(Entrance::Client.is_audience(generic, "app_chathub`1[[a.b,c]]", &none));
        let allowed = ["http://Localhost/".to_owned()];
        assert!(Entrance::Server.is_audience("http://localhost/server/?hub=chat", "chat", &allowed));
        assert!(!Entrance::Server.is_audience("https://localhost/server/?hub=chat", "chat", &allowed));
    }

    #[test]
    fn the_first_hub_counts_in_lower_case() {
        let name = |query| hub_name(Query::new(Some(query)));
        assert_eq!(name("a=b&HUB=App_Chat&hub=other").as_deref(), Some("app_chat"));
        assert_eq!(name("hub=chathub%601").as_deref(), Some("chathub`1"));
        for odd in ["", "hub=", "hub=1a", "hub=a%2Fb", "hub=a%20b", "hub=a+b", "hub=a%00", "hub=%C3%A9", "hub=a%FF"] {
            assert_eq!(name(odd), None, "{odd}");
        }
        assert!(is_hub_name(&"a".repeat(128)) && !is_hub_name(&"a".repeat(129)));
    }
}

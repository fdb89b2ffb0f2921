use axum::http::Uri;
use std::fmt;

/// Where a service is and how it is spoken to: the text that application servers and the command line are configured with.
///
/// `Endpoint=http://localhost;Port=8888;AccessKey=…;Version=1.0;`
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ConnectionString {
    endpoint: Origin,
    port: Option<u16>,
    client_endpoint: Option<String>,
    server_endpoint: Option<String>,
    credential: Credential,
}

/// How a program proves that it may use the service.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    AccessKey(String),
    /// A directory vouches for it.
    Identity(Directory),
}

/// Which identity of a directory it is.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Directory {
    /// Whichever the machine offers.
    Default,
    Managed {
        client_id: Option<String>,
    },
    Application {
        client_id: String,
        tenant_id: String,
        secret: ApplicationSecret,
    },
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum ApplicationSecret {
    Text(String),
    /// Path of a certificate.
    Certificate(String),
}

/// Scheme, host in lower case, and the port if it is not the scheme's.
#[derive(Clone, PartialEq, Eq)]
struct Origin {
    https: bool,
    host: String,
    port: Option<u16>,
}

impl ConnectionString {
    /// Makes the one for a service at this address, to be printed.
    pub(crate) fn new(endpoint: &str, access_key: &str) -> Result<Self, ConnectionStringError> {
        if access_key.contains(';') || access_key.trim() != access_key || access_key.is_empty() {
            return Err(ConnectionStringError::Unprintable);
        }
        let mut endpoint = Origin::of_endpoint(endpoint)?;
        let port = endpoint.port.take();
        let credential = Credential::AccessKey(access_key.to_owned());
        Ok(Self { endpoint, port, client_endpoint: None, server_endpoint: None, credential })
    }

    pub(crate) fn parse(text: &str) -> Result<Self, ConnectionStringError> {
        let segments: Vec<&str> = text.split(';').filter(|segment| !segment.trim().is_empty()).collect();
        if segments.len() < 2 {
            return Err(ConnectionStringError::Incomplete);
        }
        let values = Values::read(&segments)?;
        let endpoint = Origin::of_endpoint(values.needed("Endpoint")?)?;
        let port = values.find("Port").map(parse_port).transpose()?;
        values.find("Version").map_or(Ok(()), check_version)?;
        Ok(Self {
            endpoint,
            port,
            client_endpoint: values.find("ClientEndpoint").map(|uri| base("ClientEndpoint", uri)).transpose()?,
            server_endpoint: values.find("ServerEndpoint").map(|uri| base("ServerEndpoint", uri)).transpose()?,
            credential: Credential::read(&values)?,
        })
    }

    /// Writes it out, with its key: for whoever configures a program, never for a log.
    pub(crate) fn print(&self) -> String {
        let mut out = format!("Endpoint={};", self.endpoint.url().trim_end_matches('/'));
        let mut put = |key: &str, value: &str| out += &format!("{key}={value};");
        if let Some(port) = self.port {
            put("Port", &port.to_string());
        }
        match &self.credential {
            Credential::AccessKey(key) => put("AccessKey", key),
            Credential::Identity(directory) => directory.print(&mut put),
        }
        for (key, endpoint) in [("ClientEndpoint", &self.client_endpoint), ("ServerEndpoint", &self.server_endpoint)] {
            if let Some(endpoint) = endpoint {
                put(key, endpoint);
            }
        }
        put("Version", "1.0");
        out
    }

    /// What `server/…` and `api/…` are appended to.
    pub(crate) fn server_base(&self) -> String {
        self.server_endpoint.clone().unwrap_or_else(|| self.service_base())
    }

    /// What `client/…` is appended to.
    #[cfg(test)]
    pub(crate) fn client_base(&self) -> String {
        self.client_endpoint.clone().unwrap_or_else(|| self.service_base())
    }

    /// What a token's audience begins with: the endpoint without its port, wherever requests go.
    pub(crate) fn audience_base(&self) -> String {
        Origin { port: None, ..self.endpoint.clone() }.url()
    }

    pub(crate) fn credential(&self) -> &Credential {
        &self.credential
    }

    fn service_base(&self) -> String {
        let port = self.port.map_or(self.endpoint.port, |port| self.endpoint.other_than_usual(port));
        Origin { port, ..self.endpoint.clone() }.url()
    }
}

impl Credential {
    fn read(values: &Values<'_>) -> Result<Self, ConnectionStringError> {
        let client_id = || values.find("ClientId").map(str::to_owned);
        let managed = || Directory::Managed { client_id: client_id() };
        let directory = match values.find("AuthType").map(str::to_ascii_lowercase).as_deref() {
            Some("azure") => Directory::Default,
            Some("azure.msi") => managed(),
            Some("azure.app") => Directory::application(values)?,
            Some("aad") if values.find("ClientId").is_some() && values.find("TenantId").is_some() => {
                Directory::application(values)?
            }
            Some("aad") => managed(),
            _ => return Ok(Self::AccessKey(values.needed("AccessKey")?.to_owned())),
        };
        Ok(Self::Identity(directory))
    }
}

impl Directory {
    fn application(values: &Values<'_>) -> Result<Self, ConnectionStringError> {
        let text = |key| values.needed(key).map(str::to_owned);
        let secret = match (values.find("ClientSecret"), values.find("ClientCert")) {
            (Some(secret), _) => ApplicationSecret::Text(secret.to_owned()),
            (None, Some(path)) => ApplicationSecret::Certificate(path.to_owned()),
            (None, None) => return Err(ConnectionStringError::NoSecret),
        };
        Ok(Self::Application { client_id: text("ClientId")?, tenant_id: text("TenantId")?, secret })
    }

    fn print(&self, put: &mut impl FnMut(&str, &str)) {
        match self {
            Self::Default => put("AuthType", "azure"),
            Self::Managed { client_id } => {
                put("AuthType", "azure.msi");
                client_id.iter().for_each(|id| put("ClientId", id));
            }
            Self::Application { client_id, tenant_id, secret } => {
                put("AuthType", "azure.app");
                put("ClientId", client_id);
                put("TenantId", tenant_id);
                match secret {
                    ApplicationSecret::Text(text) => put("ClientSecret", text),
                    ApplicationSecret::Certificate(path) => put("ClientCert", path),
                }
            }
        }
    }
}

impl Origin {
    /// A path cannot work, since callers take off its last slash and append to what is left.
    fn of_endpoint(text: &str) -> Result<Self, ConnectionStringError> {
        let (origin, path) = Self::parse("Endpoint", text)?;
        if path.trim_matches('/').is_empty() { Ok(origin) } else { Err(ConnectionStringError::Path) }
    }

    fn parse<'t>(key: &'static str, text: &'t str) -> Result<(Self, &'t str), ConnectionStringError> {
        let wrong = || ConnectionStringError::Address { key };
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let https = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(wrong)?;
        // `Uri` takes `host:` for one without a port, and forgets a fragment
        let port = authority.as_str()[authority.host().len()..].strip_prefix(':').map(str::parse).transpose();
        let port: Option<u16> = port.map_err(|_| wrong())?;
        if uri.host().is_none_or(str::is_empty) || port == Some(0) || text.contains(['?', '#']) {
            return Err(wrong());
        }
        let mut origin = Self { https, host: authority.host().to_ascii_lowercase(), port: None };
        origin.port = port.and_then(|port| origin.other_than_usual(port));
        let after = text.find("://").map_or(0, |at| at + 3) + authority.as_str().len();
        Ok((origin, &text[after..]))
    }

    fn other_than_usual(&self, port: u16) -> Option<u16> {
        Some(port).filter(|port| *port != if self.https { 443 } else { 80 })
    }

    fn url(&self) -> String {
        let scheme = if self.https { "https" } else { "http" };
        match self.port {
            Some(port) => format!("{scheme}://{}:{port}/", self.host),
            None => format!("{scheme}://{}/", self.host),
        }
    }
}

/// Why a text is no connection string. Nothing of the text is in it, as that holds a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ConnectionStringError {
    #[error(
        "a connection string has the form `Endpoint=http://host;Port=8888;AccessKey=...;Version=1.0;`: copy it whole"
    )]
    Incomplete,
    #[error("`{key}` is missing from the connection string: add `;{key}=...`")]
    Missing { key: &'static str },
    #[error("`{key}` is in the connection string twice: take one out")]
    Repeated { key: &'static str },
    #[error(
        "`{key}` in the connection string is no address: write `http://` or `https://`, a host, and nothing that is no part of an address"
    )]
    Address { key: &'static str },
    #[error("`Endpoint` in the connection string has a path, which cannot work: take the path out")]
    Path,
    #[error("`Port` in the connection string is no port: write a number from 1 to 65535")]
    Port,
    #[error("`Version` in the connection string is not supported: write `Version=1.0`")]
    Version,
    #[error(
        "the application identity in the connection string has no secret: add `;ClientSecret=...` or `;ClientCert=...`"
    )]
    NoSecret,
    #[error("the access key cannot stand in a connection string: take one without `;` and without blanks around it")]
    Unprintable,
}

/// Values by key; what is no pair, and what nobody knows, is passed over as the libraries do.
struct Values<'t>(Vec<(&'static str, &'t str)>);

impl<'t> Values<'t> {
    fn read(segments: &[&'t str]) -> Result<Self, ConnectionStringError> {
        let mut values: Vec<(&'static str, &str)> = Vec::new();
        for (key, value) in segments.iter().filter_map(|segment| segment.split_once('=')) {
            let Some(key) = KEYS.into_iter().find(|known| known.eq_ignore_ascii_case(key.trim())) else { continue };
            if values.iter().any(|(earlier, _)| *earlier == key) {
                return Err(ConnectionStringError::Repeated { key });
            }
            values.push((key, value.trim()));
        }
        Ok(Self(values))
    }

    fn find(&self, key: &str) -> Option<&'t str> {
        self.0.iter().find(|value| value.0 == key).map(|value| value.1).filter(|value| !value.is_empty())
    }

    fn needed(&self, key: &'static str) -> Result<&'t str, ConnectionStringError> {
        self.find(key).ok_or(ConnectionStringError::Missing { key })
    }
}

/// An address that paths are appended to as they are: without a path it ends in a slash, with one it is what was written.
fn base(key: &'static str, text: &str) -> Result<String, ConnectionStringError> {
    let (origin, path) = Origin::parse(key, text)?;
    Ok(origin.url() + path.strip_prefix('/').unwrap_or(path))
}

fn parse_port(text: &str) -> Result<u16, ConnectionStringError> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0).ok_or(ConnectionStringError::Port)
}

fn check_version(text: &str) -> Result<(), ConnectionStringError> {
    let rest = text.strip_prefix("1.").filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let good = rest.is_some_and(|rest| rest.chars().all(|c| c.is_alphanumeric() || "_-.".contains(c)));
    if good { Ok(()) } else { Err(ConnectionStringError::Version) }
}

/// Shows no secret.
impl fmt::Debug for ConnectionString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionString").field("base", &self.server_base()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AccessKey(_) => "AccessKey",
            Self::Identity(_) => "Identity",
        })
    }
}

const KEYS: [&str; 11] = [
    "Endpoint",
    "AccessKey",
    "Port",
    "Version",
    "ClientEndpoint",
    "ServerEndpoint",
    "AuthType",
    "ClientId",
    "TenantId",
    "ClientSecret",
    "ClientCert",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_those_of_the_libraries() {
        for (text, server, client, audience) in [
            (
                "Endpoint=http://localhost;Port=8888;AccessKey=K;Version=1.0;",
                "http://localhost:8888/",
                "http://localhost:8888/",
                "http://localhost/",
            ),
            ("endpoint=https://AAA:500;accesskey=K;port=443", "https://aaa/", "https://aaa/", "https://aaa/"),
            (
                "Endpoint=https://a.example;AccessKey=K;ClientEndpoint=https://edge.example:8443",
                "https://a.example/",
                "https://edge.example:8443/",
                "https://a.example/",
            ),
            (
                "Endpoint=https://a.example;AccessKey=K;ServerEndpoint=http://10.0.0.4:8888",
                "http://10.0.0.4:8888/",
                "https://a.example/",
                "https://a.example/",
            ),
            (
                " Endpoint = http://[::1]:8080/ ; AccessKey = K== ;; Other=x;Version=1.5-preview.2;junk",
                "http://[::1]:8080/",
                "http://[::1]:8080/",
                "http://[::1]/",
            ),
            (
                "Endpoint=http://h:123;AccessKey=K;ClientEndpoint=http://H:80/path;ServerEndpoint=https://h:443/p/",
                "https://h/p/",
                "http://h/path",
                "http://h/",
            ),
        ] {
            let parsed = ConnectionString::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!((&*parsed.server_base(), &*parsed.client_base()), (server, client), "{text}");
            assert_eq!(parsed.audience_base(), audience, "{text}");
            assert_eq!(ConnectionString::parse(&parsed.print()), Ok(parsed), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        use ConnectionStringError::*;
        for (text, want) in [
            ("", Incomplete),
            ("Endpoint=http://a;;", Incomplete),
            ("AccessKey=K;Version=1.0", Missing { key: "Endpoint" }),
            ("Endpoint=http://a;Version=1.0", Missing { key: "AccessKey" }),
            ("Endpoint=http://a;AccessKey=", Missing { key: "AccessKey" }),
            ("Endpoint=http://a;AccessKey=K;ACCESSKEY=L", Repeated { key: "AccessKey" }),
            ("Endpoint=ftp://a;AccessKey=K", Address { key: "Endpoint" }),
            ("Endpoint=a;AccessKey=K", Address { key: "Endpoint" }),
            ("Endpoint=http://;AccessKey=K", Address { key: "Endpoint" }),
            ("Endpoint=http://a:x;AccessKey=K", Address { key: "Endpoint" }),
            ("Endpoint=http://a:0;AccessKey=K", Address { key: "Endpoint" }),
            ("Endpoint=http://u:p@a;AccessKey=K", Address { key: "Endpoint" }),
            ("Endpoint=http://a/?q;AccessKey=K", Address { key: "Endpoint" }),
            ("Endpoint=http://a/b;AccessKey=K", Path),
            ("Endpoint=http://a;AccessKey=K;ClientEndpoint=/x", Address { key: "ClientEndpoint" }),
            ("Endpoint=http://a;AccessKey=K;Port=0", Port),
            ("Endpoint=http://a;AccessKey=K;Port=+1", Port),
            ("Endpoint=http://a;AccessKey=K;Port=65536", Port),
            ("Endpoint=http://a;AccessKey=K;Version=2.0", Version),
            ("Endpoint=http://a;AccessKey=K;Version=1.", Version),
            ("Endpoint=http://a;AuthType=azure.app;ClientSecret=s;TenantId=t", Missing { key: "ClientId" }),
            ("Endpoint=http://a;AuthType=azure.app;ClientSecret=s;ClientId=t", Missing { key: "TenantId" }),
            ("Endpoint=http://a;AuthType=aad;ClientId=c;TenantId=t", NoSecret),
        ] {
            assert_eq!(ConnectionString::parse(text), Err(want), "{text}");
        }
    }

    #[test]
    fn a_directory_may_vouch_instead_of_a_key() {
        let of = |text: &str| {
            let parsed = ConnectionString::parse(&format!("Endpoint=http://a;{text}")).unwrap();
            assert_eq!(ConnectionString::parse(&parsed.print()).as_ref(), Ok(&parsed));
            parsed.credential().clone()
        };
        let managed = |id: Option<&str>| Credential::Identity(Directory::Managed { client_id: id.map(Into::into) });
        assert_eq!(of("AuthType=Azure"), Credential::Identity(Directory::Default));
        assert_eq!(of("AuthType=azure.msi"), managed(None));
        assert_eq!(of("AuthType=AAD;ClientId=c"), managed(Some("c")));
        let secret = ApplicationSecret::Text("s".into());
        let application = Directory::Application { client_id: "c".into(), tenant_id: "t".into(), secret };
        let text = "AuthType=aad;ClientId=c;TenantId=t;ClientSecret=s;ClientCert=/p";
        assert_eq!(of(text), Credential::Identity(application));
        assert_eq!(of("AuthType=key;AccessKey=a=b=="), Credential::AccessKey("a=b==".into()));
    }

    #[test]
    fn it_is_printed_as_programs_want_it_and_shown_without_its_key() {
        let made = ConnectionString::new("http://localhost:8888", "K").unwrap();
        assert_eq!(made.print(), "Endpoint=http://localhost;Port=8888;AccessKey=K;Version=1.0;");
        assert_eq!(ConnectionString::parse(&made.print()), Ok(made.clone()));
        assert_eq!(format!("{made:?}"), "ConnectionString { base: \"http://localhost:8888/\", .. }");
        for key in ["", "a;b", " a"] {
            assert_eq!(ConnectionString::new("http://a", key), Err(ConnectionStringError::Unprintable));
        }
    }
}

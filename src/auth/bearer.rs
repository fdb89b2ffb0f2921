use super::claims::ClaimNames;
use super::keys::{Key, Rules};
use crate::transport::{Identity, Query, unauthorized};
use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, StatusCode, header};
use jsonwebtoken::{Header, decode_header};
use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tower_layer::Layer;
use tower_service::Service;
use tracing::debug;

/// Finds out who a request comes from by a signed token (JWT): a layer for the routes of a hub, or for a whole router.
///
/// The token comes as `Authorization: Bearer`, or as `access_token` in the query, where browsers put it for WebSockets and server-sent
/// events. A good one becomes the request's [`Identity`], with its user id, its roles (under the claim type `role`), its other claims and its
/// expiry. A bad one is answered 401. A request without one goes on as nobody: whether that is enough is the hub's to say, by
/// [`HubBuilder::authorize`](crate::HubBuilder::authorize). Neither token nor claims are logged, and the token is not kept.
///
/// ```
/// use axum::Router;
/// use hubwire::{Cors, Hub, JwtBearer, Policy};
///
/// # fn main() -> Result<(), hubwire::BearerError> {
/// # let secret = "a secret of at least 32 bytes: this one is too well known";
/// let chat = Hub::with_state(()).authorize(Policy::authenticated()).build();
/// let bearer = JwtBearer::builder().secret(secret).issuer("https://login.example").audience("chat").build()?;
/// // CORS last, which is outermost: what asks whether it may come has no token
/// let router: Router = Router::new().merge(chat.routes("/chat")).layer(bearer).layer(Cors::origins(["https://app.example"]));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct JwtBearer(Arc<Verifier>);

impl JwtBearer {
    /// Starts one, which needs at least one key.
    pub fn builder() -> JwtBearerBuilder {
        JwtBearerBuilder {
            sources: Vec::new(),
            rules: Rules { audiences: Vec::new(), issuers: Vec::new(), leeway: Duration::from_secs(60) },
            names: ClaimNames::default(),
            max_token_size: MAX_TOKEN_SIZE,
        }
    }

    /// Verifies a token outside of a request. `None`: it is not good for anything.
    pub async fn identify(&self, token: &str) -> Option<Identity> {
        self.0.identify(token).await.ok()
    }
}

/// Collects the keys and rules of a [`JwtBearer`].
#[must_use = "a layer is made by `build`"]
#[derive(Debug)]
pub struct JwtBearerBuilder {
    sources: Vec<Source>,
    rules: Rules,
    names: ClaimNames,
    max_token_size: usize,
}

enum Source {
    Secret(Vec<u8>),
    Pem(Vec<u8>),
    PemFile(Box<Path>),
    KeySet(Vec<u8>, Vec<String>),
    KeySetFile(Box<Path>, Vec<String>),
    #[cfg(feature = "jwks-url")]
    KeySetUrl(String, Vec<String>),
    #[cfg_attr(not(feature = "server"), allow(dead_code, reason = "only the program has tokens of another kind"))]
    Other(Arc<dyn Vouch>),
}

/// Knows tokens of another kind.
pub(crate) trait Vouch: Send + Sync + 'static {
    /// `None`: it is not one of these, or not good.
    fn identify(&self, token: &str) -> Option<Identity>;
}

impl JwtBearerBuilder {
    /// Takes tokens signed with a secret (HS256), of at least 32 bytes. To replace one, give both for a while.
    pub fn secret(self, secret: impl AsRef<[u8]>) -> Self {
        self.source(Source::Secret(secret.as_ref().into()))
    }

    /// Takes tokens signed with the private half of a public key in PEM: RSA of at least 2048 bits for RS256, P-256 for ES256.
    pub fn public_key(self, pem: impl AsRef<[u8]>) -> Self {
        self.source(Source::Pem(pem.as_ref().into()))
    }

    /// The same, from a file, which is read once.
    pub fn public_key_file(self, path: impl AsRef<Path>) -> Self {
        self.source(Source::PemFile(path.as_ref().into()))
    }

    /// Takes tokens of these issuers, at least one, signed with a key of a JSON Web Key Set (RS256, ES256).
    pub fn key_set(self, json: impl AsRef<[u8]>, issuers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.source(Source::KeySet(json.as_ref().into(), issuers.into_iter().map(Into::into).collect()))
    }

    /// The same, from a file, which is read once.
    pub fn key_set_file(self, path: impl AsRef<Path>, issuers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.source(Source::KeySetFile(path.as_ref().into(), issuers.into_iter().map(Into::into).collect()))
    }

    /// The same, from a URL, which has to be `https` unless it is this machine's. No token can name another one.
    ///
    /// It is fetched when the first token comes, once an hour after that, and when a token names a key that is not known, at most once a
    /// minute; an answer may take 5 s and have 256 KiB, and no redirect is followed. While there are no keys at all, tokens are answered 503.
    ///
    /// The program chooses the cryptography of TLS: it has to install a provider of `rustls` as its default before, or
    /// [`build`](Self::build) fails.
    #[cfg(feature = "jwks-url")]
    pub fn key_set_url(self, url: impl Into<String>, issuers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.source(Source::KeySetUrl(url.into(), issuers.into_iter().map(Into::into).collect()))
    }

    /// Takes tokens of another kind as well, which are looked at first.
    #[cfg(feature = "server")]
    pub(crate) fn other(self, tokens: impl Vouch) -> Self {
        self.source(Source::Other(Arc::new(tokens)))
    }

    /// Takes tokens for this audience; several may be given. With none, a token that names an audience is refused.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.rules.audiences.push(audience.into());
        self
    }

    /// Takes tokens of this issuer that are signed with a secret or a public key; several may be given. With none, any issuer will do, since
    /// the key vouches for it. Key sets have issuers of their own.
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.rules.issuers.push(issuer.into());
        self
    }

    /// Sets by how much clocks may differ: a token counts as long after `exp`, and before `nbf`. Default 60 s. What closes connections on
    /// expiry goes by `exp` itself.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.rules.leeway = leeway;
        self
    }

    /// Names the claims of which the first that a token has is the user id. Default `sub`, `nameid`, and .NET's long name of it.
    pub fn user_claims(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.names.user = names.into_iter().map(Into::into).collect();
        self
    }

    /// Names the claims that hold roles. Default `role`, `roles`, and .NET's long name of it.
    pub fn role_claims(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.names.roles = names.into_iter().map(Into::into).collect();
        self
    }

    /// Sets how many bytes a token may have. Default 8 KiB: what is held of its claims is at most four times that, or it is refused.
    pub fn max_token_size(mut self, bytes: usize) -> Self {
        self.max_token_size = bytes;
        self
    }

    /// Reads the keys, and makes the layer.
    ///
    /// # Errors
    ///
    /// If there is no key, or one that cannot be used.
    pub fn build(self) -> Result<JwtBearer, BearerError> {
        // with a second backend in the program, by other features of the crate, the default would not be known
        let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
        if self.sources.is_empty() {
            return Err(BearerError::NoKey);
        }
        let rules = &self.rules;
        let mut keys = Vec::new();
        let mut others = Vec::new();
        #[cfg(feature = "jwks-url")]
        let mut remote = Vec::new();
        for source in self.sources {
            match source {
                Source::Other(tokens) => others.push(tokens),
                Source::Secret(secret) => keys.push(Key::secret(&secret, rules)?),
                Source::Pem(pem) => keys.push(Key::pem(&pem, rules)?),
                Source::PemFile(path) => keys.push(Key::pem(&read(&path)?, rules)?),
                Source::KeySet(json, issuers) => keys.extend(Key::set(&json, rules, named(&issuers)?)?),
                Source::KeySetFile(path, issuers) => keys.extend(Key::set(&read(&path)?, rules, named(&issuers)?)?),
                #[cfg(feature = "jwks-url")]
                Source::KeySetUrl(url, issuers) => {
                    named(&issuers)?;
                    remote.push(super::jwks_url::Remote::new(&url, issuers, rules.clone())?);
                }
            }
        }
        Ok(JwtBearer(Arc::new(Verifier {
            keys,
            others,
            #[cfg(feature = "jwks-url")]
            remote,
            names: self.names,
            max_token_size: self.max_token_size,
        })))
    }

    fn source(mut self, source: Source) -> Self {
        self.sources.push(source);
        self
    }
}

fn read(path: &Path) -> Result<Vec<u8>, BearerError> {
    std::fs::read(path).map_err(BearerError::File)
}

fn named(issuers: &[String]) -> Result<&[String], BearerError> {
    if issuers.is_empty() { Err(BearerError::NoIssuer) } else { Ok(issuers) }
}

/// Why a [`JwtBearer`] cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BearerError {
    /// There is nothing to verify with.
    #[error("no key was given")]
    NoKey,
    /// A secret that can be guessed.
    #[error("a secret has fewer than 32 bytes")]
    ShortSecret,
    /// A key that is none, or of a kind that is not used.
    #[error("a key cannot be used")]
    Key(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A key set that does not parse, or has nothing to verify with.
    #[error("a key set cannot be used")]
    KeySet(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Whoever holds a key of a set could speak for any issuer.
    #[error("a key set needs the issuers that it is for")]
    NoIssuer,
    /// A file that cannot be read.
    #[error("a key file cannot be read")]
    File(#[source] std::io::Error),
    /// A URL that keys cannot be fetched from.
    #[error("the URL of a key set cannot be used")]
    Url(#[source] Box<dyn std::error::Error + Send + Sync>),
}

struct Verifier {
    keys: Vec<Key>,
    others: Vec<Arc<dyn Vouch>>,
    #[cfg(feature = "jwks-url")]
    remote: Vec<Arc<super::jwks_url::Remote>>,
    names: ClaimNames,
    max_token_size: usize,
}

/// Why a token is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    TooLarge,
    /// No token at all, or one whose header asks for what is not there: another algorithm, `none`, a critical extension.
    NotUnderstood,
    UnknownKey,
    /// Signature, times, audience or issuer.
    NotValid,
    /// Nobody can tell: there are no keys yet.
    NoKeys,
}

impl Verifier {
    async fn identify(&self, token: &str) -> Result<Identity, Refusal> {
        if token.len() > self.max_token_size {
            return Err(Refusal::TooLarge);
        }
        let identity = self.identify_small(token).await?;
        // a list repeats its name with each value
        let most = self.max_token_size.saturating_mul(LARGEST_IDENTITY);
        if identity.size() > most { Err(Refusal::TooLarge) } else { Ok(identity) }
    }

    async fn identify_small(&self, token: &str) -> Result<Identity, Refusal> {
        let header = decode_header(token).map_err(|_| Refusal::NotUnderstood)?;
        if header.crit.is_some() {
            return Err(Refusal::NotUnderstood);
        }
        if let Some(identity) = self.others.iter().find_map(|other| other.identify(token)) {
            return Ok(identity);
        }
        match self.verify(&header, token, &self.keys) {
            Ok(identity) => Ok(identity),
            Err(refusal) => self.identify_remotely(&header, token, refusal).await,
        }
    }

    #[cfg(feature = "jwks-url")]
    async fn identify_remotely(&self, header: &Header, token: &str, mut refusal: Refusal) -> Result<Identity, Refusal> {
        if !Key::is_of_set(header) {
            return Err(refusal);
        }
        for remote in &self.remote {
            let Some(keys) = remote.keys(header).await else {
                refusal = Refusal::NoKeys;
                continue;
            };
            match self.verify(header, token, &keys) {
                Ok(identity) => return Ok(identity),
                Err(Refusal::UnknownKey) => {}
                Err(other) => refusal = other,
            }
        }
        Err(refusal)
    }

    #[cfg(not(feature = "jwks-url"))]
    async fn identify_remotely(&self, _: &Header, _: &str, refusal: Refusal) -> Result<Identity, Refusal> {
        Err(refusal)
    }

    fn verify(&self, header: &Header, token: &str, keys: &[Key]) -> Result<Identity, Refusal> {
        let mut refusal = Refusal::UnknownKey;
        for key in keys.iter().filter(|key| key.may_verify(header)) {
            match key.verify(token) {
                Some(claims) => return Ok(self.names.identity(&claims)),
                None => refusal = Refusal::NotValid,
            }
        }
        Err(refusal)
    }
}

impl<S> Layer<S> for JwtBearer {
    type Service = BearerService<S>;

    fn layer(&self, inner: S) -> BearerService<S> {
        BearerService { inner, bearer: self.clone() }
    }
}

/// What [`JwtBearer`] makes of a service.
#[derive(Debug, Clone)]
pub struct BearerService<S> {
    inner: S,
    bearer: JwtBearer,
}

impl<S, B> Service<Request<B>> for BearerService<S>
where
    S: Service<Request<B>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let next = self.inner.clone();
        // the one that is ready is the one that was asked
        let mut inner = std::mem::replace(&mut self.inner, next);
        let verifier = self.bearer.0.clone();
        Box::pin(async move {
            let identity = match token(&request) {
                None => None,
                Some(token) => Some(verifier.identify(&token).await),
            };
            match identity {
                None => {}
                Some(Ok(identity)) => drop(request.extensions_mut().insert(identity)),
                Some(Err(refusal)) => {
                    debug!(reason = ?refusal, "a bearer token was refused");
                    return Ok(refuse(refusal));
                }
            }
            inner.call(request).await
        })
    }
}

/// The header first: what a page cannot set a header for comes in the query.
fn token<B>(request: &Request<B>) -> Option<Cow<'_, str>> {
    let header = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = header.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| Cow::Borrowed(token.trim()))
    });
    let token = bearer.or_else(|| Query::new(request.uri().query()).value("access_token"));
    token.filter(|token| !token.is_empty())
}

fn refuse(refusal: Refusal) -> Response<Body> {
    let mut response = unauthorized();
    if refusal == Refusal::NoKeys {
        response.headers_mut().remove(header::WWW_AUTHENTICATE);
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    } else {
        let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

impl fmt::Debug for JwtBearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtBearer").field("keys", &self.0.keys).finish_non_exhaustive()
    }
}

/// Shows no key.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secret(_) => "Secret",
            Self::Pem(_) | Self::PemFile(_) => "PublicKey",
            Self::KeySet(..) | Self::KeySetFile(..) => "KeySet",
            #[cfg(feature = "jwks-url")]
            Self::KeySetUrl(..) => "KeySetUrl",
            Self::Other(_) => "Other",
        })
    }
}

/// Bytes of a token by default.
pub(crate) const MAX_TOKEN_SIZE: usize = 8 * 1024;
/// How many times its longest token an identity may take.
pub(crate) const LARGEST_IDENTITY: usize = 4;

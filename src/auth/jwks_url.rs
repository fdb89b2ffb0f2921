use super::BearerError;
use super::keys::{Key, Rules};
use jsonwebtoken::Header;
use parking_lot::RwLock;
use reqwest::{Client, Url, redirect};
use rustls::crypto::CryptoProvider;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::{info, warn};

/// The keys of an issuer, fetched from its URL.
pub(super) struct Remote {
    url: Url,
    issuers: Vec<String>,
    rules: Rules,
    client: Client,
    fetched: RwLock<Option<Fetched>>,
    /// When a fetch was begun last; held while one goes on.
    begun: Mutex<Option<Instant>>,
}

#[derive(Clone)]
struct Fetched {
    keys: Arc<[Key]>,
    at: Instant,
}

impl Remote {
    pub(super) fn new(url: &str, issuers: Vec<String>, rules: Rules) -> Result<Arc<Self>, BearerError> {
        let url = Url::parse(url).map_err(|e| BearerError::Url(e.into()))?;
        let own = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
        if url.scheme() != "https" && !(own && url.scheme() == "http") {
            return Err(BearerError::Url("anybody on the way could replace the keys: it has to be https".into()));
        }
        if CryptoProvider::get_default().is_none() {
            return Err(BearerError::Url("the program has to install a crypto provider of rustls first".into()));
        }
        let client = Client::builder().redirect(redirect::Policy::none()).timeout(LONGEST_FETCH).build();
        let client = client.map_err(|e| BearerError::Url(e.into()))?;
        let (fetched, begun) = (RwLock::new(None), Mutex::new(None));
        Ok(Arc::new(Self { url, issuers, rules, client, fetched, begun }))
    }

    /// The keys as they are known, fetched if that may find the one that a token names. `None`: there were none ever.
    pub(super) async fn keys(self: &Arc<Self>, header: &Header) -> Option<Arc<[Key]>> {
        let knows = |fetched: &Fetched| fetched.keys.iter().any(|key| key.may_verify(header));
        let known = self.fetched.read().clone();
        if let Some(fetched) = known.filter(knows) {
            if fetched.at.elapsed() >= LONGEST_USE {
                tokio::spawn(self.clone().fetch(fetched.at));
            }
            return Some(fetched.keys);
        }
        // on a task: a client that gives up must not take the fetch with it, for which others wait
        let since = Instant::now();
        let _ = tokio::spawn(self.clone().fetch(since)).await;
        self.fetched.read().as_ref().map(|fetched| fetched.keys.clone())
    }

    /// Fetches, unless somebody else has done so since then, or not long ago.
    async fn fetch(self: Arc<Self>, since: Instant) {
        let mut begun = self.begun.lock().await;
        if begun.is_some_and(|at| at > since || at.elapsed() < SHORTEST_INTERVAL) {
            return;
        }
        *begun = Some(Instant::now());
        match self.download().await {
            Ok(keys) => {
                info!(keys = keys.len(), "the keys of an issuer were fetched");
                *self.fetched.write() = Some(Fetched { keys: keys.into(), at: Instant::now() });
            }
            Err(e) => {
                warn!(error = %e, cause = e.source().map(tracing::field::display), "the keys of an issuer cannot be fetched")
            }
        }
    }

    async fn download(&self) -> Result<Vec<Key>, Box<dyn std::error::Error + Send + Sync>> {
        let mut response = self.client.get(self.url.clone()).send().await?;
        if !response.status().is_success() {
            return Err(format!("the answer has status {}", response.status().as_u16()).into());
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > LARGEST {
                return Err("the answer is too large".into());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Key::set(&body, &self.rules, &self.issuers)?)
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("issuers", &self.issuers).finish_non_exhaustive()
    }
}

/// From beginning to end.
const LONGEST_FETCH: Duration = Duration::from_secs(5);
const LARGEST: usize = 256 * 1024;
/// Strangers can name keys that do not exist, as often as they like.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(60);
/// What an issuer has taken out of its set is gone here after that.
const LONGEST_USE: Duration = Duration::from_secs(60 * 60);

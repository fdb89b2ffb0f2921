use super::identity::unix_millis;
use super::registry::{Credential, Registry, Renewal};
use super::routes::{Endpoints, identity, plain, respond};
use super::{ConnectionToken, Identity, Query};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use futures_util::FutureExt;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tracing::{debug, warn};

/// Lets clients replace the credential of a connection that lives, as those of ASP.NET Core 11 do: negotiate tells them how long theirs
/// is good for, and before that is over they post a new one to the hub's route `refresh`. The connection, its groups and its user stay.
///
/// For [`TransportOptions::authentication_refresh`](crate::TransportOptions::authentication_refresh); usually together with
/// [`close_on_authentication_expiration`](crate::ConnectionOptions::close_on_authentication_expiration), without which a refresh that does
/// not come has no consequence. What an identity expires at, its [`expiry`](Identity::with_expiry) says.
#[derive(Clone, Default)]
pub struct AuthenticationRefresh {
    check: Option<Check>,
    maximum: Option<Duration>,
}

type Check = Arc<dyn Fn(RefreshRequest) -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// A credential that is about to replace another one of the same user.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RefreshRequest {
    /// The public id of the connection.
    pub connection_id: String,
    /// Who it belongs to by the credential in force.
    pub current: Identity,
    /// The same user by the new credential.
    pub renewed: Identity,
}

impl AuthenticationRefresh {
    /// Asks a function before a credential is replaced. If it says false, or panics, the request is refused and nothing changes.
    #[must_use]
    pub fn with_check<F, Fut>(mut self, check: F) -> Self
    where
        F: Fn(RefreshRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = bool> + Send + 'static,
    {
        self.check = Some(Arc::new(move |request| Box::pin(check(request))));
        self
    }

    /// Limits how long a credential counts, from when it was shown, also one that never expires by itself.
    #[must_use]
    pub fn with_maximum_expiration(mut self, maximum: Duration) -> Self {
        self.maximum = Some(maximum);
        self
    }

    /// The identity with the expiry that it has here.
    fn limit(&self, identity: Identity) -> Identity {
        let Some(maximum) = self.maximum.filter(|_| identity.is_authenticated()) else { return identity };
        let latest = SystemTime::now() + maximum;
        if identity.expires_at().is_some_and(|own| own <= latest) { identity } else { identity.with_expiry(latest) }
    }

    async fn approves(&self, credential: &Credential, renewed: &Identity) -> bool {
        let Some(check) = &self.check else { return true };
        let request = RefreshRequest {
            connection_id: credential.id.as_str().to_owned(),
            current: credential.identity.clone(),
            renewed: renewed.clone(),
        };
        let asked = AssertUnwindSafe(async { check(request).await }).catch_unwind().await;
        asked.unwrap_or_else(|_| {
            warn!("the check of an authentication refresh panicked");
            false
        })
    }
}

impl fmt::Debug for AuthenticationRefresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthenticationRefresh")
            .field("check", &self.check.is_some())
            .field("maximum", &self.maximum)
            .finish()
    }
}

impl Endpoints {
    /// The identity as it counts for a new connection.
    pub(super) fn limited(&self, identity: Identity) -> Identity {
        match &self.options().authentication_refresh {
            Some(refresh) => refresh.limit(identity),
            None => identity,
        }
    }

    /// What negotiate tells the client about its credential.
    pub(super) fn token_lifetime(&self, identity: &Identity) -> Option<u64> {
        let refresh = self.options().authentication_refresh.as_ref()?;
        seconds_left(&refresh.limit(identity.clone()), unix_millis())
    }

    /// A GET of a connection that has a transport already: a poll, or the return of a connection that can resume. Its credential counts
    /// from now on. An error is the answer to a client that is to be sent away for good.
    pub(super) async fn renew_by_get(&self, token: ConnectionToken, shown: &Identity) -> Result<(), Response> {
        let Some(credential) = self.registry().credential(token) else { return Ok(()) };
        if credential.identity == *shown {
            return Ok(());
        }
        let Some(refresh) = &self.options().authentication_refresh else {
            self.registry().show(token, shown);
            return Ok(());
        };
        if credential.outlives(shown) {
            return Ok(());
        }
        let renewed = if refresh.approves(&credential, shown).await {
            self.registry().renew(token, shown, refresh.limit(shown.clone()))
        } else if self.registry().credential(token).is_some_and(|now| now.identity != credential.identity) {
            // somebody brought a newer one meanwhile
            Renewal::Stale
        } else {
            Renewal::Foreign
        };
        match renewed {
            Renewal::Done | Renewal::Stale | Renewal::Unknown => Ok(()),
            Renewal::Foreign => Err(refused(StatusCode::FORBIDDEN, "permission_change_rejected")),
        }
    }
}

/// `POST <hub>/refresh?id=<token>`. The order of the checks is the reference's; each refusal leaves the connection as it is.
pub(super) async fn refresh(State(endpoints): State<Arc<Endpoints>>, request: Request) -> Response {
    if request.method() != Method::POST {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "");
    }
    let Some(refresh) = endpoints.options().authentication_refresh.clone() else {
        return refused(StatusCode::NOT_FOUND, "refresh_disabled");
    };
    let query = Query::new(request.uri().query());
    let Some(id) = query.value("id").filter(|id| !id.is_empty()) else {
        return refused(StatusCode::BAD_REQUEST, "missing_connection_token");
    };
    exchange(endpoints.registry(), &refresh, ConnectionToken::parse(&id), identity(&request)).await
}

async fn exchange(
    registry: &Registry,
    refresh: &AuthenticationRefresh,
    token: Option<ConnectionToken>,
    shown: Identity,
) -> Response {
    let Some((token, credential)) = token.and_then(|token| Some((token, registry.credential(token)?))) else {
        return refused(StatusCode::NOT_FOUND, "connection_not_found");
    };
    if token == ConnectionToken::same_as(credential.id) {
        return refused(StatusCode::BAD_REQUEST, "unsupported_negotiate_version");
    }
    if !credential.identity.is_same_user(&shown) {
        return refused(StatusCode::FORBIDDEN, "user_changed");
    }
    if !refresh.approves(&credential, &shown).await {
        return refused(StatusCode::FORBIDDEN, "permission_change_rejected");
    }
    let limited = refresh.limit(shown.clone());
    let lifetime = seconds_left(&limited, unix_millis());
    match registry.renew(token, &shown, limited) {
        Renewal::Unknown => refused(StatusCode::NOT_FOUND, "connection_not_found"),
        Renewal::Foreign => refused(StatusCode::FORBIDDEN, "user_changed"),
        // one that expires before the one in force changes nothing, and is told how long it would have been good for
        Renewal::Done | Renewal::Stale => {
            debug!(connection = %credential.id, "a credential was refreshed");
            let body = lifetime.map_or_else(|| "{}".to_owned(), |s| format!(r#"{{"tokenLifetimeSeconds":{s}}}"#));
            respond(StatusCode::OK, "application/json", body)
        }
    }
}

/// Whole seconds, rounded down; clients read 32 bits.
fn seconds_left(identity: &Identity, now: u64) -> Option<u64> {
    let left = identity.expiry_millis()?.get().checked_sub(now).filter(|left| *left > 0)?;
    Some((left / 1000).min(i32::MAX as u64))
}

fn refused(status: StatusCode, error: &str) -> Response {
    respond(status, "application/json", format!(r#"{{"error":"{error}"}}"#))
}

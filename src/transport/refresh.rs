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
            Renewal::Foreign => {
                self.registry().refuse(token);
                Err(refused(StatusCode::FORBIDDEN, "permission_change_rejected"))
            }
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

#[cfg(test)]
mod tests {
    use super::super::{Accept, Opening, Policy, Standing, Transport, TransportOptions, routes};
    use super::*;
    use axum::Router;
    use axum::body::{Body, to_bytes};
    use axum::http::header;
    use serde_json::Value;
    use tower_service::Service;

    struct Nobody;

    impl Accept for Nobody {
        fn accept(&self, _: Opening) {}
    }

    #[derive(Debug, Default)]
    struct Told(parking_lot::Mutex<Vec<Identity>>);

    impl Standing for Told {
        fn renew(&self, identity: Identity) {
            self.0.lock().push(identity);
        }

        fn expire(&self, _: Option<std::num::NonZeroU64>) {}

        fn refuse(&self) {}
    }

    fn hub(refresh: Option<AuthenticationRefresh>) -> (Router, Arc<Endpoints>) {
        let options = TransportOptions { authentication_refresh: refresh, ..TransportOptions::default() };
        let endpoints = Endpoints::new(options, None::<Policy>, Arc::new(Nobody));
        (routes("/hub", endpoints.clone()), endpoints)
    }

    /// Somebody whose credential has so many seconds left.
    fn user(name: &str, left: Option<f64>) -> Identity {
        let identity = Identity::user(name);
        let Some(left) = left else { return identity };
        let millis = unix_millis() as i64 + (left * 1000.0) as i64;
        identity.with_expiry(SystemTime::UNIX_EPOCH + Duration::from_millis(millis as u64))
    }

    async fn ask(router: &mut Router, method: &str, path: &str, who: Identity) -> (u16, Option<String>, String) {
        let mut request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        request.extensions_mut().insert(who);
        let response = router.call(request).await.unwrap();
        let content_type = response.headers().get(header::CONTENT_TYPE).map(|v| v.to_str().unwrap().to_owned());
        let status = response.status().as_u16();
        let body = to_bytes(response.into_body(), 10_000).await.unwrap();
        (status, content_type, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn negotiated(router: &mut Router, query: &str, who: Identity) -> Value {
        let (_, _, body) = ask(router, "POST", &format!("/hub/negotiate?{query}"), who).await;
        serde_json::from_str(&body).unwrap()
    }

    fn vectors() -> Value {
        serde_json::from_str(include_str!("../../tests/vectors/auth-refresh.json")).unwrap()
    }

    #[tokio::test]
    async fn negotiate_tells_the_lifetime_as_the_vectors_do() {
        for case in vectors()["negotiate"].as_array().unwrap() {
            let (name, condition) = (&case["name"], &case["condition"]);
            let query = case["query"].as_str().unwrap();
            let enabled = condition["enableAuthenticationRefresh"].as_bool().unwrap();
            let (mut router, _) = hub(enabled.then(AuthenticationRefresh::default));
            // a little more than it says, of which the test takes its time
            let left = condition["remainingSeconds"].as_f64().map(|s| if s.fract() == 0.0 { s + 0.5 } else { s });
            let who = if condition["authenticated"] == true { user("ann", left) } else { Identity::anonymous() };
            let got = ask(&mut router, "POST", &format!("/hub/negotiate?{query}"), who).await.2;
            let mut wanted = case["body"].as_str().unwrap().to_owned();
            for drawn in ["connectionId", "connectionToken"] {
                let made: Value = serde_json::from_str(&got).unwrap();
                if let Some(id) = made[drawn].as_str() {
                    wanted = wanted.replace(case[drawn].as_str().unwrap(), id);
                }
            }
            let wanted = wanted.replace("\"useStatefulReconnect\":true,", "");
            assert_eq!(got, wanted, "{name}");
        }
    }

    #[tokio::test]
    async fn refreshes_are_answered_as_the_vectors_say() {
        for case in vectors()["refresh"].as_array().unwrap() {
            let name = case["name"].as_str().unwrap();
            let refuses = name == "CallbackSaidNo";
            let refresh = AuthenticationRefresh::default().with_check(move |_| async move { !refuses });
            let (mut router, endpoints) = hub((name != "NotMapped").then_some(refresh));
            let (first, shown) = match name {
                "SuccessUnderOneSecond" => (None, user("ann", Some(0.4))),
                "SuccessExpired" => (None, user("ann", Some(-5.0))),
                "SuccessNoExpiry" => (None, user("ann", None)),
                "SuccessStale" => (Some(3600.0), user("ann", Some(100.4))),
                "OtherUser" => (None, user("bob", Some(3600.0))),
                // a layer that lets failures pass, an identity of Windows, an option that is off while the route is there: not here
                "AuthenticationFailed" | "WindowsIdentity" | "Disabled" => continue,
                _ => (Some(60.0), user("ann", Some(3600.4))),
            };
            let version = if name == "NegotiateVersionZero" { "" } else { "negotiateVersion=1" };
            let made = negotiated(&mut router, version, user("ann", first)).await;
            let id = match name {
                "NegotiateVersionZero" | "PublicIdInsteadOfToken" => &made["connectionId"],
                _ => &made["connectionToken"],
            };
            let id = if name == "UnknownToken" { "AAAAAAAAAAAAAAAAAAAAAA" } else { id.as_str().unwrap() };
            let target = case["target"].as_str().unwrap().replace("id=T", &format!("id={id}"));
            let told = Arc::new(Told::default());
            if let Some(token) = ConnectionToken::parse(made["connectionToken"].as_str().unwrap_or_default()) {
                let registration =
                    endpoints.registry().start(token, &user("ann", first), Transport::WebSockets).unwrap().registration;
                registration.attach(Arc::downgrade(&told));
                std::mem::forget(registration);
            }
            let got = ask(&mut router, case["method"].as_str().unwrap(), &target, shown).await;
            let content_type = case["contentType"].as_str().map(str::to_owned);
            let wanted =
                (case["status"].as_u64().unwrap() as u16, content_type, case["body"].as_str().unwrap().to_owned());
            assert_eq!(got, wanted, "{name}");
            let changes = name.starts_with("Success") && name != "SuccessStale";
            assert_eq!(told.0.lock().len(), usize::from(changes), "{name}");
        }
    }

    #[tokio::test]
    async fn the_maximum_counts_from_each_refresh_and_for_what_never_expires() {
        let refresh = AuthenticationRefresh::default().with_maximum_expiration(Duration::from_millis(60_500));
        let (mut router, _) = hub(Some(refresh));
        for (own, wanted) in [(None, 60), (Some(3600.0), 60), (Some(10.5), 10)] {
            let made = negotiated(&mut router, "negotiateVersion=1", user("ann", own)).await;
            assert_eq!(made["tokenLifetimeSeconds"], wanted);
            let target = format!("/hub/refresh?id={}", made["connectionToken"].as_str().unwrap());
            let (_, _, body) = ask(&mut router, "POST", &target, user("ann", own)).await;
            assert_eq!(body, format!(r#"{{"tokenLifetimeSeconds":{wanted}}}"#));
        }
    }

    #[tokio::test]
    async fn a_poll_with_another_credential_renews() {
        let refresh = AuthenticationRefresh::default().with_check(|r| async move { !r.renewed.has_role("refused") });
        for refresh in [Some(refresh), None] {
            let enabled = refresh.is_some();
            let (mut router, endpoints) = hub(refresh);
            let first = user("ann", Some(60.0));
            let made = negotiated(&mut router, "negotiateVersion=1", first.clone()).await;
            let token = ConnectionToken::parse(made["connectionToken"].as_str().unwrap()).unwrap();
            let registration = endpoints.registry().start(token, &first, Transport::LongPolling).unwrap().registration;
            let told = Arc::new(Told::default());
            registration.attach(Arc::downgrade(&told));
            endpoints.renew_by_get(token, &first).await.unwrap();
            assert!(told.0.lock().is_empty(), "the same credential is no news");
            let next = user("ann", Some(600.0)).with_claim("role", "admin");
            endpoints.renew_by_get(token, &next).await.unwrap();
            assert_eq!(*told.0.lock(), if enabled { vec![next] } else { vec![] });
            let refused = endpoints.renew_by_get(token, &user("ann", Some(900.0)).with_claim("role", "refused")).await;
            assert_eq!(refused.is_err(), enabled);
        }
    }

    #[tokio::test]
    async fn a_check_that_panics_refuses() {
        let refresh = AuthenticationRefresh::default().with_check(|_| async { panic!("a check") });
        let (mut router, _) = hub(Some(refresh));
        let made = negotiated(&mut router, "negotiateVersion=1", user("ann", None)).await;
        let target = format!("/hub/refresh?id={}", made["connectionToken"].as_str().unwrap());
        assert_eq!(ask(&mut router, "POST", &target, user("ann", None)).await.0, 403);
    }
}

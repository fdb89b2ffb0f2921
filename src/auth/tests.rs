use super::*;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::time::{Duration, SystemTime};
use tower_layer::Layer;
use tower_service::Service;

const RSA: &[u8] = include_bytes!("fixtures/rsa.pem");
const RSA_PUBLIC: &[u8] = include_bytes!("fixtures/rsa.pub.pem");
const P256: &[u8] = include_bytes!("fixtures/p256.pem");
const P256_PUBLIC: &[u8] = include_bytes!("fixtures/p256.pub.pem");
const SECRET: &[u8] = b"a secret for tests, of 32 bytes or more";
const ISSUER: &str = "https://issuer.example";

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

fn claims() -> Value {
    json!({"sub": "ann", "iss": ISSUER, "exp": now() + 600})
}

fn signed(algorithm: Algorithm, key: &EncodingKey, id: Option<&str>, claims: &Value) -> String {
    let header = Header { kid: id.map(Into::into), ..Header::new(algorithm) };
    encode(&header, claims, key).unwrap()
}

fn rsa() -> EncodingKey {
    EncodingKey::from_rsa_pem(RSA).unwrap()
}

fn p256() -> EncodingKey {
    EncodingKey::from_ec_pem(P256).unwrap()
}

fn secret(secret: &[u8]) -> EncodingKey {
    EncodingKey::from_secret(secret)
}

fn key_set(keys: &[(&EncodingKey, Algorithm, &str)]) -> Vec<u8> {
    let keys: Vec<Jwk> = keys
        .iter()
        .map(|(key, algorithm, id)| {
            let mut jwk = Jwk::from_encoding_key(key, *algorithm).unwrap();
            jwk.common.key_id = Some((*id).into());
            jwk
        })
        .collect();
    serde_json::to_vec(&json!({ "keys": keys })).unwrap()
}

#[tokio::test]
async fn a_key_verifies_its_own_algorithm_only() {
    let by_rsa = JwtBearer::builder().public_key(RSA_PUBLIC).build().unwrap();
    let by_p256 = JwtBearer::builder().public_key(P256_PUBLIC).build().unwrap();
    let by_secret = JwtBearer::builder().secret(SECRET).build().unwrap();
    let tokens = [
        signed(Algorithm::RS256, &rsa(), None, &claims()),
        signed(Algorithm::ES256, &p256(), None, &claims()),
        signed(Algorithm::HS256, &secret(SECRET), None, &claims()),
        // a public key is known to everybody: taken for a secret it would sign anything
        signed(Algorithm::HS256, &secret(RSA_PUBLIC), None, &claims()),
        signed(Algorithm::HS256, &secret(P256_PUBLIC), None, &claims()),
        signed(Algorithm::PS256, &rsa(), None, &claims()),
        signed(Algorithm::RS512, &rsa(), None, &claims()),
        signed(Algorithm::HS512, &secret(SECRET), None, &claims()),
    ];
    for (bearer, own) in [(&by_rsa, 0), (&by_p256, 1), (&by_secret, 2)] {
        for (index, token) in tokens.iter().enumerate() {
            let user = bearer.identify(token).await.map(|i| i.user_id().map(str::to_owned));
            assert_eq!(user, (index == own).then(|| Some("ann".to_owned())), "{own} {index}");
        }
    }
}

#[tokio::test]
async fn a_small_token_that_would_become_a_large_identity_is_refused() {
    let bearer = JwtBearer::builder().secret(SECRET).build().unwrap();
    let token = |name: usize, values: usize| {
        let mut claims = claims();
        claims["n".repeat(name)] = json!(vec![1; values]);
        let token = signed(Algorithm::HS256, &secret(SECRET), None, &claims);
        assert!(token.len() < 8 * 1024);
        token
    };
    assert!(bearer.identify(&token(5, 1000)).await.is_some());
    assert!(bearer.identify(&token(500, 40)).await.is_some());
    assert!(bearer.identify(&token(2000, 1000)).await.is_none(), "it would take two megabytes");
}

#[tokio::test]
async fn times_audience_and_issuer_have_to_fit() {
    let plain = JwtBearer::builder().secret(SECRET).build().unwrap();
    let strict =
        JwtBearer::builder().secret(SECRET).issuer(ISSUER).audience("chat").leeway(Duration::ZERO).build().unwrap();
    let good = |more: Value| {
        let mut claims = claims();
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        signed(Algorithm::HS256, &secret(SECRET), None, &claims)
    };
    let t = now();
    let cases = [
        (json!({}), true, false),
        (json!({"aud": "chat"}), false, true),
        (json!({"aud": ["other", "chat"]}), false, true),
        (json!({"aud": "other"}), false, false),
        (json!({"aud": "chat", "iss": "https://evil.example"}), false, false),
        (json!({"iss": null}), true, false),
        (json!({"exp": t - 30}), true, false),
        (json!({"exp": t - 90}), false, false),
        (json!({"nbf": t + 30}), true, false),
        (json!({"nbf": t + 90}), false, false),
        (json!({"exp": null}), false, false),
    ];
    for (more, by_plain, by_strict) in cases {
        let token = good(more.clone());
        assert_eq!(plain.identify(&token).await.is_some(), by_plain, "{more}");
        assert_eq!(strict.identify(&token).await.is_some(), by_strict, "{more}");
    }
}

#[tokio::test]
async fn a_secret_is_replaced_by_giving_both() {
    let next = b"the next secret, which is as long as the last";
    let bearer = JwtBearer::builder().secret(SECRET).secret(next).build().unwrap();
    for key in [SECRET, next] {
        assert!(bearer.identify(&signed(Algorithm::HS256, &secret(key), None, &claims())).await.is_some());
    }
}

#[tokio::test]
async fn a_key_of_a_set_speaks_for_its_issuers_only() {
    let set = key_set(&[(&rsa(), Algorithm::RS256, "r"), (&p256(), Algorithm::ES256, "e")]);
    let bearer = JwtBearer::builder().key_set(&set, [ISSUER]).build().unwrap();
    for (algorithm, key, id, known) in [
        (Algorithm::RS256, rsa(), Some("r"), true),
        (Algorithm::ES256, p256(), Some("e"), true),
        (Algorithm::RS256, rsa(), None, true),
        (Algorithm::RS256, rsa(), Some("e"), false),
        (Algorithm::RS256, rsa(), Some("x"), false),
    ] {
        let found = bearer.identify(&signed(algorithm, &key, id, &claims())).await;
        assert_eq!(found.is_some(), known, "{algorithm:?} {id:?}");
    }
    let foreign = json!({"sub": "ann", "iss": "https://evil.example", "exp": now() + 600});
    assert!(bearer.identify(&signed(Algorithm::RS256, &rsa(), Some("r"), &foreign)).await.is_none());
    let nobodys = json!({"sub": "ann", "exp": now() + 600});
    assert!(bearer.identify(&signed(Algorithm::RS256, &rsa(), Some("r"), &nobodys)).await.is_none());
}

#[test]
fn what_is_no_key_is_no_layer() {
    let builder = JwtBearer::builder;
    assert!(matches!(builder().build(), Err(BearerError::NoKey)));
    assert!(matches!(builder().secret("short").build(), Err(BearerError::ShortSecret)));
    assert!(matches!(builder().public_key("no key").build(), Err(BearerError::Key(_))));
    assert!(matches!(builder().public_key_file("/nowhere").build(), Err(BearerError::File(_))));
    let set = key_set(&[(&rsa(), Algorithm::RS256, "r")]);
    assert!(matches!(builder().key_set(set, [""; 0]).build(), Err(BearerError::NoIssuer)));
    let secret = r#"{"keys":[{"kty":"oct","k":"c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}]}"#;
    let encrypts = r#"{"keys":[{"kty":"RSA","use":"enc","n":"AQAB","e":"AQAB"}]}"#;
    for wrong in ["", "{", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[]}"#, r#"{"keys":[1,{}]}"#, secret, encrypts] {
        assert!(matches!(builder().key_set(wrong, [ISSUER]).build(), Err(BearerError::KeySet(_))), "{wrong}");
    }
}

#[tokio::test]
async fn claims_become_an_identity() {
    let mut claims = claims();
    claims["roles"] = json!(["admin", "editor"]);
    claims["level"] = json!(7);
    claims["nothing"] = json!(null);
    let token = signed(Algorithm::HS256, &secret(SECRET), None, &claims);
    let bearer = JwtBearer::builder().secret(SECRET).build().unwrap();
    let ann = bearer.identify(&token).await.unwrap();
    assert!(ann.is_authenticated() && ann.has_role("admin") && ann.has_role("editor"));
    assert_eq!(
        (ann.user_id(), ann.claim("level"), ann.claim("nothing"), ann.claim("exp")),
        (Some("ann"), Some("7"), None, None)
    );
    let expires = ann.expires_at().unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(expires.as_secs(), claims["exp"].as_u64().unwrap());

    let bearer =
        JwtBearer::builder().secret(SECRET).user_claims(["oid", "level"]).role_claims(["level"]).build().unwrap();
    let other = bearer.identify(&token).await.unwrap();
    assert_eq!(other.user_id(), Some("7"));
    assert!(other.has_role("7") && !other.has_role("admin"));
}

/// What the service behind the layer is told: the user id, if anybody was identified.
#[derive(Clone)]
struct Echo;

impl Service<Request<()>> for Echo {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        let identity = request.extensions().get::<crate::Identity>();
        let user = identity.and_then(|i| i.user_id()).unwrap_or_default().to_owned();
        std::future::ready(Ok(Response::builder().header("user", user).body(Body::empty()).unwrap()))
    }
}

async fn ask(bearer: &JwtBearer, path: &str, header: &str) -> (StatusCode, String) {
    let request = Request::builder().uri(path).header("authorization", header).body(()).unwrap();
    let response = bearer.layer(Echo).call(request).await.unwrap();
    let user = response.headers().get("user").map(|user| user.to_str().unwrap().to_owned());
    (response.status(), user.unwrap_or_default())
}

#[tokio::test]
async fn a_request_without_a_token_goes_on_as_nobody() {
    let bearer = JwtBearer::builder().secret(SECRET).build().unwrap();
    let good = signed(Algorithm::HS256, &secret(SECRET), None, &claims());
    let (ann, nobody) = ((StatusCode::OK, "ann".to_owned()), (StatusCode::OK, String::new()));
    let refused = (StatusCode::UNAUTHORIZED, String::new());
    assert_eq!(ask(&bearer, "/", &format!("bearer {good}")).await, ann);
    assert_eq!(ask(&bearer, &format!("/?ACCESS_TOKEN={good}"), "Basic eDp5").await, ann);
    assert_eq!(ask(&bearer, "/?access_token=", "Bearer ").await, nobody);
    assert_eq!(ask(&bearer, &format!("/?access_token={good}"), "Bearer x").await, refused);
    assert_eq!(ask(&bearer, &format!("/?access_token={good}&access_token={good}"), "").await, refused);
}

#[cfg(feature = "jwks-url")]
mod url {
    use super::*;
    use axum::Router;
    use axum::routing::get;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    /// A server of key sets that counts its requests, and where it listens.
    async fn issuer(body: Vec<u8>) -> (String, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let router = Router::new()
            .route(
                "/keys",
                get(move || {
                    count.fetch_add(1, SeqCst);
                    std::future::ready(body.clone())
                }),
            )
            .route("/moved", get(|| async { axum::response::Redirect::temporary("/keys") }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (url, asked)
    }

    /// Once a process, whichever test comes first.
    fn provider() {
        let _ = tokio_rustls::rustls::crypto::aws_lc_rs::default_provider().install_default();
    }

    fn by(url: String) -> JwtBearer {
        provider();
        JwtBearer::builder().key_set_url(url, [ISSUER]).build().unwrap()
    }

    #[tokio::test]
    async fn keys_are_fetched_once_whoever_asks() {
        let (url, asked) = issuer(key_set(&[(&p256(), Algorithm::ES256, "e")])).await;
        let bearer = by(format!("{url}/keys"));
        let good = signed(Algorithm::ES256, &p256(), Some("e"), &claims());
        let (a, b) = tokio::join!(bearer.identify(&good), bearer.identify(&good));
        assert!(a.is_some() && b.is_some());
        // names of keys that do not exist cost the issuer nothing
        for id in ["x", "y"] {
            assert!(bearer.identify(&signed(Algorithm::ES256, &p256(), Some(id), &claims())).await.is_none());
        }
        // and a token cannot say where keys are
        let mut header = Header::new(Algorithm::ES256);
        (header.kid, header.jku) = (Some("z".into()), Some(format!("{url}/keys")));
        assert!(bearer.identify(&encode(&header, &claims(), &p256()).unwrap()).await.is_none());
        assert_eq!(asked.load(SeqCst), 1);
    }

    #[tokio::test]
    async fn no_keys_are_no_verdict() {
        let (url, asked) = issuer(b"{".to_vec()).await;
        let (large, _) = issuer(vec![b' '; 300 * 1024]).await;
        let good = signed(Algorithm::ES256, &p256(), Some("e"), &claims());
        for url in [format!("{url}/keys"), format!("{url}/moved"), format!("{url}/none"), format!("{large}/keys")] {
            let status = ask(&by(url.clone()), "/", &format!("Bearer {good}")).await.0;
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{url}");
        }
        assert_eq!(asked.load(SeqCst), 1, "no redirect is followed");
        provider();
        for wrong in ["http://issuer.example/keys", "ftp://localhost/keys", "keys"] {
            let built = JwtBearer::builder().key_set_url(wrong, [ISSUER]).build();
            assert!(matches!(built, Err(BearerError::Url(_))), "{wrong}");
        }
    }
}

use super::{KEY, SECOND, Service, now, request, sign_as};
use crate::support::hub::Protocol;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode};
use serde_json::{Value, json};

/// Every token of the vectors, on the request that it is for.
#[tokio::test]
async fn the_published_tokens_open_what_they_are_for() {
    let service = Service::start().await;
    let file: Value = serde_json::from_str(include_str!("../../vectors/rest-tokens.json")).unwrap();
    let mut seen = 0;
    for row in file["tokens"].as_array().unwrap() {
        let (method, url) = row["request"].as_str().unwrap().split_once(' ').unwrap();
        let target = url.strip_prefix("http://localhost:8888").unwrap();
        if !target.starts_with("/api/") {
            continue;
        }
        let headers = format!("Authorization: Bearer {}\r\n{}", row["token"].as_str().unwrap(), super::JSON);
        let response = request(&service.server, method, target, &headers, br#"{"target":"x"}"#).await;
        let want = if row["expect"] == "accept" { 202 } else { 401 };
        assert_eq!(response.status, want, "{}", row["name"]);
        if want == 401 {
            assert_eq!((response.header("content-length"), &*response.body), (Some("0"), &b""[..]));
            assert_eq!(response.header("www-authenticate"), Some("Bearer error=\"invalid_token\""));
        }
        seen += 1;
    }
    assert_eq!(seen, 15);
}

#[tokio::test]
async fn who_has_no_good_token_does_nothing() {
    let mut service = Service::start().await;
    let mut client = service.client("ann", Protocol::Json).await;
    let target = "/api/hubs/chat/users/ann/:send";
    let audience = format!("http://localhost{target}");
    let claims = json!({"aud": audience, "exp": now() + 600});
    let good = super::sign(&claims);
    let with = |algorithm, key: &str, claims: &Value| sign_as(&Header::new(algorithm), key, claims);
    let changed = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        super::sign(&claims)
    };
    let mut parts: Vec<&str> = good.split('.').collect();
    let other = super::sign(&json!({"aud": audience, "exp": now() + 6000}));
    parts[1] = other.split('.').nth(1).unwrap();
    let bad = [
        ("none at all", String::new(), "Bearer"),
        ("another scheme", "Authorization: Basic YTpi\r\n".into(), "Bearer"),
        ("no token", "Authorization: Bearer \r\n".into(), "Bearer"),
        ("garbage", "Authorization: Bearer x.y.z\r\n".into(), INVALID),
        ("another key", bearer(&with(Algorithm::HS256, &"k".repeat(44), &claims)), INVALID),
        ("another algorithm", bearer(&with(Algorithm::HS384, KEY, &claims)), INVALID),
        ("changed claims", bearer(&parts.join(".")), INVALID),
        ("cut", bearer(&good[..good.len() - 1]), INVALID),
        ("expired", bearer(&changed("exp", json!(now() - 301))), INVALID),
        ("too early", bearer(&changed("nbf", json!(now() + 400))), INVALID),
        ("another audience", bearer(&changed("aud", json!("http://localhost/api/hubs/chat/users/bob/:send"))), INVALID),
        ("a prefix", bearer(&changed("aud", json!("http://localhost/api/hubs/chat"))), INVALID),
        ("another query", bearer(&changed("aud", json!(format!("{audience}?application=x")))), INVALID),
        ("no address", bearer(&changed("aud", json!(target))), INVALID),
        ("in the query", String::new(), "Bearer"),
    ];
    for (name, headers, challenge) in bad {
        let target = if name == "in the query" { format!("{target}?access_token={good}") } else { target.to_owned() };
        let headers = format!("{headers}{}", super::JSON);
        let response = request(&service.server, "POST", &target, &headers, br#"{"target":"x"}"#).await;
        assert_eq!((response.status, response.header("www-authenticate")), (401, Some(challenge)), "{name}");
        assert!(response.body.is_empty(), "{name}");
    }
    for headers in [
        bearer(&changed("exp", json!(now() - 200))),
        bearer(&changed("nbf", json!(now() + 200))),
        bearer(&with(Algorithm::HS512, SECOND, &claims)),
        format!("authorization:   BEARER   {good}  \r\n"),
    ] {
        let headers = format!("{headers}{}", super::JSON);
        let response = request(&service.server, "POST", target, &headers, br#"{"target":"good"}"#).await;
        assert_eq!(response.status, 202, "{headers}");
    }
    assert_eq!(service.heard(&mut [&mut client]).await, [["good"; 4]]);
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

const INVALID: &str = "Bearer error=\"invalid_token\"";

#[tokio::test]
async fn a_long_name_has_a_long_token() {
    let service = Service::start().await;
    let target = format!("/api/hubs/chat/groups/{}/:send", "%D1%84".repeat(1024));
    assert_eq!(service.send(&target, &json!({"target": "x"})).await.status, 202);
}

#[tokio::test]
async fn tokens_for_clients_are_made() {
    let service = Service::start().await;
    let mut validation = Validation::new(Algorithm::HS256);
    validation.validate_aud = false;
    let made = |response: &super::Response| {
        assert_eq!((response.status, response.header("content-type")), (200, Some("application/json")));
        let token = response.json()["token"].as_str().unwrap().to_owned();
        decode::<Value>(&token, &DecodingKey::from_secret(KEY.as_bytes()), &validation).unwrap().claims
    };
    let addr = service.server.addr();
    let path = "/api/hubs/Chat/:generateToken";
    let claims =
        made(&service.ask("POST", &format!("{path}?userId=al%2Fice&minutesToExpire=30&api-version=2024-12-01")).await);
    assert_eq!(claims["nameid"], "al/ice");
    assert_eq!(claims["aud"], format!("http://{addr}/client/?hub=chat"));
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 1800);
    let claims = made(&service.ask_with("POST", &format!("{path}?application=App"), super::JSON, b"{").await);
    assert_eq!((&claims["aud"], claims.get("nameid")), (&json!(format!("http://{addr}/client/?hub=app_chat")), None));
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 3600);
    for query in ["minutesToExpire=0", "minutesToExpire=x", "minutesToExpire=1.5", "minutesToExpire=", "userId="] {
        assert_eq!(service.ask("POST", &format!("{path}?{query}")).await.status, 400, "{query}");
    }
}

#[tokio::test]
async fn no_directory_gives_keys() {
    let service = Service::start().await;
    for target in ["/api/v1/auth/accessKey", "/api/auth/accesskey?api-version=2023-07-01"] {
        let response = request(&service.server, "GET", target, "", b"").await;
        assert_eq!((response.status, response.header("www-authenticate")), (401, Some("Bearer")));
        let response = request(&service.server, "GET", target, "Authorization: Bearer of.a.directory\r\n", b"").await;
        assert_eq!(response.status, 404);
        assert!(response.json()["message"].as_str().unwrap().contains("access key"));
    }
}

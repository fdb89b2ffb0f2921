use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The keys of a service: what signs and verifies the tokens of its application servers, of their clients and of REST calls.
///
/// The first one signs, all of them verify: to replace a key, the new one is put first and the old one taken out once nobody uses it. A
/// key is the UTF-8 text itself, although it looks like base64. Cheap to clone.
#[derive(Clone)]
pub(crate) struct AccessKeys(Arc<[AccessKey]>);

struct AccessKey {
    signing: EncodingKey,
    verifying: DecodingKey,
}

/// What [`AccessKeys::sign`] makes a token of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claims<'a> {
    /// Types and values in their order; a type that comes again gives a list, where it came first.
    pub(crate) claims: &'a [(&'a str, &'a str)],
    pub(crate) audience: &'a str,
    pub(crate) now: SystemTime,
    /// How long the token is good, from now on; in whole seconds.
    pub(crate) lifetime: Duration,
}

/// What a good token says.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token {
    claims: Vec<(String, String)>,
    expires_at: SystemTime,
}

impl AccessKeys {
    /// Takes the keys, of which there is at least one, and none shorter than [`SHORTEST_KEY`] bytes.
    pub(crate) fn new(keys: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, AccessKeyError> {
        // with a second backend in the program, by other features of the crate, the default would not be known
        let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
        let keys: Vec<AccessKey> = keys
            .into_iter()
            .enumerate()
            .map(|(at, key)| AccessKey::new(at + 1, key.as_ref()))
            .collect::<Result<_, _>>()?;
        if keys.is_empty() {
            return Err(AccessKeyError::NoKey);
        }
        Ok(Self(keys.into()))
    }

    /// Signs a token with the first key, by HS256. In the order that the service's libraries write: header `alg`, `typ`; payload the
    /// claims, `nbf`, `exp`, `iat`, `aud`. There is no `kid`: it would say nothing, as every key is tried. A claim of a name that tokens
    /// use themselves gets the prefix `asrs.u.`, which readers of such tokens take off.
    pub(crate) fn sign(&self, claims: &Claims<'_>) -> String {
        let seconds = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let now = seconds(claims.now);
        let mut payload = String::from("{");
        for (at, (kind, _)) in claims.claims.iter().enumerate() {
            if claims.claims[..at].iter().all(|(earlier, _)| earlier != kind) {
                write_claim(&mut payload, kind, claims.claims);
            }
        }
        let expiry = now.saturating_add(claims.lifetime.as_secs());
        payload += &format!("\"nbf\":{now},\"exp\":{expiry},\"iat\":{now},\"aud\":{}}}", json(claims.audience));
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(HEADER), URL_SAFE_NO_PAD.encode(payload));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.0[0].signing, Algorithm::HS256)
            .expect("a secret signs by HS256");
        format!("{message}.{signature}")
    }

    /// Verifies signature and times of a token. The audience is the caller's to check, as each face of the service wants another one.
    ///
    /// Algorithms are HS256 and HS512. Every key is tried whatever `kid` says, since the libraries put a number of their own there. `exp`
    /// has to be there, `nbf` is honoured if it is, both with `skew`; `iat` and `iss` say nothing.
    pub(crate) fn verify(&self, token: &str, now: SystemTime, skew: Duration) -> Result<Token, TokenError> {
        if token.len() > LONGEST_TOKEN {
            return Err(TokenError::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(TokenError::Malformed)?;
        let algorithm = algorithm(&part(header)?)?;
        let signed = |key: &AccessKey| {
            jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key.verifying, algorithm).unwrap_or(false)
        };
        if !self.0.iter().any(signed) {
            return Err(TokenError::Signature);
        }
        Token::read(&part(payload)?, now, skew)
    }
}

impl AccessKey {
    fn new(number: usize, key: &str) -> Result<Self, AccessKeyError> {
        if key.len() < SHORTEST_KEY {
            return Err(AccessKeyError::Short { number, bytes: key.len() });
        }
        Ok(Self {
            signing: EncodingKey::from_secret(key.as_bytes()),
            verifying: DecodingKey::from_secret(key.as_bytes()),
        })
    }
}

impl Token {
    /// Every claim in the token's order, as type and value. A list is as many claims, any other value than a text is its JSON without
    /// blanks, and null an empty text.
    pub(crate) fn claims(&self) -> impl Iterator<Item = (&str, &str)> {
        self.claims.iter().map(|(kind, value)| (&**kind, &**value))
    }

    /// The first value of a claim.
    pub(crate) fn claim(&self, kind: &str) -> Option<&str> {
        self.claims().find(|claim| claim.0 == kind).map(|claim| claim.1)
    }

    pub(crate) fn audiences(&self) -> impl Iterator<Item = &str> {
        self.claims().filter(|claim| claim.0 == "aud").map(|claim| claim.1)
    }

    /// The user that a client's token is for: `asrs.s.uid`, or else the first name identifier in one of its spellings.
    pub(crate) fn user_id(&self) -> Option<&str> {
        let named = || self.claims().find(|claim| NAME_IDENTIFIERS.contains(&claim.0)).map(|claim| claim.1);
        self.claim("asrs.s.uid").or_else(named)
    }

    pub(crate) fn expires_at(&self) -> SystemTime {
        self.expires_at
    }

    fn read(payload: &[u8], now: SystemTime, skew: Duration) -> Result<Self, TokenError> {
        let Members(members) = serde_json::from_slice(payload).map_err(|_| TokenError::Malformed)?;
        let now = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        let expiry = time(&members, "exp")?.ok_or(TokenError::NoExpiry)?;
        if expiry + skew.as_secs_f64() <= now {
            return Err(TokenError::Expired);
        }
        if time(&members, "nbf")?.is_some_and(|from| from - skew.as_secs_f64() > now) {
            return Err(TokenError::NotYet);
        }
        let mut claims = Vec::with_capacity(members.len());
        for (kind, value) in members {
            match value.get().as_bytes() {
                [b'[', ..] => {
                    let list: Vec<&RawValue> = serde_json::from_str(value.get()).map_err(|_| TokenError::Malformed)?;
                    claims.extend(list.into_iter().map(|one| (kind.clone(), text(one))));
                }
                _ => claims.push((kind, text(value))),
            }
        }
        let since = Duration::from_secs_f64(expiry.clamp(0.0, END_OF_TIME));
        Ok(Self { claims, expires_at: SystemTime::UNIX_EPOCH + since })
    }
}

/// Why a token is not good: for the log, as whoever sent it learns that it was refused and no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum TokenError {
    #[error("the token is longer than {LONGEST_TOKEN} bytes")]
    TooLong,
    #[error("the token is not a signed JWT, or its claims are malformed")]
    Malformed,
    #[error("the token is not signed by HS256 or HS512")]
    Algorithm,
    #[error("the token is signed with none of the access keys, or was changed")]
    Signature,
    #[error("the token does not say when it expires")]
    NoExpiry,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not good yet: compare the clocks of both machines")]
    NotYet,
}

/// Why access keys cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum AccessKeyError {
    #[error("no access key was given: make one of at least {SHORTEST_KEY} random characters")]
    NoKey,
    #[error("access key {number} has {bytes} bytes: take one of at least {SHORTEST_KEY} random characters")]
    Short { number: usize, bytes: usize },
}

/// The key of the local emulator, which everybody knows: for this machine only.
pub(crate) const DEVELOPMENT_KEY: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789ABCDEFGH";
/// Bytes of a key: as many as HS256 has of signature (RFC 7518 3.2). What the cloud gives out has 44 or more.
pub(crate) const SHORTEST_KEY: usize = 32;
/// Bytes of a token: as much as a request's headers may have together. A name in the audience of a REST call can have 12 KiB; those of
/// clients have 4 KiB at most.
pub(crate) const LONGEST_TOKEN: usize = 16 * 1024;
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
const RESERVED: [&str; 5] = ["aud", "exp", "iat", "iss", "nbf"];
const NAME_IDENTIFIERS: [&str; 3] =
    ["nameid", "sub", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier"];
/// The year 9999, so that adding to it stays a time.
const END_OF_TIME: f64 = 253_402_300_799.0;

fn write_claim(payload: &mut String, kind: &str, all: &[(&str, &str)]) {
    let values: Vec<String> = all.iter().filter(|claim| claim.0 == kind).map(|claim| json(claim.1)).collect();
    let prefix = if RESERVED.contains(&kind) { "asrs.u." } else { "" };
    *payload += &json(&format!("{prefix}{kind}"));
    payload.push(':');
    match &*values {
        [one] => *payload += one,
        several => *payload += &format!("[{}]", several.join(",")),
    }
    payload.push(',');
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn part(text: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Malformed)
}

fn algorithm(header: &[u8]) -> Result<Algorithm, TokenError> {
    #[derive(Deserialize)]
    struct Header<'a> {
        alg: std::borrow::Cow<'a, str>,
        crit: Option<serde::de::IgnoredAny>,
    }
    let header: Header<'_> = serde_json::from_slice(header).map_err(|_| TokenError::Malformed)?;
    match (&*header.alg, header.crit) {
        ("HS256", None) => Ok(Algorithm::HS256),
        ("HS512", None) => Ok(Algorithm::HS512),
        // what is critical would have to be understood
        _ => Err(TokenError::Algorithm),
    }
}

/// A time in seconds since 1970. One that is there twice could mean either.
fn time(members: &[(String, &RawValue)], kind: &str) -> Result<Option<f64>, TokenError> {
    let mut found = members.iter().filter(|member| member.0 == kind);
    match (found.next(), found.next()) {
        (None, _) => Ok(None),
        (Some((_, value)), None) => {
            let seconds = value.get().parse().ok().filter(|seconds: &f64| seconds.is_finite());
            seconds.map(Some).ok_or(TokenError::Malformed)
        }
        _ => Err(TokenError::Malformed),
    }
}

fn text(value: &RawValue) -> String {
    let json = value.get();
    match json.as_bytes() {
        [b'"', ..] => serde_json::from_str(json).unwrap_or_default(),
        b"null" => String::new(),
        _ => without_blanks(json),
    }
}

/// Takes out what stands between tokens of JSON that is known to be valid.
fn without_blanks(json: &str) -> String {
    let (mut inside, mut escaped) = (false, false);
    let mut keeps = |c: char| {
        let kept = inside || !c.is_ascii_whitespace();
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = inside,
            '"' => inside = !inside,
            _ => {}
        }
        kept
    };
    json.chars().filter(|c| keeps(*c)).collect()
}

/// The members of an object in their order, with those that are there twice.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// Shows how many there are.
impl fmt::Debug for AccessKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKeys").field("count", &self.0.len()).finish_non_exhaustive()
    }
}

/// Shows how many claims there are, not what they say.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("claims", &self.claims.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const SECONDARY: &str = "HGFEDCBA9876543210ZYXWVUTSRQPONMLKJIHGFEDCBA";
    const SKEW: Duration = Duration::from_secs(300);

    fn keys() -> AccessKeys {
        AccessKeys::new([DEVELOPMENT_KEY, SECONDARY]).unwrap()
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn signed(header: &str, payload: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let key = EncodingKey::from_secret(SECONDARY.as_bytes());
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
        format!("{message}.{signature}")
    }

    #[test]
    fn the_published_tokens_are_taken_or_refused() {
        let file: Value = serde_json::from_str(include_str!("../../tests/vectors/rest-tokens.json")).unwrap();
        let mut seen = 0;
        for row in file["tokens"].as_array().unwrap() {
            let name = row["name"].as_str().unwrap();
            let found = keys().verify(row["token"].as_str().unwrap(), at(1_750_000_000), SKEW);
            let want = match name {
                "expired" => Err(TokenError::Expired),
                "no expiry" => Err(TokenError::NoExpiry),
                "wrong key" => Err(TokenError::Signature),
                "alg none" => Err(TokenError::Algorithm),
                _ => Ok(()),
            };
            assert_eq!(found.clone().map(drop), want, "{name}");
            if let Ok(token) = found {
                let claims = row["claims"].as_object().unwrap();
                let audiences: Vec<&str> = token.audiences().collect();
                match claims.get("aud") {
                    None => assert!(audiences.is_empty()),
                    Some(Value::String(one)) => assert_eq!(audiences, [one]),
                    Some(several) => assert_eq!(json!(audiences), *several),
                }
                assert_eq!(token.claim("exp"), Some("4102444800"), "{name}");
                assert_eq!(token.expires_at(), at(4_102_444_800), "{name}");
                seen += 1;
            }
        }
        assert_eq!(seen, 13);
    }

    #[test]
    fn the_examples_of_the_libraries_are_signed_alike() {
        // section 6.7 of the facts has the tokens
        let server = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6Ii0xMzgwNDE1NTcxIn0.eyJuYW1laWQiOiJXRUIwMV8wMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZiIsIm5iZiI6MTcwNDA2NzIwMCwiZXhwIjoxNzA0MDcwODAwLCJpYXQiOjE3MDQwNjcyMDAsImF1ZCI6Imh0dHA6Ly9sb2NhbGhvc3Qvc2VydmVyLz9odWI9YXBwX2NoYXQifQ.pMutQ7N2tSlKbUf_K1IKUfLAuLZClTo3_N2Swy-Ii-w";
        let client = "eyJhbGciOiJIUzUxMiIsInR5cCI6IkpXVCIsImtpZCI6Ii0xMzgwNDE1NTcxIn0.eyJhc3JzLnMudWlkIjoiYW5uIiwiYXNycy5zLmh0dCI6IjEiLCJuYW1laWQiOiI0MiIsInJvbGUiOlsiYWRtaW4iLCJlZGl0b3IiXSwiYXNycy51LmlzcyI6Imh0dHBzOi8vbG9naW4uZXhhbXBsZSIsIm5iZiI6MTcwNDA2NzIwMCwiZXhwIjoxNzA0MDcwODAwLCJpYXQiOjE3MDQwNjcyMDAsImF1ZCI6Imh0dHA6Ly9sb2NhbGhvc3QvY2xpZW50Lz9odWI9YXBwX2NoYXQifQ.0mQRzokP9Jiw1FIA7oKfyrKeC_aY8QKtCJAFZUZDnoMPBOkzJiWcwthjqQL6KLc5K_THeh2yLiCjKL1JPKsGyA";
        let now = at(1_704_067_200);
        let ours = keys().sign(&Claims {
            claims: &[("nameid", "WEB01_0123456789abcdef0123456789abcdef")],
            audience: "http://localhost/server/?hub=app_chat",
            now,
            lifetime: Duration::from_secs(3600),
        });
        let payload = |token: &str| token.split('.').nth(1).unwrap().to_owned();
        assert_eq!(payload(&ours), payload(server));
        let server = keys().verify(server, now, SKEW).unwrap();
        assert_eq!(keys().verify(&ours, now, SKEW), Ok(server));

        let client = keys().verify(client, now, SKEW).unwrap();
        assert_eq!(client.user_id(), Some("ann"));
        let claims: Vec<_> = client.claims().take(6).collect();
        let roles = [("role", "admin"), ("role", "editor")];
        let before = [("asrs.s.uid", "ann"), ("asrs.s.htt", "1"), ("nameid", "42")];
        assert_eq!(claims, [&before[..], &roles, &[("asrs.u.iss", "https://login.example")]].concat());
    }

    #[test]
    fn claims_are_given_as_they_came() {
        let payload = r#"{"b":true,"a":[1,"x",null,[ 1, 2 ]],"n":-1.50,"o":{ "k" : "a \"b" },"z":null,"e":[],"b":"again","exp":2000.5}"#;
        let token = keys().verify(&signed(r#"{"alg":"HS256"}"#, payload), at(1000), SKEW).unwrap();
        let want = [
            ("b", "true"),
            ("a", "1"),
            ("a", "x"),
            ("a", ""),
            ("a", "[1,2]"),
            ("n", "-1.50"),
            ("o", r#"{"k":"a \"b"}"#),
            ("z", ""),
            ("b", "again"),
            ("exp", "2000.5"),
        ];
        assert!(token.claims().eq(want), "{:?}", token.claims().collect::<Vec<_>>());
    }

    #[test]
    fn a_token_is_good_between_its_times() {
        let token = |payload: &str| signed(r#"{"alg":"HS256"}"#, payload);
        for (payload, now, want) in [
            (r#"{"exp":1000}"#, 1299, Ok(())),
            (r#"{"exp":1000}"#, 1300, Err(TokenError::Expired)),
            (r#"{"exp":-1e300}"#, 1300, Err(TokenError::Expired)),
            (r#"{"exp":1e300}"#, 1300, Ok(())),
            (r#"{"exp":9000,"nbf":2000}"#, 1700, Ok(())),
            (r#"{"exp":9000,"nbf":2000}"#, 1699, Err(TokenError::NotYet)),
            (r#"{"exp":"9000"}"#, 1, Err(TokenError::Malformed)),
            (r#"{"exp":null}"#, 1, Err(TokenError::Malformed)),
            (r#"{"exp":1e999}"#, 1, Err(TokenError::Malformed)),
            (r#"{"exp":9000,"exp":9001}"#, 1, Err(TokenError::Malformed)),
            (r#"{"exp":9000} x"#, 1, Err(TokenError::Malformed)),
            (r#"[9000]"#, 1, Err(TokenError::Malformed)),
        ] {
            assert_eq!(keys().verify(&token(payload), at(now), SKEW).map(drop), want, "{payload} at {now}");
        }
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let good = r#"{"exp":9000}"#;
        for (token, want) in [
            (signed(r#"{"alg":"HS384"}"#, good), TokenError::Algorithm),
            (signed(r#"{"alg":"hs256"}"#, good), TokenError::Algorithm),
            (signed(r#"{"alg":"RS256"}"#, good), TokenError::Algorithm),
            (signed(r#"{"alg":"HS256","crit":["b64"]}"#, good), TokenError::Algorithm),
            (signed(r#"{"alg":"HS256","alg":"none"}"#, good), TokenError::Malformed),
            (signed("{}", good), TokenError::Malformed),
            (String::new(), TokenError::Malformed),
            ("..".into(), TokenError::Malformed),
            ("a.b.c.d".into(), TokenError::Malformed),
            (format!("{}=", signed(r#"{"alg":"HS256"}"#, good)), TokenError::Signature),
            ("x".repeat(LONGEST_TOKEN + 1), TokenError::TooLong),
        ] {
            assert_eq!(keys().verify(&token, at(1), SKEW), Err(want), "{token:.80}");
        }
        let one = AccessKeys::new([DEVELOPMENT_KEY]).unwrap();
        let of_the_second = signed(r#"{"alg":"HS256"}"#, good);
        assert_eq!(one.verify(&of_the_second, at(1), SKEW), Err(TokenError::Signature));
    }

    #[test]
    fn what_is_signed_reads_back() {
        let claims = [("role", "a"), ("sub", "ann \"é"), ("role", "b"), ("aud", "mine")];
        let signed = keys().sign(&Claims { claims: &claims, audience: "http://x/", now: at(10), lifetime: SKEW });
        let token = keys().verify(&signed, at(10), Duration::ZERO).unwrap();
        let want = [("role", "a"), ("role", "b"), ("sub", "ann \"é"), ("asrs.u.aud", "mine")];
        let times = [("nbf", "10"), ("exp", "310"), ("iat", "10"), ("aud", "http://x/")];
        assert!(token.claims().eq([want, times].concat()));
        assert_eq!((token.user_id(), token.expires_at()), (Some("ann \"é"), at(310)));
    }

    #[test]
    fn a_key_that_can_be_guessed_is_none() {
        assert_eq!(AccessKeys::new([""; 0]).map(drop), Err(AccessKeyError::NoKey));
        let short = AccessKeys::new([SECONDARY, "too short"]).unwrap_err();
        assert_eq!(short, AccessKeyError::Short { number: 2, bytes: 9 });
        assert!(!short.to_string().contains("too short"));
        assert!(!format!("{:?}", keys()).contains("ABC"));
    }
}

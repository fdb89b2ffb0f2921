use super::BearerError;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode};
use serde_json::{Map, Value};
use std::time::Duration;

/// A key, with all that a token signed by it has to be.
pub(super) struct Key {
    id: Option<Box<str>>,
    /// The only one that it verifies: a public key is never taken for a secret.
    algorithm: Algorithm,
    decoding: DecodingKey,
    validation: Validation,
}

/// What every token has to be, whoever signed it.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) audiences: Vec<String>,
    pub(super) issuers: Vec<String>,
    pub(super) leeway: Duration,
}

impl Rules {
    fn validation(&self, algorithm: Algorithm, issuers: &[String]) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = self.leeway.as_secs();
        validation.validate_nbf = true;
        let mut required = vec!["exp"];
        // a token that names an audience while we have none is meant for somebody else (RFC 7519 4.1.3)
        if !self.audiences.is_empty() {
            validation.set_audience(&self.audiences);
            required.push("aud");
        }
        if !issuers.is_empty() {
            validation.set_issuer(issuers);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        validation
    }
}

impl Key {
    pub(super) fn secret(secret: &[u8], rules: &Rules) -> Result<Self, BearerError> {
        if secret.len() < SHORTEST_SECRET {
            return Err(BearerError::ShortSecret);
        }
        Ok(Self::new(None, Algorithm::HS256, DecodingKey::from_secret(secret), rules, &rules.issuers))
    }

    /// A public key: RSA for RS256, P-256 for ES256.
    pub(super) fn pem(pem: &[u8], rules: &Rules) -> Result<Self, BearerError> {
        let (algorithm, decoding) = match DecodingKey::from_rsa_pem(pem) {
            Ok(key) => (Algorithm::RS256, key),
            Err(_) => (Algorithm::ES256, DecodingKey::from_ec_pem(pem).map_err(|e| BearerError::Key(e.into()))?),
        };
        Ok(Self::new(None, algorithm, decoding, rules, &rules.issuers))
    }

    /// The keys of a set that can be used; others are passed over, as sets hold keys for other purposes.
    pub(super) fn set(json: &[u8], rules: &Rules, issuers: &[String]) -> Result<Vec<Self>, BearerError> {
        #[derive(serde::Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(json).map_err(|e| BearerError::KeySet(e.into()))?;
        let jwks = set.keys.into_iter().take(MOST_KEYS).filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
        let keys: Vec<Self> = jwks.filter_map(|jwk| Self::of_jwk(&jwk, rules, issuers)).collect();
        if keys.is_empty() {
            return Err(BearerError::KeySet("it has no RS256 or ES256 key to verify with".into()));
        }
        Ok(keys)
    }

    fn of_jwk(jwk: &Jwk, rules: &Rules, issuers: &[String]) -> Option<Self> {
        let (algorithm, named) = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
            AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => {
                (Algorithm::ES256, KeyAlgorithm::ES256)
            }
            _ => return None,
        };
        let common = &jwk.common;
        let verifies = common.public_key_use.as_ref().is_none_or(|purpose| *purpose == PublicKeyUse::Signature)
            && common.key_algorithm.is_none_or(|algorithm| algorithm == named);
        let decoding = DecodingKey::from_jwk(jwk).ok().filter(|_| verifies)?;
        let id = common.key_id.as_deref().map(Into::into);
        Some(Self::new(id, algorithm, decoding, rules, issuers))
    }

    fn new(
        id: Option<Box<str>>,
        algorithm: Algorithm,
        decoding: DecodingKey,
        rules: &Rules,
        issuers: &[String],
    ) -> Self {
        Self { id, algorithm, decoding, validation: rules.validation(algorithm, issuers) }
    }

    /// Whether a token with this header may be signed by it.
    pub(super) fn may_verify(&self, header: &Header) -> bool {
        let same_id = match (&self.id, &header.kid) {
            (Some(own), Some(named)) => **own == **named,
            _ => true,
        };
        self.algorithm == header.alg && same_id
    }

    /// Whether a set may have the key at all.
    #[cfg(feature = "jwks-url")]
    pub(super) fn is_of_set(header: &Header) -> bool {
        matches!(header.alg, Algorithm::RS256 | Algorithm::ES256)
    }

    pub(super) fn verify(&self, token: &str) -> Option<Map<String, Value>> {
        decode(token, &self.decoding, &self.validation).ok().map(|data| data.claims)
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// As long as what it keys (RFC 7518 3.2).
const SHORTEST_SECRET: usize = 32;
const MOST_KEYS: usize = 100;

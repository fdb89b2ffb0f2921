//! Bearer tokens: who a request comes from, by a signed token. A layer above the transport, which any other layer can take the place of.
//! And the keys and the connection string of a service, whose tokens are of another kind.

#[cfg(feature = "service")]
#[cfg_attr(not(feature = "server"), allow(dead_code, reason = "each face of the service uses a part of it"))]
mod access_keys;
mod bearer;
mod claims;
#[cfg(feature = "server")]
mod client_tokens;
#[cfg(feature = "service")]
#[cfg_attr(
    not(feature = "server"),
    allow(dead_code, reason = "the command line reads it, what the service answers prints it")
)]
mod connection_string;
#[cfg(feature = "jwks-url")]
mod jwks_url;
mod keys;
#[cfg(test)]
mod tests;

#[cfg(feature = "service")]
#[cfg_attr(not(feature = "server"), allow(unused_imports, reason = "each face of the service uses a part of it"))]
pub(crate) use access_keys::{AccessKeyError, AccessKeys, Claims, DEVELOPMENT_KEY, LONGEST_TOKEN, Token};
pub use bearer::{BearerError, BearerService, JwtBearer, JwtBearerBuilder};
#[cfg(feature = "server")]
pub(crate) use bearer::{LARGEST_IDENTITY, MAX_TOKEN_SIZE};
#[cfg(feature = "server")]
pub(crate) use client_tokens::ClientTokens;
#[cfg(feature = "service")]
#[cfg_attr(
    not(feature = "server"),
    allow(unused_imports, reason = "the command line reads it, what the service answers prints it")
)]
pub(crate) use connection_string::{ConnectionString, Credential};

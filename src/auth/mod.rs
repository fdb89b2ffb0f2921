//! Bearer tokens: who a request comes from, by a signed token. A layer above the transport, which any other layer can take the place of.

mod bearer;
mod claims;
#[cfg(feature = "jwks-url")]
mod jwks_url;
mod keys;
#[cfg(test)]
mod tests;

pub use bearer::{BearerError, BearerService, JwtBearer, JwtBearerBuilder};

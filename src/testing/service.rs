use crate::auth::AccessKeys;
use crate::{Service, ServiceOptions};

/// Makes a service with these access keys, for a test that mounts its routes.
///
/// # Panics
///
/// If there is no key, or one is too short.
pub fn service(keys: &[&str], options: ServiceOptions) -> Service {
    Service::new(AccessKeys::new(keys).expect("keys that can be used"), options)
}

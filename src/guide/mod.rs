//! Pages about running hubs that belong to no single item.

/// nginx, HAProxy and Caddy in front of a hub.
///
// The recipes are the very files that the tests start the proxies with.
#[doc = include_str!("proxies.md")]
///
/// # nginx
///
/// `/etc/nginx/nginx.conf`; of a site that has one already, what stands in `http`.
///
/// ```nginx
#[doc = include_str!("../../tests/interop/proxies/nginx.conf")]
/// ```
///
/// # HAProxy
///
/// `/etc/haproxy/haproxy.cfg`, below its `global` section. HAProxy buffers no answers and passes upgrades on by itself.
///
/// ```haproxy
#[doc = include_str!("../../tests/interop/proxies/haproxy.cfg")]
/// ```
///
/// # Caddy
///
/// `/etc/caddy/Caddyfile`.
///
/// ```caddyfile
#[doc = include_str!("../../tests/interop/proxies/Caddyfile")]
/// ```
///
#[doc = include_str!("client_address.md")]
pub mod proxies {}

/// The program `hubwire`, for those who run it.
///
#[doc = include_str!("server.md")]
#[cfg(feature = "server")]
pub mod server {}

/// Application servers with the .NET service SDK behind the program `hubwire`.
///
#[doc = include_str!("service.md")]
#[cfg(feature = "server")]
pub mod service {}

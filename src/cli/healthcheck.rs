use super::args::Healthcheck;
use super::failure::Failure;
use super::service::{client, innermost};
use super::sources::load;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// Asks the admin address of the same configuration. A container has no other program that could.
pub(super) async fn check(args: &Healthcheck) -> Result<(), Failure> {
    let config = load(args.file.config.as_deref(), Vec::new())?;
    let Some(address) = config.admin.first() else {
        return Err(Failure::failed("there is nobody to ask: `admin.listen` is empty"));
    };
    let url = format!("http://{}/{}", reachable(*address), if args.ready { "readyz" } else { "healthz" });
    let answer = client()?.get(&url).send().await;
    let answer = answer.map_err(|e| Failure::failed(format!("{url} cannot be reached: {}", innermost(&e))))?;
    if answer.status().is_success() {
        Ok(())
    } else {
        Err(Failure::failed(format!("{url} answered {}", answer.status())))
    }
}

/// Where to ask a server that listens everywhere.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => (Ipv4Addr::LOCALHOST, v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (Ipv6Addr::LOCALHOST, v6.port()).into(),
        other => other,
    }
}

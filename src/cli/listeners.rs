//! Where the server listens: addresses of the configuration, or sockets that a service manager has opened.

use super::failure::Failure;
use crate::config::Config;
use listenfd::ListenFd;
use socket2::{Domain, Socket, Type};
use std::env;
use std::io;
use std::net::SocketAddr;
use tokio::net::TcpListener;

/// Bound sockets.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) data: Vec<TcpListener>,
    pub(super) admin: Vec<TcpListener>,
}

impl Listeners {
    /// Takes the sockets that were handed over, if there are any, and binds what is left of the configuration.
    ///
    /// A socket with the name `admin` (systemd's `FileDescriptorName=`) is for health and metrics. If none has that name they take the
    /// place of the configured addresses one by one: `server.listen` first, `admin.listen` then.
    pub(super) async fn open(config: &Config) -> Result<Self, Failure> {
        let mut given = given()?;
        let named = given.iter().any(|socket| socket.is_admin);
        if given.is_empty() {
            return Ok(Self { data: bind(&config.server.listen, config)?, admin: bind(&config.admin, config)? });
        }
        let mut listeners = Self { data: Vec::new(), admin: Vec::new() };
        let data = config.server.listen.len();
        for (at, socket) in given.drain(..).enumerate() {
            let is_admin = if named { socket.is_admin } else { at >= data };
            (if is_admin { &mut listeners.admin } else { &mut listeners.data }).push(socket.listener);
        }
        if listeners.data.is_empty() {
            listeners.data = bind(&config.server.listen, config)?;
        }
        if listeners.admin.is_empty() {
            listeners.admin = bind(&config.admin, config)?;
        }
        config.check_reach(&addresses(&listeners.data)).map_err(|reach| Failure::failed(reach.what))?;
        Ok(listeners)
    }
}

pub(super) fn addresses(listeners: &[TcpListener]) -> Vec<SocketAddr> {
    listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
}

fn bind(addresses: &[SocketAddr], config: &Config) -> Result<Vec<TcpListener>, Failure> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for address in addresses {
        // by itself an address of IPv6 that is everywhere takes IPv4 as well; what is configured apart is served apart
        let is_taken = |other: &&SocketAddr| other.is_ipv4() && other.port() == address.port() && other.port() != 0;
        let only_v6 =
            address.is_ipv6() && config.server.listen.iter().chain(&config.admin).any(|other| is_taken(&other));
        listeners.push(listen(*address, only_v6).map_err(|e| Failure::failed(explain(*address, &e)))?);
    }
    Ok(listeners)
}

fn listen(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if only_v6 {
        socket.set_only_v6(true)?;
    }
    // as the runtime does: a server that starts again does not wait for what its predecessor has left; elsewhere it would share a port
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn explain(address: SocketAddr, e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::AddrInUse => format!(
            "{address} is in use by another program (`ss -ltnp 'sport = :{}'` says which): stop that, or choose another port with \
             --listen or --admin",
            address.port()
        ),
        io::ErrorKind::PermissionDenied => format!(
            "{address} is not allowed: ports below 1024 need CAP_NET_BIND_SERVICE, or a socket that systemd opens; or choose another port"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("{address} is no address of this machine: choose one that is, or 0.0.0.0")
        }
        _ => format!("cannot listen on {address}: {e}"),
    }
}

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// A socket that was handed over.
struct Given {
    listener: TcpListener,
    is_admin: bool,
}

fn given() -> Result<Vec<Given>, Failure> {
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut sockets = ListenFd::from_env();
    let mut given = Vec::with_capacity(sockets.len());
    for at in 0..sockets.len() {
        let unusable =
            |e: io::Error| Failure::failed(format!("socket {at} of the service manager cannot be used: {e}"));
        let is_admin = names.next() == Some("admin");
        let Some(listener) = sockets.take_tcp_listener(at).map_err(unusable)? else { continue };
        listener.set_nonblocking(true).map_err(unusable)?;
        let listener = TcpListener::from_std(listener).map_err(unusable)?;
        given.push(Given { listener, is_admin });
    }
    Ok(given)
}

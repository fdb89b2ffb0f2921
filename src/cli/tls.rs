use crate::config::Tls;
use crate::transport::{Secure, Securing, Stream};
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

/// TLS with the certificate that was read last.
#[derive(Debug)]
pub(super) struct Certificate(Mutex<Tls>);

impl Certificate {
    pub(super) fn new(tls: Tls) -> Arc<Self> {
        Arc::new(Self(Mutex::new(tls)))
    }

    /// Reads the files again. What cannot be used changes nothing.
    pub(super) fn reload(&self) {
        let current = self.0.lock().clone();
        match current.reread() {
            Ok(tls) => {
                *self.0.lock() = tls;
                info!("the certificate has been read again");
            }
            Err(e) => warn!(error = %e, "the certificate stays as it was"),
        }
    }
}

impl Secure for Certificate {
    fn secure(&self, socket: TcpStream) -> Securing {
        let acceptor = TlsAcceptor::from(self.0.lock().config.clone());
        Box::pin(async move { Ok(Box::new(acceptor.accept(socket).await?) as Box<dyn Stream>) })
    }
}

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate and its key, which were good when they were read.
#[derive(Clone)]
pub(crate) struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    /// The first certificate, which the key belongs to.
    pub(crate) leaf: CertificateDer<'static>,
    pub(crate) config: Arc<ServerConfig>,
}

impl Tls {
    /// Reads a chain of certificates and the key of the first.
    pub(crate) fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let unusable = |problem: &dyn fmt::Display| TlsError::Certificate {
            path: certificate.into(),
            problem: problem.to_string(),
        };
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|e| unusable(&e))?;
        let Some(leaf) = chain.first().cloned() else {
            return Err(unusable(&"it holds no certificate in PEM"));
        };
        let private = PrivateKeyDer::from_pem_file(key)
            .map_err(|e| TlsError::Key { path: key.into(), problem: e.to_string() })?;
        let mut config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(|e| unusable(&e))?
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .map_err(|e| TlsError::Pair { certificate: certificate.into(), key: key.into(), problem: e.to_string() })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { certificate: certificate.into(), key: key.into(), leaf, config: config.into() })
    }

    /// Reads the same files again.
    pub(crate) fn reread(&self) -> Result<Self, TlsError> {
        Self::read(&self.certificate, &self.key)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("certificate", &self.certificate).field("key", &self.key).finish_non_exhaustive()
    }
}

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("the certificate {} cannot be used: {problem}", path.display())]
    Certificate { path: PathBuf, problem: String },
    #[error("the key {} cannot be used: {problem}", path.display())]
    Key { path: PathBuf, problem: String },
    #[error("the certificate {} and the key {} do not work together: {problem}", certificate.display(), key.display())]
    Pair { certificate: PathBuf, key: PathBuf, problem: String },
}

impl TlsError {
    pub(super) fn is_about_key(&self) -> bool {
        matches!(self, Self::Key { .. })
    }
}

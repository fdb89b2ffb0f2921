use super::failure::Failure;
use reqwest::{Certificate, ClientBuilder};
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

/// Which server over TLS is the right one.
#[derive(Debug, Default)]
pub(super) enum Trust {
    /// One whose certificate this machine trusts.
    #[default]
    Usual,
    /// One with a certificate of these authorities, too.
    Authorities(Vec<Certificate>),
    /// Whoever has the key of this certificate, and nobody else: whatever its names are, and whoever has signed it.
    Own(CertificateDer<'static>),
}

impl Trust {
    /// Reads the certificates of an authority.
    pub(super) fn authority(file: &Path) -> Result<Self, Failure> {
        let unusable = |problem: String| Failure::failed(format!("--ca: {} {problem}", file.display()));
        let text = std::fs::read(file).map_err(|e| unusable(format!("cannot be read: {e}")))?;
        match Certificate::from_pem_bundle(&text) {
            Ok(found) if !found.is_empty() => Ok(Self::Authorities(found)),
            Ok(_) => Err(unusable("holds no certificate in PEM".into())),
            Err(e) => Err(unusable(format!("cannot be used: {e}"))),
        }
    }

    pub(super) fn apply(&self, builder: ClientBuilder) -> Result<ClientBuilder, Failure> {
        Ok(match self {
            Self::Usual => builder,
            Self::Authorities(authorities) => builder.tls_certs_merge(authorities.clone()),
            Self::Own(certificate) => builder.tls_backend_preconfigured(only(certificate)?),
        })
    }
}

fn only(certificate: &CertificateDer<'static>) -> Result<ClientConfig, Failure> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Own { certificate: certificate.clone(), provider: provider.clone() };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Failure::failed(format!("cannot speak TLS: {e}")))?;
    Ok(config.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

/// Takes one certificate, whose key the handshake proves.
#[derive(Debug)]
struct Own {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Own {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match *shown == self.certificate {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(Error::General(NOT_OURS.into())),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

const NOT_OURS: &str =
    "its certificate is not the one that is configured here; a server reads a new one when it is told to by SIGHUP";

//! Whom the gateway trusts when it calls an upstream.
//!
//! For: [`super::connect`]. One [`Tls`] is made at start and shared by all workers.
//! Promises: TLS 1.2 and 1.3 by rustls and ring; the public roots are compiled in, so that the
//! machine's store plays no part; a private root is added by a PEM file.
//! Must never: offer a way to switch the check of certificates off.

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{self, PemObject};

/// The roots, and what is derived from them.
#[derive(Clone)]
pub struct Tls(Arc<ClientConfig>);

/// Why the settings for TLS cannot be used.
#[derive(Debug)]
pub enum TlsSetupError {
    /// The PEM file cannot be read, or holds something else.
    Pem(pem::Error),
    /// The file holds no certificate.
    Empty,
    /// A certificate is not usable as a root, or the library refuses its own defaults.
    Rustls(rustls::Error),
}

impl Tls {
    /// The public roots, and those of a PEM file if one is given.
    pub fn new(extra_roots_file: Option<&Path>) -> Result<Self, TlsSetupError> {
        let mut extra = Vec::new();
        if let Some(path) = extra_roots_file {
            let found = CertificateDer::pem_file_iter(path).map_err(TlsSetupError::Pem)?;
            for certificate in found {
                extra.push(certificate.map_err(TlsSetupError::Pem)?);
            }
            if extra.is_empty() {
                return Err(TlsSetupError::Empty);
            }
        }
        Self::with_roots(extra)
    }

    /// The public roots and these.
    pub fn with_roots(extra: Vec<CertificateDer<'static>>) -> Result<Self, TlsSetupError> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for certificate in extra {
            roots.add(certificate).map_err(TlsSetupError::Rustls)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsSetupError::Rustls)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    /// The configuration of one worker, with the protocols that it speaks, best first.
    pub(super) fn config(&self, http2: bool) -> Arc<ClientConfig> {
        let mut config = ClientConfig::clone(&self.0);
        config.alpn_protocols = match http2 {
            true => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            false => vec![b"http/1.1".to_vec()],
        };
        Arc::new(config)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl fmt::Display for TlsSetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pem(source) => write!(f, "the file of root certificates cannot be read: {source}"),
            Self::Empty => f.write_str("the file of root certificates holds none"),
            Self::Rustls(source) => write!(f, "a root certificate cannot be used: {source}"),
        }
    }
}

impl Error for TlsSetupError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Pem(source) => Some(source),
            Self::Rustls(source) => Some(source),
            Self::Empty => None,
        }
    }
}

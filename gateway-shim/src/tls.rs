//! Whose certificates calls over TLS trust: the web's authorities and those that the operator names.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// An authority's text is no PEM.
    #[error("failed to read certificates in PEM form: {0}")]
    Pem(String),
    /// There is none in it.
    #[error("failed to read certificates in PEM form: there is none")]
    Empty,
    /// A certificate cannot be an authority's.
    #[error("failed to take certificate {number} as an authority's: {reason}")]
    Authority {
        /// Which of them, from 1.
        number: usize,
        /// Why.
        reason: rustls::Error,
    },
    /// The library refuses its own settings.
    #[error("failed to set up TLS: {0}")]
    Setup(rustls::Error),
}

/// Those who are trusted to certify others; by default the web's (Mozilla's list, which is inside the binary).
#[derive(Clone)]
pub struct Authorities(Arc<RootCertStore>);

impl Default for Authorities {
    fn default() -> Self {
        let web = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        Self(Arc::new(web))
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorities({})", self.0.len())
    }
}

impl Authorities {
    /// Takes one or more certificates in PEM form beside the web's.
    ///
    /// # Errors
    /// When there is none, or one of them cannot be read or used.
    pub fn and(self, pem: &[u8]) -> Result<Self, TlsError> {
        let mut store = Arc::unwrap_or_clone(self.0);
        let mut taken = 0;
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| TlsError::Pem(error.to_string()))?;
            taken += 1;
            let added = store.add(certificate);
            added.map_err(|reason| TlsError::Authority { number: taken, reason })?;
        }
        if taken == 0 { Err(TlsError::Empty) } else { Ok(Self(Arc::new(store))) }
    }

    /// Settings of a client that trusts them.
    ///
    /// # Errors
    /// Never with the cryptography that is built in.
    pub fn client(&self) -> Result<ClientConfig, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = versions.map_err(TlsError::Setup)?;
        Ok(builder.with_root_certificates(Arc::clone(&self.0)).with_no_client_auth())
    }
}

//! What lets us in, and whom we let ourselves be talked to by: the token and
//! the trusted certificates, read from files that others write.

use std::path::Path;
use std::sync::Arc;

use super::Remote;
use super::failure::PollError;
use crate::foreign_file;
use crate::token::{self, NoToken};
use crate::transport::one_line;

const CA_LIMIT: u64 = 1 << 20;

impl Remote {
    /// The token as it is now; `None` where none is configured.
    pub(super) fn token(&self) -> Result<Option<String>, PollError> {
        let Some(file) = &self.token_file else { return Ok(None) };
        if !self.url.starts_with("https://") {
            return Err(PollError::Setup("a token is sent over https:// only".into()));
        }
        match token::read(file) {
            Ok(token) => Ok(Some(token)),
            Err(NoToken::Absent { file }) => Err(PollError::NoToken { file }),
            Err(unusable @ NoToken::Unusable { .. }) => Err(PollError::Setup(unusable.to_string())),
        }
    }

    /// Text from elsewhere, fit to be shown: one line, and should it repeat
    /// the token, without it.
    pub(super) fn presentable(&self, text: &str) -> String {
        let secret = self.token().ok().flatten();
        one_line(&secret.map_or_else(|| text.to_owned(), |token| text.replace(&token, "***")))
    }
}

/// A client that trusts the certificates in a file and no others.
pub(crate) fn trusting(file: &Path) -> Result<rustls::ClientConfig, PollError> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let trouble = |what: String| PollError::Setup(format!("ca_file {}: {what}", file.display()));
    let pem = foreign_file::read(file, CA_LIMIT).map_err(|e| trouble(e.to_string()))?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|e| trouble(e.to_string()))?;
        roots.add(certificate).map_err(|e| trouble(e.to_string()))?;
    }
    if roots.is_empty() {
        return Err(trouble("there is no certificate (PEM) in it".into()));
    }
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .map_err(|e| trouble(e.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

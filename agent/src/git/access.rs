//! What lets us in, and whom we let ourselves be talked to by: the token and
//! the trusted certificates, read from files that others write.

use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use super::Remote;
use super::failure::{PollError, one_line};

/// Larger than any token; smaller than a mistake.
const TOKEN_LIMIT: u64 = 16 << 10;
const CA_LIMIT: u64 = 1 << 20;

impl Remote {
    /// The token as it is now; `None` where none is configured.
    pub(super) fn token(&self) -> Result<Option<String>, PollError> {
        let Some(file) = &self.token_file else { return Ok(None) };
        let trouble =
            |what: &str| PollError::Setup(format!("the token in {} {what}", file.display()));
        if !self.url.starts_with("https://") {
            return Err(PollError::Setup("a token is sent over https:// only".into()));
        }
        let text = match read_file(file, TOKEN_LIMIT) {
            Ok(bytes) => String::from_utf8(bytes).map_err(|_| trouble("is not text"))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(trouble(&format!("cannot be read: {e}"))),
        };
        let token = text.trim_end_matches(['\n', '\r', ' ', '\t']);
        if token.is_empty() {
            return Err(PollError::NoToken { file: file.clone() });
        }
        if token.chars().any(char::is_control) {
            return Err(trouble("has more than one line"));
        }
        Ok(Some(token.to_owned()))
    }

    /// Text from elsewhere, fit to be shown: one line, and should it repeat
    /// the token, without it.
    pub(super) fn presentable(&self, text: &str) -> String {
        let secret = self.token().ok().flatten();
        one_line(&secret.map_or_else(|| text.to_owned(), |token| text.replace(&token, "***")))
    }
}

/// A client that trusts the certificates in a file and no others.
pub(super) fn trusting(file: &Path) -> Result<rustls::ClientConfig, PollError> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let trouble = |what: String| PollError::Setup(format!("ca_file {}: {what}", file.display()));
    let pem = read_file(file, CA_LIMIT).map_err(|e| trouble(e.to_string()))?;
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

/// A regular file of at most `limit` bytes. A pipe would be waited for.
fn read_file(file: &Path, limit: u64) -> io::Result<Vec<u8>> {
    if !std::fs::metadata(file)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    let read = std::fs::File::open(file)?.take(limit + 1).read_to_end(&mut bytes)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > limit {
        return Err(io::Error::other(format!("larger than {limit} bytes")));
    }
    Ok(bytes)
}

//! The one way in which a client for HTTP is set up.

use std::path::Path;
use std::sync::Arc;

use fort_sys::foreign_file;
use reqwest::ClientBuilder;
use reqwest::redirect::Policy;

use crate::stays_here;

/// Name by which servers know this program.
pub const USER_AGENT: &str = concat!("fort-agent/", env!("CARGO_PKG_VERSION"));
/// Largest file of trusted certificates that is read, in bytes.
const CA_LIMIT: u64 = 1 << 20;

/// Error: the trusted certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("ca_file {file}: {what}")]
pub struct NotTrusted {
    /// Path of the file with the certificates.
    file: String,
    /// Description of what is wrong with the file.
    what: String,
}

/// Makes a client that talks to the server of a URL and nobody else: redirects are
/// answers, and what is not encrypted because it stays on this host goes through no
/// proxy. It trusts the certificates that this host trusts.
pub fn client(url: &str) -> ClientBuilder {
    // The platform's verifier takes the process's provider. Whoever installed one
    // before chose the same: only ring is built in.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = ClientBuilder::new().redirect(Policy::none()).referer(false);
    if stays_here(url) { builder.no_proxy() } else { builder }
}

/// Makes a client as [`client`] does that trusts the certificates in `ca_file` and no
/// others, where there is one.
pub fn client_trusting(url: &str, ca_file: Option<&Path>) -> Result<ClientBuilder, NotTrusted> {
    let builder = client(url);
    Ok(match ca_file {
        Some(file) => builder.tls_backend_preconfigured(trusting(file)?),
        None => builder,
    })
}

/// Makes a TLS configuration that trusts the certificates in a file and no others.
fn trusting(file: &Path) -> Result<rustls::ClientConfig, NotTrusted> {
    use rustls::pki_types::{CertificateDer, pem::PemObject as _};
    let trouble = |what: String| NotTrusted { file: file.display().to_string(), what };
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

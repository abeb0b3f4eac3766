//! Why an exchange over HTTP or HTTPS broke, in words for people.

use std::error::Error;
use std::io;

use fort_core::plain::one_line;
use fort_sys::error_chain::chain;

/// Causes of a broken exchange, told apart by what a person would do about each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// The connection could not be made private.
    Tls(String),
    /// Silent, or too slow, for longer than it may be.
    Late,
    /// No name, no route, nobody listening, or the connection broke.
    Unreachable(String),
}

impl Broken {
    /// Classifies the error of an exchange. `advice` is what to do about a certificate of
    /// an unknown issuer.
    pub fn of(error: &(dyn Error + 'static), timed_out: bool, advice: &str) -> Self {
        if let Some(tls) = find::<rustls::Error>(error) {
            return Self::Tls(tls_in_words(tls, advice));
        }
        if timed_out {
            return Self::Late;
        }
        let ended =
            find::<io::Error>(error).is_some_and(|e| e.kind() == io::ErrorKind::UnexpectedEof);
        // rustls says this with a link to its manual.
        Self::Unreachable(if ended { "the connection was closed".into() } else { innermost(error) })
    }
}

/// Returns the first error of a kind in the chain of another ([`chain`]).
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    chain(error).find_map(|e| e.downcast_ref())
}

/// Returns the message of the cause at the bottom, which has the operating system's
/// words; the ones above it say "error sending request" and repeat the address.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let words: Vec<_> =
        chain(error).filter(|e| !e.is::<reqwest::Error>()).map(|e| e.to_string()).collect();
    let last = words.last().cloned().unwrap_or_else(|| "the request failed".into());
    let dns = words.iter().any(|w| w.contains("dns error"));
    one_line(&if dns && !last.contains("dns") { format!("name lookup: {last}") } else { last })
}

fn tls_in_words(error: &rustls::Error, advice: &str) -> String {
    use rustls::CertificateError as C;
    if let rustls::Error::InvalidCertificate(reason) = error {
        if matches!(reason, C::UnknownIssuer) {
            return format!("the certificate is from an unknown issuer: {advice}");
        }
        if matches!(reason, C::BadSignature) {
            return "the certificate is not signed by the issuer that it names".into();
        }
        if matches!(reason, C::Expired | C::ExpiredContext { .. }) {
            return "the certificate has expired: renew it, or set this host's clock".into();
        }
        if matches!(reason, C::NotValidYet | C::NotValidYetContext { .. }) {
            return "the certificate is not valid yet: is this host's clock right?".into();
        }
        if matches!(reason, C::NotValidForName | C::NotValidForNameContext { .. }) {
            return "the certificate is for another name: check the url".into();
        }
    }
    one_line(&error.to_string())
}

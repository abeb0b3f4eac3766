//! Why a remote gave no answer, told apart by what a person would do about it.
//!
//! No text in here carries a secret: it is made from statuses, host names and
//! the causes that the network stack names, and cleaned of the token.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Why a remote could not be asked. `Display` is one line: what is wrong, and
/// what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum PollError {
    /// The token is still to come. Not a failure of the remote.
    #[error("waiting for a token: {} is absent or empty", file.display())]
    NoToken {
        /// Where it is expected.
        file: PathBuf,
    },
    /// The key for ssh is still to come. Not a failure of the remote.
    #[error("waiting for a key: {} is absent or empty", file.display())]
    NoKey {
        /// Where it is expected.
        file: PathBuf,
    },
    /// The host at the address is not one that is known.
    #[error("the forge's host key is not in {}: if it is right, put it there", file.display())]
    HostKeyUnknown {
        /// The known hosts.
        file: PathBuf,
    },
    /// Another host is at the address, or its key was replaced.
    #[error("the forge's host key is another than in {}: somebody may be in between. Nothing was sent; if the forge has a new key, put it there", file.display())]
    HostKeyChanged {
        /// The known hosts.
        file: PathBuf,
    },
    /// ssh's 401.
    #[error("the forge does not accept the key in {}: give its public half access to the repository", file.display())]
    KeyRefused {
        /// The private key that was offered.
        file: PathBuf,
    },
    /// ssh's 404.
    #[error("there is no such repository, or the key may not see it: check the url")]
    NoRepository,
    /// 401.
    #[error("the forge does not accept the token (401): put a valid one in {}", file.as_ref().map_or_else(|| "a token_file".into(), |f| f.display().to_string()))]
    Unauthorized {
        /// Where the token came from, if one was sent.
        file: Option<PathBuf>,
    },
    /// 403.
    #[error("the forge forbids reading this repository (403): give the token's user access to it")]
    Forbidden,
    /// 404 and 410.
    #[error("there is no such repository, or the token may not see it (404): check the url")]
    NotFound,
    /// Any other status that is not success.
    #[error("the forge answers with HTTP status {0}: see its log")]
    Status(u16),
    /// A redirect. None is followed: the token goes to the configured address
    /// and to no other.
    #[error("the forge redirects to {to}: if that is right, make it the url")]
    Redirected {
        /// Where to, without user, password and query.
        to: String,
    },
    /// A web page, or anything else that is not git's protocol.
    #[error("the answer is {content}, not git: check that the url is that of a repository")]
    NotGit {
        /// The content type that came instead.
        content: String,
    },
    /// The connection could not be made private.
    #[error("TLS: {0}")]
    Tls(String),
    /// No name, no route, nobody listening, or the connection broke.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// Silent, or too slow, for longer than the timeout.
    #[error("no answer within {}s: the forge or the network hangs", after.as_secs_f32())]
    Stalled {
        /// The limit that was exceeded.
        after: Duration,
    },
    /// Git's protocol, but not as expected.
    #[error("git protocol: {0}")]
    Protocol(String),
    /// The remote was not even asked: something on this side is wrong.
    #[error("{0}")]
    Setup(String),
}

impl PollError {
    /// From what reqwest reports when there is no status.
    pub(super) fn from_reqwest(error: &reqwest::Error, limit: Duration) -> Self {
        Self::from_chain(error, limit, error.is_timeout())
    }

    /// From an error in the middle of a body.
    pub(super) fn from_io(error: &io::Error, limit: Duration) -> Self {
        let timed_out = find::<reqwest::Error>(error).is_some_and(reqwest::Error::is_timeout)
            || error.kind() == io::ErrorKind::TimedOut;
        Self::from_chain(error, limit, timed_out)
    }

    fn from_chain(error: &(dyn Error + 'static), limit: Duration, timed_out: bool) -> Self {
        if let Some(tls) = find::<rustls::Error>(error) {
            return Self::Tls(tls_in_words(tls));
        }
        if timed_out {
            return Self::Stalled { after: limit };
        }
        let ended =
            find::<io::Error>(error).is_some_and(|e| e.kind() == io::ErrorKind::UnexpectedEof);
        // rustls says this with a link to its manual.
        Self::Unreachable(if ended { "the connection was closed".into() } else { innermost(error) })
    }
}

/// One line, without control characters, at most 300 bytes: what a server
/// says ends up in a log.
pub(super) fn one_line(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut line = clean.take(300).collect::<String>();
    while line.len() > 300 {
        line.pop();
    }
    line.trim().to_owned()
}

/// Every error below `error`, itself first. `io::Error` hides the error that
/// it wraps from `source`, so that one is looked into.
pub(super) fn chain<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    // No real chain is this long; a cyclic one must end.
    std::iter::successors(Some(error), |&error| {
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        match wrapped {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        }
    })
    .take(32)
}

fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    chain(error).find_map(|e| e.downcast_ref())
}

/// The cause at the bottom says it in the operating system's words; the ones
/// above it say "error sending request" and repeat the address.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let words: Vec<_> =
        chain(error).filter(|e| !e.is::<reqwest::Error>()).map(|e| e.to_string()).collect();
    let last = words.last().cloned().unwrap_or_else(|| "the request failed".into());
    let dns = words.iter().any(|w| w.contains("dns error"));
    one_line(&if dns && !last.contains("dns") { format!("name lookup: {last}") } else { last })
}

fn tls_in_words(error: &rustls::Error) -> String {
    use rustls::CertificateError as C;
    if let rustls::Error::InvalidCertificate(reason) = error {
        if matches!(reason, C::UnknownIssuer) {
            return "the certificate is from an unknown issuer: set ca_file to the issuer's".into();
        }
        if matches!(reason, C::BadSignature) {
            return "the certificate is not signed by the issuer in ca_file".into();
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

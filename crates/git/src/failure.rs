//! Failures of a remote to answer, told apart by what a person would do about them.
//!
//! No text in here carries a secret: it is made from statuses, host names and
//! the causes that the network stack names, and cleaned of the token.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::limits::Exceeded;
use fort_core::remedy::Remedy;
use fort_http::Broken;

/// Reason for which a remote could not be asked. `Display` is one line: what is wrong,
/// and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum PollError {
    /// The token is still to come. Not a failure of the remote.
    #[error("waiting for a token: {} is absent or empty", file.display())]
    NoToken {
        /// File in which the token is expected.
        file: PathBuf,
    },
    /// The key for ssh is still to come. Not a failure of the remote.
    #[error("waiting for a key: {} is absent or empty", file.display())]
    NoKey {
        /// File in which the key is expected.
        file: PathBuf,
    },
    /// The host at the address is not one that is known.
    #[error("the forge's host key is not in {}: if it is right, put it there", file.display())]
    HostKeyUnknown {
        /// File of known hosts.
        file: PathBuf,
    },
    /// Another host is at the address, or its key was replaced.
    #[error("the forge's host key is another than in {}: somebody may be in between. Nothing was sent; if the forge has a new key, put it there", file.display())]
    HostKeyChanged {
        /// File of known hosts.
        file: PathBuf,
    },
    /// The forge does not accept the key: ssh's 401.
    #[error("the forge does not accept the key in {}: give its public half access to the repository", file.display())]
    KeyRefused {
        /// The private key that was offered.
        file: PathBuf,
    },
    /// There is no such repository, or the key may not see it: ssh's 404.
    #[error("there is no such repository, or the key may not see it: check the url")]
    NoRepository,
    /// The forge does not accept the token, or wants one (401).
    #[error("the forge does not accept the token (401): put a valid one in {}", file.as_ref().map_or_else(|| "a token_file".into(), |f| f.display().to_string()))]
    Unauthorized {
        /// File that the token came from, if one was sent.
        file: Option<PathBuf>,
    },
    /// The forge forbids reading the repository (403).
    #[error("the forge forbids reading this repository (403): give the token's user access to it")]
    Forbidden,
    /// There is no such repository, or the token may not see it (404 and 410).
    #[error("there is no such repository, or the token may not see it (404): check the url")]
    NotFound,
    /// Any other status that is not success.
    #[error("the forge answers with HTTP status {0}: see its log")]
    Status(u16),
    /// A redirect. None is followed: the token goes to the configured address
    /// and to no other.
    #[error("the forge redirects to {to}: if that is right, make it the url")]
    Redirected {
        /// Address that it leads to, without user, password and query.
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
    /// The remote answers with more than this host takes.
    #[error("{0}: {lift}", lift = .0.lift())]
    Exceeds(Exceeded),
    /// A line of the server's own that it answers with, instead of what was asked.
    #[error("the forge says: {0}")]
    Said(String),
    /// The repository's objects have other names than this agent reads.
    #[error(
        "the repository is one of {format}, and only SHA-1 can be read: serve one that was made without --object-format"
    )]
    ObjectFormat {
        /// Name of the format, as git calls it.
        format: String,
    },
    /// Git's protocol, but not as expected.
    #[error("git protocol: {0}")]
    Protocol(String),
    /// The remote was not even asked: something on this side is wrong.
    #[error("{0}")]
    Setup(String),
}

impl PollError {
    /// Returns what a person can do about the failure.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::NoToken { .. } | Self::Unauthorized { .. } => Remedy::Token,
            Self::NoKey { .. } | Self::KeyRefused { .. } => Remedy::Key,
            Self::HostKeyUnknown { .. } | Self::HostKeyChanged { .. } => Remedy::HostKey,
            Self::Forbidden => Remedy::Access,
            Self::NotFound | Self::NoRepository => Remedy::Repository,
            Self::Redirected { .. } | Self::NotGit { .. } | Self::ObjectFormat { .. } => {
                Remedy::Url
            }
            Self::Status(_) | Self::Said(_) => Remedy::Forge,
            Self::Protocol(_) => Remedy::Data,
            Self::Tls(_) => Remedy::Certificate,
            Self::Exceeds(_) => Remedy::Less,
            Self::Setup(_) => Remedy::Host,
            Self::Unreachable(_) | Self::Stalled { .. } => Remedy::Wait,
        }
    }

    /// Converts an error of reqwest's, which is reported when there is no status.
    pub(super) fn from_reqwest(error: &reqwest::Error, limit: Duration) -> Self {
        match Broken::of(error, error.is_timeout(), "set ca_file to the issuer's") {
            Broken::Tls(what) => Self::Tls(what),
            Broken::Late => Self::Stalled { after: limit },
            Broken::Unreachable(what) => Self::Unreachable(what),
        }
    }
}

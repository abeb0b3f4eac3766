//! Why a commit status was not taken, told apart by what a person would do
//! about it.

use std::path::PathBuf;
use std::time::Duration;

use fort_http::token::NoToken;

/// Why a commit status was not taken. `Display` is one line; no text in here
/// has the token in it.
#[derive(Debug, thiserror::Error)]
pub enum ReportFailed {
    /// There is no token to send.
    #[error(transparent)]
    NoToken(#[from] NoToken),
    /// Something is wrong on this side.
    #[error("{0}")]
    Setup(String),
    /// 401: the token is no one's.
    #[error("Forgejo does not accept the token in {} (401)", file.display())]
    Unauthorized {
        /// Where it came from.
        file: PathBuf,
    },
    /// 403: whose token it is may not do this.
    #[error("the token in {} may not do this (403): it needs write:repository, and its user write access to {repository}", file.display())]
    Forbidden {
        /// Where it came from.
        file: PathBuf,
        /// The repository.
        repository: String,
    },
    /// 404.
    #[error(
        "there is no repository {repository} for this token (404): check report.forgejo and report.repository"
    )]
    NotFound {
        /// The repository.
        repository: String,
    },
    /// A redirect. None is followed: the token goes to the configured address
    /// and to no other.
    #[error(
        "Forgejo redirects to {to}: if that is right, make it report.forgejo, or the repository has a new name"
    )]
    Redirected {
        /// Where to, without user, password, path and query.
        to: String,
    },
    /// Something else answers at that address, a portal or a proxy before it. A page
    /// that is sent with success is no success.
    #[error(
        "the answer ({status}) is {content}, not Forgejo's: check report.forgejo, and what stands before it"
    )]
    NotForgejo {
        /// The status.
        status: u16,
        /// The content type that came instead.
        content: String,
    },
    /// It refuses what was sent.
    #[error("Forgejo refuses it ({status}): {said}")]
    Rejected {
        /// The status.
        status: u16,
        /// What it said of it.
        said: String,
    },
    /// The server cannot, at the moment. For a commit that it does not know
    /// Forgejo answers so too.
    #[error("Forgejo has a trouble of its own, or does not know the commit ({status}): {said}")]
    Server {
        /// The status.
        status: u16,
        /// What it said of it.
        said: String,
    },
    /// The connection could not be made private.
    #[error("TLS: {what}")]
    Tls {
        /// Why.
        what: String,
    },
    /// No name, no route, nobody listening, or the connection broke.
    #[error("Forgejo cannot be reached: {what}")]
    Unreachable {
        /// Why.
        what: String,
    },
    /// It was silent for this long.
    #[error("Forgejo does not answer within {} s", limit.as_secs())]
    Late {
        /// The limit that was exceeded.
        limit: Duration,
    },
}

impl ReportFailed {
    /// Whether the same, sent again, will fail again for ever.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Rejected { .. } => true,
            // A token or a repository may be put there at any time.
            Self::NoToken(_)
            | Self::Setup(_)
            | Self::Unauthorized { .. }
            | Self::Forbidden { .. }
            | Self::NotFound { .. }
            | Self::Redirected { .. }
            | Self::NotForgejo { .. }
            | Self::Server { .. }
            | Self::Tls { .. }
            | Self::Unreachable { .. }
            | Self::Late { .. } => false,
        }
    }
}

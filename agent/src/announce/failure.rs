//! Why a commit status was not taken, told apart by what a person would do
//! about it.

use std::path::PathBuf;
use std::time::Duration;

use fort_http::token::NoToken;

/// Why a commit status was not taken. `Display` is one line; no text in here
/// has the token in it.
#[derive(Debug, thiserror::Error)]
pub enum ReportFailed {
    /// No token is there to be sent.
    #[error(transparent)]
    NoToken(#[from] NoToken),
    /// Something is wrong on this side.
    #[error("{0}")]
    Setup(String),
    /// 401: the token is not known to the server.
    #[error("Forgejo does not accept the token in {} (401)", file.display())]
    Unauthorized {
        /// File that the token came from.
        file: PathBuf,
    },
    /// 403: the owner of the token may not do this.
    #[error("the token in {} may not do this (403): it needs write:repository, and its user write access to {repository}", file.display())]
    Forbidden {
        /// File that the token came from.
        file: PathBuf,
        /// Repository that the status is for.
        repository: String,
    },
    /// 404: the repository is not there for this token.
    #[error(
        "there is no repository {repository} for this token (404): check report.forgejo and report.repository"
    )]
    NotFound {
        /// Repository that the status is for.
        repository: String,
    },
    /// A redirect. None is followed: the token goes to the configured address
    /// and to no other.
    #[error(
        "Forgejo redirects to {to}: if that is right, make it report.forgejo, or the repository has a new name"
    )]
    Redirected {
        /// Target of the redirect, without user, password, path and query.
        to: String,
    },
    /// Something else answers at that address, a portal or a proxy before it. A page
    /// that is sent with success is no success.
    #[error(
        "the answer ({status}) is {content}, not Forgejo's: check report.forgejo, and what stands before it"
    )]
    NotForgejo {
        /// Status code of the answer.
        status: u16,
        /// The content type that came instead.
        content: String,
    },
    /// The server refuses what was sent, and would again.
    #[error("Forgejo refuses it ({status}): {said}")]
    Rejected {
        /// Status code of the answer.
        status: u16,
        /// Error message of the server.
        said: String,
    },
    /// The server cannot, at the moment. For a commit that it does not know
    /// Forgejo answers so too.
    #[error("Forgejo has a trouble of its own, or does not know the commit ({status}): {said}")]
    Server {
        /// Status code of the answer.
        status: u16,
        /// Error message of the server.
        said: String,
    },
    /// The connection could not be made private.
    #[error("TLS: {what}")]
    Tls {
        /// Reason why TLS failed.
        what: String,
    },
    /// No name, no route, nobody listening, or the connection broke.
    #[error("Forgejo cannot be reached: {what}")]
    Unreachable {
        /// Reason why the connection failed.
        what: String,
    },
    /// The server did not answer in time.
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

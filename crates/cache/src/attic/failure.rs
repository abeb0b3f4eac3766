//! Failures of the cache, told apart by what a person would do about them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::claims;
use fort_http::Secret;
use fort_http::token::NoToken;

/// Reason for which the cache was of no use. `Display` is one line: what is wrong, and
/// what to do. No text in here has the token in it.
#[derive(Debug, thiserror::Error)]
pub enum AtticFailed {
    /// There is no token to send.
    #[error(transparent)]
    NoToken(#[from] NoToken),
    /// The server takes us for anybody: 401, or 403 where anybody may read.
    #[error("the cache does not accept the token ({status}): {why}; put a valid one in {}", file.display())]
    Unauthorized {
        /// HTTP status, 401 or 403.
        status: u16,
        /// Fault of the token, as far as it can be seen.
        why: String,
        /// File that the token came from.
        file: PathBuf,
        /// The token that was sent.
        token: Secret,
    },
    /// The server knows the token, and does not allow this with it (403).
    #[error("the token in {} may not do this (403): it needs r and w on `{cache}`", file.display())]
    Forbidden {
        /// Name of the cache.
        cache: String,
        /// File that the token came from.
        file: PathBuf,
    },
    /// The server has no such cache.
    #[error("the server has no cache `{cache}`: check cache.name, or create it")]
    NoSuchCache {
        /// Name that the server does not know.
        cache: String,
    },
    /// The server that answers is not Attic.
    #[error("this is not an Attic server ({found}): check cache.endpoint")]
    NotAttic {
        /// Answer that an Attic server would not give.
        found: String,
    },
    /// A redirect. None is followed: the token goes to the configured address
    /// and to no other.
    #[error("the cache redirects to {to}: if that is right, make it cache.endpoint")]
    Redirected {
        /// Scheme, host and port that it redirects to; neither user and password nor query.
        to: String,
    },
    /// The path is larger than a proxy in front of the cache lets through (413).
    #[error(
        "it is larger than a proxy in front of the cache lets through (413): raise the proxy's limit (nginx: client_max_body_size 0)"
    )]
    TooLarge,
    /// The server refuses what was sent.
    #[error("the cache refuses it ({status}): {said}")]
    Rejected {
        /// HTTP status of the answer.
        status: u16,
        /// Error message of the server, or another reason, as one line.
        said: String,
    },
    /// The cache's paths live elsewhere than this host's.
    #[error("the cache is for the store {theirs}, this host's is /nix/store")]
    OtherStore {
        /// Store directory of the cache.
        theirs: String,
    },
    /// The server cannot, at the moment.
    #[error("the cache has a trouble of its own ({status}): {said}")]
    Server {
        /// HTTP status of the answer.
        status: u16,
        /// Error message of the server, as one line.
        said: String,
    },
    /// The connection could not be made private.
    #[error("TLS: {what}")]
    Tls {
        /// Cause of the failure, in words.
        what: String,
    },
    /// No name, no route, nobody listening, or the connection broke.
    #[error("the cache cannot be reached: {what}")]
    Unreachable {
        /// Cause of the failure, in words.
        what: String,
    },
    /// The cache was silent, or took nothing, for this long.
    #[error("the cache makes no way for {} s", limit.as_secs())]
    Late {
        /// The limit that was exceeded.
        limit: Duration,
    },
    /// The cache answered, and not as it should.
    #[error("the cache's answer cannot be understood: {what}")]
    Malformed {
        /// Fault of the answer, in words.
        what: String,
    },
}

impl AtticFailed {
    /// Returns what else fails for the same reason.
    pub fn reach(&self) -> Reach {
        match self {
            Self::Server { .. }
            | Self::Unreachable { .. }
            | Self::Late { .. }
            | Self::Malformed { .. } => Reach::ThisMoment,
            Self::TooLarge | Self::Rejected { .. } => Reach::ThisPath,
            Self::NoToken(_)
            | Self::Unauthorized { .. }
            | Self::Forbidden { .. }
            | Self::NoSuchCache { .. }
            | Self::NotAttic { .. }
            | Self::Redirected { .. }
            | Self::OtherStore { .. }
            | Self::Tls { .. } => Reach::Everything,
        }
    }

    pub(super) fn odd_token(file: &Path) -> Self {
        let what = "cannot be sent: it has characters that no token has".into();
        Self::NoToken(NoToken::Unusable { file: file.into(), what })
    }
}

/// Extent of a failure: what else fails for the same reason as a request did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The same may succeed in a while, with nobody doing anything.
    ThisMoment,
    /// The failure is about the one path that was sent: others may well be taken.
    ThisPath,
    /// Everything, until somebody does something.
    Everything,
}

/// An answer that is no success, before it is known what it means here.
pub(super) enum Refused {
    Unauthorized,
    Forbidden,
    NoSuchCache,
    Other(AtticFailed),
}

impl Refused {
    /// Adds to a refusal what is known on this side.
    pub(super) fn explained(self, token: &Secret, cache: &str, file: &Path) -> AtticFailed {
        let (cache_name, file) = (cache.to_owned(), file.to_owned());
        let fault = claims::fault(token.expose(), cache);
        match (self, fault) {
            (Self::Unauthorized, fault) => {
                let unknown = || "it is another server's, or was revoked by a new secret".into();
                let (why, token) = (fault.unwrap_or_else(unknown), token.clone());
                AtticFailed::Unauthorized { status: 401, why, file, token }
            }
            (Self::Forbidden, Some(why)) => {
                AtticFailed::Unauthorized { status: 403, why, file, token: token.clone() }
            }
            (Self::Forbidden, None) => AtticFailed::Forbidden { cache: cache_name, file },
            (Self::NoSuchCache, _) => AtticFailed::NoSuchCache { cache: cache_name },
            (Self::Other(failed), _) => failed,
        }
    }
}

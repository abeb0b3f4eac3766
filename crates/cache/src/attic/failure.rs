//! Why the cache was of no use, told apart by what a person would do about it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::claims;
use fort_http::Secret;
use fort_http::token::NoToken;

/// Why the cache was of no use. `Display` is one line: what is wrong, and what
/// to do. No text in here has the token in it.
#[derive(Debug, thiserror::Error)]
pub enum AtticFailed {
    /// There is no token to send.
    #[error(transparent)]
    NoToken(#[from] NoToken),
    /// The server takes us for anybody: 401, or 403 where anybody may read.
    #[error("the cache does not accept the token ({status}): {why}; put a valid one in {}", file.display())]
    Unauthorized {
        /// The status.
        status: u16,
        /// What is wrong with it, as far as that can be seen.
        why: String,
        /// Where it came from.
        file: PathBuf,
        /// The token that was sent.
        token: Secret,
    },
    /// 403: known, and not allowed.
    #[error("the token in {} may not do this (403): it needs r and w on `{cache}`", file.display())]
    Forbidden {
        /// The cache's name.
        cache: String,
        /// Where it came from.
        file: PathBuf,
    },
    /// The server has no such cache.
    #[error("the server has no cache `{cache}`: check cache.name, or create it")]
    NoSuchCache {
        /// The name that it does not know.
        cache: String,
    },
    /// Whoever answers is not an Attic server.
    #[error("this is not an Attic server ({found}): check cache.endpoint")]
    NotAttic {
        /// What answered instead.
        found: String,
    },
    /// A redirect. None is followed: the token goes to the configured address
    /// and to no other.
    #[error("the cache redirects to {to}: if that is right, make it cache.endpoint")]
    Redirected {
        /// Where to, without user, password and query.
        to: String,
    },
    /// 413.
    #[error(
        "it is larger than a proxy in front of the cache lets through (413): raise the proxy's limit (nginx: client_max_body_size 0)"
    )]
    TooLarge,
    /// The server refuses what was sent.
    #[error("the cache refuses it ({status}): {said}")]
    Rejected {
        /// The status.
        status: u16,
        /// What it said of it.
        said: String,
    },
    /// Its paths live elsewhere than this host's.
    #[error("the cache is for the store {theirs}, this host's is /nix/store")]
    OtherStore {
        /// Where they live.
        theirs: String,
    },
    /// The server cannot, at the moment.
    #[error("the cache has a trouble of its own ({status}): {said}")]
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
    #[error("the cache cannot be reached: {what}")]
    Unreachable {
        /// Why.
        what: String,
    },
    /// It was silent, or took nothing, for this long.
    #[error("the cache makes no way for {} s", limit.as_secs())]
    Late {
        /// The limit that was exceeded.
        limit: Duration,
    },
    /// It answered, and not as it should.
    #[error("the cache's answer cannot be understood: {what}")]
    Malformed {
        /// What was expected or found.
        what: String,
    },
}

impl AtticFailed {
    /// What else fails for the same reason.
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

/// What else fails for the same reason as a request did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The same may succeed in a while, with nobody doing anything.
    ThisMoment,
    /// It is about the one path that was sent: others may well be taken.
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
    /// With what is known on this side.
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

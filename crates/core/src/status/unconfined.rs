//! Why commits are evaluated with all the rights of the agent.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why commits are not evaluated by a user that can open nothing, but by the
/// agent's own: what such an evaluation reads of this host, root can read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "why")]
pub enum Unconfined {
    /// The agent is not root, and cannot become another user.
    NotRoot,
    /// The agent is a root that may not become another user (CAP_SETUID,
    /// CAP_SETGID), as in some containers.
    NoCapability,
    /// No daemon serves the store, so whoever evaluates has to write it.
    NoDaemon {
        /// The store, as it is configured.
        store: String,
    },
    /// The user that would evaluate cannot get at what it needs.
    NoWay {
        /// Name of the user.
        user: String,
        /// The directory that it cannot enter.
        path: String,
    },
}

impl fmt::Display for Unconfined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("commits are evaluated with all the rights of the agent: ")?;
        match self {
            Self::NotRoot => f.write_str("it is not root, and cannot become another user"),
            Self::NoCapability => f.write_str("it may not become another user here"),
            Self::NoDaemon { store } => write!(f, "no Nix daemon serves the store {store}"),
            Self::NoWay { user, path } => write!(f, "the user {user} cannot enter {path}"),
        }
    }
}

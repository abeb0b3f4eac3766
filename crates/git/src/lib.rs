//! Everything that is known about git: polling a remote for its heads,
//! fetching into the clone, how two commits relate, and writing out one
//! commit's tree.
//!
//! It runs no git program (`file://` remotes, for tests, are the exception:
//! they spawn `git upload-pack`; `ssh://` remotes spawn `ssh`), reads no git
//! configuration, and decides nothing: which head to follow is said elsewhere.
//!
//! What surprises: polling happens in this process, on a connection that is
//! kept; all that reads what was pushed happens in a child ([`child`]), whose
//! memory is bounded ([`limits`]), and a hang or a crash of which goes with it.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

mod access;
pub mod child;
mod clone;
mod combine;
mod exchange;
pub mod export;
mod failure;
mod fetch;
mod history;
mod http;
pub mod limits;
mod negotiate;
pub mod poll;
mod process;
mod repository;
mod said;
mod ssh;
mod ssh_words;
mod steps;
mod submodules;
mod tree;

pub use child::{FetchError, Reply, Request};
pub use export::{Export, ExportError, Exported, Unfit, export};
pub use failure::PollError;
pub use fort_core::observed::Relation;
pub use limits::{Exceeded, Limits, NoRoom};
pub use poll::Connection;
pub use poll::{is_branch_name, reads_as};
pub use repository::Related;
pub use ssh::ssh_takes;

/// Repository that branches come from, and how to get in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remote {
    /// Name of the remote in the configuration, the status and the clone's refs.
    pub name: String,
    /// Address of the repository: `https://`; `ssh://`; `http://` only where no token
    /// is sent; `file://` in tests. The scheme is in lower case. Never with a password
    /// in it, and with a user for `ssh://` only.
    pub url: String,
    /// The user that the token belongs to.
    pub username: String,
    /// File of the token, read at every use. It may be absent or empty for now, which
    /// is [`PollError::NoToken`]. `None`: the remote needs no token.
    pub token_file: Option<PathBuf>,
    /// Certificates (PEM) that are trusted *instead of* the platform's, as
    /// git's `http.sslCAInfo` has it. Read when a connection is opened.
    pub ca_file: Option<PathBuf>,
    /// The private key for `ssh://`, which needs one. It may be absent or empty
    /// for now, which is [`PollError::NoKey`]. As [`ssh_takes`] has it.
    pub ssh_key_file: Option<PathBuf>,
    /// The host keys that are accepted, in sshd(8)'s format; `ssh://` needs it.
    pub known_hosts: Option<PathBuf>,
    /// Longest time that the remote may be silent.
    pub timeout: Duration,
}

//! Fetching and comparing run in a process of their own, `fort-agent job fetch`:
//! a clone takes tens of megabytes that would not come back, what it reads comes
//! from strangers, and an HTTP wait cannot be interrupted. All of that ends with
//! the process ([`super::process`]), which limits itself ([`super::limits`]).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::failure::PollError;
use super::history::ReadFailed;
use super::limits::{Exceeded, Limits, NoRoom};
use super::process::{self, Died};
use super::{Related, Remote, clone};
use fort_core::types::Commit;

/// Branches and commits to bring into the clone, and to compare there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The bare repository that all remotes share. Made if absent; beside it,
    /// names that begin with its own are used.
    pub clone: PathBuf,
    /// Remote that is fetched from.
    pub remote: Remote,
    /// Branch names without `refs/heads/`. None: no network, only `compare`.
    pub branches: Vec<String>,
    /// Pairs of (older, newer) to compare.
    #[serde(default)]
    pub compare: Vec<(Commit, Commit)>,
    /// Commits that must stay although no branch holds them any more. Those of
    /// earlier requests that are not named again are let go.
    #[serde(default)]
    pub keep: Vec<Commit>,
    /// Whether the clone is known to be damaged: it is made anew.
    #[serde(default)]
    pub reclone: bool,
    /// Whether the commits that submodules name are brought as well.
    #[serde(default)]
    pub submodules: bool,
    /// Limits of what the request may cost.
    #[serde(default)]
    pub limits: Limits,
}

/// Answer to a request that was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// Heads of the branches. One that the remote lacks is absent.
    pub heads: BTreeMap<String, Commit>,
    /// Relations of the pairs, in the order asked.
    pub relations: Vec<Related>,
    /// Whether the old clone was replaced. The new one holds nothing but the branches
    /// of this request: what else is needed must be asked for again.
    pub recloned: bool,
    /// Note on something a person should know.
    pub note: Option<String>,
}

/// Reason for which there is no reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum FetchError {
    /// The remote failed, or the way there.
    #[error(transparent)]
    Remote(#[from] PollError),
    /// The new commits are larger than this host takes.
    #[error("{0}: {lift}", lift = .0.lift())]
    Exceeds(Exceeded),
    /// The new commits are whole, and cannot be used. Git itself could not.
    #[error("{0}: push a commit that git can read (git fsck)")]
    Unreadable(String),
    /// The clone cannot be read. Ask again, with branches.
    #[error("the clone is damaged: {0}")]
    Damaged(String),
    /// Another fetch holds the clone.
    #[error("another fetch is running on this clone")]
    Busy,
    /// No space, or no quota.
    #[error("the disk is full")]
    DiskFull,
    /// Less room than is to stay free.
    #[error(transparent)]
    NoRoom(NoRoom),
    /// A file or directory of ours is in the way.
    #[error("{0}")]
    Local(String),
    /// The whole run took too long and was ended.
    #[error("fetching took longer than {}s and was ended", after.as_secs_f32())]
    TimedOut {
        /// Deadline that was exceeded.
        after: Duration,
    },
    /// The process could not run, or ended without an answer.
    #[error("the fetching process {status}{}{stderr}", if stderr.is_empty() { "" } else { ": " })]
    Crashed {
        /// End of the process in words, such as its exit status.
        status: String,
        /// End of the process's stderr, as one line.
        stderr: String,
    },
}

impl FetchError {
    /// Whether a damaged clone can look like this.
    pub(super) fn may_be_damage(&self) -> bool {
        matches!(self, Self::Damaged(_) | Self::Local(_) | Self::Remote(PollError::Protocol(_)))
    }
}

impl From<ReadFailed> for FetchError {
    fn from(trouble: ReadFailed) -> Self {
        match trouble {
            ReadFailed::Missing(what) | ReadFailed::Damaged(what) => Self::Damaged(what),
            ReadFailed::Exceeds(limit) => Self::Exceeds(limit),
            ReadFailed::Odd(what) => Self::Unreadable(what),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum ChildAnswer {
    Error { error: FetchError },
    Reply(Reply),
}

/// The child: what `fort-agent job fetch` does.
pub fn main() -> ExitCode {
    let limits = |request: &Request| request.limits;
    process::serve("fetch", limits, |request| match clone::update(request) {
        Ok(reply) => ChildAnswer::Reply(reply),
        Err(error) => ChildAnswer::Error { error },
    })
}

/// Runs a child (`exe job fetch`) and waits for its answer, for at most
/// `deadline`. Dropping the future kills the child.
pub async fn run(exe: &Path, request: &Request, deadline: Duration) -> Result<Reply, FetchError> {
    match tokio::time::timeout(deadline, answer(exe, request)).await {
        Ok(answer) => answer,
        Err(_) => Err(FetchError::TimedOut { after: deadline }),
    }
}

async fn answer(exe: &Path, request: &Request) -> Result<Reply, FetchError> {
    let died = match process::ask(exe, "fetch", request).await {
        Ok(ChildAnswer::Reply(reply)) => return Ok(reply),
        Ok(ChildAnswer::Error { error }) => return Err(error),
        Err(died) => died,
    };
    if !request.branches.is_empty() {
        // What it was receiving is in nobody's use, and may be a gigabyte: the
        // next child would remove it, but may not be wanted for half an hour.
        let sweep = Request { branches: Vec::new(), compare: Vec::new(), ..request.clone() };
        let _ = process::ask::<_, ChildAnswer>(exe, "fetch", &sweep).await;
    }
    let exceeded = died.exceeded(request.limits);
    let Died { how, stderr, .. } = died;
    Err(exceeded.map_or_else(|| FetchError::Crashed { status: how, stderr }, FetchError::Exceeds))
}

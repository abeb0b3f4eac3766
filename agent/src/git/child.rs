//! Fetching runs in a process of its own, `fort-agent job fetch`: a clone
//! takes tens of megabytes that would not come back, and an HTTP wait cannot
//! be interrupted. Both end with the process.
//!
//! Protocol: one line of JSON on stdin ([`Request`]), one on stdout: a
//! [`Reply`], or `{"error": ...}` with a [`FetchError`]. **The child ends as
//! soon as its stdin is closed**: nobody is left who wants the answer, and an
//! orphan would hold the lock on the clone.

use std::collections::BTreeMap;
use std::io::{BufRead as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::failure::PollError;
use super::{Related, Remote, clone};
use crate::core::types::Commit;
use crate::environment;
use crate::transport::one_line;

const REQUEST_LIMIT: u64 = 1 << 20;
const REPLY_LIMIT: u64 = 4 << 20;
const STDERR_TAIL: usize = 4 << 10;

/// What is to be brought into the clone, and compared there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The bare repository that all remotes share. Made if absent; beside it,
    /// names that begin with its own are used.
    pub clone: PathBuf,
    /// Where from.
    pub remote: Remote,
    /// Names without `refs/heads/`. None: no network, only `compare`.
    pub branches: Vec<String>,
    /// Pairs of (older, newer).
    #[serde(default)]
    pub compare: Vec<(Commit, Commit)>,
    /// Commits that must stay although no branch holds them any more. Those of
    /// earlier requests that are not named again are let go.
    #[serde(default)]
    pub keep: Vec<Commit>,
    /// The clone is known to be damaged: make it anew.
    #[serde(default)]
    pub reclone: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// Where the branches are. One that the remote lacks is absent.
    pub heads: BTreeMap<String, Commit>,
    /// In the order asked.
    pub relations: Vec<Related>,
    /// The old clone was replaced. It holds nothing but the branches of this
    /// request: what else is needed must be asked for again.
    pub recloned: bool,
    /// Something a person should know.
    pub note: Option<String>,
}

/// Why there is no reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum FetchError {
    /// It is the remote, or the way there.
    #[error(transparent)]
    Remote(#[from] PollError),
    /// The clone cannot be read. Ask again, with branches.
    #[error("the clone is damaged: {0}")]
    Damaged(String),
    /// Another fetch holds the clone.
    #[error("another fetch is running on this clone")]
    Busy,
    /// No space, or no quota.
    #[error("the disk is full")]
    DiskFull,
    /// A file or directory of ours is in the way.
    #[error("{0}")]
    Local(String),
    /// The whole run took too long and was ended.
    #[error("fetching took longer than {}s and was ended", after.as_secs_f32())]
    TimedOut {
        /// The limit.
        after: Duration,
    },
    /// The process could not run, or ended without an answer.
    #[error("the fetching process {status}{}{stderr}", if stderr.is_empty() { "" } else { ": " })]
    Crashed {
        /// How it ended.
        status: String,
        /// The last of what it said.
        stderr: String,
    },
}

impl FetchError {
    /// Whether a damaged clone can look like this.
    pub(super) fn may_be_damage(&self) -> bool {
        matches!(self, Self::Damaged(_) | Self::Local(_) | Self::Remote(PollError::Protocol(_)))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Answer {
    Error { error: FetchError },
    Reply(Reply),
}

/// The child: what `fort-agent job fetch` does. Exit code 0 whenever it
/// answered, be it with an error; 2 if it was not asked properly.
pub fn main() -> ExitCode {
    let mut line = String::new();
    let read = std::io::stdin().lock().take(REQUEST_LIMIT).read_line(&mut line);
    let request = match read.map(|_| serde_json::from_str::<Request>(&line)) {
        Ok(Ok(request)) => request,
        Ok(Err(error)) => return refuse(&error),
        Err(error) => return refuse(&error),
    };
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        // What is half-done is swept by the next child.
        std::process::exit(3);
    });
    let answer = match clone::update(&request) {
        Ok(reply) => Answer::Reply(reply),
        Err(error) => Answer::Error { error },
    };
    let written = serde_json::to_writer(std::io::stdout(), &answer)
        .map_err(std::io::Error::from)
        .and_then(|()| writeln!(std::io::stdout()));
    written.map_or_else(|e| refuse(&e), |()| ExitCode::SUCCESS)
}

fn refuse(error: &dyn std::fmt::Display) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "fort-agent job fetch: {error}");
    ExitCode::from(2)
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
    let cannot = |what: &str, error: &dyn std::fmt::Display| FetchError::Crashed {
        status: format!("{what}: {error}"),
        stderr: String::new(),
    };
    let mut line = serde_json::to_vec(request).map_err(|e| cannot("cannot be asked", &e))?;
    line.push(b'\n');
    let mut child = tokio::process::Command::new(exe)
        .args(["job", "fetch"])
        .env_clear()
        .envs(environment::of_fetch())
        .env("LANG", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| cannot("cannot be started", &e))?;
    // Kept open until the end: closing it ends the child.
    let mut stdin = child.stdin.take();
    if let Some(stdin) = &mut stdin {
        // A child that is gone says why on stderr.
        let _ = stdin.write_all(&line).await;
    }
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    let (output, errors, status) = tokio::join!(
        async {
            let mut bytes = Vec::new();
            if let Some(pipe) = stdout {
                let _ = pipe.take(REPLY_LIMIT).read_to_end(&mut bytes).await;
            }
            bytes
        },
        async {
            match stderr {
                Some(pipe) => tail(pipe).await,
                None => String::new(),
            }
        },
        child.wait(),
    );
    drop(stdin);
    match serde_json::from_slice::<Answer>(&output) {
        Ok(Answer::Reply(reply)) => Ok(reply),
        Ok(Answer::Error { error }) => Err(error),
        Err(_) => Err(FetchError::Crashed {
            status: status.map_or_else(|e| e.to_string(), |s| format!("ended with {s}")),
            stderr: errors,
        }),
    }
}

/// Reads to the end and keeps the last of it, as one line.
async fn tail(mut pipe: impl tokio::io::AsyncRead + Unpin) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..read]);
        let surplus = kept.len().saturating_sub(STDERR_TAIL);
        kept.drain(..surplus);
    }
    one_line(&String::from_utf8_lossy(&kept))
}

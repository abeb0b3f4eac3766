//! The loop's front door: what it shows to everyone, and what it is told.
//!
//! The bus, HTTP and metrics all read the same value; none reaches into the
//! loop.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use crate::core::memory::Entry;
use crate::core::request::{Prefix, Request};
use crate::core::status::Status;

/// State that the loop published on its last turn: the status and the history.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Status of the host and of the agent.
    pub status: Status,
    /// How deployments ended, oldest first.
    pub history: Arc<Vec<Entry>>,
}

/// Commands that the loop accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Look at the remotes now.
    Poll,
    /// Change what is remembered.
    Ask(Request),
    /// Say why a commit is, or is not, the one that runs; by default of the
    /// desired one. Changes nothing.
    Explain(Option<Prefix>),
}

/// A command, and where to answer: with what was done, or why not.
#[derive(Debug)]
pub struct Told {
    /// Command to carry out.
    pub command: Command,
    /// Channel for the answer: what was done, or why not.
    pub reply: oneshot::Sender<Result<String, String>>,
}

/// A handle to the running loop.
#[derive(Clone, Debug)]
pub struct Control {
    /// State that the loop published last; `None` before its first turn.
    pub shown: watch::Receiver<Option<Arc<Shown>>>,
    /// Queue of commands to the loop. Bounded: a full queue means that the loop is stuck.
    pub commands: mpsc::Sender<Told>,
}

//! The loop's front door: what it shows to everyone, and what it is told.
//!
//! The bus, HTTP and metrics all read the same value; none reaches into the
//! loop.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use crate::core::memory::Entry;
use crate::core::request::{Prefix, Request};
use crate::core::status::Status;

/// What the loop shows, as of its last turn.
#[derive(Clone, Debug)]
pub struct Shown {
    /// How things stand.
    pub status: Status,
    /// How deployments ended, oldest first.
    pub history: Arc<Vec<Entry>>,
}

/// What the loop can be told.
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
    /// What to do.
    pub command: Command,
    /// Hears what came of it.
    pub reply: oneshot::Sender<Result<String, String>>,
}

/// A handle to the running loop.
#[derive(Clone, Debug)]
pub struct Control {
    /// What it shows; none before its first turn.
    pub shown: watch::Receiver<Option<Arc<Shown>>>,
    /// Tells it something. Bounded: a full one means the loop is stuck.
    pub commands: mpsc::Sender<Told>,
}

//! Publish jobs: their order, how far they are, and what comes of them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{JobId, JobKind, Order};
use crate::open_words::open_words;
use crate::types::StorePath;

/// The order of a publish job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishOrder {
    /// Commit that the system is of, and when this was ordered. The name in it is this job's
    /// alone: it is no deployment, and is in no history.
    #[serde(flatten)]
    pub order: Order,
    /// The system whose closure the cache is to have.
    pub system: StorePath,
    /// The cache, as the policy names it.
    pub cache: Arc<str>,
}

impl PublishOrder {
    /// Returns the id of the job that carries the order out.
    pub fn job(&self) -> JobId {
        self.order.job(JobKind::Publish)
    }
}

/// Progress of a publish job (`progress.json`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PublishProgress {
    /// Phase that the job is in.
    pub phase: PublishPhase,
    /// Number of paths that the cache has confirmed.
    pub sent: u64,
    /// Number of paths to send in all.
    pub to_send: u64,
    /// Paths that are given up for now, with those that refer to them.
    pub given_up: u64,
    /// Number of bytes that are sent, uncompressed.
    pub bytes: u64,
    /// Number of bytes to send in all, uncompressed.
    pub bytes_expected: u64,
    /// Name of the path that is being sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// Error that came last, where the path is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Seconds for which the path is tried again still, if nothing else succeeds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<u64>,
}

/// Outcome of a publish job (`outcome.json`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PublishOutcome {
    /// Paths that were sent and that the cache has confirmed.
    pub sent: u64,
    /// Paths that the cache lacked first, and then had from another host.
    pub elsewhere: u64,
    /// Bytes of the paths that were sent, uncompressed.
    pub bytes: u64,
    /// Paths that the cache lacks still, as far as that is known.
    pub left: u64,
    /// Why paths are left, and what to do; none: the cache has everything.
    pub cause: Option<String>,
    /// Whether the job was stopped, as asked.
    pub cancelled: bool,
    /// Time that the job took, in milliseconds.
    pub took: u64,
    /// The first of the paths that could not be sent. What refers to them was
    /// not sent either, and is not named.
    pub failed: Vec<FailedPath>,
}

/// A path that could not be published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedPath {
    /// Path that could not be sent.
    pub path: StorePath,
    /// Why the path could not be sent, and what to do.
    pub why: String,
}

open_words! {
    /// Phase that a publish job is in.
    #[derive(Default)]
    pub enum PublishPhase {
        /// The job has done nothing yet.
        #[default]
        Begun = "",
        /// Asking the cache what it lacks.
        Asking = "asking",
        /// Sending what the cache lacks.
        Sending = "sending",
        /// Waiting for another host that gives the same.
        Waiting = "waiting",
    }
}

//! What of the last good system the cache still lacks. It stands beside the
//! deployments and changes neither `state` nor `reason`.

use serde::{Deserialize, Serialize};

use super::Viewer;
use crate::job::PublishProgress;
use crate::observed::Work;
use crate::types::{StorePath, Wall};

/// What the cache still lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishView {
    /// Paths still to send: 0 only when the cache has them all, and at least 1,
    /// for the system itself, while it has not said yet what it lacks.
    pub backlog: u64,
    /// What went wrong the last time.
    pub last_error: Option<String>,
    /// The system whose closure the cache is to have.
    pub system: Option<StorePath>,
    /// How far the job at work is.
    pub progress: Option<PublishProgressView>,
    /// When it is tried again, after it failed.
    pub next_attempt: Option<Wall>,
}

/// How far a publish job is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PublishProgressView {
    /// Paths that the cache has confirmed, and to send in all; both 0 until it
    /// has said what it lacks.
    pub sent: u64,
    /// See `sent`.
    pub to_send: u64,
    /// Bytes sent, uncompressed, and to send in all.
    pub bytes: u64,
    /// See `bytes`.
    pub bytes_expected: u64,
    /// What is being sent.
    pub current: Option<String>,
}

impl Viewer<'_> {
    pub(super) fn publish(&self) -> Option<PublishView> {
        let what = self.memory.to_publish(self.policy)?;
        let publishing = &self.memory.publishing;
        let unfinished = publishing.unfinished(&what);
        let error = unfinished.and_then(|unfinished| unfinished.cause.clone());
        let view = |backlog, last_error, progress, next_attempt| PublishView {
            backlog,
            last_error,
            system: Some(what.system.clone()),
            progress,
            next_attempt,
        };
        if publishing.done.as_ref() == Some(&what) {
            return Some(view(0, None, None, None));
        }
        let left = unfinished.map_or(0, |unfinished| unfinished.left);
        let Some(job) = publishing.job.as_ref().filter(|job| job.what == what) else {
            let again = unfinished.map(|unfinished| unfinished.not_before);
            let again = again.filter(|again| {
                error.is_some() && !self.now.wall.reached(*again, self.policy.retry_max)
            });
            return Some(view(left.max(1), error, None, again));
        };
        let progress = self.seen.jobs.iter().find_map(|seen| match &seen.work {
            Work::Publish { progress, .. } if seen.id == job.id => progress.clone(),
            Work::Publish { .. } | Work::Realise { .. } | Work::Switch { .. } => None,
            Work::Unreadable => None,
        });
        let PublishProgress { sent, to_send, bytes, bytes_expected, current, trouble, .. } =
            progress.unwrap_or_default();
        // Until the cache has said what it lacks.
        let left = if to_send > 0 { to_send.saturating_sub(sent) } else { left };
        let progress = PublishProgressView { sent, to_send, bytes, bytes_expected, current };
        Some(view(left.max(1), trouble.or(error), Some(progress), None))
    }
}

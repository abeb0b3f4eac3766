//! View of what the cache still lacks of the last good system. It stands beside the deployments
//! and changes neither `state` nor `reason`.

use serde::{Deserialize, Serialize};

use super::Viewer;
use crate::job::PublishProgress;
use crate::observed::Work;
use crate::types::{StorePath, Wall};

/// State of publishing the last good system to the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishView {
    /// Paths still to send: 0 only when the cache has them all, and at least 1,
    /// for the system itself, while it has not said yet what it lacks.
    pub backlog: u64,
    /// Error of the last try.
    pub last_error: Option<String>,
    /// The system whose closure the cache is to have.
    pub system: Option<StorePath>,
    /// Progress of the job that is at work.
    pub progress: Option<PublishProgressView>,
    /// Time of the next try, after a failure.
    pub next_attempt: Option<Wall>,
}

/// Progress of a publish job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PublishProgressView {
    /// Number of paths that the cache has confirmed; 0 until it has said what it lacks.
    pub sent: u64,
    /// Number of paths to send in all; 0 until the cache has said what it lacks.
    pub to_send: u64,
    /// Number of bytes that are sent, uncompressed.
    pub bytes: u64,
    /// Number of bytes to send in all, uncompressed.
    pub bytes_expected: u64,
    /// Name of the path that is being sent.
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

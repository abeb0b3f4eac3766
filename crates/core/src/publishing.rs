//! Memory of giving the cache what it lacks, and how that memory changes.
//!
//! Publishing goes beside the deployments: it adds nothing to their history, blames no commit and
//! no system, and nothing of a deployment looks at it.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::backoff;
use super::job::{JobId, PublishOrder, PublishOutcome, PublishProgress};
use super::memory::Memory;
use super::observed::{Life, Seen, Work};
use super::policy::Policy;
use super::types::{Now, StorePath, Wall};

/// Memory of publishing to the cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Publishing {
    /// System that was last published in full, with its cache.
    pub done: Option<Publication>,
    /// The job that publishes, until its end was taken in.
    pub job: Option<PublishJob>,
    /// Result of the last publication that did not come to its end.
    pub unfinished: Option<Unfinished>,
}

/// A system that a cache has, or is to have, in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// System that the cache has or is to have.
    pub system: StorePath,
    /// The cache: one that is configured later has none of it.
    pub cache: Arc<str>,
}

/// Publish job, with what it publishes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishJob {
    /// Name of the job.
    pub id: JobId,
    /// System that the job publishes, with the cache.
    #[serde(flatten)]
    pub what: Publication,
}

/// A publication that did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    /// System that was to be published, with the cache.
    #[serde(flatten)]
    pub what: Publication,
    /// Paths that the cache lacks still; 0 while that is not known.
    pub left: u64,
    /// Number of failures in a row.
    pub failures: u32,
    /// Time at which the publication broke off.
    pub at: Wall,
    /// Earliest time at which it is tried again.
    pub not_before: Wall,
    /// Why the publication failed the last time; none: it was only stopped.
    pub cause: Option<String>,
}

/// End of a publish job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended<'a> {
    /// Job that has ended.
    pub job: &'a PublishJob,
    /// Outcome that the job left; none: it was killed, or never began.
    pub outcome: Option<&'a PublishOutcome>,
    /// Rest of the publication, if that was not the end of it.
    pub unfinished: Option<&'a Unfinished>,
}

impl Memory {
    /// Returns what the cache is to have. A system that was only found running is not given to
    /// others: whether it works was never found out.
    pub fn to_publish(&self, policy: &Policy) -> Option<Publication> {
        let cache = policy.publish.clone()?;
        let good = self.last_good.as_ref().filter(|good| good.verified)?;
        Some(Publication { system: good.system.clone(), cache })
    }
}

impl Publishing {
    /// Returns the rest of this publication, if it was begun.
    pub fn unfinished(&self, what: &Publication) -> Option<&Unfinished> {
        self.unfinished.as_ref().filter(|unfinished| unfinished.what == *what)
    }

    /// Returns how the job that was under way `before` ended, if it has since.
    pub fn ended<'a>(&'a self, before: &'a Self, seen: &'a Seen) -> Option<Ended<'a>> {
        let job = before.job.as_ref().filter(|job| self.job.as_ref() != Some(job))?;
        let outcome = seen.jobs.iter().find_map(|seen| match &seen.work {
            Work::Publish { outcome, .. } if seen.id == job.id => outcome.as_ref(),
            Work::Publish { .. } | Work::Realise { .. } | Work::Switch { .. } => None,
            Work::Unreadable => None,
        });
        Some(Ended { job, outcome, unfinished: self.unfinished(&job.what) })
    }

    /// Notes that a job is about to be started.
    pub(super) fn begin(&mut self, order: &PublishOrder) {
        let id = order.job();
        let (system, cache) = (order.system.clone(), order.cache.clone());
        self.job = Some(PublishJob { id, what: Publication { system, cache } });
    }
}

/// Takes in how the job that is under way ended: once, for it is then no longer
/// under way.
pub(super) fn fold(policy: &Policy, memory: &mut Memory, seen: &Seen, now: Now) {
    let Some(job) = memory.publishing.job.clone() else { return };
    let end = match seen.jobs.iter().find(|seen| seen.id == job.id) {
        None => End::Failed { left: 0, cause: "the publish job could not be started".into() },
        Some(found) => match &found.work {
            Work::Publish { outcome: Some(outcome), .. } => End::of(outcome),
            // It was killed for not stopping when it was told to.
            Work::Publish { progress, .. } if found.life == Life::Ended && found.stopping => {
                End::Stopped { left: left(progress.as_ref()) }
            }
            Work::Publish { order, progress, .. } if found.life == Life::Ended => End::Failed {
                left: left(progress.as_ref()),
                cause: found.cut_short(&order.order.boot_id, &seen.boot_id),
            },
            Work::Publish { .. } => return,
            Work::Unreadable if found.life != Life::Ended => return,
            // Realise and switch jobs have other names.
            Work::Unreadable | Work::Realise { .. } | Work::Switch { .. } => {
                End::Failed { left: 0, cause: "the publish job's order cannot be read".into() }
            }
        },
    };
    let what = job.what;
    let before = memory.publishing.unfinished(&what);
    let failures = before.map_or(0, |before| before.failures);
    // One that did not come to asking knows no better.
    let known = |left| if left == 0 { before.map_or(0, |before| before.left) } else { left };
    let unfinished = match end {
        End::Done => {
            memory.publishing.done = Some(what);
            None
        }
        // Not at once: whoever stopped it may do so again.
        End::Stopped { left } => Some(Unfinished {
            left: known(left),
            failures,
            at: now.wall,
            not_before: now.wall.plus(policy.retry_first.min(STOPPED)),
            cause: before.and_then(|before| before.cause.clone()),
            what,
        }),
        End::Failed { left, cause } => {
            let failures = failures.saturating_add(1);
            let pause = backoff::pause(policy.retry_first, policy.retry_max, failures, seen.luck);
            Some(Unfinished {
                left: known(left),
                failures,
                at: now.wall,
                not_before: now.wall.plus(pause),
                cause: Some(cause),
                what,
            })
        }
    };
    memory.publishing.unfinished = unfinished;
    memory.publishing.job = None;
}

/// Pause after a job that was stopped.
const STOPPED: Duration = Duration::from_secs(5);

enum End {
    Done,
    Stopped { left: u64 },
    Failed { left: u64, cause: String },
}

impl End {
    fn of(outcome: &PublishOutcome) -> Self {
        let left = outcome.left;
        match &outcome.cause {
            _ if outcome.cancelled => Self::Stopped { left },
            None if left == 0 => Self::Done,
            None => Self::Failed { left, cause: "no cause was given".into() },
            Some(cause) => Self::Failed { left, cause: cause.clone() },
        }
    }
}

fn left(progress: Option<&PublishProgress>) -> u64 {
    progress.map_or(0, |progress| progress.to_send.saturating_sub(progress.sent))
}

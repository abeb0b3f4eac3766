//! The cache is given what it lacks of the last good system, while nothing of
//! a deployment is under way. A deployment never waits for that: whatever state
//! a publish job is in, it is told to stop, and passed by.

use std::time::Duration;

use super::{Decider, Outlook, Step, Wake};
use crate::job::{DeploymentId, JobKind, PublishOrder, Target};
use crate::observed::{Job, Life, Work};
use crate::publishing::Publication;

/// A job that has worked for longer hangs, or is begun again where it was: what
/// the cache has confirmed is not sent twice.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

impl Decider<'_> {
    /// Ends a publish job that nobody wants now: at once, and only once.
    pub(super) fn stop_publishing(&self, outlook: &Outlook, wake: &mut Wake) -> Option<Step> {
        let wanted = self.memory.to_publish(self.policy).filter(|_| !outlook.is_under_way());
        let ours = self.memory.publishing.job.as_ref();
        let ours = ours.filter(|job| Some(&job.what) == wanted.as_ref()).map(|job| &job.id);
        let running = self.seen.jobs.iter().filter(|job| {
            job.id.kind == JobKind::Publish && job.life == Life::Running && !job.stopping
        });
        let mut unwanted = running.filter(|job| match &job.work {
            Work::Publish { outcome: Some(_), .. } => false,
            Work::Publish { order, .. } if Some(&job.id) == ours => {
                let over = order.order.ordered.plus(LONGEST);
                let hangs = over <= self.now.mono || order.order.boot_id != self.seen.boot_id;
                if !hangs {
                    wake.at(over);
                }
                hangs
            }
            Work::Publish { .. } | Work::Unreadable => true,
            // These are no publish jobs.
            Work::Realise { .. } | Work::Switch { .. } => false,
        });
        unwanted.next().map(|job| Step::StopJob(job.id.clone()))
    }

    /// Starts a publish job, if there is something to publish and nothing else
    /// to do.
    pub(super) fn publish(&self, outlook: &Outlook, wake: &mut Wake) -> Option<Step> {
        let what = self.memory.to_publish(self.policy)?;
        let publishing = &self.memory.publishing;
        let busy = outlook.is_under_way() || self.seen.jobs.iter().any(Job::is_of_deployment);
        let one_there = self.seen.jobs.iter().any(|job| !job.is_of_deployment());
        let done = publishing.done.as_ref() == Some(&what) || !self.seen.has(&what.system);
        if busy || one_there || done {
            return None;
        }
        let unfinished = publishing.unfinished(&what);
        if let Some(unfinished) = unfinished
            && !self.now.wall.reached(unfinished.not_before, self.policy.retry_max)
        {
            wake.at(self.now.mono.plus(self.now.wall.until(unfinished.not_before)));
            return None;
        }
        let target = self.memory.target.as_ref()?;
        let commit = self.memory.commit_of(&what.system).unwrap_or(target.commit);
        let target = Target { commit, ..target.clone() };
        let attempt = unfinished.map_or(0, |unfinished| unfinished.failures).saturating_add(1);
        // A name as deployments have, but none of theirs.
        let id = DeploymentId::new(self.now.wall, commit, attempt);
        let order = self.order(id, &target, attempt, self.now.wall);
        let Publication { system, cache } = what;
        Some(Step::StartPublish(PublishOrder { order, system, cache }))
    }
}

impl Outlook {
    /// Whether a deployment is at work, or about to be: it has the host to
    /// itself.
    fn is_under_way(&self) -> bool {
        match self {
            Self::Switching { .. }
            // What this machine is, or runs, is not known.
            | Self::Blind { .. }
            | Self::WrongMachine { .. }
            | Self::Realising(_)
            | Self::Clearing
            | Self::Experiment(_)
            | Self::Preflight(_)
            | Self::Due(_) => true,
            Self::NothingKnown
            | Self::BackingOff(_)
            | Self::Stuck(_)
            | Self::InSync
            | Self::Drift
            | Self::AwaitsBoot { .. }
            | Self::AwaitsRemote
            | Self::Gated(_)
            | Self::Refused { .. } => false,
        }
    }
}

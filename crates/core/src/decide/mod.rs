//! The next step, and why.
//!
//! A pure function of policy, memory, one look at the world and the time. It
//! is called again and again, compares what is with what should be, and never
//! trusts that an earlier step was carried out.

mod before;
mod boot;
mod gates;
mod jobs;
mod outlook;
mod publish;
mod roots;
mod step;

use std::time::Duration;

pub use self::outlook::Outlook;
pub use self::step::{Due, Step};
use crate::backoff;
use crate::job::{DeploymentId, How, Order, SwitchOrder, Target};
use crate::memory::{Memory, Subject};
use crate::observed::{Life, Remote, Seen};
use crate::policy::{OnRollbackFailure, Policy};
use crate::select::{Selection, Standing, select};
use crate::types::{Commit, Mono, Now, StorePath, Wall};

/// The next step, and how things stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Next step to carry out.
    pub step: Step,
    /// State of the target, and what comes next for it.
    pub outlook: Outlook,
    /// Target and standings that follow from the remotes' answers.
    pub selection: Selection,
    /// Time at which a remote is asked next; `None` while the polls that are wanted are
    /// under way.
    pub next_poll: Option<Mono>,
}

/// A remote that does not answer is asked at least this often.
const POLL_MAX: Duration = Duration::from_secs(300);
/// The pause before a host that could not be looked at is looked at again.
pub const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Polls in a row that failed, after which a remote counts as unreachable.
pub const UNREACHABLE: u32 = 3;

/// The next step. `memory` has been folded.
pub fn decide(policy: &Policy, memory: &Memory, seen: &Seen, now: Now) -> Decision {
    let d = Decider { policy, memory, seen, now };
    let selection = select(policy, memory, seen, now);
    let outlook = d.outlook();
    let (poll, next_poll) = d.poll(&selection);
    let mut wake = Wake(next_poll);
    if seen.blind().is_some() {
        let step = poll.or_else(|| d.compare(&selection)).unwrap_or_else(|| {
            wake.at(now.mono.plus(LOOK_AGAIN));
            Step::Wait { until: wake.0 }
        });
        return Decision { step, outlook, selection, next_poll };
    }
    let step = d
        .stop_publishing(&outlook, &mut wake)
        // Before what can fail: whatever does so again and again must not keep the
        // remotes from being asked.
        .or(poll)
        .or_else(|| d.tend_jobs(&mut wake))
        .or_else(|| d.disarm())
        .or_else(|| d.compare(&selection))
        .or_else(|| d.follow(&selection))
        .or_else(|| d.keep_roots())
        .or_else(|| d.preflight(&outlook, &mut wake))
        .or_else(|| d.look(&outlook, &mut wake))
        .or_else(|| d.due_step(&outlook))
        .or_else(|| d.reboot(&outlook, &mut wake))
        .or_else(|| d.publish(&outlook, &mut wake))
        .unwrap_or_else(|| {
            if let Outlook::BackingOff(trouble) = &outlook {
                wake.at(now.mono.plus(now.wall.until(trouble.not_before)));
            }
            if let Outlook::Gated(gate) = &outlook
                && let Some(opens) = gate.opens()
            {
                wake.at(now.mono.plus(now.wall.until(opens)));
            }
            Step::Wait { until: wake.0 }
        });
    Decision { step, outlook, selection, next_poll }
}

/// The earliest moment at which something is due.
struct Wake(Option<Mono>);

impl Wake {
    fn at(&mut self, moment: Mono) {
        self.0 = Some(self.0.map_or(moment, |earlier| earlier.min(moment)));
    }
}

struct Decider<'a> {
    policy: &'a Policy,
    memory: &'a Memory,
    seen: &'a Seen,
    now: Now,
}

impl Decider<'_> {
    /// Returns the poll that is due now, and the time at which a remote is asked next.
    fn poll(&self, selection: &Selection) -> (Option<Step>, Option<Mono>) {
        let mut next: Option<Mono> = None;
        for (index, remote) in self.seen.remotes.iter().enumerate() {
            if !remote.busy {
                match self.poll_due(remote) {
                    Some(due) if due > self.now.mono => {
                        next = Some(next.map_or(due, |earlier| earlier.min(due)));
                    }
                    Some(_) | None => {
                        let accepted = self.memory.accepted.as_ref().map(|a| a.commit);
                        return (Some(Step::Poll { remote: index, accepted }), Some(self.now.mono));
                    }
                }
            }
            if !selection.standings.get(index).is_some_and(|s| s.needs_another()) {
                break;
            }
        }
        (None, next)
    }

    fn poll_due(&self, remote: &Remote) -> Option<Mono> {
        let asked = remote.asked.filter(|_| !remote.wanted)?;
        let interval = self.policy.poll_interval;
        let pause = match remote.failures {
            0 => interval,
            failures => backoff::pause(interval, interval.max(POLL_MAX), failures, remote.luck),
        };
        Some(asked.plus(pause).plus(remote.luck.part_of(self.policy.poll_jitter)))
    }

    fn compare(&self, selection: &Selection) -> Option<Step> {
        let (older, newer) = selection.compare.filter(|_| !self.seen.comparing)?;
        Some(Step::Compare { older, newer })
    }

    fn follow(&self, selection: &Selection) -> Option<Step> {
        let target = selection.target.as_ref()?;
        let known = self.memory.target.as_ref().is_some_and(|old| {
            old.same_as(target) && old.remote == target.remote && old.branch == target.branch
        });
        let accepted = self.memory.accepted.as_ref();
        let moved = selection.release.as_ref().is_some_and(|(commit, remote)| {
            accepted.is_none_or(|accepted| accepted.commit != *commit || accepted.remote != *remote)
        });
        (!known || moved)
            .then(|| Step::Follow { target: target.clone(), release: selection.release.clone() })
    }

    fn due_step(&self, outlook: &Outlook) -> Option<Step> {
        let Outlook::Due(due) = outlook else { return None };
        if let Due::Switch(order) = due {
            // What is to run, and what is to be put back, must not be collected
            // before it is needed.
            let kept = self.is_kept(&order.candidate)
                && order.old.as_ref().is_none_or(|old| self.is_kept(old));
            if self.seen.disarming || (!kept && self.seen.rooting) {
                return None;
            }
        }
        Some(due.clone().into())
    }

    pub(super) fn last_good(&self) -> Option<StorePath> {
        self.memory.last_good.as_ref().map(|good| good.system.clone())
    }

    pub(super) fn order(
        &self,
        id: DeploymentId,
        target: &Target,
        attempt: u32,
        started: Wall,
    ) -> Order {
        Order {
            deployment: id,
            target: target.clone(),
            attempt,
            started,
            recipe: self.policy.recipe.clone(),
            boot_id: self.seen.boot_id.clone(),
            ordered: self.now.mono,
        }
    }

    pub(super) fn switch(
        &self,
        order: Order,
        candidate: &StorePath,
        how: How,
        old: Option<StorePath>,
    ) -> SwitchOrder {
        let subject = Subject::System { system: candidate.clone() };
        let suspect = self.memory.trouble_with(&subject).is_some_and(|it| it.found_bad);
        let runs = self.seen.specialisation.as_deref();
        let specialisation = self.policy.specialisation.wanted(runs);
        let old_specialisation = match old == self.seen.running {
            true => runs.map(str::to_owned),
            false => specialisation.clone(),
        };
        SwitchOrder {
            order,
            candidate: candidate.clone(),
            old,
            suspect,
            specialisation,
            old_specialisation,
            how,
            running: self.seen.running.clone(),
            profile: self.seen.profile.clone(),
            activation_timeout: self.policy.activation_timeout,
            health_timeout: self.policy.health_timeout,
            remote_before: self.remote_answers(),
            units: self.policy.units,
            reboot_if_stuck: self.policy.on_rollback_failure == OnRollbackFailure::Reboot,
            default_instead: self.default_instead(candidate),
            once: false,
        }
    }

    /// Returns the last good system where it is to replace a default that nobody found good.
    fn default_instead(&self, system: &StorePath) -> Option<StorePath> {
        let boots = self.seen.profile.as_ref().is_some_and(|named| named.system == *system);
        self.last_good().filter(|good| boots && good != system && !self.memory.has_verified(system))
    }

    /// An id that no deployment has had: two attempts may begin in one second.
    pub(super) fn fresh_id(&self, commit: Commit, attempt: u32) -> DeploymentId {
        let taken = |id: &DeploymentId| {
            let mut jobs = self.seen.jobs.iter().filter(|job| job.is_of_deployment());
            self.memory.has_ended(id) || jobs.any(|job| job.id.deployment == *id)
        };
        (0..)
            .map(|second| self.now.wall.plus(Duration::from_secs(second)))
            .map(|moment| DeploymentId::new(moment, commit, attempt))
            .find(|id| !taken(id))
            .expect("there are more seconds than deployments remembered")
    }

    pub(super) fn other_job_lives(&self) -> bool {
        self.seen.jobs.iter().any(|job| job.is_of_deployment() && job.life != Life::Ended)
    }

    pub(super) fn remote_answers(&self) -> bool {
        self.seen.remotes.iter().any(Remote::answers)
    }

    pub(super) fn unreachable(&self) -> bool {
        unreachable(self.seen)
    }
}

/// Whether no remote answered three polls running. One that was not asked yet
/// may: it is asked when those before it are silent.
pub fn unreachable(seen: &Seen) -> bool {
    !seen.remotes.is_empty() && seen.remotes.iter().all(|it| it.failures >= UNREACHABLE)
}

/// The refusals among the standings: which remote, and what it is worth. What
/// a remote after a usable one said is old, for it is not asked any more.
pub fn refusals(selection: &Selection) -> impl Iterator<Item = (usize, Standing)> + '_ {
    let asked = selection.standings.iter().copied().enumerate();
    asked.take_while(|(_, standing)| standing.needs_another()).filter(
        |(_, standing)| match standing {
            Standing::ForcePush(_) | Standing::Rewind(_) | Standing::TooLarge(_) => true,
            Standing::Unknown
            | Standing::Silent
            | Standing::BranchMissing
            | Standing::Usable(_)
            | Standing::Behind(_)
            | Standing::Unclear(_) => false,
        },
    )
}

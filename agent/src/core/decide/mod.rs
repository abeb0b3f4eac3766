//! The next step, and why.
//!
//! A pure function of policy, memory, one look at the world and the time. It
//! is called again and again, compares what is with what should be, and never
//! trusts that an earlier step was carried out.

mod before;
mod boot;
mod gates;
mod publish;
mod roots;
mod tend;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use self::before::FRESH;
use crate::core::backoff;
use crate::core::gates::Gate;
use crate::core::guardian::Phase;
use crate::core::job::{
    DeploymentId, How, JobId, Kind, Order, PublishOrder, Refusal, SwitchOrder, Target, Verdict,
};
use crate::core::memory::{Deployment, Experiment, Memory, Stuck, Subject, Trouble};
use crate::core::policy::{Drift, OnFailure, OnRollbackFailure, Operation, Policy};
use crate::core::publishing::Publication;
use crate::core::seen::{Job, Life, Purpose, Remote, Seen, Work};
use crate::core::select::{Selection, Standing, select};
use crate::core::types::{Commit, Mono, Now, StorePath, Wall};

/// What to do next. Nothing here takes long: it starts, stops or writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, until something happens or this moment comes.
    Wait {
        /// None: only when something happens.
        until: Option<Mono>,
    },
    /// Ask a remote for its heads, and fetch them if they moved.
    Poll {
        /// Its place in the order.
        remote: usize,
        /// The release head that new ones will be compared with.
        accepted: Option<Commit>,
    },
    /// Look up how two commits are related.
    Compare {
        /// The one that was known before.
        older: Commit,
        /// The one that is judged.
        newer: Commit,
    },
    /// From now on this is what is to run. Nothing but the memory changes.
    Follow {
        /// What is to run.
        target: Target,
        /// The release head that is accepted, and who gave it.
        release: Option<(Commit, Arc<str>)>,
    },
    /// Keep these systems, and no others, from the garbage collector.
    KeepRoots(BTreeMap<Purpose, StorePath>),
    /// Get the system of a commit.
    StartRealise(Order),
    /// End a job that nobody waits for.
    StopJob(JobId),
    /// Remove the directory of a job whose outcome is in the saved memory.
    RemoveJob(JobId),
    /// Activate a system, or go on to the default with one that runs.
    StartSwitch(SwitchOrder),
    /// Give the cache what it lacks of a system.
    StartPublish(PublishOrder),
    /// Start a switch job again that was killed.
    ResumeSwitch(JobId),
    /// Check an activated system.
    RunChecks(JobId),
    /// Look whether a system may be activated, touching nothing.
    Preflight {
        /// The system.
        system: StorePath,
        /// What boots next, to know what /boot has already.
        default: Option<StorePath>,
        /// Whether it must have an agent.
        needs_agent: bool,
        /// Whether it becomes the boot default, which takes room on /boot.
        writes_boot: bool,
    },
    /// Look whether a remote answers, on a new connection.
    Look,
    /// Tell the boot loader not to boot this system once: something else came.
    Disarm {
        /// The system.
        system: StorePath,
    },
    /// Look whether anybody is against a reboot.
    LookAgainstReboot,
    /// Reboot the host, unless somebody is against it after all.
    Reboot {
        /// The system that is to be booted.
        system: StorePath,
    },
    /// Tell a switch job what the checks found.
    WriteVerdict {
        /// The job.
        job: JobId,
        /// What they found.
        verdict: Verdict,
    },
    /// The target is in force already. Nothing but the memory changes.
    Settle {
        /// What was to run.
        target: Target,
        /// The system that does.
        system: StorePath,
        /// The deployment's name.
        id: DeploymentId,
    },
    /// A commit waits to be confirmed from now on. Nothing but the memory
    /// changes.
    AskToConfirm {
        /// The commit.
        commit: Commit,
    },
    /// End the deployment: its system may not be activated. Nothing but the
    /// memory changes.
    GiveUp {
        /// Why.
        cause: String,
    },
}

impl Step {
    /// The job that it starts for the first time.
    pub fn starts(&self) -> Option<JobId> {
        match self {
            Self::StartRealise(order) => {
                Some(JobId { kind: Kind::Realise, deployment: order.deployment.clone() })
            }
            Self::StartSwitch(switch) => {
                Some(JobId { kind: Kind::Switch, deployment: switch.order.deployment.clone() })
            }
            Self::StartPublish(publish) => {
                Some(JobId { kind: Kind::Publish, deployment: publish.order.deployment.clone() })
            }
            Self::Wait { .. }
            | Self::Poll { .. }
            | Self::Compare { .. }
            | Self::Follow { .. }
            | Self::KeepRoots(_)
            | Self::StopJob(_)
            | Self::RemoveJob(_)
            | Self::ResumeSwitch(_)
            | Self::RunChecks(_)
            | Self::Preflight { .. }
            | Self::Look
            | Self::Disarm { .. }
            | Self::LookAgainstReboot
            | Self::Reboot { .. }
            | Self::WriteVerdict { .. }
            | Self::Settle { .. }
            | Self::AskToConfirm { .. }
            | Self::GiveUp { .. } => None,
        }
    }
}

/// The next step, and how things stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What to do.
    pub step: Step,
    /// How the target stands.
    pub outlook: Outlook,
    /// What follows from the remotes' answers.
    pub selection: Selection,
    /// When a remote is asked next.
    pub next_poll: Option<Mono>,
}

/// How the target stands, and what comes next for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// No remote has answered yet and nothing is remembered.
    NothingKnown,
    /// A switch job works, or is to be started again.
    Switching {
        /// What it switches to.
        order: Box<SwitchOrder>,
        /// How far it is.
        phase: Phase,
    },
    /// This is another machine than the configuration is for.
    WrongMachine {
        /// Which one this is.
        found: Option<String>,
    },
    /// The system is being got.
    Realising(JobId),
    /// A job of an earlier target is coming to its end.
    Clearing,
    /// Something failed and is tried again later.
    BackingOff(Trouble),
    /// Something failed and is not tried again by itself.
    Stuck(Trouble),
    /// The target runs.
    InSync,
    /// The target ran, and another hand has put something else there, or has
    /// made something else the boot default.
    Drift,
    /// The system is the default and awaits the next boot.
    AwaitsBoot {
        /// Why it was not activated.
        why: String,
    },
    /// The system is ready, and something that a person has a say in is in the
    /// way.
    Gated(Gate),
    /// Activation waits for a remote: without one it could not be verified.
    AwaitsRemote,
    /// A system lost the remotes and was put back: whether they answer again
    /// tells whose fault that was.
    Experiment(Experiment),
    /// Whether the system may be activated is being found out.
    Preflight(StorePath),
    /// It may not, and nothing was touched.
    Refused {
        /// Why not.
        refusal: Refusal,
        /// When that is found out again.
        again: Mono,
    },
    /// Due now.
    Due(Box<Step>),
}

impl Outlook {
    /// Whether the host has to be rebooted for what is in force.
    pub fn needs_reboot(&self, seen: &Seen) -> bool {
        matches!(self, Self::AwaitsBoot { .. })
            || matches!(self, Self::InSync) && seen.reboot_why.is_some()
    }
}

/// A remote that does not answer is asked at least this often.
const POLL_MAX: Duration = Duration::from_secs(300);
/// Polls in a row that failed, after which a remote counts as unreachable.
pub const UNREACHABLE: u32 = 3;

/// The next step. `memory` has been folded.
pub fn decide(policy: &Policy, memory: &Memory, seen: &Seen, now: Now) -> Decision {
    let d = Decider { policy, memory, seen, now };
    let selection = select(policy, memory, seen, now);
    let outlook = d.outlook();
    let (poll, next_poll) = d.poll(&selection);
    let mut wake = Wake(next_poll);
    let step = d
        .stop_publishing(&outlook, &mut wake)
        .or_else(|| d.tend_jobs(&mut wake))
        .or_else(|| d.disarm())
        .or(poll)
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
    /// Whom to ask now, and when somebody is asked next.
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
        let Outlook::Due(step) = outlook else { return None };
        let too_early = match &**step {
            // What is to run, and what is to be put back, must not be collected
            // before it is needed.
            Step::StartSwitch(order) => {
                if self.seen.disarming {
                    return None;
                }
                !self.is_kept(&order.candidate)
                    || order.old.as_ref().is_some_and(|old| !self.is_kept(old))
            }
            Step::Wait { .. }
            | Step::Poll { .. }
            | Step::Compare { .. }
            | Step::Follow { .. }
            | Step::KeepRoots(_)
            | Step::StartRealise(_)
            | Step::StartPublish(_)
            | Step::StopJob(_)
            | Step::RemoveJob(_)
            | Step::ResumeSwitch(_)
            | Step::RunChecks(_)
            | Step::Preflight { .. }
            | Step::Look
            | Step::Disarm { .. }
            | Step::LookAgainstReboot
            | Step::Reboot { .. }
            | Step::WriteVerdict { .. }
            | Step::Settle { .. }
            | Step::AskToConfirm { .. }
            | Step::GiveUp { .. } => false,
        };
        (!(too_early && self.seen.rooting)).then(|| (**step).clone())
    }

    fn outlook(&self) -> Outlook {
        if let Some(switching) = self.switching() {
            return switching;
        }
        let wanted = self.policy.machine_id.as_ref();
        if wanted.is_some() && self.seen.machine_id.as_ref() != wanted {
            return Outlook::WrongMachine { found: self.seen.machine_id.clone() };
        }
        if let Some(back) = self.going_back() {
            return back;
        }
        if let Some(experiment) = &self.memory.experiment {
            return Outlook::Experiment(experiment.clone());
        }
        let Some(target) = &self.memory.target else { return Outlook::NothingKnown };
        if let Some(restore) = self.fallen_back(target) {
            return restore;
        }
        if let Some(unproven) = self.unproven() {
            return unproven;
        }
        if let Some(awaiting) = self.awaiting(target) {
            return awaiting;
        }
        if let Some(settled) =
            self.memory.settled.as_ref().filter(|_| self.memory.has_settled(target))
        {
            let default = self.seen.profile.as_ref().map(|generation| &generation.system);
            let boots = !target.operation.sets_default() || default == Some(&settled.system);
            let runs = self.seen.running.as_ref() == Some(&settled.system);
            match (runs && boots, settled.left) {
                (true, false) => return Outlook::InSync,
                (false, _) if self.policy.drift == Drift::Report => return Outlook::Drift,
                // Brought about again.
                (false, _) => {}
                // Taken over by another hand, and here it is again: whether it
                // works was never found out.
                (true, true) => {}
            }
        }
        let known = self
            .memory
            .system_of(target.commit, &self.policy.recipe)
            .filter(|system| self.seen.has(system));
        match known {
            Some(system) => self.activation(target, system),
            None => self.realisation(target),
        }
    }

    fn switching(&self) -> Option<Outlook> {
        self.seen.jobs.iter().find_map(|job| match &job.work {
            Work::Switch { order, progress, outcome: None, .. } => {
                let phase = progress.as_ref().map_or(Phase::Ready, |p| p.phase.clone());
                Some(Outlook::Switching { order: Box::new(order.clone()), phase })
            }
            // Two switches never run at once, not even for their last moment.
            Work::Switch { outcome: Some(_), .. } => Some(Outlook::Clearing),
            Work::Realise { .. } | Work::Publish { .. } | Work::Unreadable => None,
        })
    }

    /// What the target's system still lacks.
    fn activation(&self, target: &Target, system: &StorePath) -> Outlook {
        // Whatever else it is wanted for: it is judged once, after its boot.
        // Judged bad before that, it would stay the default.
        let awaiting =
            self.memory.awaiting.as_ref().filter(|awaiting| {
                awaiting.system == *system && awaiting.boot_id == self.seen.boot_id
            });
        if let Some(awaiting) = awaiting {
            return Outlook::AwaitsBoot { why: awaiting.why.clone() };
        }
        let running = self.seen.running.as_ref() == Some(system);
        let default = self.seen.profile.as_ref().map(|g| &g.system) == Some(system);
        let verified = self.memory.has_verified(system);
        let deployment = self.deployment_for(target, system);
        let lacks_nothing = running && verified && (default || !target.operation.sets_default());
        let subject = Subject::System { system: system.clone() };
        let trouble = self.memory.trouble_with(&subject);
        let attempt = trouble.map_or(0, |trouble| trouble.failures).saturating_add(1);
        let id = deployment
            .map_or_else(|| self.fresh_id(target.commit, attempt), |known| known.id.clone());
        if lacks_nothing {
            let (target, system) = (target.clone(), system.clone());
            return self.due(Step::Settle { target, system, id });
        }
        if let Some(stopped) = trouble.and_then(|trouble| self.stopped_by(trouble)) {
            return match (&stopped, deployment) {
                (Outlook::Stuck(trouble), Some(_)) => {
                    let cause = format!("quarantined: {}", trouble.cause);
                    self.due(Step::GiveUp { cause })
                }
                _ => stopped,
            };
        }
        if self.other_job_lives() {
            return Outlook::Clearing;
        }
        // What this agent has neither put there nor verified may be half-done.
        let whole = verified || self.memory.put.as_ref() == Some(system);
        let deferral = self.deferral(system);
        let how = match target.operation {
            _ if running && whole => How::Verify,
            Operation::Switch if deferral.is_some() => How::Boot,
            Operation::Switch | Operation::Test => How::Activate,
            Operation::Boot => How::Boot,
        };
        if let Some(gate) =
            self.memory.gates.closed(self.policy, self.seen, target.commit, self.now)
        {
            return self.gated(gate, target, system, how);
        }
        let verifies = how != How::Boot && self.policy.health_remote;
        if verifies && !self.remote_answers() {
            return Outlook::AwaitsRemote;
        }
        if how != How::Verify {
            if let Some(preflight) = self.before_activation(target, system, FRESH) {
                return preflight;
            }
            if verifies && let Some(look) = self.before_losing_remotes(system) {
                return look;
            }
        }
        let started = deployment.map_or(self.now.wall, |deployment| deployment.started);
        let order = self.order(id, target, attempt, started);
        let old = match how {
            // What runs is judged: if it fails, the last good one comes back.
            How::Verify => self.last_good(),
            // Nor is one kept that runs because it was to be booted once, when
            // something else was wanted already: nobody found it good.
            How::Activate if running || self.runs_unasked() => self.last_good(),
            How::Activate | How::Boot | How::Restore => self.seen.running.clone(),
        };
        let mut step = self.switch(order, system, how, old);
        if let (Step::StartSwitch(switch), How::Boot) = (&mut step, how) {
            switch.deferral = deferral.or_else(|| Some("operation = \"boot\"".into()));
        }
        self.due(step)
    }

    fn realisation(&self, target: &Target) -> Outlook {
        if let Some(job) = self.memory.deployment.as_ref().and_then(|d| d.job.clone()) {
            return Outlook::Realising(job);
        }
        let recipe = self.policy.recipe.clone();
        let subject = Subject::Commit { commit: target.commit, recipe };
        let trouble = self.memory.trouble_with(&subject);
        if let Some(stopped) = trouble.and_then(|trouble| self.stopped_by(trouble)) {
            return stopped;
        }
        if self.other_job_lives() {
            return Outlook::Clearing;
        }
        let attempt = trouble.map_or(0, |trouble| trouble.failures).saturating_add(1);
        let id = self.fresh_id(target.commit, attempt);
        self.due(Step::StartRealise(self.order(id, target, attempt, self.now.wall)))
    }

    pub(super) fn last_good(&self) -> Option<StorePath> {
        self.memory.last_good.as_ref().map(|good| good.system.clone())
    }

    pub(super) fn due(&self, step: Step) -> Outlook {
        Outlook::Due(Box::new(step))
    }

    pub(super) fn stopped_by(&self, trouble: &Trouble) -> Option<Outlook> {
        if let Some(Stuck::Quarantined | Stuck::NoSuchHost { .. }) = trouble.stuck {
            return Some(Outlook::Stuck(trouble.clone()));
        }
        let over = self.now.wall.reached(trouble.not_before, self.policy.retry_max);
        (!over).then(|| Outlook::BackingOff(trouble.clone()))
    }

    /// The deployment that got this system for this target.
    fn deployment_for(&self, target: &Target, system: &StorePath) -> Option<&Deployment> {
        self.memory.deployment.as_ref().filter(|deployment| {
            deployment.target.same_as(target) && deployment.system.as_ref() == Some(system)
        })
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
    ) -> Step {
        Step::StartSwitch(SwitchOrder {
            order,
            candidate: candidate.clone(),
            old,
            how,
            running: self.seen.running.clone(),
            profile: self.seen.profile.clone(),
            activation_timeout: self.policy.activation_timeout,
            health_timeout: self.policy.health_timeout,
            remote_before: self.remote_answers(),
            deferral: None,
            units: self.policy.units,
            reboot_if_stuck: self.policy.on_rollback_failure == OnRollbackFailure::Reboot,
            default_instead: self.default_instead(candidate),
            once: false,
            asked: None,
        })
    }

    /// Whether what runs was booted once, and was not found good since.
    fn runs_unasked(&self) -> bool {
        let verified = |running| self.memory.has_verified(running);
        self.memory.booted_once(self.seen) && !self.seen.running.as_ref().is_some_and(verified)
    }

    /// What is to be the default instead of one that nobody found good.
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
            Standing::ForcePush(_) | Standing::Rewind(_) => true,
            Standing::Unknown
            | Standing::Silent
            | Standing::BranchMissing
            | Standing::Usable(_)
            | Standing::Behind(_)
            | Standing::Unclear(_) => false,
        },
    )
}

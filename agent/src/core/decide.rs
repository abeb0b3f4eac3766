//! The next step, and why.
//!
//! A pure function of policy, memory, one look at the world and the time. It
//! is called again and again, compares what is with what should be, and never
//! trusts that an earlier step was carried out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::backoff;
use super::guardian::Phase;
use super::job::{
    DeploymentId, How, JobId, Kind, Order, Realised, Refusal, SwitchOrder, Target, Verdict,
};
use super::memory::{Deployment, Experiment, Memory, Stuck, Subject, Trouble};
use super::policy::{OnFailure, OnRollbackFailure, Operation, Policy};
use super::seen::{Job, Life, Purpose, Remote, Seen, Work};
use super::select::{Selection, Standing, select};
use super::types::{Commit, Mono, Now, StorePath, Wall};

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
    },
    /// Look whether a remote answers, on a new connection.
    Look,
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
            | Self::LookAgainstReboot
            | Self::Reboot { .. }
            | Self::WriteVerdict { .. }
            | Self::Settle { .. }
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

/// The pause between two rounds of checks.
const ROUND_PAUSE: Duration = Duration::from_secs(1);
/// The pause before a killed switch job is started again, after the first.
const RESUME_PAUSE: Duration = Duration::from_secs(10);
/// A remote that does not answer is asked at least this often.
const POLL_MAX: Duration = Duration::from_secs(300);
/// Polls in a row that failed, after which a remote counts as unreachable.
pub const UNREACHABLE: u32 = 3;
/// A preflight or a look that is older says nothing about now.
const FRESH: Duration = Duration::from_secs(60);
/// The pause before a system that was refused is looked at again.
const PREFLIGHT_PAUSE: Duration = Duration::from_secs(60);
/// The pause between two looks for a remote.
const LOOK_PAUSE: Duration = Duration::from_secs(5);
/// The pause before it is asked again whether anybody is against a reboot.
const AGAINST_PAUSE: Duration = Duration::from_secs(60);
/// The pause before a reboot that did not come is asked for again.
const REBOOT_PAUSE: Duration = Duration::from_secs(600);
/// The first look is taken while the system is being got, if that has only
/// just begun: usually it does not take long.
const SOON: Duration = Duration::from_secs(5);

/// The next step. `memory` has been folded.
pub fn decide(policy: &Policy, memory: &Memory, seen: &Seen, now: Now) -> Decision {
    let d = Decider { policy, memory, seen, now };
    let selection = select(policy, memory, seen, now);
    let outlook = d.outlook();
    let (poll, next_poll) = d.poll(&selection);
    let mut wake = Wake(next_poll);
    let step = d
        .tend_jobs(&mut wake)
        .or(poll)
        .or_else(|| d.compare(&selection))
        .or_else(|| d.follow(&selection))
        .or_else(|| d.keep_roots())
        .or_else(|| d.preflight(&outlook, &mut wake))
        .or_else(|| d.look(&outlook, &mut wake))
        .or_else(|| d.due_step(&outlook))
        .or_else(|| d.reboot(&outlook, &mut wake))
        .unwrap_or_else(|| {
            if let Outlook::BackingOff(trouble) = &outlook {
                wake.at(now.mono.plus(now.wall.until(trouble.not_before)));
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
    /// What jobs need: to be resumed, judged, stopped or removed.
    fn tend_jobs(&self, wake: &mut Wake) -> Option<Step> {
        self.seen.jobs.iter().find_map(|job| match &job.work {
            Work::Switch { outcome: Some(_), .. } | Work::Unreadable => {
                (job.life == Life::Ended).then(|| Step::RemoveJob(job.id.clone()))
            }
            Work::Switch { outcome: None, .. } if job.life == Life::Ended => self.resume(job, wake),
            Work::Switch { order, progress, verdict: None, .. } => {
                let phase = progress.as_ref().map(|progress| &progress.phase);
                let Some(Phase::Activated { at }) = phase else { return None };
                // After a reboot it is over, and `at` means nothing.
                if order.order.boot_id != self.seen.boot_id {
                    return None;
                }
                self.verify(job, order, *at, wake)
            }
            Work::Switch { verdict: Some(_), .. } => None,
            Work::Realise { outcome, .. } => self.tend_realise(job, outcome.is_some()),
        })
    }

    fn resume(&self, job: &Job, wake: &mut Wake) -> Option<Step> {
        let due = job.resumed.map(|resumed| resumed.plus(RESUME_PAUSE));
        match due {
            Some(due) if due > self.now.mono => {
                wake.at(due);
                None
            }
            Some(_) | None => Some(Step::ResumeSwitch(job.id.clone())),
        }
    }

    fn tend_realise(&self, job: &Job, has_outcome: bool) -> Option<Step> {
        let wanted =
            self.memory.deployment.as_ref().is_some_and(|d| d.job.as_ref() == Some(&job.id));
        if wanted {
            return None;
        }
        match job.life {
            Life::Starting | Life::Running if has_outcome => None,
            Life::Starting => None,
            Life::Running => (!job.stopping).then(|| Step::StopJob(job.id.clone())),
            // Its directory holds the link that keeps the system in the store.
            Life::Ended if self.seen.rooting || self.roots_to_keep().is_some() => None,
            Life::Ended => Some(Step::RemoveJob(job.id.clone())),
        }
    }

    /// Checks are repeated until they pass or the time for them is over.
    fn verify(&self, job: &Job, order: &SwitchOrder, at: Mono, wake: &mut Wake) -> Option<Step> {
        let timeout = order.health_timeout;
        // The guardian puts back at the very end: the agent speaks before it,
        // since it knows why.
        let last_word = at.plus(timeout - (timeout / 10).min(Duration::from_secs(1)));
        let round = self.seen.checks.as_ref().filter(|round| round.job == job.id);
        let failed = round.and_then(|round| round.checks.iter().find(|c| c.required && !c.ok));
        let passed = round.is_some() && failed.is_none();
        let verdict = |good: bool, cause: Option<String>| {
            let checks = round.map(|round| round.checks.clone()).unwrap_or_default();
            let verdict = Verdict { good, cause, checks };
            Some(Step::WriteVerdict { job: job.id.clone(), verdict })
        };
        if passed {
            return verdict(true, None);
        }
        if self.now.mono >= last_word {
            let found = failed.map_or("the checks did not finish in time".into(), |check| {
                format!("check {}: {}", check.name, check.detail)
            });
            return match self.policy.on_failure {
                OnFailure::Rollback => verdict(false, Some(found)),
                OnFailure::Report => {
                    verdict(true, Some(format!("kept as configured, although {found}")))
                }
            };
        }
        wake.at(last_word);
        if self.seen.checking {
            return None;
        }
        let due = round.map_or(at.plus(self.policy.grace), |round| round.ended.plus(ROUND_PAUSE));
        if self.now.mono >= due {
            return Some(Step::RunChecks(job.id.clone()));
        }
        wake.at(due);
        None
    }

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
                !self.is_kept(&order.candidate)
                    || order.old.as_ref().is_some_and(|old| !self.is_kept(old))
            }
            Step::Wait { .. }
            | Step::Poll { .. }
            | Step::Compare { .. }
            | Step::Follow { .. }
            | Step::KeepRoots(_)
            | Step::StartRealise(_)
            | Step::StopJob(_)
            | Step::RemoveJob(_)
            | Step::ResumeSwitch(_)
            | Step::RunChecks(_)
            | Step::Preflight { .. }
            | Step::Look
            | Step::LookAgainstReboot
            | Step::Reboot { .. }
            | Step::WriteVerdict { .. }
            | Step::Settle { .. }
            | Step::GiveUp { .. } => false,
        };
        (!(too_early && self.seen.rooting)).then(|| (**step).clone())
    }

    /// Whether a system is safe from the garbage collector: by a root, or by
    /// the link that its realise job left.
    fn is_kept(&self, system: &StorePath) -> bool {
        let built = |job: &Job| match &job.work {
            Work::Realise { outcome: Some(outcome), .. } => match &outcome.result {
                Realised::Built { system: built } => built == system,
                Realised::NoSuchHost { .. }
                | Realised::Failed { .. }
                | Realised::Damaged { .. }
                | Realised::Refused { .. }
                | Realised::Cancelled => false,
            },
            Work::Realise { outcome: None, .. } | Work::Switch { .. } | Work::Unreadable => false,
        };
        self.seen.roots.values().any(|root| root == system) || self.seen.jobs.iter().any(built)
    }

    fn keep_roots(&self) -> Option<Step> {
        let wanted = self.roots_to_keep().filter(|_| !self.seen.rooting)?;
        Some(Step::KeepRoots(wanted))
    }

    /// The systems to keep, if others are kept.
    fn roots_to_keep(&self) -> Option<BTreeMap<Purpose, StorePath>> {
        let memory = self.memory;
        let target = memory.target.as_ref();
        let candidate = memory
            .deployment
            .as_ref()
            .and_then(|deployment| deployment.system.clone())
            .or_else(|| memory.system_of(target?.commit, &self.policy.recipe).cloned())
            .filter(|system| self.seen.has(system));
        // While a switch is under way the candidate keeps itself by running;
        // what is put back if it fails does not run any more.
        let old = self.seen.jobs.iter().find_map(|job| match &job.work {
            Work::Switch { order, outcome: None, .. } => order.old.as_ref(),
            Work::Switch { .. } | Work::Realise { .. } | Work::Unreadable => None,
        });
        let wanted: BTreeMap<_, _> = [
            (Purpose::Candidate, candidate.as_ref()),
            (Purpose::Running, old.or(self.seen.running.as_ref())),
            (Purpose::LastGood, memory.last_good.as_ref().map(|good| &good.system)),
            (Purpose::GoodBefore, memory.good_before.as_ref().map(|good| &good.system)),
            (Purpose::Booted, self.seen.booted.as_ref()),
            (Purpose::Default, self.seen.profile.as_ref().map(|generation| &generation.system)),
        ]
        .into_iter()
        .filter_map(|(purpose, system)| {
            // One that is gone cannot be kept.
            let kept = |system: &&StorePath| {
                let rooted = old == Some(*system) && self.seen.roots.values().any(|r| r == *system);
                rooted || self.seen.has(system)
            };
            let system = system.filter(kept)?;
            Some((purpose, system.clone()))
        })
        .collect();
        (wanted != self.seen.roots).then_some(wanted)
    }

    fn outlook(&self) -> Outlook {
        if let Some(switching) = self.switching() {
            return switching;
        }
        let wanted = self.policy.machine_id.as_ref();
        if wanted.is_some() && self.seen.machine_id.as_ref() != wanted {
            return Outlook::WrongMachine { found: self.seen.machine_id.clone() };
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
                (false, _) => return Outlook::Drift,
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
            Work::Realise { .. } | Work::Unreadable => None,
        })
    }

    /// A system that was deferred to a boot is verified after it, before
    /// anything newer is begun: it is the default already.
    fn awaiting(&self, target: &Target) -> Option<Outlook> {
        let awaiting = self.memory.awaiting.as_ref()?;
        let deployment = &awaiting.deployment;
        if awaiting.boot_id == self.seen.boot_id {
            let why = awaiting.why.clone();
            return deployment.target.same_as(target).then_some(Outlook::AwaitsBoot { why });
        }
        let subject = Subject::System { system: awaiting.system.clone() };
        let trouble = self.memory.trouble_with(&subject);
        if let Some(pause @ Outlook::BackingOff(_)) = trouble.and_then(|t| self.stopped_by(t)) {
            return Some(pause);
        }
        if !self.remote_answers() && !self.unreachable() && self.policy.health_remote {
            return Some(Outlook::AwaitsRemote);
        }
        let taken = self.memory.has_ended(&deployment.id);
        let (id, started) = if taken {
            (self.fresh_id(deployment.target.commit, deployment.attempt), self.now.wall)
        } else {
            (deployment.id.clone(), deployment.started)
        };
        let order = self.order(id, &deployment.target, deployment.attempt, started);
        let old = self.last_good();
        Some(self.due(self.switch(order, &awaiting.system, How::Verify, old)))
    }

    /// The boot loader gave the default up: what it booted becomes the default.
    fn fallen_back(&self, target: &Target) -> Option<Outlook> {
        let default = &self.seen.profile.as_ref()?.system;
        let running = self.seen.running.as_ref().filter(|running| *running != default)?;
        if !self.seen.gave_up || self.other_job_lives() {
            return None;
        }
        let awaiting = self.memory.awaiting.as_ref().filter(|a| a.system == *default);
        let deployment = awaiting.map(|awaiting| &awaiting.deployment);
        let deployment = deployment.filter(|known| !self.memory.has_ended(&known.id));
        let order = match deployment {
            Some(known) => {
                self.order(known.id.clone(), &known.target, known.attempt, known.started)
            }
            None => {
                let commit = self.memory.commit_of(default).unwrap_or(target.commit);
                // Whatever is wanted now: this is about what boots.
                let target = Target { commit, operation: Operation::Switch, ..target.clone() };
                self.order(self.fresh_id(commit, 1), &target, 1, self.now.wall)
            }
        };
        let old = Some(running.clone());
        Some(self.due(self.switch(order, default, How::Restore, old)))
    }

    /// What the default needs a reboot for is given one, if it may be.
    fn reboot(&self, outlook: &Outlook, wake: &mut Wake) -> Option<Step> {
        let pending = self.reboot_pending(outlook)?;
        let (seen, now) = (self.seen, self.now);
        if !seen.reboot_window.open {
            if let Some(opens) = seen.reboot_window.changes {
                wake.at(now.mono.plus(now.wall.until(opens)));
            }
            return None;
        }
        if seen.rebooting {
            return None;
        }
        let asked = self.memory.rebooted.as_ref().filter(|asked| asked.boot_id == seen.boot_id);
        let again = [
            asked.map(|asked| asked.at.plus(REBOOT_PAUSE)),
            seen.against
                .as_ref()
                .filter(|against| !against.whom.is_empty())
                .map(|against| against.ended.plus(AGAINST_PAUSE)),
        ];
        if let Some(again) = again.into_iter().flatten().max().filter(|again| *again > now.mono) {
            wake.at(again);
            return None;
        }
        let fresh = |at: Mono| now.mono.since(at) < AGAINST_PAUSE;
        match &seen.against {
            Some(against) if against.whom.is_empty() && fresh(against.ended) => {
                Some(Step::Reboot { system: pending.clone() })
            }
            Some(_) | None => Some(Step::LookAgainstReboot),
        }
    }

    /// The default that the agent is to reboot the host for. Once: one that
    /// still needs a reboot after it would need the next one too.
    fn reboot_pending(&self, outlook: &Outlook) -> Option<&StorePath> {
        let default = &self.seen.profile.as_ref()?.system;
        let needed = matches!(outlook, Outlook::AwaitsBoot { .. })
            || matches!(outlook, Outlook::InSync) && self.seen.reboot_why.is_some();
        let before =
            self.memory.rebooted.as_ref().is_some_and(|asked| {
                asked.system == *default && asked.boot_id != self.seen.boot_id
            });
        (self.policy.reboots && needed && !before && self.seen.jobs.is_empty()).then_some(default)
    }

    /// A system that needed a reboot and has had it is verified again.
    fn unproven(&self) -> Option<Outlook> {
        let unproven = self.memory.unproven.as_ref()?;
        let here = self.seen.running.as_ref() == Some(&unproven.system);
        if unproven.boot_id == self.seen.boot_id || !here {
            return None;
        }
        let subject = Subject::System { system: unproven.system.clone() };
        let trouble = self.memory.trouble_with(&subject);
        if let Some(pause @ Outlook::BackingOff(_)) = trouble.and_then(|t| self.stopped_by(t)) {
            return Some(pause);
        }
        if !self.remote_answers() && !self.unreachable() && self.policy.health_remote {
            return Some(Outlook::AwaitsRemote);
        }
        let attempt = trouble.map_or(0, |trouble| trouble.failures).saturating_add(1);
        let id = self.fresh_id(unproven.target.commit, attempt);
        let order = self.order(id, &unproven.target, attempt, self.now.wall);
        let old = self.memory.good_before.as_ref().map(|good| good.system.clone());
        let old = old.filter(|old| self.seen.has(old)).or_else(|| self.last_good());
        Some(self.due(self.switch(order, &unproven.system, How::Verify, old)))
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
        let verifies = how != How::Boot && self.policy.health_remote;
        if verifies && !self.remote_answers() {
            return Outlook::AwaitsRemote;
        }
        if how != How::Verify {
            if let Some(preflight) = self.before_activation(target, system) {
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
            How::Activate if running => self.last_good(),
            How::Activate | How::Boot | How::Restore => self.seen.running.clone(),
        };
        let mut step = self.switch(order, system, how, old);
        if let (Step::StartSwitch(switch), How::Boot) = (&mut step, how) {
            switch.deferral = deferral.or_else(|| Some("operation = \"boot\"".into()));
        }
        self.due(step)
    }

    /// What a preflight has still to find, or has found against it.
    fn before_activation(&self, target: &Target, system: &StorePath) -> Option<Outlook> {
        let needs_agent = self.needs_agent(target);
        let found = self
            .seen
            .preflight
            .as_ref()
            .filter(|found| found.system == *system && found.needs_agent == needs_agent);
        let Some(found) = found else { return Some(Outlook::Preflight(system.clone())) };
        match &found.refusal {
            Some(refusal) => {
                let again = found.ended.plus(PREFLIGHT_PAUSE);
                Some(Outlook::Refused { refusal: refusal.clone(), again })
            }
            None if self.now.mono.since(found.ended) >= FRESH => {
                Some(Outlook::Preflight(system.clone()))
            }
            None => None,
        }
    }

    /// The first of three looks: a remote that does not answer before cannot
    /// be lost.
    fn before_losing_remotes(&self, system: &StorePath) -> Option<Outlook> {
        match &self.seen.look {
            Some(look) if look.reached && self.now.mono.since(look.ended) < FRESH => None,
            Some(look) if !look.reached => Some(Outlook::AwaitsRemote),
            Some(_) | None => Some(Outlook::Preflight(system.clone())),
        }
    }

    /// Why the preflight says that it can only be booted.
    fn deferral(&self, system: &StorePath) -> Option<String> {
        let found = self.seen.preflight.as_ref().filter(|found| found.system == *system)?;
        found.deferral.clone()
    }

    fn needs_agent(&self, target: &Target) -> bool {
        self.policy.units && self.memory.without_agent != Some(target.commit)
    }

    fn preflight(&self, outlook: &Outlook, wake: &mut Wake) -> Option<Step> {
        if self.seen.preflighting {
            return None;
        }
        let target = self.memory.target.as_ref()?;
        let system = if let Outlook::Preflight(system) = outlook {
            // It may be the look that is wanted.
            let passed = self.before_activation(target, system).is_none();
            (!passed).then_some(system)
        } else if let Outlook::Refused { again, .. } = outlook {
            let due = *again <= self.now.mono;
            if !due {
                wake.at(*again);
            }
            self.seen.preflight.as_ref().map(|found| &found.system).filter(|_| due)
        } else {
            None
        }?;
        Some(Step::Preflight {
            system: system.clone(),
            default: self.seen.profile.as_ref().map(|generation| generation.system.clone()),
            needs_agent: self.needs_agent(target),
        })
    }

    /// The looks before and after an activation. The one in between is a check.
    fn look(&self, outlook: &Outlook, wake: &mut Wake) -> Option<Step> {
        let last = self.seen.look.as_ref();
        let remote = self.policy.health_remote;
        let older_than = |age| last.is_none_or(|look| self.now.mono.since(look.ended) >= age);
        let wanted = if let Outlook::Realising(job) = outlook {
            remote && self.began_just_now(job) && older_than(FRESH / 2)
        } else if let Outlook::Preflight(_) = outlook {
            remote && (older_than(FRESH) || last.is_some_and(|look| !look.reached))
        } else if let Outlook::AwaitsRemote = outlook {
            // While polls fail, they tell when one answers.
            self.remote_answers()
        } else {
            matches!(outlook, Outlook::Experiment(_))
        };
        if !wanted || self.seen.looking {
            return None;
        }
        let again = last.filter(|look| !look.reached).map(|look| look.ended.plus(LOOK_PAUSE));
        match again {
            Some(again) if again > self.now.mono => {
                wake.at(again);
                None
            }
            Some(_) | None => Some(Step::Look),
        }
    }

    fn began_just_now(&self, job: &JobId) -> bool {
        self.seen.jobs.iter().any(|seen| match &seen.work {
            Work::Realise { order, .. } => {
                seen.id == *job && self.now.mono.since(order.ordered) < SOON
            }
            Work::Switch { .. } | Work::Unreadable => false,
        })
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

    fn last_good(&self) -> Option<StorePath> {
        self.memory.last_good.as_ref().map(|good| good.system.clone())
    }

    fn due(&self, step: Step) -> Outlook {
        Outlook::Due(Box::new(step))
    }

    fn stopped_by(&self, trouble: &Trouble) -> Option<Outlook> {
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

    fn order(&self, id: DeploymentId, target: &Target, attempt: u32, started: Wall) -> Order {
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

    fn switch(
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
        })
    }

    /// An id that no deployment has had: two attempts may begin in one second.
    fn fresh_id(&self, commit: Commit, attempt: u32) -> DeploymentId {
        let taken = |id: &DeploymentId| {
            self.memory.has_ended(id) || self.seen.jobs.iter().any(|job| job.id.deployment == *id)
        };
        (0..)
            .map(|second| self.now.wall.plus(Duration::from_secs(second)))
            .map(|moment| DeploymentId::new(moment, commit, attempt))
            .find(|id| !taken(id))
            .expect("there are more seconds than deployments remembered")
    }

    fn other_job_lives(&self) -> bool {
        self.seen.jobs.iter().any(|job| job.life != Life::Ended)
    }

    fn remote_answers(&self) -> bool {
        self.seen.remotes.iter().any(Remote::answers)
    }

    fn unreachable(&self) -> bool {
        unreachable(self.seen)
    }
}

/// Whether no remote answered three polls running.
pub fn unreachable(seen: &Seen) -> bool {
    let mut asked = seen.remotes.iter().filter(|remote| remote.asked.is_some()).peekable();
    asked.peek().is_some() && asked.all(|remote| remote.failures >= UNREACHABLE)
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

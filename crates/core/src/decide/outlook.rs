//! How the target stands, and what comes next for it.

use super::before::FRESH;
use super::{Decider, Due};
use crate::gates::Gate;
use crate::guardian::Phase;
use crate::job::{How, JobId, Refusal, SwitchOrder, Target};
use crate::memory::{Deployment, Experiment, Stuck, Subject, Trouble};
use crate::observed::{Seen, Work};
use crate::policy::{Drift, Operation};
use crate::types::{Mono, StorePath, Wall};
use crate::unseen::Unseen;

/// How the target stands, and what comes next for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// No remote has answered yet and nothing is remembered.
    NothingKnown,
    /// A switch job works, or is to be started again.
    Switching {
        /// Order of the switch job, with the system that it switches to.
        order: Box<SwitchOrder>,
        /// Phase that the switch job has reached.
        phase: Phase,
    },
    /// The host cannot be looked at: it is left alone.
    Blind {
        /// Part of the host that could not be looked at.
        unseen: Unseen,
        /// Time at which the host could first not be looked at.
        since: Wall,
    },
    /// The machine is another one than the configuration is for.
    WrongMachine {
        /// Machine id of this host; `None` if it has none.
        found: Option<String>,
    },
    /// The system is being realised.
    Realising(JobId),
    /// A job of an earlier target is coming to its end.
    Clearing,
    /// Something failed and is tried again later.
    BackingOff(Trouble),
    /// Something failed and is not tried again by itself.
    Stuck(Trouble),
    /// The target runs, and is the boot default if it is to be.
    InSync,
    /// The target ran, and another hand has put something else there, or has
    /// made something else the boot default.
    Drift,
    /// The system is the default and awaits the next boot.
    AwaitsBoot {
        /// Reason for which the system was not activated.
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
    /// The system may not be activated, and nothing was touched.
    Refused {
        /// Refusal, as the preflight found it.
        refusal: Refusal,
        /// Earliest time of the next preflight.
        again: Mono,
    },
    /// Something is due now.
    Due(Due),
}

impl Outlook {
    /// Whether the host has to be rebooted for what is in force.
    pub fn needs_reboot(&self, seen: &Seen) -> bool {
        matches!(self, Self::AwaitsBoot { .. })
            || matches!(self, Self::InSync) && seen.reboot_why.is_some()
    }
}

impl Decider<'_> {
    pub(super) fn outlook(&self) -> Outlook {
        let switching = self.switching();
        if let Some(unseen) = self.seen.blind() {
            let since = self.memory.blind_since.unwrap_or(self.now.wall);
            let at_work = switching.filter(|outlook| matches!(outlook, Outlook::Switching { .. }));
            return at_work.unwrap_or_else(|| Outlook::Blind { unseen: unseen.clone(), since });
        }
        if let Some(switching) = switching {
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

    /// Outlook for a target whose system is in the store: the next that it lacks to be in force.
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
            return Outlook::Due(Due::Settle { target, system, id });
        }
        if let Some(stopped) = trouble.and_then(|trouble| self.stopped_by(trouble)) {
            return match (&stopped, deployment) {
                (Outlook::Stuck(trouble), Some(_)) => {
                    let cause = format!("quarantined: {}", trouble.cause);
                    Outlook::Due(Due::GiveUp { cause })
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
        let how = match (target.operation, deferral) {
            (_, _) if running && whole => How::Verify,
            (Operation::Switch | Operation::Boot, Some(why)) => How::Boot { why },
            (Operation::Switch | Operation::Test, _) => How::Activate,
            (Operation::Boot, None) => How::Boot { why: "operation = \"boot\"".into() },
        };
        if let Some(gate) =
            self.memory.gates.closed(self.policy, self.seen, target.commit, self.now)
        {
            return self.gated(gate, target, system, &how);
        }
        let verifies = !matches!(how, How::Boot { .. }) && self.policy.health_remote;
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
            How::Activate | How::Boot { .. } | How::Restore(_) => self.seen.running.clone(),
        };
        Outlook::Due(Due::Switch(Box::new(self.switch(order, system, how, old))))
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
        Outlook::Due(Due::Realise(self.order(id, target, attempt, self.now.wall)))
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

    /// Whether what runs was booted once, and was not found good since.
    fn runs_unasked(&self) -> bool {
        let verified = |running| self.memory.has_verified(running);
        self.memory.booted_once(self.seen) && !self.seen.running.as_ref().is_some_and(verified)
    }
}

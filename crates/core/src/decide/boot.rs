//! Decisions after a boot and before one: systems that awaited it are judged, one that
//! did not boot is given up, and one that needs a reboot is given it.

use std::time::Duration;

use super::{Decider, Due, Outlook, Step, Wake};
use crate::job::{How, JobKind, Restore, SwitchOrder, Target};
use crate::memory::Subject;
use crate::observed::Job;
use crate::policy::Operation;
use crate::types::{Mono, StorePath};

/// The pause before it is asked again whether anybody is against a reboot.
const AGAINST_PAUSE: Duration = Duration::from_secs(60);
/// The pause before a reboot that did not come is asked for again.
const REBOOT_PAUSE: Duration = Duration::from_secs(600);

impl Decider<'_> {
    /// The boot loader gave the default up: what it booted becomes the default.
    /// Or what it was to boot once did not come up: the default stays.
    pub(super) fn fallen_back(&self, target: &Target) -> Option<Outlook> {
        let default = &self.seen.profile.as_ref()?.system;
        let running = self.seen.running.as_ref()?;
        let once = self.memory.missed_its_boot(self.seen);
        let gave_up = self.seen.gave_up && running != default;
        if (once.is_none() && !gave_up) || self.other_job_lives() {
            return None;
        }
        let default = once.map_or(default, |awaiting| &awaiting.system);
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
        // That has shown that it boots. Another hand may have switched since: to
        // what runs, and not to what boots.
        let booted = self.seen.booted.as_ref().filter(|booted| *booted != default);
        let old = Some(booted.unwrap_or(running).clone());
        let switch = self.switch(order, default, How::Restore(Restore::FellBack), old);
        let switch = SwitchOrder { once: once.is_some(), ..switch };
        Some(Outlook::Due(Due::Switch(Box::new(switch))))
    }

    /// A system that needed a reboot and has had it is verified again.
    pub(super) fn unproven(&self) -> Option<Outlook> {
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
        let switch = self.switch(order, &unproven.system, How::Verify, old);
        Some(Outlook::Due(Due::Switch(Box::new(switch))))
    }

    /// A system that was deferred to a boot is verified after it, before
    /// anything newer is begun: it is the default already.
    pub(super) fn awaiting(&self, target: &Target) -> Option<Outlook> {
        let awaiting = self.memory.awaiting.as_ref()?;
        let deployment = &awaiting.deployment;
        if awaiting.boot_id == self.seen.boot_id {
            let why = awaiting.why.clone();
            return deployment.target.same_as(target).then_some(Outlook::AwaitsBoot { why });
        }
        if self.seen.running.as_ref() != Some(&awaiting.system) {
            // What that means is known once the job that lives has ended.
            return Some(Outlook::Clearing);
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
        let switch = self.switch(order, &awaiting.system, How::Verify, old);
        let switch = SwitchOrder { once: awaiting.kept.is_some(), ..switch };
        Some(Outlook::Due(Due::Switch(Box::new(switch))))
    }

    /// Disarms a system that the boot loader was told to boot once, and is not to boot any more.
    pub(super) fn disarm(&self) -> Option<Step> {
        let switches = self.seen.jobs.iter().any(|job| job.id.kind == JobKind::Switch);
        if switches || self.seen.disarming {
            return None;
        }
        let awaiting = self.memory.awaiting.as_ref().filter(|awaiting| awaiting.kept.is_some());
        let awaited = awaiting.map(|awaiting| &awaiting.system);
        let mut armed = self.memory.armed.iter();
        let left = armed
            .find(|armed| armed.boot_id == self.seen.boot_id && Some(&armed.system) != awaited)?;
        Some(Step::Disarm { system: left.system.clone() })
    }

    /// Starts the reboot that the default needs, if the window is open and nobody is against it.
    pub(super) fn reboot(&self, outlook: &Outlook, wake: &mut Wake) -> Option<Step> {
        let pending = self.reboot_pending(outlook)?;
        let (seen, now) = (self.seen, self.now);
        if !seen.reboot_window.open {
            if let Some(opens) = seen.reboot_window.changes {
                wake.at(now.mono.plus(now.wall.until(opens)));
            }
            return None;
        }
        if seen.rebooting || seen.disarming {
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
    pub(super) fn reboot_pending(&self, outlook: &Outlook) -> Option<&StorePath> {
        let default = &self.seen.profile.as_ref()?.system;
        // What is booted once comes before the default.
        let once = self.memory.awaiting.as_ref().filter(|awaiting| awaiting.kept.is_some());
        let default = once.map_or(default, |awaiting| &awaiting.system);
        // A reboot would activate what a person has asked not to.
        let needed = outlook.needs_reboot(self.seen) && self.memory.gates.suspended.is_none();
        let before =
            self.memory.rebooted.as_ref().is_some_and(|asked| {
                asked.system == *default && asked.boot_id != self.seen.boot_id
            });
        let deploys = self.seen.jobs.iter().any(Job::is_of_deployment);
        (self.policy.reboots && needed && !before && !deploys).then_some(default)
    }
}

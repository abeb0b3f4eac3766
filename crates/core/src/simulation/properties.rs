//! Properties that must hold at every step, judged by what is true in the world and not
//! by what the agent believes.

mod saves;

use super::agent::name;
use super::host::Task;
use super::world::{World, Wrong};
use crate::decide::{Decision, Step};
use crate::job::{
    Ending, How, JobId, JobKind, Order, RealiseOutcome, Realised, SwitchOrder, Target,
};
use crate::memory::{Memory, Stuck, Subject};
use crate::observed::{Relation, Seen};
use crate::policy::{ForcePush, Operation};
use crate::status::{AgentView, Held, State, Status, status};
use crate::types::StorePath;

impl World {
    /// P1, after everything that happens.
    pub(super) fn check_always(&self) -> Result<(), Wrong> {
        let may_boot = |system: &StorePath| {
            let truth = &self.truth;
            [&truth.verified, &truth.by_hand, &truth.adopted, &truth.deferred]
                .iter()
                .any(|set| set.contains(system))
        };
        for system in self.host.profile_system().into_iter().chain(&self.host.boot_loader) {
            if !may_boot(system) {
                return Err(format!("P1: {system:?} boots by default and was never verified"));
            }
        }
        Ok(())
    }

    /// Fails for a step that must not be taken.
    pub(super) fn check_step(&mut self, noted: &Memory, decision: &Decision) -> Result<(), Wrong> {
        let now = self.now();
        match &decision.step {
            Step::Wait { until: Some(until) } if *until <= now.mono => {
                return Err("it waits for what is over".into());
            }
            Step::StartRealise(order) => {
                self.check_allowed(order, noted)?;
                let twice = self.host.jobs.values().any(|dir| match &dir.task {
                    Task::Realise { order: other, .. } => {
                        dir.process.is_some() && other.target.commit == order.target.commit
                    }
                    Task::Switch { .. } | Task::Publish { .. } => false,
                });
                if twice {
                    return Err("P2: two jobs realise one commit".into());
                }
            }
            Step::StartSwitch(switch) => {
                // What awaited this boot is verified first, whatever came since.
                let awaited = noted.awaiting.as_ref().is_some_and(|awaiting| {
                    awaiting.system == switch.candidate
                        && self.host.running.as_ref() == Some(&awaiting.system)
                });
                // So is what was verified under another kernel.
                let unproven = switch.how == How::Verify
                    && noted.unproven.as_ref().is_some_and(|unproven| {
                        unproven.system == switch.candidate
                            && self.host.running.as_ref() == Some(&unproven.system)
                    });
                let restores = switch.how.restores();
                if restores && switch.how.asked().is_some() {
                    self.check_way_back(switch)?;
                    self.blame_order(switch);
                } else if restores {
                    self.check_restore(switch)?;
                    self.blame_order(switch);
                }
                if !awaited && !unproven && !restores {
                    self.check_allowed(&switch.order, noted)?;
                    self.check_gates(switch)?;
                }
                let other = self.host.jobs.iter().find(|(id, dir)| {
                    id.kind == JobKind::Switch && (dir.process.is_some() || !dir.task.has_outcome())
                });
                if let Some((id, _)) = other {
                    return Err(format!("P2: a switch begins while {id} is not over"));
                }
                if !restores {
                    self.check_tested(switch.order.target.operation, &switch.order)?;
                }
            }
            Step::StartPublish(order) => self.check_publish(order)?,
            Step::Settle { system, target, .. } => {
                if target.operation == Operation::Test {
                    self.truth.tested = Some((target.commit, self.boot));
                }
                let known = [&self.truth.verified, &self.truth.adopted];
                if self.host.running.as_ref() != Some(system)
                    || !known.iter().any(|set| set.contains(system))
                {
                    return Err("P5: settled on what does not run or was not verified".into());
                }
            }
            Step::Wait { .. }
            | Step::Poll { .. }
            | Step::Compare { .. }
            | Step::Follow { .. }
            | Step::KeepRoots(_)
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
            | Step::AskToConfirm { .. }
            | Step::GiveUp { .. } => {}
        }
        if noted.history.len() > 50 || noted.systems.len() > 32 || noted.troubles.len() > 32 {
            return Err("the memory grows without bounds".into());
        }
        Ok(())
    }

    /// A default is given up only for what has shown that it boots.
    fn check_restore(&self, switch: &SwitchOrder) -> Result<(), Wrong> {
        let given_up = self.truth.gave_up.contains(&switch.candidate)
            && (switch.once || self.host.profile_system() == Some(&switch.candidate));
        if !given_up || switch.old != self.host.booted {
            return Err("P1: a default is put back that was not given up".into());
        }
        Ok(())
    }

    fn blame_order(&mut self, switch: &SwitchOrder) {
        let id = switch.order.deployment.clone();
        self.truth.failures.entry(switch.candidate.clone()).or_default().insert(id);
    }

    /// The agent reboots only into what may boot, and in the middle of nothing.
    pub(super) fn check_reboot(&self, system: &StorePath) -> Result<(), Wrong> {
        let deploys = self.host.jobs.keys().any(|id| id.kind != JobKind::Publish);
        let once = self.host.oneshot.as_ref().filter(|_| !self.host.orphaned);
        let boots = once.or(self.host.profile_system());
        if boots != Some(system) || deploys {
            return Err("it reboots in the middle of something".into());
        }
        if !self.policy.reboots || self.t < self.host.against_until {
            // Who has just come is respected by logind itself.
            let just_come = self.t + 1_000 > self.host.against_until;
            if !self.policy.reboots || just_come {
                return Err("it reboots although it may not".into());
            }
        }
        Ok(())
    }

    /// P7: what is shown at every step.
    pub(super) fn check_shown(
        &self,
        folded: &Memory,
        seen: &Seen,
        decision: &Decision,
    ) -> Result<(), Wrong> {
        let shown = self.status(folded, seen, decision);
        shown.publish.as_ref().map_or(Ok(()), |publish| self.check_backlog(publish))?;
        check_status(&shown)
    }

    pub(super) fn status(&self, memory: &Memory, seen: &Seen, decision: &Decision) -> Status {
        let now = self.now();
        let agent = AgentView { version: "0".into(), started: now.wall, unconfined: None };
        status(&self.policy, memory, seen, decision, &agent, now)
    }

    /// P3, from the commits themselves.
    fn check_allowed(&self, order: &Order, memory: &Memory) -> Result<(), Wrong> {
        let refused = |why: &str| Err(format!("P3: {:?}: {why}", order.target.commit));
        let Some(target) = memory.target.as_ref().filter(|t| t.same_as(&order.target)) else {
            return refused("it is not the target");
        };
        let Some(accepted) = self.truth.accepted.as_ref().map(|accepted| accepted.commit) else {
            return refused("nothing was accepted");
        };
        let commit = target.commit;
        match target.operation {
            Operation::Test if self.policy.testing.is_none() => refused("nothing is tested"),
            Operation::Test if !self.truth.shown_testing.contains(&commit) => {
                refused("nobody gave it")
            }
            Operation::Test if self.relation(accepted, commit) != Relation::Ahead => {
                refused("it is not ahead of the release")
            }
            Operation::Test => Ok(()),
            Operation::Switch | Operation::Boot if commit != accepted => {
                refused("it was not accepted")
            }
            Operation::Switch | Operation::Boot => Ok(()),
        }
    }

    fn check_tested(&mut self, operation: Operation, order: &Order) -> Result<(), Wrong> {
        if operation != Operation::Test {
            return Ok(());
        }
        let commit = order.target.commit;
        if self.truth.tested.is_some_and(|(old, boot)| old == commit && boot != self.boot) {
            return Err(format!("{commit:?} is tested in a second boot"));
        }
        self.truth.tested = Some((commit, self.boot));
        Ok(())
    }

    pub(super) fn tell_step(&mut self, memory: &Memory, seen: &Seen, decision: &Decision) {
        if matches!(
            decision.step,
            Step::Wait { .. } | Step::Poll { .. } | Step::Compare { .. } | Step::KeepRoots(_)
        ) {
            return;
        }
        let shown = self.status(memory, seen, decision);
        let what = if let Step::StartSwitch(switch) = &decision.step {
            let system = switch.candidate.base_name().rsplit('-').next().unwrap_or_default();
            let commit = switch.order.target.commit.short();
            format!("StartSwitch {commit} {} system {system}", switch.how.name())
        } else if let Step::Follow { target, .. } = &decision.step {
            format!("Follow {} {}", target.commit.short(), target.operation.as_str())
        } else if let Step::WriteVerdict { verdict, .. } = &decision.step {
            format!("WriteVerdict {} {:?}", verdict.good, verdict.cause)
        } else {
            name(&decision.step)
        };
        self.tell(|| format!("agent {what} [{}: {}]", shown.state.as_str(), shown.reason));
    }
}

impl Target {
    fn key(&self) -> (crate::types::Commit, Operation) {
        (self.commit, self.operation)
    }
}

/// P7, as far as one look shows it.
fn check_status(shown: &Status) -> Result<(), Wrong> {
    let wrong =
        |why: &str| Err(format!("P7: {} ({:?}): {why}", shown.state.as_str(), shown.reason));
    if shown.reason.trim().is_empty() {
        return wrong("no reason");
    }
    let says = |held: &Held| {
        !held.cause.word().is_empty() && !held.lift.is_empty() && held.cause.evidence().is_object()
    };
    if !shown.held.as_ref().is_none_or(says) {
        return wrong("held without cause, evidence or what lifts it");
    }
    match shown.state {
        State::Blind if shown.blind.is_none() || shown.lift.is_none() || shown.next.is_none() => {
            return wrong("without what cannot be seen, what lifts that, or what comes next");
        }
        State::Held if shown.held.is_none() => return wrong("held without a cause"),
        State::Waiting | State::BackingOff | State::Unreachable | State::RebootRequired
            if shown.next.is_none() =>
        {
            return wrong("nothing comes next");
        }
        State::UpToDate | State::Held | State::Realising | State::Waiting
            if shown.blind.is_some() =>
        {
            return wrong("although the host cannot be looked at");
        }
        State::UpToDate if !shown.in_sync() => return wrong("and something else runs"),
        State::UpToDate | State::Realising | State::Waiting | State::BackingOff
            if shown.held.is_some() =>
        {
            return wrong("although something is held");
        }
        State::RollingBack
        | State::RollbackFailed
        | State::Activating
        | State::Verifying
        | State::Blind
        | State::Held
        | State::Realising
        | State::Waiting
        | State::BackingOff
        | State::RebootRequired
        | State::Unreachable
        | State::UpToDate
        | State::Starting => {}
    }
    Ok(())
}

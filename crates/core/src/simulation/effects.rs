//! Effects of the guardian's acts on the host.

use super::forge::{Activation, ERRNOS, Health, system_index};
use super::host::{Task, Who};
use super::world::{Tick, World, Wrong};
use crate::guardian::lock::{About, Whom};
use crate::guardian::{Act, Done, Hanging, Phase, RUNGS};
use crate::job::{JobId, SwitchOrder};
use crate::types::StorePath;

impl World {
    /// Carries out the effect of an act on the host, at its end.
    pub(super) fn effect(
        &mut self,
        id: &JobId,
        order: &SwitchOrder,
        done: &Act,
        half_before: bool,
    ) -> Result<Done, Wrong> {
        Ok(match done {
            Act::FreeLock(whom) => self.free_lock(id, *whom)?,
            Act::Activate => self.activate(id, &order.candidate, half_before)?,
            Act::ActivateOld(old) => {
                if !self.host.store.contains(old) {
                    return Err(format!("P4: {old:?} is to be put back and is gone"));
                }
                if self.host.old_failures > 0 {
                    self.host.old_failures -= 1;
                    return Ok(self.old_fails(old, half_before));
                }
                if let Some(locked_out) = self.locked_out() {
                    self.host.half_done = half_before;
                    return Ok(locked_out);
                }
                self.host.running = Some(old.clone());
                self.host.half_done = false;
                self.agent_may_start();
                Done::Exit(self.chance.pick(&[0, 0, 4]))
            }
            Act::SetProfile => match self.profile_fails() {
                Some(error) => {
                    self.blame(id, &order.candidate);
                    Done::Profile(Err(error))
                }
                None => {
                    self.host.set_profile(&order.candidate);
                    Done::Profile(Ok(()))
                }
            },
            Act::RestoreProfile(old) => match self.profile_fails() {
                Some(error) => Done::Profile(Err(error)),
                None => {
                    self.host.restore_profile(order.profile.as_ref(), old);
                    if let (true, Some(kept)) = (order.once, &order.profile) {
                        let made = |number: &u64, system: &StorePath| {
                            *number > kept.number && *system == order.candidate
                        };
                        self.host.generations.retain(|number, system| !made(number, system));
                    }
                    Done::Profile(Ok(()))
                }
            },
            Act::WriteBoot | Act::WriteOldBoot(_) if !self.host.claims(self.t).is_empty() => {
                self.locked_out().ok_or("nobody holds it")?
            }
            Act::WriteBoot if !self.forge.system(&order.candidate).boots => {
                self.blame(id, &order.candidate);
                // It may have failed at the very end.
                if self.chance.one_in(2) {
                    self.host.boot_loader = Some(order.candidate.clone());
                }
                Done::Exit(self.chance.pick(&ERRNOS))
            }
            Act::WriteBoot => {
                // A new entry has all its tries.
                self.host.gave_up = None;
                self.host.boot_loader = Some(order.candidate.clone());
                Done::Exit(0)
            }
            // Only before the old default is what counts on it being written.
            Act::WriteOldBoot(_) if self.returns(id) && self.chance.one_in(8) => {
                if self.chance.one_in(2) {
                    self.host.boot_loader.clone_from(&order.old);
                }
                Done::Exit(self.chance.pick(&ERRNOS))
            }
            Act::WriteOldBoot(old) => {
                self.host.gave_up = None;
                self.host.boot_loader = Some(old.clone());
                Done::Exit(0)
            }
            Act::SetOneshot { next, default } => {
                if *default != order.profile.clone().ok_or("nothing was the default")? {
                    return Err("P1: what was not the default is to stay it".into());
                }
                // The boot loader has entries of a few generations only.
                let listed = self.host.generations.contains_key(&default.number);
                if !self.boots_once || !listed || self.chance.one_in(8) {
                    return Ok(Done::Oneshot(Err("no such entry".into())));
                }
                self.host.oneshot = Some(next.system.clone());
                self.host.orphaned = false;
                Done::Oneshot(Ok(()))
            }
            Act::ReturnProfile(before) => match self.profile_fails() {
                Some(error) => Done::Profile(Err(error)),
                None => Done::Profile(self.host.return_profile(before)),
            },
            Act::AwaitVerdict(until) => {
                let has_verdict = match &self.host.jobs[id].task {
                    Task::Switch { verdict, .. } => verdict.is_some(),
                    Task::Realise { .. } | Task::Publish { .. } => false,
                };
                if !has_verdict && self.mono() >= *until {
                    self.blame(id, &order.candidate);
                }
                Done::Waited
            }
            Act::RestartBus => Done::Bus,
            Act::StartUnits => {
                let failed = self.chance.one_in(12).then(|| "web.service".to_owned());
                Done::Units(failed.into_iter().collect())
            }
            Act::EndUnits(units) => Done::UnitsEnded(units.clone()),
            Act::ReviveOld(old) => {
                if !self.host.store.contains(old) {
                    return Err(format!("P4: {old:?} is to be put back and is gone"));
                }
                if self.host.old_failures > 0 {
                    self.host.old_failures -= 1;
                    return Ok(Done::Exit(1));
                }
                self.host.running = Some(old.clone());
                self.host.half_done = false;
                self.agent_may_start();
                Done::Exit(self.chance.pick(&[0, 0, 2]))
            }
            Act::Reboot => {
                let boot = self.boot;
                self.schedule(5_000, Tick::Reboots(boot));
                Done::Bus
            }
            Act::Pause(_) | Act::LookAgain(_) => Done::Waited,
            Act::Note(_) | Act::Finish(_) => return Err("these take no time".into()),
        })
    }

    fn activate(
        &mut self,
        id: &JobId,
        candidate: &StorePath,
        half_before: bool,
    ) -> Result<Done, Wrong> {
        if !self.host.store.contains(candidate) {
            return Err(format!("P4: {candidate:?} is to be activated and is gone"));
        }
        if let Some(locked_out) = self.locked_out() {
            self.host.half_done = half_before;
            return Ok(locked_out);
        }
        let system = &mut self.forge.systems[system_index(candidate)];
        let activation = if system.flaky > 0 {
            system.flaky -= 1;
            Activation::Half(self.chance.pick(&ERRNOS), system.flaky.is_multiple_of(2))
        } else {
            system.activation
        };
        let runs = match activation {
            Activation::Works(_) => true,
            Activation::Refused | Activation::NeedsReboot => false,
            Activation::Half(_, moved) | Activation::Broke(moved) => moved,
        };
        if runs {
            self.host.running = Some(candidate.clone());
            if self.running_health() == Some(Health::NoAgent) {
                self.kill_agent();
            }
        }
        match activation {
            Activation::Works(code) => {
                self.host.half_done = false;
                Ok(Done::Exit(code))
            }
            Activation::Refused | Activation::NeedsReboot => {
                self.host.half_done = half_before;
                self.blame(id, candidate);
                Ok(Done::Exit(if activation == Activation::Refused { 1 } else { 100 }))
            }
            Activation::Half(code, _) => {
                self.blame(id, candidate);
                (self.traces.began, self.traces.unfinished) = (true, true);
                Ok(Done::Exit(code))
            }
            Activation::Broke(_) => {
                self.blame(id, candidate);
                self.hangs();
                Ok(Done::Broke("killed by signal 11".into()))
            }
        }
    }

    /// The program ends at once, if somebody holds the lock, and says so.
    fn locked_out(&mut self) -> Option<Done> {
        let held = !self.host.claims(self.t).is_empty();
        self.traces.locked_out = held;
        held.then_some(Done::Exit(11))
    }

    /// Takes the lock from a holder that may lose it.
    fn free_lock(&mut self, id: &JobId, whom: Whom) -> Result<Done, Wrong> {
        let held = self.host.lock;
        match whom.about(&self.host.claims(self.t)) {
            About::Leave | About::Renew => return Ok(Done::Lock(Vec::new())),
            About::PassBy | About::End => self.host.lock = None,
        }
        let who = held.map(|held| held.who);
        if who == Some(Who::Root) {
            let Task::Switch { progress: Some(progress), .. } = &self.host.jobs[id].task else {
                return Err("P2: nobody knows why the lock is taken".into());
            };
            let last = matches!(&progress.phase,
                Phase::PuttingBack(back) if back.locked && back.tries > RUNGS);
            if !last {
                return Err(format!("P2: the lock is taken from a switch in {:?}", progress.phase));
            }
        }
        Ok(Done::Lock(vec![format!("{who:?} held the lock")]))
    }

    /// The old system does not come back: with any code, having moved or not.
    fn old_fails(&mut self, old: &StorePath, half_before: bool) -> Done {
        let moved = self.chance.one_in(2);
        let how = self.chance.below(5);
        if how == 0 {
            // Refused, or it has found something amiss before it did anything.
            self.host.half_done = half_before;
            return Done::Exit(self.chance.pick(&[1, 11, 100]));
        }
        if moved {
            self.host.running = Some(old.clone());
        }
        // With 2 it may have carried on, wherever it was.
        let whole = how == 1 && self.host.running.as_ref() == Some(old);
        self.host.half_done = !whole;
        match how {
            1 => Done::Exit(2),
            2 => {
                self.hangs();
                Done::Broke("timed out".into())
            }
            _ => {
                (self.traces.began, self.traces.unfinished) = (true, true);
                Done::Exit(self.chance.pick(&ERRNOS))
            }
        }
    }

    /// Leaves a unit for which the time may have run out.
    fn hangs(&mut self) {
        if self.policy.units && self.chance.one_in(2) {
            let stopping = self.chance.one_in(2);
            self.traces.hanging.push(Hanging { unit: "stuck.service".into(), stopping });
        }
    }

    /// Whether a switch is giving back what was the default.
    fn returns(&self, id: &JobId) -> bool {
        match &self.host.jobs[id].task {
            Task::Switch { progress: Some(progress), .. } => {
                matches!(progress.phase, Phase::Returning { .. })
            }
            Task::Switch { progress: None, .. } => false,
            Task::Realise { .. } | Task::Publish { .. } => false,
        }
    }

    /// The agent was not in the system that was left, or is started by a timer.
    fn agent_may_start(&mut self) {
        if self.agent.is_none() {
            let incarnation = self.incarnation;
            self.schedule(3_000, Tick::AgentStarts(incarnation));
        }
    }

    fn profile_fails(&mut self) -> Option<String> {
        let fails = self.host.profile_failures > 0;
        self.host.profile_failures = self.host.profile_failures.saturating_sub(1);
        fails.then(|| "no space left on device".into())
    }
}

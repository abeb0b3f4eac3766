//! Whether a switch job ended as it says it did: P5, from what is there.

use super::world::{World, Wrong};
use crate::job::{Ending, How, JobId, SwitchOrder, SwitchOutcome};

impl World {
    /// Checks that a switch job ends as it says it did.
    pub(super) fn check_outcome(
        &mut self,
        id: &JobId,
        order: &SwitchOrder,
        outcome: &SwitchOutcome,
    ) -> Result<(), Wrong> {
        let host = &self.host;
        let candidate = Some(&order.candidate);
        let runs = host.running.as_ref() == candidate;
        let old_runs = host.running == order.old;
        let defaults = order.order.target.operation.sets_default();
        let is_default =
            host.profile_system() == candidate && host.boot_loader.as_ref() == candidate;
        let was_default = order.old.as_ref() == candidate
            || order.profile.as_ref().map(|generation| &generation.system) == candidate
                && order.how == How::Activate;
        let left_default = was_default
            || host.profile_system() != candidate && host.boot_loader.as_ref() != candidate;
        let rebooted = order.order.boot_id != self.boot_id();
        let hand = self.truth.hand_at.is_some_and(|at| at >= self.host.jobs[id].ordered);
        let right = match outcome.ending {
            Some(Ending::Good) => {
                runs && !host.half_done
                    && self.truth.verified.contains(&order.candidate)
                    && (!defaults || is_default)
            }
            // Nothing is activated: what runs may be another hand's.
            Some(Ending::RolledBack) if order.how.restores() => {
                !runs && !host.half_done && left_default
            }
            // A reboot puts back as well: to what was the default then.
            Some(Ending::RolledBack) => {
                (old_runs || rebooted && !runs) && !host.half_done && left_default
            }
            Some(Ending::Failed) => {
                // Refused, it leaves a half-activated system that was adopted, for
                // want of a better one, as it found it.
                let adopted = |running| self.truth.adopted.contains(running);
                let whole = !host.half_done || host.running.as_ref().is_some_and(adopted);
                // What was only to be booted may be activated by a person meanwhile.
                let untouched = host.running == order.running || hand && runs;
                order.old.is_none() || untouched && whole && left_default
            }
            Some(Ending::Interrupted) => {
                (rebooted || old_runs || host.running == order.running) && !host.half_done
            }
            Some(Ending::Superseded) => hand,
            None => {
                let once = |kept| {
                    // A boot in the middle of it has booted it, the once.
                    let armed = host.oneshot.as_ref() == candidate;
                    let writes = host.boot_loader.as_ref() == Some(kept);
                    host.profile_system() == Some(kept) && (armed && writes || rebooted && runs)
                };
                defaults && outcome.kept.as_ref().map_or(is_default, once)
            }
        };
        if !right {
            return Err(format!(
                "P5: {:?} ({:?}), but running {:?}, old {:?}, profile {:?}, boot loader {:?}, \
                 half-done {}, hand {hand}",
                outcome.ending,
                outcome.cause,
                host.running,
                order.old,
                host.profile_system(),
                host.boot_loader,
                host.half_done
            ));
        }
        if outcome.deferred && self.host.oneshot.as_ref() == Some(&order.candidate) {
            // Whoever has lost the journal learns it from this.
            self.host.orphaned = false;
        }
        match outcome.ending {
            Some(Ending::Good) => {
                self.truth.failures.remove(&order.candidate);
                self.truth.deferred.remove(&order.candidate);
            }
            Some(Ending::RolledBack) => {
                if order.how.asked().is_some() {
                    self.truth.gave_up.insert(order.candidate.clone());
                }
                self.truth.deferred.remove(&order.candidate);
            }
            // One that only met a lock still awaits its first verification.
            Some(Ending::Failed) if order.old.is_some() => {
                if outcome.counts {
                    self.truth.deferred.remove(&order.candidate);
                }
            }
            // With nothing to put back it is left, for want of a better one.
            Some(Ending::Failed) => self.truth.adopted.extend(self.host.running.clone()),
            // It is the default no more, and must not become it unverified.
            None if outcome.kept.is_some() && !rebooted => {
                self.truth.deferred.remove(&order.candidate);
            }
            Some(_) | None => {}
        }
        self.truth.outcomes.insert(id.deployment.clone(), outcome.ending);
        Ok(())
    }
}

//! Activating the candidate: from how `switch-to-configuration test` ended to what follows.
//!
//! The program of nixpkgs ends with 0, 1, 2, 4, 11 or 100 where it means that, and many errors
//! with the last errno of any call: 11 is EAGAIN far more often than the lock, 4 may be EINTR and
//! 2 ENOENT, whatever had been stopped by then; and 1 is any error that it did not foresee. So a
//! code counts for what it says only where the host and the output agree with it. All else puts
//! the old system back, which does no harm where nothing had begun.

use super::lock::{self, Whom};
use super::{Act, Done, Guardian, LOCKED, Phase};
use crate::cause::{Program, SwitchCause};
use crate::job::Ending;
use crate::types::Mono;

/// Exit code of a switch that is done.
const DONE: i32 = 0;
/// Exit code of a switch that is done, where a unit of the host is failed.
const UNITS_FAILED: i32 = 4;
/// Exit code of a refusal: a check before the switch, switch inhibitors.
const REFUSED: i32 = 1;
/// Exit code where a reboot is needed and nothing was activated.
const NEEDS_REBOOT: i32 = 100;

impl Guardian<'_> {
    pub(super) fn activating(&self, since: Mono) -> Act {
        if self.rebooted() {
            return self.interrupted_by_reboot();
        }
        let Some(last) = &self.sight.last else {
            return match self.sight.own {
                true => Act::FreeLock(Whom::Strangers),
                false => self.put_back(SwitchCause::Killed, Ending::Interrupted),
            };
        };
        match last {
            Done::Lock(_) => Act::Activate,
            Done::Exit(code) => self.activation_ended(*code, since),
            Done::Broke(_) if self.stuck().is_some() => self.end_stuck(),
            Done::Broke(how) => {
                let (program, how, starting) = (Program::Test, how.clone(), self.starting());
                self.put_back(SwitchCause::Broke { program, how, starting }, Ending::RolledBack)
            }
            Done::UnitsEnded(units) => {
                self.put_back(SwitchCause::UnitsHung { units: units.clone() }, Ending::RolledBack)
            }
            // Whoever held the lock may have put something else there. The candidate is what
            // this one is to activate, whoever did so before.
            Done::Waited => self
                .other_hand()
                .filter(|_| !self.candidate_runs())
                .unwrap_or(Act::FreeLock(Whom::Strangers)),
            Done::Profile(_) | Done::Oneshot(_) | Done::Bus | Done::Units(_) => {
                self.put_back(SwitchCause::Lost, Ending::Interrupted)
            }
        }
    }

    fn activation_ended(&self, code: i32, since: Mono) -> Act {
        // What runs says nothing where the candidate did so before.
        let arrived = self.candidate_runs() && self.sight.running != self.order.running;
        let untouched = !self.sight.traces.began && !arrived;
        let unmoved = untouched && self.sight.running == self.order.running;
        let ended = |code, early| {
            let program = Program::Test;
            self.put_back(SwitchCause::Exit { program, code, early }, Ending::RolledBack)
        };
        match code {
            DONE | UNITS_FAILED if self.candidate_runs() => match self.sight.traces.unfinished {
                false => self.note(Phase::Activated { at: self.now }),
                true => ended(code, true),
            },
            DONE | UNITS_FAILED => self
                .other_hand()
                .unwrap_or_else(|| self.put_back(SwitchCause::NotRunning, Ending::RolledBack)),
            REFUSED if unmoved => self.refused(SwitchCause::Refused),
            LOCKED if untouched && self.met_the_lock() => {
                match self.now.since(since) < self.order.activation_timeout {
                    true => self.wait_for_the_lock(),
                    false => self.finish(Ending::Failed, lock::cause(&self.sight.lock), false),
                }
            }
            NEEDS_REBOOT if unmoved && self.order.target_sets_default() => {
                self.defer(&SwitchCause::NeedsReboot { testing: false }.to_string())
            }
            NEEDS_REBOOT if unmoved => self.refused(SwitchCause::NeedsReboot { testing: true }),
            code => ended(code, false),
        }
    }

    /// Returns the units that could not be stopped while the last program had time, if any.
    pub(super) fn stuck(&self) -> Option<Vec<String>> {
        let stuck = self.sight.traces.hanging.iter().filter(|hanging| hanging.stopping);
        let stuck: Vec<String> = stuck.map(|hanging| hanging.unit.clone()).collect();
        (!stuck.is_empty()).then_some(stuck)
    }

    /// Kills the units that could not be stopped: the way back would wait for the same.
    pub(super) fn end_stuck(&self) -> Act {
        Act::EndUnits(self.stuck().unwrap_or_default())
    }

    /// Returns the units that systemd was starting when the time of the last program ran out.
    pub(super) fn starting(&self) -> Vec<String> {
        let starting = self.sight.traces.hanging.iter().filter(|hanging| !hanging.stopping);
        starting.map(|hanging| hanging.unit.clone()).collect()
    }
}

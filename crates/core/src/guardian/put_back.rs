//! Putting the old system back: a ladder of ways to activate it, then the
//! default that was there before. Each rung has an end, whatever is in its way.

use std::time::Duration;

use super::lock::{self, LOCK_LIMIT, Whom};
use super::{Act, Done, Guardian, LOCKED, Phase, Progress, RUNGS, WayBack};
use crate::cause::{Cause, Program, SwitchCause, killed};
use crate::job::{Ending, How};
use crate::types::StorePath;

/// Largest cause after the processes that had to be ended are appended, in bytes.
const CAUSE_LIMIT: usize = 2048;

impl Guardian<'_> {
    pub(super) fn putting_back(&self, back: &WayBack) -> Act {
        let cause = &back.cause;
        let Some(old) = &self.order.old else {
            // Nothing ran before: a bad system is better than none.
            return self.finish(Ending::Failed, cause.clone(), !back.blameless);
        };
        let running = self.sight.running.as_ref();
        let booted = self.order.profile.as_ref().map(|generation| &generation.system);
        let ours = running == Some(&self.order.candidate)
            || running == Some(old)
            || running == self.order.running.as_ref()
            || running.is_none()
            || (self.rebooted() && running == booted);
        if !ours && self.rebooted() {
            // By its boot loader, or a person in front of it.
            let words = format!("{cause}; then the host was rebooted into another system");
            return self.finish(Ending::Interrupted, cause.worded(words), true);
        }
        // What a person wants to leave has been left, and is there again.
        let again = self.order.how.asked().is_some()
            && back.activated
            && running == Some(&self.order.candidate)
            && !self.rebooted();
        if !ours || again {
            return self.superseded();
        }
        // The whole ladder was tried.
        if back.tries > 0 && back.tries.is_multiple_of(RUNGS) {
            match &self.sight.last {
                None if self.reboots_now(back.tries) => return Act::Reboot,
                None | Some(Done::Bus) => return Act::Pause(put_back_pause(back.tries / RUNGS)),
                Some(
                    Done::Exit(_)
                    | Done::Broke(_)
                    | Done::Waited
                    | Done::Profile(_)
                    | Done::Oneshot(_)
                    | Done::Units(_)
                    | Done::Lock(_)
                    | Done::UnitsEnded(_),
                ) => {}
            }
        }
        // After a reboot whatever runs was started whole: only a candidate that
        // booted needs to go.
        let candidate = Some(&self.order.candidate);
        let runs_it = self.rebooted() && running == candidate && *old != self.order.candidate;
        let booted_it =
            runs_it || (self.sight.booted.as_ref() == candidate && Some(old) != candidate);
        let whole = self.rebooted() && !booted_it;
        // Even one that was gone before the reboot, or was not activated at all.
        if back.activated && runs_it {
            return self.note_activated(back, false, cause.clone());
        }
        if !back.activated {
            return match whole {
                true => self.note_activated(back, true, cause.clone()),
                false => self.put_back_activation(old, back),
            };
        }
        self.put_back_default(old, back)
    }

    /// Restores the default of before, where that may be another by now.
    fn put_back_default(&self, old: &StorePath, back: &WayBack) -> Act {
        let (cause, ending) = (&back.cause, back.ending);
        let booted = self.order.profile.as_ref().map(|generation| &generation.system);
        let named = self.default();
        let default = self.default_before(old);
        let by_another_hand = named.is_some()
            && named != Some(&self.order.candidate)
            && named != Some(default)
            && named != booted;
        if self.progress.default_touched && by_another_hand {
            return self.superseded();
        }
        let candidates = named == Some(&self.order.candidate) && default != &self.order.candidate;
        if !self.progress.default_touched {
            // A system that was deferred is the default already, or has a
            // generation and an entry of its own.
            let deferred = match &self.order.how {
                How::Verify => (candidates || self.order.once) && self.order.target_sets_default(),
                How::Activate => candidates && self.order.default_instead.is_some(),
                How::Boot { .. } | How::Restore(_) => false,
            };
            return if deferred {
                // Written down first: once the profile is put back, nothing
                // else says that the boot loader still has to be.
                let phase = self.progress.phase.clone();
                Act::Note(Progress { phase, default_touched: true, ..self.progress.clone() })
            } else {
                self.finish(ending, cause.clone(), !back.blameless)
            };
        }
        let boot = |what: &str| format!("{}: {what}", Program::Boot);
        match &self.sight.last {
            Some(Done::Profile(Err(why))) => self.put_back_again(back, why),
            Some(Done::Profile(Ok(()))) if candidates => {
                self.put_back_again(back, "the profile still names the candidate")
            }
            Some(Done::Lock(_)) if candidates => Act::RestoreProfile(default.clone()),
            Some(Done::Lock(told)) => {
                self.telling(back, told).unwrap_or_else(|| Act::WriteOldBoot(default.clone()))
            }
            Some(
                Done::Waited | Done::Oneshot(_) | Done::Bus | Done::Units(_) | Done::UnitsEnded(_),
            )
            | None
                if candidates || self.order.once =>
            {
                Act::RestoreProfile(default.clone())
            }
            Some(Done::Exit(0)) => self.finish(ending, cause.clone(), !back.blameless),
            Some(Done::Exit(LOCKED)) if self.met_the_lock() => self.put_back_locked(back),
            Some(Done::Exit(code)) => {
                self.put_back_again(back, &boot(&format!("exit code {code}")))
            }
            Some(Done::Broke(how)) => self.put_back_again(back, &boot(&how.words)),
            Some(
                Done::Profile(Ok(()))
                | Done::Waited
                | Done::Oneshot(_)
                | Done::Bus
                | Done::Units(_)
                | Done::UnitsEnded(_),
            )
            | None => {
                // The boot loader has no rung that needs no lock. Who has held it through two
                // rungs and a round is not writing the boot loader.
                let last = back.locked && back.tries > RUNGS && back.tries % RUNGS == RUNGS - 1;
                Act::FreeLock(if last { Whom::Everybody } else { Whom::Leftovers })
            }
        }
    }

    /// Returns the default of before: not what was running then, if another hand had activated
    /// that only for this boot.
    fn default_before<'b>(&'b self, old: &'b StorePath) -> &'b StorePath {
        self.order
            .profile
            .as_ref()
            .map(|generation| &generation.system)
            .filter(|system| **system != self.order.candidate)
            .or(self.order.default_instead.as_ref().filter(|_| self.order.how == How::Activate))
            .unwrap_or(old)
    }

    /// Climbs the ladder, each rung judged by what runs and by the units, never by an exit code
    /// alone.
    fn put_back_activation(&self, old: &StorePath, back: &WayBack) -> Act {
        let cause = &back.cause;
        let rung = back.tries % RUNGS;
        let by_hand = rung == RUNGS - 1;
        // Where only the lock was in the way D-Bus is as it should be, and who holds the lock
        // may need it. While it is waited for D-Bus was restarted already.
        let bus = self.order.units && rung == 1 && !back.locked && self.progress.lock.is_none();
        let returned = self.sight.running.as_ref() == Some(old);
        let whole = returned && !self.sight.traces.unfinished;
        let over = |cause: Cause| self.note_activated(back, true, cause);
        match &self.sight.last {
            Some(Done::Waited) | None if by_hand => Act::ReviveOld(old.clone()),
            None if bus => Act::RestartBus,
            Some(Done::Waited | Done::Bus) | None => Act::FreeLock(Whom::Leftovers),
            Some(Done::Lock(told)) => {
                self.telling(back, told).unwrap_or_else(|| Act::ActivateOld(old.clone()))
            }
            Some(Done::Exit(LOCKED)) if !by_hand && self.met_the_lock() => {
                self.put_back_locked(back)
            }
            // Done, or done with errors. With any other code it was refused or
            // broken off, and what runs says nothing about the units: it may
            // have been named by current-system all along.
            Some(Done::Exit(0 | 2 | 4)) if whole && self.order.units => Act::StartUnits,
            Some(Done::Exit(0 | 2 | 4)) if whole => over(cause.clone()),
            Some(Done::Exit(code)) => {
                let (code, early) = (*code, returned && self.sight.traces.unfinished);
                let ended = SwitchCause::Exit { program: rung_runs(by_hand), code, early };
                self.put_back_again(back, &ended.to_string())
            }
            Some(Done::Broke(_)) if self.stuck().is_some() => self.end_stuck(),
            Some(Done::Broke(how)) => {
                let (program, how) = (rung_runs(by_hand), how.clone());
                let ended = SwitchCause::Broke { program, how, starting: self.starting() };
                self.put_back_again(back, &ended.to_string())
            }
            Some(Done::UnitsEnded(units)) => {
                let why = format!("{}: timed out{}", rung_runs(by_hand), killed(units));
                let told = format!("on the way back {why}");
                let cause = told_once(cause, &[told]).unwrap_or_else(|| cause.clone());
                self.put_back_again(&WayBack { cause, ..back.clone() }, &why)
            }
            Some(Done::Units(failed)) if returned && failed.is_empty() => over(cause.clone()),
            // Nothing more can be done for them, and the old system does run.
            Some(Done::Units(failed)) if returned && by_hand => {
                let failed = failed.join(", ");
                over(cause.worded(format!("{cause}; from before it, {failed} did not start again")))
            }
            Some(Done::Units(failed)) => {
                let why = match failed.is_empty() {
                    true => "it is not the running system".to_owned(),
                    false => format!("failed: {}", failed.join(", ")),
                };
                self.put_back_again(back, &why)
            }
            Some(Done::Profile(_) | Done::Oneshot(_)) => self.put_back_again(back, "lost its way"),
        }
    }

    /// Writes down once which processes had to be ended for the way back.
    fn telling(&self, back: &WayBack, told: &[String]) -> Option<Act> {
        let cause = told_once(&back.cause, told)?;
        let phase = Phase::PuttingBack(WayBack { cause, ..back.clone() });
        Some(Act::Note(Progress { phase, ..self.progress.clone() }))
    }

    /// Waits for the lock, but no longer than a rung may take for it.
    fn put_back_locked(&self, back: &WayBack) -> Act {
        if self.now.since(self.progress.since) < LOCK_LIMIT {
            return self.wait_for_the_lock();
        }
        let error = Some(lock::cause(&self.sight.lock).to_string());
        let tries = back.tries.saturating_add(1);
        self.note(Phase::PuttingBack(WayBack { tries, error, locked: true, ..back.clone() }))
    }

    /// Whether the host is rebooted now: once, and only into a system that was verified.
    fn reboots_now(&self, tries: u32) -> bool {
        self.order.reboot_if_stuck
            && tries == RUNGS
            && !self.progress.default_touched
            && self.default() != Some(&self.order.candidate)
            && !self.rebooted()
    }

    pub(super) fn put_back(&self, cause: impl Into<Cause>, ending: Ending) -> Act {
        self.note(Phase::PuttingBack(WayBack::begun(cause, ending, false)))
    }

    /// Rolls back to the old system; nobody is to blame for it.
    pub(super) fn put_back_blameless(&self, cause: impl Into<Cause>, ending: Ending) -> Act {
        let back = WayBack { blameless: true, ..WayBack::begun(cause, ending, false) };
        self.note(Phase::PuttingBack(back))
    }

    /// Ends a switch that activated nothing. A default that nobody found good is one no more.
    pub(super) fn refused(&self, cause: SwitchCause) -> Act {
        match self.order.default_instead.is_some() && self.order.old.is_some() {
            true => self.put_default_back(cause, Ending::Failed),
            false => self.finish(Ending::Failed, cause, true),
        }
    }

    /// Puts only the default back: nothing was activated.
    pub(super) fn put_default_back(&self, cause: impl Into<Cause>, ending: Ending) -> Act {
        self.note(Phase::PuttingBack(WayBack::begun(cause, ending, true)))
    }

    /// Puts only the default back: nothing was activated, and nobody is to blame for it.
    pub(super) fn put_default_back_blameless(
        &self,
        cause: impl Into<Cause>,
        ending: Ending,
    ) -> Act {
        let back = WayBack { blameless: true, ..WayBack::begun(cause, ending, true) };
        self.note(Phase::PuttingBack(back))
    }

    /// Writes this down each time, so that what came of activating the old system is not taken
    /// for what comes of writing the boot loader.
    fn note_activated(&self, back: &WayBack, activated: bool, cause: Cause) -> Act {
        let (error, locked) = (None, false);
        self.note(Phase::PuttingBack(WayBack { cause, activated, error, locked, ..back.clone() }))
    }

    pub(super) fn put_back_again(&self, back: &WayBack, why: &str) -> Act {
        let (tries, error) = (back.tries.saturating_add(1), Some(why.to_owned()));
        self.note(Phase::PuttingBack(WayBack { tries, error, locked: false, ..back.clone() }))
    }
}

/// Returns a cause with what was not told in it yet; none where there is nothing to add.
fn told_once(cause: &Cause, told: &[String]) -> Option<Cause> {
    let before = &cause.words;
    let new = told.iter().filter(|words| !before.contains(words.as_str()));
    let longer = new.fold(before.clone(), |cause, words| format!("{cause}; {words}"));
    let fits = longer.len() > before.len() && longer.len() <= CAUSE_LIMIT;
    fits.then(|| cause.worded(longer))
}

/// Returns the program of the old system that a rung runs.
fn rung_runs(by_hand: bool) -> Program {
    if by_hand { Program::Activate } else { Program::Test }
}

fn put_back_pause(rounds: u32) -> Duration {
    Duration::from_secs(1 << rounds.clamp(1, 6))
}

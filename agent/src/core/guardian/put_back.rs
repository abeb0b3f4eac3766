//! Putting the old system back: a ladder of ways to activate it, then the
//! default that was there before.

use std::time::Duration;

use super::{Act, Done, Guardian, LOCKED, Phase, Progress, RUNGS};
use crate::core::job::{Ending, How};
use crate::core::types::StorePath;

impl Guardian<'_> {
    pub(super) fn putting_back(
        &self,
        cause: &str,
        ending: Ending,
        activated: bool,
        tries: u32,
    ) -> Act {
        let Some(old) = &self.order.old else {
            // Nothing ran before: a bad system is better than none.
            return self.finish(Ending::Failed, cause, true);
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
            let cause = format!("{cause}; then the host was rebooted into another system");
            return self.finish(Ending::Interrupted, &cause, true);
        }
        // What a person wants to leave has been left, and is there again.
        let again = self.order.asked.is_some()
            && activated
            && running == Some(&self.order.candidate)
            && !self.rebooted();
        if !ours || again {
            return self.superseded();
        }
        // The whole ladder was tried.
        if tries > 0 && tries.is_multiple_of(RUNGS) {
            match &self.sight.last {
                None if self.reboots_now(tries) => return Act::Reboot,
                None | Some(Done::Bus) => return Act::Pause(put_back_pause(tries / RUNGS)),
                Some(
                    Done::Exit(_)
                    | Done::Broke(_)
                    | Done::Waited
                    | Done::Profile(_)
                    | Done::Oneshot(_)
                    | Done::Units(_),
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
        // Written down each time, so that what came of activating it is not
        // taken for what comes of writing the boot loader.
        let note = |activated: bool| {
            let (cause, error) = (cause.to_owned(), None);
            self.note(Phase::PuttingBack { cause, ending, activated, tries, error })
        };
        // Even one that was gone before the reboot, or was not activated at all.
        if activated && runs_it {
            return note(false);
        }
        if !activated {
            return if whole {
                note(true)
            } else {
                self.put_back_activation(old, cause, ending, tries)
            };
        }
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
            let deferred = match self.order.how {
                How::Verify => (candidates || self.order.once) && self.order.target_sets_default(),
                How::Activate => candidates && self.order.default_instead.is_some(),
                How::Boot | How::Restore => false,
            };
            return if deferred {
                // Written down first: once the profile is put back, nothing
                // else says that the boot loader still has to be.
                let phase = self.progress.phase.clone();
                Act::Note(Progress { phase, default_touched: true, ..self.progress.clone() })
            } else {
                self.finish(ending, cause, true)
            };
        }
        match &self.sight.last {
            Some(Done::Profile(Err(why))) => self.put_back_again(cause, ending, true, tries, why),
            Some(Done::Profile(Ok(()))) if candidates => {
                let why = "the profile still names the candidate";
                self.put_back_again(cause, ending, true, tries, why)
            }
            Some(Done::Waited | Done::Oneshot(_) | Done::Bus | Done::Units(_)) | None
                if candidates || self.order.once =>
            {
                Act::RestoreProfile(default.clone())
            }
            Some(Done::Exit(0)) => self.finish(ending, cause, true),
            Some(Done::Exit(code)) => {
                let why = format!("switch-to-configuration boot: exit code {code}");
                self.put_back_again(cause, ending, true, tries, &why)
            }
            Some(Done::Broke(why)) => {
                let why = format!("switch-to-configuration boot: {why}");
                self.put_back_again(cause, ending, true, tries, &why)
            }
            Some(
                Done::Profile(Ok(()))
                | Done::Waited
                | Done::Oneshot(_)
                | Done::Bus
                | Done::Units(_),
            )
            | None => Act::WriteOldBoot(default.clone()),
        }
    }

    /// What was the default before: not what was running then, if another hand
    /// had activated that only for this boot.
    fn default_before<'b>(&'b self, old: &'b StorePath) -> &'b StorePath {
        self.order
            .profile
            .as_ref()
            .map(|generation| &generation.system)
            .filter(|system| **system != self.order.candidate)
            .or(self.order.default_instead.as_ref().filter(|_| self.order.how == How::Activate))
            .unwrap_or(old)
    }

    /// The ladder, each rung judged by what runs and by the units, never by an
    /// exit code alone.
    fn put_back_activation(&self, old: &StorePath, cause: &str, ending: Ending, tries: u32) -> Act {
        let back = self.sight.running.as_ref() == Some(old);
        let rung = tries % RUNGS;
        let bus = self.order.units && rung == 1;
        let by_hand = rung == 2;
        let over = |cause: String| {
            self.note(Phase::PuttingBack { cause, ending, activated: true, tries, error: None })
        };
        match &self.sight.last {
            Some(Done::Waited) | None if by_hand => Act::ReviveOld(old.clone()),
            Some(Done::Waited) | None if bus => Act::RestartBus,
            Some(Done::Waited | Done::Bus) | None => Act::ActivateOld(old.clone()),
            Some(Done::Exit(LOCKED)) if !by_hand => self.wait_for_the_lock(),
            // Done, or done with errors. With any other code it was refused or
            // broken off, and what runs says nothing about the units: it may
            // have been named by current-system all along.
            Some(Done::Exit(0 | 2 | 4)) if back && self.order.units => Act::StartUnits,
            Some(Done::Exit(0 | 2 | 4)) if back => over(cause.to_owned()),
            Some(Done::Exit(code)) => {
                let why = format!("{}: exit code {code}", way(by_hand));
                self.put_back_again(cause, ending, false, tries, &why)
            }
            Some(Done::Broke(why)) => {
                let why = format!("{}: {why}", way(by_hand));
                self.put_back_again(cause, ending, false, tries, &why)
            }
            Some(Done::Units(failed)) if back && failed.is_empty() => over(cause.to_owned()),
            // Nothing more can be done for them, and the old system does run.
            Some(Done::Units(failed)) if back && by_hand => {
                over(format!("{cause}; from before it, {} did not start again", failed.join(", ")))
            }
            Some(Done::Units(failed)) => {
                let why = match failed.is_empty() {
                    true => "it is not the running system".to_owned(),
                    false => format!("failed: {}", failed.join(", ")),
                };
                self.put_back_again(cause, ending, false, tries, &why)
            }
            Some(Done::Profile(_) | Done::Oneshot(_)) => {
                self.put_back_again(cause, ending, false, tries, "lost its way")
            }
        }
    }

    /// Once, and only into a system that was verified.
    fn reboots_now(&self, tries: u32) -> bool {
        self.order.reboot_if_stuck
            && tries == RUNGS
            && !self.progress.default_touched
            && self.default() != Some(&self.order.candidate)
            && !self.rebooted()
    }

    pub(super) fn put_back(&self, cause: &str, ending: Ending) -> Act {
        self.note(Phase::PuttingBack {
            cause: cause.to_owned(),
            ending,
            activated: false,
            tries: 0,
            error: None,
        })
    }

    /// It was not activated. A default that nobody found good is one no more.
    pub(super) fn refused(&self, cause: &str) -> Act {
        match self.order.default_instead.is_some() && self.order.old.is_some() {
            true => self.put_default_back(cause.to_owned(), Ending::Failed),
            false => self.finish(Ending::Failed, cause, true),
        }
    }

    /// Nothing was activated: only the default is put back.
    pub(super) fn put_default_back(&self, cause: String, ending: Ending) -> Act {
        let (activated, tries, error) = (true, 0, None);
        self.note(Phase::PuttingBack { cause, ending, activated, tries, error })
    }

    fn put_back_again(
        &self,
        cause: &str,
        ending: Ending,
        activated: bool,
        tries: u32,
        why: &str,
    ) -> Act {
        self.note(Phase::PuttingBack {
            cause: cause.to_owned(),
            ending,
            activated,
            tries: tries.saturating_add(1),
            error: Some(why.to_owned()),
        })
    }
}

fn way(by_hand: bool) -> &'static str {
    if by_hand { "activate" } else { "switch-to-configuration test" }
}

fn put_back_pause(rounds: u32) -> Duration {
    Duration::from_secs(1 << rounds.clamp(1, 6))
}

//! Making what was found good the default: profile, then boot loader.

use super::lock::{self, Whom};
use super::{Act, Done, Guardian, LOCKED};
use crate::cause::{Program, RebootedBefore, SwitchCause};
use crate::job::Ending;

/// Progress of making the candidate the default.
pub(super) enum Default {
    Act(Act),
    Set,
    Failed(SwitchCause),
    /// The lock was not let go, which is nobody's fault.
    Locked(SwitchCause),
}

impl Guardian<'_> {
    pub(super) fn committing(&self) -> Act {
        if self.sight.running.as_ref() != Some(&self.order.candidate) {
            // After a reboot into the old system the profile is ahead of what
            // was seen to run: begin again from the last good one.
            return if self.rebooted() {
                let before = RebootedBefore::Commit;
                self.put_back(SwitchCause::Rebooted { before }, Ending::Interrupted)
            } else {
                self.superseded()
            };
        }
        match self.set_default() {
            Default::Act(act) => act,
            Default::Set => self.finish_good(),
            Default::Failed(why) => self.put_back(why, Ending::RolledBack),
            Default::Locked(why) => self.put_back_blameless(why, Ending::RolledBack),
        }
    }

    /// Sets profile, then boot loader, repeated until both are known to be done: the boot loader
    /// lists the profile's generations.
    pub(super) fn set_default(&self) -> Default {
        let named = self.default();
        if named != Some(&self.order.candidate) {
            return match &self.sight.last {
                Some(Done::Profile(Err(why))) => {
                    Default::Failed(SwitchCause::Profile { error: Some(why.clone()) })
                }
                // Neither what was there nor the candidate: another hand.
                _ if self.sight.profile != self.order.profile => Default::Act(self.superseded()),
                Some(Done::Profile(Ok(()))) => {
                    Default::Failed(SwitchCause::Profile { error: None })
                }
                Some(
                    Done::Exit(_)
                    | Done::Broke(_)
                    | Done::Waited
                    | Done::Oneshot(_)
                    | Done::Bus
                    | Done::Units(_)
                    | Done::Lock(_)
                    | Done::UnitsEnded(_),
                )
                | None => Default::Act(Act::SetProfile),
            };
        }
        match &self.sight.last {
            Some(Done::Exit(0)) => Default::Set,
            Some(Done::Exit(LOCKED)) if self.met_the_lock() => match self.waited_for_the_lock() {
                false => Default::Act(self.wait_for_the_lock()),
                true => Default::Locked(lock::cause(&self.sight.lock)),
            },
            Some(Done::Exit(code)) => {
                let (program, code, early) = (Program::Boot, *code, false);
                Default::Failed(SwitchCause::Exit { program, code, early })
            }
            Some(Done::Broke(how)) => {
                let (program, how, starting) = (Program::Boot, how.clone(), Vec::new());
                Default::Failed(SwitchCause::Broke { program, how, starting })
            }
            Some(Done::Lock(_)) => Default::Act(Act::WriteBoot),
            Some(
                Done::Profile(_)
                | Done::Oneshot(_)
                | Done::Waited
                | Done::Bus
                | Done::Units(_)
                | Done::UnitsEnded(_),
            )
            | None => Default::Act(Act::FreeLock(Whom::Strangers)),
        }
    }
}

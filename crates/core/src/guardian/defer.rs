//! Leaving a system to the next boot.
//!
//! The system becomes the default, for only so it gets an entry of the boot loader's. Where that
//! one can boot an entry once, it is told to, and what was the default before becomes it again: a
//! kernel that does not come up is then followed, after a reset, by one that does. Whatever of
//! this cannot be done leaves the candidate the default.

use super::commit::Default;
use super::lock::Whom;
use super::{Act, Done, Guardian, LOCKED, Phase};
use crate::cause::{RebootedBefore, SwitchCause};
use crate::job::{Ending, SwitchOutcome};
use crate::policy::Operation;
use crate::types::StorePath;

impl Guardian<'_> {
    pub(super) fn deferring(&self, why: &str, stays: bool) -> Act {
        // Once, and of what boots by default nothing is known but that it is to
        // be the candidate.
        let booted = self.rebooted() && stays && self.candidate_runs();
        if self.rebooted() && !booted {
            return self.rebooted_while_deferring(why);
        }
        if let Some(superseded) = self.other_hand().filter(|_| !booted) {
            return superseded;
        }
        if let (true, Some(Done::Oneshot(set))) = (self.names_candidate(), &self.sight.last) {
            return match set {
                Ok(()) => self.note(Phase::Returning { why: why.to_owned() }),
                Err(_) => self.stays_default(why),
            };
        }
        match self.set_default() {
            Default::Act(act) => act,
            Default::Set => match self.oneshot() {
                Some(act) if !stays => act,
                Some(_) | None => self.stays_default(why),
            },
            Default::Failed(why) => self.put_default_back(why, Ending::RolledBack),
            Default::Locked(why) => self.put_default_back_blameless(why, Ending::Failed),
        }
    }

    /// Returns the act that has the candidate booted once; only in favour of a default that runs.
    fn oneshot(&self) -> Option<Act> {
        let next = self.sight.profile.clone()?;
        let default = self.order.profile.clone()?;
        let other = default.system != self.order.candidate;
        let runs = Some(&default.system) == self.order.old.as_ref();
        (other && runs).then_some(Act::SetOneshot { next, default })
    }

    pub(super) fn returning(&self, why: &str) -> Act {
        // Without one of before it does not come to this.
        let Some(before) = &self.order.profile else { return self.awaits_boot(why, None) };
        if self.rebooted() {
            return self.rebooted_while_deferring(why);
        }
        if let Some(superseded) = self.other_hand() {
            return superseded;
        }
        if self.names_candidate() {
            return match &self.sight.last {
                // It is what the boot loader boots, and so it stays.
                Some(Done::Profile(_)) => self.stays_default(why),
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
                | None => Act::ReturnProfile(before.clone()),
            };
        }
        if self.sight.profile.as_ref() != Some(before) {
            return self.superseded();
        }
        match &self.sight.last {
            Some(Done::Exit(0)) => self.awaits_boot(why, Some(&before.system)),
            Some(Done::Exit(LOCKED)) if self.met_the_lock() && !self.waited_for_the_lock() => {
                self.wait_for_the_lock()
            }
            // What it boots now is not known.
            Some(Done::Exit(_) | Done::Broke(_)) => {
                self.note(Phase::Deferring { why: why.to_owned(), stays: true })
            }
            Some(Done::Lock(_)) => Act::WriteOldBoot(before.system.clone()),
            Some(
                Done::Profile(_)
                | Done::Oneshot(_)
                | Done::Waited
                | Done::Bus
                | Done::Units(_)
                | Done::UnitsEnded(_),
            )
            | None => Act::FreeLock(Whom::Strangers),
        }
    }

    /// Leaves the candidate the default for good, unverified. One that was found bad may only be
    /// booted once.
    fn stays_default(&self, why: &str) -> Act {
        let failed = self.order.suspect && self.order.old.is_some();
        match (failed && !self.rebooted(), self.order.order.target.operation) {
            (true, Operation::Switch) => {
                let cause = SwitchCause::Suspect { why: why.to_owned() };
                self.put_default_back(cause, Ending::RolledBack)
            }
            // The operator wants it to be booted, and nothing else.
            (_, Operation::Switch | Operation::Boot | Operation::Test) => {
                self.awaits_boot(why, None)
            }
        }
    }

    fn awaits_boot(&self, why: &str, kept: Option<&StorePath>) -> Act {
        Act::Finish(SwitchOutcome {
            ending: None,
            cause: Some(format!("awaits the next boot: {why}")),
            why: None,
            counts: false,
            stages: self.stages_until_now(),
            checks: Vec::new(),
            deferred: true,
            kept: kept.cloned(),
        })
    }

    fn rebooted_while_deferring(&self, why: &str) -> Act {
        if !self.candidate_runs() {
            let cause = SwitchCause::Rebooted { before: RebootedBefore::Commit };
            return self.put_default_back(cause, Ending::Interrupted);
        }
        // Into the candidate: that is what it was made the default for, or what
        // is booted once.
        let before = self.order.profile.as_ref().filter(|_| !self.names_candidate());
        self.awaits_boot(why, before.map(|generation| &generation.system))
    }

    fn names_candidate(&self) -> bool {
        self.default() == Some(&self.order.candidate)
    }
}

//! Decides what a switch job does next: activate, wait for the verdict, then commit or roll back
//! to the old system.
//!
//! The guardian is the old binary, outside the agent's unit, and finishes by
//! itself: the new system may have taken agent, network and D-Bus with it. It
//! may be killed at any moment and started again, so every phase is written
//! down before it begins, and judged by what is there, never by what was about
//! to be done. The profile and the boot loader are not touched before a good
//! verdict: until then a power cut boots the last good system.

mod activate;
mod blind;
mod commit;
mod defer;
pub mod lock;
mod model;
mod put_back;

pub use self::model::{Act, Done, Hanging, Phase, Progress, Sight, Traces, WayBack};
use super::cause::{Cause, RebootedBefore, SwitchCause};
use super::job::{Check, Ending, How, Restore, Stages, SwitchOrder, SwitchOutcome};
use super::types::{Mono, StorePath};

/// Exit code of `switch-to-configuration` where another one holds the lock, or of any other
/// EAGAIN.
pub const LOCKED: i32 = 11;
/// Number of rungs of the way back: `switch-to-configuration`; the same with D-Bus and logind
/// started anew; the old system's `activate` and units by hand. After the last one it begins
/// again, with a pause.
pub const RUNGS: u32 = 3;

/// Returns the guardian's next act.
pub fn act(order: &SwitchOrder, progress: &Progress, sight: &Sight, now: Mono) -> Act {
    let g = Guardian { order, progress, sight, now };
    if let Some(act) = g.blind() {
        return act;
    }
    match &progress.phase {
        Phase::Ready => g.ready(),
        Phase::Activating { since } => g.activating(*since),
        Phase::Activated { at } => g.activated(*at),
        Phase::Committing => g.committing(),
        Phase::Deferring { why, stays } => g.deferring(why, *stays),
        Phase::Returning { why } => g.returning(why),
        Phase::PuttingBack(back) => g.putting_back(back),
    }
}

struct Guardian<'a> {
    order: &'a SwitchOrder,
    progress: &'a Progress,
    sight: &'a Sight,
    now: Mono,
}

impl Guardian<'_> {
    fn ready(&self) -> Act {
        if self.rebooted() {
            let before = RebootedBefore::Beginning;
            return self.finish(Ending::Interrupted, SwitchCause::Rebooted { before }, false);
        }
        if let Some(superseded) = self.other_hand() {
            return superseded;
        }
        match &self.order.how {
            How::Activate => self.note(Phase::Activating { since: self.now }),
            How::Verify => self.note(Phase::Activated { at: self.now }),
            How::Boot { why } => self.defer(why),
            How::Restore(restore) => {
                let cause = match restore {
                    Restore::Asked { reason } => SwitchCause::Asked { reason: reason.clone() },
                    Restore::FellBack if self.order.once => SwitchCause::DidNotComeUp,
                    Restore::FellBack => SwitchCause::BootGaveUp,
                };
                // What only awaits its boot does not run: nothing is activated for it.
                let runs = self.sight.running.as_ref() == Some(&self.order.candidate);
                let activated = *restore == Restore::FellBack || !runs;
                let phase =
                    Phase::PuttingBack(WayBack::begun(cause, Ending::RolledBack, activated));
                let (since, stages) = (self.now, self.stages_until_now());
                let (default_touched, deferred) = (true, false);
                Act::Note(Progress { phase, since, default_touched, deferred, stages, lock: None })
            }
        }
    }

    fn activated(&self, at: Mono) -> Act {
        if self.rebooted() {
            return self.interrupted_by_reboot();
        }
        if !self.candidate_runs() {
            return self.superseded();
        }
        match &self.sight.verdict {
            Some(verdict) if verdict.good && self.order.target_sets_default() => {
                self.note(Phase::Committing)
            }
            Some(verdict) if verdict.good => self.finish_good(),
            Some(verdict) => self.put_back(verdict.why_bad(), Ending::RolledBack),
            None if self.now.since(at) >= self.order.health_timeout => {
                self.put_back(SwitchCause::NoVerdict, Ending::RolledBack)
            }
            None => Act::AwaitVerdict(at.plus(self.order.health_timeout)),
        }
    }

    fn default(&self) -> Option<&StorePath> {
        self.sight.profile.as_ref().map(|generation| &generation.system)
    }

    fn defer(&self, why: &str) -> Act {
        self.note(Phase::Deferring { why: why.to_owned(), stays: false })
    }

    fn note(&self, phase: Phase) -> Act {
        let deferred = self.progress.deferred || matches!(phase, Phase::Deferring { .. });
        let default_touched =
            self.progress.default_touched || deferred || phase == Phase::Committing;
        Act::Note(Progress {
            phase,
            since: self.now,
            default_touched,
            deferred,
            stages: self.stages_until_now(),
            lock: None,
        })
    }

    fn finish_good(&self) -> Act {
        let (cause, checks) = self.verdict_words();
        Act::Finish(SwitchOutcome {
            ending: Some(Ending::Good),
            cause,
            why: None,
            counts: false,
            stages: self.stages_until_now(),
            checks,
            deferred: self.progress.deferred,
            kept: None,
        })
    }

    fn finish(&self, ending: Ending, cause: impl Into<Cause>, counts: bool) -> Act {
        let Cause { words, why } = cause.into();
        Act::Finish(SwitchOutcome {
            ending: Some(ending),
            cause: Some(words),
            why,
            counts,
            stages: self.stages_until_now(),
            checks: self.verdict_words().1,
            deferred: self.progress.deferred,
            kept: None,
        })
    }

    fn verdict_words(&self) -> (Option<String>, Vec<Check>) {
        self.sight
            .verdict
            .as_ref()
            .map(|verdict| (verdict.cause.clone(), verdict.checks.clone()))
            .unwrap_or_default()
    }

    fn superseded(&self) -> Act {
        let running = self.sight.running.clone();
        self.finish(Ending::Superseded, SwitchCause::OtherHand { running }, false)
    }

    /// Finishes as superseded where something else runs than when the job was ordered.
    fn other_hand(&self) -> Option<Act> {
        (self.sight.running != self.order.running).then(|| self.superseded())
    }

    fn candidate_runs(&self) -> bool {
        self.sight.running.as_ref() == Some(&self.order.candidate)
    }

    fn rebooted(&self) -> bool {
        self.sight.boot_id != self.order.order.boot_id
    }

    fn interrupted_by_reboot(&self) -> Act {
        let before = RebootedBefore::Verdict;
        self.finish(Ending::Interrupted, SwitchCause::Rebooted { before }, true)
    }

    fn stages_until_now(&self) -> Stages {
        let mut stages = self.progress.stages;
        if self.rebooted() {
            return stages;
        }
        let took = self.now.since(self.progress.since).as_millis();
        let took = Some(u64::try_from(took).unwrap_or(u64::MAX));
        match &self.progress.phase {
            Phase::Ready => {}
            Phase::Activating { .. } => stages.activate = took,
            Phase::Activated { .. } => stages.verify = took,
            Phase::Committing | Phase::Deferring { .. } => stages.commit = took,
            Phase::Returning { .. } => {
                stages.commit = took.map(|took| took + stages.commit.unwrap_or(0));
            }
            Phase::PuttingBack(_) => {
                stages.rollback = took.map(|took| took + stages.rollback.unwrap_or(0));
            }
        }
        stages
    }
}

impl SwitchOrder {
    fn target_sets_default(&self) -> bool {
        self.order.target.operation.sets_default()
    }
}

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
mod put_back;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::lock::{Lock, Whom};
use super::cause::{Broken, Cause, RebootedBefore, SwitchCause};
use super::job::{
    Check, Ending, Generation, How, Restore, Stages, SwitchOrder, SwitchOutcome, Verdict,
};
use super::types::{BootId, Mono, StorePath};
use super::unseen::Unseen;

/// Phase that a switch job is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Phase {
    /// The job has changed nothing yet.
    Ready,
    /// `switch-to-configuration test` of the candidate may be running.
    Activating {
        /// Time at which the activation began.
        since: Mono,
    },
    /// The candidate runs; the agent judges.
    Activated {
        /// Time at which the wait for the verdict began.
        at: Mono,
    },
    /// Verified: profile and boot loader are being set.
    Committing,
    /// The candidate is made the default for the next boot, unverified.
    Deferring {
        /// Why the candidate was not activated.
        why: String,
        /// Whether the candidate stays the default: booting it only once did not work out.
        #[serde(default)]
        stays: bool,
    },
    /// The boot loader boots the candidate once: what was the default before
    /// becomes it again.
    Returning {
        /// Why the candidate was not activated.
        why: String,
    },
    /// The old system is being put back.
    PuttingBack(WayBack),
}

/// State of the way back to the old system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WayBack {
    /// Why the way back is taken, and which processes had to be ended for it.
    #[serde(flatten)]
    pub cause: Cause,
    /// Whether the candidate is to blame, or whoever killed this job.
    pub ending: Ending,
    /// Whether the old system was activated since.
    pub activated: bool,
    /// Number of tries that failed.
    pub tries: u32,
    /// Error of the last try that failed.
    pub error: Option<String>,
    /// Whether only the lock was in the way of the last try.
    #[serde(default)]
    pub locked: bool,
    /// Whether the end of the switch does not count against the candidate.
    #[serde(default)]
    pub blameless: bool,
}

impl WayBack {
    /// A way back that begins: with the activation of the old system, or, where that was never
    /// left, with the default of before.
    pub fn begun(cause: impl Into<Cause>, ending: Ending, activated: bool) -> Self {
        let cause = cause.into();
        let (tries, error, locked, blameless) = (0, None, false, false);
        Self { cause, ending, activated, tries, error, locked, blameless }
    }
}

/// Progress of a switch job, as its `progress.json` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Phase that the job is in.
    pub phase: Phase,
    /// Time at which the phase began.
    pub since: Mono,
    /// Whether profile and boot loader may have been touched.
    pub default_touched: bool,
    /// Whether the boot loader may have been told what to boot once.
    #[serde(default)]
    pub deferred: bool,
    /// The time that finished stages took.
    #[serde(default)]
    pub stages: Stages,
    /// Holder of the lock that the job waits for, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<String>,
}

impl Progress {
    /// Returns the progress of a job that has just been started for the first time.
    pub fn ready(now: Mono) -> Self {
        let (default_touched, deferred) = (false, false);
        Self {
            phase: Phase::Ready,
            since: now,
            default_touched,
            deferred,
            stages: Stages::default(),
            lock: None,
        }
    }
}

/// Observation of the host from which the guardian decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Part of the host that could not be looked at, and since when this process has not been
    /// able to. The fields below that describe it mean nothing.
    pub unseen: Option<(Unseen, Mono)>,
    /// Id of the current boot.
    pub boot_id: BootId,
    /// System that `/run/current-system` names.
    pub running: Option<StorePath>,
    /// System that `/run/booted-system` names.
    pub booted: Option<StorePath>,
    /// Generation that the system profile names.
    pub profile: Option<Generation>,
    /// Verdict of the agent, once there is one.
    pub verdict: Option<Verdict>,
    /// Whether this process wrote the phase down; otherwise the one that did
    /// was killed in it, and what it did in it is not known.
    pub own: bool,
    /// Result of this process's last action in this phase.
    pub last: Option<Done>,
    /// Traces that the last `switch-to-configuration` left besides an exit code.
    pub traces: Traces,
    /// Holder of the lock of `switch-to-configuration` when the last one ended with 11.
    pub lock: Lock,
}

/// The traces of a `switch-to-configuration`, besides its exit code.
///
/// The real program ends many errors with the last errno: its code alone tells neither why it
/// ended nor how far it had come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traces {
    /// Whether the program said that it could not acquire the lock.
    pub locked_out: bool,
    /// Whether the program said that it stops units or activates: it had begun to change the
    /// host.
    pub began: bool,
    /// Whether the program left its list of units that are still to be started behind: it did not
    /// come to its end.
    pub unfinished: bool,
    /// Units that systemd was still stopping or starting when the program's time ran out.
    pub hanging: Vec<Hanging>,
}

/// A unit whose job did not end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hanging {
    /// Name of the unit.
    pub unit: String,
    /// Whether the unit was being stopped, rather than started.
    pub stopping: bool,
}

/// Result of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// A `switch-to-configuration` ended with this code.
    Exit(i32),
    /// The program was killed, ran out of time or could not be started.
    Broke(Broken),
    /// The waiting is over.
    Waited,
    /// The profile was set, or put back.
    Profile(Result<(), String>),
    /// The boot loader was told what to boot once.
    Oneshot(Result<(), String>),
    /// D-Bus and logind were started anew, as far as that went.
    Bus,
    /// The units that ran before were started; these are newly failed.
    Units(Vec<String>),
    /// The lock was looked after; the processes that held it and hold it no more, in words.
    Lock(Vec<String>),
    /// Units that could not be stopped were killed.
    UnitsEnded(Vec<String>),
}

/// Next action of the job. All but `Note`, `LookAgain` and `Finish` report in [`Sight::last`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Write this progress down; then look again.
    Note(Progress),
    /// Look which processes hold the lock of `switch-to-configuration`, and take it from those
    /// that have no claim to it. Comes before each of these programs.
    FreeLock(Whom),
    /// Run `switch-to-configuration test` of the candidate.
    Activate,
    /// Wait for the verdict, until this time.
    AwaitVerdict(Mono),
    /// Wait for this long.
    Pause(Duration),
    /// Wait this long and look again, as if nothing had happened meanwhile: what
    /// [`Sight::last`] says stays.
    LookAgain(Duration),
    /// Let the profile name the candidate, as a new generation.
    SetProfile,
    /// Run `switch-to-configuration boot` of the candidate.
    WriteBoot,
    /// Run `switch-to-configuration test` of the old system.
    ActivateOld(StorePath),
    /// Start D-Bus and logind anew: `switch-to-configuration` needs both.
    RestartBus,
    /// Without `switch-to-configuration`: run the old system's `activate`, then
    /// let systemd read its units and start what it wants.
    ReviveOld(StorePath),
    /// Start what ran before the candidate and does not now.
    StartUnits,
    /// Kill units that could not be stopped: everything would wait for them.
    EndUnits(Vec<String>),
    /// Reboot the host: the boot loader still has the last good system.
    Reboot,
    /// Let the profile name this system again, by its own generation, and
    /// delete what was made for the candidate. It is what was the default
    /// before, which need not be what was running.
    RestoreProfile(StorePath),
    /// Run `switch-to-configuration boot` of what was the default before.
    WriteOldBoot(StorePath),
    /// Let the boot loader boot `next` the next time, and only then; `default`
    /// is what it is to boot after that, so it must be able to.
    SetOneshot {
        /// Generation of the candidate, to be booted next.
        next: Generation,
        /// Generation that was the default before.
        default: Generation,
    },
    /// Let the profile name this generation again, and keep what was made for
    /// the candidate: its entry is still to be booted.
    ReturnProfile(Generation),
    /// Write the outcome: the job is over.
    Finish(SwitchOutcome),
}

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

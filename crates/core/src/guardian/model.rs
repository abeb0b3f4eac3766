//! What a guardian writes down, sees, and does.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::lock::{Lock, Whom};
use crate::cause::{Broken, Cause};
use crate::job::{Ending, Generation, Stages, SwitchOutcome, Verdict};
use crate::types::{BootId, Mono, StorePath};
use crate::unseen::Unseen;

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

//! What a switch job does next: activate, wait for the verdict, then commit or
//! put the old system back.
//!
//! The guardian is the old binary, outside the agent's unit, and finishes by
//! itself: the new system may have taken agent, network and D-Bus with it. It
//! may be killed at any moment and started again, so every phase is written
//! down before it begins, and judged by what is there, never by what was about
//! to be done. The profile and the boot loader are not touched before a good
//! verdict: until then a power cut boots the last good system.

mod commit;
mod defer;
mod put_back;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::job::{Check, Ending, Generation, How, Stages, SwitchOrder, SwitchOutcome, Verdict};
use super::types::{BootId, Mono, StorePath};

/// How far the job is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Phase {
    /// Nothing was done.
    Ready,
    /// `switch-to-configuration test` of the candidate may be running.
    Activating {
        /// Since when.
        since: Mono,
    },
    /// The candidate runs; the agent judges.
    Activated {
        /// Since when.
        at: Mono,
    },
    /// Verified: profile and boot loader are being set.
    Committing,
    /// The candidate is made the default for the next boot, unverified.
    Deferring {
        /// Why it was not activated.
        why: String,
        /// Whether it stays the default: booting it only once did not work out.
        #[serde(default)]
        stays: bool,
    },
    /// The boot loader boots the candidate once: what was the default before
    /// becomes it again.
    Returning {
        /// Why it was not activated.
        why: String,
    },
    /// The old system is being put back.
    PuttingBack {
        /// Why.
        cause: String,
        /// Whether the candidate is to blame, or whoever killed this job.
        ending: Ending,
        /// Whether the old system was activated since.
        activated: bool,
        /// How often that failed.
        tries: u32,
        /// Why, the last time.
        error: Option<String>,
    },
}

/// The job's `progress.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// How far it is.
    pub phase: Phase,
    /// When that began.
    pub since: Mono,
    /// Whether profile and boot loader may have been touched.
    pub default_touched: bool,
    /// Whether the boot loader may have been told what to boot once.
    #[serde(default)]
    pub deferred: bool,
    /// The time that finished stages took.
    #[serde(default)]
    pub stages: Stages,
    /// Who holds the lock that it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<String>,
}

impl Progress {
    /// Of a job that has just been started for the first time.
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

/// What the guardian sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Which boot this is.
    pub boot_id: BootId,
    /// What `/run/current-system` names.
    pub running: Option<StorePath>,
    /// What `/run/booted-system` names.
    pub booted: Option<StorePath>,
    /// What the system profile names.
    pub profile: Option<Generation>,
    /// What the agent said.
    pub verdict: Option<Verdict>,
    /// Whether this process wrote the phase down; otherwise the one that did
    /// was killed in it, and what it did in it is not known.
    pub own: bool,
    /// What came of this process's last action in this phase.
    pub last: Option<Done>,
    /// Who holds the lock of `switch-to-configuration`, where that was refused.
    pub lock: Option<String>,
}

/// What came of an action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// A `switch-to-configuration` ended with this code.
    Exit(i32),
    /// It was killed, ran out of time or could not be started.
    Broke(String),
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
}

/// What to do next. All but `Note` and `Finish` report in [`Sight::last`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Write this down; then look again.
    Note(Progress),
    /// Run `switch-to-configuration test` of the candidate.
    Activate,
    /// Wait for the verdict, until then.
    AwaitVerdict(Mono),
    /// Wait this long.
    Pause(Duration),
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
        /// The candidate's generation.
        next: Generation,
        /// The one of before.
        default: Generation,
    },
    /// Let the profile name this generation again, and keep what was made for
    /// the candidate: its entry is still to be booted.
    ReturnProfile(Generation),
    /// Write the outcome: the job is over.
    Finish(SwitchOutcome),
}

/// `switch-to-configuration`: another one holds the lock.
pub const LOCKED: i32 = 11;
/// `switch-to-configuration`: needs a reboot, nothing was activated.
const NEEDS_REBOOT: i32 = 100;
/// The rungs of the way back: `switch-to-configuration`; the same with D-Bus and
/// logind started anew; the old system's `activate` and units by hand. After the
/// last one it begins again, with a pause.
pub const RUNGS: u32 = 3;
/// Pause before asking for the lock again.
const LOCK_PAUSE: Duration = Duration::from_secs(2);
/// What is said of it.
const HELD: &str = "another switch holds the lock";

/// The guardian's next act.
pub fn act(order: &SwitchOrder, progress: &Progress, sight: &Sight, now: Mono) -> Act {
    let g = Guardian { order, progress, sight, now };
    match &progress.phase {
        Phase::Ready => g.ready(),
        Phase::Activating { since } => g.activating(*since),
        Phase::Activated { at } => g.activated(*at),
        Phase::Committing => g.committing(),
        Phase::Deferring { why, stays } => g.deferring(why, *stays),
        Phase::Returning { why } => g.returning(why),
        Phase::PuttingBack { cause, ending, activated, tries, error: _ } => {
            g.putting_back(cause, *ending, *activated, *tries)
        }
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
            return self.finish(
                Ending::Interrupted,
                "the host was rebooted before it began",
                false,
            );
        }
        if let Some(superseded) = self.other_hand() {
            return superseded;
        }
        match self.order.how {
            How::Activate => self.note(Phase::Activating { since: self.now }),
            How::Verify => self.note(Phase::Activated { at: self.now }),
            How::Boot => self.defer(self.order.deferral.as_deref().unwrap_or("it is to be booted")),
            How::Restore => {
                let cause = match (&self.order.asked, self.order.once) {
                    (Some(reason), _) if reason.is_empty() => "rolled back by a person".into(),
                    (Some(reason), _) => format!("rolled back by a person: {reason}"),
                    (None, true) => "it was to be booted once, and did not come up".into(),
                    (None, false) => {
                        "the boot loader gave it up, and has booted another system".into()
                    }
                };
                let ending = Ending::RolledBack;
                let (activated, tries, error) = (self.order.asked.is_none(), 0, None);
                let phase = Phase::PuttingBack { cause, ending, activated, tries, error };
                let (since, stages) = (self.now, self.stages_until_now());
                let (default_touched, deferred) = (true, false);
                Act::Note(Progress { phase, since, default_touched, deferred, stages, lock: None })
            }
        }
    }

    fn activating(&self, since: Mono) -> Act {
        if self.rebooted() {
            return self.interrupted_by_reboot();
        }
        let Some(last) = &self.sight.last else {
            return if self.sight.own {
                Act::Activate
            } else {
                self.put_back("killed while activating", Ending::Interrupted)
            };
        };
        match last {
            Done::Exit(0 | 4) if self.sight.running.as_ref() == Some(&self.order.candidate) => {
                self.note(Phase::Activated { at: self.now })
            }
            Done::Exit(0 | 4) => self.other_hand().unwrap_or_else(|| {
                self.put_back("activated, but it is not the running system", Ending::RolledBack)
            }),
            Done::Exit(1) if self.sight.running == self.order.running => {
                self.refused("switch-to-configuration refused (exit code 1)")
            }
            Done::Exit(LOCKED) if self.now.since(since) < self.order.activation_timeout => {
                self.wait_for_the_lock()
            }
            Done::Exit(LOCKED) => {
                let cause = match &self.sight.lock {
                    Some(holder) => format!("{HELD} (exit code 11): {holder}"),
                    None => format!("{HELD} (exit code 11)"),
                };
                self.finish(Ending::Failed, &cause, false)
            }
            // Whoever held the lock may have put something else there.
            Done::Waited => self.other_hand().unwrap_or(Act::Activate),
            Done::Exit(NEEDS_REBOOT) if self.order.target_sets_default() => {
                self.defer("it cannot be activated without a reboot (exit code 100)")
            }
            Done::Exit(NEEDS_REBOOT) => self.refused(
                "it cannot be activated without a reboot (exit code 100), \
                 and a testing branch is undone by one",
            ),
            Done::Exit(code) => self.put_back(
                &format!("switch-to-configuration test: exit code {code}"),
                Ending::RolledBack,
            ),
            Done::Broke(why) => {
                self.put_back(&format!("switch-to-configuration test: {why}"), Ending::RolledBack)
            }
            Done::Profile(_) | Done::Oneshot(_) | Done::Bus | Done::Units(_) => {
                self.put_back("lost its way while activating", Ending::Interrupted)
            }
        }
    }

    /// Who holds it is written down, and after a pause it is asked for again.
    fn wait_for_the_lock(&self) -> Act {
        if self.sight.lock.is_some() && self.progress.lock != self.sight.lock {
            let lock = self.sight.lock.clone();
            return Act::Note(Progress { lock, ..self.progress.clone() });
        }
        Act::Pause(LOCK_PAUSE)
    }

    fn activated(&self, at: Mono) -> Act {
        if self.rebooted() {
            return self.interrupted_by_reboot();
        }
        if self.sight.running.as_ref() != Some(&self.order.candidate) {
            return self.superseded();
        }
        match &self.sight.verdict {
            Some(verdict) if verdict.good && self.order.target_sets_default() => {
                self.note(Phase::Committing)
            }
            Some(verdict) if verdict.good => self.finish_good(),
            Some(verdict) => {
                let cause = verdict.cause.as_deref().unwrap_or("judged bad");
                self.put_back(cause, Ending::RolledBack)
            }
            None if self.now.since(at) >= self.order.health_timeout => {
                self.put_back("no verdict in time: the agent did not come back", Ending::RolledBack)
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
            counts: false,
            stages: self.stages_until_now(),
            checks,
            deferred: self.progress.deferred,
            kept: None,
        })
    }

    fn finish(&self, ending: Ending, cause: &str, counts: bool) -> Act {
        Act::Finish(SwitchOutcome {
            ending: Some(ending),
            cause: Some(cause.to_owned()),
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
        let found = self.sight.running.as_ref().map_or("nothing", StorePath::as_str);
        let cause = format!("another hand has switched this host: {found} runs");
        self.finish(Ending::Superseded, &cause, false)
    }

    /// Whether something else runs than when this was ordered.
    fn other_hand(&self) -> Option<Act> {
        (self.sight.running != self.order.running).then(|| self.superseded())
    }

    fn rebooted(&self) -> bool {
        self.sight.boot_id != self.order.order.boot_id
    }

    fn interrupted_by_reboot(&self) -> Act {
        self.finish(Ending::Interrupted, "the host was rebooted before a verdict", true)
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
            Phase::PuttingBack { .. } => {
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

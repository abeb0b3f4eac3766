//! Observation of the world by the agent, all at one moment.

mod remote;

use std::collections::{BTreeMap, BTreeSet};

pub use self::remote::{Heads, Oversize, Relation, Relations, Remote};
use super::backoff::Luck;
use super::guardian;
use super::job::{
    Check, Generation, JobId, JobKind, Order, PublishOrder, PublishOutcome, PublishProgress,
    RealiseOutcome, RealiseProgress, Realised, Refusal, SwitchOrder, SwitchOutcome, Verdict,
};
use super::types::{BootId, Mono, StorePath, Wall};
use super::unseen::{OddProfile, Unseen};

/// Observation of the host, its jobs and the remotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Parts of the host that could not be looked at. The fields below that describe them mean
    /// nothing.
    pub unseen: Vec<Unseen>,
    /// Id of the current boot.
    pub boot_id: BootId,
    /// The machine's id, if it has one.
    pub machine_id: Option<String>,
    /// System that `/run/current-system` names; of a specialisation, the system that it is part
    /// of.
    pub running: Option<StorePath>,
    /// The name of the specialisation that runs, if one does.
    pub specialisation: Option<String>,
    /// Revision that the running system says it was made from.
    pub revision: Option<String>,
    /// System that `/run/booted-system` names.
    pub booted: Option<StorePath>,
    /// Generation that the system profile names.
    pub profile: Option<Generation>,
    /// The system profile, where `nix-env` did not make it: then it names none.
    pub odd_profile: Option<OddProfile>,
    /// Why the boot default cannot fully run without a reboot, if so.
    pub reboot_why: Option<String>,
    /// Systems that the memory names and that are in the store.
    pub present: BTreeSet<StorePath>,
    /// The systems that are kept from the garbage collector, by purpose.
    pub roots: BTreeMap<Purpose, StorePath>,
    /// Whether roots are being changed.
    pub rooting: bool,
    /// Why nothing new can be written to the state directory, if so.
    pub unwritten: Option<String>,
    /// The remotes, in the policy's order.
    pub remotes: Vec<Remote>,
    /// Relations between commits, as far as they were looked up.
    pub relations: Relations,
    /// Whether relations are being looked up.
    pub comparing: bool,
    /// The jobs that have a directory.
    pub jobs: Vec<Job>,
    /// The last finished round of checks.
    pub checks: Option<Round>,
    /// Whether a round of checks is running.
    pub checking: bool,
    /// Last finding on a system that is to be activated.
    pub preflight: Option<Preflight>,
    /// Whether a preflight is under way.
    pub preflighting: bool,
    /// The last look for a remote.
    pub look: Option<Look>,
    /// Whether a look for a remote is under way.
    pub looking: bool,
    /// Whether the boot loader tried the default until it gave it up, and has
    /// booted something else.
    pub gave_up: bool,
    /// System that the boot loader was last told not to boot once, and when.
    pub disarmed: Option<(StorePath, Mono)>,
    /// Whether the boot loader is being told.
    pub disarming: bool,
    /// Last finding of what is against a reboot.
    pub against: Option<Against>,
    /// Whether objections to a reboot are being looked for, or a reboot was asked for.
    pub rebooting: bool,
    /// Whether a system may be activated at this time of day.
    pub deploy_window: Window,
    /// Whether the host may be rebooted at this time of day.
    pub reboot_window: Window,
    /// Random number, for the pauses after failures.
    pub luck: Luck,
}

impl Seen {
    /// Returns a part that could not be looked at and that decisions rest on: then nothing is
    /// done on this host.
    pub fn blind(&self) -> Option<&Unseen> {
        self.unseen.iter().find(|unseen| unseen.part.is_needed())
    }

    /// Whether a system is in the store. One that was built a moment ago is:
    /// the memory did not name it yet when this was seen.
    pub fn has(&self, system: &StorePath) -> bool {
        self.present.contains(system) || self.jobs.iter().any(|job| job.built() == Some(system))
    }
}

impl Job {
    /// Returns the system that the job got, if it got one.
    pub fn built(&self) -> Option<&StorePath> {
        match &self.work {
            Work::Realise { outcome: Some(outcome), .. } => match &outcome.result {
                Realised::Built { system } => Some(system),
                Realised::NoSuchHost { .. }
                | Realised::Failed { .. }
                | Realised::Damaged { .. }
                | Realised::Refused { .. }
                | Realised::Cancelled => None,
            },
            Work::Realise { outcome: None, .. } | Work::Switch { .. } => None,
            Work::Publish { .. } | Work::Unreadable => None,
        }
    }

    /// Returns why the job ended without an outcome, by what it left behind; only for one that
    /// has. `ordered` and `now` are boots.
    pub fn cut_short(&self, ordered: &BootId, now: &BootId) -> String {
        let kind = self.id.kind.as_str();
        match (&self.remains, &self.unstarted) {
            (Remains::Unwritten(why), _) => {
                format!("what came of the {kind} job could not be written: {why}")
            }
            (Remains::NotBegun | Remains::Begun, _) if ordered != now => {
                format!("the host went down before the {kind} job had ended")
            }
            (Remains::NotBegun, Some(why)) => {
                format!("the {kind} job could not be started: {why}")
            }
            (Remains::NotBegun, None) => format!("the {kind} job never began"),
            (Remains::Begun, _) => format!("the {kind} job was killed"),
        }
    }

    /// Whether the job works for a deployment. Deployments never wait for other jobs.
    pub fn is_of_deployment(&self) -> bool {
        match self.id.kind {
            JobKind::Realise | JobKind::Switch => true,
            JobKind::Publish => false,
        }
    }
}

/// Finding whether a system may be activated on this host, nothing having been touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preflight {
    /// System that was looked at.
    pub system: StorePath,
    /// Whether the system had to have an agent.
    pub needs_agent: bool,
    /// Whether the system was to become the boot default, which takes room on /boot.
    pub writes_boot: bool,
    /// Time at which the preflight was over.
    pub ended: Mono,
    /// Refusal, if the system may not be activated.
    pub refusal: Option<Refusal>,
    /// Why the system can only be left to the next boot, if so.
    pub deferral: Option<String>,
}

/// Finding of what is against a reboot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Against {
    /// Time at which the finding was made.
    pub ended: Mono,
    /// Objections to the reboot, in words; empty: nothing is against it.
    pub whom: Vec<String>,
}

/// A window of time for activations or reboots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Whether the window is open.
    pub open: bool,
    /// Time at which that changes; none: never.
    pub changes: Option<Wall>,
}

impl Window {
    /// A window that is always open.
    pub const ALWAYS: Self = Self { open: true, changes: None };
}

/// A look for a remote: on a new connection, with a new name lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Time at which the look began.
    pub began: Mono,
    /// Time at which the look was over.
    pub ended: Mono,
    /// Whether a remote answered it.
    pub reached: bool,
    /// Whether this host's own network works (link, default route and gateway), if no remote
    /// answered; none: that cannot be told.
    pub network: Option<bool>,
    /// Finding of the look, in words.
    pub detail: String,
}

/// Purpose for which a system is kept in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// The system is about to be activated.
    Candidate,
    /// The system runs; while a switch is under way, the host is rolled back to it if that fails.
    Running,
    /// The system was last verified.
    LastGood,
    /// The system was verified before the last one.
    GoodBefore,
    /// The system was booted.
    Booted,
    /// The system boots once, unless it is the default.
    Awaiting,
    /// The system boots next.
    Default,
}

impl Purpose {
    /// Every purpose of a root.
    pub const ALL: [Self; 7] = [
        Self::Candidate,
        Self::Running,
        Self::LastGood,
        Self::GoodBefore,
        Self::Booted,
        Self::Awaiting,
        Self::Default,
    ];

    /// Returns the name of the root's link.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Candidate => "candidate",
            Self::Running => "running",
            Self::LastGood => "last-good",
            Self::GoodBefore => "good-before",
            Self::Booted => "booted",
            Self::Awaiting => "awaiting",
            Self::Default => "default",
        }
    }
}

/// Whether a job lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// The job was ordered a moment ago and does not hold its lock yet.
    Starting,
    /// The job holds its lock.
    Running,
    /// The job does not hold its lock, and will not.
    Ended,
}

/// Remains of a job that ended without an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remains {
    /// The job never took its lock: nothing of it was begun.
    NotBegun,
    /// The job was at work.
    Begun,
    /// The job had come to its end, and could not write that down, for this reason.
    Unwritten(String),
}

/// A job that has a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Name of the job.
    pub id: JobId,
    /// Whether the job lives.
    pub life: Life,
    /// Whether the job was told to stop.
    pub stopping: bool,
    /// Time at which the job was last started again, by this agent.
    pub resumed: Option<Mono>,
    /// Why the job could not be started the last time, if that failed.
    pub unstarted: Option<String>,
    /// Remains of the job, should it have ended without an outcome.
    pub remains: Remains,
    /// Contents of the job's files.
    pub work: Work,
}

/// Contents of a job's files.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "a host has one or two jobs")]
pub enum Work {
    /// Files of a realise job.
    Realise {
        /// Order of the job.
        order: Order,
        /// Progress of the job, once it has written any.
        progress: Option<RealiseProgress>,
        /// Outcome of the job, once it has ended.
        outcome: Option<RealiseOutcome>,
    },
    /// Files of a switch job.
    Switch {
        /// Order of the job.
        order: SwitchOrder,
        /// Progress of the job, once it has written any.
        progress: Option<guardian::Progress>,
        /// Verdict on the candidate, once the agent has written one.
        verdict: Option<Verdict>,
        /// Outcome of the job, once it has ended.
        outcome: Option<SwitchOutcome>,
    },
    /// Files of a publish job.
    Publish {
        /// Order of the job.
        order: PublishOrder,
        /// Progress of the job, once it has written any.
        progress: Option<PublishProgress>,
        /// Outcome of the job, once it has ended.
        outcome: Option<PublishOutcome>,
    },
    /// The order of the job cannot be read.
    Unreadable,
}

/// A round of checks of an activated system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// The job that awaits the verdict.
    pub job: JobId,
    /// Time at which the round began.
    pub began: Mono,
    /// Time at which the round was over.
    pub ended: Mono,
    /// Result of each check.
    pub checks: Vec<Check>,
    /// Place in `checks` of a required check that failed and cannot pass any more by itself, if
    /// there is one: there is nothing left to wait for.
    pub hopeless: Option<usize>,
}

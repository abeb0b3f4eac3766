//! What the agent sees of the world, all at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::backoff::Luck;
use super::guardian;
use super::job::{
    Check, Generation, JobId, Kind, Order, PublishOrder, PublishOutcome, PublishProgress,
    RealiseOutcome, RealiseProgress, Realised, Refusal, SwitchOrder, SwitchOutcome, Verdict,
};
use super::remedy::Remedy;
use super::types::{BootId, Commit, Mono, StorePath, Wall};
use super::unseen::{OddProfile, Unseen};

/// One look at the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What could not be looked at. What is said of it below means nothing.
    pub unseen: Vec<Unseen>,
    /// Which boot this is.
    pub boot_id: BootId,
    /// The machine's id, if it has one.
    pub machine_id: Option<String>,
    /// What `/run/current-system` names; of a specialisation, the system that it is
    /// part of.
    pub running: Option<StorePath>,
    /// The name of the specialisation that runs, if one does.
    pub specialisation: Option<String>,
    /// What that says of the revision it was made from.
    pub revision: Option<String>,
    /// What `/run/booted-system` names.
    pub booted: Option<StorePath>,
    /// What the system profile names.
    pub profile: Option<Generation>,
    /// The system profile, where `nix-env` did not make it: then it names none.
    pub odd_profile: Option<OddProfile>,
    /// Why the boot default cannot fully run without a reboot, if so.
    pub reboot_why: Option<String>,
    /// Of the systems that the memory names, those that are in the store.
    pub present: BTreeSet<StorePath>,
    /// The systems that are kept from the garbage collector, by purpose.
    pub roots: BTreeMap<Purpose, StorePath>,
    /// Whether roots are being changed.
    pub rooting: bool,
    /// Why what is new cannot be written to the state directory, if so.
    pub unwritten: Option<String>,
    /// The remotes, in the policy's order.
    pub remotes: Vec<Remote>,
    /// How commits are related, as far as that was looked up.
    pub relations: Relations,
    /// Whether that is being looked up.
    pub comparing: bool,
    /// The jobs that have a directory.
    pub jobs: Vec<Job>,
    /// The last finished round of checks.
    pub checks: Option<Round>,
    /// Whether a round of checks is running.
    pub checking: bool,
    /// What was last found of a system that is to be activated.
    pub preflight: Option<Preflight>,
    /// Whether that is being found out.
    pub preflighting: bool,
    /// The last look for a remote.
    pub look: Option<Look>,
    /// Whether one is under way.
    pub looking: bool,
    /// Whether the boot loader tried the default until it gave it up, and has
    /// booted something else.
    pub gave_up: bool,
    /// What the boot loader was last told not to boot once, and when.
    pub disarmed: Option<(StorePath, Mono)>,
    /// Whether it is being told.
    pub disarming: bool,
    /// What was last found to be against a reboot.
    pub against: Option<Against>,
    /// Whether that is being found out, or a reboot was asked for.
    pub rebooting: bool,
    /// Whether a system may be activated at this time of day.
    pub deploy_window: Window,
    /// Whether the host may be rebooted at this time of day.
    pub reboot_window: Window,
    /// By chance.
    pub luck: Luck,
}

impl Seen {
    /// What could not be looked at and decisions rest on: then nothing is done on
    /// this host.
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
    /// The system that it got.
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

    /// Why the job ended without a word of what came of it, by what it left behind;
    /// only of one that has. `ordered` and `now` are boots.
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

    /// Whether it works for a deployment. Nothing of one waits for the others.
    pub fn is_of_deployment(&self) -> bool {
        match self.id.kind {
            Kind::Realise | Kind::Switch => true,
            Kind::Publish => false,
        }
    }
}

/// Whether a system may be activated on this host, nothing having been touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preflight {
    /// The system.
    pub system: StorePath,
    /// Whether it had to have an agent.
    pub needs_agent: bool,
    /// Whether it was to become the boot default, which takes room on /boot.
    pub writes_boot: bool,
    /// When that was found.
    pub ended: Mono,
    /// Why not.
    pub refusal: Option<Refusal>,
    /// Why it can only be left to the next boot.
    pub deferral: Option<String>,
}

/// What is against a reboot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Against {
    /// When that was found.
    pub ended: Mono,
    /// Who or what, in words; nothing: nobody.
    pub whom: Vec<String>,
}

/// A window of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Whether it is open.
    pub open: bool,
    /// When that changes; none: never.
    pub changes: Option<Wall>,
}

impl Window {
    /// Always open.
    pub const ALWAYS: Self = Self { open: true, changes: None };
}

/// A look for a remote: on a new connection, with a new name lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// When it began.
    pub began: Mono,
    /// When it was over.
    pub ended: Mono,
    /// Whether one answered.
    pub reached: bool,
    /// If none did: whether this host's own network works (link, default route
    /// and gateway); none: that cannot be told.
    pub network: Option<bool>,
    /// What was found, in words.
    pub detail: String,
}

/// What a system is kept in the store for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// It is about to be activated.
    Candidate,
    /// It runs; while a switch is under way, what is put back if that fails.
    Running,
    /// It was last verified.
    LastGood,
    /// It was verified before that.
    GoodBefore,
    /// It was booted.
    Booted,
    /// It boots once, unless it is the default.
    Awaiting,
    /// It boots next.
    Default,
}

impl Purpose {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Candidate,
        Self::Running,
        Self::LastGood,
        Self::GoodBefore,
        Self::Booted,
        Self::Awaiting,
        Self::Default,
    ];

    /// The name of its link.
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

/// What is known of a remote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remote {
    /// Whether it is being asked.
    pub busy: bool,
    /// When it was last asked, and had answered or failed.
    pub asked: Option<Mono>,
    /// When it last answered.
    pub answered: Option<Wall>,
    /// How often it failed since it last answered.
    pub failures: u32,
    /// Why, the last time.
    pub error: Option<String>,
    /// What a person can do about that.
    pub remedy: Remedy,
    /// What it answered last.
    pub heads: Option<Heads>,
    /// What it has now and this host did not take, if that is so.
    pub oversize: Option<Oversize>,
    /// When it last gave another answer than before.
    pub moved: Option<Wall>,
    /// A person wants it asked now.
    pub wanted: bool,
    /// By chance, anew for each poll.
    pub luck: Luck,
}

impl Remote {
    /// Whether the last poll was answered.
    pub fn answers(&self) -> bool {
        self.asked.is_some() && self.failures == 0
    }
}

/// A head that was not fetched: with what it brings it is larger than this host
/// takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oversize {
    /// The head.
    pub head: Commit,
    /// Whether it is that of the testing branch: then the release's was fetched.
    pub testing: bool,
    /// Which limit it exceeds, in words.
    pub found: String,
    /// What would let it through.
    pub lift: String,
}

/// The heads of the branches that are followed; none for one that is not
/// there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heads {
    /// Of the release branch.
    pub release: Option<Commit>,
    /// Of the testing branch.
    pub testing: Option<Commit>,
}

/// How a newer-seen commit is related to an older-seen one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relation {
    /// It is the same.
    Same,
    /// It descends from it.
    Ahead,
    /// It is an ancestor of it.
    Behind,
    /// Neither, as far as the clone knows.
    Diverged,
}

/// Relations that were looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relations(pub Arc<BTreeMap<(Commit, Commit), Relation>>);

impl Relations {
    /// How `newer` is related to `older`, if that was looked up.
    pub fn of(&self, older: Commit, newer: Commit) -> Option<Relation> {
        if older == newer {
            return Some(Relation::Same);
        }
        self.0.get(&(older, newer)).copied()
    }
}

/// Whether a job lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It was ordered a moment ago and does not hold its lock yet.
    Starting,
    /// It holds its lock.
    Running,
    /// It does not, and will not.
    Ended,
}

/// What a job that ended without an outcome left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remains {
    /// It never took its lock: nothing of it was begun.
    NotBegun,
    /// It was at work.
    Begun,
    /// It had come to its end, and could not write that down.
    Unwritten(String),
}

/// A job that has a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its name.
    pub id: JobId,
    /// Whether it lives.
    pub life: Life,
    /// Whether it was told to stop.
    pub stopping: bool,
    /// When it was last started again, by this agent.
    pub resumed: Option<Mono>,
    /// Why it could not be started the last time, if that failed.
    pub unstarted: Option<String>,
    /// What it left, should it have ended without an outcome.
    pub remains: Remains,
    /// What its files say.
    pub work: Work,
}

/// What a job's files say.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "a host has one or two jobs")]
pub enum Work {
    /// A realise job.
    Realise {
        /// What it was told.
        order: Order,
        /// How far it is.
        progress: Option<RealiseProgress>,
        /// What came of it.
        outcome: Option<RealiseOutcome>,
    },
    /// A switch job.
    Switch {
        /// What it was told.
        order: SwitchOrder,
        /// How far it is.
        progress: Option<guardian::Progress>,
        /// What it was told of the candidate.
        verdict: Option<Verdict>,
        /// What came of it.
        outcome: Option<SwitchOutcome>,
    },
    /// A publish job.
    Publish {
        /// What it was told.
        order: PublishOrder,
        /// How far it is.
        progress: Option<PublishProgress>,
        /// What came of it.
        outcome: Option<PublishOutcome>,
    },
    /// Its order cannot be read.
    Unreadable,
}

/// A round of checks of an activated system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// The job that awaits the verdict.
    pub job: JobId,
    /// When the round began.
    pub began: Mono,
    /// When it was over.
    pub ended: Mono,
    /// What each found.
    pub checks: Vec<Check>,
    /// Place in `checks` of a required one that failed and cannot pass any more by itself, if
    /// there is one: there is nothing left to wait for.
    pub hopeless: Option<usize>,
}

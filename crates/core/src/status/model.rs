//! The status as outsiders read it: its shape, and the words in it.

use serde::{Deserialize, Serialize, Serializer};
use serde_json::json;

use super::{BlindView, HeldCause, Lift, PublishView, Stage, StageProgress, Unconfined};
use crate::gates::GateKind;
use crate::memory::Entry;
use crate::open_words::open_words;
use crate::policy::Operation;
use crate::types::{Commit, StorePath, Wall};
use crate::unseen::Part;

/// In one word: the first of these that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The old system is being put back.
    RollingBack,
    /// That failed, and is tried again.
    RollbackFailed,
    /// A system is being activated.
    Activating,
    /// It is being checked, or made the boot default.
    Verifying,
    /// This host cannot be looked at, and is left alone.
    Blind,
    /// Something is refused, and says what would lift that.
    Held,
    /// A system is being got.
    Realising,
    /// Something is to be done, but not now.
    Waiting,
    /// Something failed and is tried again later.
    BackingOff,
    /// The boot default needs a reboot to run.
    RebootRequired,
    /// No remote answered three polls running.
    Unreachable,
    /// What should run runs.
    UpToDate,
    /// Before the first observation.
    Starting,
}

impl State {
    /// All of them, in order.
    pub const ALL: [Self; 13] = [
        Self::RollingBack,
        Self::RollbackFailed,
        Self::Activating,
        Self::Verifying,
        Self::Blind,
        Self::Held,
        Self::Realising,
        Self::Waiting,
        Self::BackingOff,
        Self::RebootRequired,
        Self::Unreachable,
        Self::UpToDate,
        Self::Starting,
    ];

    /// As in status and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RollingBack => "rolling-back",
            Self::RollbackFailed => "rollback-failed",
            Self::Activating => "activating",
            Self::Verifying => "verifying",
            Self::Blind => "blind",
            Self::Held => "held",
            Self::Realising => "realising",
            Self::Waiting => "waiting",
            Self::BackingOff => "backing-off",
            Self::RebootRequired => "reboot-required",
            Self::Unreachable => "unreachable",
            Self::UpToDate => "up-to-date",
            Self::Starting => "starting",
        }
    }
}

/// Everything that is shown (`fort-agent status --json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Of this format.
    pub version: u32,
    /// This host.
    pub hostname: String,
    /// In one word.
    pub state: State,
    /// In a sentence.
    pub reason: String,
    /// What would lift what is in the way, if anything is.
    #[serde(default)]
    pub lift: Option<Lift>,
    /// What happens next by itself, and when.
    pub next: Option<Next>,
    /// What should run.
    pub desired: Option<Desired>,
    /// What runs.
    pub running: RunningView,
    /// What boots.
    pub boot: BootView,
    /// What was last verified and made the default.
    pub last_good: Option<GoodView>,
    /// The deployment under way.
    pub deployment: Option<DeploymentView>,
    /// What of this host cannot be looked at, and what lifts that.
    #[serde(default)]
    pub blind: Option<BlindView>,
    /// What is refused, and what lifts that.
    pub held: Option<Held>,
    /// That a person has suspended deployments.
    pub suspended: Option<SuspendedView>,
    /// What a ready system waits for that a person has a say in.
    pub gate: Option<GateView>,
    /// The remotes, in order.
    pub remotes: Vec<RemoteView>,
    /// What the cache still lacks.
    pub publish: Option<PublishView>,
    /// Systems that failed too often.
    pub quarantine: Vec<QuarantineView>,
    /// The last deployment that ended.
    #[serde(serialize_with = "in_alphabetical_order")]
    pub last_deployment: Option<Entry>,
    /// What else a person should know.
    pub notes: Vec<String>,
    /// This program.
    pub agent: AgentView,
}

open_words! {
    /// What the agent does next by itself.
    pub enum NextAction {
        /// Get or build a system.
        Realise = "realise",
        /// Activate a system.
        Activate = "activate",
        /// Put the old system back.
        PutBack = "put-back",
        /// Reboot the host.
        Reboot = "reboot",
        /// End the suspension of deployments.
        Resume = "resume",
        /// Look once more whether a system can be activated.
        Preflight = "preflight",
        /// Look at the host.
        Look = "look",
        /// Ask the remotes.
        Poll = "poll",
    }
}

/// What happens next by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Next {
    /// The action that comes next.
    pub action: NextAction,
    /// When, at the latest.
    pub at: Wall,
}

/// What should run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// The commit.
    pub commit: Commit,
    /// The commit on the authors' branch that it was made from; without a
    /// manifest the commit itself.
    pub source: Commit,
    /// The branch whose head it was.
    pub branch: String,
    /// The remote that said so.
    pub remote: String,
    /// What is done with it.
    pub operation: Operation,
    /// Its system, if that is known.
    pub system: Option<StorePath>,
    /// When it was first seen.
    pub first_seen: Wall,
}

/// What runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningView {
    /// The newest accepted commit whose system it is.
    pub commit: Option<Commit>,
    /// The system.
    pub system: Option<StorePath>,
    /// What the system says of the revision it was made from, if it does: NixOS's
    /// `system.configurationRevision`.
    #[serde(default)]
    pub revision: Option<String>,
    /// The name of the system's specialisation that runs, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub specialisation: Option<String>,
    /// Since when.
    pub since: Option<Wall>,
    /// Whether another hand put it there.
    pub drift: bool,
}

impl RunningView {
    /// What a person is told of a system that is of no known commit.
    pub fn said_revision(&self) -> Option<String> {
        let revision = self.revision.as_ref().filter(|_| self.commit.is_none())?;
        let commit = revision.parse::<Commit>();
        Some(commit.map_or_else(|_| revision.clone(), |commit| commit.short()))
    }
}

/// What boots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootView {
    /// What the system profile names.
    pub default: Option<StorePath>,
    /// The newest accepted commit whose system that is.
    #[serde(default)]
    pub commit: Option<Commit>,
    /// What was booted.
    pub booted: Option<StorePath>,
    /// Whether the default needs a reboot to run.
    pub reboot_required: bool,
    /// Why.
    pub why: Option<String>,
}

/// A verified system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoodView {
    /// The newest accepted commit whose system it is.
    pub commit: Option<Commit>,
    /// The system.
    pub system: StorePath,
}

/// A deployment under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentView {
    /// Its name.
    pub id: String,
    /// Its commit.
    pub commit: Commit,
    /// The stage that it is in.
    pub stage: Stage,
    /// When it began.
    pub started: Wall,
    /// Counted from 1.
    pub attempt: u32,
    /// Details of the stage.
    pub progress: StageProgress,
}

/// What is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "super::held_cause::Wire", into = "super::held_cause::Wire")]
pub struct Held {
    /// Why, with what that rests on; serialised as `cause` and `evidence`.
    pub cause: HeldCause,
    /// What would lift it.
    pub lift: Lift,
}

/// Deployments are suspended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuspendedView {
    /// Why, in a person's words; may be empty.
    pub reason: String,
    /// Since when.
    pub since: Wall,
    /// When that ends by itself.
    pub until: Option<Wall>,
}

/// What a ready system waits for that a person has a say in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateView {
    /// The gate that is closed.
    pub kind: GateKind,
    /// The commit that waits.
    pub commit: Commit,
    /// When it goes ahead by itself.
    pub until: Option<Wall>,
    /// What would let it go ahead now.
    pub lift: Lift,
}

/// What is known of a remote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteView {
    /// Its name.
    pub name: String,
    /// Whether it answered the last time.
    pub reachable: bool,
    /// When it last answered.
    pub last_success: Option<Wall>,
    /// Its release head, as far as is known.
    pub head: Option<Commit>,
    /// What is wrong with it.
    pub error: Option<String>,
}

/// A system that failed too often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineView {
    /// The system.
    pub system: StorePath,
    /// The newest accepted commit whose system it is.
    pub commit: Option<Commit>,
    /// How often it failed.
    pub failures: u32,
    /// Since when it is not tried again.
    pub since: Wall,
    /// Why it failed.
    pub cause: String,
}

/// This program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentView {
    /// Its version.
    pub version: String,
    /// When it was started.
    pub started: Wall,
    /// Why commits are evaluated with all its rights; none: they are evaluated by
    /// a user that can open nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unconfined: Option<Unconfined>,
}

impl Status {
    /// Whether this part of the host is not known, since it could not be looked at.
    pub fn hides(&self, part: Part) -> bool {
        self.blind.as_ref().is_some_and(|blind| blind.hides(part))
    }

    /// Whether another one differs from it in nothing but what each poll changes: when a
    /// remote last answered, and when the next action is due.
    pub fn differs_in_times_only(&self, other: &Self) -> bool {
        let mut like = self.clone();
        if let (Some(next), Some(others)) = (&mut like.next, &other.next) {
            next.at = others.at;
        }
        for (remote, others) in like.remotes.iter_mut().zip(&other.remotes) {
            remote.last_success = others.last_success;
        }
        like == *other
    }

    /// Whether what should run does.
    pub fn in_sync(&self) -> bool {
        let desired = self.desired.as_ref();
        desired.is_some_and(|desired| {
            desired.system.is_some() && desired.system == self.running.system
        }) && !self.running.drift
    }
}

/// As a value has its keys, which is how the entry has always been shown.
fn in_alphabetical_order<S: Serializer>(
    entry: &Option<Entry>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    json!(entry).serialize(serializer)
}

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

/// State of the host in one word: the first of these that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The old system is being put back.
    RollingBack,
    /// Putting the old system back failed, and is tried again.
    RollbackFailed,
    /// A system is being activated.
    Activating,
    /// A system is being checked, or made the boot default.
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
    /// The system that should run does.
    UpToDate,
    /// No remote has answered yet.
    Starting,
}

impl State {
    /// Every state, in order.
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

    /// Returns the name of the state, as in status and metrics.
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
    /// Version of this format.
    pub version: u32,
    /// Name of this host.
    pub hostname: String,
    /// State in one word.
    pub state: State,
    /// Reason for the state, in a sentence.
    pub reason: String,
    /// Remedy for what is in the way, if anything is.
    #[serde(default)]
    pub lift: Option<Lift>,
    /// Action that comes next by itself, and when.
    pub next: Option<Next>,
    /// Commit that should run.
    pub desired: Option<Desired>,
    /// System that runs now.
    pub running: RunningView,
    /// System that boots by default, and the one that was booted.
    pub boot: BootView,
    /// System that was last verified and made the default.
    pub last_good: Option<GoodView>,
    /// The deployment under way.
    pub deployment: Option<DeploymentView>,
    /// Parts of this host that cannot be looked at, and what lifts that.
    #[serde(default)]
    pub blind: Option<BlindView>,
    /// Refusal that is in force, and what lifts that.
    pub held: Option<Held>,
    /// Suspension of deployments by a person.
    pub suspended: Option<SuspendedView>,
    /// Gate that a ready system waits for and a person has a say in.
    pub gate: Option<GateView>,
    /// The remotes, in order.
    pub remotes: Vec<RemoteView>,
    /// Backlog of the cache: what it still lacks.
    pub publish: Option<PublishView>,
    /// Systems that failed too often.
    pub quarantine: Vec<QuarantineView>,
    /// The last deployment that ended.
    #[serde(serialize_with = "in_alphabetical_order")]
    pub last_deployment: Option<Entry>,
    /// Notes on what else a person should know.
    pub notes: Vec<String>,
    /// Agent that reports the status.
    pub agent: AgentView,
}

open_words! {
    /// Action of the agent that comes next by itself.
    pub enum NextAction {
        /// Get or build a system.
        Realise = "realise",
        /// Activate a system that is ready.
        Activate = "activate",
        /// Put the old system back.
        PutBack = "put-back",
        /// Reboot the host in its window.
        Reboot = "reboot",
        /// End the suspension of deployments.
        Resume = "resume",
        /// Look once more whether a system can be activated.
        Preflight = "preflight",
        /// Look at the host, or for a remote.
        Look = "look",
        /// Ask the remotes for heads.
        Poll = "poll",
    }
}

/// Action that comes next by itself, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Next {
    /// Action that comes next.
    pub action: NextAction,
    /// Time of the action, at the latest.
    pub at: Wall,
}

/// Commit that should run, and where that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// Commit that should run.
    pub commit: Commit,
    /// Commit on the authors' branch that the commit was made from; without a manifest the commit
    /// itself.
    pub source: Commit,
    /// Branch whose head the commit was.
    pub branch: String,
    /// Remote that gave the head.
    pub remote: String,
    /// Operation by which the commit's system is made to run.
    pub operation: Operation,
    /// System of the commit, if that is known.
    pub system: Option<StorePath>,
    /// Time at which the commit was first seen.
    pub first_seen: Wall,
}

/// System that runs, with its commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningView {
    /// The newest accepted commit whose system it is.
    pub commit: Option<Commit>,
    /// Store path of the system.
    pub system: Option<StorePath>,
    /// Revision that the system says it was made from, if it does: NixOS's
    /// `system.configurationRevision`.
    #[serde(default)]
    pub revision: Option<String>,
    /// The name of the system's specialisation that runs, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub specialisation: Option<String>,
    /// Time at which the system was first seen to run.
    pub since: Option<Wall>,
    /// Whether another hand put it there.
    pub drift: bool,
}

impl RunningView {
    /// Returns the revision that a person is told of a system that is of no known commit.
    pub fn said_revision(&self) -> Option<String> {
        let revision = self.revision.as_ref().filter(|_| self.commit.is_none())?;
        let commit = revision.parse::<Commit>();
        Some(commit.map_or_else(|_| revision.clone(), |commit| commit.short()))
    }
}

/// System that boots by default, and the one that was booted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootView {
    /// System that the system profile names.
    pub default: Option<StorePath>,
    /// Newest accepted commit whose system the default is.
    #[serde(default)]
    pub commit: Option<Commit>,
    /// System that was booted.
    pub booted: Option<StorePath>,
    /// Whether the default needs a reboot to run.
    pub reboot_required: bool,
    /// Why the default needs a reboot.
    pub why: Option<String>,
}

/// System that was found good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoodView {
    /// The newest accepted commit whose system it is.
    pub commit: Option<Commit>,
    /// Store path of the system.
    pub system: StorePath,
}

/// A deployment under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentView {
    /// Name of the deployment.
    pub id: String,
    /// Commit of the deployment.
    pub commit: Commit,
    /// Stage that the deployment is in.
    pub stage: Stage,
    /// Time at which the deployment began.
    pub started: Wall,
    /// Number of the attempt, counted from 1.
    pub attempt: u32,
    /// Details of the stage.
    pub progress: StageProgress,
}

/// Refusal, with what would lift it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "super::held_cause::Wire", into = "super::held_cause::Wire")]
pub struct Held {
    /// Cause of the refusal, with what that rests on; serialised as `cause` and `evidence`.
    pub cause: HeldCause,
    /// Remedy that would lift it.
    pub lift: Lift,
}

/// Suspension of deployments by a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuspendedView {
    /// Reason in the person's words; may be empty.
    pub reason: String,
    /// Time at which the suspension began.
    pub since: Wall,
    /// Time at which the suspension ends by itself.
    pub until: Option<Wall>,
}

/// Gate that a ready system waits for and a person has a say in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateView {
    /// The gate that is closed.
    pub kind: GateKind,
    /// The commit that waits.
    pub commit: Commit,
    /// Time at which the commit goes ahead by itself.
    pub until: Option<Wall>,
    /// Remedy that would let the commit go ahead now.
    pub lift: Lift,
}

/// State of a remote, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteView {
    /// Name of the remote in the configuration.
    pub name: String,
    /// Whether the remote answered the last time.
    pub reachable: bool,
    /// Time of the remote's last answer.
    pub last_success: Option<Wall>,
    /// Head of the remote's release branch, as far as is known.
    pub head: Option<Commit>,
    /// Error of the remote, or what is wrong with its head, in words.
    pub error: Option<String>,
}

/// A system that failed too often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineView {
    /// Store path of the system.
    pub system: StorePath,
    /// The newest accepted commit whose system it is.
    pub commit: Option<Commit>,
    /// Number of failures in a row.
    pub failures: u32,
    /// Time since which the system is not tried again.
    pub since: Wall,
    /// Cause of the last failure.
    pub cause: String,
}

/// Agent that reports the status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentView {
    /// Version of the agent.
    pub version: String,
    /// Time at which the agent was started.
    pub started: Wall,
    /// Why commits are evaluated with all the agent's rights; none: they are evaluated by a user
    /// that can open nothing.
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

/// Writes the entry with its keys in alphabetical order, which is how it has always been shown.
fn in_alphabetical_order<S: Serializer>(
    entry: &Option<Entry>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    json!(entry).serialize(serializer)
}

//! Jobs: work in a process of its own, and the files in which it and the
//! agent tell each other what they know.
//!
//! Each job has a directory with one writer per file: `spec.json` by the agent
//! that starts it, `progress.json` and `outcome.json` by the job,
//! `verdict.json` by whichever agent is alive. A job is alive while it holds
//! the lock on its `lock`. The formats outlive versions: fields are only added.

mod publish;
mod realise;
mod switch;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::publish::{FailedPath, PublishOrder, PublishOutcome, PublishPhase, PublishProgress};
pub use self::realise::{
    RealiseOutcome, RealisePhase, RealiseProgress, Realised, Refusal, RefusalCause,
};
pub use self::switch::{
    Check, CheckKind, How, REMOTE_CHECK, Restore, SwitchOrder, SwitchOutcome, UNITS_CHECK, Verdict,
};
use super::policy::Operation;
use super::types::{BootId, Commit, Malformed, Mono, StorePath, Wall, as_text};

/// Id of one attempt to deploy: `YYYYMMDDTHHMMSSZ-<commit 8>-<attempt>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeploymentId(Arc<str>);

impl DeploymentId {
    /// Makes the id of an attempt that starts now.
    pub fn new(now: Wall, commit: Commit, attempt: u32) -> Self {
        Self(format!("{}-{}-{attempt}", now.compact(), commit.prefix(8)).into())
    }

    /// Returns the id as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeploymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DeploymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for DeploymentId {
    type Err = Malformed;

    /// Ids become file names and unit names: nothing else may get in.
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let good = (1..=64).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !text.starts_with('-');
        if good { Ok(Self(text.into())) } else { Err(Malformed::new(text, "a deployment's id")) }
    }
}

as_text!(DeploymentId, JobId);

/// The kinds of jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobKind {
    /// Evaluates and builds, or fetches, a system.
    Realise,
    /// Activates a system, waits for the verdict, commits or rolls back.
    Switch,
    /// Gives the cache what it lacks of a system that was found good.
    Publish,
}

impl JobKind {
    /// Returns the name of the kind, as in job directories and unit names.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Realise => "realise",
            Self::Switch => "switch",
            Self::Publish => "publish",
        }
    }
}

/// Id of a job, and name of its directory and its unit: `<kind>-<deployment>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId {
    /// Kind of work that the job does.
    pub kind: JobKind,
    /// Deployment that the job works for.
    pub deployment: DeploymentId,
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.kind.as_str(), self.deployment)
    }
}

impl FromStr for JobId {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        [JobKind::Realise, JobKind::Switch, JobKind::Publish]
            .into_iter()
            .find_map(|kind| {
                let deployment = text.strip_prefix(kind.as_str())?.strip_prefix('-')?;
                Some(Self { kind, deployment: deployment.parse().ok()? })
            })
            .ok_or_else(|| Malformed::new(text, "a job's id (KIND-DEPLOYMENT)"))
    }
}

/// Commit that is to run on this host, and where that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Commit that is to run.
    pub commit: Commit,
    /// Branch whose head the commit was.
    pub branch: Arc<str>,
    /// Remote that gave the head.
    pub remote: Arc<str>,
    /// Operation by which the commit's system is made to run.
    pub operation: Operation,
    /// Time at which the commit was first seen there.
    pub first_seen: Wall,
}

impl Target {
    /// Whether this is the same commit for the same purpose, wherever it was seen.
    pub fn same_as(&self, other: &Target) -> bool {
        self.commit == other.commit && self.operation == other.operation
    }
}

/// Fields that every job's `spec.json` begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Deployment that the job works for.
    pub deployment: DeploymentId,
    /// Target that the deployment is to bring about.
    pub target: Target,
    /// Number of the attempt to deploy the target, counted from 1.
    pub attempt: u32,
    /// Time at which the deployment began.
    pub started: Wall,
    /// Recipe by which a commit's tree becomes a system.
    pub recipe: Arc<str>,
    /// The boot in which the job was ordered.
    pub boot_id: BootId,
    /// Time of the order, by that boot's clock.
    pub ordered: Mono,
}

impl Order {
    /// Returns the id of the job of this kind that carries the order out.
    pub fn job(&self, kind: JobKind) -> JobId {
        JobId { kind, deployment: self.deployment.clone() }
    }
}

/// One generation of a profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Number of the generation.
    pub number: u64,
    /// System that the generation names.
    pub system: StorePath,
}

/// End of a deployment: each ends as exactly one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// The system runs, was verified, and is the boot default if it was to be.
    Good,
    /// The old system was put back.
    RolledBack,
    /// Nothing was changed, or there was nothing to put back.
    Failed,
    /// The deployment was killed, or cut off by a reboot.
    Interrupted,
    /// A newer target, or another hand, took the deployment's place.
    Superseded,
}

impl Ending {
    /// Returns the name of the ending, as in history and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::RolledBack => "rolled-back",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::Superseded => "superseded",
        }
    }
}

/// Time that each stage took, in milliseconds; absent for one not reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stages {
    /// Time for evaluating, building and fetching.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realise: Option<u64>,
    /// Time that `switch-to-configuration test` took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activate: Option<u64>,
    /// Time from the end of the activation to the verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<u64>,
    /// Time for setting profile and boot loader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<u64>,
    /// Time for rolling back to the old system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<u64>,
}

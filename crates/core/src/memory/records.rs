//! The records of the memory: what is remembered of each thing.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cause::SwitchCause;
use crate::fault::Fault;
use crate::job::{Check, DeploymentId, Ending, JobId, Refusal, Stages, Target};
use crate::policy::Operation;
use crate::types::{BootId, Commit, Mono, StorePath, Wall};

/// A release head that was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Head that was accepted.
    pub commit: Commit,
    /// The remote that gave it.
    pub remote: Arc<str>,
}

/// A deployment under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Name of the deployment.
    pub id: DeploymentId,
    /// Target that the deployment is to bring about.
    pub target: Target,
    /// Number of the attempt, counted from 1.
    pub attempt: u32,
    /// Time at which the deployment began.
    pub started: Wall,
    /// The system, as soon as it is known.
    pub system: Option<StorePath>,
    /// Job that works for the deployment; none between two jobs.
    pub job: Option<JobId>,
    /// The time that finished stages took.
    #[serde(default)]
    pub stages: Stages,
}

/// A deployment that ended well, or was taken over by another hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// Commit of the deployment.
    pub commit: Commit,
    /// Purpose of the deployment: switch, boot or test.
    pub operation: Operation,
    /// System of the deployment.
    pub system: StorePath,
    /// Whether another hand ended the deployment instead: the system was not verified, and is
    /// left alone while something else runs.
    #[serde(default)]
    pub left: bool,
}

/// A system that was verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Good {
    /// System that was found good, or running.
    pub system: StorePath,
    /// Whether this agent has found the system good, and not only running.
    #[serde(default)]
    pub verified: bool,
}

/// Running system, with the time since which it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// System that was seen to run.
    pub system: StorePath,
    /// Time at which the system was first seen to run.
    pub since: Wall,
}

/// A system that awaits its first boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Awaiting {
    /// Deployment that ends with the boot.
    pub deployment: Deployment,
    /// System that awaits its first boot.
    pub system: StorePath,
    /// The boot that has to end first.
    pub boot_id: BootId,
    /// Why the system was not activated.
    pub why: String,
    /// The default that is kept until it was verified, where it is booted once;
    /// none: it is the default itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<StorePath>,
    /// Whether the system was seen to run, in a boot that was to be its only one.
    #[serde(default)]
    pub came_up: bool,
}

/// A system that the boot loader may boot once, with the boot after this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Armed {
    /// System that may be booted once.
    pub system: StorePath,
    /// Boot in which the boot loader was told to.
    pub boot_id: BootId,
    /// Earliest time at which the arming may be undone.
    pub since: Mono,
}

/// A testing head that was activated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tested {
    /// Testing head that was activated.
    pub commit: Commit,
    /// Boot in which the head was activated: never in another one.
    pub boot_id: BootId,
}

/// The third look for a remote, which is still to be taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Experiment {
    /// System that lost the remotes and was rolled back.
    pub system: StorePath,
    /// Finding of the system's checks, in words.
    pub cause: String,
    /// Boot in which the rollback was learned of.
    pub boot_id: BootId,
    /// Time at which the rollback was learned of.
    pub since: Mono,
}

/// A reboot that the agent asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebooted {
    /// The default that was to be booted.
    pub system: StorePath,
    /// Boot in which the reboot was asked for.
    pub boot_id: BootId,
    /// Time of the request, by that boot's clock.
    pub at: Mono,
}

/// A verified system that needs a reboot, and is verified again after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unproven {
    /// System that was verified, and will be again.
    pub system: StorePath,
    /// Target that the system is in force for.
    pub target: Target,
    /// The boot in which it was verified.
    pub boot_id: BootId,
}

/// The system that a commit describes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownSystem {
    /// Commit that describes the system.
    pub commit: Commit,
    /// Recipe by which the commit's tree becomes a system.
    pub recipe: Arc<str>,
    /// System that the commit describes.
    pub system: StorePath,
}

/// Settings in a commit's `nixConfig` that Nix does not follow here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IgnoredSettings {
    /// Commit whose `nixConfig` has the settings.
    pub commit: Commit,
    /// Names of the settings.
    pub names: Vec<String>,
}

/// Commit or system that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Subject {
    /// A commit could not be realised by this recipe.
    Commit {
        /// Commit that could not be realised.
        commit: Commit,
        /// Recipe that was used for the commit.
        recipe: Arc<str>,
    },
    /// A system could not be activated or verified.
    System {
        /// System that could not be activated or verified.
        system: StorePath,
    },
}

/// A failure and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// Commit or system that failed.
    pub subject: Subject,
    /// Number of failures in a row.
    pub failures: u32,
    /// Time of the last failure.
    pub at: Wall,
    /// Earliest time at which it is tried again.
    pub not_before: Wall,
    /// Why it is not tried again at all until a person says so, or something else is wanted.
    pub stuck: Option<Stuck>,
    /// Cause of the last failure, in words.
    pub cause: String,
    /// Refusal, if it came before anything was touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
    /// Fault for which a commit could not be realised, by who has to do what about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// Refusal of the commit for what it is: it is stuck. In a field of its own, for earlier
    /// versions do not know the causes, and could read nothing of all this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refusal>,
    /// Number of times in a row that the system lost the remotes, and was not blamed for it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub excused: u32,
    /// Whether the system itself was found bad, and not only the process that activated it
    /// killed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub found_bad: bool,
}

/// Reason why something is not tried again by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Stuck {
    /// The system failed too often.
    Quarantined,
    /// The commit has no such host.
    NoSuchHost {
        /// The hosts that it has.
        hosts: Vec<String>,
    },
}

/// Entry of the history: how a deployment ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Name of the deployment.
    pub id: DeploymentId,
    /// Commit of the deployment.
    pub commit: Commit,
    /// System of the deployment, if it was found.
    pub system: Option<StorePath>,
    /// System that ran before the deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<StorePath>,
    /// Purpose of the deployment: switch, boot or test.
    pub operation: Operation,
    /// How the deployment ended.
    pub verdict: Ending,
    /// Cause of that end, in words.
    pub cause: Option<String>,
    /// Cause as a value, if a switch ended the deployment and this process learnt of that.
    #[serde(skip)]
    pub why: Option<Box<SwitchCause>>,
    /// Fault, if the deployment's system could not be got, by who has to do what about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// Time at which the deployment began.
    pub started: Wall,
    /// Time at which the end was learned of.
    pub ended: Wall,
    /// The time that each stage took.
    pub stages: Stages,
    /// Checks that the verdict rested on.
    pub checks: Vec<Check>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

//! Steps that the core decides on, for the agent to carry out.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::job::{DeploymentId, JobId, JobKind, Order, PublishOrder, SwitchOrder, Target, Verdict};
use crate::observed::Purpose;
use crate::types::{Commit, Mono, StorePath};

/// Next step of the agent. None of them takes long: each starts, stops or writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, until something happens or this moment comes.
    Wait {
        /// Latest time to wait for; `None`: only until something happens.
        until: Option<Mono>,
    },
    /// Ask a remote for its heads, and fetch them if they moved.
    Poll {
        /// Place of the remote in the configured order.
        remote: usize,
        /// The release head that new ones will be compared with.
        accepted: Option<Commit>,
    },
    /// Look up how two commits are related.
    Compare {
        /// Commit that was known before.
        older: Commit,
        /// Commit that is judged.
        newer: Commit,
    },
    /// Take a target for what is to run from now on. Nothing but the memory changes.
    Follow {
        /// Desired commit, with its operation, and the branch and remote that named it.
        target: Target,
        /// Release head that is accepted, and the remote that gave it.
        release: Option<(Commit, Arc<str>)>,
    },
    /// Keep these systems, and no others, from the garbage collector.
    KeepRoots(BTreeMap<Purpose, StorePath>),
    /// Get the system of a commit.
    StartRealise(Order),
    /// End a job that nobody waits for.
    StopJob(JobId),
    /// Remove the directory of a job whose outcome is in the saved memory.
    RemoveJob(JobId),
    /// Activate a system, or go on to the default with one that runs.
    StartSwitch(SwitchOrder),
    /// Give the cache what it lacks of a system.
    StartPublish(PublishOrder),
    /// Start a switch job again that was killed.
    ResumeSwitch(JobId),
    /// Check an activated system.
    RunChecks(JobId),
    /// Look whether a system may be activated, touching nothing.
    Preflight {
        /// System that is looked at.
        system: StorePath,
        /// System that boots next, to know what /boot has already.
        default: Option<StorePath>,
        /// Whether the system must contain an agent.
        needs_agent: bool,
        /// Whether the system becomes the boot default, which takes room on /boot.
        writes_boot: bool,
    },
    /// Look whether a remote answers, on a new connection.
    Look,
    /// Tell the boot loader not to boot this system once: something else came.
    Disarm {
        /// System that was to be booted once.
        system: StorePath,
    },
    /// Look whether anybody is against a reboot.
    LookAgainstReboot,
    /// Reboot the host, unless somebody is against it after all.
    Reboot {
        /// The system that is to be booted.
        system: StorePath,
    },
    /// Tell a switch job what the checks found.
    WriteVerdict {
        /// Switch job that awaits the verdict.
        job: JobId,
        /// Verdict on the system, with the checks it rests on.
        verdict: Verdict,
    },
    /// The target is in force already. Nothing but the memory changes.
    Settle {
        /// Target that is in force.
        target: Target,
        /// System of the target, which runs.
        system: StorePath,
        /// Name of the deployment that ends so.
        id: DeploymentId,
    },
    /// A commit waits to be confirmed from now on. Nothing but the memory
    /// changes.
    AskToConfirm {
        /// Commit that is to be confirmed.
        commit: Commit,
    },
    /// End the deployment: its system may not be activated. Nothing but the
    /// memory changes.
    GiveUp {
        /// Reason for which the system may not be activated.
        cause: String,
    },
}

impl Step {
    /// Returns the job that the step starts for the first time, if it is such a step.
    pub fn starts(&self) -> Option<JobId> {
        match self {
            Self::StartRealise(order) => Some(order.job(JobKind::Realise)),
            Self::StartSwitch(switch) => Some(switch.job()),
            Self::StartPublish(publish) => Some(publish.job()),
            Self::Wait { .. }
            | Self::Poll { .. }
            | Self::Compare { .. }
            | Self::Follow { .. }
            | Self::KeepRoots(_)
            | Self::StopJob(_)
            | Self::RemoveJob(_)
            | Self::ResumeSwitch(_)
            | Self::RunChecks(_)
            | Self::Preflight { .. }
            | Self::Look
            | Self::Disarm { .. }
            | Self::LookAgainstReboot
            | Self::Reboot { .. }
            | Self::WriteVerdict { .. }
            | Self::Settle { .. }
            | Self::AskToConfirm { .. }
            | Self::GiveUp { .. } => None,
        }
    }
}

/// Step that the target needs now, once nothing is in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// Realise the system of the target.
    Realise(Order),
    /// Switch to a system, verify it or give it up.
    Switch(Box<SwitchOrder>),
    /// End with a target that lacks nothing: see [`Step::Settle`].
    Settle {
        /// Target that is in force.
        target: Target,
        /// System of the target, which runs.
        system: StorePath,
        /// The name of the deployment that ends so.
        id: DeploymentId,
    },
    /// Ask a person to confirm the target: see [`Step::AskToConfirm`].
    AskToConfirm {
        /// Commit that is to be confirmed.
        commit: Commit,
    },
    /// End the target's deployment: see [`Step::GiveUp`].
    GiveUp {
        /// Reason for which the system may not be activated.
        cause: String,
    },
}

impl From<Due> for Step {
    fn from(due: Due) -> Self {
        match due {
            Due::Realise(order) => Self::StartRealise(order),
            Due::Switch(order) => Self::StartSwitch(*order),
            Due::Settle { target, system, id } => Self::Settle { target, system, id },
            Due::AskToConfirm { commit } => Self::AskToConfirm { commit },
            Due::GiveUp { cause } => Self::GiveUp { cause },
        }
    }
}

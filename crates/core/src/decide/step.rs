//! What there is to do.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::job::{DeploymentId, JobId, Kind, Order, PublishOrder, SwitchOrder, Target, Verdict};
use crate::observed::Purpose;
use crate::types::{Commit, Mono, StorePath};

/// What to do next. Nothing here takes long: it starts, stops or writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, until something happens or this moment comes.
    Wait {
        /// None: only when something happens.
        until: Option<Mono>,
    },
    /// Ask a remote for its heads, and fetch them if they moved.
    Poll {
        /// Its place in the order.
        remote: usize,
        /// The release head that new ones will be compared with.
        accepted: Option<Commit>,
    },
    /// Look up how two commits are related.
    Compare {
        /// The one that was known before.
        older: Commit,
        /// The one that is judged.
        newer: Commit,
    },
    /// From now on this is what is to run. Nothing but the memory changes.
    Follow {
        /// What is to run.
        target: Target,
        /// The release head that is accepted, and who gave it.
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
        /// The system.
        system: StorePath,
        /// What boots next, to know what /boot has already.
        default: Option<StorePath>,
        /// Whether it must have an agent.
        needs_agent: bool,
        /// Whether it becomes the boot default, which takes room on /boot.
        writes_boot: bool,
    },
    /// Look whether a remote answers, on a new connection.
    Look,
    /// Tell the boot loader not to boot this system once: something else came.
    Disarm {
        /// The system.
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
        /// The job.
        job: JobId,
        /// What they found.
        verdict: Verdict,
    },
    /// The target is in force already. Nothing but the memory changes.
    Settle {
        /// What was to run.
        target: Target,
        /// The system that does.
        system: StorePath,
        /// The deployment's name.
        id: DeploymentId,
    },
    /// A commit waits to be confirmed from now on. Nothing but the memory
    /// changes.
    AskToConfirm {
        /// The commit.
        commit: Commit,
    },
    /// End the deployment: its system may not be activated. Nothing but the
    /// memory changes.
    GiveUp {
        /// Why.
        cause: String,
    },
}

impl Step {
    /// The job that it starts for the first time.
    pub fn starts(&self) -> Option<JobId> {
        match self {
            Self::StartRealise(order) => Some(order.job(Kind::Realise)),
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

/// What the target needs now, once nothing is in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// Its system is got.
    Realise(Order),
    /// Its system is switched to, verified or given up.
    Switch(Box<SwitchOrder>),
    /// It lacks nothing: see [`Step::Settle`].
    Settle {
        /// The target.
        target: Target,
        /// Its system, which runs.
        system: StorePath,
        /// The name of the deployment that ends so.
        id: DeploymentId,
    },
    /// A person is to confirm it: see [`Step::AskToConfirm`].
    AskToConfirm {
        /// The commit.
        commit: Commit,
    },
    /// Its deployment ends: see [`Step::GiveUp`].
    GiveUp {
        /// Why.
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

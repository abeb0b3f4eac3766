//! Policy of the operator, as far as deciding goes: a part of the configuration, validated and
//! with every default filled in.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Way in which a system is made to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// Run it now, and at every boot from now on.
    Switch,
    /// Run it from the next boot on.
    Boot,
    /// Run it now; a reboot undoes it.
    Test,
}

impl Operation {
    /// The operation's name, as configuration and status write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Switch => "switch",
            Self::Boot => "boot",
            Self::Test => "test",
        }
    }

    /// Whether a verified system also becomes the boot default.
    pub fn sets_default(self) -> bool {
        match self {
            Self::Switch | Self::Boot => true,
            Self::Test => false,
        }
    }
}

/// Answer to a release head that does not descend from the last accepted one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForcePush {
    /// Hold until a person accepts it.
    Refuse,
    /// Follow the head like any other.
    Accept,
}

/// Answer to a system whose required checks fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// Roll back to the old system.
    Rollback,
    /// Keep the new system and say so: for systems that cannot go back, such as after a one-way
    /// migration.
    Report,
}

/// Everything that deciding needs to know of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Name of this host.
    pub hostname: String,
    /// The only machine that this configuration is for.
    pub machine_id: Option<String>,
    /// The remotes' names, in order of preference.
    pub remotes: Vec<Arc<str>>,
    /// The branch that is followed.
    pub release: Arc<str>,
    /// The branch that is tried while it is ahead of the release.
    pub testing: Option<Arc<str>>,
    /// Operation for a release: `Switch` or `Boot`.
    pub operation: Operation,
    /// Answer to release heads that do not descend from the last accepted one.
    pub force_push: ForcePush,
    /// Recipe by which a commit's tree becomes a system: two commits, or one commit under two
    /// recipes, are realised apart.
    pub recipe: Arc<str>,
    /// Time between two polls.
    pub poll_interval: Duration,
    /// Largest random time that is added to the poll interval.
    pub poll_jitter: Duration,
    /// Pause after the first failure; doubled with each further one.
    pub retry_first: Duration,
    /// Longest pause between two tries.
    pub retry_max: Duration,
    /// Failed activations or verifications after which a system is
    /// quarantined.
    pub activations: u32,
    /// Limit of one `switch-to-configuration`.
    pub activation_timeout: Duration,
    /// A system may settle for this long before it is judged.
    pub grace: Duration,
    /// Longest time from the end of the activation to the verdict.
    pub health_timeout: Duration,
    /// Whether a remote must answer from the new system.
    pub health_remote: bool,
    /// Answer to a system whose required checks fail.
    pub on_failure: OnFailure,
    /// Whether the host's units are looked after, which takes systemd. A system
    /// without an agent is then refused.
    pub units: bool,
    /// Answer to an old system that cannot be put back.
    pub on_rollback_failure: OnRollbackFailure,
    /// Answer to systems with another kernel.
    pub on_kernel_change: OnKernelChange,
    /// Choice of the specialisation that is activated.
    pub specialisation: Specialisation,
    /// Whether a commit waits for a person.
    pub confirm: Confirm,
    /// Answer to another hand that has switched the host.
    pub drift: Drift,
    /// Whether the agent reboots the host for a system that needs it.
    pub reboots: bool,
    /// The cache that is given what it lacks of a good system; none: nothing is
    /// published.
    pub publish: Option<Arc<str>>,
}

/// Answer to a system whose kernel, initrd, modules or parameters differ from those of the booted
/// one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnKernelChange {
    /// Run it now, verify it, make it the boot default, as with every other.
    /// It runs in full from the next boot on.
    #[default]
    Switch,
    /// Make it the system that boots next, no more, and verify it then.
    Boot,
}

/// Choice of the specialisation that is activated, where the system has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Specialisation {
    /// The specialisation whose name runs.
    #[default]
    Keep,
    /// No specialisation: the system itself.
    None,
    /// The specialisation of this name.
    Named(Arc<str>),
}

impl Specialisation {
    /// Returns the name of the specialisation to activate, where `running` is the name of the one
    /// that runs.
    pub fn wanted(&self, running: Option<&str>) -> Option<String> {
        match self {
            Self::Keep => running.map(str::to_owned),
            Self::None => None,
            Self::Named(name) => Some(name.to_string()),
        }
    }
}

/// Answer to an old system that could not be put back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnRollbackFailure {
    /// Report the failure, and try again.
    #[default]
    Report,
    /// Reboot into the last good default.
    Reboot,
}

/// Whether a commit is activated only after a person has confirmed it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Confirm {
    /// The commit waits for nobody.
    #[default]
    No,
    /// The commit waits until a person has confirmed it.
    Manual,
    /// The commit waits until a person has confirmed it, or for this long.
    After(Duration),
}

impl Confirm {
    /// Returns how long a commit waits until it goes ahead by itself, if it does.
    pub fn by_itself(self) -> Option<Duration> {
        match self {
            Self::After(after) => Some(after),
            Self::No | Self::Manual => None,
        }
    }
}

/// Answer to another hand that has switched the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Drift {
    /// The host is left alone until the next commit, and reported.
    #[default]
    Report,
    /// The target is brought about again.
    Revert,
}

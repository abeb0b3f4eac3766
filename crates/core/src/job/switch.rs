//! Switch jobs: their order, the verdict that they wait for, and what comes of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Ending, Generation, JobId, JobKind, Order, Stages};
use crate::cause::{Cause, SwitchCause, if_known};
use crate::types::StorePath;

/// Beginning of a switch job, before it waits for the verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "HowFields", into = "HowFields")]
pub enum How {
    /// The candidate is activated with `switch-to-configuration test`.
    Activate,
    /// Nothing is activated: the system runs already and lacks a verdict or the default.
    Verify,
    /// Nothing is activated, and no verdict is awaited yet: the candidate becomes the default for
    /// the next boot.
    Boot {
        /// Why the candidate is left to the next boot.
        why: String,
    },
    /// The candidate is given up: another system takes its place.
    Restore(Restore),
}

/// Reason why the candidate is given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restore {
    /// A person wants what was there before: that is activated, and becomes the default.
    Asked {
        /// Reason in the person's words; may be empty.
        reason: String,
    },
    /// The boot loader booted another system, which becomes the default.
    FellBack,
}

impl How {
    /// Returns the name of the variant, as in the log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Activate => "Activate",
            Self::Verify => "Verify",
            Self::Boot { .. } => "Boot",
            Self::Restore(_) => "Restore",
        }
    }

    /// Returns a person's reason for giving the candidate up, if one wants that; may be empty.
    pub fn asked(&self) -> Option<&str> {
        match self {
            Self::Restore(Restore::Asked { reason }) => Some(reason),
            Self::Restore(Restore::FellBack) => None,
            Self::Activate | Self::Verify | Self::Boot { .. } => None,
        }
    }

    /// Whether the candidate is given up.
    pub fn restores(&self) -> bool {
        match self {
            Self::Restore(_) => true,
            Self::Activate | Self::Verify | Self::Boot { .. } => false,
        }
    }
}

/// [`How`] as fields of `spec.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct HowFields {
    how: HowWord,
    #[serde(default)]
    deferral: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    asked: Option<String>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum HowWord {
    Activate,
    Verify,
    Boot,
    Restore,
}

impl From<How> for HowFields {
    fn from(how: How) -> Self {
        let fields = |how, deferral, asked| Self { how, deferral, asked };
        match how {
            How::Activate => fields(HowWord::Activate, None, None),
            How::Verify => fields(HowWord::Verify, None, None),
            How::Boot { why } => fields(HowWord::Boot, Some(why), None),
            How::Restore(Restore::Asked { reason }) => fields(HowWord::Restore, None, Some(reason)),
            How::Restore(Restore::FellBack) => fields(HowWord::Restore, None, None),
        }
    }
}

impl From<HowFields> for How {
    fn from(HowFields { how, deferral, asked }: HowFields) -> Self {
        match how {
            HowWord::Activate => Self::Activate,
            HowWord::Verify => Self::Verify,
            HowWord::Boot => {
                Self::Boot { why: deferral.unwrap_or_else(|| "it is to be booted".into()) }
            }
            HowWord::Restore => {
                let asked = asked.map(|reason| Restore::Asked { reason });
                Self::Restore(asked.unwrap_or(Restore::FellBack))
            }
        }
    }
}

/// The order of a switch job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchOrder {
    /// Deployment that the job works for, and when the job was ordered.
    #[serde(flatten)]
    pub order: Order,
    /// The system that is to run.
    pub candidate: StorePath,
    /// System to roll back to if the candidate does not work; none on a host where nothing ran
    /// before.
    pub old: Option<StorePath>,
    /// Beginning of the switch, before the verdict.
    #[serde(flatten)]
    pub how: How,
    /// System that ran when this was ordered: any other one but the candidate was put there by
    /// another hand.
    pub running: Option<StorePath>,
    /// Profile's generation when this was ordered: any other one but the candidate's is another
    /// hand's.
    pub profile: Option<Generation>,
    /// Limit of one `switch-to-configuration`.
    pub activation_timeout: Duration,
    /// Time after the activation's end within which a good verdict has to come; else the switch
    /// is rolled back.
    pub health_timeout: Duration,
    /// Whether a remote answered before: if none did, none needs to after.
    pub remote_before: bool,
    /// Whether the host's units are looked after, which takes systemd.
    #[serde(default)]
    pub units: bool,
    /// Whether the host is rebooted if the old system cannot be put back.
    #[serde(default)]
    pub reboot_if_stuck: bool,
    /// System that becomes the default if the candidate fails, though the candidate is the
    /// default already: it was left to a boot that never came, and nobody found it good.
    #[serde(default)]
    pub default_instead: Option<StorePath>,
    /// Whether the candidate was to be booted once: it has a generation of its
    /// own, but is not the default.
    #[serde(default)]
    pub once: bool,
    /// Whether the candidate was found bad before: it does not become the default for
    /// good, unverified.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspect: bool,
    /// The name of the candidate's specialisation that is activated, if it has one of
    /// that name; else the candidate itself is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub specialisation: Option<String>,
    /// Name of the specialisation that is activated of the system to roll back to, if it has one
    /// of that name; else that system itself is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_specialisation: Option<String>,
}

/// Name of the agent's own check that a remote answers.
pub const REMOTE_CHECK: &str = "remote";

/// Name of the agent's own check that the host's units run.
pub const UNITS_CHECK: &str = "units";

/// Owner of a check: the configuration, or the agent itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CheckKind {
    /// A check of the configuration.
    #[default]
    Configured,
    /// The agent's own, that a remote answers.
    Remote,
    /// The agent's own, that the host's units run.
    Units,
}

impl SwitchOrder {
    /// Returns the id of the job that carries the order out.
    pub fn job(&self) -> JobId {
        self.order.job(JobKind::Switch)
    }
}

/// Result of one check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Name of the check, from the configuration or of the agent itself.
    pub name: String,
    /// Owner of the check; told from the name by nobody, since the configuration gives names. Not
    /// in JSON: only the agent that made the check needs it.
    #[serde(skip)]
    pub kind: CheckKind,
    /// Whether the check has passed.
    pub ok: bool,
    /// Finding of the check, in words.
    pub detail: String,
    /// Whether a failure of the check rolls the system back.
    pub required: bool,
    /// Faults that the check found and did not count: `x.service has failed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uncounted: Vec<String>,
}

/// Verdict of the agent on an activated system (`verdict.json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether the system works.
    pub good: bool,
    /// Why the system does not work, or in spite of what it does, in words.
    pub cause: Option<String>,
    /// Cause as a value, if the system does not work; none where this version does not know it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "if_known")]
    pub why: Option<Box<SwitchCause>>,
    /// Checks that the verdict rests on.
    #[serde(default)]
    pub checks: Vec<Check>,
}

impl Verdict {
    /// A verdict that the system works, and in spite of what; the checks are still to come.
    pub fn good(although: Option<String>) -> Self {
        Self { good: true, cause: although, why: None, checks: Vec::new() }
    }

    /// A verdict that the system does not work; the checks are still to come.
    pub fn bad(why: SwitchCause) -> Self {
        Self {
            good: false,
            cause: Some(why.to_string()),
            why: Some(Box::new(why)),
            checks: Vec::new(),
        }
    }

    /// Returns why the system is rolled back, where the verdict says that it does not work.
    pub fn why_bad(&self) -> Cause {
        match &self.why {
            Some(why) => (**why).clone().into(),
            None => SwitchCause::JudgedBad { words: self.cause.clone() }.into(),
        }
    }
}

/// Outcome of a switch job (`outcome.json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchOutcome {
    /// End of the deployment; none when it awaits the next boot.
    pub ending: Option<Ending>,
    /// Cause of that end, in words.
    pub cause: Option<String>,
    /// Cause as a value, if the deployment did not end well; none where this version does not
    /// know it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "if_known")]
    pub why: Option<Box<SwitchCause>>,
    /// Whether the outcome counts against the system.
    pub counts: bool,
    /// Whether the system came to be left to the next boot: the boot loader may boot it once,
    /// however this ended.
    #[serde(default)]
    pub deferred: bool,
    /// The default that was kept, where the system that awaits the next boot is
    /// booted once; none: it is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<StorePath>,
    /// The time that each stage took.
    #[serde(default)]
    pub stages: Stages,
    /// Checks that the verdict rested on.
    #[serde(default)]
    pub checks: Vec<Check>,
}

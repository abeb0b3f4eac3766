//! Jobs: work in a process of its own, and the files in which it and the
//! agent tell each other what they know.
//!
//! Each job has a directory with one writer per file: `spec.json` by the agent
//! that starts it, `progress.json` and `outcome.json` by the job,
//! `verdict.json` by whichever agent is alive. A job is alive while it holds
//! the lock on its `lock`. The formats outlive versions: fields are only added.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cause::{Cause, SwitchCause, if_known};
use super::fault::Fault;
use super::open_words::open_words;
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
pub enum Kind {
    /// Evaluates and builds, or fetches, a system.
    Realise,
    /// Activates a system, waits for the verdict, commits or rolls back.
    Switch,
    /// Gives the cache what it lacks of a system that was found good.
    Publish,
}

impl Kind {
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
    pub kind: Kind,
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
        [Kind::Realise, Kind::Switch, Kind::Publish]
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
    pub fn job(&self, kind: Kind) -> JobId {
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
        self.order.job(Kind::Switch)
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

/// Reason why nothing was touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalCause {
    /// There is no room, on the store or on /boot.
    DiskSpace,
    /// A path that the system refers to is not in the store.
    IncompleteClosure,
    /// The system has no agent: nothing would follow the branch any more.
    NoAgent,
    /// The commit's flake has inputs that nothing pins.
    LockIncomplete,
    /// The commit's tree, or a file in it, is larger than this host takes.
    TooLarge,
}

impl RefusalCause {
    /// Every cause of a refusal.
    pub const ALL: [Self; 5] = [
        Self::DiskSpace,
        Self::IncompleteClosure,
        Self::NoAgent,
        Self::TooLarge,
        Self::LockIncomplete,
    ];

    /// Whether the commit itself is refused, whatever the host is like: a commit that is refused
    /// so stays refused.
    pub fn is_of_the_commit(self) -> bool {
        match self {
            Self::LockIncomplete => true,
            Self::DiskSpace | Self::IncompleteClosure | Self::NoAgent | Self::TooLarge => false,
        }
    }

    /// Returns the name of the cause, as in status and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DiskSpace => "disk-space",
            Self::IncompleteClosure => "incomplete-closure",
            Self::NoAgent => "no-agent",
            Self::LockIncomplete => "lock-incomplete",
            Self::TooLarge => "too-large",
        }
    }
}

/// A refusal before anything was touched: nobody's failure, and asked again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Cause in one word.
    pub cause: RefusalCause,
    /// Cause in a sentence, with the figures.
    pub detail: String,
    /// Evidence that the refusal rests on.
    #[serde(default)]
    pub evidence: BTreeMap<String, String>,
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

/// Outcome of a realise job (`outcome.json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RealiseOutcome {
    /// Result of trying to get the system.
    pub result: Realised,
    /// Time that the job took, in milliseconds.
    pub took: u64,
    /// Settings of the flake's `nixConfig` that were not followed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<String>,
}

/// Result of trying to get a system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Realised {
    /// The system is in the store.
    Built {
        /// Store path of the system.
        system: StorePath,
    },
    /// The commit has no such host.
    NoSuchHost {
        /// The hosts that it has.
        hosts: Vec<String>,
    },
    /// The system could not be got.
    Failed {
        /// Cause in one line or a few.
        cause: String,
        /// End of the output that was printed.
        #[serde(default)]
        tail: String,
        /// Kind of the failure; none where nobody told it apart.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fault: Option<Fault>,
    },
    /// The commit's objects are damaged in the clone.
    Damaged {
        /// Damage that was found, in words.
        cause: String,
    },
    /// The job was stopped, as asked.
    Cancelled,
    /// The commit was refused: nothing was built or fetched.
    Refused {
        /// Refusal, with what it rests on.
        refusal: Refusal,
    },
}

open_words! {
    /// Phase that a realise job is in.
    #[derive(Default)]
    pub enum RealisePhase {
        /// The job has done nothing yet.
        #[default]
        Begun = "",
        /// Writing the commit's tree out.
        Exporting = "exporting",
        /// Finding out what the system is.
        Evaluating = "evaluating",
        /// Downloading, and nothing else.
        Fetching = "fetching",
        /// Building, perhaps downloading as well.
        Building = "building",
    }
}

/// Progress of a realise job (`progress.json`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RealiseProgress {
    /// Phase that the job is in.
    pub phase: RealisePhase,
    /// Number of derivations that are built.
    pub built: u64,
    /// Number of derivations to build in all.
    pub to_build: u64,
    /// Number of paths that are fetched.
    pub fetched: u64,
    /// Number of paths to fetch in all.
    pub to_fetch: u64,
    /// Number of bytes that are fetched.
    pub bytes: u64,
    /// Number of bytes to fetch in all.
    pub bytes_expected: u64,
    /// Name of the derivation or path that is being built or fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// Why the cache is of no use, or may be of none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_trouble: Option<String>,
    /// Submodules and files in Git LFS: what they stand for is not in the
    /// repository.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub elsewhere: Vec<String>,
}

/// The order of a publish job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishOrder {
    /// Commit that the system is of, and when this was ordered. The name in it is this job's
    /// alone: it is no deployment, and is in no history.
    #[serde(flatten)]
    pub order: Order,
    /// The system whose closure the cache is to have.
    pub system: StorePath,
    /// The cache, as the policy names it.
    pub cache: Arc<str>,
}

impl PublishOrder {
    /// Returns the id of the job that carries the order out.
    pub fn job(&self) -> JobId {
        self.order.job(Kind::Publish)
    }
}

open_words! {
    /// Phase that a publish job is in.
    #[derive(Default)]
    pub enum PublishPhase {
        /// The job has done nothing yet.
        #[default]
        Begun = "",
        /// Asking the cache what it lacks.
        Asking = "asking",
        /// Sending what the cache lacks.
        Sending = "sending",
        /// Waiting for another host that gives the same.
        Waiting = "waiting",
    }
}

/// Progress of a publish job (`progress.json`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PublishProgress {
    /// Phase that the job is in.
    pub phase: PublishPhase,
    /// Number of paths that the cache has confirmed.
    pub sent: u64,
    /// Number of paths to send in all.
    pub to_send: u64,
    /// Paths that are given up for now, with those that refer to them.
    pub given_up: u64,
    /// Number of bytes that are sent, uncompressed.
    pub bytes: u64,
    /// Number of bytes to send in all, uncompressed.
    pub bytes_expected: u64,
    /// Name of the path that is being sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// Error that came last, where the path is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// Seconds for which the path is tried again still, if nothing else succeeds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<u64>,
}

/// Outcome of a publish job (`outcome.json`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PublishOutcome {
    /// Paths that were sent and that the cache has confirmed.
    pub sent: u64,
    /// Paths that the cache lacked first, and then had from another host.
    pub elsewhere: u64,
    /// Bytes of the paths that were sent, uncompressed.
    pub bytes: u64,
    /// Paths that the cache lacks still, as far as that is known.
    pub left: u64,
    /// Why paths are left, and what to do; none: the cache has everything.
    pub cause: Option<String>,
    /// Whether the job was stopped, as asked.
    pub cancelled: bool,
    /// Time that the job took, in milliseconds.
    pub took: u64,
    /// The first of the paths that could not be sent. What refers to them was
    /// not sent either, and is not named.
    pub failed: Vec<FailedPath>,
}

/// A path that could not be published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedPath {
    /// Path that could not be sent.
    pub path: StorePath,
    /// Why the path could not be sent, and what to do.
    pub why: String,
}

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

/// Names one attempt to deploy: `YYYYMMDDTHHMMSSZ-<commit 8>-<attempt>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeploymentId(Arc<str>);

impl DeploymentId {
    /// For an attempt that starts now.
    pub fn new(now: Wall, commit: Commit, attempt: u32) -> Self {
        Self(format!("{}-{}-{attempt}", now.compact(), commit.prefix(8)).into())
    }

    /// As it is written.
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
    /// Activates it, waits for the verdict, commits or puts back.
    Switch,
    /// Gives the cache what it lacks of one that was found good.
    Publish,
}

impl Kind {
    /// As in job directories and unit names.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Realise => "realise",
            Self::Switch => "switch",
            Self::Publish => "publish",
        }
    }
}

/// Names a job, its directory and its unit: `<kind>-<deployment>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId {
    /// What it does.
    pub kind: Kind,
    /// For which deployment.
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

/// What is to run on this host, and where that was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The commit.
    pub commit: Commit,
    /// The branch whose head it was.
    pub branch: Arc<str>,
    /// The remote that said so.
    pub remote: Arc<str>,
    /// What is done with it.
    pub operation: Operation,
    /// When it was first seen there.
    pub first_seen: Wall,
}

impl Target {
    /// The same commit for the same purpose, wherever it was seen.
    pub fn same_as(&self, other: &Target) -> bool {
        self.commit == other.commit && self.operation == other.operation
    }
}

/// What every job's `spec.json` begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The deployment that it works for.
    pub deployment: DeploymentId,
    /// What that deployment is to bring about.
    pub target: Target,
    /// How often that was tried, with this.
    pub attempt: u32,
    /// When the deployment began.
    pub started: Wall,
    /// How a commit's tree becomes a system.
    pub recipe: Arc<str>,
    /// The boot in which the job was ordered.
    pub boot_id: BootId,
    /// When it was ordered, in that boot.
    pub ordered: Mono,
}

impl Order {
    /// The job of a kind that carries it out.
    pub fn job(&self, kind: Kind) -> JobId {
        JobId { kind, deployment: self.deployment.clone() }
    }
}

/// A profile's generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Its number.
    pub number: u64,
    /// The system it names.
    pub system: StorePath,
}

/// What a switch job does before it waits for the verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "HowFields", into = "HowFields")]
pub enum How {
    /// `switch-to-configuration test`.
    Activate,
    /// Nothing: the system runs already and lacks a verdict or the default.
    Verify,
    /// Nothing, and no verdict yet: it becomes the default for the next boot.
    Boot {
        /// Why it is left to the next boot.
        why: String,
    },
    /// Nothing, for the candidate is given up: another system takes its place.
    Restore(Restore),
}

/// Why the candidate is given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restore {
    /// A person wants what was there before: that is activated, and becomes the default.
    Asked {
        /// Why, in the person's words; may be empty.
        reason: String,
    },
    /// The boot loader booted another system, which becomes the default.
    FellBack,
}

impl How {
    /// The name of the variant, as in the log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Activate => "Activate",
            Self::Verify => "Verify",
            Self::Boot { .. } => "Boot",
            Self::Restore(_) => "Restore",
        }
    }

    /// Why a person wants the candidate given up, if one does; may be empty.
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
    /// Which deployment, when.
    #[serde(flatten)]
    pub order: Order,
    /// The system that is to run.
    pub candidate: StorePath,
    /// The system that is put back if it does not work; none on a host where
    /// nothing ran before.
    pub old: Option<StorePath>,
    /// What comes before the verdict.
    #[serde(flatten)]
    pub how: How,
    /// What ran when this was ordered: anything else but the candidate was
    /// put there by another hand.
    pub running: Option<StorePath>,
    /// The profile when this was ordered; likewise.
    pub profile: Option<Generation>,
    /// Limit of one `switch-to-configuration`.
    pub activation_timeout: Duration,
    /// No good verdict within this time of the activation's end means put back.
    pub health_timeout: Duration,
    /// Whether a remote answered before: if none did, none needs to after.
    pub remote_before: bool,
    /// Whether the host's units are looked after, which takes systemd.
    #[serde(default)]
    pub units: bool,
    /// Whether the host is rebooted if the old system cannot be put back.
    #[serde(default)]
    pub reboot_if_stuck: bool,
    /// What boots by default if it fails, though it does so already: it was left
    /// to a boot that never came, and nobody found it good.
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
    /// The same for the system that is put back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_specialisation: Option<String>,
}

/// Name of the agent's own check that a remote answers.
pub const REMOTE_CHECK: &str = "remote";
/// Name of the agent's own check that the host's units run.
pub const UNITS_CHECK: &str = "units";

/// Whose check it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CheckKind {
    /// One of the configuration's.
    #[default]
    Configured,
    /// The agent's own, that a remote answers.
    Remote,
    /// The agent's own, that the host's units run.
    Units,
}

impl SwitchOrder {
    /// The job that carries it out.
    pub fn job(&self) -> JobId {
        self.order.job(Kind::Switch)
    }
}

/// One check's result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its name in the configuration.
    pub name: String,
    /// Whose check it is; told from its name by nobody, since the configuration gives
    /// names. Not in JSON: it matters to the agent that made the check alone.
    #[serde(skip)]
    pub kind: CheckKind,
    /// Whether it passed.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// Whether failing it puts the old system back.
    pub required: bool,
    /// What it found to be wrong, and did not count: `x.service has failed`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uncounted: Vec<String>,
}

/// What the agent says of an activated system (`verdict.json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether it works.
    pub good: bool,
    /// If not, or in spite of what, in words.
    pub cause: Option<String>,
    /// The same, if it does not work, as what it is.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "if_known")]
    pub why: Option<Box<SwitchCause>>,
    /// What that rests on.
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

    /// Why the system is put back, where this says that it does not work.
    pub fn why_bad(&self) -> Cause {
        match &self.why {
            Some(why) => (**why).clone().into(),
            None => SwitchCause::JudgedBad { words: self.cause.clone() }.into(),
        }
    }
}

/// How a deployment ended: each as exactly one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// It runs, was verified, and is the boot default if it was to be.
    Good,
    /// The old system was put back.
    RolledBack,
    /// Nothing was changed, or there was nothing to put back.
    Failed,
    /// Something killed it.
    Interrupted,
    /// Something newer, or another hand, took its place.
    Superseded,
}

impl Ending {
    /// As in history and metrics.
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

/// How long each stage took, in milliseconds; absent for one not reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stages {
    /// Evaluating, building, fetching.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realise: Option<u64>,
    /// `switch-to-configuration test`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activate: Option<u64>,
    /// From its end to the verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<u64>,
    /// Profile and boot loader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<u64>,
    /// Putting the old system back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<u64>,
}

/// Why nothing was touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalCause {
    /// There is no room, on the store or on /boot.
    DiskSpace,
    /// Something that the system refers to is not in the store.
    IncompleteClosure,
    /// The system has no agent: nothing would follow the branch any more.
    NoAgent,
    /// The commit's flake has inputs that nothing pins.
    LockIncomplete,
    /// The commit's tree, or a file in it, is larger than this host takes.
    TooLarge,
}

impl RefusalCause {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::DiskSpace,
        Self::IncompleteClosure,
        Self::NoAgent,
        Self::TooLarge,
        Self::LockIncomplete,
    ];

    /// Whether it is the commit that is refused, whatever the host is like: what is
    /// refused so stays refused.
    pub fn is_of_the_commit(self) -> bool {
        match self {
            Self::LockIncomplete => true,
            Self::DiskSpace | Self::IncompleteClosure | Self::NoAgent | Self::TooLarge => false,
        }
    }

    /// As in status and metrics.
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
    /// In one word.
    pub cause: RefusalCause,
    /// In a sentence, with the figures.
    pub detail: String,
    /// What that rests on.
    #[serde(default)]
    pub evidence: BTreeMap<String, String>,
}

/// What came of a switch job (`outcome.json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchOutcome {
    /// How the deployment ended; none when it awaits the next boot.
    pub ending: Option<Ending>,
    /// Why, in words.
    pub cause: Option<String>,
    /// The same, if it did not end well, as what it is.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "if_known")]
    pub why: Option<Box<SwitchCause>>,
    /// Whether it counts against the system.
    pub counts: bool,
    /// Whether it came to be left to the next boot: the boot loader may boot it
    /// once, however this ended.
    #[serde(default)]
    pub deferred: bool,
    /// The default that was kept, where the system that awaits the next boot is
    /// booted once; none: it is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<StorePath>,
    /// The time that each stage took.
    #[serde(default)]
    pub stages: Stages,
    /// What the verdict rested on.
    #[serde(default)]
    pub checks: Vec<Check>,
}

/// What came of a realise job (`outcome.json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RealiseOutcome {
    /// What came of it.
    pub result: Realised,
    /// How long it took, in milliseconds.
    pub took: u64,
    /// Settings of the flake's `nixConfig` that were not followed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<String>,
}

/// What came of trying to get a system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Realised {
    /// The system is in the store.
    Built {
        /// Where.
        system: StorePath,
    },
    /// The commit has no such host.
    NoSuchHost {
        /// The hosts that it has.
        hosts: Vec<String>,
    },
    /// It could not be got.
    Failed {
        /// Why, in one line or a few.
        cause: String,
        /// The end of what was printed.
        #[serde(default)]
        tail: String,
        /// What kind of failure it was; none where nobody told it apart.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fault: Option<Fault>,
    },
    /// The commit's objects are damaged in the clone.
    Damaged {
        /// What was found.
        cause: String,
    },
    /// It was stopped, as asked.
    Cancelled,
    /// Nothing was built or fetched.
    Refused {
        /// Why.
        refusal: Refusal,
    },
}

open_words! {
    /// What a realise job is doing.
    #[derive(Default)]
    pub enum RealisePhase {
        /// Nothing yet.
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

/// What a realise job is doing (`progress.json`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RealiseProgress {
    /// What it does now.
    pub phase: RealisePhase,
    /// Derivations built, and to build in all.
    pub built: u64,
    /// See `built`.
    pub to_build: u64,
    /// Paths fetched, and to fetch in all.
    pub fetched: u64,
    /// See `fetched`.
    pub to_fetch: u64,
    /// Bytes fetched, and to fetch in all.
    pub bytes: u64,
    /// See `bytes`.
    pub bytes_expected: u64,
    /// What is being built or fetched.
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
    /// Which commit's it is, and when this was ordered. The name in it is this
    /// job's alone: it is no deployment, and is in no history.
    #[serde(flatten)]
    pub order: Order,
    /// The system whose closure the cache is to have.
    pub system: StorePath,
    /// The cache, as the policy names it.
    pub cache: Arc<str>,
}

impl PublishOrder {
    /// The job that carries it out.
    pub fn job(&self) -> JobId {
        self.order.job(Kind::Publish)
    }
}

open_words! {
    /// What a publish job is doing.
    #[derive(Default)]
    pub enum PublishPhase {
        /// Nothing yet.
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

/// What a publish job is doing (`progress.json`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PublishProgress {
    /// What it does now.
    pub phase: PublishPhase,
    /// Paths that the cache has confirmed, and to send in all.
    pub sent: u64,
    /// See `sent`.
    pub to_send: u64,
    /// Paths that are given up for now, with those that refer to them.
    pub given_up: u64,
    /// Bytes sent, uncompressed, and to send in all.
    pub bytes: u64,
    /// See `bytes`.
    pub bytes_expected: u64,
    /// What is being sent: the name of one path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// What went wrong last, and is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// For how many seconds it is tried again still, if nothing else succeeds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<u64>,
}

/// What came of a publish job (`outcome.json`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PublishOutcome {
    /// Paths that were sent and that the cache has confirmed.
    pub sent: u64,
    /// Paths that the cache lacked first, and then had from another host.
    pub elsewhere: u64,
    /// Bytes of these, uncompressed.
    pub bytes: u64,
    /// Paths that the cache lacks still, as far as that is known.
    pub left: u64,
    /// Why, and what to do; none: it has everything.
    pub cause: Option<String>,
    /// It was stopped, as asked.
    pub cancelled: bool,
    /// How long it took, in milliseconds.
    pub took: u64,
    /// The first of the paths that could not be sent. What refers to them was
    /// not sent either, and is not named.
    pub failed: Vec<FailedPath>,
}

/// A path that could not be published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedPath {
    /// The path.
    pub path: StorePath,
    /// Why, and what to do.
    pub why: String,
}

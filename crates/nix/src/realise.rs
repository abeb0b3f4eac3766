//! Gets the system that a commit describes for this host, in two steps: it is
//! evaluated ([`evaluate`]), which yields a derivation and may run anything that
//! the commit says; and the derivation is built ([`build`]), by its name alone.
//!
//! It does not fetch or export the commit, retries nothing, and judges a
//! system by one thing only: that there is something to switch with. Whether
//! evaluation or a build failed is told by what Nix was doing at that time, and
//! want of memory by what the kernel counts, never by Nix's words.
//!
//! Between the steps nothing but this keeps the derivation in the store: it is held
//! there as soon as its name is known, and evaluated again if it was collected in
//! the moment before.
//!
//! [`evaluate`]: super::evaluate
//! [`build`]: super::build

use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::time::Duration;

use futures_util::FutureExt as _;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::build::{Build, build, hold};
use super::course::{Course, broken};
use super::evaluate::evaluate;
use super::evaluator::Evaluator;
use super::{Nix, Progress};
use fort_core::fault::Fault;
use fort_core::types::{Commit, StorePath};
use fort_sys::error_chain;

/// How often a derivation may be collected before it is built.
const TRIES: usize = 3;

/// Specification of a realisation: the commit, the expression in it, and how Nix is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RealiseSpec {
    /// Commit whose tree is evaluated.
    pub commit: Commit,
    /// The commit's tree, exported. Never changed while this runs.
    pub export: PathBuf,
    /// The commit's time (the committer's), in seconds since 1970: the
    /// flake's `self.lastModified`.
    pub last_modified: i64,
    /// How many commits it consists of: the flake's `self.revCount`.
    pub rev_count: u64,
    /// The bare repository that has the commit; for Nix before 2.26.
    pub clone: PathBuf,
    /// Replaces `{hostname}` in `flake_dir` and `attribute`.
    pub hostname: String,
    /// Kind of the expression: a flake or a plain file.
    pub kind: RecipeKind,
    /// The file to evaluate, below `flake_dir`; for [`RecipeKind::File`].
    pub file: String,
    /// The directory of the flake or file in the tree; `.` is its top.
    pub flake_dir: String,
    /// The attribute that is the system.
    pub attribute: String,
    /// How Nix is run.
    pub nix: Nix,
    /// User that evaluates; `None` evaluates as the calling process, with all its rights.
    pub evaluator: Option<Evaluator>,
    /// Time limit of evaluation and build together.
    pub timeout: Duration,
    /// A link to the system, and its root in the store; its directory exists.
    pub out_link: PathBuf,
}

/// Kind of the expression that describes the systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecipeKind {
    /// A flake: evaluated purely.
    Flake,
    /// A file: nothing keeps it from reading the host's other files.
    File,
}

/// Outcome of a realisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum RealiseOutcome {
    /// The system is in the store, and rooted there by the out-link.
    Built {
        /// Store path of the system.
        system: StorePath,
        /// Derivation that the system was built from.
        drv: StorePath,
    },
    /// The commit describes other hosts, not this one.
    NoSuchHost {
        /// The host that is not there.
        hostname: String,
        /// Hosts that the commit does describe.
        hosts: Vec<String>,
    },
    /// The flake has inputs that nothing pins: another host, or this one tomorrow,
    /// would get another system of the same commit. Nothing was fetched, evaluated
    /// or built, as far as that could be told.
    LockIncomplete {
        /// The inputs, by their names from the flake.
        inputs: Vec<String>,
        /// The flake's directory in the tree; empty for its top.
        directory: String,
    },
    /// The commit's expression does not evaluate to a system.
    EvaluationFailed {
        /// Error message in short, for people.
        cause: String,
        /// End of Nix's output.
        tail: String,
    },
    /// Something that the system consists of could not be got.
    BuildFailed {
        /// Error message in short, for people.
        cause: String,
        /// End of the output of Nix and the builders.
        tail: String,
        /// Derivation whose builder failed; `None` if it is not known.
        drv: Option<StorePath>,
        /// Kind of the failure.
        fault: Fault,
    },
    /// Evaluation and build took longer than the time limit.
    TimedOut,
    /// The realisation was cancelled before its end.
    Cancelled,
    /// Nothing is known about the commit: Nix could not be run, or its store
    /// not be reached.
    Broken {
        /// Error message in short, for people.
        cause: String,
        /// Kind of the failure.
        fault: Fault,
    },
}

/// From where the build fetches what is there.
pub struct Fetching<'a> {
    /// How Nix is run for that.
    pub nix: &'a Nix,
    /// Tells whether what it fetches from is gone, so that a failed build is worth
    /// another try without it.
    pub lost: &'a dyn Fn() -> Pin<Box<dyn Future<Output = bool> + 'a>>,
}

/// Realises a system. Calls `progress` whenever something changed, which can
/// be a thousand times a second. When `cancel` becomes ready, Nix and its
/// builders are stopped before this returns.
pub async fn realise(
    spec: &RealiseSpec,
    fetching: Option<Fetching<'_>>,
    progress: impl FnMut(Progress),
    cancel: impl Future<Output = ()>,
) -> RealiseOutcome {
    // Polled no more once it has stopped something.
    let mut cancel = pin!(cancel.fuse());
    let mut course = Course::new(progress);
    let deadline = Instant::now() + spec.timeout;
    for _ in 0..TRIES {
        let drv = match evaluate(spec, deadline, &mut course, cancel.as_mut()).await {
            Ok(drv) => drv,
            Err(outcome) => return outcome,
        };
        let held = match hold(&spec.nix, &drv).await {
            Ok(held) => held,
            Err(error) => {
                return broken(format!(
                    "the store cannot be reached: {}",
                    error_chain::line(&error)
                ));
            }
        };
        if held.is_some() {
            let built =
                fetch_or_build(spec, &drv, &fetching, deadline, &mut course, cancel.as_mut());
            match built.await {
                Build::Ended(outcome) => return outcome,
                Build::Lost => {}
            }
        }
        tracing::warn!(%drv, "the derivation was collected as garbage: it is evaluated again");
    }
    broken(format!("what the system is built from was collected as garbage {TRIES} times"))
}

/// Builds with what is fetched from; and without it, if it was lost on the way.
///
/// Nix falls back to building by itself, but not always: old versions are
/// aborted by what a cache answers, and what it was told through a daemon may
/// not have arrived there.
async fn fetch_or_build(
    spec: &RealiseSpec,
    drv: &StorePath,
    fetching: &Option<Fetching<'_>>,
    deadline: Instant,
    course: &mut Course<impl FnMut(Progress)>,
    mut cancel: Pin<&mut impl Future<Output = ()>>,
) -> Build {
    let link = &spec.out_link;
    let Some(Fetching { nix, lost }) = fetching else {
        return build(&spec.nix, drv, link, deadline, course, cancel).await;
    };
    let ended = build(nix, drv, link, deadline, course, cancel.as_mut()).await;
    let failed = match &ended {
        Build::Ended(RealiseOutcome::BuildFailed { .. } | RealiseOutcome::Broken { .. }) => true,
        Build::Ended(
            RealiseOutcome::Built { .. }
            | RealiseOutcome::NoSuchHost { .. }
            | RealiseOutcome::LockIncomplete { .. }
            | RealiseOutcome::EvaluationFailed { .. }
            | RealiseOutcome::TimedOut
            | RealiseOutcome::Cancelled,
        )
        | Build::Lost => false,
    };
    if !failed || Instant::now() >= deadline || !lost().await {
        return ended;
    }
    if let Build::Ended(outcome) = ended {
        tracing::warn!(?outcome, "the cache was lost meanwhile: again, without it");
    }
    build(&spec.nix, drv, link, deadline, course, cancel).await
}

impl RealiseSpec {
    /// The directory of the flake or file, for this host.
    pub(super) fn directory(&self) -> String {
        self.flake_dir.replace("{hostname}", &self.hostname)
    }

    /// Returns a path as the evaluating user sees it.
    pub(super) fn seen(&self, path: &Path) -> PathBuf {
        match &self.evaluator {
            Some(evaluator) => evaluator.sees(path),
            None => path.to_owned(),
        }
    }

    /// Whether Nix's version has to be known: only a flake in a directory depends on it.
    pub(super) fn asks_version(&self) -> bool {
        let top = matches!(self.flake_dir.trim_end_matches('/'), "" | ".");
        self.kind == RecipeKind::Flake && !top
    }
}

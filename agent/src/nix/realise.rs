//! Gets the system that a commit describes for this host: evaluates and
//! builds in one `nix` process, and says how that went.
//!
//! It does not fetch or export the commit, retries nothing, and judges a
//! system by one thing only: that there is something to switch with. Whether
//! evaluation or a build failed is told by what Nix was doing at that time,
//! never by its words.
//!
//! Nix's own cache of evaluations is off: it would remember a failure for as
//! long as the commit is the same, also one that a lost network caused.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::log::{Failure, Log};
use super::reference::{Reference, attribute_of_host, prefix_of_host};
use super::{Nix, Progress, QUICK, executable};
use crate::command::{Command, End, Finished, Stream};
use crate::core::plain::clean;
use crate::core::types::{Commit, StorePath};

/// What is listed of a host's name, which the commit chose, in characters.
const HOST_CHARS: usize = 100;
/// Names of hosts beyond this many are not listed.
const MOST_HOSTS: usize = 1000;

/// What to realise, and with what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RealiseSpec {
    /// Whose tree it is.
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
    /// What kind of expression it is.
    pub kind: Kind,
    /// The file to evaluate, below `flake_dir`; for [`Kind::File`].
    pub file: String,
    /// The directory of the flake or file in the tree; `.` is its top.
    pub flake_dir: String,
    /// The attribute that is the system.
    pub attribute: String,
    /// How Nix is run.
    pub nix: Nix,
    /// For evaluation and build together.
    pub timeout: Duration,
    /// A link to the system, and its root in the store; its directory exists.
    pub out_link: PathBuf,
}

/// What kind of expression describes the systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A flake: evaluated purely.
    Flake,
    /// A file: nothing keeps it from reading the host's other files.
    File,
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum RealiseOutcome {
    /// The system is in the store, and rooted there by the out-link.
    Built {
        /// The system.
        system: StorePath,
        /// What it was built from.
        drv: StorePath,
    },
    /// The commit describes other hosts, not this one.
    NoSuchHost {
        /// The host that is not there.
        hostname: String,
        /// Those that are.
        hosts: Vec<String>,
    },
    /// What the commit says is no system.
    EvaluationFailed {
        /// In short, for people.
        cause: String,
        /// The end of what Nix said.
        tail: String,
    },
    /// Something that the system consists of could not be got.
    BuildFailed {
        /// In short, for people.
        cause: String,
        /// The end of what Nix and the builders said.
        tail: String,
        /// Whose builder failed, if that is known.
        drv: Option<StorePath>,
    },
    /// It took longer than it may.
    TimedOut,
    /// It was not wanted any more.
    Cancelled,
    /// Nothing is known about the commit: Nix could not be run, or its store
    /// not be reached.
    Broken {
        /// In short, for people.
        cause: String,
    },
}

/// Realises a system. Calls `progress` whenever something changed, which can
/// be a thousand times a second. When `cancel` becomes ready, Nix and its
/// builders are stopped before this returns.
pub async fn realise(
    spec: &RealiseSpec,
    mut progress: impl FnMut(Progress),
    cancel: impl Future<Output = ()>,
) -> RealiseOutcome {
    let mut cancel = pin!(cancel);
    let ended = attempt(spec, &mut progress, cancel.as_mut()).await;
    ended.unwrap_or_else(|outcome| outcome)
}

/// The outcome on either side: an early one comes as `Err`.
async fn attempt(
    spec: &RealiseSpec,
    progress: &mut impl FnMut(Progress),
    mut cancel: Pin<&mut impl Future<Output = ()>>,
) -> Result<RealiseOutcome, RealiseOutcome> {
    if !spec.export.is_dir() {
        return Err(broken(format!("no exported tree at {}", spec.export.display())));
    }
    let version = if spec.asks_version() {
        Some(spec.nix.version().await.map_err(|error| broken(chain(&error)))?)
    } else {
        None
    };
    let reference = Reference::of(spec, version).map_err(|error| broken(error.to_string()))?;
    let attribute = attribute_of_host(&spec.attribute, &spec.hostname);
    let command = evaluating(spec, &["build", "--json"])
        .args(["--log-format", "internal-json", "--out-link"])
        .arg(&spec.out_link)
        .args(reference.arguments(&attribute))
        .time_limit(spec.timeout);

    let mut log = Log::new();
    let mut last = Progress::default();
    progress(last.clone());
    let on_line = |stream: Stream, line: &[u8]| {
        if stream == Stream::Stdout {
            return;
        }
        log.read(line);
        let now = log.progress();
        if now != last {
            last = now;
            progress(last.clone());
        }
    };
    let done = command.run_with_lines(cancel.as_mut(), on_line).await;
    let done = ended(done.map_err(|error| broken(chain(&error)))?)?;
    if done.end.success() {
        return Ok(built(spec, &done));
    }

    let Failure { cause, tail, realising, drv } = log.failure();
    if realising {
        let drv = drv.and_then(|drv| drv.parse().ok());
        return Ok(RealiseOutcome::BuildFailed { cause, tail, drv });
    }
    if let Some(missing) = missing_host(spec, &reference, cancel.as_mut()).await? {
        return Ok(missing);
    }
    // `nix store ping` is called `info` since 2.19; the old name still works.
    let ping = spec.nix.nix(&["store", "ping"]).time_limit(QUICK).run(cancel).await;
    let ping = ended(ping.map_err(|error| broken(chain(&error)))?)?;
    if !ping.end.success() {
        return Ok(broken(format!("the store cannot be reached: {cause}")));
    }
    Ok(RealiseOutcome::EvaluationFailed { cause, tail })
}

/// Whether the attribute is missing because the host is: only then is there
/// something to say that the error did not.
async fn missing_host(
    spec: &RealiseSpec,
    reference: &Reference,
    cancel: Pin<&mut impl Future<Output = ()>>,
) -> Result<Option<RealiseOutcome>, RealiseOutcome> {
    let Some(prefix) = prefix_of_host(&spec.attribute) else { return Ok(None) };
    let command = evaluating(spec, &["eval", "--json"])
        .args(reference.arguments(&prefix))
        .args(["--apply", "builtins.attrNames"])
        .time_limit(QUICK);
    let done = match command.run(cancel).await.map_err(|error| broken(chain(&error)))? {
        Finished { end: End::Cancelled, .. } => return Err(RealiseOutcome::Cancelled),
        done => done,
    };
    // If this fails too, or says what we do not understand, the first error
    // stands.
    let hosts: Vec<String> = match done.end {
        End::Exit(0) => serde_json::from_slice(&done.stdout).unwrap_or_default(),
        End::Exit(_) | End::Signal(_) | End::TimedOut | End::Cancelled => Vec::new(),
    };
    if hosts.is_empty() || hosts.contains(&spec.hostname) {
        return Ok(None);
    }
    let shown = |host: String| clean(&host).chars().take(HOST_CHARS).collect();
    let hosts = hosts.into_iter().take(MOST_HOSTS).map(shown).collect();
    Ok(Some(RealiseOutcome::NoSuchHost { hostname: spec.hostname.clone(), hosts }))
}

fn evaluating(spec: &RealiseSpec, subcommand: &[&str]) -> Command {
    let options = ["--no-write-lock-file", "--option", "eval-cache", "false"];
    spec.nix.nix(subcommand).args(options)
}

/// Sorts out the ends that say nothing about the commit.
fn ended(done: Finished) -> Result<Finished, RealiseOutcome> {
    match done.end {
        End::Exit(_) => Ok(done),
        End::TimedOut => Err(RealiseOutcome::TimedOut),
        End::Cancelled => Err(RealiseOutcome::Cancelled),
        End::Signal(signal) => Err(broken(format!("nix was killed by signal {signal}"))),
    }
}

/// What `nix build --json` prints for one thing built: a list of one, of
/// which this much is the same from 2.8 to 2.34.
#[derive(Deserialize)]
struct BuiltPath {
    #[serde(rename = "drvPath")]
    drv: StorePath,
    outputs: Outputs,
}

#[derive(Deserialize)]
struct Outputs {
    out: StorePath,
}

fn built(spec: &RealiseSpec, done: &Finished) -> RealiseOutcome {
    let no_system = |cause: String| RealiseOutcome::EvaluationFailed { cause, tail: String::new() };
    let Ok([BuiltPath { drv, outputs: Outputs { out: system } }]) =
        serde_json::from_slice::<[BuiltPath; 1]>(&done.stdout)
    else {
        return no_system(format!("{} is not one derivation", spec.attribute));
    };
    let switch = Path::new(system.as_str()).join("bin/switch-to-configuration");
    if !spec.nix.store_root().resolve(&switch).is_ok_and(|file| executable(&file)) {
        return no_system(format!("{system} is not a system: no bin/switch-to-configuration"));
    }
    RealiseOutcome::Built { system, drv }
}

impl RealiseSpec {
    /// The directory of the flake or file, for this host.
    pub(super) fn directory(&self) -> String {
        self.flake_dir.replace("{hostname}", &self.hostname)
    }

    /// What works depends on Nix's version only for a flake in a directory.
    fn asks_version(&self) -> bool {
        let top = matches!(self.flake_dir.trim_end_matches('/'), "" | ".");
        self.kind == Kind::Flake && !top
    }
}

fn broken(cause: String) -> RealiseOutcome {
    RealiseOutcome::Broken { cause }
}

/// An error with what it comes from, in a line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        said.push_str(&format!(": {error}"));
        source = error.source();
    }
    said
}

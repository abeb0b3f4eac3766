//! The realise job as a process: exports one commit's tree, and has Nix
//! evaluate and build its system. It is root; whoever evaluates need not be.

use std::cell::{Cell, RefCell};
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_util::FutureExt as _;
use tokio::sync::oneshot;
use tracing::Instrument as _;

use super::dir::{JobDir, JobFile};
use super::spec::{RealiseHost, RealiseSpec};
use crate::core::fault::Fault;
use crate::core::job::{
    RealiseOutcome, RealisePhase, RealiseProgress, Realised, Refusal, RefusalCause,
};
use crate::crash::{self, Place};
use crate::files::{self, Durability};
use crate::git::export::{self, Export, ExportError, Exported, Unfit};
use crate::git::{Exceeded, NoRoom};
use crate::nix::realise::{self, Fetching, realise};
use crate::nix::{Nix, Phase, Progress, StoreRoot};
use crate::preflight::{self, Need};
use crate::substitute::{self, Prepared};

/// Shortest time between two writes of the progress.
const PACE: Duration = Duration::from_millis(250);
/// Longest end of the output that is kept as the cause, in bytes.
const TAIL: usize = 4 << 10;

/// Runs the realise job of a directory to its end, or until `cancelled`. `agent` is
/// this program, which exports in a process of its own.
pub async fn run(
    agent: &Path,
    directory: &Path,
    cancelled: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let dir = JobDir::at(directory);
    let Some((mut lock, spec)) = dir.begin::<RealiseSpec>()? else { return Ok(()) };
    let began = Instant::now();
    let span = tracing::info_span!(
        "realise",
        deployment = %spec.order.deployment,
        commit = %spec.order.target.commit,
        stage = "realise"
    );
    let ignored = RefCell::default();
    let work = async {
        let result = work(agent, &dir, &spec, cancelled, &ignored).await;
        tracing::info!(?result, "over");
        result
    };
    let result = work.instrument(span).await;
    let took = began.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
    let outcome = RealiseOutcome { result, took, ignored: ignored.into_inner() };
    let written = dir.write(JobFile::Outcome, &outcome, Durability::Durable);
    written
        .inspect_err(|error| dir.leave_word(&mut lock, error))
        .context("cannot write the outcome")
}

/// Evaluates and builds. `ignored`: settings of the flake's own that Nix did not follow.
async fn work(
    agent: &Path,
    dir: &JobDir,
    spec: &RealiseSpec,
    cancelled: impl Future<Output = ()>,
    ignored: &RefCell<Vec<String>>,
) -> Realised {
    note(dir, &RealiseProgress { phase: RealisePhase::Exporting, ..RealiseProgress::default() });
    let host = &spec.host;
    let mut cancelled = pin!(cancelled.fuse());
    let (exported, cache) = tokio::select! {
        biased;
        () = cancelled.as_mut() => return Realised::Cancelled,
        both = async { tokio::join!(export_tree(agent, spec), with_cache(host)) } => both,
    };
    let exported = match exported {
        Ok(exported) => exported,
        // Both were told to stop.
        Err(ExportError::Crashed { .. }) if cancelled.as_mut().now_or_never().is_some() => {
            return Realised::Cancelled;
        }
        Err(error) => return not_exported(error),
    };
    let elsewhere = exported.elsewhere;
    if !elsewhere.is_empty() {
        tracing::warn!(?elsewhere, "what these stand for is not in the repository");
    }
    crash::place(Place::Exported);
    let spec = realise::RealiseSpec {
        commit: spec.order.target.commit,
        export: exported.dir,
        last_modified: exported.last_modified,
        rev_count: exported.rev_count,
        clone: host.clone.clone(),
        hostname: host.hostname.clone(),
        kind: host.kind,
        file: host.file.clone(),
        flake_dir: host.flake_dir.clone(),
        attribute: host.attribute.clone(),
        nix: host.nix.clone(),
        evaluator: host.evaluator.clone(),
        timeout: host.timeout,
        out_link: dir.path().join("result"),
    };
    // What came last is written at the next tick: a build that is silent for an
    // hour must not look like the moment before it.
    let latest = Cell::new(None::<Progress>);
    let room = Room::of(&host.nix);
    let (refuse, refused) = oneshot::channel();
    let mut refuse = Some(refuse);
    let on_progress = |progress: Progress| {
        if let Some(refusal) = room.refusal(&progress)
            && let Some(refuse) = refuse.take()
        {
            let _ = refuse.send(refusal);
        }
        crash::phase(&progress.phase);
        learn(&mut ignored.borrow_mut(), &progress.ignored);
        latest.set(Some(progress));
    };
    let found = Cell::new(None::<Refusal>);
    let stop = async {
        tokio::select! {
            () = cancelled => {}
            Ok(refusal) = refused => found.set(Some(refusal)),
        }
    };
    let settings = host.cache.as_ref();
    let lost = || -> Pin<Box<dyn Future<Output = bool> + '_>> {
        Box::pin(async move {
            match settings {
                Some(settings) => !settings.answers().await,
                None => false,
            }
        })
    };
    let fetching = cache.nix.as_ref().map(|nix| Fetching { nix, lost: &lost });
    let mut work = pin!(realise(&spec, fetching, on_progress, stop));
    let mut ticks = tokio::time::interval(PACE);
    loop {
        tokio::select! {
            ended = &mut work => {
                crash::place(Place::Realised);
                return match found.take() {
                    Some(refusal) => Realised::Refused { refusal },
                    None => for_want_of(&elsewhere, outcome(ended, host.timeout)),
                };
            }
            _ = ticks.tick() => {
                if let Some(progress) = latest.take() {
                    let cache_trouble = cache.trouble.clone();
                    let elsewhere = elsewhere.clone();
                    note(dir, &RealiseProgress { cache_trouble, elsewhere, ..told(&progress) });
                }
            }
        }
    }
}

/// Nix with the cache, if there is one that answers.
async fn with_cache(host: &RealiseHost) -> Prepared {
    match &host.cache {
        Some(cache) => substitute::prepared(&host.nix, cache).await,
        None => Prepared::default(),
    }
}

/// Whether what Nix announces that it will do fits the store.
///
/// Nix looks for all that is missing before it builds, and says how much that is
/// before it downloads or builds the first of it (seen with 2.8, 2.26 and 2.34).
/// So its own figures are judged, and Nix is stopped when they do not fit: that
/// costs nothing. What it may have begun in that moment is not valid, and goes with
/// the garbage. The store's daemon could be asked before the build, now that the
/// derivation's name is known by then; but caches would be asked twice for the same.
struct Room {
    store: StoreRoot,
    /// Bytes to fetch in all, and whether there was anything to do, when last judged.
    judged: Cell<(u64, bool)>,
}

impl Room {
    fn of(nix: &Nix) -> Self {
        Self { store: nix.store_root(), judged: Cell::default() }
    }

    /// Returns why it must not go on, if so; looks again when more is announced.
    fn refusal(&self, progress: &Progress) -> Option<Refusal> {
        let need = Need::of_progress(progress);
        let (most, worked) = self.judged.get();
        if progress.bytes_expected <= most && need.work <= worked {
            return None;
        }
        self.judged.set((progress.bytes_expected.max(most), need.work || worked));
        match preflight::room(&self.store, need) {
            Ok(found) => found.err(),
            // The build itself will say what is wrong.
            Err(error) => {
                tracing::warn!("{error:#}");
                None
            }
        }
    }
}

/// Exports the tree of the commit into a directory that no other job has. The trees of
/// earlier jobs go, but for the last one, which lends its unchanged files.
async fn export_tree(agent: &Path, spec: &RealiseSpec) -> Result<Exported, ExportError> {
    let (host, order) = (&spec.host, &spec.order);
    files::private_directory(&host.exports).map_err(|error| ExportError::Local {
        path: host.exports.clone(),
        why: error.to_string(),
    })?;
    // Of a job that was killed; there is one at a time.
    export::sweep_all(&host.exports);
    let mut earlier: Vec<PathBuf> = fs::read_dir(&host.exports)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    earlier.retain(|path| path.is_dir());
    earlier.sort();
    let wanted = host.exports.join(order.deployment.as_str());
    let previous = earlier.pop().filter(|last| *last != wanted);
    let export = Export {
        clone: host.clone.clone(),
        commit: order.target.commit,
        dest: wanted,
        previous,
        submodules: host.submodules,
        limits: host.limits,
    };
    let exported = export::run(agent, &export).await?;
    for old in earlier {
        let mut label = old.clone().into_os_string();
        label.push(".commit");
        let removed = fs::remove_dir_all(&old).and_then(|()| fs::remove_file(label));
        if let Err(error) = removed {
            tracing::warn!(%error, tree = %old.display(), "cannot remove an old tree");
        }
    }
    Ok(exported)
}

/// Returns the outcome for a commit whose tree could not be written.
fn not_exported(error: ExportError) -> Realised {
    let said = error.to_string();
    let too_large = |limit: u64| {
        let evidence = [("limit".into(), limit.to_string())].into();
        let refusal = Refusal { cause: RefusalCause::TooLarge, detail: said.clone(), evidence };
        Realised::Refused { refusal }
    };
    let failed = |fault: Fault| Realised::Failed {
        cause: said.clone(),
        tail: String::new(),
        fault: Some(fault),
    };
    match error {
        ExportError::Damaged(cause) => Realised::Damaged { cause },
        ExportError::TooLarge { limit }
        | ExportError::Refused { why: Unfit::TooLarge { limit }, .. }
        | ExportError::Exceeds(
            Exceeded::Memory { limit }
            | Exceeded::Object { limit }
            | Exceeded::Pack { limit }
            | Exceeded::List { limit },
        ) => too_large(limit),
        ExportError::NoRoom(NoRoom { directory, free, keep, need: _ }) => {
            Realised::Refused { refusal: preflight::no_room(&directory, free, keep, said) }
        }
        ExportError::Refused { .. } | ExportError::Unreadable(_) => failed(Fault::Evaluation),
        ExportError::DiskFull | ExportError::Local { .. } => failed(Fault::StateDir),
        ExportError::Crashed { .. } => failed(Fault::JobKilled),
    }
}

/// Adds the name of what is not in the repository, where a failure speaks of it.
fn for_want_of(elsewhere: &[String], realised: Realised) -> Realised {
    let Realised::Failed { cause, tail, fault } = realised else { return realised };
    let missed = elsewhere.iter().find(|told| {
        let path = told.rsplit_once(" (").map_or(told.as_str(), |(path, _)| path);
        cause.contains(path) || tail.contains(path)
    });
    match missed {
        Some(told) => {
            let cause = format!("{cause}; not in the repository: {told}");
            Realised::Failed { cause, tail, fault }
        }
        None => Realised::Failed { cause, tail, fault },
    }
}

/// Adds messages that are not known yet: a second try says the same again.
fn learn(known: &mut Vec<String>, said: &[String]) {
    for name in said {
        if !known.contains(name) {
            known.push(name.clone());
        }
    }
}

fn outcome(outcome: realise::RealiseOutcome, limit: Duration) -> Realised {
    use realise::RealiseOutcome as Ended;
    let failed = |fault: Fault, cause: &str, tail: &str| Realised::Failed {
        cause: fault.told(cause),
        tail: end_of(tail),
        fault: Some(fault),
    };
    match outcome {
        Ended::Built { system, .. } => Realised::Built { system },
        Ended::NoSuchHost { hosts, .. } => Realised::NoSuchHost { hosts },
        Ended::LockIncomplete { inputs, directory } => {
            Realised::Refused { refusal: lock_incomplete(&inputs, &directory) }
        }
        Ended::EvaluationFailed { cause, tail } => failed(Fault::Evaluation, &cause, &tail),
        Ended::BuildFailed { cause, tail, drv, fault } => {
            // Nix usually says itself what it could not build.
            let unsaid = drv.filter(|drv| !cause.contains(drv.base_name()));
            let cause = unsaid.map_or(cause.clone(), |drv| format!("{}: {cause}", drv.base_name()));
            failed(fault, &cause, &tail)
        }
        Ended::TimedOut => {
            failed(Fault::Late, &format!("not built within {} s", limit.as_secs()), "")
        }
        Ended::Cancelled => Realised::Cancelled,
        Ended::Broken { cause, fault } => failed(fault, &cause, ""),
    }
}

/// Refuses a lock file that is incomplete: two hosts would get two systems of one commit.
fn lock_incomplete(inputs: &[String], directory: &str) -> Refusal {
    let lock = Path::new(directory).join("flake.lock").display().to_string();
    let (named, it) = match inputs {
        [one] => (format!("the input {one}"), "it"),
        more => (format!("the inputs {}", more.join(", ")), "them"),
    };
    let command = if directory.is_empty() {
        "nix flake lock".to_owned()
    } else {
        format!("nix flake lock ./{directory}")
    };
    Refusal {
        cause: RefusalCause::LockIncomplete,
        detail: format!("{lock} does not pin {named}: two hosts could get two of {it}"),
        evidence: [
            ("inputs", inputs.join(" ")),
            ("lock", lock),
            ("mend", format!("run {command}")),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into(),
    }
}

fn end_of(text: &str) -> String {
    let start = text.len().saturating_sub(TAIL);
    let start = (start..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text[start..].to_owned()
}

fn told(progress: &Progress) -> RealiseProgress {
    RealiseProgress {
        phase: match progress.phase {
            Phase::Evaluating => RealisePhase::Evaluating,
            Phase::Fetching => RealisePhase::Fetching,
            Phase::Building => RealisePhase::Building,
        },
        built: progress.built,
        to_build: progress.to_build,
        fetched: progress.fetched,
        to_fetch: progress.to_fetch,
        bytes: progress.bytes_done,
        bytes_expected: progress.bytes_expected,
        current: progress.current.clone(),
        cache_trouble: None,
        elsewhere: Vec::new(),
    }
}

/// Notes the progress. Best effort: it only tells how far the job is.
fn note(dir: &JobDir, progress: &RealiseProgress) {
    if let Err(error) = dir.write(JobFile::Progress, progress, Durability::Passing) {
        tracing::warn!(%error, "cannot write the progress");
    }
}

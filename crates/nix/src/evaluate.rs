//! Works out what the system of a commit is built from: its derivation, which is
//! then in the store. Whatever the commit says is run by this, and by nothing else.
//!
//! It is done by a user that can open nothing, where there is one ([`Evaluator`]),
//! and never with the cache or its token: a commit names the addresses that are
//! asked while it is evaluated.
//!
//! Nix's own cache of evaluations is off: it would remember a failure for as
//! long as the commit is the same, also one that a lost network caused.
//!
//! [`Evaluator`]: super::evaluator::Evaluator

use std::pin::Pin;

use tokio::time::Instant;

use super::course::{Course, broken, ended, misconfigured};
use super::flake::{Pinned, differing, pinned};
use super::log::Failure;
use super::realise::{RealiseOutcome, RealiseSpec, RecipeKind};
use super::reference::{Reference, attribute_of_host, in_tree, prefix_of_host};
use super::{NixFailed, Progress, QUICK, evaluator};
use fort_core::fault::Fault;
use fort_core::plain::clean;
use fort_core::types::StorePath;
use fort_sys::command::{Command, End, Finished};
use fort_sys::error_chain;

/// Most output of Nix about a flake and its lock that is read, in bytes.
const MOST_METADATA: usize = 8 << 20;
/// Longest part of a host's name that is listed, in characters: the commit chose the name.
const HOST_CHARS: usize = 100;
/// Names of hosts beyond this many are not listed.
const MOST_HOSTS: usize = 1000;

/// The derivation of a commit's system; or the outcome, if that is the end of it.
/// Nothing keeps the derivation in the store.
pub(super) async fn evaluate(
    spec: &RealiseSpec,
    deadline: Instant,
    course: &mut Course<impl FnMut(Progress)>,
    mut cancel: Pin<&mut impl Future<Output = ()>>,
) -> Result<StorePath, RealiseOutcome> {
    if !spec.export.is_dir() {
        return Err(broken(format!("no exported tree at {}", spec.export.display())));
    }
    if let Some(evaluator) = &spec.evaluator {
        let unready = |error| broken(format!("{} cannot evaluate: {error}", evaluator.user));
        evaluator.prepare(&spec.nix).map_err(unready)?;
    }
    let pinned = match spec.kind {
        RecipeKind::Flake => pinned_in(spec)?,
        RecipeKind::File => Pinned { beside: false, alone: true },
    };
    let version = if spec.asks_version() {
        Some(spec.nix.version().await.map_err(|error| unusable(&error))?)
    } else {
        None
    };
    let reference = Reference::of(spec, version).map_err(|error| broken(error.to_string()))?;
    let attribute = attribute_of_host(&spec.attribute, &spec.hostname);
    let flake = Flake { reference: &reference, pinned };
    if pinned.beside
        && !pinned.alone
        && let Some(inputs) = differing_inputs(spec, &flake, cancel.as_mut()).await?
    {
        return Err(lock_incomplete(spec, inputs));
    }
    // As `nix build` would find it; and it is in the store afterwards.
    let command = evaluating(spec, &["path-info", "--derivation"], &flake)
        .args(["--log-format", "internal-json"])
        .args(reference.arguments(&attribute))
        .time_limit(deadline.saturating_duration_since(Instant::now()));
    let done = course.run(&command, cancel.as_mut()).await?;
    if done.end.success() {
        return derivation(spec, &done);
    }
    let failure = course.failure();
    match failure.fault {
        // What was built to be evaluated.
        Fault::Build | Fault::NoBuilder | Fault::NotBegun | Fault::PostBuildHook => {
            return Err(course.not_built(failure));
        }
        // Settings that cannot be read are seen below, by the next question.
        Fault::Evaluation
        | Fault::NixSettings
        | Fault::Nix
        | Fault::Memory
        | Fault::Late
        | Fault::StateDir
        | Fault::JobNotBegun
        | Fault::JobKilled
        | Fault::Other => {}
    }
    let Failure { cause, tail, fault, drv: _ } = failure;
    if let Some(missing) = missing_host(spec, &flake, cancel.as_mut()).await? {
        return Err(missing);
    }
    // What could not be told before: Nix may have refused to change the lock.
    if !pinned.beside
        && !pinned.alone
        && let Some(inputs) = differing_inputs(spec, &flake, cancel.as_mut()).await?
    {
        return Err(lock_incomplete(spec, inputs));
    }
    if !reached(&said_to(spec, &["store", "ping"]), cancel.as_mut()).await? {
        if fault == Fault::NixSettings {
            return Err(misconfigured(cause));
        }
        return Err(broken(unreached(spec, &cause, cancel).await?));
    }
    Err(RealiseOutcome::EvaluationFailed { cause, tail })
}

/// Nix does not even tell its version, for which it reads its settings and no more.
fn unusable(error: &NixFailed) -> RealiseOutcome {
    let said = match error {
        NixFailed::Refused { said, .. } => {
            said.lines().find_map(|line| line.trim_start().strip_prefix("error:"))
        }
        NixFailed::CannotStart(_) => None,
    };
    said.map_or_else(
        || broken(error_chain::line(error)),
        |cause| misconfigured(cause.trim().to_owned()),
    )
}

/// The one derivation that was printed.
fn derivation(spec: &RealiseSpec, done: &Finished) -> Result<StorePath, RealiseOutcome> {
    let printed = String::from_utf8_lossy(&done.stdout);
    let mut lines = printed.lines().map(str::trim).filter(|line| !line.is_empty());
    let only = lines.next().filter(|line| line.ends_with(".drv") && lines.next().is_none());
    only.and_then(|line| line.parse().ok()).ok_or_else(|| RealiseOutcome::EvaluationFailed {
        cause: format!("{} is not one derivation", spec.attribute),
        tail: String::new(),
    })
}

/// Whether the attribute is missing because the host is: only then is there
/// something to say that the error did not.
async fn missing_host(
    spec: &RealiseSpec,
    flake: &Flake<'_>,
    cancel: Pin<&mut impl Future<Output = ()>>,
) -> Result<Option<RealiseOutcome>, RealiseOutcome> {
    let Some(prefix) = prefix_of_host(&spec.attribute) else { return Ok(None) };
    let command = evaluating(spec, &["eval", "--json"], flake)
        .args(flake.reference.arguments(&prefix))
        .args(["--apply", "builtins.attrNames"])
        .time_limit(QUICK);
    let done = match command.run(cancel).await.map_err(|error| broken(error_chain::line(&error)))? {
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

/// Whether the store can be reached as this command reaches it.
async fn reached(
    ping: &Command,
    cancel: Pin<&mut impl Future<Output = ()>>,
) -> Result<bool, RealiseOutcome> {
    let done = ping.clone().time_limit(QUICK).run(cancel).await;
    Ok(ended(done.map_err(|error| broken(error_chain::line(&error)))?)?.end.success())
}

/// Why whoever evaluates cannot reach the store: `cause`, if nobody can.
async fn unreached(
    spec: &RealiseSpec,
    cause: &str,
    cancel: Pin<&mut impl Future<Output = ()>>,
) -> Result<String, RealiseOutcome> {
    let ours = spec.nix.nix(&["store", "ping"]);
    let refused = spec.evaluator.as_ref();
    Ok(match refused {
        Some(evaluator) if reached(&ours, cancel).await? => format!(
            "the Nix daemon does not let the user {} in, which evaluates commits \
             (allowed-users, or who may reach its socket)",
            evaluator.user
        ),
        Some(_) | None => format!("the store cannot be reached: {cause}"),
    })
}

/// Whether the flake pins its inputs, by our own reading: before Nix is started.
fn pinned_in(spec: &RealiseSpec) -> Result<Pinned, RealiseOutcome> {
    let directory = in_tree(&spec.directory()).map_err(|error| broken(error.to_string()))?;
    pinned(&spec.export, &directory).map_err(|unpinned| lock_incomplete(spec, unpinned.inputs))
}

/// The inputs that Nix would pin otherwise than the flake does, if there are any.
/// It is asked to say so without writing that down.
async fn differing_inputs(
    spec: &RealiseSpec,
    flake: &Flake<'_>,
    cancel: Pin<&mut impl Future<Output = ()>>,
) -> Result<Option<Vec<String>>, RealiseOutcome> {
    let Some(reference) = flake.reference.flake() else { return Ok(None) };
    let flake = Flake { pinned: Pinned { beside: true, ..flake.pinned }, ..*flake };
    let command = evaluating(spec, &["flake", "metadata", "--json"], &flake)
        .arg(reference)
        .stdout_limit(MOST_METADATA)
        .time_limit(QUICK);
    let done = match command.run(cancel).await.map_err(|error| broken(error_chain::line(&error)))? {
        Finished { end: End::Cancelled, .. } => return Err(RealiseOutcome::Cancelled),
        done => done,
    };
    // If this fails, evaluating does too, and says why.
    let directory = in_tree(&spec.directory()).map_err(|error| broken(error.to_string()))?;
    let differing = done.end.success().then(|| differing(&spec.export, &directory, &done.stdout));
    Ok(differing.flatten().filter(|inputs| !inputs.is_empty()))
}

fn lock_incomplete(spec: &RealiseSpec, inputs: Vec<String>) -> RealiseOutcome {
    let directory = in_tree(&spec.directory()).unwrap_or_default();
    RealiseOutcome::LockIncomplete { inputs, directory: directory.display().to_string() }
}

/// Flake or file to evaluate, with what may be done with its lock.
#[derive(Clone, Copy)]
struct Flake<'a> {
    reference: &'a Reference,
    pinned: Pinned,
}

/// A command that evaluates what the commit says.
fn evaluating(spec: &RealiseSpec, subcommand: &[&str], flake: &Flake<'_>) -> Command {
    // What is completed is not written down.
    let lock = if flake.pinned.beside { "--no-write-lock-file" } else { "--no-update-lock-file" };
    let command = said_to(spec, subcommand).arg(lock);
    if spec.evaluator.is_some() {
        // Among its settings; and what it reads goes to the daemon as it is read.
        return command;
    }
    let command = command.args(["--option", "eval-cache", "false"]);
    match flake.reference.buffer() {
        Some(buffer) => command.args(["--option", "nar-buffer-size", &buffer.to_string()]),
        None => command,
    }
}

/// `nix SUBCOMMAND` as whoever evaluates runs it.
fn said_to(spec: &RealiseSpec, subcommand: &[&str]) -> Command {
    let Some(evaluator) = &spec.evaluator else {
        // `nix store ping` is called `info` since 2.19; the old name still works.
        return spec.nix.nix(subcommand);
    };
    let unwritable = evaluator::unwritable(&spec.nix).into_iter();
    spec.nix
        .program_for_all("nix")
        .environment(evaluator.environment(spec.nix.store()))
        .user(evaluator.credentials.clone())
        .args(subcommand.iter().copied())
        .args(unwritable.flat_map(|(name, value)| ["--option".to_owned(), name, value]))
}

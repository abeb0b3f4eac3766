//! The publish job as a process: gives the cache what it lacks of one system.
//!
//! It gives way to everything else on the host. What the cache has confirmed
//! stays there: a job that was stopped, or killed, is begun anew and asks what
//! is still lacking.

use std::cell::Cell;
use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use anyhow::Context as _;
use tracing::Instrument as _;

use super::dir::{JobDir, JobFile};
use super::spec::PublishSpec;
use crate::core::job::{PublishOutcome, PublishPhase, PublishProgress};
use crate::files::Durability;
use crate::publish::{PublishLimits, publish};

/// Shortest time between two writes of the progress: the job may take hours, and the
/// agent looks each time.
const PACE: Duration = Duration::from_secs(1);
/// Longest cause that is kept, in characters: the agent's memory has it until it is gone.
const CAUSE: usize = 2 << 10;

/// Runs the publish job of a directory to its end, or until `cancelled`.
pub async fn run(directory: &Path, cancelled: impl Future<Output = ()>) -> anyhow::Result<()> {
    let dir = JobDir::at(directory);
    let Some((mut lock, spec)) = dir.begin::<PublishSpec>()? else { return Ok(()) };
    give_way();
    let span = tracing::info_span!("publish", system = %spec.order.system, stage = "publish");
    let work = async {
        let outcome = work(&dir, &spec, cancelled).await;
        tracing::info!(
            sent = outcome.sent,
            elsewhere = outcome.elsewhere,
            bytes = outcome.bytes,
            left = outcome.left,
            cancelled = outcome.cancelled,
            cause = outcome.cause,
            "over"
        );
        outcome
    };
    let mut outcome = work.instrument(span).await;
    outcome.cause = outcome.cause.map(|cause| cause.chars().take(CAUSE).collect());
    let written = dir.write(JobFile::Outcome, &outcome, Durability::Durable);
    written
        .inspect_err(|error| dir.leave_word(&mut lock, error))
        .context("cannot write the outcome")
}

async fn work(
    dir: &JobDir,
    spec: &PublishSpec,
    cancelled: impl Future<Output = ()>,
) -> PublishOutcome {
    note(dir, &PublishProgress { phase: PublishPhase::Asking, ..PublishProgress::default() });
    let latest = Cell::new(None::<PublishProgress>);
    let on_progress = |progress: &PublishProgress| latest.set(Some(progress.clone()));
    let host = &spec.host;
    let paths = [spec.order.system.clone()];
    let limits = PublishLimits::JOB;
    let work = publish(&host.nix, &host.settings, &limits, &paths, on_progress, cancelled);
    let mut work = pin!(work);
    let mut ticks = tokio::time::interval(PACE);
    loop {
        tokio::select! {
            outcome = &mut work => return outcome,
            _ = ticks.tick() => {
                if let Some(progress) = latest.take() {
                    note(dir, &progress);
                }
            }
        }
    }
}

/// Puts this process last in line for the processor, and first to go when memory is
/// short. systemd has seen to that for a unit; a detached process sees to it itself.
fn give_way() {
    if let Err(error) = rustix::process::setpriority_process(None, 19) {
        tracing::debug!(%error, "it keeps its priority");
    }
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", "800") {
        tracing::debug!(%error, "it keeps its place when memory is short");
    }
}

/// Notes the progress. Best effort: it only tells how far the job is.
fn note(dir: &JobDir, progress: &PublishProgress) {
    if let Err(error) = dir.write(JobFile::Progress, progress, Durability::Passing) {
        tracing::warn!(%error, "cannot write the progress");
    }
}

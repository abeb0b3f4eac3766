//! Progress of Nix while any of its programs works, and the outcome of a program whose
//! end says nothing about the commit.

use std::pin::Pin;

use super::log::{Failure, Log};
use super::memory::Kills;
use super::realise::RealiseOutcome;
use super::{Phase, Progress};
use fort_core::fault::Fault;
use fort_sys::command::{Command, End, Finished, Stream};
use fort_sys::error_chain;

/// How far a realisation is: one account of all the programs that it takes.
pub(super) struct Course<P> {
    log: Log,
    last: Progress,
    tell: P,
    /// Before the first of them.
    kills: Kills,
}

impl<P: FnMut(Progress)> Course<P> {
    /// The beginning, which is told.
    pub(super) fn new(mut tell: P) -> Self {
        let last = Progress::default();
        tell(last.clone());
        Self { log: Log::new(), last, tell, kills: Kills::so_far() }
    }

    /// Runs one of Nix's programs with `--log-format internal-json` to its end.
    pub(super) async fn run(
        &mut self,
        command: &Command,
        cancel: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Finished, RealiseOutcome> {
        let Self { log, last, tell, kills } = self;
        let on_line = |stream: Stream, line: &[u8]| {
            if stream == Stream::Stdout {
                return;
            }
            log.read(line);
            let now = log.progress();
            if now != *last {
                *last = now;
                tell(last.clone());
            }
        };
        let done = command.run_with_lines(cancel, on_line).await;
        let done = done.map_err(|error| broken(error_chain::line(&error)))?;
        match done.end {
            End::Signal(signal) => Err(killed(signal, kills, &log.progress())),
            End::Exit(_) | End::TimedOut | End::Cancelled => ended(done),
        }
    }

    /// Marks the end of the evaluation: later output is that of the build.
    pub(super) fn evaluated(&mut self) {
        self.log.evaluated();
    }

    /// Returns the failure of the program that just failed, and forgets the progress so far.
    pub(super) fn failure(&mut self) -> Failure {
        std::mem::replace(&mut self.log, Log::new()).failure()
    }

    /// The outcome of a failure to build, with what the kernel did meanwhile.
    pub(super) fn not_built(&self, failure: Failure) -> RealiseOutcome {
        let Failure { cause, tail, fault, drv } = failure;
        let (cause, fault) = self.kills.blamed_for(cause, fault);
        let drv = drv.and_then(|drv| drv.parse().ok());
        RealiseOutcome::BuildFailed { cause, tail, drv, fault }
    }
}

/// Nix itself was killed, for which the commit is not to blame.
fn killed(signal: i32, kills: &Kills, progress: &Progress) -> RealiseOutcome {
    let doing = match (progress.phase, &progress.current) {
        (Phase::Evaluating, _) => "evaluating".to_owned(),
        (Phase::Fetching, None) => "fetching".into(),
        (Phase::Fetching, Some(what)) => format!("fetching {what}"),
        (Phase::Building, None) => "building".into(),
        (Phase::Building, Some(what)) => format!("building {what}"),
    };
    kills.of_nix(signal, &doing)
}

/// Sorts out the ends that say nothing about the commit.
pub(super) fn ended(done: Finished) -> Result<Finished, RealiseOutcome> {
    match done.end {
        End::Exit(_) => Ok(done),
        End::TimedOut => Err(RealiseOutcome::TimedOut),
        End::Cancelled => Err(RealiseOutcome::Cancelled),
        End::Signal(signal) => Err(broken(format!("nix was killed by signal {signal}"))),
    }
}

pub(super) fn broken(cause: String) -> RealiseOutcome {
    RealiseOutcome::Broken { cause, fault: Fault::Nix }
}

/// Nix reads its settings before all else, and could not.
pub(super) fn misconfigured(cause: String) -> RealiseOutcome {
    RealiseOutcome::Broken { cause, fault: Fault::NixSettings }
}

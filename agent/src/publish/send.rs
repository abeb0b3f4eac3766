//! Sends what is queued, several paths at a time, and deals with what fails.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};

use super::Failed;
use super::plan::Queue;
use crate::attic::{Attic, AtticFailed, NarInfo, Reach};
use crate::chance::luck;
use crate::core::backoff;
use crate::core::job::{FailedPath, PublishOutcome, PublishProgress};
use crate::core::types::StorePath;
use crate::nar::{self, NarFailed};
use crate::nix::{Nix, StoreRoot};
use crate::store::{PathInfo, Store};

/// Progress is told at most this often.
pub(super) const PACE: Duration = Duration::from_millis(250);
/// How often the same is tried.
const TRIES: u32 = 5;
/// Pauses between these: 0.5, 1, 2, 4 s, and a bit.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Paths that failed as often as they may, one after the other with none
/// between them that was taken: then it is the cache, not the paths.
const HOPELESS: u32 = 3;
/// Paths that are named in the outcome.
const MOST_NAMED: usize = 20;

/// Counts what was done.
#[derive(Default)]
pub(super) struct Tally {
    progress: RefCell<PublishProgress>,
    confirmed_bytes: Cell<u64>,
    /// By the threads that pack.
    bytes: Arc<AtomicU64>,
    failed: RefCell<Vec<FailedPath>>,
}

impl Tally {
    pub(super) fn phase(&self, phase: &str) {
        phase.clone_into(&mut self.progress.borrow_mut().phase);
    }

    pub(super) fn will_send<'a>(&self, infos: impl Iterator<Item = &'a PathInfo>) {
        self.phase("sending");
        let mut progress = self.progress.borrow_mut();
        for info in infos {
            progress.to_send += 1;
            progress.bytes_expected += info.nar_size;
        }
    }

    pub(super) fn progress(&self) -> PublishProgress {
        PublishProgress {
            bytes: self.bytes.load(Ordering::Relaxed),
            ..self.progress.borrow().clone()
        }
    }

    /// Why something is left although everything was tried.
    pub(super) fn cause(&self) -> Option<String> {
        let (failed, given_up) = (self.failed.borrow(), self.progress.borrow().given_up);
        let first = failed.first()?;
        let others = match given_up - 1 {
            0 => String::new(),
            1 => " (and 1 other path)".into(),
            more => format!(" (and {more} other paths, those that refer to it included)"),
        };
        Some(format!("{}: {}{others}", first.path.base_name(), first.why))
    }

    pub(super) fn outcome(
        &self,
        cause: Option<String>,
        cancelled: bool,
        took: u64,
    ) -> PublishOutcome {
        let progress = self.progress.borrow();
        PublishOutcome {
            sent: progress.sent,
            bytes: self.confirmed_bytes.get(),
            left: progress.to_send - progress.sent,
            cause,
            cancelled,
            took,
            failed: self.failed.borrow().clone(),
        }
    }

    fn trouble(&self, what: &impl ToString) {
        self.progress.borrow_mut().trouble = Some(what.to_string());
    }

    fn current(&self, path: &StorePath) {
        self.progress.borrow_mut().current = Some(path.base_name().to_owned());
    }

    fn confirmed(&self, info: &PathInfo) {
        let mut progress = self.progress.borrow_mut();
        progress.sent += 1;
        progress.trouble = None;
        self.confirmed_bytes.set(self.confirmed_bytes.get() + info.nar_size);
    }

    fn gave_up(&self, path: &StorePath, why: &impl ToString, paths: usize) {
        tracing::warn!(path = path.as_str(), why = why.to_string(), "it is not published");
        self.progress.borrow_mut().given_up += paths as u64;
        let mut failed = self.failed.borrow_mut();
        if failed.len() < MOST_NAMED {
            failed.push(FailedPath { path: path.clone(), why: why.to_string() });
        }
    }
}

/// What it takes to send.
pub(super) struct Sending<'a> {
    pub(super) attic: &'a Attic,
    pub(super) nix: &'a Nix,
    pub(super) store: StoreRoot,
    pub(super) infos: &'a BTreeMap<StorePath, PathInfo>,
    pub(super) jobs: usize,
    pub(super) tally: &'a Tally,
}

/// Why one path was not sent.
#[derive(Debug, thiserror::Error)]
enum PathFailed {
    #[error(transparent)]
    Cache(#[from] AtticFailed),
    #[error(transparent)]
    Packing(#[from] NarFailed),
}

impl Sending<'_> {
    /// Sends everything that is queued, as far as that is possible.
    pub(super) async fn all(&self, mut queue: Queue) -> Result<(), Failed> {
        let mut on_their_way = FuturesUnordered::new();
        let mut hopeless = 0;
        loop {
            while on_their_way.len() < self.jobs
                && let Some((place, path)) = queue.take()
            {
                on_their_way.push(async move {
                    let sent = self.one(&path).await;
                    (place, path, sent)
                });
            }
            let Some((place, path, sent)) = on_their_way.next().await else { break };
            match sent {
                Ok(()) => {
                    queue.confirm(place);
                    hopeless = 0;
                }
                Err(failed) => {
                    self.tally.gave_up(&path, &failed, queue.give_up(place));
                    if let PathFailed::Cache(failed) = failed {
                        match failed.reach() {
                            Reach::ThisPath => {}
                            Reach::ThisMoment if hopeless + 1 < HOPELESS => hopeless += 1,
                            Reach::ThisMoment | Reach::Everything => return Err(failed.into()),
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Sends one path, as often as that makes sense.
    async fn one(&self, path: &StorePath) -> Result<(), PathFailed> {
        // It was asked for by its name in the same map.
        let Some(info) = self.infos.get(path) else { return Ok(()) };
        self.tally.current(path);
        let (mut tries, mut by_daemon) = (0, false);
        let failed = loop {
            let failed = match self.send(path, info, by_daemon).await {
                Ok(()) => {
                    self.tally.confirmed(info);
                    return Ok(());
                }
                Err(PathFailed::Packing(NarFailed::Unreadable(why))) if !by_daemon => {
                    tracing::debug!(path = path.as_str(), why, "the daemon may read it");
                    by_daemon = true;
                    continue;
                }
                Err(failed @ PathFailed::Packing(_)) => return Err(failed),
                Err(PathFailed::Cache(failed)) => failed,
            };
            tries += 1;
            if tries == TRIES || !may_pass(self.attic, &failed).await {
                break failed;
            }
            self.tally.trouble(&failed);
            pause(tries).await;
            // The answer may have been lost after all was stored; and a refusal
            // that came while sending may have been lost as well.
            match self.attic.missing(&[path.hash()]).await {
                Ok(missing) if missing.is_empty() => {
                    self.tally.confirmed(info);
                    return Ok(());
                }
                Err(failed) if failed.reach() != Reach::ThisMoment => break failed,
                Ok(_) | Err(_) => {}
            }
        };
        Err(failed.into())
    }

    async fn send(
        &self,
        path: &StorePath,
        info: &PathInfo,
        by_daemon: bool,
    ) -> Result<(), PathFailed> {
        let passed = Arc::new(AtomicU64::new(0));
        let (all, this) = (Arc::clone(&self.tally.bytes), Arc::clone(&passed));
        let taken = move |bytes| {
            all.fetch_add(bytes, Ordering::Relaxed);
            this.fetch_add(bytes, Ordering::Relaxed);
        };
        let (packed, fault) = match by_daemon {
            true => nar::packed_by(Store::of(self.nix), path, info, taken),
            false => nar::pack(self.store.physical(path), info, taken),
        };
        let sent = self.attic.upload(&NarInfo { path, info }, packed).await;
        if let Err(failed) = sent {
            // What was sent in vain is not done.
            self.tally.bytes.fetch_sub(passed.load(Ordering::Relaxed), Ordering::Relaxed);
            return Err(fault.get().map_or(failed.into(), PathFailed::Packing));
        }
        Ok(())
    }
}

/// Asks, and asks again where that makes sense.
pub(super) async fn persistently<T, A>(
    attic: &Attic,
    tally: &Tally,
    ask: impl Fn() -> A,
) -> Result<T, AtticFailed>
where
    A: Future<Output = Result<T, AtticFailed>>,
{
    let mut tries = 0;
    loop {
        tries += 1;
        let failed = match ask().await {
            Ok(answer) => return Ok(answer),
            Err(failed) => failed,
        };
        if tries == TRIES || !may_pass(attic, &failed).await {
            return Err(failed);
        }
        tally.trouble(&failed);
        pause(tries).await;
    }
}

/// Whether the same may succeed when it is tried again.
async fn may_pass(attic: &Attic, failed: &AtticFailed) -> bool {
    failed.reach() == Reach::ThisMoment || attic.token_has_changed(failed).await
}

async fn pause(tries: u32) {
    tokio::time::sleep(backoff::pause(FIRST_PAUSE, LONGEST_PAUSE, tries, luck())).await;
}

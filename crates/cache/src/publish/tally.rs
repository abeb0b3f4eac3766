//! Counts what a push has done, and words what came of it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fort_core::job::{FailedPath, PublishOutcome, PublishPhase, PublishProgress};
use fort_core::types::StorePath;
use fort_nix::store::PathInfo;

/// Paths that are named in the outcome.
const MOST_NAMED: usize = 20;

/// Counts what was done.
#[derive(Default)]
pub(super) struct Tally {
    progress: RefCell<PublishProgress>,
    confirmed_bytes: Cell<u64>,
    elsewhere: Cell<u64>,
    /// Bytes that have left of each path under way, by its place: counted by the
    /// threads that pack.
    under_way: RefCell<BTreeMap<usize, Arc<AtomicU64>>>,
    failed: RefCell<Vec<FailedPath>>,
}

impl Tally {
    pub(super) fn phase(&self, phase: PublishPhase) {
        self.progress.borrow_mut().phase = phase;
    }

    pub(super) fn will_send<'a>(&self, infos: impl Iterator<Item = &'a PathInfo>) {
        self.phase(PublishPhase::Sending);
        let mut progress = self.progress.borrow_mut();
        (progress.trouble, progress.patience) = (None, None);
        for info in infos {
            progress.to_send += 1;
            progress.bytes_expected += info.nar_size;
        }
    }

    pub(super) fn progress(&self) -> PublishProgress {
        let left = |passed: &Arc<AtomicU64>| passed.load(Ordering::Relaxed);
        let under_way: u64 = self.under_way.borrow().values().map(left).sum();
        let bytes = self.confirmed_bytes.get() + under_way;
        PublishProgress { bytes, ..self.progress.borrow().clone() }
    }

    /// How many paths were sent from here.
    pub(super) fn sent(&self) -> u64 {
        self.progress.borrow().sent
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
            elsewhere: self.elsewhere.get(),
            bytes: self.confirmed_bytes.get(),
            left: progress.to_send - progress.sent,
            cause,
            cancelled,
            took,
            failed: self.failed.borrow().clone(),
        }
    }

    /// Records a failure that is tried again, for `patience` longer if that is all that fails.
    pub(super) fn trouble(&self, what: &impl ToString, patience: Duration) {
        let mut progress = self.progress.borrow_mut();
        progress.trouble = Some(what.to_string());
        progress.patience = Some(patience.as_secs()).filter(|seconds| *seconds > 0);
    }

    /// Records that a path is begun, or begun again, and returns the counter of the
    /// bytes that leave.
    pub(super) fn begins(&self, place: usize, path: &StorePath) -> Arc<AtomicU64> {
        self.progress.borrow_mut().current = Some(path.base_name().to_owned());
        let passed = Arc::<AtomicU64>::default();
        self.under_way.borrow_mut().insert(place, Arc::clone(&passed));
        passed
    }

    /// A path is under way no more; what left of it in vain is not done.
    pub(super) fn ends(&self, place: usize) {
        self.under_way.borrow_mut().remove(&place);
    }

    pub(super) fn confirmed(&self, info: &PathInfo) {
        let mut progress = self.progress.borrow_mut();
        progress.sent += 1;
        (progress.trouble, progress.patience) = (None, None);
        self.confirmed_bytes.set(self.confirmed_bytes.get() + info.nar_size);
    }

    /// The cache has it from another host: there is less to send.
    pub(super) fn came_from_elsewhere(&self, info: &PathInfo) {
        let mut progress = self.progress.borrow_mut();
        progress.to_send -= 1;
        progress.bytes_expected -= info.nar_size;
        self.elsewhere.set(self.elsewhere.get() + 1);
    }

    pub(super) fn gave_up(&self, path: &StorePath, why: &impl ToString, paths: usize) {
        tracing::warn!(path = path.as_str(), why = why.to_string(), "it is not published");
        self.progress.borrow_mut().given_up += paths as u64;
        let mut failed = self.failed.borrow_mut();
        if failed.len() < MOST_NAMED {
            failed.push(FailedPath { path: path.clone(), why: why.to_string() });
        }
    }
}

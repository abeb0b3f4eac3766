//! Sends what is queued, several paths at a time, and deals with what fails.
//!
//! What to begin, release and break off next is decided in `plan`; here it is
//! done.

mod failures;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::{AbortHandle, Abortable, LocalBoxFuture};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::Notify;

use super::Failed;
use super::limits::PublishLimits;
use super::plan::{AHEAD, Confirmed, Effects, Queue};
use super::tally::Tally;
use crate::attic::{Attic, AtticFailed, Gate, NarInfo, Reach};
use fort_core::backoff;
use fort_core::job::PublishPhase;
use fort_core::types::StorePath;
use fort_nix::nar::{self, NarFailed};
use fort_nix::store::{PathInfo, Store};
use fort_nix::{Nix, StoreRoot};
use fort_sys::jitter::luck;

/// Progress is told, and what may be begun is looked for, at least this often.
pub(super) const PACE: Duration = Duration::from_millis(250);
/// Longest wait for an answer that would only save something.
const ASKING: Duration = Duration::from_secs(2);
/// Paths that failed as often as they may, one after the other with none
/// between them that was taken: then it is the cache, not the paths.
const HOPELESS: u32 = 3;

/// Inputs of a push: the cache, the store, what is sent from it, and the limits.
pub(super) struct Sending<'a> {
    pub(super) attic: &'a Attic,
    pub(super) nix: &'a Nix,
    pub(super) store: StoreRoot,
    pub(super) infos: &'a BTreeMap<StorePath, PathInfo>,
    pub(super) jobs: usize,
    pub(super) limits: PublishLimits,
    pub(super) tally: &'a Tally,
    /// Start of the push, from which the queue counts time.
    pub(super) began: Instant,
}

/// Reason for which one path was not sent.
#[derive(Debug, thiserror::Error)]
enum PathFailed {
    #[error(transparent)]
    Cache(#[from] AtticFailed),
    #[error(transparent)]
    Packing(#[from] NarFailed),
    #[error("its end was held back for too long")]
    Held,
}

/// Event that was waited for.
enum Event {
    /// A path was sent, or was not; and whether the same may then succeed.
    Sent(usize, Result<(), PathFailed>, bool),
    /// The pause after a failure is over. Whether the cache lacks the path
    /// still, if it says so.
    Paused(usize, Result<bool, AtticFailed>),
    /// The cache has told which of these paths it lacks, by hash; `None` if it does not say.
    Asked(Vec<usize>, Option<BTreeSet<String>>),
}

/// A path that is under way, or pauses.
struct Active {
    stop: AbortHandle,
    gate: Arc<Gate>,
    passed: Arc<AtomicU64>,
}

/// Failures of one path.
struct Failures {
    tries: u32,
    /// Of these, those before which the cache had taken something else.
    alone: u32,
    /// How many paths had been sent when it failed last.
    sent: u64,
}

type Events<'a> = FuturesUnordered<Abortable<LocalBoxFuture<'a, Event>>>;

/// A push at work.
struct Work<'a> {
    sending: &'a Sending<'a>,
    queue: Queue,
    events: Events<'a>,
    active: BTreeMap<usize, Active>,
    failures: BTreeMap<usize, Failures>,
    asking: bool,
    hopeless: u32,
    /// Since when everything fails.
    away: Option<Instant>,
    /// Told when little is left of a path.
    nearly: Arc<Notify>,
}

impl<'a> Sending<'a> {
    /// Sends everything that is queued, as far as that is possible.
    pub(super) async fn all(&'a self, queue: Queue) -> Result<(), Failed> {
        let mut work = Work {
            sending: self,
            queue,
            events: FuturesUnordered::new(),
            active: BTreeMap::new(),
            failures: BTreeMap::new(),
            asking: false,
            hopeless: 0,
            away: None,
            nearly: Arc::default(),
        };
        while work.go_on() {
            let (nearly, pace) = (Arc::clone(&work.nearly), work.pace());
            tokio::select! {
                Some(event) = work.events.next(), if !work.events.is_empty() => {
                    // One that was broken off has nothing to say.
                    if let Ok(event) = event {
                        work.take_in(event)?;
                    }
                }
                () = nearly.notified() => {}
                () = tokio::time::sleep(pace) => {}
            }
        }
        Ok(())
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn info(&self, path: &StorePath) -> &'a PathInfo {
        // What is queued was found there.
        self.infos.get(path).expect("a queued path is one of the closure")
    }

    /// Sends one path once.
    async fn one(
        &self,
        path: &StorePath,
        gate: &Arc<Gate>,
        passed: &Arc<AtomicU64>,
        nearly: &Arc<Notify>,
    ) -> (Result<(), PathFailed>, bool) {
        let info = self.info(path);
        let mut by_daemon = false;
        loop {
            let sent = tokio::select! {
                sent = self.send(path, info, by_daemon, gate, passed, nearly) => sent,
                () = gate.held_for(self.limits.hold) => Err(PathFailed::Held),
            };
            match sent {
                Err(PathFailed::Packing(NarFailed::Unreadable(why))) if !by_daemon => {
                    tracing::debug!(path = path.as_str(), why, "the daemon may read it");
                    by_daemon = true;
                    passed.store(0, Ordering::Relaxed);
                }
                Err(PathFailed::Cache(failed)) => {
                    let may_pass = may_pass(self.attic, &failed).await;
                    return (Err(failed.into()), may_pass);
                }
                sent => return (sent, false),
            }
        }
    }

    async fn send(
        &self,
        path: &StorePath,
        info: &PathInfo,
        by_daemon: bool,
        gate: &Arc<Gate>,
        passed: &Arc<AtomicU64>,
        nearly: &Arc<Notify>,
    ) -> Result<(), PathFailed> {
        let (passed, nearly, size) = (Arc::clone(passed), Arc::clone(nearly), info.nar_size);
        let taken = move |bytes| {
            let all = passed.fetch_add(bytes, Ordering::Relaxed) + bytes;
            if size.saturating_sub(all) < AHEAD {
                nearly.notify_one();
            }
        };
        let (packed, fault) = match by_daemon {
            true => nar::packed_by(Store::of(self.nix), path, info, taken),
            false => nar::pack(self.store.physical(path), info, taken),
        };
        let sent = self.attic.upload(&NarInfo { path, info }, packed, Arc::clone(gate)).await;
        sent.map_err(|failed| fault.get().map_or(failed.into(), PathFailed::Packing))
    }
}

impl<'a> Work<'a> {
    /// Begins what may be begun, and asks what is to be asked; false if it is
    /// over.
    fn go_on(&mut self) -> bool {
        let now = self.sending.now();
        while self.queue.active() < self.sending.jobs {
            let left: BTreeMap<usize, u64> =
                self.active.keys().map(|place| (*place, self.left(*place))).collect();
            let left = |place| left.get(&place).copied().unwrap_or_default();
            let Some(place) = self.queue.take(now, left) else { break };
            self.begin(place);
        }
        let ended = |place: &usize| self.left(*place) == 0;
        let ended: BTreeSet<usize> = self.active.keys().copied().filter(ended).collect();
        self.queue.note(now, |place| ended.contains(&place));
        let to_ask = if self.asking { Vec::new() } else { self.queue.ask(now) };
        if !to_ask.is_empty() {
            self.asking = true;
            self.ask(to_ask);
        }
        let waits = self.queue.is_left_to_others(now);
        self.sending.tally.phase(if waits { PublishPhase::Waiting } else { PublishPhase::Sending });
        !self.queue.is_over()
    }

    /// How long nothing need be done if nothing happens.
    fn pace(&self) -> Duration {
        // While an answer is on its way nothing else is asked.
        let asks_in = self.queue.asks_in(self.sending.now()).filter(|_| !self.asking);
        asks_in.map_or(PACE, |asks_in| asks_in.min(PACE))
    }

    fn take_in(&mut self, event: Event) -> Result<(), Failed> {
        match event {
            Event::Sent(place, Ok(()), _) => self.confirm(place),
            Event::Sent(place, Err(failed), may_pass) => {
                return self.failed(place, failed, may_pass);
            }
            // The answer was lost after all was stored.
            Event::Paused(place, Ok(false)) => self.confirm(place),
            Event::Paused(place, Err(failed)) if failed.reach() != Reach::ThisMoment => {
                return self.give_up(place, failed.into());
            }
            Event::Paused(place, Ok(true) | Err(_)) => {
                self.queue.resume(place);
                self.begin(place);
            }
            Event::Asked(asked, lacks) => self.answered(&asked, lacks),
        }
        Ok(())
    }

    fn confirm(&mut self, place: usize) {
        self.over(place);
        (self.hopeless, self.away) = (0, None);
        self.sending.tally.confirmed(self.info(place));
        let effects = self.queue.confirm(place, Confirmed::Here, self.sending.now());
        self.affect(effects);
    }

    fn begin(&mut self, place: usize) {
        let gate =
            Arc::new(if self.queue.is_held(place) { Gate::default() } else { Gate::opened() });
        let path = self.queue.path(place).clone();
        let passed = self.sending.tally.begins(place, &path);
        let (sending, nearly) = (self.sending, Arc::clone(&self.nearly));
        let (its_gate, counts) = (Arc::clone(&gate), Arc::clone(&passed));
        let sent = async move {
            let (sent, may_pass) = sending.one(&path, &its_gate, &counts, &nearly).await;
            Event::Sent(place, sent, may_pass)
        };
        self.start(place, gate, passed, Box::pin(sent));
    }

    fn start(
        &mut self,
        place: usize,
        gate: Arc<Gate>,
        passed: Arc<AtomicU64>,
        work: LocalBoxFuture<'a, Event>,
    ) {
        let (stop, registration) = AbortHandle::new_pair();
        self.events.push(Abortable::new(work, registration));
        self.active.insert(place, Active { stop, gate, passed });
    }

    fn ask(&mut self, asked: Vec<usize>) {
        let attic = self.sending.attic;
        let paths: Vec<StorePath> =
            asked.iter().map(|place| self.queue.path(*place).clone()).collect();
        let asking = async move {
            let hashes: Vec<&str> = paths.iter().map(StorePath::hash).collect();
            let lacks = match tokio::time::timeout(ASKING, attic.missing(&hashes)).await {
                Ok(Ok(lacks)) => Some(lacks),
                Ok(Err(error)) => {
                    tracing::debug!(%error, "the cache does not say what it lacks");
                    None
                }
                Err(_) => None,
            };
            Event::Asked(asked, lacks)
        };
        let (_, registration) = AbortHandle::new_pair();
        self.events.push(Abortable::new(Box::pin(asking), registration));
    }

    fn affect(&mut self, effects: Effects) {
        for place in &effects.release {
            if let Some(active) = self.active.get(place) {
                active.gate.open();
            }
        }
        self.recall(effects.recall);
    }

    fn recall(&mut self, recall: Vec<usize>) {
        for place in recall {
            self.over(place);
        }
    }

    /// Ends the work on a path that is under way no more, or is just over.
    fn over(&mut self, place: usize) {
        if let Some(active) = self.active.remove(&place) {
            active.stop.abort();
        }
        self.sending.tally.ends(place);
    }

    fn info(&self, place: usize) -> &'a PathInfo {
        self.sending.info(self.queue.path(place))
    }

    /// How many bytes of a path that is under way have not left yet.
    fn left(&self, place: usize) -> u64 {
        let active = self.active.get(&place);
        let passed = active.map_or(0, |active| active.passed.load(Ordering::Relaxed));
        self.info(place).nar_size.saturating_sub(passed)
    }
}

/// Asks, and asks again where that makes sense.
pub(super) async fn persistently<T, A>(
    attic: &Attic,
    limits: &PublishLimits,
    tally: &Tally,
    ask: impl Fn() -> A,
) -> Result<T, AtticFailed>
where
    A: Future<Output = Result<T, AtticFailed>>,
{
    let mut tries = 0;
    let mut first_failed = None;
    loop {
        tries += 1;
        let failed = match ask().await {
            Ok(answer) => return Ok(answer),
            Err(failed) => failed,
        };
        let since = *first_failed.get_or_insert_with(Instant::now);
        if !may_pass(attic, &failed).await {
            return Err(failed);
        }
        let Some(patience) = limits.goes_on(tries, 0, since.elapsed()) else {
            return Err(failed);
        };
        tally.trouble(&failed, patience);
        pause(limits, tries).await;
    }
}

/// Whether the same may succeed when it is tried again.
async fn may_pass(attic: &Attic, failed: &AtticFailed) -> bool {
    failed.reach() == Reach::ThisMoment || attic.token_has_changed(failed).await
}

async fn pause(limits: &PublishLimits, tries: u32) {
    let pause = backoff::pause(limits.first_pause, limits.longest_pause, tries, luck());
    tokio::time::sleep(pause).await;
}

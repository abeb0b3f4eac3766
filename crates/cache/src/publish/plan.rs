//! Plan of a push: what to send, in which order, and when the end of it may leave.
//! Pure: the time, chance and what others found out come in as arguments.
//!
//! The server never checks whether it has what a path refers to. So the *end*
//! of a path leaves only when everything that it refers to was confirmed:
//! however a push ends, what the cache has can be fetched. The rest of it may
//! leave before, while what it refers to is nearly over: a chain of references
//! is then not sent one path after the other.
//!
//! Nothing waits in a circle: whatever is under way refers only to what was
//! confirmed or is under way as well, so the lowest of these waits for nobody.
//!
//! Other hosts may give the same. Each has an order of its own, asks again what
//! is missing before it begins a path, and leaves alone for a while what has
//! become possible by another's hand, and what would follow what it is sending
//! when that turns out to be there: that other host is sending it. Hosts in
//! step find that out by a look now and then (`look`).

mod asks;
mod giving_up;
mod look;
mod order;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use self::look::Looks;
use self::order::{mix, references_first};
use super::limits::PublishLimits;
use fort_core::types::StorePath;
use fort_nix::store::PathInfo;

/// Bytes that what a path refers to may still have to send when the path is
/// begun, so that its end need not be held back for long.
pub(super) const AHEAD: u64 = 8 << 20;
/// Paths that are looked at for the next one to begin.
const LOOKED_AT: usize = 64;
/// Bytes that another host is trusted to send in a second, at least.
const ANOTHERS_RATE: u64 = 32 << 20;
/// Longest time that something is left to another host.
const LONGEST_LEFT: Duration = Duration::from_secs(30);

/// The paths that are the cluster's own: those that carry no signature of an
/// upstream key, which anybody can fetch there.
pub(super) fn own<'a>(
    paths: &'a BTreeMap<StorePath, PathInfo>,
    upstream: &BTreeSet<String>,
) -> Vec<&'a StorePath> {
    let by_upstream = |info: &PathInfo| {
        let names = info.signatures.iter().filter_map(|s| Some(s.split_once(':')?.0));
        names.into_iter().any(|name| upstream.contains(name))
    };
    paths.iter().filter(|(_, info)| !by_upstream(info)).map(|(path, _)| path).collect()
}

/// Paths that are still to be sent, are under way, or may be begun. Times are counted
/// from when the push began.
#[derive(Debug)]
pub(super) struct Queue {
    /// All paths, each after all that it refers to.
    places: Vec<QueuedPath>,
    queued: BTreeSet<usize>,
    /// Queued paths that wait for nothing.
    ready: BTreeSet<usize>,
    /// Queued paths that wait only for what is under way.
    ahead: BTreeSet<usize>,
    active: BTreeSet<usize>,
    /// Limit as in [`AHEAD`]; less when it proved too much.
    most_ahead: u64,
    looks: Looks,
    limits: PublishLimits,
    seed: u64,
}

/// A path in the queue.
#[derive(Debug)]
struct QueuedPath {
    path: StorePath,
    size: u64,
    state: PathState,
    /// Places of what the path refers to, of what was missing.
    references: Vec<usize>,
    /// Places of the paths that refer to it.
    wanted_by: Vec<usize>,
    /// How many of its references are not confirmed.
    waits_for: usize,
    /// How many of these are not under way either.
    not_begun: usize,
    /// Whether it is begun only when it waits for nothing: it was begun too
    /// early before.
    patient: bool,
    /// When the cache was last said to lack it.
    missing_at: Duration,
    /// Another host is believed to be sending it until then.
    left_until: Duration,
}

/// How far a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PathState {
    Queued,
    UnderWay,
    /// Sending it failed, and is tried again after a pause. Nothing that refers
    /// to it is under way meanwhile.
    Paused,
    There,
    GivenUp,
}

/// How it is known that the cache has a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Confirmed {
    /// The cache took the path from here.
    Here,
    /// The cache was asked, and has the path from another host.
    Elsewhere,
}

/// Effects on other paths that are under way.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Effects {
    /// Paths whose ends may leave.
    pub(super) release: Vec<usize>,
    /// Paths whose sending, or pause, is to be broken off.
    pub(super) recall: Vec<usize>,
}

impl Queue {
    /// Returns a queue of these paths, which are all that is missing `now`; references
    /// first, and otherwise in an order that depends on `seed`.
    pub(super) fn new(
        missing: &BTreeSet<&StorePath>,
        infos: &BTreeMap<StorePath, PathInfo>,
        limits: PublishLimits,
        seed: u64,
        now: Duration,
    ) -> Self {
        let order = references_first(missing, infos, seed);
        let at: BTreeMap<&StorePath, usize> =
            order.iter().enumerate().map(|(place, path)| (*path, place)).collect();
        let mut places = Vec::with_capacity(order.len());
        for (place, path) in order.iter().enumerate() {
            let info = infos.get(*path);
            let references = info.into_iter().flat_map(|info| &info.references);
            let references: Vec<usize> =
                references.filter_map(|r| at.get(r).copied()).filter(|r| *r != place).collect();
            places.push(QueuedPath {
                path: (*path).clone(),
                size: info.map_or(0, |info| info.nar_size),
                state: PathState::Queued,
                waits_for: references.len(),
                not_begun: references.len(),
                references,
                wanted_by: Vec::new(),
                patient: false,
                missing_at: now,
                left_until: Duration::ZERO,
            });
        }
        for place in 0..places.len() {
            for reference in places[place].references.clone() {
                places[reference].wanted_by.push(place);
            }
        }
        let queued: BTreeSet<usize> = (0..places.len()).collect();
        let ready = queued.iter().copied().filter(|at| places[*at].waits_for == 0).collect();
        let (ahead, active, looks) = (BTreeSet::new(), BTreeSet::new(), Looks::new(seed));
        Self { places, queued, ready, ahead, active, most_ahead: AHEAD, looks, limits, seed }
    }

    /// The path at a place.
    pub(super) fn path(&self, place: usize) -> &StorePath {
        &self.places[place].path
    }

    /// How many paths are being sent, or pause before they are sent again.
    pub(super) fn active(&self) -> usize {
        self.active.len()
    }

    /// Whether nothing is under way, and nothing ever will be.
    pub(super) fn is_over(&self) -> bool {
        self.active.is_empty() && self.ready.is_empty()
    }

    /// Whether all that could be done is left to another host for now.
    pub(super) fn is_left_to_others(&self, now: Duration) -> bool {
        self.active.is_empty()
            && !self.ready.is_empty()
            && self.ready.iter().all(|at| self.places[*at].left_until > now)
    }

    /// Whether something that a path refers to is not confirmed.
    pub(super) fn waits(&self, place: usize) -> bool {
        self.places[place].waits_for > 0
    }

    /// Whether the end of a path has to be held back still.
    pub(super) fn is_held(&self, place: usize) -> bool {
        self.waits(place) || self.looks.holds(place)
    }

    /// The next path to begin, which is then under way. `left` says how many
    /// bytes of a path that is under way have not left yet.
    pub(super) fn take(&mut self, now: Duration, left: impl Fn(usize) -> u64) -> Option<usize> {
        let place = {
            let fresh = |at: &usize| self.places[*at].missing_at + self.limits.fresh >= now;
            let soon = |at: &usize| {
                let of = &self.places[*at].references;
                let waiting = of.iter().filter(|of| self.places[**of].state == PathState::UnderWay);
                waiting.map(|of| left(*of)).sum::<u64>() < self.most_ahead
            };
            let ready = self.startable(now).find(|at| fresh(at));
            ready.or_else(|| self.next_ahead(now).find(|at| fresh(at) && soon(at)))?
        };
        self.set(place, PathState::UnderWay);
        if !self.places[place].references.is_empty() {
            self.looks.begins(place);
        }
        self.for_wanting(place, |queue, wanting| {
            queue.places[wanting].not_begun -= 1;
            queue.sort_in(wanting);
        });
        Some(place)
    }

    /// Records that the cache has a path. That counts for what refers to it when the
    /// cache has all that it refers to as well: others may send in any order.
    pub(super) fn confirm(&mut self, place: usize, how: Confirmed, now: Duration) -> Effects {
        let mut effects = Effects::default();
        let before = self.places[place].state;
        if matches!(before, PathState::There | PathState::GivenUp) {
            return effects;
        }
        if how == Confirmed::Elsewhere && matches!(before, PathState::UnderWay | PathState::Paused)
        {
            effects.recall.push(place);
            self.leave_what_follows(place, now);
        }
        if how == Confirmed::Here {
            self.looks.taken(place, now);
        }
        if self.waits(place) {
            if how == Confirmed::Here {
                // This server does not wait for the end: from now on nothing
                // is begun before all that it refers to is there.
                self.most_ahead = 0;
            }
            effects.recall.append(&mut self.halt(place, PathState::There));
            self.set(place, PathState::There);
            return effects;
        }
        self.set(place, PathState::There);
        let mut whole = vec![(place, before == PathState::UnderWay)];
        while let Some((next, was_begun)) = whole.pop() {
            self.for_wanting(next, |queue, wanting| {
                let waiting = &mut queue.places[wanting];
                waiting.waits_for -= 1;
                waiting.not_begun -= usize::from(!was_begun);
                if waiting.waits_for == 0 {
                    match waiting.state {
                        // Its end may be on its way from there as well.
                        PathState::UnderWay
                            if queue.looks.holds(wanting)
                                || how == Confirmed::Elsewhere && queue.looks.goes_on(wanting) => {}
                        PathState::UnderWay => effects.release.push(wanting),
                        PathState::There => whole.push((wanting, false)),
                        PathState::Queued if how == Confirmed::Elsewhere => {
                            let until = now + queue.leave(wanting);
                            queue.places[wanting].left_until = until;
                        }
                        PathState::Queued | PathState::Paused | PathState::GivenUp => {}
                    }
                }
                queue.sort_in(wanting);
            });
        }
        effects
    }

    /// Pauses a path that could not be sent. Returns what else is to be broken off.
    pub(super) fn pause(&mut self, place: usize) -> Vec<usize> {
        self.halt(place, PathState::Paused)
    }

    /// Records that a pause is over: the path is under way again.
    pub(super) fn resume(&mut self, place: usize) {
        self.set(place, PathState::UnderWay);
        self.for_wanting(place, |queue, wanting| {
            queue.places[wanting].not_begun -= 1;
            queue.sort_in(wanting);
        });
    }

    /// Queues a path again that came to nothing while it still waited; it is begun when
    /// it waits for nothing. Returns what else is to be broken off.
    pub(super) fn put_back(&mut self, place: usize) -> Vec<usize> {
        self.places[place].patient = true;
        self.halt(place, PathState::Queued)
    }

    /// Queues a path again whose end was held back for too long: from now on less is
    /// begun ahead, if that was the cause.
    pub(super) fn held_too_long(&mut self, place: usize) -> Vec<usize> {
        if self.waits(place) {
            self.most_ahead /= 4;
        }
        self.put_back(place)
    }

    /// Next paths that wait for nothing, and are not left to others.
    fn startable(&self, now: Duration) -> impl Iterator<Item = usize> {
        let ready = self.ready.iter().copied();
        ready.filter(move |at| self.places[*at].left_until <= now).take(LOOKED_AT)
    }

    /// Next paths that wait only for what is under way.
    fn next_ahead(&self, now: Duration) -> impl Iterator<Item = usize> {
        let ahead = self.ahead.iter().copied();
        ahead.filter(move |at| self.places[*at].left_until <= now).take(LOOKED_AT)
    }

    fn set(&mut self, place: usize, state: PathState) {
        self.places[place].state = state;
        let is = |wanted: bool, of: &mut BTreeSet<usize>| {
            if wanted {
                of.insert(place)
            } else {
                of.remove(&place)
            };
        };
        is(state == PathState::Queued, &mut self.queued);
        is(matches!(state, PathState::UnderWay | PathState::Paused), &mut self.active);
        if state != PathState::UnderWay {
            self.looks.ends(place);
        }
        self.sort_in(place);
    }

    /// Puts a path where it belongs among those that may be begun.
    fn sort_in(&mut self, place: usize) {
        let at = &self.places[place];
        let queued = at.state == PathState::Queued;
        let ready = queued && at.waits_for == 0;
        let ahead = queued && !ready && at.not_begun == 0 && !at.patient;
        if ready {
            self.ready.insert(place)
        } else {
            self.ready.remove(&place)
        };
        if ahead {
            self.ahead.insert(place)
        } else {
            self.ahead.remove(&place)
        };
    }

    fn for_wanting(&mut self, place: usize, mut then: impl FnMut(&mut Self, usize)) {
        let wanted_by = std::mem::take(&mut self.places[place].wanted_by);
        for wanting in &wanted_by {
            then(self, *wanting);
        }
        self.places[place].wanted_by = wanted_by;
    }
}

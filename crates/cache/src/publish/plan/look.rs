//! When a push holds an end back to look whether another host sends the same.
//!
//! Of a chain of references every host sends the same link at the same time,
//! and a host that lags catches up, for the server stores nothing twice. Each
//! link is then there a moment before its own end is taken, which cannot be
//! told from having sent it. So now and then one end is held back although
//! nothing is in its way, for as long as another host would take to get it
//! there, and then the cache is asked: if it has that path, it is another's.
//!
//! How often and how long is chance, so that two hosts do not do it at once;
//! and in proportion to the time that an end takes, so that a host that is
//! alone loses a few hundredths of its time at most.

use std::collections::BTreeMap;
use std::time::Duration;

use super::order::mix;

/// One of the first so many paths that refer to others is looked for.
const FIRST: u64 = 32;
/// Later the looks are further apart each time, up to between so many paths and
/// twice as many.
const RAREST: u64 = 128;
/// Longest time that an end is held back for this.
const LONGEST: Duration = Duration::from_secs(2);

/// When to look, and the look that is under way.
#[derive(Debug)]
pub(super) struct Looks {
    seed: u64,
    begun: usize,
    /// Paths that are begun at least between the next and the one after.
    apart: u64,
    /// Paths that are begun until the next.
    pub(super) next_in: u64,
    /// How long it takes about until the cache has a path whose end may leave.
    takes: Option<Duration>,
    /// Since when the ends of paths under way may leave.
    may_leave: BTreeMap<usize, Duration>,
    look: Option<Look>,
}

/// A path whose end is held back.
#[derive(Debug)]
struct Look {
    place: usize,
    /// When the cache is asked: known once only this holds its end back.
    asks_at: Option<Duration>,
    asked: bool,
}

impl Looks {
    pub(super) fn new(seed: u64) -> Self {
        // Not the chance that orders the paths.
        let seed = mix(seed, usize::MAX);
        let next_in = 1 + mix(seed, 0) % FIRST;
        let may_leave = BTreeMap::new();
        Self { seed, begun: 0, apart: FIRST, next_in, takes: None, may_leave, look: None }
    }

    /// A path is begun that refers to what was to be sent as well.
    pub(super) fn begins(&mut self, place: usize) {
        self.next_in = self.next_in.saturating_sub(1);
        if self.next_in > 0 || self.takes.is_none() || self.look.is_some() {
            return;
        }
        self.begin(place);
        self.next_in = self.apart + mix(self.seed, 2 * self.begun) % self.apart;
        self.apart = (2 * self.apart).min(RAREST);
    }

    /// Begins a look for a path that waited for what came from another host. False:
    /// another look is under way.
    pub(super) fn goes_on(&mut self, place: usize) -> bool {
        self.look.is_none() && {
            self.begin(place);
            true
        }
    }

    fn begin(&mut self, place: usize) {
        self.look = Some(Look { place, asks_at: None, asked: false });
        self.begun += 1;
    }

    /// Whether the end of a path is held back for a look.
    pub(super) fn holds(&self, place: usize) -> bool {
        self.look.as_ref().is_some_and(|look| look.place == place)
    }

    /// All but the end of a path has left, and nothing that it refers to holds
    /// that back.
    pub(super) fn nearly_over(&mut self, place: usize, now: Duration) {
        let twice = self.takes.unwrap_or_default() * 2;
        let chance = u32::from(mix(self.seed, 2 * self.begun + 1).to_le_bytes()[0]);
        match &mut self.look {
            Some(look) if look.place == place => {
                let hold = (twice + twice * chance / 255).min(LONGEST);
                look.asks_at.get_or_insert(now + hold);
            }
            Some(_) | None => {
                self.may_leave.entry(place).or_insert(now);
            }
        }
    }

    /// When the cache is to be asked, if it was not.
    pub(super) fn asks_at(&self) -> Option<Duration> {
        self.look.as_ref().filter(|look| !look.asked).and_then(|look| look.asks_at)
    }

    /// The cache is asked now about all that is under way.
    pub(super) fn asks(&mut self, now: Duration) {
        if let Some(look) = &mut self.look {
            look.asked |= look.asks_at.is_some_and(|at| at <= now);
        }
    }

    /// The cache has answered. The path whose end may leave now, if it was
    /// asked for its sake.
    pub(super) fn answered(&mut self) -> Option<usize> {
        self.look.take_if(|look| look.asked).map(|look| look.place)
    }

    /// The cache took a path from here.
    pub(super) fn taken(&mut self, place: usize, now: Duration) {
        if let Some(since) = self.may_leave.remove(&place) {
            let took = now.saturating_sub(since);
            self.takes = Some(self.takes.map_or(took, |before| (3 * before + took) / 4));
        }
    }

    /// A path is under way no more.
    pub(super) fn ends(&mut self, place: usize) {
        self.may_leave.remove(&place);
        self.look.take_if(|look| look.place == place);
    }
}

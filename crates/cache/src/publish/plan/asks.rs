//! Questions to the cache, and what follows from the answers.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Confirmed, Effects, PathState, Queue};

/// Paths that are asked about at once.
const ASKED_AT_ONCE: usize = 64;

impl Queue {
    /// Records how far the paths are that are under way. `ended` says of one whether
    /// all but its end has left.
    pub(in crate::publish) fn note(&mut self, now: Duration, ended: impl Fn(usize) -> bool) {
        for place in &self.active {
            let at = &self.places[*place];
            if at.state == PathState::UnderWay && at.waits_for == 0 && ended(*place) {
                self.looks.nearly_over(*place, now);
            }
        }
    }

    /// Time until the cache is to be asked, if not before.
    pub(in crate::publish) fn asks_in(&self, now: Duration) -> Option<Duration> {
        Some(self.looks.asks_at()?.saturating_sub(now))
    }

    /// Returns the paths to ask the cache about now: none, or those that may be begun
    /// soon, those under way, and those that come next.
    pub(in crate::publish) fn ask(&mut self, now: Duration) -> Vec<usize> {
        let older = |at: &usize, than: Duration| self.places[*at].missing_at + than < now;
        let soon: Vec<usize> =
            self.startable(now).take(8).chain(self.next_ahead(now).take(8)).collect();
        // Most of the time is left for the answer, so that nobody waits for it.
        let due = soon.iter().any(|at| older(at, self.limits.fresh / 4))
            || self.active.iter().any(|at| older(at, 2 * self.limits.fresh))
            || self.is_left_to_others(now)
                && self.queued.iter().any(|at| older(at, self.limits.fresh))
            || self.looks.asks_at().is_some_and(|at| at <= now);
        if !due {
            return Vec::new();
        }
        let next = self.startable(now).chain(self.ahead.iter().copied());
        let next = next.chain(self.queued.iter().copied()).take(ASKED_AT_ONCE);
        let asked: BTreeSet<usize> = self.active.iter().copied().chain(next).collect();
        self.looks.asks(now);
        asked.into_iter().collect()
    }

    /// Records what the cache has answered about these paths: whether it lacks each.
    /// `ended` says of a path under way whether its end has left: if so, it may be from
    /// here that the cache has it, and the answer to that is to be heard. Returns those
    /// that came from elsewhere, too.
    pub(in crate::publish) fn answered(
        &mut self,
        asked: &[usize],
        now: Duration,
        lacks: impl Fn(usize) -> bool,
        ended: impl Fn(usize) -> bool,
    ) -> (Vec<usize>, Effects) {
        let (mut elsewhere, mut effects) = (Vec::new(), Effects::default());
        // A path whose end is held back until now cannot be from here, whatever
        // follows from the answer.
        let own = |place: &usize| match self.places[*place].state {
            PathState::Queued | PathState::There | PathState::GivenUp => false,
            PathState::UnderWay => !self.is_held(*place) && ended(*place),
            // It finds that out itself when the pause is over.
            PathState::Paused => true,
        };
        let own: Vec<usize> = asked.iter().copied().filter(own).collect();
        for place in asked.iter().copied() {
            match self.places[place].state {
                PathState::There | PathState::GivenUp => continue,
                PathState::Queued | PathState::UnderWay | PathState::Paused => {}
            }
            self.places[place].missing_at = now;
            if !own.contains(&place) && !lacks(place) {
                elsewhere.push(place);
                let more = self.confirm(place, Confirmed::Elsewhere, now);
                effects.release.extend(more.release);
                effects.recall.extend(more.recall);
            }
        }
        effects.release.extend(self.looks.answered());
        // What was released and then found as well is over.
        effects.release.retain(|place| self.places[*place].state == PathState::UnderWay);
        (elsewhere, effects)
    }
}

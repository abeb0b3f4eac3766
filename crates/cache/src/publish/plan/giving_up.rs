//! Paths that are given up, or left to another host.

use super::*;

impl Queue {
    /// Gives up a path, and all that refers to it, directly or not. Returns how many
    /// that are in all, and what is to be broken off.
    pub(in crate::publish) fn give_up(&mut self, place: usize) -> (usize, Vec<usize>) {
        let (mut given_up, mut recall, mut left) = (0, Vec::new(), vec![place]);
        let mut met = BTreeSet::new();
        while let Some(next) = left.pop() {
            if !met.insert(next) {
                continue;
            }
            left.extend(&self.places[next].wanted_by);
            match self.places[next].state {
                // From elsewhere, without what it refers to.
                PathState::There | PathState::GivenUp => continue,
                PathState::Queued => {}
                PathState::UnderWay | PathState::Paused => recall.push(next),
            }
            self.set(next, PathState::GivenUp);
            given_up += 1;
        }
        recall.retain(|recalled| *recalled != place);
        (given_up, recall)
    }

    /// Another host is as far as this one: what is under way is finished, and
    /// what would come after it is left to that host.
    pub(in crate::publish) fn leave_what_follows(&mut self, place: usize, now: Duration) {
        let (mut met, mut follows) = (BTreeSet::new(), vec![place]);
        while let Some(next) = follows.pop() {
            for wanting in self.places[next].wanted_by.clone() {
                if !met.insert(wanting) {
                    continue;
                }
                match self.places[wanting].state {
                    PathState::UnderWay => follows.push(wanting),
                    PathState::Queued if self.ahead.contains(&wanting) => {
                        self.places[wanting].left_until = now + self.leave(wanting);
                    }
                    PathState::Queued
                    | PathState::Paused
                    | PathState::There
                    | PathState::GivenUp => {}
                }
            }
        }
    }

    /// How long a path is left to another host, which seems to be sending it:
    /// for no two hosts the same.
    pub(in crate::publish) fn leave(&self, place: usize) -> Duration {
        let sending = Duration::from_millis(self.places[place].size * 1000 / ANOTHERS_RATE);
        let chance = u32::from(mix(self.seed, place).to_le_bytes()[0]);
        let pause = self.limits.leave / 2 + self.limits.leave * chance / 255;
        (pause + sending).min(LONGEST_LEFT)
    }

    /// Takes a path from what is under way, with all that refers to it, which goes back
    /// to the queue and is returned.
    pub(super) fn halt(&mut self, place: usize, to: PathState) -> Vec<usize> {
        let (mut recall, mut left) = (Vec::new(), vec![place]);
        while let Some(next) = left.pop() {
            if self.places[next].state != PathState::UnderWay {
                continue;
            }
            self.set(next, if next == place { to } else { PathState::Queued });
            if next != place {
                recall.push(next);
            }
            self.for_wanting(next, |queue, wanting| {
                queue.places[wanting].not_begun += 1;
                queue.sort_in(wanting);
                left.push(wanting);
            });
            self.sort_in(next);
        }
        recall
    }
}

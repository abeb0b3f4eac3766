//! Limits of a push: how long it waits for what, and how often it tries.

use std::time::Duration;

/// Limits of a push: how long it waits for what, and how often it tries.
#[derive(Clone, Copy, Debug)]
pub struct PublishLimits {
    /// Longest time that the same is tried, while the cache takes nothing at all, after
    /// the tries that everything has. Zero: not longer.
    pub patience: Duration,
    /// First pause between two tries; it doubles with each.
    pub first_pause: Duration,
    /// Longest pause between two tries.
    pub longest_pause: Duration,
    /// Longest time that the end of a path is held back. Proxies and servers give an
    /// upload up after a minute without a byte, or half of one.
    pub hold: Duration,
    /// Time for which an answer counts that the cache lacks a path.
    pub fresh: Duration,
    /// Time for which something is left to another host that seems to be sending it:
    /// between half of this and one and a half, and longer if it is large.
    pub leave: Duration,
}

/// Number of times that the same is tried at least.
const TRIES: u32 = 5;

impl PublishLimits {
    /// Limits of the publish job, which is begun again if it fails.
    pub const JOB: Self = Self {
        patience: Duration::ZERO,
        first_pause: Duration::from_millis(500),
        longest_pause: Duration::from_secs(10),
        hold: Duration::from_secs(15),
        fresh: Duration::from_secs(1),
        leave: Duration::from_secs(2),
    };

    /// Limits of `fort-agent push`, which nobody begins again: it outlives a cache that
    /// is restarted.
    pub const PUSH: Self = Self { patience: Duration::from_secs(120), ..Self::JOB };

    /// Time for which the same may still be tried if nothing else succeeds: `None` if
    /// it may not be tried again. `alone` of its failures came although the cache had
    /// taken something else since the one before, and the cache has taken nothing for
    /// so long.
    pub(super) fn goes_on(&self, tries: u32, alone: u32, away: Duration) -> Option<Duration> {
        let patience = self.patience.saturating_sub(away);
        let patient = alone < TRIES && !patience.is_zero();
        (tries < TRIES || patient).then_some(patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fort_core::backoff::{Luck, pause};

    /// How long something is tried that always fails at once, with the
    /// shortest pauses that chance may give, and how often.
    fn given_up_after(limits: &PublishLimits, others_succeed: bool) -> (Duration, u32) {
        let (mut time, mut tries) = (Duration::ZERO, 1);
        loop {
            let (alone, away) = match others_succeed {
                true => (tries - 1, Duration::ZERO),
                false => (0, time),
            };
            if limits.goes_on(tries, alone, away).is_none() {
                return (time, tries);
            }
            time += pause(limits.first_pause, limits.longest_pause, tries, Luck(u16::MAX));
            tries += 1;
        }
    }

    #[test]
    fn a_push_outlives_a_cache_that_is_away_for_a_minute_and_a_half() {
        let (time, tries) = given_up_after(&PublishLimits::PUSH, false);
        assert!((90..150).contains(&time.as_secs()), "{time:?}");
        assert!(tries < 30, "{tries}");
    }

    #[test]
    fn a_path_that_alone_fails_is_given_up_soon() {
        let (time, tries) = given_up_after(&PublishLimits::PUSH, true);
        assert!(time < Duration::from_secs(16) && tries == TRIES + 1, "{time:?}");
    }

    #[test]
    fn a_job_gives_up_soon_for_it_is_begun_again() {
        for others_succeed in [false, true] {
            let (time, tries) = given_up_after(&PublishLimits::JOB, others_succeed);
            assert!(time < Duration::from_secs(8) && tries == TRIES, "{time:?}");
        }
    }
}

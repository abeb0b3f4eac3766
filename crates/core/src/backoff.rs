//! Pause after failures: doubling, bounded, with a random part.

use std::time::Duration;

/// Random number from the world: deciding has no randomness of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Luck(pub u16);

impl Luck {
    /// Returns a random share of a duration, from none of it to all of it.
    pub fn part_of(self, whole: Duration) -> Duration {
        whole.saturating_mul(u32::from(self.0)) / u32::from(u16::MAX)
    }
}

/// The pause after the `failures`th failure in a row: `first` doubled with
/// each further one, at most `max`, and of that between all and nine tenths,
/// so that a fleet that failed together does not come back together.
pub fn pause(first: Duration, max: Duration, failures: u32, luck: Luck) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    let full = first.saturating_mul(1 << doublings).min(max);
    full - luck.part_of(full / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn the_pause_doubles_up_to_its_maximum() {
        let minutes = |failures| pause(MINUTE, 32 * MINUTE, failures, Luck(0)).as_secs() / 60;
        let paused: Vec<_> = (0..=8).map(minutes).collect();
        assert_eq!(paused, [1, 1, 2, 4, 8, 16, 32, 32, 32]);
        assert_eq!(minutes(u32::MAX), 32);
    }

    #[test]
    fn chance_takes_at_most_a_tenth() {
        assert_eq!(pause(MINUTE, MINUTE, 1, Luck(u16::MAX)), MINUTE - MINUTE / 10);
        assert_eq!(Luck(u16::MAX).part_of(MINUTE), MINUTE);
        assert_eq!(Luck(0).part_of(MINUTE), Duration::ZERO);
    }
}

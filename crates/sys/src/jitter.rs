//! Randomness for pauses and orders that no two hosts should share.

use std::hash::{BuildHasher as _, Hasher as _};

use fort_core::backoff::Luck;

/// Returns a random fraction for the next pause.
pub fn luck() -> Luck {
    let random = std::hash::RandomState::new().build_hasher().finish();
    Luck(u16::from_le_bytes([random.to_le_bytes()[0], random.to_le_bytes()[1]]))
}

/// Returns a random seed for an order of work.
pub fn seed() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}

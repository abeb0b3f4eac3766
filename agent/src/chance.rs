//! Chance, for pauses that no two hosts should share.

use std::hash::{BuildHasher as _, Hasher as _};

use crate::core::backoff::Luck;

/// A number by chance.
pub fn luck() -> Luck {
    let random = std::hash::RandomState::new().build_hasher().finish();
    Luck(u16::from_le_bytes([random.to_le_bytes()[0], random.to_le_bytes()[1]]))
}

/// A seed by chance, for an order that no two hosts should share.
pub fn seed() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}

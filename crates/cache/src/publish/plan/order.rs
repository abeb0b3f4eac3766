//! The order in which paths are sent: references first, and otherwise another
//! one at each host.

use std::collections::{BTreeMap, BTreeSet};

use fort_core::types::StorePath;
use fort_nix::store::PathInfo;

/// Each path after all that it refers to, and otherwise in an order that the
/// seed gives. The store's references have no cycles but to oneself; one that
/// had would be broken anywhere.
pub(super) fn references_first<'a>(
    paths: &BTreeSet<&'a StorePath>,
    infos: &'a BTreeMap<StorePath, PathInfo>,
    seed: u64,
) -> Vec<&'a StorePath> {
    let rank: BTreeMap<&StorePath, u64> =
        paths.iter().enumerate().map(|(at, path)| (*path, mix(seed, at))).collect();
    let shuffled = |mut some: Vec<&'a StorePath>| {
        some.sort_unstable_by_key(|path| rank.get(path));
        some
    };
    let mut order = Vec::with_capacity(paths.len());
    let mut met = BTreeSet::new();
    for path in shuffled(paths.iter().copied().collect()) {
        // Without recursion: chains can be as long as the closure.
        let mut way = vec![(path, false)];
        while let Some((path, left)) = way.pop() {
            if left {
                order.push(path);
            } else if met.insert(path) {
                way.push((path, true));
                let references = infos.get(path).into_iter().flat_map(|info| &info.references);
                let wanted = references.filter(|r| paths.contains(r) && !met.contains(r));
                way.extend(shuffled(wanted.collect()).into_iter().map(|wanted| (wanted, false)));
            }
        }
    }
    order
}

/// A number that looks random, of a seed and a place (splitmix64).
pub(super) fn mix(seed: u64, place: usize) -> u64 {
    let step = (place as u64).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut mixed = seed.wrapping_add(step);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

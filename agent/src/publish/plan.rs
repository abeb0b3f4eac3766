//! What to send, and in which order. Pure.
//!
//! The server never checks whether it has what a path refers to. So a path is
//! sent only when everything that it refers to is there: however a push ends,
//! what the cache has can be fetched.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::types::StorePath;
use crate::store::PathInfo;

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

/// What is still to be sent, and what may be sent now.
#[derive(Debug)]
pub(super) struct Queue {
    places: Vec<Place>,
    ready: BTreeSet<usize>,
}

/// A path in the queue.
#[derive(Debug)]
struct Place {
    path: StorePath,
    /// How many paths it still waits for.
    waits_for: usize,
    /// Who refers to it.
    wanted_by: Vec<usize>,
    given_up: bool,
}

impl Queue {
    /// For these paths, which are all that is missing; references first.
    pub(super) fn new(
        missing: &BTreeSet<&StorePath>,
        infos: &BTreeMap<StorePath, PathInfo>,
    ) -> Self {
        let order = references_first(missing, infos);
        let places: BTreeMap<&StorePath, usize> =
            order.iter().enumerate().map(|(place, path)| (*path, place)).collect();
        let mut queue = Self {
            places: order
                .iter()
                .map(|path| Place {
                    path: (*path).clone(),
                    waits_for: 0,
                    wanted_by: Vec::new(),
                    given_up: false,
                })
                .collect(),
            ready: BTreeSet::new(),
        };
        for (at, path) in order.iter().enumerate() {
            let references = infos.get(*path).into_iter().flat_map(|info| &info.references);
            for reference in references.filter_map(|reference| places.get(reference)) {
                if *reference != at {
                    queue.places[at].waits_for += 1;
                    queue.places[*reference].wanted_by.push(at);
                }
            }
            if queue.places[at].waits_for == 0 {
                queue.ready.insert(at);
            }
        }
        queue
    }

    /// The next path that may be sent, with its place; it is then on its way.
    pub(super) fn take(&mut self) -> Option<(usize, StorePath)> {
        let place = self.ready.pop_first()?;
        Some((place, self.places[place].path.clone()))
    }

    /// The cache has it.
    pub(super) fn confirm(&mut self, place: usize) {
        for wanting in std::mem::take(&mut self.places[place].wanted_by) {
            let waiting = &mut self.places[wanting];
            waiting.waits_for -= 1;
            if waiting.waits_for == 0 && !waiting.given_up {
                self.ready.insert(wanting);
            }
        }
    }

    /// It is not sent, and neither is anything that refers to it, directly or
    /// not. How many that are in all.
    pub(super) fn give_up(&mut self, place: usize) -> usize {
        let (mut given_up, mut left) = (0, vec![place]);
        while let Some(next) = left.pop() {
            if !std::mem::replace(&mut self.places[next].given_up, true) {
                given_up += 1;
                left.append(&mut self.places[next].wanted_by);
            }
        }
        given_up
    }
}

/// Each path after all that it refers to. The store's references have no
/// cycles but to oneself; one that had would be broken anywhere.
fn references_first<'a>(
    paths: &BTreeSet<&'a StorePath>,
    infos: &'a BTreeMap<StorePath, PathInfo>,
) -> Vec<&'a StorePath> {
    let mut order = Vec::with_capacity(paths.len());
    let mut met = BTreeSet::new();
    for path in paths {
        // Without recursion: chains can be as long as the closure.
        let mut way = vec![(*path, false)];
        while let Some((path, left)) = way.pop() {
            if left {
                order.push(path);
            } else if met.insert(path) {
                way.push((path, true));
                let references = infos.get(path).into_iter().flat_map(|info| &info.references);
                let wanted = references.filter(|r| paths.contains(r) && !met.contains(r));
                way.extend(wanted.map(|reference| (reference, false)));
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::NarHash;
    use proptest::prelude::*;

    fn path(n: usize) -> StorePath {
        format!("/nix/store/{n:032}-p{n}").parse().unwrap()
    }

    fn info(references: impl IntoIterator<Item = usize>) -> PathInfo {
        PathInfo {
            deriver: None,
            nar_hash: NarHash::from_hex(&"0".repeat(64)).unwrap(),
            nar_size: 1,
            references: references.into_iter().map(path).collect(),
            ultimate: false,
            signatures: Vec::new(),
            content_address: None,
        }
    }

    /// Each path refers to some of those before it, by any names, and some to
    /// themselves.
    fn closures() -> impl Strategy<Value = BTreeMap<StorePath, PathInfo>> {
        prop::collection::vec(prop::collection::vec(0_usize..40, 0..5), 1..40).prop_map(|all| {
            // Names in another order than the one in which they refer.
            let name = |n: usize| (n * 37 + 11) % 101;
            let refers = |n: usize, to: &[usize]| {
                to.iter().map(|to| to % (n + 1)).map(name).collect::<Vec<_>>()
            };
            all.iter().enumerate().map(|(n, to)| (path(name(n)), info(refers(n, to)))).collect()
        })
    }

    proptest! {
        #[test]
        fn a_path_is_sent_after_all_that_it_refers_to(
            infos in closures(),
            bad in prop::collection::btree_set(0_usize..40, 0..4),
            jobs in 1_usize..5,
        ) {
            let missing: BTreeSet<&StorePath> = infos.keys().collect();
            let mut queue = Queue::new(&missing, &infos);
            let (mut there, mut given_up) = (BTreeSet::new(), 0);
            let mut on_their_way = Vec::new();
            loop {
                while on_their_way.len() < jobs && let Some(next) = queue.take() {
                    let others = infos[&next.1].references.iter().filter(|r| **r != next.1);
                    prop_assert!(others.into_iter().all(|other| there.contains(other)));
                    on_their_way.push(next);
                }
                // The last one first: any order of answers will do.
                let Some((place, path)) = on_their_way.pop() else { break };
                if bad.contains(&place) {
                    given_up += queue.give_up(place);
                } else {
                    queue.confirm(place);
                    prop_assert!(there.insert(path));
                }
            }
            prop_assert_eq!(there.len() + given_up, infos.len());
            prop_assert!(!bad.is_empty() || given_up == 0);
        }
    }

    #[test]
    fn a_long_chain_is_no_trouble() {
        let infos: BTreeMap<_, _> =
            (0..50_000).map(|n| (path(n), info((n < 49_999).then_some(n + 1)))).collect();
        let mut queue = Queue::new(&infos.keys().collect(), &infos);
        assert_eq!(queue.take().unwrap().1, path(49_999));
        assert!(queue.take().is_none());
        assert_eq!(queue.give_up(0), 50_000);
    }

    #[test]
    fn what_an_upstream_signed_is_not_ours() {
        let signed = |by: &[&str]| PathInfo {
            signatures: by.iter().map(|name| format!("{name}:AAAA")).collect(),
            ..info([])
        };
        let infos = BTreeMap::from([
            (path(1), signed(&["cache.nixos.org-1"])),
            (path(2), signed(&["fort"])),
            (path(3), signed(&[])),
            (path(4), signed(&["fort", "cache.nixos.org-1"])),
            // A name that only begins as one.
            (path(5), signed(&["cache.nixos.org-10"])),
        ]);
        let upstream = BTreeSet::from(["cache.nixos.org-1".to_owned()]);
        assert_eq!(own(&infos, &upstream), [&path(2), &path(3), &path(5)]);
    }
}

mod hosts;
mod others;

use super::*;
use fort_nix::store::NarHash;
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

fn queue(infos: &BTreeMap<StorePath, PathInfo>, seed: u64) -> Queue {
    let missing = infos.keys().collect();
    Queue::new(&missing, infos, PublishLimits::JOB, seed, Duration::ZERO)
}

/// Each refers to the one before it.
fn chain(length: usize) -> BTreeMap<StorePath, PathInfo> {
    (0..length).map(|n| (path(n), info(n.checked_sub(1)))).collect()
}

/// Each path refers to some of those before it, by any names, and some to
/// themselves.
fn closures() -> impl Strategy<Value = BTreeMap<StorePath, PathInfo>> {
    prop::collection::vec(prop::collection::vec(0_usize..40, 0..5), 1..40).prop_map(|all| {
        // Names in another order than the one in which they refer.
        let name = |n: usize| (n * 37 + 11) % 101;
        let refers =
            |n: usize, to: &[usize]| to.iter().map(|to| to % (n + 1)).map(name).collect::<Vec<_>>();
        all.iter().enumerate().map(|(n, to)| (path(name(n)), info(refers(n, to)))).collect()
    })
}

const NOTHING_LEFT: fn(usize) -> u64 = |_| 0;
const ZERO: Duration = Duration::ZERO;

/// A cache and a push to it, in which anything may happen to any path.
struct World {
    infos: BTreeMap<StorePath, PathInfo>,
    queue: Queue,
    under_way: BTreeSet<usize>,
    paused: BTreeSet<usize>,
    there: BTreeSet<StorePath>,
    given_up: usize,
    now: Duration,
}

impl World {
    /// Whether the cache has all that a path refers to, directly or not.
    fn is_whole(&self, place: usize) -> bool {
        let mut left = self.queue.places[place].references.clone();
        while let Some(reference) = left.pop() {
            if !self.there.contains(self.queue.path(reference)) {
                return false;
            }
            left.extend(&self.queue.places[reference].references);
        }
        true
    }

    fn fill(&mut self, jobs: usize, left: impl Fn(usize) -> u64) {
        while self.queue.active() < jobs
            && let Some(place) = self.queue.take(self.now, &left)
        {
            assert!(self.under_way.insert(place));
        }
    }

    fn recall(&mut self, recall: Vec<usize>) {
        for place in recall {
            assert!(self.under_way.remove(&place) || self.paused.remove(&place), "{place}");
        }
    }

    /// The cache takes a path, if its end may leave.
    fn finish(&mut self, place: usize) {
        if self.queue.is_held(place) {
            return;
        }
        // What this is all about.
        assert!(self.is_whole(place), "it cannot be fetched");
        assert!(self.under_way.remove(&place));
        assert!(self.there.insert(self.queue.path(place).clone()));
        let effects = self.queue.confirm(place, Confirmed::Here, self.now);
        self.take_in(effects);
    }

    fn take_in(&mut self, effects: Effects) {
        for released in effects.release {
            assert!(self.under_way.contains(&released) && !self.queue.is_held(released));
        }
        self.recall(effects.recall);
    }

    /// The cache is asked, if it is to be, and has nothing from elsewhere.
    fn ask(&mut self) {
        self.queue.note(self.now, |_| true);
        let asked = self.queue.ask(self.now);
        let (found, effects) = self.queue.answered(&asked, self.now, |_| true, |_| false);
        assert_eq!((found, &effects.recall), (vec![], &vec![]));
        self.take_in(effects);
    }

    fn happens(&mut self, what: u8, which: usize) {
        let pick = |of: &BTreeSet<usize>| of.iter().nth(which % of.len().max(1)).copied();
        let Some(place) = pick(&self.under_way) else { return self.resume(which) };
        match what {
            0..4 => self.finish(place),
            4 if self.queue.waits(place) => {
                self.under_way.remove(&place);
                let recall = self.queue.held_too_long(place);
                self.recall(recall);
            }
            5 if self.queue.waits(place) => {
                self.under_way.remove(&place);
                let recall = self.queue.put_back(place);
                self.recall(recall);
            }
            4..6 => {
                self.under_way.remove(&place);
                let recall = self.queue.pause(place);
                self.recall(recall);
                self.paused.insert(place);
            }
            6 => {
                self.under_way.remove(&place);
                let (given_up, recall) = self.queue.give_up(place);
                self.given_up += given_up;
                self.recall(recall);
            }
            7 => self.resume(which),
            8 => self.ask(),
            9 => self.another_gives(which, true),
            _ => self.another_gives(which, false),
        }
    }

    fn resume(&mut self, which: usize) {
        let place = self.paused.iter().nth(which % self.paused.len().max(1)).copied();
        if let Some(place) = place {
            self.paused.remove(&place);
            self.queue.resume(place);
            self.under_way.insert(place);
        }
    }

    /// Another host gives a path, which is then found; one that is like this
    /// one when all that it refers to is there, others as they like.
    fn another_gives(&mut self, which: usize, alike: bool) {
        let all: Vec<usize> = (0..self.queue.places.len()).collect();
        let may = |at: &usize| {
            !self.there.contains(self.queue.path(*at)) && (!alike || self.is_whole(*at))
        };
        let possible: Vec<usize> = all.iter().copied().filter(may).collect();
        let Some(given) = possible.get(which % possible.len().max(1)) else { return };
        let before = self.queue.places[*given].state;
        let (found, effects) =
            self.queue.answered(&all, self.now, |at| at != *given, |_| which.is_multiple_of(2));
        if found.is_empty() {
            assert_ne!(before, PathState::Queued);
            return;
        }
        self.there.insert(self.queue.path(*given).clone());
        self.take_in(effects);
    }

    fn check(&self) {
        let active: BTreeSet<usize> = self.under_way.union(&self.paused).copied().collect();
        assert_eq!(self.queue.active, active);
        for place in &self.under_way {
            for reference in &self.queue.places[*place].references {
                let there = self.there.contains(self.queue.path(*reference));
                let there = there && self.is_whole(*reference);
                assert!(there || self.under_way.contains(reference), "{place} waits for nothing");
            }
        }
        // Nothing waits in a circle.
        assert!(
            self.under_way.is_empty()
                || self.under_way.iter().any(|place| !self.queue.waits(*place))
        );
        // One end at most is held back for a look.
        let looked_for = |place: &&usize| self.queue.is_held(**place) && !self.queue.waits(**place);
        assert!(self.under_way.iter().filter(looked_for).count() <= 1);
    }
}

proptest! {
    #[test]
    fn the_end_of_a_path_leaves_after_all_that_it_refers_to_whatever_happens(
        infos in closures(),
        events in prop::collection::vec((0_u8..11, 0_usize..40, 0_u64..9), 0..80),
        seed: u64,
        jobs in 1_usize..6,
        look_in in 1_u64..9,
    ) {
        let mut queue = queue(&infos, seed);
        queue.looks.next_in = look_in;
        let mut world = World {
            infos, queue, under_way: BTreeSet::new(), paused: BTreeSet::new(),
            there: BTreeSet::new(), given_up: 0, now: ZERO,
        };
        for (what, which, left) in events {
            world.now += Duration::from_millis(7);
            world.queue.note(world.now, |at| !at.is_multiple_of(3));
            world.fill(jobs, |_| left << 20);
            world.check();
            world.happens(what, which);
            world.check();
        }
        // From now on all goes well, and then it ends.
        for step in 0.. {
            prop_assert!(step < 1000, "it never ends");
            world.now += Duration::from_secs(1);
            world.ask();
            world.fill(jobs, NOTHING_LEFT);
            world.check();
            if world.queue.is_over() { break }
            world.resume(0);
            let first = world.under_way.iter().copied().find(|place| !world.queue.is_held(*place));
            if let Some(first) = first { world.finish(first) }
        }
        prop_assert_eq!(&world.queue.queued, &BTreeSet::new());
        prop_assert_eq!(world.there.len() + world.given_up, world.infos.len());
    }
}

#[test]
fn a_long_chain_is_no_trouble() {
    let infos: BTreeMap<_, _> =
        (0..50_000).map(|n| (path(n), info((n < 49_999).then_some(n + 1)))).collect();
    let mut queue = queue(&infos, 7);
    let first = queue.take(ZERO, |_| AHEAD).unwrap();
    assert_eq!(queue.path(first), &path(49_999));
    assert_eq!(queue.take(ZERO, |_| AHEAD), None);
    assert_eq!(queue.give_up(first), (50_000, vec![]));
    assert!(queue.is_over());
}

#[test]
fn what_refers_to_something_that_is_nearly_over_is_begun() {
    let infos = chain(4);
    let mut queue = queue(&infos, 0);
    let take = |queue: &mut Queue, left: u64| queue.take(ZERO, |_| left);
    assert_eq!(take(&mut queue, AHEAD), Some(0));
    assert_eq!(take(&mut queue, AHEAD), None);
    assert_eq!(take(&mut queue, AHEAD - 1), Some(1));
    assert_eq!(take(&mut queue, 1), Some(2));
    assert!(!queue.waits(0) && queue.waits(1) && queue.waits(2));
    let released = |place| Effects { release: vec![place], ..Effects::default() };
    assert_eq!(queue.confirm(0, Confirmed::Here, ZERO), released(1));
    assert_eq!(queue.confirm(1, Confirmed::Here, ZERO), released(2));
}

/// Else the two would compete for what the server can do.
#[test]
fn what_waits_for_nothing_goes_first() {
    let infos = BTreeMap::from([
        (path(0), info([])),
        (path(1), info([0])),
        (path(2), info([])),
        (path(3), info([])),
    ]);
    for seed in 0..20 {
        let mut queue = queue(&infos, seed);
        let order: Vec<_> = (0..4).map(|_| queue.take(ZERO, NOTHING_LEFT).unwrap()).collect();
        assert_eq!(queue.path(order[3]), &path(1), "{seed}");
    }
}

#[test]
fn what_waits_is_broken_off_when_what_it_waits_for_fails() {
    let infos = chain(5);
    let mut queue = queue(&infos, 0);
    for place in 0..3 {
        assert_eq!(queue.take(ZERO, NOTHING_LEFT), Some(place));
    }
    assert_eq!(queue.pause(0), [1, 2]);
    assert_eq!(queue.active(), 1);
    assert_eq!(queue.take(ZERO, NOTHING_LEFT), None, "its reference is not under way");
    queue.resume(0);
    assert_eq!(queue.take(ZERO, NOTHING_LEFT), Some(1));
    assert_eq!(queue.give_up(0), (5, vec![1]));
}

#[test]
fn an_end_that_was_held_for_too_long_is_begun_when_it_waits_for_nothing() {
    let infos = chain(4);
    let mut queue = queue(&infos, 0);
    for place in 0..3 {
        assert_eq!(queue.take(ZERO, NOTHING_LEFT), Some(place));
    }
    assert_eq!(queue.held_too_long(1), [2]);
    assert_eq!(queue.take(ZERO, NOTHING_LEFT), None);
    assert_eq!(queue.confirm(0, Confirmed::Here, ZERO), Effects::default());
    assert_eq!(queue.take(ZERO, NOTHING_LEFT), Some(1));
    // And from then on less is begun ahead.
    assert_eq!(queue.take(ZERO, |_| AHEAD / 2), None);
    assert_eq!(queue.take(ZERO, |_| AHEAD / 5), Some(2));
}

/// A server that wants no proof of possession takes what it knows at once.
#[test]
fn a_server_that_does_not_wait_for_the_end_is_sent_nothing_ahead() {
    let infos = chain(5);
    let mut queue = queue(&infos, 0);
    for place in 0..3 {
        assert_eq!(queue.take(ZERO, NOTHING_LEFT), Some(place));
    }
    let effects = queue.confirm(1, Confirmed::Here, ZERO);
    assert_eq!(effects, Effects { release: vec![], recall: vec![2] });
    assert_eq!(queue.take(ZERO, NOTHING_LEFT), None);
    assert_eq!(queue.confirm(0, Confirmed::Here, ZERO), Effects::default());
    assert_eq!(queue.take(ZERO, NOTHING_LEFT), Some(2));
    assert_eq!(queue.take(ZERO, NOTHING_LEFT), None);
}

#[test]
fn what_was_missing_a_while_ago_is_asked_about_before_it_is_begun() {
    let infos: BTreeMap<_, _> = (0..200).map(|n| (path(n), info([]))).collect();
    let mut queue = queue(&infos, 0);
    let later = 2 * PublishLimits::JOB.fresh;
    assert_eq!(queue.ask(ZERO), [0; 0]);
    assert_eq!(queue.take(ZERO, NOTHING_LEFT), Some(0));
    assert_eq!(queue.take(later, NOTHING_LEFT), None);
    let asked = queue.ask(later);
    assert_eq!(asked, (0..65).collect::<Vec<_>>());
    let (elsewhere, effects) = queue.answered(&asked, later, |at| at > 3, |_| false);
    // The one under way is there as well, from another host.
    assert_eq!(elsewhere, [0, 1, 2, 3]);
    assert_eq!(effects, Effects { release: vec![], recall: vec![0] });
    assert_eq!(queue.take(later, NOTHING_LEFT), Some(4));
    assert_eq!(queue.ask(later), [0; 0]);
}

#[test]
fn an_end_that_has_left_is_waited_for_though_the_cache_has_it() {
    let infos = chain(2);
    let mut queue = queue(&infos, 0);
    queue.take(ZERO, NOTHING_LEFT);
    queue.take(ZERO, NOTHING_LEFT);
    let (elsewhere, _) = queue.answered(&[0], ZERO, |_| false, |_| true);
    assert_eq!(elsewhere, [0; 0]);
    // One that is held back cannot be from here.
    let (elsewhere, effects) = queue.answered(&[1], ZERO, |_| false, |_| true);
    assert_eq!((elsewhere, effects.recall), (vec![1], vec![1]));
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

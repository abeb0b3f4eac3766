//! Whole pushes, in which time is virtual: a chain by one host, and two hosts
//! that give the same.

use super::*;

/// A tenth of a second for the body of each path.
#[test]
fn a_chain_takes_as_long_as_its_links_beside_each_other() {
    let infos = chain(100);
    let alone = |jobs: usize| {
        let (mut queue, mut now) = (queue(&infos, 3), ZERO);
        let mut bodies: BTreeMap<usize, Duration> = BTreeMap::new();
        while !queue.is_over() {
            let asked = queue.to_ask(now);
            queue.answered(&asked, now, |_| true, |_| false);
            while queue.active() < jobs
                && let Some(place) = queue.take(now, NOTHING_LEFT)
            {
                bodies.insert(place, now + Duration::from_millis(100));
            }
            let over = bodies.iter().find(|(at, end)| **end <= now && !queue.waits(**at));
            match over.map(|(at, _)| *at) {
                Some(place) => {
                    bodies.remove(&place);
                    queue.confirm(place, Confirmed::Here, now);
                }
                None => now += Duration::from_millis(5),
            }
        }
        now
    };
    assert!(alone(1) >= Duration::from_secs(10));
    assert!(alone(4) <= Duration::from_millis(2600), "{:?}", alone(4));
}

/// A host that pushes, and how many paths it sent.
struct Host {
    queue: Queue,
    under_way: BTreeMap<usize, Upload>,
    sent: usize,
    seed: u64,
}

/// When all but the end of a path will have left, and when the cache will have
/// it, once its end has left.
struct Upload {
    nearly: Duration,
    there: Option<Duration>,
}

impl Host {
    /// As long as it takes here, give or take a fifth.
    fn about(&self, place: usize, milliseconds: u32) -> Duration {
        let chance = u32::try_from(mix(self.seed, place) % 41).unwrap();
        Duration::from_millis(1) * milliseconds * (80 + chance) / 100
    }

    fn turn(&mut self, cache: &mut BTreeSet<StorePath>, now: Duration) {
        loop {
            let all: Vec<usize> = self.under_way.keys().copied().collect();
            for place in all.into_iter().filter(|place| !self.queue.waits(*place)) {
                let answer = self.about(place, 20);
                let upload = self.under_way.get_mut(&place).unwrap();
                if upload.nearly <= now {
                    upload.there.get_or_insert(now + answer);
                }
            }
            let over = |upload: &Upload| upload.there.is_some_and(|there| there <= now);
            let first = self.under_way.iter().find(|(_, upload)| over(upload));
            let Some(place) = first.map(|(place, _)| *place) else { break };
            self.under_way.remove(&place);
            self.sent += 1;
            cache.insert(self.queue.path(place).clone());
            self.queue.confirm(place, Confirmed::Here, now);
        }
        let asked = self.queue.to_ask(now);
        let there: BTreeSet<usize> =
            asked.iter().copied().filter(|at| cache.contains(self.queue.path(*at))).collect();
        let under_way = &self.under_way;
        let ended = |at: usize| under_way.get(&at).is_some_and(|upload| upload.nearly <= now);
        let (_, effects) = self.queue.answered(&asked, now, |at| !there.contains(&at), ended);
        self.under_way.retain(|place, _| !effects.recall.contains(place));
        while self.queue.active() < 4
            && let Some(place) = self.queue.take(now, NOTHING_LEFT)
        {
            let nearly = now + self.about(place, 100);
            self.under_way.insert(place, Upload { nearly, there: None });
        }
    }
}

/// Two hosts that begin one after the other; each path takes some 120 ms, and
/// four go beside each other. Which of them sent how many, and when all was
/// there.
fn two_hosts(
    infos: &BTreeMap<StorePath, PathInfo>,
    seed: u64,
    later: Duration,
) -> ([usize; 2], Duration) {
    let mut cache: BTreeSet<StorePath> = BTreeSet::new();
    let mut hosts: Vec<Host> = Vec::new();
    let mut now = ZERO;
    loop {
        let begins = [ZERO, later];
        while hosts.len() < 2 && now >= begins[hosts.len()] {
            let missing: BTreeSet<_> = infos.keys().filter(|path| !cache.contains(*path)).collect();
            let seed = mix(seed, hosts.len());
            let queue = Queue::new(&missing, infos, Limits::JOB, seed, now);
            hosts.push(Host { queue, under_way: BTreeMap::new(), sent: 0, seed });
        }
        for host in &mut hosts {
            host.turn(&mut cache, now);
        }
        if cache.len() == infos.len() && hosts.len() == 2 {
            return ([hosts[0].sent, hosts[1].sent], now);
        }
        now += Duration::from_millis(5);
        assert!(now < Duration::from_secs(200), "it never ends");
    }
}

#[test]
fn two_hosts_that_give_the_same_share_it() {
    let star: BTreeMap<_, _> = (0..400).map(|n| (path(n), info([]))).collect();
    let tree: BTreeMap<_, _> = (0..400)
        .map(|n| (path(n), info([n / 2, n / 3].into_iter().filter(|to| *to != n))))
        .collect();
    for (name, infos) in [("wide", star), ("as systems are", tree)] {
        for seed in 0..10 {
            for later in [ZERO, Duration::from_millis(1730)] {
                let (sent, took) = two_hosts(&infos, seed, later);
                let all = sent[0] + sent[1];
                assert!(all <= 400 + 400 / 8, "{name} {seed}: {sent:?}");
                assert!(sent.iter().all(|sent| *sent < 280), "{name} {seed}: {sent:?}");
                // One alone takes twelve seconds.
                assert!(took < Duration::from_millis(9500), "{name} {seed}: {took:?}");
            }
        }
    }
}

/// Of a chain nobody can send another part; so one of them waits, as soon as
/// it sees the other.
#[test]
fn of_two_hosts_that_give_the_same_chain_one_leaves_it_to_the_other() {
    let (short, long) = (chain(100), chain(400));
    for seed in 0..20 {
        let (sent, took) = two_hosts(&short, seed, Duration::from_millis(1730));
        assert!(sent[0] + sent[1] <= 115, "{seed}: {sent:?}");
        // One alone takes as long.
        assert!(took < Duration::from_millis(3600), "{seed}: {took:?}");
        // Those that begin together see each other later.
        let (sent, took) = two_hosts(&long, seed, ZERO);
        assert!(sent[0] + sent[1] <= 400 + 400 / 4, "{seed}: {sent:?}");
        assert!(took < Duration::from_secs(14), "{seed}: {took:?}");
    }
}

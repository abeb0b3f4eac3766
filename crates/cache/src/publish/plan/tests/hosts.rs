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
            let asked = queue.ask(now);
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

/// Cache that two hosts push to.
#[derive(Default)]
struct Cache {
    there: BTreeSet<StorePath>,
    /// When it will have all but the end of what it is sent, for each that was
    /// sent first.
    nearly: BTreeMap<StorePath, Duration>,
    /// Whether a host that sends what another sends already catches up: what
    /// the cache has of the contents it need not store again.
    deduplicates: bool,
}

/// A host that pushes, how many paths it sent, and how many it began to.
struct Host {
    queue: Queue,
    under_way: BTreeMap<usize, Upload>,
    /// Paths that the cache was asked about, those of them that it has, and when that
    /// will be known here.
    asking: Option<(Vec<usize>, BTreeSet<usize>, Duration)>,
    sent: usize,
    begun: usize,
    pace: u64,
    jobs: usize,
}

/// When all but the end of a path will have left, and when the cache will have
/// it, once its end has left.
struct Upload {
    nearly: Duration,
    there: Option<Duration>,
}

/// Longest time in which a host looks for what there is to do.
const PACE: Duration = Duration::from_millis(20);
/// How long it takes until it is known what the cache lacks.
const ANSWER: Duration = Duration::from_millis(10);

impl Host {
    fn new(queue: Queue, pace: u64, jobs: usize) -> Self {
        let (under_way, asking) = (BTreeMap::new(), None);
        Self { queue, under_way, asking, sent: 0, begun: 0, pace, jobs }
    }

    /// As long as it takes here, give or take a fifth.
    fn about(&self, place: usize, milliseconds: u32) -> Duration {
        let name = self.queue.path(place).base_name();
        let which = name.bytes().fold(0, |sum: usize, byte| sum.wrapping_mul(31) + byte as usize);
        let chance = u32::try_from(mix(self.pace, which) % 41).unwrap();
        Duration::from_millis(1) * milliseconds * (80 + chance) / 100
    }

    fn turn(&mut self, cache: &mut Cache, now: Duration) {
        loop {
            let all: Vec<usize> = self.under_way.keys().copied().collect();
            for place in all.into_iter().filter(|place| !self.queue.is_held(*place)) {
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
            cache.there.insert(self.queue.path(place).clone());
            self.queue.confirm(place, Confirmed::Here, now);
        }
        self.asks(cache, now);
        while self.queue.active() < self.jobs
            && let Some(place) = self.queue.take(now, NOTHING_LEFT)
        {
            let mut nearly = now + self.about(place, 100);
            let first = cache.nearly.entry(self.queue.path(place).clone()).or_insert(nearly);
            if cache.deduplicates {
                nearly = nearly.min(*first).max(now + Duration::from_millis(10));
            }
            self.begun += 1;
            self.under_way.insert(place, Upload { nearly, there: None });
        }
    }

    /// When something happens next.
    fn next(&self, now: Duration) -> Duration {
        let uploads = self.under_way.values().flat_map(|it| [Some(it.nearly), it.there]);
        let answer = self.asking.as_ref().map(|(.., known)| *known);
        let looks = self.queue.asks_in(now).map(|left| now + left);
        let all = uploads.chain([answer, looks]).flatten().filter(|at| *at > now);
        all.min().unwrap_or(now + PACE).min(now + PACE)
    }

    fn asks(&mut self, cache: &Cache, now: Duration) {
        let under_way = &self.under_way;
        let ended = |at: usize| under_way.get(&at).is_some_and(|upload| upload.nearly <= now);
        self.queue.note(now, ended);
        if let Some((asked, there, _)) = self.asking.take_if(|(_, _, known)| *known <= now) {
            let lacks = |at| !there.contains(&at);
            let (_, effects) = self.queue.answered(&asked, now, lacks, ended);
            self.under_way.retain(|place, _| !effects.recall.contains(place));
        }
        if self.asking.is_none() {
            let asked = self.queue.ask(now);
            let is_there = |at: &usize| cache.there.contains(self.queue.path(*at));
            let there = asked.iter().copied().filter(is_there).collect();
            self.asking =
                Some((asked, there, now + ANSWER)).filter(|(asked, ..)| !asked.is_empty());
        }
    }
}

/// Two hosts, and what they push to.
#[derive(Clone, Copy)]
struct Two {
    /// How much later the second begins.
    later: Duration,
    /// Whether all takes both as long.
    alike: bool,
    deduplicates: bool,
    jobs: usize,
}

impl Two {
    const UNLIKE: Self = Self { later: ZERO, alike: false, deduplicates: false, jobs: 4 };

    /// Each path takes some 120 ms. What each host did, and when all was there.
    fn push(self, infos: &BTreeMap<StorePath, PathInfo>, seed: u64) -> ([Host; 2], Duration) {
        let mut cache = Cache { deduplicates: self.deduplicates, ..Cache::default() };
        let mut hosts: Vec<Host> = Vec::new();
        let mut now = ZERO;
        loop {
            let begins = [ZERO, self.later];
            while hosts.len() < 2 && now >= begins[hosts.len()] {
                let missing = infos.keys().filter(|path| !cache.there.contains(*path)).collect();
                let own = mix(seed, hosts.len());
                let queue = Queue::new(&missing, infos, PublishLimits::JOB, own, now);
                hosts.push(Host::new(queue, if self.alike { seed } else { own }, self.jobs));
            }
            for host in &mut hosts {
                host.turn(&mut cache, now);
            }
            if cache.there.len() == infos.len() && hosts.len() == 2 {
                return (hosts.try_into().ok().unwrap(), now);
            }
            now = hosts.iter().map(|host| host.next(now)).min().unwrap();
            assert!(now < Duration::from_secs(200), "it never ends");
        }
    }
}

/// Two hosts that begin one after the other, and are not alike. Which of them
/// sent how many, and when all was there.
fn two_hosts(
    infos: &BTreeMap<StorePath, PathInfo>,
    seed: u64,
    later: Duration,
) -> ([usize; 2], Duration) {
    let (hosts, took) = Two { later, ..Two::UNLIKE }.push(infos, seed);
    (hosts.map(|host| host.sent), took)
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
    let mut of_short = 0;
    for seed in 0..20 {
        let (sent, took) = two_hosts(&short, seed, Duration::from_millis(1730));
        assert!(sent[0] + sent[1] <= 125, "{seed}: {sent:?}");
        of_short += sent[0] + sent[1];
        // One alone takes as long.
        assert!(took < Duration::from_millis(3600), "{seed}: {took:?}");
        // Those that begin together see each other later.
        let (sent, took) = two_hosts(&long, seed, ZERO);
        assert!(sent[0] + sent[1] <= 400 + 400 / 8, "{seed}: {sent:?}");
        assert!(took < Duration::from_secs(14), "{seed}: {took:?}");
    }
    assert!(of_short <= 20 * 110, "{of_short}");
}

/// Whoever sends a chain sends it in the same order. So two hosts that are
/// equally fast, or that a server keeps in step, would send each link at the
/// same moment.
#[test]
fn of_two_hosts_in_step_one_leaves_a_chain_to_the_other() {
    let two: BTreeMap<_, _> =
        (0..400).map(|n| (path(n), info((n % 200 > 0).then(|| n - 1)))).collect();
    // And how long one host takes for that, in milliseconds.
    let cases = [
        ("one chain", chain(400), 4, 12_800),
        ("two chains", two, 4, 12_800),
        ("large links", chain(200), 1, 24_200),
    ];
    for (name, infos, jobs, one) in cases {
        for seed in 0..8 {
            // The server keeps them in step, or one is a little ahead.
            let later = Duration::from_millis(seed % 4 * 7);
            let deduplicates = seed < 4;
            let two = Two { later, deduplicates, jobs, alike: true };
            let (hosts, took) = two.push(&infos, seed);
            let sent = hosts.map(|host| host.begun);
            assert!(sent[0] + sent[1] < infos.len() * 5 / 4, "{name} {seed}: {sent:?}");
            assert!(took < Duration::from_millis(one * 105 / 100), "{name} {seed}: {took:?}");
        }
    }
}

/// How long one host takes, which looks whether there is another or does not.
fn alone(infos: &BTreeMap<StorePath, PathInfo>, seed: u64, jobs: usize, looks: bool) -> Duration {
    let (mut cache, mut now) = (Cache::default(), ZERO);
    let mut queue = queue(infos, mix(seed, 0));
    if !looks {
        queue.looks.next_in = u64::MAX;
    }
    let mut host = Host::new(queue, seed, jobs);
    while !host.queue.is_over() {
        host.turn(&mut cache, now);
        now = host.next(now);
    }
    assert_eq!((cache.there.len(), host.begun), (infos.len(), infos.len()));
    now
}

#[test]
fn a_host_that_is_alone_loses_next_to_no_time_by_looking() {
    for (length, jobs) in [(100, 4), (400, 4), (100, 1)] {
        let infos = chain(length);
        let took = |looks| (0..20).map(|seed| alone(&infos, seed, jobs, looks)).sum::<Duration>();
        let (with, without) = (took(true), took(false));
        assert!(with > without, "nobody looks");
        assert!(with * 100 <= without * 105, "{length} {jobs}: {with:?} {without:?}");
    }
}

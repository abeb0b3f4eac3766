//! Brings a stall about, asks every channel, lifts it.
//!
//! What is told within two polls is counted by the agent's own count of them:
//! from the moment when the cause is in effect for the agent. For most that is
//! when it was brought about; where an attempt has to fail first, it is the end
//! of that attempt, by what the job and the agent have written.

use std::any::Any;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fort_agent::core::types::Commit;
use serde_json::Value;

use crate::support::mounts::in_own_mounts;
use crate::support::pages::get;
use crate::support::rig::settings::TRIES;
use crate::support::rig::{LONG, Rig};
use crate::support::site::Site;
use crate::support::sshd::free_port;
use crate::support::told::{Channels, Told, unbroken, wrong};

/// Cause that keeps a host from what it should run, and the way it is to be told.
pub(super) struct Stall {
    /// Whether the stall mounts file systems.
    pub(super) mounts: bool,
    /// Change of the settings before the agent is first started.
    pub(super) settings: fn(&mut Stage),
    /// Brings the stall about.
    pub(super) cause: fn(&mut Stage),
    /// Whether the agent can know by now; always, unless something else has to
    /// end first. It must stay so once it is.
    pub(super) in_effect: fn(&Stage) -> bool,
    /// How often remotes are asked: seldom where finding out takes programs of
    /// its own, which do not hurry for a test.
    pub(super) every: &'static str,
    pub(super) state: &'static str,
    pub(super) held: Option<&'static str>,
    /// All channels have these words of the cause and its evidence; `{head}` is
    /// the short name of the stage's commit.
    pub(super) words: &'static [&'static str],
    /// Words of what lifts the stall, which all channels have as well.
    pub(super) lift: &'static [&'static str],
    /// Lines of the metrics besides those of the state.
    pub(super) metrics: &'static [&'static str],
    /// Number of polls that have to begin and end until the stall is told.
    pub(super) polls: u64,
    /// Does what is said to lift the stall. Returns the commit that runs then.
    pub(super) undo: fn(&mut Stage) -> Commit,
}

impl Stall {
    pub(super) const USUAL: Self = Self {
        mounts: false,
        settings: |_| {},
        cause: |_| {},
        in_effect: |_| true,
        every: "200ms",
        state: "held",
        held: None,
        words: &[],
        lift: &[],
        metrics: &[],
        polls: 2,
        undo: |stage| stage.one,
    };
}

/// A host, and what belongs to its story.
pub(super) struct Stage {
    pub(super) rig: Rig,
    pub(super) pages: SocketAddr,
    /// The first commit, which was deployed.
    pub(super) one: Commit,
    /// The commit that it is about.
    pub(super) head: Commit,
    pub(super) site: Site,
    /// Values that must live until the end of the stage.
    pub(super) kept: Vec<Box<dyn Any>>,
}

impl Stage {
    /// Runs a command of the agent's, which is done.
    pub(super) fn run(&self, arguments: &[&str]) {
        let (code, said) = self.rig.tell(arguments);
        assert_eq!(code, 0, "{arguments:?}: {said}");
    }

    /// Another boot, of what boots by default.
    pub(super) fn reboot(&mut self, id: &str) {
        self.rig.stop();
        self.rig.boot(id);
        self.rig.start();
    }

    /// The status as it is over HTTP: the cheapest way to ask often.
    pub(super) fn status(&self) -> Option<Value> {
        let (code, body) = get(self.pages, "/status").ok()?;
        (code == 200).then(|| serde_json::from_str(&body).unwrap())
    }

    fn metrics(&self) -> String {
        // The agent may be becoming itself again, under another configuration.
        let began = Instant::now();
        loop {
            match get(self.pages, "/metrics") {
                Ok((_, body)) => return body,
                Err(error) => assert!(began.elapsed() < LONG, "/metrics: {error}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// How often the remotes were asked, as far as anybody counts it.
    fn polls(&self) -> Option<u64> {
        let (code, metrics) = get(self.pages, "/metrics").ok()?;
        let count = |line: &str| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
        let mut by_remote = std::collections::BTreeMap::<&str, u64>::new();
        for line in metrics.lines().filter(|line| line.starts_with("fort_agent_polls_total{")) {
            let remote = line.split("remote=\"").nth(1).unwrap().split('"').next().unwrap();
            *by_remote.entry(remote).or_default() += count(line);
        }
        // In one poll a second remote may be asked after the first.
        (code == 200).then(|| by_remote.into_values().max().unwrap_or(0))
    }

    /// Reads a file that a job of the commit in question has written, as JSON.
    pub(super) fn written(&self, kind: &str, file: &str) -> Option<Value> {
        let of_commit = format!("-{}-", &self.head.to_string()[..8]);
        let jobs = std::fs::read_dir(self.rig.state().join("jobs")).ok()?.flatten();
        let mut jobs = jobs.filter(|job| {
            let name = job.file_name().to_string_lossy().into_owned();
            name.starts_with(kind) && (name.contains(&of_commit) || kind == "publish-")
        });
        let text = jobs.find_map(|job| std::fs::read(job.path().join(file)).ok())?;
        serde_json::from_slice(&text).ok()
    }

    /// Returns the agent's journal, as JSON.
    pub(super) fn journal(&self) -> Value {
        let text = std::fs::read(self.rig.state().join("journal.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Whether a part of that names the commit that it is about.
    fn remembered(&self, part: &str) -> bool {
        self.journal()[part].to_string().contains(&self.head.to_string())
    }

    /// The agent's own words.
    fn log(&self) -> String {
        let log = self.rig.log();
        log.split("\n--- ").next().unwrap().to_owned()
    }

    pub(super) fn wait(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        let mut last = None;
        // Some are looked at again only once in a minute.
        while began.elapsed() < 2 * LONG {
            match self.status() {
                Some(status) if wanted(&status) => return status,
                Some(status) => last = Some(status),
                None => {}
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("never came: {what}\nstatus: {last:#?}");
    }

    /// Waits until a stall is told, which it must be within so many polls.
    fn wait_told(&self, told: &Told<'_>, polls: u64) {
        let name = told.name;
        let began = Instant::now();
        let mut before = self.polls().unwrap_or(0);
        let mut last = None;
        while began.elapsed() < 2 * LONG {
            // Counted first: what is not told then was not told so soon.
            let now = self.polls();
            match self.status() {
                Some(status) if told.is_in(&status) => return,
                Some(status) => last = Some(status),
                None => {}
            }
            if let Some(now) = now {
                // One that has become itself again counts from the beginning.
                before = before.min(now);
                // One was perhaps under way.
                let since = (now - before).saturating_sub(1);
                assert!(since < polls, "{name} is not told after {since} polls: {last:#?}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{name} is never told: {:?}\nstatus: {last:#?}", told.words);
    }
}

/// Poll interval for [`Stall::every`] where finding out takes programs of its own.
pub(super) const SELDOM: &str = "1s";

/// The system of the commit is had, or cannot be.
pub(super) fn realised(stage: &Stage) -> bool {
    let ended = || ["systems", "troubles", "history"].iter().any(|part| stage.remembered(part));
    stage.written("realise-", "outcome.json").is_some() || ended()
}

/// Activating it has ended, well or not.
pub(super) fn switched(stage: &Stage) -> bool {
    let ended = || ["awaiting", "history"].iter().any(|part| stage.remembered(part));
    stage.written("switch-", "outcome.json").is_some() || ended()
}

/// The whole story of one stall.
pub(super) fn play(name: &str, stall: &Stall) {
    if stall.mounts {
        in_own_mounts(&format!("stalls::stall::{name}"), || play_here(name, stall));
    } else {
        play_here(name, stall);
    }
}

fn play_here(name: &str, stall: &Stall) {
    let mut stage = set(stall);
    (stall.cause)(&mut stage);
    stage.rig.wait_for("the cause to be in effect", || (stall.in_effect)(&stage));
    let head = stage.head.short();
    let words = stall.words.iter().chain(stall.lift).map(|word| word.replace("{head}", &head));
    let words: Vec<String> = words.collect();
    let (state, held, metrics) = (stall.state, stall.held, stall.metrics);
    let told = Told { name, state, held, words: &words, metrics };
    stage.wait_told(&told, stall.polls);

    // What is under way shows before it has ended, and is logged.
    stage.rig.wait_for("the words in the log", || told.lacks(&stage.log()).is_none());
    let said = Channels {
        status: stage.rig.status().unwrap(),
        shown: stage.rig.tell(&["status"]).1,
        explanation: stage.rig.hear(&["explain", "--json"]).unwrap(),
        explained: stage.rig.tell(&["explain"]).1,
        page: get(stage.pages, "/").unwrap().1,
        metrics: stage.metrics(),
        log: stage.log(),
    };
    if std::env::var_os("FORT_STALLS_SHOW").is_some() {
        println!("== {name}\n{}", said.shown);
    }
    told.assert_in(&said);

    let end = (stall.undo)(&mut stage);
    let first = stall.words[0].replace("{head}", &head);
    stage.wait(&format!("{name}: lifted"), |status| {
        status["state"] == "up-to-date"
            && status["running"]["commit"] == end.to_string()
            && status["lift"].is_null()
            && status["held"].is_null()
            && status["gate"].is_null()
            && !unbroken(&wrong(status)).contains(&first)
    });
}

/// A host on which the first commit was deployed.
fn set(stall: &Stall) -> Stage {
    let rig = Rig::new();
    let one = rig.push("release", &crate::support::system::Host::new("one"));
    let pages = free_port();
    let (site, kept) = (Site::open(), Vec::new());
    site.answer(200, "well");
    let mut stage = Stage { rig, pages, one, head: one, site, kept };
    stage.rig.settings.sections = format!("[metrics]\nlisten = \"{pages}\"\n");
    stage.rig.settings.branch = TRIES.into();
    stage.rig.settings.poll = format!("interval = \"{}\"\njitter = \"0s\"\n", stall.every);
    // None of them is lifted by the next try, unless it says so.
    stage.rig.settings.retry = "first = \"10m\"\nmax = \"10m\"\n".into();
    (stall.settings)(&mut stage);
    stage.rig.start();
    stage.rig.wait_in_sync(one);
    stage
}

//! Where stories are played: a host, what may run and boot there, and how a
//! story ended.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use fort_agent::core::types::{Commit, StorePath};
use serde_json::Value;

use super::stories::Story;
use crate::support::rig::settings::TRIES;
use crate::support::rig::{HOST, LONG, Rig};
use crate::support::site::Site;
use crate::support::system::Host;

/// Expected end of a story.
pub(super) struct End {
    /// Whether a status of the agent shows that the end is reached.
    pub(super) reached: Box<dyn Fn(&Value) -> bool>,
    /// Commits that the story pushed: each with its system's version, and the verdicts
    /// without those on attempts that were killed.
    pub(super) verdicts: Vec<(Commit, String, Vec<&'static str>)>,
    /// The version that runs and boots.
    pub(super) runs: String,
}

pub(super) struct Stage {
    pub(super) rig: Rig,
    pub(super) site: Site,
    /// The version that was last good.
    pub(super) good: String,
    /// Another system, for another hand to switch to.
    pub(super) hand: StorePath,
    may_run: BTreeSet<String>,
    may_boot: BTreeSet<String>,
    plays: usize,
    earlier: Vec<String>,
}

impl Stage {
    pub(super) fn of(story: &Story) -> Self {
        let site = Site::open();
        site.answer(200, "well");
        let (rig, _) = Rig::deployed_with(|rig| {
            rig.record_points();
            rig.settings.branch = TRIES.into();
            rig.settings.poll = "interval = \"100ms\"\njitter = \"0s\"\n".into();
            (story.settings)(rig, &site);
        });
        let hand = rig.build_by_hand(&Host::new("hand"));
        // It is no part of what is pushed next.
        rig.tree.host(HOST, &Host::new("one"));
        let mut stage = Self {
            rig,
            site,
            good: "one".into(),
            hand,
            may_run: BTreeSet::new(),
            may_boot: BTreeSet::new(),
            plays: 0,
            earlier: Vec::new(),
        };
        stage.may(&["one"], &["one"]);
        (story.before)(&mut stage);
        stage
    }

    /// A name that no version has had here.
    pub(super) fn name(&mut self, what: &str) -> String {
        self.plays += 1;
        format!("{what} {}", self.plays)
    }

    pub(super) fn push(&self, host: &Host) -> Commit {
        self.rig.push("release", host)
    }

    /// From now on only these may run, or be what boots.
    pub(super) fn may(&mut self, run: &[&str], boot: &[&str]) {
        self.may_run = run.iter().map(|&version| version.to_owned()).collect();
        self.may_boot = boot.iter().map(|&version| version.to_owned()).collect();
    }

    /// Waits, and starts the agent again should it die. Whatever happens, the
    /// host has a system that it may have.
    pub(super) fn until(&mut self, what: &str, wanted: impl Fn(&Rig, &Value) -> bool) -> Value {
        let began = Instant::now();
        let mut written = [None; 2];
        let mut asked = began;
        let mut status = None;
        loop {
            self.rig.revive();
            self.look();
            // Asking costs more than the agent's answer does.
            let now = self.rig.written();
            if now != written || asked.elapsed() > Duration::from_millis(200) {
                (written, asked, status) = (now, Instant::now(), self.rig.status());
                if let Some(status) = status.as_ref().filter(|status| wanted(&self.rig, status))
                    && self.rig.lives()
                {
                    return status.clone();
                }
            }
            assert!(began.elapsed() < LONG, "never came: {what}\nstatus: {status:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn look(&self) {
        let (runs, boots) = (self.runs(), self.boots());
        assert!(self.may_run.contains(&runs), "{runs:?} runs, not one of {:?}", self.may_run);
        assert!(self.may_boot.contains(&boots), "{boots:?} boots, not one of {:?}", self.may_boot);
    }

    fn runs(&self) -> String {
        let link = std::fs::read_link(self.rig.root().join("run/current-system")).unwrap();
        self.version_of(link.to_str().unwrap())
    }

    fn boots(&self) -> String {
        self.version_of(&self.rig.boot_default().unwrap())
    }

    fn version_of(&self, system: &str) -> String {
        let file = self.rig.physical(system).join("nixos-version");
        std::fs::read_to_string(file).unwrap().trim().to_owned()
    }

    /// Tells the agent something, as soon as there is one.
    pub(super) fn tell(&mut self, arguments: &[&str]) {
        let began = Instant::now();
        loop {
            self.rig.revive();
            let (code, said) = self.rig.tell(arguments);
            if code == 0 {
                return;
            }
            assert!(began.elapsed() < LONG, "{arguments:?}: {said}");
            std::thread::sleep(Duration::from_millis(40));
        }
    }

    /// Plays a story without a death: the points that were passed.
    pub(super) fn play(&mut self, story: &Story) -> Vec<String> {
        self.forget_passed();
        let end = (story.play)(self);
        let status = self.until(story.name, |_, status| (end.reached)(status));
        self.rig.wait_polls();
        self.check(&end, &status, None);
        self.rig.passed()
    }

    /// Plays a story with a death at a point: whether anybody passed it.
    pub(super) fn play_with_death(&mut self, story: &Story, point: &str, nth: usize) -> bool {
        self.forget_passed();
        self.rig.kill_at(point, nth);
        let end = (story.play)(self);
        let what = format!("the end of {:?} with a death at {point:?} ({nth})", story.name);
        self.until(&what, |_, status| (end.reached)(status));
        let soon = Instant::now() + Duration::from_secs(1);
        while self.rig.kill_pending() && Instant::now() < soon {
            std::thread::sleep(Duration::from_millis(20));
        }
        let died = !self.rig.kill_pending();
        self.rig.kill_nobody();
        // It may have died after the end.
        let status = self.until(&what, |_, status| (end.reached)(status));
        self.check(&end, &status, died.then_some(point));
        died
    }

    /// Everything that was passed here.
    pub(super) fn all_passed(mut self) -> Vec<String> {
        self.forget_passed();
        self.earlier
    }

    fn forget_passed(&mut self) {
        self.earlier.extend(self.rig.passed());
        self.rig.forget_passed();
    }

    fn check(&mut self, end: &End, status: &Value, died_at: Option<&str>) {
        let context = format!("death at {died_at:?}");
        assert_eq!((self.runs(), self.boots()), (end.runs.clone(), end.runs.clone()), "{context}");
        let (boots, profile) = (self.rig.boot_default(), &status["boot"]["default"]);
        assert_eq!(boots.as_deref(), profile.as_str(), "{context}");
        assert_eq!(status["last_good"]["system"], *profile, "{context}: {status:#}");
        self.rig.wait_for("the jobs' end", || self.rig.jobs("").is_empty());
        self.rig.wait_for("the guardian's end", || self.rig.job_processes("").is_empty());
        let log = self.rig.log();
        let history = self.rig.history();
        let switched = self.rig.switched();
        for (commit, version, expected) in &end.verdicts {
            let context = format!("{context}, {version}, {switched:?}");
            let of_commit = |entry: &&Value| entry["commit"] == commit.to_string();
            let entries: Vec<&Value> = history.iter().rev().filter(of_commit).collect();
            let word = |entry: &&Value| entry["verdict"].as_str().unwrap().to_owned();
            let mut verdicts: Vec<String> = entries.iter().map(word).collect();
            // A death costs the attempt that died, and no other.
            if verdicts.len() > expected.len() && died_at.is_some_and(may_interrupt) {
                let of_death = verdicts.iter().position(|verdict| verdict == "interrupted");
                verdicts.remove(of_death.unwrap_or_else(|| panic!("{context}: {entries:#?}")));
            }
            assert_eq!(&verdicts, expected, "{context}: {entries:#?}");
            // Every attempt that was ever spoken of has ended, once.
            let ids: Vec<&str> =
                entries.iter().map(|entry| entry["id"].as_str().unwrap()).collect();
            let distinct: BTreeSet<&str> = ids.iter().copied().collect();
            assert_eq!(ids.len(), distinct.len(), "{context}: {ids:?}");
            assert_eq!(distinct, ids_in(&log, *commit), "{context}");
            let activated = switched.iter().filter(|s| **s == format!("test {version}")).count();
            assert!(activated <= ids.len(), "{context}: {ids:?}");
        }
    }
}

/// Whether a death there may cost an attempt: one that is decided on and not
/// begun; a build; an activation. Nobody else's death does.
fn may_interrupt(point: &str) -> bool {
    let undone = [
        // In between, nothing is known of the attempt but its name.
        "agent wrote journal.json",
        "agent wrote status.json",
        "agent before step StartRealise",
        "agent before step StartSwitch",
        "agent wrote spec.json",
        // The build's directory is there, and nobody to build.
        "agent place JobMade",
        // Activating: what it did is not known.
        "switch after act Note",
        "switch wrote progress.json",
        "switch before act FreeLock",
        "switch after act FreeLock",
        "switch before act Activate",
        "switch after act Activate",
        "switch before act Note",
    ];
    undone.contains(&point)
        || point.starts_with("realise ") && point != "realise wrote outcome.json"
}

/// The deployments of a commit that a log names.
fn ids_in(log: &str, commit: Commit) -> BTreeSet<&str> {
    let short = format!("-{}-", &commit.to_string()[..8]);
    let words = log.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    // A publish job is no attempt to deploy.
    let ids = words.filter(|word| word.contains(&short) && !word.starts_with("publish-"));
    ids.map(|id| id.trim_start_matches("realise-").trim_start_matches("switch-")).collect()
}

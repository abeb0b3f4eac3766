//! Hazard: what only a whole host can be stuck at, and nobody can see why. Each
//! of these is brought about with the real systemd and logind; every channel
//! names it and what lifts it, and doing just that does.
//!
//! The others are in tests/stalls.rs; docs/operations.md has a row for each.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fort_agent::core::types::Commit;
use serde_json::Value;

use crate::support::machine::LONG;
use crate::support::shared::pages::get;
use crate::support::shared::told::{Channels, ON_WHOLE_HOSTS, Told, wrong};
use crate::support::standing::AGENT;
use crate::support::systems::UNIT;
use crate::support::{Cluster, Host, Image, Machine, on};

/// Where its pages are, on every address that it has.
const PAGES: u16 = 9101;

/// A host that runs this, and is in sync. Nothing is lifted by the next try.
fn in_sync(cluster: &Cluster, one: Host, more: &str) -> (Host, Machine) {
    cluster.forge();
    let config = cluster.agent_config(&format!("[metrics]\nlisten = \"0.0.0.0:{PAGES}\"\n{more}"));
    let slow = config.replace("first = \"1s\"\nmax = \"4s\"", "first = \"10m\"\nmax = \"10m\"");
    assert_ne!(slow, config);
    let one = one.agent(&slow);
    let joker = cluster.booted(&one);
    let first = cluster.push("release", &[&one]);
    joker.wait_in_sync(first);
    (one, joker)
}

/// Expected report of a stall: its cause, and what lifts it.
struct Stall {
    /// As in the manual, with underscores.
    name: &'static str,
    state: &'static str,
    held: Option<&'static str>,
    words: &'static [&'static str],
    metrics: &'static [&'static str],
}

impl Machine {
    /// Waits until a stall is told, and asks every channel about it.
    #[track_caller]
    fn assert_told(&self, stall: &Stall, head: Commit) {
        let Stall { name, state, held, words, metrics } = *stall;
        assert!(ON_WHOLE_HOSTS.contains(&name), "{name} is not in the manual's list");
        let words: Vec<_> =
            words.iter().map(|word| word.replace("{head}", &head.short())).collect();
        let told = Told { name, state, held, words: &words, metrics };
        self.wait_status(name, |status| told.is_in(status));
        // With the fields of each line, which it is to be found by.
        let log =
            || self.tell(&["journalctl", "--no-pager", "-a", "-o", "verbose", "-u", "fort-agent"]);
        self.wait_until("the words in the log", || told.lacks(&log()).is_none());
        let pages: SocketAddr = format!("{}:{PAGES}", self.address()).parse().unwrap();
        let page = |path: &str| get(pages, path).unwrap().1;
        let explanation = self.must(&[AGENT, "explain", "--json"]);
        let over_http: Value = serde_json::from_str(&page("/status")).unwrap();
        assert!(told.is_in(&over_http), "{name}: {over_http:#}");
        told.assert_in(&Channels {
            status: self.status().unwrap(),
            shown: self.must(&[AGENT, "status"]),
            explanation: serde_json::from_str(&explanation).unwrap(),
            explained: self.must(&[AGENT, "explain"]),
            page: page("/"),
            metrics: page("/metrics"),
            log: log(),
        });
    }

    /// Nothing of it is said any more.
    #[track_caller]
    fn assert_lifted(&self, stall: &Stall, head: Commit, runs: Commit) {
        let status = self.wait_in_sync(runs);
        let first = stall.words[0].replace("{head}", &head.short());
        assert!(!wrong(&status).contains(&first), "{status:#}");
        assert!(status["lift"].is_null() && status["held"].is_null(), "{status:#}");
    }
}

const NO_AGENT: Stall = Stall {
    name: "no_agent",
    state: "held",
    held: Some("no-agent"),
    words: &["{head} is not activated", "fort-agent.service", "fort-agent accept {head}"],
    metrics: &["fort_agent_preflight_failures_total{check=\"no-agent\"} 1"],
};

#[test]
fn a_system_without_the_agents_unit_is_held_until_it_is_accepted() {
    on(Image::Trixie, |cluster| {
        let (one, joker) = in_sync(cluster, Host::new("joker", "one"), "");
        // It has the agent after all, as a unit that nobody could know of. One
        // that has none at all is accepted too, and put back: nobody judges it.
        let two = one.at("two").without_unit("fort-agent.service");
        let two = two.without_unit("fort-agent-revive.timer").unit("keeper.service", UNIT);
        let commit = cluster.push("release", &[&two]);
        joker.assert_told(&NO_AGENT, commit);
        assert_eq!(joker.version(), "one");
        joker.must(&[AGENT, "accept", &commit.short()]);
        joker.assert_lifted(&NO_AGENT, commit, commit);
        assert_eq!((joker.version(), joker.default_version()), ("two".into(), "two".into()));
        assert!(joker.is_active("keeper.service") && !joker.is_active("fort-agent.service"));
    });
}

const UNIT_FAILS: Stall = Stall {
    name: "unit_fails",
    state: "backing-off",
    held: None,
    words: &["{head} could not be deployed", "breaks.service", "fort-agent retry"],
    metrics: &["fort_agent_rollbacks_total{cause=\"check\"} 1"],
};

#[test]
fn a_unit_that_fails_is_named_when_its_system_was_put_back() {
    on(Image::Trixie, |cluster| {
        let (one, joker) = in_sync(cluster, Host::new("joker", "one"), "");
        let breaks = "[Service]\nType=oneshot\nExecStart=test ! -e /etc/broken\n\
                      [Install]\nWantedBy=multi-user.target\n";
        joker.must(&["touch", "/etc/broken"]);
        let commit = cluster.push("release", &[&one.at("two").unit("breaks.service", breaks)]);
        joker.assert_told(&UNIT_FAILS, commit);
        joker.assert_stands("one");
        joker.must(&["rm", "/etc/broken"]);
        joker.must(&[AGENT, "retry"]);
        joker.assert_lifted(&UNIT_FAILS, commit, commit);
        joker.assert_stands("two");
    });
}

const REBOOT_INHIBITED: Stall = Stall {
    name: "reboot_inhibited",
    state: "reboot-required",
    held: None,
    words: &[
        "{head} runs, but needs a reboot",
        "not rebooted yet: backup (process ",
        "blocks shutting down: copying to tape",
        "the agent reboots it in its window, unless somebody is against that",
    ],
    metrics: &["fort_agent_reboot_required 1"],
};

#[test]
fn who_is_against_a_reboot_is_named_until_he_is_not() {
    on(Image::Trixie, |cluster| {
        let (one, joker) = in_sync(cluster, Host::new("joker", "one"), "[reboot]\nallow = true\n");
        let boots = joker.boots();
        let inhibits = ["systemd-run", "--quiet", "--unit=blocks", "systemd-inhibit"];
        let why = ["--what=shutdown", "--who=backup", "--mode=block", "--why=copying to tape"];
        joker.must(&[&inhibits[..], &why, &["sleep", "infinity"]].concat());
        joker.wait_until("the inhibitor", || {
            joker.tell(&["systemd-inhibit", "--list", "--no-legend"]).contains("copying to tape")
        });
        let mut two = one.at("two");
        two.knobs.kernel = "kernel 2".into();
        let commit = cluster.push("release", &[&two]);
        joker.assert_told(&REBOOT_INHIBITED, commit);
        assert_eq!(joker.boots(), boots);
        joker.must(&["systemctl", "stop", "blocks.service"]);
        // Who is against it is looked at again within a minute.
        let began = Instant::now();
        while joker.boots() == boots {
            assert!(began.elapsed() < 2 * LONG, "it does not reboot");
            std::thread::sleep(Duration::from_millis(100));
        }
        joker.wait_booted();
        joker.assert_lifted(&REBOOT_INHIBITED, commit, commit);
        assert_eq!(joker.booted(), joker.running());
    });
}

const CHECK_REFUSES: Stall = Stall {
    name: "pre_switch_check",
    state: "backing-off",
    held: None,
    words: &[
        "{head} could not be deployed",
        "switch-to-configuration refused (exit code 1)",
        "fort-agent retry",
    ],
    metrics: &["fort_agent_deployments_total{operation=\"switch\",verdict=\"failed\"} 1"],
};

#[test]
fn a_pre_switch_check_that_refuses_leaves_all_as_it_was() {
    on(Image::Trixie, |cluster| {
        let (one, joker) = in_sync(cluster, Host::new("joker", "one"), "");
        joker.must(&["touch", "/run/refuse"]);
        let two = one.at("two").check("test ! -e /run/refuse\n");
        let commit = cluster.push("release", &[&two]);
        joker.assert_told(&CHECK_REFUSES, commit);
        joker.assert_stands("one");
        joker.must(&["rm", "/run/refuse"]);
        joker.must(&[AGENT, "retry"]);
        joker.assert_lifted(&CHECK_REFUSES, commit, commit);
        joker.assert_stands("two");
    });
}

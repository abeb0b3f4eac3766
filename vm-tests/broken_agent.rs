//! Hazard: a configuration that ships an agent which does not do its work: it
//! exits at once, hangs, or writes a journal that no other can read.
//!
//! Nobody is left to judge the new system, so the guardian puts the old one
//! back when the time is over, and the old agent must still know how often.

use std::time::Duration;

use crate::support::standing::AGENT;
use crate::support::systems::UNIT;
use crate::support::{Cluster, Host, Image, Machine, Pace, on};

const WITHIN: Duration = Duration::from_secs(20);
/// `TimeoutStartSec=` of an agent that hangs.
const START: &str = "TimeoutStartSec=2s";

fn pace(activations: u32) -> Pace {
    Pace { activations, first: "100ms", grace: "200ms", health: "4s", ..Pace::default() }
}

/// A host that runs its first system and is in sync with it.
fn in_sync(cluster: &Cluster, pace: &Pace) -> (Host, Machine) {
    let one = Host::new("joker", "one").agent(&cluster.agent_config_at(pace, ""));
    cluster.forge();
    let joker = cluster.booted(&one);
    let first = cluster.push("release", &[&one]);
    joker.wait_in_sync(first);
    (one, joker)
}

/// With this instead of the agent's program.
fn stand_in(host: &Host, script: &str) -> Host {
    let start = "ExecStart=/bin/sh @out@/etc/stand-in";
    let unit = UNIT.replace("ExecStart=@agent@ run", start).replace("TimeoutStartSec=60s", START);
    assert!(unit.contains(start) && unit.contains(START));
    host.clone().file("stand-in", script).unit("fort-agent.service", &unit)
}

#[test]
fn an_agent_that_exits_at_once_brings_the_old_system_back() {
    on(Image::Trixie, |cluster| {
        let (one, joker) = in_sync(cluster, &pace(3));
        // The real one, with a configuration that it refuses: all three times.
        let refuses = one.at("refuses").agent("no_such_key = true\n");
        let commit = cluster.push("release", &[&refuses]);
        let cause = joker.assert_put_back(commit, "one", 3, WITHIN);
        assert!(cause.contains("no verdict in time"), "{cause}");
        // What is given up stays given up, also for an agent that starts anew.
        let switches = joker.switches().len();
        joker.must(&["systemctl", "restart", "fort-agent.service"]);
        joker.wait_quarantined(commit);
        assert_eq!(joker.switches().len(), switches);
        // And something else is taken.
        let commit = cluster.push("release", &[&one.at("three")]);
        joker.wait_in_sync(commit);
    });
}

#[test]
fn an_agent_that_hangs_brings_the_old_system_back() {
    on(Image::Trixie, |cluster| {
        let (one, joker) = in_sync(cluster, &pace(1));
        // It never says that it has started.
        let mute = stand_in(&one.at("mute"), "exec sleep infinity\n");
        let commit = cluster.push("release", &[&mute]);
        joker.assert_put_back(commit, "one", 1, WITHIN);
        // It says so, and then nothing more.
        let idle = "exec systemd-notify --ready --exec \\; sleep infinity\n";
        let idle = stand_in(&one.at("idle"), idle);
        let commit = cluster.push("release", &[&idle]);
        let cause = joker.assert_put_back(commit, "one", 1, WITHIN);
        assert!(cause.contains("no verdict in time"), "{cause}");
    });
}

/// So whoever leaves for another tool does it by hand.
#[test]
fn an_agent_that_is_taken_away_comes_back_unless_a_person_did_it() {
    on(Image::Trixie, |cluster| {
        let (one, joker) = in_sync(cluster, &pace(1));
        let units = ["fort-agent.service", "fort-agent-revive.timer"];
        let without = units.iter().fold(one.at("without"), |host, unit| host.without_unit(unit));
        let commit = cluster.push("release", &[&without]);
        joker.wait_status("it to be held", |status| status["held"]["cause"] == "no-agent");
        joker.assert_stands("one");
        // Accepted, there is nobody who could find it good.
        joker.must(&[AGENT, "accept", &commit.to_string()]);
        let cause = joker.assert_put_back(commit, "one", 1, WITHIN);
        assert!(cause.contains("no verdict in time"), "{cause}");

        joker.must(&[AGENT, "suspend", "--reason", "leaving"]);
        // It outlives switches, and would fail for want of what it starts.
        joker.must(&["systemctl", "stop", "fort-agent-revive.timer"]);
        without.write(cluster.tree());
        let system = joker.build(cluster.tree());
        let (code, said) = joker.switch(&system, "switch");
        assert_eq!((code, joker.failed_units().as_str()), (Some(0), ""), "{said}");
        assert!(!joker.is_active("fort-agent.service"), "{said}");
        assert_eq!(
            (joker.version().as_str(), joker.default_version().as_str()),
            ("without", "without")
        );
    });
}

#[test]
fn a_journal_of_a_newer_agent_costs_neither_the_host_nor_the_quarantine() {
    on(Image::Trixie, |cluster| {
        let (one, joker) = in_sync(cluster, &pace(2));
        let first = joker.history().len();
        assert!(first > 0);
        let writes = "cat > /var/lib/fort-agent/.journal <<'END'\n\
            {\"version\":2,\"memory\":{\"of\":\"another shape\"}}\nEND\n\
            mv /var/lib/fort-agent/.journal /var/lib/fort-agent/journal.json\n\
            echo written >> /var/cache/fort-agent/journals\n\
            exec systemd-notify --ready --exec \\; sleep infinity\n";
        let newer = stand_in(&one.at("newer"), writes);
        let commit = cluster.push("release", &[&newer]);
        let status = joker.wait_quarantined(commit);
        assert_eq!(joker.read("/var/cache/fort-agent/journals").lines().count(), 2, "{status}");
        joker.assert_stands("one");
        assert_eq!(status["running"]["drift"], false, "{status}");
        assert_eq!(joker.verdicts(commit).last().unwrap(), "rolled-back");
        // What it could not read is kept.
        let kept = joker.tell(&["ls", "/var/lib/fort-agent"]);
        assert!(kept.contains("journal.unusable-"), "{kept}");
        let commit = cluster.push("release", &[&one.at("three")]);
        joker.wait_in_sync(commit);
    });
}

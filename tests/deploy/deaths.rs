//! Agent and jobs are killed, or told to end, at the worst moments.

use std::time::{Duration, Instant};

use fort_agent::core::types::Commit;

use super::builds::downloading;
use crate::support::rig::{Rig, signal};
use crate::support::site::Site;
use crate::support::system::Host;

/// A build that waits for its download.
fn building() -> (Rig, Site, Commit) {
    let (rig, _) = Rig::deployed();
    let site = Site::open();
    site.hold();
    let two = rig.push("release", &downloading("two", &site));
    rig.wait_for("the download", || site.visitors() == 1);
    (rig, site, two)
}

/// A switch that hangs after the new system runs.
fn switching() -> (Rig, Commit) {
    let (rig, _) = Rig::deployed();
    let mut host = Host::new("two");
    host.switch.hang_after.insert("test", 600);
    let two = rig.push("release", &host);
    rig.wait_for("the activation", || rig.version() == "two");
    (rig, two)
}

const ONCE: [&str; 4] = ["test one", "boot one", "test two", "boot two"];

#[test]
fn a_build_outlives_the_killed_agent_and_is_not_started_twice() {
    let (mut rig, site, two) = building();
    let job = rig.job_processes("realise");
    assert_eq!(job.len(), 1);
    rig.kill();
    assert_eq!(rig.job_processes("realise"), job);
    rig.start();
    rig.wait("it is found again", |status| {
        status["state"] == "realising" && status["deployment"]["commit"] == two.to_string()
    });
    rig.wait_polls();
    assert_eq!(rig.job_processes("realise"), job);
    site.answer(200, "hello");
    rig.wait_in_sync(two);
    assert_eq!(rig.verdicts(two), ["good"]);
    assert_eq!(site.visitors(), 1);
    assert_eq!(rig.switched(), ONCE);
}

#[test]
fn a_build_outlives_sigterm_and_its_outcome_is_taken_in_by_the_next_start() {
    let (mut rig, site, two) = building();
    let began = Instant::now();
    rig.stop();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    site.answer(200, "hello");
    let outcome = rig.jobs("realise").pop().unwrap().join("outcome.json");
    rig.wait_for("the job's end", || outcome.exists());
    rig.start();
    rig.wait_in_sync(two);
    assert_eq!(rig.verdicts(two), ["good"]);
    assert_eq!(site.visitors(), 1);
}

#[test]
fn a_killed_build_is_interrupted_and_tried_again() {
    let (rig, site, two) = building();
    for pid in rig.job_processes("realise") {
        signal(pid, "KILL");
    }
    site.answer(200, "hello");
    rig.wait_in_sync(two);
    assert_eq!(rig.verdicts(two), ["interrupted", "good"]);
}

#[test]
fn a_switch_outlives_the_killed_agent_and_is_not_started_twice() {
    let (mut rig, two) = switching();
    let job = rig.job_processes("switch");
    assert_eq!(job.len(), 1);
    rig.kill();
    rig.start();
    rig.wait_state("activating");
    rig.wait_polls();
    assert_eq!(rig.job_processes("switch"), job);
    rig.go();
    rig.wait_in_sync(two);
    assert_eq!(rig.verdicts(two), ["good"]);
    assert_eq!(rig.switched(), ONCE);
}

#[test]
fn a_switch_outlives_sigterm_and_puts_back_when_no_agent_judges_it() {
    let (mut rig, two) = switching();
    rig.stop();
    rig.go();
    rig.wait_for("the old system", || rig.version() == "one");
    rig.wait_for("the job's end", || rig.job_processes("switch").is_empty());
    rig.start();
    rig.wait_in_sync(two);
    assert_eq!(rig.verdicts(two), ["rolled-back", "good"]);
    let history = rig.history();
    let first = history.iter().rev().find(|e| e["commit"] == two.to_string()).unwrap();
    assert!(first["cause"].as_str().unwrap().contains("no verdict in time"), "{first:#}");
}

/// Puts the old system back, says so, and tries again.
fn interrupted(rig: &Rig, two: Commit) {
    let entry = rig.wait_verdict(two, "interrupted");
    assert!(entry["cause"].as_str().unwrap().contains("killed"), "{entry:#}");
    rig.go();
    rig.wait_in_sync(two);
    assert_eq!(rig.verdicts(two), ["interrupted", "good"]);
    let switches = rig.switched();
    let resumed = ["test two", "test one", "test two", "boot two"];
    assert_eq!(switches[2..], resumed, "{switches:?}");
    assert_eq!(rig.generations(), 2);
}

#[test]
fn a_killed_switch_is_resumed_and_the_old_system_comes_back() {
    let (rig, two) = switching();
    for pid in rig.job_processes("switch") {
        signal(pid, "KILL");
    }
    interrupted(&rig, two);
}

#[test]
fn a_switch_and_its_agent_killed_together_are_resumed() {
    let (mut rig, two) = switching();
    rig.kill();
    for pid in rig.job_processes("switch") {
        signal(pid, "KILL");
    }
    rig.start();
    interrupted(&rig, two);
}

#[test]
fn an_agent_killed_during_verification_is_replaced_by_one_that_judges() {
    let site = Site::open();
    site.answer(200, "well");
    let (mut rig, _) = Rig::deployed_with(|rig| {
        rig.settings.health = "grace = \"0s\"\ntimeout = \"60s\"\n".into();
        rig.settings.sections =
            format!("[[health.check]]\nname = \"web\"\nhttp = \"{}\"\n", site.url());
    });
    site.answer(503, "starting");
    let two = rig.push("release", &Host::new("two"));
    rig.wait_state("verifying");
    rig.kill();
    site.answer(200, "well");
    rig.start();
    rig.wait_in_sync(two);
    assert_eq!(rig.verdicts(two), ["good"]);
    assert_eq!(rig.switched(), ONCE);
}

#[test]
fn a_host_that_loses_power_while_switching_boots_the_old_system_and_tries_again() {
    let (mut rig, two) = switching();
    rig.kill();
    for pid in rig.job_processes("switch") {
        signal(pid, "KILL");
    }
    rig.boot("boot-2");
    assert_eq!(rig.version(), "one");
    rig.go();
    rig.start();
    rig.wait_in_sync(two);
    assert_eq!(rig.verdicts(two), ["interrupted", "good"]);
}

//! Ways in which switch-to-configuration ends, and what each leads to.

use std::os::fd::AsFd as _;

use fort_agent::core::types::Commit;
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

use crate::support::rig::{Rig, TESTING};
use crate::support::system::Host;

/// Asserts that the previous system is back: it runs, boots, and is the profile's only
/// generation.
pub(super) fn one_is_back(rig: &Rig, status: &Value) {
    assert_eq!(rig.version(), "one");
    assert_eq!(status["running"]["drift"], false, "{status:#}");
    assert_eq!(status["running"]["system"], status["boot"]["default"]);
    assert_eq!(status["running"]["system"], status["last_good"]["system"]);
    assert_eq!(rig.boot_default().as_deref(), status["running"]["system"].as_str());
    assert_eq!(rig.generations(), 1);
}

/// A system that does not switch well: how its first deployment ended.
fn fails(host: &Host, verdict: &str) -> (Rig, Commit, String) {
    let (rig, one) = Rig::deployed_with(|rig| {
        rig.settings.retry = "first = \"10m\"\nmax = \"10m\"\n".into();
        rig.settings.activation = "timeout = \"1s\"\n".into();
    });
    let bad = rig.push("release", host);
    let entry = rig.wait_verdict(bad, verdict);
    let status = rig.wait_state("backing-off");
    assert_eq!(status["running"]["commit"], one.to_string());
    assert_eq!(status["next"]["action"], "activate");
    one_is_back(&rig, &status);
    (rig, bad, entry["cause"].as_str().unwrap().to_owned())
}

#[test]
fn exit_code_1_changes_nothing_and_has_failed() {
    let (rig, _, cause) = fails(&Host::exits("two", "test", 1), "failed");
    assert!(cause.contains("exit code 1"), "{cause}");
    assert_eq!(rig.switched(), ["test one", "boot one", "test two"]);
}

#[test]
fn exit_code_2_is_put_back() {
    let (rig, _, cause) = fails(&Host::exits("two", "test", 2), "rolled-back");
    assert!(cause.contains("exit code 2"), "{cause}");
    assert_eq!(rig.switched(), ["test one", "boot one", "test two", "test one"]);
}

#[test]
fn an_activate_that_fails_is_put_back_even_where_a_failed_unit_hides_it() {
    let mut host = Host::exits("two", "test", 4);
    host.switch.activate_fails = true;
    let (rig, _, cause) = fails(&host, "rolled-back");
    assert!(cause.contains("exit code 2"), "{cause}");
    assert_eq!(rig.switched(), ["test one", "boot one", "test two", "test one"]);
}

#[test]
fn an_unknown_exit_code_is_put_back() {
    let (_, _, cause) = fails(&Host::exits("two", "test", 7), "rolled-back");
    assert!(cause.contains("exit code 7"), "{cause}");
}

#[test]
fn a_signal_before_anything_moved_is_put_back() {
    let mut host = Host::new("two");
    host.switch.signal.insert("test", 9);
    let (_, _, cause) = fails(&host, "rolled-back");
    assert!(cause.contains("signal 9"), "{cause}");
}

#[test]
fn a_signal_after_everything_moved_is_put_back() {
    let mut host = Host::new("two");
    host.switch.signal_after.insert("test", 15);
    let (rig, _, cause) = fails(&host, "rolled-back");
    assert!(cause.contains("signal 15"), "{cause}");
    assert_eq!(rig.switched(), ["test one", "boot one", "test two", "test one"]);
}

#[test]
fn an_activation_that_hangs_is_put_back_after_its_timeout() {
    let mut host = Host::new("two");
    host.switch.hang.insert("test", 600);
    let (rig, _, cause) = fails(&host, "rolled-back");
    assert_eq!(cause, "switch-to-configuration test: timed out");
    assert_eq!(rig.switched(), ["test one", "boot one", "test two", "test one"]);
}

#[test]
fn an_activation_that_hangs_after_everything_moved_is_put_back() {
    let mut host = Host::new("two");
    host.switch.hang_after.insert("test", 600);
    let (rig, _, _) = fails(&host, "rolled-back");
    assert_eq!(rig.switched(), ["test one", "boot one", "test two", "test one"]);
}

#[test]
fn a_pre_switch_check_that_refuses_does_not_stop_the_way_back() {
    let (rig, _) = Rig::deployed();
    let mut strict = Host::new("strict");
    strict.switch.refuse_check = true;
    // By hand past its check, so that it is what runs and is to come back.
    let system = rig.build_by_hand(&strict);
    for action in ["test", "boot"] {
        let program = rig.physical(system.as_str()).join("bin/switch-to-configuration");
        let mut command = std::process::Command::new(program);
        command.arg(action).env("FORT_AGENT_ROOT", rig.root()).env("NIXOS_NO_CHECK", "1");
        assert!(command.status().unwrap().success());
    }
    let bad = rig.push("release", &Host::exits("two", "test", 2));
    rig.wait_verdict(bad, "rolled-back");
    assert_eq!(rig.version(), "strict");
}

#[test]
fn exit_code_4_is_judged_by_the_checks() {
    let (rig, _) = Rig::deployed();
    let two = rig.push("release", &Host::exits("two", "test", 4));
    rig.wait_in_sync(two);
    assert_eq!(rig.version(), "two");
    assert_eq!(rig.verdicts(two), ["good"]);
}

#[test]
fn a_switch_that_breaks_off_is_put_back_whatever_its_code_would_mean() {
    let (rig, _) = Rig::deployed_with(|rig| {
        rig.settings.retry = "first = \"10m\"\nmax = \"10m\"\n".into();
    });
    // 1: refused. 4: done, with units that failed. 11: the lock. 100: needs a reboot.
    for code in [1, 4, 11, 100, 110] {
        let mut host = Host::new(&format!("after-{code}"));
        host.switch.die_after.insert("test", code);
        let bad = rig.push("release", &host);
        let entry = rig.wait_verdict(bad, "rolled-back");
        let cause = entry["cause"].as_str().unwrap();
        assert!(cause.contains(&format!("exit code {code}")), "{cause}");
        let status = rig.wait_state("backing-off");
        one_is_back(&rig, &status);
    }
    // Nothing was touched by this one, nor is the lock held.
    let mut host = Host::new("before");
    host.switch.die.insert("test", 11);
    let bad = rig.push("release", &host);
    rig.wait_verdict(bad, "rolled-back");
    one_is_back(&rig, &rig.wait_state("backing-off"));
}

#[test]
fn the_lock_is_private_while_systems_are_activated() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let (rig, _) = Rig::deployed();
    let path = rig.root().join("run/nixos/switch-to-configuration.lock");
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    // As a switch by hand makes it where there is none.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let before = std::fs::metadata(&path).unwrap().ino();
    let two = rig.push("release", &Host::new("two"));
    rig.wait_in_sync(two);
    let after = std::fs::metadata(&path).unwrap();
    assert_eq!(after.mode() & 0o777, 0o600);
    assert_ne!(after.ino(), before, "who had it open holds nothing");
}

#[test]
fn exit_code_11_waits_for_the_other_switch_and_counts_nothing() {
    let (rig, _) = Rig::deployed();
    let path = rig.root().join("run/nixos/switch-to-configuration.lock");
    let other = std::fs::File::create(path).unwrap();
    flock(other.as_fd(), FlockOperation::LockExclusive).unwrap();
    let two = rig.push("release", &Host::new("two"));
    rig.wait_state("activating");
    rig.wait_for("a refusal", || rig.log().contains("Could not acquire lock"));
    assert_eq!(rig.version(), "one");
    drop(other);
    rig.wait_in_sync(two);
    assert_eq!(rig.verdicts(two), ["good"]);
    assert_eq!(rig.switched(), ["test one", "boot one", "test two", "boot two"]);
}

#[test]
fn a_lock_that_is_not_let_go_fails_and_counts_nothing() {
    let (rig, _) = Rig::deployed_with(|rig| rig.settings.activation = "timeout = \"1s\"\n".into());
    let path = rig.root().join("run/nixos/switch-to-configuration.lock");
    let other = std::fs::File::create(path).unwrap();
    flock(other.as_fd(), FlockOperation::LockExclusive).unwrap();
    let two = rig.push("release", &Host::new("two"));
    rig.wait("failed more often than would quarantine", |_| rig.verdicts(two).len() > 3);
    let status = rig.status().unwrap();
    assert_eq!(status["quarantine"], serde_json::json!([]));
    assert_eq!(rig.version(), "one");
    drop(other);
    rig.wait_in_sync(two);
}

#[test]
fn exit_code_100_defers_to_the_next_boot() {
    let (mut rig, one) = Rig::deployed();
    let two = rig.push("release", &Host::exits("two", "test", 100));
    let status = rig.wait_state("reboot-required");
    assert_eq!(rig.version(), "one");
    assert_eq!(status["running"]["commit"], one.to_string());
    assert_eq!(status["boot"]["reboot_required"], true);
    assert!(status["boot"]["why"].as_str().unwrap().contains("100"), "{status:#}");
    assert_eq!(rig.boot_default().as_deref(), status["boot"]["default"].as_str());
    assert_ne!(status["boot"]["default"], status["running"]["system"]);
    assert!(rig.verdicts(two).is_empty());
    rig.stop();
    rig.boot("boot-2");
    rig.start();
    let status = rig.wait_in_sync(two);
    assert_eq!(status["boot"]["reboot_required"], false);
    assert_eq!(rig.version(), "two");
    assert_eq!(rig.verdicts(two), ["good"]);
    let tested = rig.switched().into_iter().filter(|switch| switch == "test two").count();
    assert_eq!(tested, 1);
    assert_eq!(rig.boot_default().as_deref(), status["running"]["system"].as_str());
}

#[test]
fn exit_code_100_of_a_testing_branch_has_failed() {
    let (rig, _) = Rig::trying();
    let trial = rig.push(TESTING, &Host::exits("trial", "test", 100));
    let failed = rig.wait_verdict(trial, "failed");
    assert!(failed["cause"].as_str().unwrap().contains("100"));
    assert_eq!((rig.version().as_str(), rig.generations()), ("one", 1));
}

#[test]
fn a_system_that_fails_three_times_is_quarantined_until_a_retry_or_another_one() {
    let (rig, _) = Rig::deployed();
    let bad = rig.push("release", &Host::exits("bad", "test", 2));
    let status = rig.wait_held("quarantined");
    assert_eq!(rig.verdicts(bad), ["rolled-back"; 3]);
    assert_eq!(status["held"]["evidence"]["failures"], 3);
    assert!(status["held"]["lift"].as_str().unwrap().contains("fort-agent retry"));
    assert_eq!(status["quarantine"][0]["commit"], bad.to_string());
    one_is_back(&rig, &status);
    // The same system by another commit stays where it is.
    rig.tree.write("README.md", "words");
    let same = rig.push_tree("release", "The same system");
    rig.wait("the same system is held", |status| {
        status["desired"]["commit"] == same.to_string()
            && status["held"]["cause"] == "quarantined"
            && status["deployment"].is_null()
    });
    rig.wait_polls();
    assert!(!rig.verdicts(same).contains(&"rolled-back".to_owned()));

    assert_eq!(rig.tell(&["retry"]).0, 0);
    rig.wait_verdict(same, "rolled-back");
    let two = rig.push("release", &Host::new("two"));
    rig.wait_in_sync(two);
    assert_eq!(rig.verdicts(two), ["good"]);
    assert_eq!(rig.version(), "two");
}

#[test]
fn a_switch_gets_over_a_profile_that_cannot_be_looked_at_for_a_while() {
    let (rig, _) = Rig::deployed_with(|rig| {
        rig.settings.health = "grace = \"0s\"\ntimeout = \"60s\"\n".into();
    });
    let mut host = Host::new("two");
    host.switch.hang_after.insert("test", 600);
    let two = rig.push("release", &host);
    rig.wait_for("the activation", || rig.version() == "two");
    // A file in the place of the directory that it is in.
    let profiles = rig.root().join("nix/var/nix/profiles");
    let away = profiles.with_extension("away");
    std::fs::rename(&profiles, &away).unwrap();
    std::fs::write(&profiles, "").unwrap();
    rig.go();
    let job = rig.jobs("switch").pop().unwrap();
    let log = || std::fs::read_to_string(job.join("log")).unwrap_or_default();
    rig.wait_for("the guardian to see it", || log().contains("this host cannot be looked at"));
    rig.wait("the agent to say so", |status| {
        // The switch comes first.
        status["state"] == "verifying" && status["blind"]["part"] == "profile"
    });
    std::fs::remove_file(&profiles).unwrap();
    std::fs::rename(&away, &profiles).unwrap();
    rig.wait_in_sync(two);
    assert_eq!(rig.verdicts(two), ["good"]);
    assert_eq!(rig.switched(), ["test one", "boot one", "test two", "boot two"]);
    assert_eq!(rig.generations(), 2);
}

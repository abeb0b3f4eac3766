//! Verification: what the checks find, and the boot loader after them.

use serde_json::Value;

use super::switching::one_is_back;
use crate::support::forge::Fault;
use crate::support::rig::Rig;
use crate::support::site::Site;
use crate::support::system::Host;

/// A check that fails for versions with `bad` in their name.
pub(super) fn version_check(rig: &Rig, more: &str) -> String {
    format!(
        "[[health.check]]\nname = \"version\"\ncommand = [\"/bin/sh\", \"-c\", \
         \"! grep bad {}/run/fixture/version\"]\n{more}",
        rig.root().display()
    )
}

/// Deploys one whose check fails; what is left, and what was said.
fn fails(rig: &Rig) -> Value {
    let bad = rig.push("release", &Host::new("bad"));
    let entry = rig.wait_verdict(bad, "rolled-back");
    let status = rig.wait_state("backing-off");
    one_is_back(rig, &status);
    assert_eq!(rig.switched(), ["test one", "boot one", "test bad", "test one"]);
    entry
}

fn patient(rig: &mut Rig) {
    rig.settings.retry = "first = \"10m\"\nmax = \"10m\"\n".into();
    rig.settings.health = "grace = \"0s\"\ntimeout = \"1s\"\n".into();
}

#[test]
fn a_failed_command_check_is_put_back_and_named() {
    let (rig, _) = Rig::deployed_with(|rig| {
        patient(rig);
        rig.settings.sections = version_check(rig, "");
    });
    let entry = fails(&rig);
    assert!(entry["cause"].as_str().unwrap().contains("check version"), "{entry:#}");
    let checks = entry["checks"].as_array().unwrap();
    let version = checks.iter().find(|check| check["name"] == "version").unwrap();
    assert_eq!(version["ok"], false);
}

#[test]
fn a_failed_http_check_is_put_back_and_named() {
    let site = Site::open();
    site.answer(200, "well");
    let (rig, _) = Rig::deployed_with(|rig| {
        patient(rig);
        rig.settings.sections =
            format!("[[health.check]]\nname = \"web\"\nhttp = \"{}\"\n", site.url());
    });
    site.answer(503, "unwell");
    let entry = fails(&rig);
    let cause = entry["cause"].as_str().unwrap();
    assert!(cause.contains("check web") && cause.contains("503"), "{cause}");
}

#[test]
fn a_failed_tcp_check_is_put_back_and_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (rig, _) = Rig::deployed_with(|rig| {
        patient(rig);
        rig.settings.sections = format!("[[health.check]]\nname = \"port\"\ntcp = \"{address}\"\n");
    });
    drop(listener);
    let entry = fails(&rig);
    let cause = entry["cause"].as_str().unwrap();
    assert!(cause.contains("check port"), "{cause}");
}

#[test]
fn a_check_is_repeated_until_it_passes() {
    let site = Site::open();
    site.answer(503, "starting");
    let mut rig = Rig::new();
    rig.settings.health = "grace = \"0s\"\ntimeout = \"60s\"\n".into();
    rig.settings.sections =
        format!("[[health.check]]\nname = \"web\"\nhttp = \"{}\"\n", site.url());
    let one = rig.push("release", &Host::new("one"));
    rig.start();
    rig.wait_state("verifying");
    rig.wait_for("a second look", || site.visitors() >= 2);
    assert_eq!(rig.boot_default(), None);
    site.answer(200, "well");
    rig.wait_in_sync(one);
    assert_eq!(rig.verdicts(one), ["good"]);
}

#[test]
fn a_check_that_is_not_required_is_only_reported() {
    let (rig, _) = Rig::deployed_with(|rig| {
        patient(rig);
        rig.settings.sections = version_check(rig, "required = false\n");
    });
    let bad = rig.push("release", &Host::new("bad"));
    rig.wait_in_sync(bad);
    let entry = &rig.history()[0];
    assert_eq!(entry["verdict"], "good");
    let checks = entry["checks"].as_array().unwrap();
    let version = checks.iter().find(|check| check["name"] == "version").unwrap();
    assert_eq!(version["ok"], false);
}

#[test]
fn a_failed_check_is_only_reported_where_that_is_configured() {
    let (rig, _) = Rig::deployed_with(|rig| {
        patient(rig);
        rig.settings.health.push_str("on_failure = \"report\"\n");
        rig.settings.sections = version_check(rig, "");
    });
    let bad = rig.push("release", &Host::new("bad"));
    let status = rig.wait_in_sync(bad);
    assert_eq!(status["boot"]["default"], status["running"]["system"]);
    let entry = &rig.history()[0];
    assert_eq!(entry["verdict"], "good");
    assert!(entry["cause"].as_str().unwrap().contains("check version"), "{entry:#}");
}

#[test]
fn a_boot_loader_that_fails_is_put_back_with_the_generation_gone() {
    let (rig, _) = Rig::deployed_with(patient);
    let bad = rig.push("release", &Host::exits("bad", "boot", 1));
    let entry = rig.wait_verdict(bad, "rolled-back");
    let cause = entry["cause"].as_str().unwrap();
    assert!(cause.contains("boot") && cause.contains("exit code 1"), "{cause}");
    let status = rig.wait_state("backing-off");
    one_is_back(&rig, &status);
    let switches = rig.switched();
    assert_eq!(switches[2..], ["test bad", "boot bad", "test one", "boot one"]);
}

#[test]
fn a_boot_loader_that_fails_after_it_was_written_is_put_back() {
    let (rig, _) = Rig::deployed_with(patient);
    let bad = rig.push("release", &Host::exits("bad", "boot", 2));
    rig.wait_verdict(bad, "rolled-back");
    let status = rig.wait_state("backing-off");
    one_is_back(&rig, &status);
}

#[test]
fn a_forge_that_goes_during_the_verification_only_delays() {
    let (rig, _) = Rig::deployed_with(|rig| {
        rig.settings.health = "grace = \"0s\"\ntimeout = \"2s\"\n".into();
    });
    let mut host = Host::new("two");
    host.switch.hang_after.insert("test", 600);
    let two = rig.push("release", &host);
    rig.wait_for("the activation", || rig.version() == "two");
    rig.forge.fault(Fault::Refused);
    rig.go();
    let entry = rig.wait_verdict(two, "rolled-back");
    assert!(entry["cause"].as_str().unwrap().contains("check remote"), "{entry:#}");
    // Nothing is activated that could not be verified.
    let status = rig.wait("it waits", |status| {
        status["state"] == "waiting" && status["reason"].as_str().unwrap().contains("no remote")
    });
    one_is_back(&rig, &status);
    rig.forge.fault(Fault::None);
    rig.wait_in_sync(two);
    assert_eq!(rig.version(), "two");
}

//! Another hand switches the host: a person, or another tool.

use crate::support::rig::Rig;
use crate::support::site::Site;
use crate::support::system::Host;

#[test]
fn a_system_switched_by_hand_is_drift_and_left_alone_until_the_next_commit() {
    let (rig, one) = Rig::deployed();
    let hand = rig.build_by_hand(&Host::new("hand"));
    rig.switch_by_hand(&hand);
    let status = rig.wait("drift", |status| status["running"]["drift"] == true);
    assert_eq!(status["running"]["system"], hand.as_str());
    assert!(status["running"]["commit"].is_null(), "{status:#}");
    assert_eq!(status["desired"]["commit"], one.to_string());
    assert!(status["reason"].as_str().unwrap().contains("another hand"), "{status:#}");
    rig.wait_polls();
    assert_eq!(rig.version(), "hand");
    assert_eq!(rig.switched(), ["test one", "boot one", "test hand"]);
    let two = rig.push("release", &Host::new("two"));
    let status = rig.wait_in_sync(two);
    assert_eq!(status["running"]["drift"], false);
    assert_eq!(rig.version(), "two");
}

#[test]
fn a_system_is_asked_what_revision_it_is_of() {
    let (rig, _) = Rig::deployed();
    assert!(rig.status().unwrap()["running"]["revision"].is_null());
    let knowing = |version| Host { knows_commit: true, ..Host::new(version) };
    let two = rig.push("release", &knowing("two"));
    assert_eq!(rig.wait_in_sync(two)["running"]["revision"], two.to_string());
    // Not committed: the fixture's word for that.
    rig.switch_by_hand(&rig.build_by_hand(&knowing("hand")));
    rig.wait("drift", |status| status["running"]["drift"] == true);
    assert_eq!(rig.status().unwrap()["running"]["revision"], "none");
    let said = rig.tell(&["status"]).1;
    assert!(said.contains("by its own account of none"), "{said}");
}

#[test]
fn a_system_switched_by_hand_before_the_first_start_is_the_last_good_one() {
    let mut rig = Rig::new();
    let hand = rig.build_by_hand(&Host::new("hand"));
    rig.switch_by_hand(&hand);
    let bad = rig.push("release", &Host::exits("bad", "test", 2));
    rig.start();
    rig.wait_verdict(bad, "rolled-back");
    let status = rig.status().unwrap();
    assert_eq!(rig.version(), "hand");
    assert_eq!(status["last_good"]["system"], hand.as_str());
    assert!(status["last_good"]["commit"].is_null());
}

#[test]
fn another_hand_during_the_verification_has_the_last_word() {
    let site = Site::open();
    site.answer(200, "well");
    let (rig, _) = Rig::deployed_with(|rig| {
        rig.settings.health = "grace = \"0s\"\ntimeout = \"60s\"\n".into();
        rig.settings.sections =
            format!("[[health.check]]\nname = \"web\"\nhttp = \"{}\"\n", site.url());
    });
    let hand = rig.build_by_hand(&Host::new("hand"));
    let default = rig.boot_default();
    site.answer(503, "never");
    let two = rig.push("release", &Host::new("two"));
    rig.wait_state("verifying");
    rig.switch_by_hand(&hand);
    let entry = rig.wait_verdict(two, "superseded");
    assert!(entry["cause"].as_str().unwrap().contains("another hand"), "{entry:#}");
    let status = rig.wait("drift", |status| status["running"]["drift"] == true);
    assert_eq!(status["running"]["system"], hand.as_str());
    assert_eq!(rig.version(), "hand");
    assert_eq!((rig.boot_default(), rig.generations()), (default, 1));
    assert_eq!(rig.switched(), ["test one", "boot one", "test two", "test hand"]);
}

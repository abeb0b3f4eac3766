//! Heads that are not simply newer: forced, set back, old, missing.

use fort_agent::core::types::Commit;

use crate::support::forge::{Fault, Forge, Repo};
use crate::support::rig::Rig;
use crate::support::rig::settings::remote;
use crate::support::system::Host;

/// Nothing was made of a commit: no deployment, no job, past or present.
fn never_evaluated(rig: &Rig, commit: Commit) {
    assert!(rig.verdicts(commit).is_empty());
    assert!(!rig.log().contains(&format!("-{}-", commit.prefix(8))), "{}", rig.log());
}

#[test]
fn a_new_head_is_not_said_to_run_before_it_does() {
    let (rig, _) = Rig::deployed();
    let two = rig.push("release", &Host::new("two"));
    rig.wait_in_sync(two);
    let log = rig.log();
    let followed = log.rfind("following a new head").unwrap();
    let before = &log[..followed];
    assert!(!before.contains(&format!("{} ", two.short())), "{before}");
    assert!(log[followed..].contains(&format!("{} runs and was verified", two.short())), "{log}");
}

#[test]
fn a_force_push_is_held_until_it_is_accepted() {
    let (rig, one) = Rig::deployed();
    let two = rig.push("release", &Host::new("two"));
    rig.wait_in_sync(two);
    rig.check_out(one);
    let forced = rig.push("release", &Host::new("forced"));
    let status = rig.wait_held("force-push");
    let held = &status["held"];
    assert_eq!(held["evidence"]["head"], forced.to_string());
    assert_eq!(held["evidence"]["accepted"], two.to_string());
    assert_eq!(held["lift"], format!("fort-agent accept {}", forced.short()));
    let reason = status["reason"].as_str().unwrap();
    assert!(reason.contains(&forced.short()) && reason.contains(&two.short()), "{reason}");
    rig.wait_polls();
    assert_eq!(rig.version(), "two");
    never_evaluated(&rig, forced);

    for other in [&one.to_string(), &two.to_string(), "0123456"] {
        let (code, said) = rig.tell(&["accept", other]);
        assert_eq!(code, 4, "{said}");
    }
    assert_eq!(rig.tell(&["accept", "master"]).0, 2);
    rig.wait_polls();
    never_evaluated(&rig, forced);

    let (code, said) = rig.tell(&["accept", &forced.short()]);
    assert_eq!(code, 0, "{said}");
    let status = rig.wait_in_sync(forced);
    assert!(status["held"].is_null());
    assert_eq!(rig.version(), "forced");
    let (code, said) = rig.tell(&["accept", &forced.short()]);
    assert_eq!(code, 4, "{said}");
}

#[test]
fn an_accepted_head_that_is_replaced_is_not_followed() {
    let (rig, one) = Rig::deployed();
    let two = rig.push("release", &Host::new("two"));
    rig.wait_in_sync(two);
    rig.check_out(one);
    rig.push("release", &Host::new("forced"));
    rig.wait_held("force-push");
    rig.check_out(one);
    let again = rig.push("release", &Host::new("forced again"));
    rig.wait("held anew", |status| status["held"]["evidence"]["head"] == again.to_string());
    assert_eq!(rig.version(), "two");
    never_evaluated(&rig, again);
    // It ends by itself when the branch descends from what was accepted.
    rig.check_out(two);
    let three = rig.push("release", &Host::new("three"));
    rig.wait_in_sync(three);
}

#[test]
fn a_rewind_is_held_until_it_is_accepted() {
    let (rig, one) = Rig::deployed();
    let two = rig.push("release", &Host::new("two"));
    rig.wait_in_sync(two);
    rig.check_out(one);
    rig.push_head("release");
    let status = rig.wait_held("force-push");
    assert_eq!(status["held"]["evidence"]["rewind"], true);
    assert_eq!(status["held"]["evidence"]["head"], one.to_string());
    rig.wait_polls();
    assert_eq!(rig.version(), "two");
    assert_eq!(rig.tell(&["accept", &one.to_string()]).0, 0);
    rig.wait_in_sync(one);
    assert_eq!(rig.version(), "one");
}

#[test]
fn force_pushes_and_rewinds_are_followed_where_that_is_configured() {
    let (rig, one) =
        Rig::deployed_with(|rig| rig.settings.branch = "force_push = \"accept\"\n".into());
    let two = rig.push("release", &Host::new("two"));
    rig.wait_in_sync(two);
    rig.check_out(one);
    rig.push_head("release");
    rig.wait_in_sync(one);
    assert_eq!(rig.version(), "one");
    rig.check_out(two);
    rig.push_head("release");
    rig.wait_in_sync(two);
    rig.check_out(one);
    let forced = rig.push("release", &Host::new("forced"));
    rig.wait_in_sync(forced);
    assert_eq!(rig.version(), "forced");
}

/// A host with a second remote, which has the first one's commit.
fn with_mirror() -> (Rig, Commit, Forge, Repo) {
    let forge = Forge::start();
    let mirror = forge.repo("mirror");
    let (rig, one) = Rig::deployed_with(|rig| {
        let first = remote("origin", &rig.forge, &rig.repo, "3s");
        rig.settings.remotes = Some(first + &remote("mirror", &forge, &mirror, "3s"));
    });
    rig.push_to(&mirror, "release");
    (rig, one, forge, mirror)
}

#[test]
fn a_stale_mirror_is_reported_and_not_followed() {
    let (rig, one, _forge, _mirror) = with_mirror();
    let two = rig.push("release", &Host::new("two"));
    rig.wait_in_sync(two);
    rig.forge.fault(Fault::Refused);
    let status = rig.wait("the mirror is asked", |status| {
        status["remotes"][1]["head"] == one.to_string()
            && status["remotes"][1]["error"].as_str().is_some_and(|e| e.contains("behind"))
    });
    assert_eq!(status["desired"]["commit"], two.to_string());
    assert!(status["held"].is_null(), "{status:#}");
    assert_eq!(status["state"], "up-to-date");
    assert_eq!(rig.version(), "two");
    assert_eq!(rig.switched(), ["test one", "boot one", "test two", "boot two"]);
}

#[test]
fn the_second_remote_is_followed_while_the_first_is_down() {
    let (rig, _, _forge, mirror) = with_mirror();
    rig.forge.fault(Fault::Refused);
    rig.tree.host("joker", &Host::new("two"));
    let two = rig.tree.commit("two");
    rig.push_to(&mirror, "release");
    let status = rig.wait_in_sync(two);
    assert_eq!(status["desired"]["remote"], "mirror");
    assert_eq!(status["remotes"][0]["reachable"], false);
    assert_eq!(rig.version(), "two");
    // Now it is the first that is behind.
    rig.forge.fault(Fault::None);
    let status = rig.wait("the first answers", |status| {
        status["remotes"][0]["reachable"] == true
            && status["remotes"][0]["error"].as_str().is_some_and(|e| e.contains("behind"))
    });
    assert!(status["held"].is_null(), "{status:#}");
    rig.wait_polls();
    assert_eq!(rig.version(), "two");
    let three = rig.push("release", &Host::new("three"));
    let status = rig.wait_in_sync(three);
    assert_eq!(status["desired"]["remote"], "origin");
}

#[test]
fn a_branch_that_is_missing_is_waited_for_and_a_deleted_one_too() {
    let mut rig = Rig::new();
    rig.start();
    let status = rig.wait_held("branch-missing");
    assert_eq!(status["held"]["evidence"]["branch"], "release");
    let one = rig.push("release", &Host::new("one"));
    rig.wait_in_sync(one);
    rig.delete_branch("release");
    let status = rig.wait_held("branch-missing");
    assert!(status["remotes"][0]["error"].as_str().unwrap().contains("no branch release"));
    assert_eq!(status["running"]["commit"], one.to_string());
    assert_eq!(rig.version(), "one");
    let two = rig.push("release", &Host::new("two"));
    rig.wait_in_sync(two);
    // What comes back must still descend from what was accepted.
    rig.delete_branch("release");
    rig.wait_held("branch-missing");
    rig.check_out(one);
    rig.push("release", &Host::new("forced"));
    rig.wait_held("force-push");
    assert_eq!(rig.version(), "two");
}

//! Reactions of the agent to a new head of the release or testing branch.

use crate::support::rig::{Rig, TESTING};
use crate::support::system::Host;

#[test]
fn a_revert_is_deployed() {
    let (rig, one) = Rig::deployed();
    let two = rig.push("release", &Host::new("two"));
    rig.wait_in_sync(two);
    let revert = rig.push("release", &Host::new("one"));
    let status = rig.wait_in_sync(revert);
    assert_eq!(rig.version(), "one");
    assert_eq!(status["last_good"]["commit"], revert.to_string());
    assert_eq!(
        rig.switched(),
        ["test one", "boot one", "test two", "boot two", "test one", "boot one"]
    );
    assert_eq!(rig.boot_default().as_deref(), status["running"]["system"].as_str());
    for commit in [one, two, revert] {
        assert_eq!(rig.verdicts(commit), ["good"]);
    }
}

#[test]
fn a_docs_only_commit_is_recorded_and_activates_nothing() {
    let (rig, _) = Rig::deployed();
    rig.tree.write("README.md", "words");
    let docs = rig.push_tree("release", "Words");
    let status = rig.wait_in_sync(docs);
    assert_eq!(status["last_good"]["commit"], docs.to_string());
    assert_eq!(rig.verdicts(docs), ["good"]);
    assert_eq!(rig.switched(), ["test one", "boot one"]);
    assert_eq!(rig.generations(), 1);
}

#[test]
fn a_testing_branch_is_tried_and_the_release_comes_back_when_it_goes() {
    let (rig, one) = Rig::trying();
    let default = rig.boot_default();
    let trial = rig.push(TESTING, &Host::new("trial"));
    let status = rig.wait_in_sync(trial);
    assert_eq!(rig.version(), "trial");
    assert_eq!(status["desired"]["operation"], "test");
    assert_eq!(status["desired"]["branch"], TESTING);
    assert_eq!(status["boot"]["default"].as_str(), default.as_deref());
    assert_eq!(status["last_good"]["commit"], one.to_string());
    assert_eq!((rig.boot_default(), rig.generations()), (default.clone(), 1));
    assert_eq!(rig.switched(), ["test one", "boot one", "test trial"]);

    rig.delete_branch(TESTING);
    let status = rig.wait_in_sync(one);
    assert_eq!(rig.version(), "one");
    assert_eq!(status["desired"]["operation"], "switch");
    assert_eq!((rig.boot_default(), rig.generations()), (default, 1));
}

#[test]
fn a_merged_testing_branch_becomes_the_default_without_a_second_activation() {
    let (rig, _) = Rig::trying();
    let trial = rig.push(TESTING, &Host::new("trial"));
    rig.wait_in_sync(trial);
    // The head itself, then a merge commit of the same tree.
    rig.push_head("release");
    let status = rig.wait("release", |status| {
        status["desired"]["operation"] == "switch" && status["state"] == "up-to-date"
    });
    let made_default = ["test one", "boot one", "test trial", "boot trial"];
    assert_eq!(rig.switched(), made_default);
    assert_eq!(status["boot"]["default"], status["running"]["system"]);
    assert_eq!(rig.generations(), 2);
    let merge = rig.push_tree("release", "Merge the trial");
    let status = rig.wait_in_sync(merge);
    assert_eq!(status["running"]["commit"], merge.to_string());
    assert_eq!(rig.switched(), made_default);
    assert_eq!(rig.verdicts(merge), ["good"]);
}

#[test]
fn a_merge_commit_of_the_tried_system_makes_it_the_default() {
    let (rig, _) = Rig::trying();
    let trial = rig.push(TESTING, &Host::new("trial"));
    rig.wait_in_sync(trial);
    let merge = rig.push_tree("release", "Merge the trial");
    let status = rig.wait_in_sync(merge);
    assert_eq!(rig.switched(), ["test one", "boot one", "test trial", "boot trial"]);
    assert_eq!(rig.boot_default().as_deref(), status["running"]["system"].as_str());
    assert_eq!(status["boot"]["default"], status["running"]["system"]);
}

#[test]
fn a_reboot_undoes_a_testing_branch_until_a_retry_or_a_new_head() {
    let (mut rig, one) = Rig::trying();
    let trial = rig.push(TESTING, &Host::new("trial"));
    rig.wait_in_sync(trial);
    rig.stop();
    rig.boot("boot-2");
    rig.start();
    let undone = |rig: &Rig| {
        rig.wait("undone", |status| {
            status["state"] == "waiting"
                && status["reason"].as_str().unwrap().contains("undone by a reboot")
        })
    };
    let status = undone(&rig);
    assert_eq!(rig.version(), "one");
    assert_eq!(status["running"]["commit"], one.to_string());
    assert_eq!(status["running"]["drift"], false);
    rig.wait_polls();
    assert_eq!(rig.switched(), ["test one", "boot one", "test trial"]);

    let (code, said) = rig.tell(&["retry"]);
    assert_eq!(code, 0, "{said}");
    rig.wait_in_sync(trial);
    assert_eq!(rig.version(), "trial");
    rig.stop();
    rig.boot("boot-3");
    rig.start();
    undone(&rig);
    let other = rig.push(TESTING, &Host::new("other"));
    rig.wait_in_sync(other);
    assert_eq!(rig.version(), "other");
    let tried = ["test one", "boot one", "test trial", "test trial", "test other"];
    assert_eq!(rig.switched(), tried);
}

#[test]
fn a_testing_branch_left_behind_is_reported_and_costs_nothing() {
    let (rig, one) = Rig::trying();
    let trial = rig.push(TESTING, &Host::new("trial"));
    rig.wait_in_sync(trial);
    rig.check_out(one);
    let two = rig.push("release", &Host::new("two"));
    let status = rig.wait_in_sync(two);
    assert_eq!(rig.version(), "two");
    let said = status["notes"].to_string();
    assert!(said.contains(&trial.short()) && said.contains("not ahead"), "{said}");
    let before = (rig.switched(), rig.history().len());
    rig.wait_polls();
    assert_eq!((rig.switched(), rig.history().len()), before);
    assert!(rig.jobs("").is_empty());
}

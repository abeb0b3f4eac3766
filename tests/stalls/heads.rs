//! Heads that are not followed.

use super::play::{SELDOM, Stage, Stall, realised};
use crate::support::rig::TESTING;
use crate::support::system::Host;

/// Beyond the first commit.
fn two(stage: &mut Stage) {
    let two = stage.rig.push("release", &Host::new("two"));
    stage.rig.wait_in_sync(two);
}

fn accept(stage: &mut Stage) -> fort_agent::core::types::Commit {
    stage.run(&["accept", &stage.head.short()]);
    stage.head
}

pub(super) fn force_push() -> Stall {
    Stall {
        cause: |stage| {
            two(stage);
            stage.rig.check_out(stage.one);
            stage.head = stage.rig.push("release", &Host::new("forced"));
        },
        held: Some("force-push"),
        words: &["release was force-pushed", "{head} does not descend from"],
        lift: &["fort-agent accept {head}"],
        undo: accept,
        ..Stall::USUAL
    }
}

pub(super) fn rewind() -> Stall {
    Stall {
        cause: |stage| {
            two(stage);
            stage.rig.check_out(stage.one);
            stage.rig.push_head("release");
            stage.head = stage.one;
        },
        held: Some("force-push"),
        words: &["release was set back", "{head} is older than"],
        lift: &["fort-agent accept {head}"],
        undo: accept,
        ..Stall::USUAL
    }
}

pub(super) fn branch_missing() -> Stall {
    Stall {
        cause: |stage| stage.rig.delete_branch("release"),
        held: Some("branch-missing"),
        words: &["branch release", "no remote has"],
        lift: &["push a branch release"],
        undo: |stage| {
            stage.rig.push_head("release");
            stage.one
        },
        ..Stall::USUAL
    }
}

pub(super) fn no_such_host() -> Stall {
    Stall {
        cause: |stage| {
            let tree = &stage.rig.tree;
            std::fs::remove_file(tree.dir().join("hosts/joker.json")).unwrap();
            tree.host("batman", &Host::new("his"));
            stage.head = stage.rig.push_tree("release", "Rename");
        },
        in_effect: realised,
        every: SELDOM,
        held: Some("no-such-host"),
        words: &["the commit has no host joker", "batman"],
        lift: &["push a commit that has this host"],
        undo: |stage| stage.rig.push("release", &Host::new("two")),
        ..Stall::USUAL
    }
}

pub(super) fn lock_incomplete() -> Stall {
    Stall {
        cause: |stage| {
            let tree = &stage.rig.tree;
            let text = std::fs::read_to_string(tree.dir().join("flake.nix")).unwrap();
            tree.write("flake.nix", &text.replace("{ self }", "{ self, nixpkgs }"));
            stage.head = stage.rig.push_tree("release", "Take another input");
            tree.write("flake.nix", &text);
        },
        in_effect: realised,
        every: SELDOM,
        held: Some("lock-incomplete"),
        words: &["{head} is not evaluated", "flake.lock does not pin the input nixpkgs"],
        lift: &["run nix flake lock, commit the flake.lock that it writes, and push"],
        undo: |stage| stage.rig.push("release", &Host::new("two")),
        ..Stall::USUAL
    }
}

pub(super) fn testing_stale() -> Stall {
    Stall {
        cause: |stage| {
            let trial = stage.rig.push(TESTING, &Host::new("trial"));
            stage.rig.wait_in_sync(trial);
            stage.rig.check_out(stage.one);
            two(stage);
            stage.head = trial;
        },
        state: "up-to-date",
        words: &["testing head {head} is not ahead of the release: ignored"],
        lift: &["rebase or delete"],
        undo: |stage| {
            stage.rig.delete_branch(TESTING);
            stage.rig.tree.git(&["rev-parse", "HEAD"]).parse().unwrap()
        },
        ..Stall::USUAL
    }
}

pub(super) fn testing_undone() -> Stall {
    Stall {
        cause: |stage| {
            stage.head = stage.rig.push(TESTING, &Host::new("trial"));
            stage.rig.wait_in_sync(stage.head);
            stage.reboot("boot-2");
        },
        state: "waiting",
        words: &["testing head {head} was undone by a reboot"],
        lift: &["fort-agent retry {head}"],
        undo: |stage| {
            stage.run(&["retry", &stage.head.short()]);
            stage.head
        },
        ..Stall::USUAL
    }
}

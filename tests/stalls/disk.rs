//! Disks that are full or closed, and trees that are too large.

use fort_agent::core::types::Commit;

use super::play::{SELDOM, Stage, Stall, realised};
use super::systems::{another, push};
use crate::support::mounts::{fill, mount};
use crate::support::rig::jobs_of;
use crate::support::system::Host;

/// The disk of the state directory is full from now on.
fn full(stage: &Stage) {
    fill(&stage.rig.state(), 0);
}

fn room(stage: &mut Stage) -> Commit {
    std::fs::remove_file(stage.rig.state().join("filler")).unwrap();
    stage.head
}

/// Where the agent writes has no room.
const FULL: Stall = Stall {
    mounts: true,
    settings: |stage| {
        mount(&stage.rig.state(), "64M");
        stage.rig.settings.retry = "first = \"5s\"\nmax = \"5s\"\n".into();
    },
    held: Some("state-dir"),
    lift: &["make room there", "it is tried again by itself"],
    undo: room,
    ..Stall::USUAL
};

pub(super) fn state_full() -> Stall {
    Stall {
        cause: |stage| {
            // All that the deployment before is to be remembered by has been written.
            stage.rig.wait_polls();
            full(stage);
            push(stage, &Host::new("two"));
        },
        words: &["nothing can be fetched into", "/state/git", "the disk is full"],
        ..FULL
    }
}

pub(super) fn journal_unwritable() -> Stall {
    Stall {
        cause: |stage| {
            // In the middle of a deployment: what came of it cannot be kept.
            push(stage, &Host { build_seconds: 3, ..Host::new("two") });
            stage.rig.wait("a build", |status| {
                status["deployment"]["progress"]["to_build"].as_u64() > Some(0)
            });
            full(stage);
        },
        // The job has ended: its lock is free.
        in_effect: |stage| {
            let id = stage.journal()["deployment"]["job"].clone();
            jobs_of(&stage.rig.state().to_string_lossy()).is_empty() && !id.is_null()
        },
        every: SELDOM,
        words: &["cannot write", "/state/journal.json", "No space left on device"],
        ..FULL
    }
}

/// A file of ten MiB that nothing makes smaller.
fn large(stage: &mut Stage) {
    let noise: Vec<u8> = (0_u64..10 << 17)
        .flat_map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ n >> 7).to_le_bytes())
        .collect();
    std::fs::write(stage.rig.tree.dir().join("large"), noise).unwrap();
    push(stage, &Host::new("large"));
}

fn another_without_it(stage: &mut Stage) -> Commit {
    let one = stage.one;
    stage.rig.check_out(one);
    another(stage)
}

pub(super) fn pack_too_large() -> Stall {
    Stall {
        settings: |stage| stage.rig.settings.sections += "[git]\npack = \"8M\"\n",
        cause: large,
        held: Some("too-large"),
        words: &["{head} on release was not fetched", "larger than 8.0 MiB"],
        lift: &["raise pack in [git]"],
        undo: another_without_it,
        ..Stall::USUAL
    }
}

pub(super) fn tree_too_large() -> Stall {
    Stall {
        settings: |stage| stage.rig.settings.sections += "[git]\ntree = \"8M\"\n",
        cause: large,
        in_effect: realised,
        every: SELDOM,
        held: Some("too-large"),
        words: &["{head} is not activated", "its tree is larger than 8.0 MiB"],
        lift: &["raise the limit in [git]"],
        // That head was fetched, and is what the next one descends from.
        undo: |stage| {
            std::fs::remove_file(stage.rig.tree.dir().join("large")).unwrap();
            another(stage)
        },
        ..Stall::USUAL
    }
}

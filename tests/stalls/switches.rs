//! Switches that fail, are undone, or are not the agent's.

use std::fs::Permissions;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::play::{SELDOM, Stall, switched};
use super::systems::{FAILED, another, push, retry};
use crate::support::system::Host;

pub(super) fn exit_code() -> Stall {
    Stall {
        cause: |stage| push(stage, &Host::exits("two", "test", 2)),
        in_effect: switched,
        every: SELDOM,
        words: &["{head} could not be deployed", "exit code 2"],
        metrics: &["fort_agent_rollbacks_total{cause=\"exit-code\"} 1"],
        ..FAILED
    }
}

pub(super) fn switch_refuses() -> Stall {
    Stall {
        cause: |stage| push(stage, &Host::exits("two", "test", 1)),
        in_effect: switched,
        every: SELDOM,
        words: &["{head} could not be deployed", "exit code 1"],
        metrics: &["fort_agent_deployments_total{operation=\"switch\",verdict=\"failed\"} 1"],
        ..FAILED
    }
}

pub(super) fn switch_hangs() -> Stall {
    Stall {
        cause: |stage| {
            stage.rig.settings.activation = "timeout = \"2s\"\n".into();
            stage.rig.write_config();
            let mut host = Host::new("two");
            host.switch.hang.insert("test", 600);
            push(stage, &host);
        },
        in_effect: switched,
        every: SELDOM,
        words: &["{head} could not be deployed", "timed out"],
        metrics: &["fort_agent_rollbacks_total{cause=\"timeout\"} 1"],
        ..FAILED
    }
}

pub(super) fn check_fails() -> Stall {
    Stall {
        settings: |stage| {
            let check =
                format!("[[health.check]]\nname = \"web\"\nhttp = \"{}\"\n", stage.site.url());
            stage.rig.settings.sections.push_str(&check);
            stage.rig.settings.health = "grace = \"0s\"\ntimeout = \"2s\"\n".into();
        },
        cause: |stage| {
            stage.site.answer(503, "unwell");
            push(stage, &Host::new("two"));
        },
        in_effect: switched,
        every: SELDOM,
        words: &["{head} could not be deployed", "check web", "503"],
        metrics: &[
            "fort_agent_rollbacks_total{cause=\"check\"} 1",
            "fort_agent_health_check_ok{check=\"web\"} 0",
        ],
        undo: |stage| {
            stage.site.answer(200, "well");
            retry(stage)
        },
        ..FAILED
    }
}

pub(super) fn quarantined() -> Stall {
    Stall {
        settings: |stage| stage.rig.settings.retry.push_str("activations = 1\n"),
        cause: |stage| push(stage, &Host::exits("two", "test", 2)),
        in_effect: switched,
        every: SELDOM,
        held: Some("quarantined"),
        words: &["quarantined", "{head}", "exit code 2"],
        lift: &["push a commit with another system, or run fort-agent retry"],
        metrics: &["fort_agent_quarantined 1"],
        undo: another,
        ..Stall::USUAL
    }
}

pub(super) fn rolled_back_by_hand() -> Stall {
    Stall {
        cause: |stage| {
            push(stage, &Host::new("two"));
            stage.rig.wait_in_sync(stage.head);
            stage.run(&["rollback", "--reason", "too slow"]);
        },
        in_effect: |stage| stage.journal()["history"].to_string().contains("rolled-back"),
        every: SELDOM,
        held: Some("quarantined"),
        words: &["quarantined", "{head}", "rolled back by a person: too slow"],
        lift: &["fort-agent retry"],
        metrics: &["fort_agent_quarantined 1"],
        undo: retry,
        ..Stall::USUAL
    }
}

pub(super) fn lock_stuck() -> Stall {
    Stall {
        cause: |stage| {
            let path = stage.rig.root().join("run/nixos/switch-to-configuration.lock");
            let other = std::fs::File::create(path).unwrap();
            flock(other.as_fd(), FlockOperation::LockExclusive).unwrap();
            stage.kept.push(Box::new(other));
            push(stage, &Host::new("two"));
        },
        in_effect: |stage| {
            let progress = stage.written("switch-", "progress.json").unwrap_or_default();
            progress["lock"].is_string()
        },
        every: SELDOM,
        state: "activating",
        words: &["activating {head}", "waits for the lock of process"],
        lift: &["it goes on when the lock is let go"],
        undo: |stage| {
            stage.kept.clear();
            stage.head
        },
        ..Stall::USUAL
    }
}

const SCRIPTS: [&str; 2] = ["bin/switch-to-configuration", "activate"];

fn program(path: &Path, text: &[u8]) {
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(0o555)).unwrap();
}

pub(super) fn rollback_failed() -> Stall {
    Stall {
        cause: |stage| {
            // Neither does the old system activate any more.
            let one = stage.rig.physical(&stage.rig.boot_default().unwrap());
            let saved: Vec<_> = SCRIPTS
                .iter()
                .map(|script| (one.join(script), std::fs::read(one.join(script)).unwrap()))
                .collect();
            for (path, _) in &saved {
                let refuses = b"#!/bin/sh\necho the store is damaged >&2\nexit 1\n";
                for directory in [path.parent().unwrap(), &one] {
                    std::fs::set_permissions(directory, Permissions::from_mode(0o755)).unwrap();
                }
                program(path, refuses);
            }
            stage.kept.push(Box::new(saved));
            push(stage, &Host::exits("two", "test", 2));
        },
        // Each rung of the way back has failed.
        in_effect: |stage| {
            let progress = stage.written("switch-", "progress.json").unwrap_or_default();
            progress["phase"]["tries"].as_u64().is_some_and(|tries| tries >= 3)
        },
        every: SELDOM,
        state: "rollback-failed",
        words: &["the system before {head} could not be put back", "exit code 2"],
        lift: &["repair the host by hand, or reboot it"],
        undo: |stage| {
            let saved = stage.kept.pop().unwrap();
            let saved = saved.downcast::<Vec<(std::path::PathBuf, Vec<u8>)>>().unwrap();
            saved.iter().for_each(|(path, text)| program(path, text));
            // Back on what was good, it is tried again later: or another is.
            stage.rig.wait_state("backing-off");
            another(stage)
        },
        ..Stall::USUAL
    }
}

pub(super) fn drift() -> Stall {
    Stall {
        cause: |stage| {
            let hand = stage.rig.build_by_hand(&Host::new("hand"));
            stage.rig.switch_by_hand(&hand);
        },
        state: "waiting",
        words: &["by another hand", "left alone until the next commit"],
        lift: &["push a commit to release"],
        metrics: &["fort_agent_drift 1", "fort_agent_in_sync 0"],
        undo: another,
        ..Stall::USUAL
    }
}

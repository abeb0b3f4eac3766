//! Systems that cannot be had, activated, verified or left alone.

use std::fs::Permissions;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use fort_agent::core::types::Commit;
use rustix::fs::{FlockOperation, flock};

use super::play::{SELDOM, Stage, Stall, realised, switched};
use crate::deploy::builds::downloading;
use crate::support::mounts::{fill, mount};
use crate::support::rig::jobs_of;
use crate::support::system::Host;

pub(super) fn push(stage: &mut Stage, host: &Host) {
    stage.head = stage.rig.push("release", host);
}

/// Pushes another commit, which mends one that is at fault itself.
fn another(stage: &mut Stage) -> Commit {
    stage.rig.push("release", &Host::new("another"))
}

fn retry(stage: &mut Stage) -> Commit {
    stage.run(&["retry"]);
    stage.head
}

/// A commit of no use, which is tried again later.
const FAILED: Stall =
    Stall { state: "backing-off", lift: &["fort-agent retry"], undo: another, ..Stall::USUAL };

pub(super) fn evaluation_error() -> Stall {
    Stall {
        cause: |stage| {
            let mut host = Host::new("two");
            host.evaluation_error = Some("there is no such option".into());
            push(stage, &host);
        },
        in_effect: realised,
        every: SELDOM,
        words: &["{head} could not be realised", "evaluation failed", "there is no such option"],
        metrics: &["fort_agent_deployments_total{operation=\"switch\",verdict=\"failed\"} 1"],
        ..FAILED
    }
}

pub(super) fn evaluator_refused() -> Stall {
    /// A daemon that lets these users in.
    fn lets_in(stage: &mut Stage, users: &str) {
        // The one before goes first: it has the socket.
        stage.rig.daemon = None;
        stage.rig.daemon = Some(stage.rig.store.daemon_with(&[("allowed-users", users)]));
    }
    Stall {
        settings: |stage| lets_in(stage, "*"),
        cause: |stage| {
            lets_in(stage, "root");
            push(stage, &Host::new("two"));
        },
        in_effect: realised,
        every: SELDOM,
        words: &["{head} could not be realised", "does not let the user", "allowed-users"],
        undo: |stage| {
            lets_in(stage, "*");
            retry(stage)
        },
        ..FAILED
    }
}

pub(super) fn build_failure() -> Stall {
    Stall {
        cause: |stage| {
            stage.site.answer(404, "");
            let host = downloading("two", &stage.site);
            push(stage, &host);
        },
        in_effect: realised,
        every: SELDOM,
        words: &["{head} could not be realised", "404"],
        metrics: &["fort_agent_deployments_total{operation=\"switch\",verdict=\"failed\"} 1"],
        undo: |stage| {
            stage.site.answer(200, "hello");
            retry(stage)
        },
        ..FAILED
    }
}

pub(super) fn build_timeout() -> Stall {
    Stall {
        cause: |stage| {
            stage.rig.settings.system = "timeout = \"3s\"\n".into();
            stage.rig.write_config();
            push(stage, &Host { build_seconds: 600, ..Host::new("two") });
        },
        in_effect: realised,
        every: SELDOM,
        words: &["{head} could not be realised", "not built within 3 s"],
        undo: |stage| {
            stage.rig.settings.system = String::new();
            stage.rig.write_config();
            another(stage)
        },
        ..FAILED
    }
}

pub(super) fn nix_settings() -> Stall {
    fn settings(stage: &Stage) -> std::path::PathBuf {
        stage.rig.state().join("home/.config/nix/nix.conf")
    }
    Stall {
        cause: |stage| {
            let file = settings(stage);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "sandbox = maybe\n").unwrap();
            push(stage, &Host::new("two"));
        },
        in_effect: realised,
        every: SELDOM,
        words: &[
            "{head} could not be realised",
            "Nix cannot read its settings",
            "option 'sandbox' has invalid value 'maybe'",
        ],
        lift: &["correct nix.conf, or [nix] options", "fort-agent retry"],
        undo: |stage| {
            std::fs::remove_file(settings(stage)).unwrap();
            retry(stage)
        },
        ..FAILED
    }
}

pub(super) fn no_builder() -> Stall {
    Stall {
        cause: |stage| push(stage, &Host { platform: "quantum-linux".into(), ..Host::new("two") }),
        in_effect: realised,
        every: SELDOM,
        words: &["{head} could not be realised", "no machine here may build it", "quantum-linux"],
        lift: &["push a commit that this host can build", "fort-agent retry"],
        ..FAILED
    }
}

pub(super) fn no_room() -> Stall {
    Stall {
        mounts: true,
        settings: |stage| {
            mount(&stage.rig.store.dir().join("store"), "256M");
            stage.rig.settings.retry = "first = \"5s\"\nmax = \"5s\"\n".into();
        },
        cause: |stage| {
            fill(&stage.rig.store.dir().join("store"), 11 << 20);
            push(stage, &Host { parts: 2, ..Host::new("two") });
        },
        in_effect: realised,
        every: SELDOM,
        held: Some("disk-space"),
        words: &["{head} is not activated", "something is to be built"],
        lift: &["make room; it is looked at again by itself"],
        undo: |stage| {
            std::fs::remove_file(stage.rig.store.dir().join("store/filler")).unwrap();
            stage.head
        },
        ..Stall::USUAL
    }
}

pub(super) fn boot_full() -> Stall {
    Stall {
        mounts: true,
        settings: |stage| mount(&stage.rig.root().join("boot"), "4M"),
        cause: |stage| {
            fill(&stage.rig.root().join("boot"), 200 << 10);
            push(stage, &Host { kernel: "k".repeat(50 << 10), ..Host::new("two") });
        },
        in_effect: realised,
        every: SELDOM,
        held: Some("disk-space"),
        words: &["{head} is not activated", "boot"],
        lift: &["make room; it is looked at again by itself"],
        metrics: &["fort_agent_preflight_failures_total{check=\"disk-space\"} 1"],
        undo: |stage| {
            std::fs::remove_file(stage.rig.root().join("boot/filler")).unwrap();
            stage.head
        },
        ..Stall::USUAL
    }
}

pub(super) fn closure_lost() -> Stall {
    Stall {
        cause: |stage| {
            // It is there, and then it is not.
            stage.run(&["suspend"]);
            push(stage, &Host { parts: 2, ..Host::new("two") });
            stage.rig.wait("ready", |status| status["gate"]["kind"] == "suspended");
            stage.rig.stop();
            let store = stage.rig.store.root().directory().to_owned();
            let parts = std::fs::read_dir(&store).unwrap().flatten();
            let mut parts =
                parts.filter(|it| it.file_name().to_string_lossy().ends_with("-part-1"));
            std::fs::remove_file(parts.next().unwrap().path()).unwrap();
            stage.rig.start();
        },
        in_effect: realised,
        every: SELDOM,
        held: Some("incomplete-closure"),
        words: &["{head} is not activated", "-part-1"],
        lift: &["nix-store --verify --check-contents --repair", "fort-agent retry"],
        undo: |stage| {
            stage.rig.store.run("nix-store", &["--verify", "--check-contents", "--repair"]);
            stage.run(&["resume"]);
            retry(stage)
        },
        ..Stall::USUAL
    }
}

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

pub(super) fn machine_id() -> Stall {
    Stall {
        cause: |stage| {
            let file = stage.rig.root().join("etc/machine-id");
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(&file, "fedcba9876543210fedcba9876543210\n").unwrap();
            stage.rig.settings.top = "machine_id = \"0123456789abcdef0123456789abcdef\"\n".into();
            stage.rig.write_config();
        },
        held: Some("machine-id"),
        words: &[
            "the configuration is for 0123456789abcdef0123456789abcdef",
            "this is fedcba9876543210fedcba9876543210",
        ],
        lift: &["correct machine_id in the configuration"],
        undo: |stage| {
            stage.rig.settings.top.clear();
            stage.rig.write_config();
            stage.one
        },
        ..Stall::USUAL
    }
}

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

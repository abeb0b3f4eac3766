//! Systems that cannot be had, activated, verified or left alone.

use fort_agent::core::types::Commit;

use super::play::{SELDOM, Stage, Stall, realised};
use crate::deploy::builds::downloading;
use crate::support::mounts::{fill, mount};
use crate::support::system::Host;

pub(super) fn push(stage: &mut Stage, host: &Host) {
    stage.head = stage.rig.push("release", host);
}

/// Pushes another commit, which mends one that is at fault itself.
pub(super) fn another(stage: &mut Stage) -> Commit {
    stage.rig.push("release", &Host::new("another"))
}

pub(super) fn retry(stage: &mut Stage) -> Commit {
    stage.run(&["retry"]);
    stage.head
}

/// A commit of no use, which is tried again later.
pub(super) const FAILED: Stall =
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

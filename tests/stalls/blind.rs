//! Hosts that cannot be looked at, and what has to be done without a look.

use std::path::PathBuf;
use std::process::Command;

use fort_agent::core::types::Commit;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use super::play::{Stage, Stall};
use crate::support::pages::get;
use crate::support::system::Host;

const BLIND: Stall = Stall {
    state: "blind",
    words: &["this host cannot be looked at"],
    metrics: &["fort_agent_held{cause=\"state-dir\"} 0"],
    ..Stall::USUAL
};

fn jobs(stage: &Stage) -> PathBuf {
    stage.rig.state().join("jobs")
}

/// Even where permissions mean nothing: a file in the place of the directory.
pub(super) fn jobs_unreadable() -> Stall {
    Stall {
        cause: |stage| {
            let jobs = jobs(stage);
            std::fs::rename(&jobs, jobs.with_extension("away")).unwrap();
            std::fs::write(&jobs, "").unwrap();
        },
        words: &["this host cannot be looked at", "/jobs: Not a directory (os error 20)"],
        lift: &["repair it; it is looked at again by itself"],
        undo: |stage| {
            let (code, said) = get(stage.pages, "/healthz").unwrap();
            assert_eq!((code, said.contains("cannot be looked at")), (503, true), "{said}");
            let before = stage.status().unwrap();
            // The remotes are asked and shown, and nothing is done about what they say.
            let two = stage.rig.push("release", &Host::new("two"));
            let shown = |status: &serde_json::Value| {
                status["remotes"][0]["head"] == two.to_string() && status["state"] == "blind"
            };
            stage.wait("the new head", shown);
            // Nor does it help to start the agent anew: it says the same, since when.
            stage.rig.kill();
            stage.rig.start();
            let status = stage.wait("the new head, again", shown);
            assert_eq!(status["blind"], before["blind"], "{status:#}");
            assert_eq!(status["blind"]["part"], "jobs");
            assert_eq!(status["blind"]["errno"], 20);
            assert_eq!(status["desired"]["commit"], stage.one.to_string());
            assert_eq!(stage.rig.version(), "one");
            let jobs = jobs(stage);
            std::fs::remove_file(&jobs).unwrap();
            std::fs::rename(jobs.with_extension("away"), &jobs).unwrap();
            two
        },
        ..BLIND
    }
}

fn open_files(stage: &Stage) -> u64 {
    let open = std::fs::read_dir(format!("/proc/{}/fd", stage.rig.pid())).unwrap();
    open.count().try_into().unwrap()
}

fn limit(stage: &Stage, current: Option<u64>) {
    let pid = Pid::from_raw(stage.rig.pid().try_into().unwrap());
    let maximum = getrlimit(Resource::Nofile).maximum;
    prlimit(pid, Resource::Nofile, Rlimit { current, maximum }).unwrap();
}

/// The agent itself has some left, or it could not say so.
pub(super) fn descriptors() -> Stall {
    Stall {
        cause: |stage| limit(stage, Some(open_files(stage) + 8)),
        words: &["this host cannot be looked at", "too many open files: fewer than 16 of"],
        lift: &["raise LimitNOFILE of fort-agent.service"],
        undo: |stage| {
            limit(stage, getrlimit(Resource::Nofile).current);
            stage.one
        },
        ..BLIND
    }
}

fn profile(stage: &Stage) -> PathBuf {
    stage.rig.root().join("nix/var/nix/profiles/system")
}

/// A directory, which nix-env itself would do nothing to; then a link to nothing.
pub(super) fn profile_odd() -> Stall {
    Stall {
        cause: |stage| {
            let profile = profile(stage);
            std::fs::remove_file(&profile).unwrap();
            std::fs::create_dir(&profile).unwrap();
            std::fs::write(profile.join("kept"), "").unwrap();
        },
        state: "waiting",
        words: &["the system profile is none of nix-env's", "/profiles/system is no link"],
        lift: &["push a commit to release"],
        undo: |stage| {
            let two = next(stage, "two");
            let names = std::fs::read_dir(profile(stage).parent().unwrap()).unwrap().flatten();
            let mut aside = names.filter(|it| it.path().join("kept").exists());
            assert!(aside.next().is_some(), "what stood in the way is gone");
            stage.wait("two is in force", |status| {
                status["state"] == "up-to-date" && status["running"]["commit"] == two.to_string()
            });

            let profile = profile(stage);
            std::fs::remove_file(&profile).unwrap();
            std::os::unix::fs::symlink("system-99-link", &profile).unwrap();
            let named = "/profiles/system links to generation 99, which is not there";
            stage.wait("the dangling profile", |status| {
                status["state"] == "waiting" && status["reason"].to_string().contains(named)
            });
            next(stage, "three")
        },
        ..Stall::USUAL
    }
}

/// Pushes another commit, which becomes the default of a profile as nix-env has it.
fn next(stage: &mut Stage, version: &str) -> Commit {
    let commit = stage.rig.push("release", &Host::new(version));
    let profile = profile(stage);
    stage.rig.wait_for("the profile", || {
        let target = std::fs::read_link(&profile).unwrap_or_default();
        let system = std::fs::read_link(profile.with_file_name(target)).unwrap_or_default();
        let named = stage.rig.physical_of(&system).map(|system| system.join("nixos-version"));
        named.is_some_and(|named| std::fs::read_to_string(named).is_ok_and(|it| it == version))
    });
    commit
}

/// In the user namespace of the agent, whose limit is nobody else's.
const INSTANCES: &str = "/proc/sys/user/max_inotify_instances";

fn grant(stage: &Stage, instances: u32) {
    let pid = stage.rig.pid().to_string();
    let write = format!("echo {instances} > {INSTANCES}");
    let inside = ["--target", &pid, "--user", "--", "sh", "-c", &write];
    assert!(Command::new("nsenter").args(inside).status().unwrap().success());
}

pub(super) fn inotify() -> Stall {
    Stall {
        cause: |stage| {
            stage.rig.stop();
            let none = format!("echo 0 > {INSTANCES}; exec \"$@\"");
            stage.rig.settings.within =
                ["unshare", "--map-root-user", "sh", "-c", &none, "sh"].map(String::from).into();
            stage.rig.start();
        },
        state: "up-to-date",
        words: &["jobs are looked at every second", "no inotify instance is left"],
        lift: &["raise the sysctl user.max_inotify_instances (now 0)"],
        undo: |stage| {
            // It comes to the same without.
            let docs = stage.rig.push_tree("release", "Words");
            stage.wait("the commit is in force", |status| {
                status["state"] == "up-to-date" && status["running"]["commit"] == docs.to_string()
            });
            grant(stage, 16);
            docs
        },
        ..Stall::USUAL
    }
}

//! How the stories of the kill matrix are played.

use fort_agent::core::types::Commit;
use serde_json::Value;

use super::stage::{End, Stage};
use crate::support::nix::processes_with;
use crate::support::rig::{TESTING, signal};
use crate::support::system::Host;

pub(super) fn in_sync(verdicts: Vec<(Commit, String, Vec<&'static str>)>) -> End {
    let (commit, runs, _) = verdicts.last().cloned().unwrap();
    let reached = Box::new(move |status: &Value| {
        status["state"] == "up-to-date"
            && status["desired"]["commit"] == commit.to_string()
            && status["running"]["commit"] == commit.to_string()
            && status["deployment"].is_null()
    });
    End { reached, verdicts, runs }
}

/// The cache has all of what runs.
pub(super) fn published(status: &Value) -> bool {
    let publish = &status["publish"];
    publish["backlog"] == 0 && publish["system"] == status["running"]["system"]
}

pub(super) fn quarantined(status: &Value, commit: Commit) -> bool {
    status["held"]["cause"] == "quarantined"
        && status["desired"]["commit"] == commit.to_string()
        && status["deployment"].is_null()
}

pub(super) fn good(stage: &mut Stage) -> End {
    let before = stage.good.clone();
    good_after(stage, &before)
}

pub(super) fn good_after(stage: &mut Stage, runs: &str) -> End {
    let (before, version) = (stage.good.clone(), stage.name("good"));
    stage.may(&[&before, runs, &version], &[&before, &version]);
    let commit = stage.push(&Host::new(&version));
    stage.good.clone_from(&version);
    in_sync(vec![(commit, version, vec!["good"])])
}

/// One that a person does not want to keep.
pub(super) fn rolled_back(stage: &mut Stage) -> End {
    let (before, version) = (stage.good.clone(), stage.name("unwanted"));
    stage.may(&[&before, &version], &[&before, &version]);
    let runs = stage.until("what runs", |_, status| status["running"]["commit"].is_string());
    // By name: the next one asks soon after this one.
    let back = runs["running"]["commit"].as_str().unwrap().to_owned();
    let commit = stage.push(&Host::new(&version));
    let left = move |status: &Value| {
        quarantined(status, commit) && status["last_deployment"]["verdict"] == "rolled-back"
    };
    stage.until("it is left", |rig, status| {
        let good = status["state"] == "up-to-date"
            && status["running"]["commit"] == commit.to_string()
            && status["deployment"].is_null();
        if good {
            // Whoever hears no answer asks again.
            rig.tell(&["rollback", &back]);
        }
        left(status)
    });
    let verdicts = vec![(commit, version, vec!["good", "rolled-back"])];
    End { reached: Box::new(left), verdicts, runs: before }
}

/// One that does not stay.
pub(super) fn put_back(stage: &mut Stage, host: &Host) -> End {
    let (good, version) = (stage.good.clone(), host.version.clone());
    stage.may(&[&good, &version], &[&good]);
    let bad = stage.push(host);
    judged_bad(stage, bad, version)
}

fn judged_bad(stage: &mut Stage, bad: Commit, version: String) -> End {
    stage.until("it is quarantined", |_, status| quarantined(status, bad));
    // Not for what it did itself.
    if stage.rig.status().is_none_or(|s| s["last_deployment"]["verdict"] == "interrupted") {
        stage.tell(&["retry"]);
    }
    let reached = Box::new(move |status: &Value| {
        quarantined(status, bad) && status["last_deployment"]["verdict"] == "rolled-back"
    });
    End { reached, verdicts: vec![(bad, version, vec!["rolled-back"])], runs: stage.good.clone() }
}

pub(super) fn tried(stage: &mut Stage) -> End {
    let (before, version) = (stage.good.clone(), stage.name("tried"));
    stage.may(&[&before, &version], &[&before]);
    let commit = stage.rig.push(TESTING, &Host::new(&version));
    let tried = in_sync(vec![(commit, version.clone(), vec!["good"])]);
    stage.until("it is tried", |_, status| (tried.reached)(status));
    stage.may(&[&version], &[&before, &version]);
    stage.rig.push_head("release");
    stage.good.clone_from(&version);
    let End { reached: runs_it, verdicts, runs } =
        in_sync(vec![(commit, version, vec!["good", "good"])]);
    let reached = Box::new(move |status: &Value| {
        runs_it(status) && status["desired"]["operation"] == "switch"
    });
    End { reached, verdicts, runs }
}

pub(super) fn deferred(stage: &mut Stage) -> End {
    let (before, version) = (stage.good.clone(), stage.name("deferred"));
    stage.may(&[&before, &version], &[&before, &version]);
    let commit = stage.push(&Host::exits(&version, "test", 100));
    stage.until("it awaits the boot", |_, status| {
        status["state"] == "reboot-required" && status["desired"]["commit"] == commit.to_string()
    });
    stage.rig.stop();
    let boot = stage.name("boot");
    stage.rig.boot(&boot);
    stage.rig.start();
    stage.good.clone_from(&version);
    in_sync(vec![(commit, version, vec!["good"])])
}

/// Nothing of the old system works until it was found out, and then only what
/// needs no `switch-to-configuration`.
pub(super) fn ladder(stage: &mut Stage) -> End {
    let (good, version) = (stage.good.clone(), stage.name("bad"));
    stage.may(&[&good, &version], &[&good]);
    let system = stage.rig.physical(&stage.rig.boot_default().unwrap());
    let parts = ["bin/switch-to-configuration", "activate"].map(|part| system.join(part));
    let aside = parts.clone().map(|part| part.with_extension("aside"));
    for (part, aside) in parts.iter().zip(&aside) {
        std::fs::rename(part, aside).unwrap();
    }
    let bad = stage.push(&Host::new(&version));
    stage.until("it cannot be put back", |_, status| status["state"] == "rollback-failed");
    std::fs::rename(&aside[1], &parts[1]).unwrap();
    let end = judged_bad(stage, bad, version);
    std::fs::rename(&aside[0], &parts[0]).unwrap();
    end
}

pub(super) fn resumed(stage: &mut Stage) -> End {
    let (before, version) = (stage.good.clone(), stage.name("good"));
    stage.may(&[&before, &version], &[&before, &version]);
    let go = stage.rig.root().join("run/fixture/go");
    let _ = std::fs::remove_file(&go);
    let mut host = Host::new(&version);
    host.switch.hang_after.insert("test", 600);
    let commit = stage.push(&host);
    let runs = version.clone();
    stage.until("the activation", |rig, _| rig.version() == runs);
    for pid in stage.rig.job_processes("switch") {
        signal(pid, "KILL");
    }
    stage.rig.go();
    stage.good.clone_from(&version);
    in_sync(vec![(commit, version, vec!["interrupted", "good"])])
}

pub(super) fn cancelled(stage: &mut Stage) -> End {
    let mark = stage.rig.store.dir().display().to_string();
    let mut slow = Host::new(&stage.name("slow"));
    slow.mark.clone_from(&mark);
    slow.build_seconds = 600;
    let superseded = stage.push(&slow);
    let mark = format!("FIXTURE_MARK={mark}");
    stage.until("the builder", |_, status| {
        status["deployment"]["commit"] == superseded.to_string()
            && !processes_with(&mark).is_empty()
    });
    let mut end = good(stage);
    end.verdicts.insert(0, (superseded, slow.version, vec!["superseded"]));
    end
}

/// A commit with the same system.
pub(super) fn change_words(stage: &mut Stage) -> Commit {
    let words = stage.name("words");
    stage.rig.tree.write("README.md", &words);
    stage.rig.push_tree("release", &words)
}

pub(super) fn taken_over(stage: &mut Stage) -> End {
    let (before, taken) = (stage.good.clone(), stage.name("taken"));
    stage.may(&[&before, &taken, "hand"], &[&before]);
    stage.site.answer(503, "not yet");
    let commit = stage.push(&Host::new(&taken));
    stage.until("the verification", |_, status| status["state"] == "verifying");
    stage.rig.switch_by_hand(&stage.hand);
    stage.until("drift", |_, status| status["running"]["drift"] == true);
    stage.site.answer(200, "well");
    let mut end = good_after(stage, "hand");
    stage.may(&[&before, &taken, "hand", &end.runs], &[&before, &end.runs]);
    end.verdicts.insert(0, (commit, taken, vec!["superseded"]));
    end
}

/// A system that is to be booted once; the default is the one before.
fn armed(stage: &mut Stage, host: &Host) -> Commit {
    let (before, version) = (stage.good.clone(), &host.version);
    // While it is made the default, so that it gets an entry, it is.
    stage.may(&[&before], &[&before, version]);
    let commit = stage.push(host);
    stage.until("it awaits the boot", |_, status| {
        status["state"] == "reboot-required" && status["desired"]["commit"] == commit.to_string()
    });
    stage.may(&[&before], &[&before]);
    assert!(stage.rig.oneshot().is_some(), "nothing is booted once");
    commit
}

fn boot(stage: &mut Stage) {
    stage.rig.stop();
    let boot = stage.name("boot");
    stage.rig.boot(&boot);
    stage.rig.start();
}

pub(super) fn booted_once(stage: &mut Stage) -> End {
    let (before, version) = (stage.good.clone(), stage.name("deferred"));
    let commit = armed(stage, &Host::exits(&version, "test", 100));
    stage.may(&[&version], &[&before, &version]);
    boot(stage);
    stage.good.clone_from(&version);
    in_sync(vec![(commit, version, vec!["good"])])
}

pub(super) fn did_not_come_up(stage: &mut Stage) -> End {
    let version = stage.name("bad");
    let mut host = Host::exits(&version, "test", 100);
    host.kernel = "panic".into();
    let bad = armed(stage, &host);
    boot(stage);
    let reached = Box::new(move |status: &Value| {
        quarantined(status, bad) && status["last_deployment"]["verdict"] == "rolled-back"
    });
    End { reached, verdicts: vec![(bad, version, vec!["rolled-back"])], runs: stage.good.clone() }
}

/// Before its boot the system before it is wanted again.
pub(super) fn not_booted_after_all(stage: &mut Stage) -> End {
    let (before, version) = (stage.good.clone(), stage.name("deferred"));
    let deferred = armed(stage, &Host::exits(&version, "test", 100));
    let commit = stage.push(&Host::new(&before));
    let verdicts = vec![(deferred, version, vec!["superseded"]), (commit, before, vec!["good"])];
    let end = in_sync(verdicts);
    stage.until("it is in force again", |_, status| (end.reached)(status));
    stage.until("nothing is booted once", |rig, _| rig.oneshot().is_none());
    end
}

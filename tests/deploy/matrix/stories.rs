//! The stories of the kill matrix. Each leaves the host so that it can be played
//! again.

use fort_agent::core::types::Commit;
use serde_json::Value;

use super::super::checks::version_check;
use super::stage::{End, Stage};
use crate::support::nix::processes_with;
use crate::support::rig::settings::remote;
use crate::support::rig::{Rig, TESTING, signal};
use crate::support::site::Site;
use crate::support::system::Host;

/// Something that happens on a host.
pub(super) struct Story {
    pub(super) name: &'static str,
    pub(super) settings: fn(&mut Rig, &Site),
    /// Once, before it is first played.
    pub(super) before: fn(&mut Stage),
    pub(super) play: fn(&mut Stage) -> End,
    /// How often a process is to die at a point, each time in a play of its
    /// own and at a later passing.
    pub(super) deaths: fn(&str) -> usize,
}

pub(super) const STORIES: [&Story; 15] = [
    &GOOD,
    &BAD,
    &DEFERRED,
    &NO_BOOT_LOADER,
    &LADDER,
    &RESUMED,
    &CANCELLED,
    &SAME,
    &GIVEN_UP,
    &RESTARTED,
    &TRIED,
    &DRIFT,
    &STALE_MIRROR,
    &TAKEN_OVER,
    &PUBLISHED,
];

pub(super) const GOOD: Story = Story {
    name: "a good deployment",
    settings: |rig, _| rig.settings.health = PATIENT.into(),
    before: |_| {},
    play: good,
    deaths: everywhere,
};

pub(super) const BAD: Story = Story {
    name: "a system whose check fails",
    settings: |rig, _| {
        quarantines_at_once(rig);
        rig.settings.sections = version_check(rig, "");
    },
    before: |_| {},
    play: |stage| {
        let version = stage.name("bad");
        let host = Host::new(&version);
        put_back(stage, &host)
    },
    deaths: at_changes,
};

pub(super) const DEFERRED: Story = Story {
    name: "a system that needs a reboot",
    settings: |rig, _| rig.settings.health = PATIENT.into(),
    before: |_| {},
    play: deferred,
    deaths: at_changes,
};

pub(super) const NO_BOOT_LOADER: Story = Story {
    name: "a boot loader that cannot be written",
    settings: |rig, _| quarantines_at_once(rig),
    before: |_| {},
    play: |stage| {
        let host = Host::exits(&stage.name("bad"), "boot", 1);
        put_back(stage, &host)
    },
    deaths: |point| match point {
        "switch before act RestoreProfile" | "switch before act WriteOldBoot" => 1,
        _ => at_changes(point),
    },
};

pub(super) const LADDER: Story = Story {
    name: "an old system that does not come back at once",
    settings: BAD.settings,
    before: |_| {},
    play: ladder,
    deaths: |point| {
        let of_it = ["ActivateOld", "ReviveOld", "Pause"];
        match of_it.iter().any(|act| point.ends_with(act)) {
            true => 2,
            false if point == "switch wrote progress.json" => 4,
            false => 0,
        }
    },
};

pub(super) const RESUMED: Story = Story {
    name: "a guardian that was killed",
    settings: |rig, _| rig.settings.health = PATIENT.into(),
    before: |_| {},
    play: resumed,
    deaths: |point| match point {
        "agent before step ResumeSwitch" | "agent after step ResumeSwitch" => 1,
        "agent wrote journal.json" => 6,
        _ => 0,
    },
};

pub(super) const CANCELLED: Story = Story {
    name: "a build that is cancelled",
    settings: |rig, _| rig.settings.health = PATIENT.into(),
    before: |_| {},
    play: cancelled,
    deaths: |point| match point {
        "agent before step StopJob" | "agent after step StopJob" => 1,
        "agent after step Follow" | "agent before step StartRealise" => 2,
        "realise place Realised" | "realise wrote outcome.json" => 1,
        _ => 0,
    },
};

pub(super) const SAME: Story = Story {
    name: "a commit that changes no system",
    settings: |rig, _| rig.settings.health = PATIENT.into(),
    before: |_| {},
    play: |stage| {
        let commit = change_words(stage);
        let good = stage.good.clone();
        stage.may(&[&good], &[&good]);
        in_sync(vec![(commit, good, vec!["good"])])
    },
    deaths: |point| match point {
        "agent before step Settle" | "agent after step Settle" => 1,
        "agent wrote journal.json" => 4,
        _ => 0,
    },
};

pub(super) const GIVEN_UP: Story = Story {
    name: "a quarantined system by another commit",
    settings: BAD.settings,
    before: |stage| {
        stage.may(&["one", "bad"], &["one"]);
        let bad = stage.push(&Host::new("bad"));
        stage.until("it is quarantined", |_, status| quarantined(status, bad));
        stage.may(&["one"], &["one"]);
    },
    play: |stage| {
        let commit = change_words(stage);
        End {
            reached: Box::new(move |status| quarantined(status, commit)),
            verdicts: vec![(commit, String::new(), vec!["failed"])],
            runs: stage.good.clone(),
        }
    },
    deaths: |point| match point {
        "agent before step GiveUp" | "agent after step GiveUp" => 1,
        "agent wrote journal.json" => 4,
        _ => 0,
    },
};

pub(super) const RESTARTED: Story = Story {
    name: "an agent that has just started",
    settings: |rig, _| rig.settings.health = PATIENT.into(),
    before: |_| {},
    play: |stage| {
        stage.rig.stop();
        let end = good(stage);
        stage.rig.start();
        end
    },
    deaths: |point| match point {
        "agent before step Look" | "agent after step Look" => 1,
        "agent before step Preflight" | "agent after step Preflight" => 1,
        _ => 0,
    },
};

pub(super) const TRIED: Story = Story {
    name: "a system that is tried, then released",
    settings: |rig, _| rig.settings.health = PATIENT.into(),
    before: |_| {},
    play: tried,
    deaths: |point| match point {
        "switch after act Finish" => 2,
        _ => at_changes(point),
    },
};

pub(super) const DRIFT: Story = Story {
    name: "a system switched by hand",
    settings: |rig, _| rig.settings.health = PATIENT.into(),
    before: |_| {},
    play: |stage| {
        let good = stage.good.clone();
        stage.may(&[&good, "hand"], &[&good]);
        stage.rig.switch_by_hand(&stage.hand);
        let drift = |_: &Rig, status: &Value| status["running"]["drift"] == true;
        stage.until("drift", drift);
        let end = good_after(stage, "hand");
        let version = &end.runs;
        stage.may(&[&good, "hand", version], &[&good, version]);
        end
    },
    deaths: |point| match point {
        "agent wrote journal.json" => 4,
        "agent wrote status.json" | "agent after step KeepRoots" => 2,
        _ => 0,
    },
};

pub(super) const STALE_MIRROR: Story = Story {
    name: "a mirror that is behind",
    settings: |rig, _| {
        rig.settings.health = PATIENT.into();
        let mirror = rig.forge.repo("mirror");
        let both = remote("origin", &rig.forge, &rig.repo, "3s")
            + &remote("mirror", &rig.forge, &mirror, "3s");
        rig.settings.remotes = Some(both);
    },
    before: |stage| {
        let mirror = stage.rig.repo.bare.with_file_name("mirror.git");
        let head = "HEAD:refs/heads/release";
        stage.rig.tree.git(&["push", "--quiet", mirror.to_str().unwrap(), head]);
        stage.rig.delete_branch("release");
        stage.until("the mirror is asked", |_, status| !status["remotes"][1]["head"].is_null());
    },
    play: |stage| {
        let end = good(stage);
        stage.until("it is followed", |_, status| (end.reached)(status));
        stage.rig.delete_branch("release");
        stage.until("the mirror is judged", |_, status| {
            let error = status["remotes"][1]["error"].as_str();
            status["remotes"][0]["head"].is_null()
                && error.is_some_and(|error| error.contains("behind"))
        });
        stage.rig.push_head("release");
        end
    },
    deaths: |point| match point {
        "agent before step Compare" | "agent after step Compare" => 1,
        _ => 0,
    },
};

pub(super) const TAKEN_OVER: Story = Story {
    name: "another hand during the verification",
    settings: |rig, site| {
        rig.settings.health = PATIENT.into();
        rig.settings.sections =
            format!("[[health.check]]\nname = \"web\"\nhttp = \"{}\"\n", site.url());
    },
    before: |_| {},
    play: taken_over,
    deaths: at_changes,
};

pub(super) const PUBLISHED: Story = Story {
    name: "a system that is published",
    settings: |rig, _| {
        rig.settings.health = PATIENT.into();
        rig.publish();
    },
    before: |stage| {
        stage.until("the first one is published", |_, status| published(status));
    },
    play: |stage| {
        let End { reached: runs_it, verdicts, runs } = good(stage);
        let reached = Box::new(move |status: &Value| runs_it(status) && published(status));
        End { reached, verdicts, runs }
    },
    deaths: |point| match point {
        "agent before step StartPublish" | "agent after step StartPublish" => 1,
        "publish wrote progress.json" | "publish wrote outcome.json" => 1,
        "agent after step RemoveJob" => 3,
        // Among them when the job is started, and when its end is taken in.
        "agent wrote journal.json" => 9,
        _ => 0,
    },
};

/// A dead agent has time to come back.
const PATIENT: &str = "grace = \"0s\"\ntimeout = \"40s\"\n";

fn quarantines_at_once(rig: &mut Rig) {
    rig.settings.retry = "first = \"1s\"\nmax = \"4s\"\nactivations = 1\n".into();
    rig.settings.health = "grace = \"0s\"\ntimeout = \"1s\"\n".into();
}

/// At every point. What was written differs each time.
fn everywhere(point: &str) -> usize {
    match point {
        "agent wrote journal.json" => 6,
        "switch wrote progress.json" => 6,
        // Whether these come depends on when it last looked.
        "agent before step Look" | "agent after step Look" => 0,
        "agent before step Compare" | "agent after step Compare" => 0,
        _ => 1,
    }
}

/// Where something has just become different. Other points lie between the same
/// two changes, in whatever story.
fn at_changes(point: &str) -> usize {
    match point {
        "agent wrote journal.json" | "switch wrote progress.json" => 6,
        "switch wrote outcome.json" | "agent wrote verdict.json" => 2,
        "switch after act Note" | "switch after act Finish" => 0,
        _ if point.starts_with("switch after act") => 2,
        "agent after step StartSwitch" | "agent after step RemoveJob" => 2,
        _ => 0,
    }
}

fn in_sync(verdicts: Vec<(Commit, String, Vec<&'static str>)>) -> End {
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
fn published(status: &Value) -> bool {
    let publish = &status["publish"];
    publish["backlog"] == 0 && publish["system"] == status["running"]["system"]
}

fn quarantined(status: &Value, commit: Commit) -> bool {
    status["held"]["cause"] == "quarantined"
        && status["desired"]["commit"] == commit.to_string()
        && status["deployment"].is_null()
}

fn good(stage: &mut Stage) -> End {
    let before = stage.good.clone();
    good_after(stage, &before)
}

fn good_after(stage: &mut Stage, runs: &str) -> End {
    let (before, version) = (stage.good.clone(), stage.name("good"));
    stage.may(&[&before, runs, &version], &[&before, &version]);
    let commit = stage.push(&Host::new(&version));
    stage.good.clone_from(&version);
    in_sync(vec![(commit, version, vec!["good"])])
}

/// One that does not stay.
fn put_back(stage: &mut Stage, host: &Host) -> End {
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

fn tried(stage: &mut Stage) -> End {
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

fn deferred(stage: &mut Stage) -> End {
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
fn ladder(stage: &mut Stage) -> End {
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

fn resumed(stage: &mut Stage) -> End {
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

fn cancelled(stage: &mut Stage) -> End {
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
fn change_words(stage: &mut Stage) -> Commit {
    let words = stage.name("words");
    stage.rig.tree.write("README.md", &words);
    stage.rig.push_tree("release", &words)
}

fn taken_over(stage: &mut Stage) -> End {
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

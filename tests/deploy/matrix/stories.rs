//! The stories of the kill matrix. Each leaves the host so that it can be played
//! again.

use serde_json::Value;

use super::super::checks::version_check;
use super::plays::{
    booted_once, cancelled, change_words, deferred, did_not_come_up, good, good_after, in_sync,
    ladder, not_booted_after_all, published, put_back, quarantined, resumed, rolled_back,
    taken_over, tried,
};
use super::stage::{End, Stage};
use crate::support::rig::Rig;
use crate::support::rig::settings::remote;
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

pub(super) const STORIES: [&Story; 20] = [
    &GOOD,
    &CONFIRMED,
    &ROLLED_BACK,
    &BAD,
    &DEFERRED,
    &BOOTED_ONCE,
    &DID_NOT_COME_UP,
    &NOT_BOOTED_AFTER_ALL,
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

pub(super) const CONFIRMED: Story = Story {
    name: "a commit that waits to be confirmed",
    settings: |rig, _| {
        rig.settings.health = PATIENT.into();
        rig.settings.activation = "confirm = \"500ms\"\n".into();
    },
    before: |_| {},
    play: good,
    deaths: |point| match point {
        "agent before step AskToConfirm" | "agent after step AskToConfirm" => 1,
        "agent wrote journal.json" => 6,
        _ => 0,
    },
};

pub(super) const ROLLED_BACK: Story = Story {
    name: "a system that a person does not want",
    settings: |rig, _| rig.settings.health = PATIENT.into(),
    before: |_| {},
    play: rolled_back,
    deaths: |point| match point {
        "agent wrote journal.json" | "switch wrote progress.json" => 12,
        _ => at_changes(point),
    },
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

pub(super) const BOOTED_ONCE: Story = Story {
    name: "a system that is booted once, then stays",
    settings: |rig, _| {
        rig.settings.health = PATIENT.into();
        rig.install_systemd_boot();
    },
    before: |_| {},
    play: booted_once,
    deaths: |point| match point {
        "switch before act SetOneshot" | "switch before act ReturnProfile" => 1,
        "switch wrote progress.json" => 8,
        _ => at_changes(point),
    },
};

pub(super) const DID_NOT_COME_UP: Story = Story {
    name: "a system that is booted once, in vain",
    settings: BOOTED_ONCE.settings,
    before: |_| {},
    play: did_not_come_up,
    deaths: at_changes,
};

pub(super) const NOT_BOOTED_AFTER_ALL: Story = Story {
    name: "a system that was to be booted once",
    settings: BOOTED_ONCE.settings,
    before: |_| {},
    play: not_booted_after_all,
    deaths: |point| match point {
        "agent before step Disarm" | "agent after step Disarm" => 1,
        "agent wrote journal.json" => 6,
        _ => 0,
    },
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
        "switch after act Note" | "switch after act Finish" | "switch after act FreeLock" => 0,
        _ if point.starts_with("switch after act") => 2,
        "agent after step StartSwitch" | "agent after step RemoveJob" => 2,
        _ => 0,
    }
}

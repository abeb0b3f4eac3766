use serde_json::json;

use super::*;
use crate::core::job::{DeploymentId, Ending};
use crate::core::status::{
    BootView, GoodView, Held, HeldCause, Lift, Next, NextAction, PublishProgressView, RunningView,
    Stage,
};
use crate::wording::fixture::{at, before, blind, commit, desired, entry, system, well};

const PLAIN: Look = Look { width: 80, colour: false };

/// Status of a host that is to go on to commit 2.
fn moving(state: State, reason: &str) -> Status {
    Status { state, reason: reason.into(), desired: Some(desired(2)), ..well() }
}

fn deploying(stage: Stage, progress: Value) -> Option<DeploymentView> {
    Some(DeploymentView {
        id: DeploymentId::new(before(90), commit(2), 2).to_string(),
        commit: commit(2),
        stage,
        started: before(90),
        attempt: 2,
        progress: serde_json::from_value(progress).unwrap(),
    })
}

fn held(cause: &str, evidence: Value, lift: &str, reason: &str) -> Status {
    let held = Some(Held { cause: HeldCause::read(cause, evidence), lift: lift.into() });
    Status { held, ..moving(State::Held, reason) }
}

#[test]
fn gates_and_suspensions_say_until_when() {
    let closed = |kind, until| {
        let (commit, lift) = (commit(2), Lift::default().run("confirm 3636363"));
        gate(&GateView { kind, commit, until, lift }, &at())
    };
    assert_eq!(
        closed(GateKind::Confirm, Some(before(-600))),
        "3636363 waits to be confirmed, and goes ahead at 14:12 (in 10 min)"
    );
    assert_eq!(
        closed(GateKind::Window, Some(before(-90_000))),
        "3636363 waits for a window, at 2026-01-02 15:02 (in 25 h)"
    );
    assert_eq!(closed(GateKind::Window, None), "3636363 waits for a window");
    assert_eq!(closed(GateKind::Other("moon".into()), None), "3636363 waits for a moon");
    let party = SuspendedView { reason: "a party".into(), until: None, since: before(3600) };
    assert_eq!(suspended(&party, &at()), "since 13:02, until fort-agent resume: a party");
}

fn situations() -> Vec<(&'static str, Status)> {
    let c = |n| commit(n).short();
    let mut testing = well();
    testing.desired = Some(Desired {
        operation: Operation::Test,
        branch: "release-joker-test".into(),
        ..desired(1)
    });
    testing.boot.default = Some(system(3));
    testing.boot.commit = Some(commit(3));
    testing.last_good = Some(GoodView { commit: Some(commit(3)), system: system(3) });

    let mut stale = well();
    stale.remotes[0].reachable = false;
    stale.remotes[0].error = Some("401 Unauthorized: is the token in token_file right?".into());
    stale.remotes[0].last_success = Some(before(3 * 3600));
    stale.remotes.push(RemoteView {
        name: "mirror".into(),
        reachable: true,
        last_success: Some(before(5)),
        head: Some(commit(0)),
        error: Some("release is behind: 0000000 is older than what was accepted".into()),
    });

    let building = json!({"phase": "building", "built": 3, "to_build": 7, "fetched": 41,
        "to_fetch": 58, "bytes": 1, "bytes_expected": 2, "current": "linux-6.12.5"});
    let verifying = json!({"phase": {"is": "activated", "at": 12345}, "checks": [
        {"name": "web", "ok": false, "detail": "connection refused", "required": true},
        {"name": "ssh", "ok": true, "detail": "", "required": true}]});

    let mut rolled_back = moving(
        State::BackingOff,
        &format!(
            "{} could not be deployed (twice so far), {} runs: check web: connection refused",
            c(2),
            c(1)
        ),
    );
    rolled_back.next = Some(Next { action: NextAction::Activate, at: before(-180) });
    rolled_back.last_deployment =
        Some(entry(2, Ending::RolledBack, Some("check web: connection refused"), 60));

    let mut quarantined = held(
        "quarantined",
        json!({"failures": 3, "last": "check web: connection refused", "at": before(60),
            "subject": {"is": "system", "system": system(2)}}),
        "push a commit with another system, or run fort-agent retry",
        &format!(
            "the system of {} failed 3 times and is quarantined, {} runs: check web: connection \
             refused",
            c(2),
            c(1)
        ),
    );
    quarantined.quarantine = vec![QuarantineView {
        system: system(2),
        commit: Some(commit(2)),
        failures: 3,
        since: before(60),
        cause: "check web: connection refused".into(),
    }];

    let mut drifted = moving(
        State::Waiting,
        &format!("{} was put there by another hand; left alone until the next commit", system(4)),
    );
    drifted.running = RunningView {
        specialisation: None,
        commit: None,
        system: Some(system(4)),
        revision: Some("4f00d5e-dirty".into()),
        since: Some(before(20)),
        drift: true,
    };

    let mut reboot = well();
    reboot.state = State::RebootRequired;
    reboot.reason = format!("{} runs, but needs a reboot: another kernel", c(1));
    reboot.boot.reboot_required = true;
    reboot.boot.why = Some("another kernel".into());

    let mut awaiting = moving(
        State::RebootRequired,
        &format!("{} is the default, but awaits the next boot: kernel changed", c(2)),
    );
    awaiting.boot.default = Some(system(2));
    awaiting.boot.commit = Some(commit(2));
    awaiting.boot.reboot_required = true;
    awaiting.boot.why = Some("awaits the next boot: kernel changed".into());

    let mut settings = moving(
        State::BackingOff,
        &format!(
            "{} could not be realised (once so far), {} runs: Nix cannot read its settings: option \
             'sandbox' has invalid value 'maybe'",
            c(2),
            c(1)
        ),
    );
    settings.lift =
        Some(format!("correct nix.conf, or [nix] options; then fort-agent retry {}", c(2)).into());
    settings.next = Some(Next { action: "realise".into(), at: before(-180) });

    let sending = PublishView {
        backlog: 28,
        progress: Some(PublishProgressView {
            sent: 12,
            to_send: 40,
            bytes: 120_000_000,
            bytes_expected: 480_000_000,
            current: Some("linux-6.12.5".into()),
        }),
        ..published()
    };
    let refused = PublishView {
        backlog: 57,
        last_error: Some("the token has expired: put a new one into token_file".into()),
        next_attempt: Some(before(-180)),
        ..published()
    };

    let mut first = well();
    first.state = State::Starting;
    first.reason = "no remote has answered yet: token_file /run/token is empty".into();
    first.desired = None;
    first.running.commit = None;
    first.last_good = None;
    first.last_deployment = None;
    first.boot =
        BootView { default: None, commit: None, booted: None, reboot_required: false, why: None };
    first.remotes[0].reachable = false;
    first.remotes[0].last_success = None;
    first.remotes[0].error = Some("token_file /run/token is empty".into());
    first.notes = vec!["the journal was damaged and was made anew".into()];

    vec![
        ("in sync", well()),
        ("testing", testing),
        ("in sync, remotes with problems", stale),
        (
            "force-push",
            held(
                "force-push",
                json!({"remote": "origin", "branch": "release", "head": commit(2),
                    "accepted": commit(1), "rewind": false}),
                &format!("fort-agent accept {}", c(2)),
                &format!("release was force-pushed: {} does not descend from {}", c(2), c(1)),
            ),
        ),
        ("quarantined", quarantined),
        (
            "no such host",
            held(
                "no-such-host",
                json!({"hostname": "joker", "recipe": "flake .#x", "hosts": ["batman", "robin"]}),
                "push a commit that has this host, or correct hostname in the configuration",
                "the commit has no host joker",
            ),
        ),
        (
            "realising",
            Status {
                deployment: deploying(Stage::Realise, building),
                ..moving(State::Realising, &format!("building {}: 3 of 7 built", c(2)))
            },
        ),
        (
            "verifying",
            Status {
                deployment: deploying(Stage::Verify, verifying),
                next: Some(Next { action: NextAction::PutBack, at: before(-150) }),
                ..moving(
                    State::Verifying,
                    &format!("{} runs, but check web fails: connection refused", c(2)),
                )
            },
        ),
        ("backing off", rolled_back),
        (
            "rollback failed",
            Status {
                deployment: deploying(Stage::Rollback, json!({})),
                ..moving(
                    State::RollbackFailed,
                    &format!(
                        "the system before {0} could not be put back (once so far): \
                         switch-to-configuration test: exit code 2; {0} had failed: check web: \
                         refused",
                        c(2)
                    ),
                )
            },
        ),
        ("drift", drifted),
        ("blind", blind()),
        ("reboot required", reboot),
        ("left to the next boot", awaiting),
        ("a build that the host itself prevents", settings),
        (
            "unreachable",
            Status {
                state: State::Unreachable,
                reason: format!(
                    "{} runs; no remote answers: git.example.org: connection refused",
                    c(1)
                ),
                ..well()
            },
        ),
        ("first start", first),
        ("publishing", with_publish(sending)),
        ("not published", with_publish(refused)),
        ("about to be published", with_publish(PublishView { backlog: 1, ..published() })),
        ("published", with_publish(published())),
    ]
}

/// View of a system that is published in full.
fn published() -> PublishView {
    PublishView {
        backlog: 0,
        last_error: None,
        system: Some(system(1)),
        progress: None,
        next_attempt: None,
    }
}

fn with_publish(publish: PublishView) -> Status {
    Status { publish: Some(publish), ..well() }
}

#[test]
fn every_situation_is_answered_in_its_first_line() {
    let mut shown = String::new();
    for (situation, status) in situations() {
        shown.push_str(&format!("== {situation}\n{}\n", render(&status, &at(), PLAIN)));
    }
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    insta::assert_snapshot!(shown);
}

#[test]
fn nothing_is_wider_than_a_narrow_terminal_and_the_command_stays_whole() {
    for (situation, status) in situations() {
        let shown = render(&status, &at(), Look { width: 40, colour: false });
        assert!(shown.lines().all(|line| line.chars().count() <= 40), "{situation}: {shown}");
        if situation == "force-push" {
            let words: Vec<_> = shown.split_whitespace().collect();
            assert!(words.join(" ").contains("run fort-agent accept 3636363"), "{shown}");
        }
    }
}

#[test]
fn colours_are_only_where_they_are_understood() {
    let shown = render(&well(), &at(), Look { width: 80, colour: true });
    assert!(shown.starts_with("\x1b[32min sync with 1b1b1b1"), "{shown:?}");
    assert!(!render(&well(), &at(), PLAIN).contains('\x1b'));
}

#[test]
fn a_remote_cannot_write_to_the_terminal() {
    let mut status = well();
    status.remotes[0].error = Some("\x1b]0;owned\x07\nin sync".into());
    let shown = render(&status, &at(), PLAIN);
    assert!(!shown.contains('\x1b') && !shown.contains('\x07'), "{shown:?}");
    assert!(!shown.contains("\nin sync\n"), "{shown:?}");
}

#[test]
fn a_recorded_status_says_so_first() {
    assert_eq!(
        recorded(Some(before(200)), &at(), PLAIN),
        "the agent does not answer; last recorded 3 min ago:\n"
    );
}

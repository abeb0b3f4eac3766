//! Stories that once failed, as short as they could be made, and what broke.

use std::time::Duration;

use super::course::play;
use super::forge::{Activation, Build, Change, ERRNOS, Health};
use super::host::Who;
use super::story::{Event, FOR_EVER, Hand, Story};
use super::world::JobPoint;
use crate::policy::{
    Confirm, Drift, ForcePush, OnFailure, OnKernelChange, OnRollbackFailure, Operation, Policy,
    Specialisation,
};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;

fn policy() -> Policy {
    let seconds = Duration::from_secs;
    Policy {
        units: false,
        on_rollback_failure: OnRollbackFailure::Report,
        on_kernel_change: OnKernelChange::Switch,
        specialisation: Specialisation::Keep,
        reboots: false,
        publish: None,
        confirm: Confirm::No,
        drift: Drift::Report,
        hostname: "joker".into(),
        machine_id: None,
        remotes: vec!["origin".into()],
        release: "release".into(),
        testing: Some("release-joker-test".into()),
        operation: Operation::Switch,
        force_push: ForcePush::Refuse,
        recipe: "flake".into(),
        poll_interval: seconds(30),
        poll_jitter: seconds(0),
        retry_first: seconds(60),
        retry_max: seconds(240),
        activations: 3,
        activation_timeout: seconds(900),
        grace: seconds(10),
        health_timeout: seconds(60),
        health_remote: true,
        on_failure: OnFailure::Rollback,
    }
}

fn new(activation: Activation, health: Health) -> Change {
    Change::New { activation, flaky: 0, health, boots: true, kernel: false }
}

const GOOD: Health = Health::Good { rounds: 0 };
const WORKS: Activation = Activation::Works(0);

const SEEDS: u64 = 12;

/// Under every seed: what takes how long is left to chance.
fn holds(policy: &Policy, bare: bool, events: &[(u64, Event)]) {
    for seed in 0..SEEDS {
        let mut events = events.to_vec();
        events.push((MINUTE, Event::Rest));
        let story = Story { seed, policy: policy.clone(), bare, events };
        if play(&story, false).wrong.is_some() {
            panic!("{}", super::report(story));
        }
    }
}

fn boot_policy() -> Policy {
    Policy { operation: Operation::Boot, ..policy() }
}

/// The profile was put back and the boot loader was not: once the profile named
/// the old system nothing said that more was to be done.
#[test]
fn a_deferred_system_that_fails_after_its_boot_leaves_the_boot_loader() {
    let needs_reboot = new(Activation::NeedsReboot, Health::Bad);
    let story = [(0, Event::Rest), (MINUTE, Event::Push(needs_reboot))];
    holds(&policy(), false, &story);
    holds(&boot_policy(), false, &[(0, Event::Rest), (0, Event::Push(new(WORKS, Health::Bad)))]);
}

/// The system that awaited its boot was forgotten when something newer came, and was
/// the default, booted and never verified.
#[test]
fn what_awaited_its_boot_is_verified_even_if_something_newer_is_wanted() {
    let story = [
        (0, Event::Rest),
        (0, Event::Push(new(Activation::NeedsReboot, GOOD))),
        (5 * MINUTE, Event::Push(new(WORKS, Health::Bad))),
        (2 * SECOND, Event::PowerCut),
    ];
    holds(&policy(), false, &story);
    holds(&boot_policy(), false, &story);
}

/// A test of the very system that awaited its boot judged it bad, and it stayed
/// the default.
#[test]
fn what_awaits_its_boot_is_not_tested_before() {
    let story = [
        (0, Event::Rest),
        (0, Event::Push(new(WORKS, Health::Bad))),
        (5 * MINUTE, Event::Test { change: Change::Docs, on_release: true }),
        (5 * MINUTE, Event::Gc),
    ];
    holds(&boot_policy(), false, &story);
}

/// Back to a commit that was settled before: it counted as settled still,
/// though something else was the default by then.
#[test]
fn a_release_set_back_while_the_newer_one_awaits_its_boot_is_the_default_again() {
    let policy = Policy { force_push: ForcePush::Accept, ..boot_policy() };
    let story =
        [(0, Event::Rest), (0, Event::Push(new(WORKS, GOOD))), (5 * MINUTE, Event::Rewind(1))];
    holds(&policy, false, &story);
}

/// The same, with another hand in between.
#[test]
fn a_release_set_back_after_another_hand_is_activated_again() {
    let policy = Policy { force_push: ForcePush::Accept, ..policy() };
    let story = [
        (0, Event::Rest),
        (0, Event::Push(Change::Built(Build::Broken))),
        (2 * MINUTE, Event::Hand(Hand::RunningAndDefault)),
        (0, Event::Rewind(1)),
    ];
    holds(&policy, false, &story);
}

/// Drift of the default was reported as up to date.
#[test]
fn a_default_that_another_hand_made_is_drift() {
    holds(&policy(), false, &[(0, Event::Rest), (0, Event::Hand(Hand::Default))]);
}

/// The system to roll back to was collected as garbage while the candidate ran: nothing
/// kept it any more.
#[test]
fn what_another_hand_activated_can_be_put_back_after_a_collection() {
    let story = [
        (0, Event::Rest),
        (0, Event::Hand(Hand::Running)),
        (0, Event::Push(new(WORKS, Health::Bad))),
        (70 * SECOND, Event::Gc),
        (10 * SECOND, Event::Gc),
        (10 * SECOND, Event::Gc),
        (10 * SECOND, Event::Gc),
    ];
    holds(&policy(), false, &story);
}

/// The journal was rebuilt while a candidate was being judged, and took it for
/// the last good system.
#[test]
fn a_lost_journal_takes_no_candidate_for_good() {
    for after in [35, 45, 55, 65] {
        let story = [
            (0, Event::Rest),
            (0, Event::Push(new(WORKS, Health::Bad))),
            (after * SECOND, Event::LoseJournal),
        ];
        holds(&policy(), false, &story);
    }
}

/// With nothing to put back a half-activated system was left as it was, and
/// `retry` verified it without activating it again.
#[test]
fn a_half_done_system_on_a_bare_host_is_activated_again() {
    let half =
        Change::New { activation: WORKS, flaky: 1, health: GOOD, boots: true, kernel: false };
    let policy = Policy { activations: 1, ..policy() };
    holds(&policy, true, &[(0, Event::Push(half)), (0, Event::Rest)]);
}

/// The system that ran was restored, not the one that had been the default.
#[test]
fn a_failed_commit_puts_back_the_default_that_was() {
    let unbootable =
        Change::New { activation: WORKS, flaky: 0, health: GOOD, boots: false, kernel: false };
    let story = [(0, Event::Rest), (0, Event::Hand(Hand::Running)), (0, Event::Push(unbootable))];
    holds(&policy(), false, &story);
}

/// A reboot in the middle of putting back, into something that is neither the
/// candidate nor what ran before, was taken for another hand.
#[test]
fn a_reboot_into_the_default_is_no_other_hand() {
    let story = [
        (0, Event::Rest),
        (0, Event::Push(new(Activation::NeedsReboot, GOOD))),
        (5 * MINUTE, Event::ProfileFails(1)),
        (0, Event::Push(new(WORKS, GOOD))),
        (55 * SECOND, Event::PowerCut),
    ];
    holds(&policy(), false, &story);
}

/// The old system's activation broke off, and was taken for done because
/// current-system named it all along.
#[test]
fn putting_back_is_not_over_because_the_old_system_never_left() {
    let story = [
        (0, Event::Rest),
        (0, Event::OldFails(3)),
        (0, Event::Push(new(Activation::Broke(false), GOOD))),
        (5 * MINUTE, Event::Gc),
    ];
    holds(&policy(), false, &story);
}

/// A job that could not be started was ordered again at once, and again.
#[test]
fn a_job_that_cannot_be_started_is_not_tried_in_circles() {
    let story = [
        (0, Event::Rest),
        (0, Event::StartsFail(3)),
        (0, Event::Push(new(WORKS, GOOD))),
        (10 * MINUTE, Event::Push(new(Activation::NeedsReboot, GOOD))),
        (5 * MINUTE, Event::StartsFail(60)),
        (0, Event::PowerCut),
    ];
    holds(&policy(), false, &story);
}

/// Kills a guardian at any of its acts, and starts it again. This one has never failed.
#[test]
fn a_guardian_killed_anywhere_finishes() {
    let points =
        [JobPoint::BeforeAct, JobPoint::MidAct, JobPoint::AfterEffect, JobPoint::AfterNote];
    for point in points {
        for after in 0..10 {
            let story = [
                (0, Event::Rest),
                (0, Event::KillGuardian(point, after)),
                (0, Event::Push(new(WORKS, GOOD))),
            ];
            holds(&policy(), false, &story);
        }
    }
}

/// The exit code was that of the lock, and nobody held that: the guardian waited, and
/// then took the candidate that ran for another hand. What had been stopped stayed
/// stopped.
#[test]
fn a_switch_that_breaks_off_with_any_code_is_put_back() {
    for code in ERRNOS {
        for moved in [true, false] {
            let half = new(Activation::Half(code, moved), GOOD);
            holds(&policy(), false, &[(0, Event::Rest), (0, Event::Push(half))]);
        }
    }
}

/// The way back asked for the lock again and again, for as long as somebody held it.
#[test]
fn a_lock_that_is_never_let_go_ends_in_the_old_system() {
    let unbootable =
        Change::New { activation: WORKS, flaky: 0, health: GOOD, boots: false, kernel: false };
    for who in [Who::Root, Who::Stranger, Who::LeftBehind] {
        for (bad, after) in [(new(WORKS, Health::Bad), 20), (unbootable, 3)] {
            // Longer than two rungs: by then the old system runs, and only then it is let go.
            let story = [
                (0, Event::Rest),
                (0, Event::Push(bad)),
                (after * SECOND, Event::Locked(who, FOR_EVER)),
                (15 * MINUTE, Event::Gc),
            ];
            holds(&Policy { units: true, ..policy() }, false, &story);
        }
    }
}

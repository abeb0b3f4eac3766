//! Suspending, confirming, windows of time, going back, and drift.

mod rollback;

use std::time::Duration;

use super::fixture::{Scene, boot, commit, now, system, target};
use super::requests::ask;
use super::switching::Switch;
use crate::decide::{Due, Outlook, Step};
use crate::gates::{Gate, GateKind};
use crate::guardian::{Act, Phase};
use crate::job::{Ending, Generation, How, Restore, SwitchOrder};
use crate::memory::{Stuck, Subject};
use crate::observed::{Relation, Window};
use crate::policy::{Confirm, Drift, Operation};
use crate::request::{Prefix, Request};
use crate::status::{NextAction, State};

const HOUR: Duration = Duration::from_secs(3600);

fn confirm(text: &str) -> Request {
    Request::Confirm(Prefix::parse(text).unwrap())
}

fn suspend(lasts: Option<Duration>) -> Request {
    Request::Suspend { reason: "moving house".into(), lasts }
}

fn rollback() -> Request {
    Request::Rollback { to: None, reason: "too slow".into() }
}

fn rollback_to(commit: &str) -> Request {
    Request::Rollback { to: Some(Prefix::parse(commit).unwrap()), reason: String::new() }
}

/// Commit 2 is wanted and its system is there and may be activated.
fn ready() -> Scene {
    let mut scene = Scene::at_rest();
    scene.gives(0, Some(2), None);
    scene.relates(1, 2, Relation::Ahead);
    scene.describes(2, 2);
    scene.seen.rooting = false;
    assert!(matches!(scene.turn().step, Step::Follow { .. }));
    scene.passes(2);
    scene
}

/// The next step that is not about what is kept in the store.
fn step(scene: &mut Scene) -> Step {
    loop {
        let step = scene.turn().step;
        let Step::KeepRoots(roots) = step else { return step };
        scene.seen.roots = roots;
    }
}

/// The switch that is due; what it needs is kept in the store.
fn switch(scene: &mut Scene) -> SwitchOrder {
    let mut next = step(scene);
    if matches!(next, Step::AskToConfirm { .. }) {
        next = step(scene);
    }
    let Step::StartSwitch(order) = next else { panic!("{next:?}") };
    order
}

fn gate(scene: &Scene) -> Gate {
    let outlook = scene.decide().outlook;
    let Outlook::Gated(gate) = outlook else { panic!("{outlook:?}") };
    gate
}

#[test]
fn nothing_is_in_the_way_by_default() {
    let order = switch(&mut ready());
    assert_eq!((order.candidate, order.how), (system(2), How::Activate));
}

#[test]
fn a_suspended_host_gets_ready_and_activates_nothing() {
    let mut scene = ready();
    ask(&mut scene, &suspend(None)).unwrap();
    let reason = "moving house".to_owned();
    assert_eq!(gate(&scene), Gate::Suspended { until: None, reason });
    let status = scene.status();
    assert_eq!(status.state, State::Waiting);
    assert_eq!(
        status.reason,
        "2222222 is ready, but deployments are suspended, 1111111 runs: moving house"
    );
    assert_eq!(status.gate.unwrap().lift, "fort-agent resume");
    assert_eq!(status.suspended.unwrap().since, scene.now.wall);
    assert_eq!(ask(&mut scene, &Request::Resume).unwrap(), "resumed");
    switch(&mut scene);
    assert_eq!(ask(&mut scene, &Request::Resume).unwrap(), "nothing was suspended");
}

#[test]
fn a_suspension_ends_by_itself_and_not_by_a_reboot_or_a_wrong_clock() {
    let mut scene = ready();
    ask(&mut scene, &suspend(Some(HOUR))).unwrap();
    let until = scene.now.wall.plus(HOUR);
    assert_eq!(gate(&scene).opens(), Some(until));
    let Step::Wait { until: Some(wake) } = step(&mut scene) else { panic!() };
    assert!(wake <= scene.now.mono.plus(HOUR));

    // Whoever sets the clock ends nothing.
    let mut set = scene.clone();
    set.now.wall = set.now.wall.plus(48 * HOUR);
    set.fold();
    assert!(set.memory.gates.suspended.is_some());

    // The next boot, by a clock that is behind, and then right.
    let mut rebooted = scene.clone();
    rebooted.seen.boot_id = boot(2);
    rebooted.now.mono = now(5).mono;
    rebooted.now.wall = now(0).wall;
    rebooted.fold();
    assert_eq!(rebooted.status().suspended.unwrap().until, Some(until));
    rebooted.now.wall = until;
    rebooted.fold();
    assert_eq!(rebooted.memory.gates.suspended, None);

    scene.later(3600);
    scene.passes(2);
    switch(&mut scene);
    assert_eq!(scene.memory.gates.suspended, None);
}

#[test]
fn suspended_in_sync_is_no_state_of_its_own() {
    let mut scene = Scene::at_rest();
    ask(&mut scene, &suspend(Some(HOUR))).unwrap();
    let status = scene.status();
    assert_eq!(status.state, State::UpToDate);
    assert_eq!(status.reason, "1111111 runs and was verified; deployments are suspended");
    assert!(status.suspended.is_some() && status.gate.is_none());
}

#[test]
fn a_suspension_has_a_length_that_was_meant() {
    let mut scene = Scene::at_rest();
    for lasts in [Duration::ZERO, 366 * 24 * HOUR] {
        assert!(ask(&mut scene, &suspend(Some(lasts))).is_err(), "{lasts:?}");
    }
    let reason = format!("two\nlines {}", "x".repeat(500));
    ask(&mut scene, &Request::Suspend { reason, lasts: None }).unwrap();
    let kept = scene.memory.gates.suspended.unwrap().reason;
    assert!(kept.starts_with("two lines x") && kept.len() == 200, "{kept}");
}

#[test]
fn a_commit_waits_to_be_confirmed() {
    let mut scene = ready();
    scene.policy.confirm = Confirm::Manual;
    assert_eq!(step(&mut scene), Step::AskToConfirm { commit: commit(2) });
    assert_eq!(gate(&scene), Gate::Unconfirmed { until: None });
    let status = scene.status();
    let gate = status.gate.unwrap();
    assert_eq!((gate.kind, gate.commit), (GateKind::Confirm, commit(2)));
    assert_eq!(gate.lift, "fort-agent confirm 2222222");
    assert_eq!(status.reason, "2222222 is ready and waits to be confirmed, 1111111 runs");
    assert_eq!(ask(&mut scene, &confirm("2222222")).unwrap(), "2222222 is confirmed");
    assert_eq!(switch(&mut scene).candidate, system(2));
}

#[test]
fn what_is_confirmed_is_one_commit_and_no_other() {
    let mut scene = ready();
    scene.policy.confirm = Confirm::Manual;
    step(&mut scene);
    // A newer one has come.
    scene.gives(0, Some(3), None);
    scene.relates(1, 3, Relation::Ahead);
    scene.relates(2, 3, Relation::Ahead);
    scene.describes(3, 3);
    assert!(matches!(step(&mut scene), Step::Follow { .. }));
    scene.passes(3);
    let refused = ask(&mut scene, &confirm("2222222")).unwrap_err();
    assert_eq!(
        refused,
        "2222222 is not what is pending now; 3333333 is: fort-agent confirm 3333333"
    );
    assert_eq!(step(&mut scene), Step::AskToConfirm { commit: commit(3) });
    ask(&mut scene, &confirm("3333333")).unwrap();
    assert_eq!(switch(&mut scene).candidate, system(3));
}

#[test]
fn a_confirmation_without_a_question_is_refused() {
    let mut scene = ready();
    let refused = ask(&mut scene, &confirm("2222222")).unwrap_err();
    assert_eq!(refused, "no commit has to be confirmed: activation.confirm is \"no\"");
    let mut scene = Scene::at_rest();
    scene.policy.confirm = Confirm::Manual;
    let refused = ask(&mut scene, &confirm("1111111")).unwrap_err();
    assert_eq!(refused, "1111111 is in force already");
    let refused = ask(&mut scene, &confirm("2222222")).unwrap_err();
    assert_eq!(refused, "2222222 is not pending; 1111111 is in force, and nothing is");
}

#[test]
fn a_commit_goes_ahead_by_itself_after_its_time_of_one_boot() {
    let mut scene = ready();
    scene.policy.confirm = Confirm::After(HOUR);
    step(&mut scene);
    assert_eq!(gate(&scene).opens(), Some(scene.now.wall.plus(HOUR)));
    scene.later(1800);
    assert_eq!(gate(&scene).opens(), Some(scene.now.wall.plus(HOUR / 2)));
    // Nobody could look at it while the host was down.
    let mut rebooted = scene.clone();
    rebooted.seen.boot_id = boot(2);
    rebooted.fold();
    assert_eq!(step(&mut rebooted), Step::AskToConfirm { commit: commit(2) });
    assert_eq!(gate(&rebooted).opens(), Some(rebooted.now.wall.plus(HOUR)));

    scene.later(1800);
    scene.passes(2);
    assert_eq!(switch(&mut scene).candidate, system(2));
}

#[test]
fn what_was_confirmed_once_needs_no_second_word() {
    let mut scene = ready();
    scene.policy.confirm = Confirm::Manual;
    ask(&mut scene, &confirm("2222222")).unwrap();
    for digit in 3..=9 {
        scene.memory.gates.confirm(commit(digit));
    }
    scene.fold();
    switch(&mut scene);
}

#[test]
fn a_system_waits_for_its_window() {
    let mut scene = ready();
    let opens = scene.now.wall.plus(HOUR);
    scene.seen.deploy_window = Window { open: false, changes: Some(opens) };
    assert_eq!(gate(&scene), Gate::Window { opens: Some(opens) });
    let status = scene.status();
    assert_eq!(status.reason, "2222222 is ready and waits for a window, 1111111 runs");
    let next = status.next.unwrap();
    assert_eq!((next.action, next.at), (NextAction::Activate, opens));
    scene.seen.deploy_window = Window::ALWAYS;
    switch(&mut scene);
}

#[test]
fn a_closed_gate_hides_no_refusal_and_asks_once() {
    let mut scene = ready();
    scene.seen.preflight = None;
    ask(&mut scene, &suspend(None)).unwrap();
    assert_eq!(scene.decide().outlook, Outlook::Preflight(system(2)));
    scene.passes(2);
    scene.later(7200);
    assert!(matches!(scene.decide().outlook, Outlook::Gated(_)));
    // What is to be activated is looked at anew.
    ask(&mut scene, &Request::Resume).unwrap();
    assert_eq!(scene.decide().outlook, Outlook::Preflight(system(2)));
}

#[test]
fn the_same_system_again_passes_every_gate() {
    let mut scene = ready();
    scene.describes(2, 1);
    scene.policy.confirm = Confirm::Manual;
    ask(&mut scene, &suspend(None)).unwrap();
    assert!(matches!(step(&mut scene), Step::Settle { .. }));
}

#[test]
fn no_reboot_comes_while_suspended() {
    let mut scene = Scene::at_rest();
    scene.policy.reboots = true;
    scene.seen.reboot_why = Some("another kernel".into());
    let mut asks = scene.clone();
    asks.seen.rooting = true;
    assert_eq!(asks.turn().step, Step::LookAgainstReboot);
    ask(&mut scene, &suspend(None)).unwrap();
    assert!(matches!(scene.turn().step, Step::Wait { .. }));
}

#[test]
fn drift_is_left_alone_or_reverted() {
    let mut scene = Scene::at_rest();
    scene.seen.running = Some(system(7));
    scene.seen.rooting = false;
    assert_eq!(scene.decide().outlook, Outlook::Drift);
    scene.policy.drift = Drift::Revert;
    scene.passes(1);
    let order = switch(&mut scene);
    assert_eq!(
        (order.candidate, order.how, order.old),
        (system(1), How::Activate, Some(system(7)))
    );

    // Or only what boots.
    let mut scene = Scene::at_rest();
    scene.policy.drift = Drift::Revert;
    scene.seen.profile = Some(Generation { number: 2, system: system(7) });
    scene.seen.rooting = false;
    let order = switch(&mut scene);
    assert_eq!((order.candidate, order.how), (system(1), How::Verify));
}

#[test]
fn drift_is_not_reverted_while_suspended() {
    let mut scene = Scene::at_rest();
    scene.seen.running = Some(system(7));
    scene.policy.drift = Drift::Revert;
    scene.passes(1);
    ask(&mut scene, &suspend(None)).unwrap();
    assert!(matches!(gate(&scene), Gate::Suspended { .. }));
    assert!(scene.status().running.drift);
}

//! Suspending, confirming, windows of time, going back, and drift.

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

/// Commit 2 runs; system 1 was good before it.
fn after_a_deployment() -> Scene {
    let mut scene = ready();
    let order = switch(&mut scene);
    scene.seen.running = Some(system(2));
    scene.seen.profile = Some(Generation { number: 2, system: system(2) });
    scene.switched(order, Some(Ending::Good), false);
    assert_eq!(scene.decide().outlook, Outlook::InSync);
    scene
}

#[test]
fn a_person_gets_the_system_before_back() {
    let mut scene = after_a_deployment();
    ask(&mut scene, &suspend(None)).unwrap();
    let said = ask(&mut scene, &rollback()).unwrap();
    assert!(said.starts_with("going back from 2222222 to 1111111"), "{said}");
    let order = switch(&mut scene);
    assert_eq!((order.how.asked(), &order.candidate), (Some("too slow"), &system(2)));
    assert_eq!(order.old, Some(system(1)));
    assert_eq!(order.order.target.commit, commit(2));

    scene.seen.running = Some(system(1));
    scene.seen.profile = Some(Generation { number: 1, system: system(1) });
    scene.switched(order, Some(Ending::RolledBack), true);
    scene.fold();
    assert_eq!(scene.memory.gates.back, None);
    assert_eq!(scene.memory.last_good.as_ref().unwrap().system, system(1));
    assert_eq!(scene.memory.good_before, None);
    let trouble = scene.memory.trouble_with(&Subject::System { system: system(2) }).unwrap();
    assert_eq!(trouble.stuck, Some(Stuck::Quarantined));
    let status = scene.status();
    assert_eq!((status.state, status.running.drift), (State::Held, false));
    assert_eq!(status.running.commit, Some(commit(1)));
    // There is nothing before it.
    let refused = ask(&mut scene, &rollback()).unwrap_err();
    assert_eq!(refused, "no good system before this one is known");
    // Only a person brings it back.
    ask(&mut scene, &Request::Resume).unwrap();
    assert!(matches!(step(&mut scene), Step::Wait { .. }));
    ask(&mut scene, &Request::Retry(None)).unwrap();
    scene.passes(2);
    assert_eq!(switch(&mut scene).candidate, system(2));
}

#[test]
fn the_guardian_activates_what_a_person_wants_back() {
    let mut switch = Switch::new(Operation::Switch, Phase::Ready);
    switch.order.how = How::Restore(Restore::Asked { reason: String::new() });
    switch.order.running = Some(system(2));
    switch.order.how = How::Restore(Restore::Asked { reason: "too slow".into() });
    switch.sight.running = Some(system(2));
    assert_eq!(switch.next(), Act::ActivateOld(system(1)));
    let Phase::PuttingBack(back) = &switch.progress.phase else { panic!() };
    assert_eq!(back.cause, "rolled back by a person: too slow");
}

#[test]
fn going_back_survives_a_reboot_before_it_began() {
    let mut scene = after_a_deployment();
    ask(&mut scene, &rollback()).unwrap();
    let order = switch(&mut scene);
    scene.seen.boot_id = boot(2);
    scene.seen.booted = Some(system(2));
    scene.switched(order, Some(Ending::Interrupted), false);
    assert!(scene.memory.gates.back.is_some());
    let again = switch(&mut scene);
    assert_eq!(again.how.asked(), Some("too slow"));
}

#[test]
fn another_hand_ends_the_wish_to_go_back() {
    let mut scene = after_a_deployment();
    ask(&mut scene, &rollback()).unwrap();
    scene.seen.running = Some(system(7));
    scene.fold();
    assert_eq!(scene.memory.gates.back, None);
    let refused = ask(&mut scene, &rollback()).unwrap_err();
    assert!(refused.contains("was put there by another hand"), "{refused}");
}

#[test]
fn a_tested_system_is_left_for_the_default() {
    let mut scene = Scene::at_rest();
    scene.memory.target = Some(target(2, Operation::Test));
    scene.describes(2, 2);
    scene.seen.running = Some(system(2));
    scene.memory.put = Some(system(2));
    ask(&mut scene, &rollback()).unwrap();
    let Outlook::Due(due) = scene.decide().outlook else { panic!() };
    let Due::Switch(order) = due else { panic!() };
    assert_eq!((order.candidate, order.old), (system(2), Some(system(1))));
    assert_eq!(order.order.target.operation, Operation::Test);
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

#[test]
fn what_is_left_is_not_taken_for_the_system_of_a_commit() {
    // Another hand made it the default, and a reboot made it what runs.
    let mut scene = ready();
    scene.memory.systems.clear();
    scene.seen.running = Some(system(7));
    scene.seen.profile = Some(Generation { number: 7, system: system(7) });
    scene.memory.put = Some(system(7));
    ask(&mut scene, &rollback()).unwrap();
    let order = switch(&mut scene);
    assert_eq!((&order.candidate, &order.old), (&system(7), &Some(system(1))));
    scene.seen.running = Some(system(1));
    scene.switched(order, Some(Ending::RolledBack), true);
    assert_eq!(scene.memory.system_of(commit(2), &scene.policy.recipe), None);
}

#[test]
fn what_is_left_and_activated_again_by_another_hand_stays() {
    let mut switch = Switch::new(Operation::Switch, Phase::Ready);
    switch.order.how = How::Restore(Restore::Asked { reason: String::new() });
    switch.order.running = Some(system(2));
    switch.sight.running = Some(system(2));
    assert_eq!(switch.next(), Act::ActivateOld(system(1)));
    switch.sight.running = Some(system(1));
    switch.sight.last = Some(crate::guardian::Done::Exit(0));
    assert_eq!(switch.next(), Act::WriteOldBoot(system(1)));
    switch.sight.running = Some(system(2));
    switch.sight.last = Some(crate::guardian::Done::Exit(0));
    let Act::Finish(outcome) = switch.next() else { panic!() };
    assert_eq!(outcome.ending, Some(Ending::Superseded));
}

#[test]
fn leaving_a_system_is_no_test_of_its_commit() {
    let mut scene = Scene::at_rest();
    scene.seen.rooting = false;
    scene.memory.tested = Some(crate::memory::Tested { commit: commit(3), boot_id: boot(0) });
    // Another hand has made something else the default.
    scene.seen.profile = Some(Generation { number: 9, system: system(9) });
    scene.memory.good_before = Some(crate::memory::Good { system: system(8), verified: true });
    ask(&mut scene, &rollback()).unwrap();
    let order = switch(&mut scene);
    assert_eq!(order.order.target.operation, Operation::Test);
    assert_eq!(scene.memory.tested.unwrap().commit, commit(3));
}

/// Systems 1, 2 and 3 were found good, one after the other; commit 3 is tested.
fn after_three() -> Scene {
    let mut scene = after_a_deployment();
    scene.describes(3, 3);
    scene.memory.target = Some(target(3, Operation::Test));
    scene.gives(0, Some(2), Some(3));
    scene.relates(2, 3, Relation::Ahead);
    (scene.seen.running, scene.memory.put) = (Some(system(3)), Some(system(3)));
    scene
}

/// The way back was gone to its end.
fn is_back(scene: &mut Scene, which: u8) {
    let order = switch(scene);
    scene.seen.running = Some(system(which));
    scene.switched(order, Some(Ending::RolledBack), true);
    scene.fold();
}

#[test]
fn a_rollback_that_is_typed_twice_goes_one_back() {
    let mut scene = after_three();
    ask(&mut scene, &rollback()).unwrap();
    // Before it has begun, and when it is over.
    assert!(ask(&mut scene, &rollback()).unwrap_err().contains("less than a minute ago"));
    is_back(&mut scene, 2);
    let refused = ask(&mut scene, &rollback()).unwrap_err();
    assert!(refused.contains("to go on to 1111111, name it"), "{refused}");
    assert!(refused.ends_with("fort-agent rollback 1111111"), "{refused}");
    // Named it is meant, and after a minute it is no slip.
    let mut later = scene.clone();
    later.later(61);
    assert!(ask(&mut later, &rollback()).unwrap().starts_with("going back from 2222222 to 1111"));
    assert!(ask(&mut scene, &rollback_to("1111111")).is_ok());
    is_back(&mut scene, 1);
    assert_eq!(scene.seen.running, Some(system(1)));
}

#[test]
fn a_rollback_goes_to_the_commit_that_is_named_or_nowhere() {
    let mut scene = after_three();
    let said = ask(&mut scene, &rollback_to("1111111")).unwrap();
    assert!(said.starts_with("going back from 3333333 to 1111111"), "{said}");
    let order = switch(&mut scene);
    assert_eq!((order.candidate, order.old), (system(3), Some(system(1))));
    let mut scene = after_three();
    for (commit, why) in [
        ("3333333", "3333333 runs already"),
        ("7777777", "7777777 is no good system that is known; there is 2222222, 1111111"),
    ] {
        assert_eq!(ask(&mut scene, &rollback_to(commit)).unwrap_err(), why);
    }
    assert_eq!(scene.memory.gates.back, None);
}

#[test]
fn a_rollback_gives_the_default_back_where_a_system_awaits_its_boot() {
    for kept in [None, Some(1)] {
        let mut scene = ready();
        let order = switch(&mut scene);
        let named = kept.unwrap_or(2);
        scene.seen.profile = Some(Generation { number: named.into(), system: system(named) });
        let deployment = order.order.deployment.clone();
        scene.deferred(&order, kept);
        assert!(matches!(scene.decide().outlook, Outlook::AwaitsBoot { .. }));
        if kept.is_none() {
            scene.seen.disarmed = Some((system(2), scene.now.mono));
        }

        let said = ask(&mut scene, &rollback()).unwrap();
        assert!(said.starts_with("the default goes back from 2222222 to 1111111"), "{said}");
        scene.fold();
        let order = switch(&mut scene);
        assert_eq!((order.how.asked().is_some(), &order.candidate), (true, &system(2)));
        assert_eq!((&order.old, order.once), (&Some(system(1)), kept.is_some()));
        // It is the deferral that ends.
        assert_eq!(order.order.deployment, deployment);

        let mut guardian = Switch::new(Operation::Switch, Phase::Ready);
        (guardian.order, guardian.sight.profile) = (order.clone(), scene.seen.profile.clone());
        let acts: Vec<_> = [
            Some(crate::guardian::Done::Profile(Ok(()))),
            Some(crate::guardian::Done::Exit(0)),
            None,
        ]
        .into_iter()
        .map(|done| {
            let act = super::switching::words(guardian.next());
            if act == "put the profile back" {
                guardian.sight.profile = Some(Generation { number: 1, system: system(1) });
            }
            guardian.sight.last = done;
            act
        })
        .collect();
        // Nothing is activated.
        let expected =
            ["put the profile back", "write the old boot loader", "rolled-back, counted"];
        assert_eq!(acts, expected);

        scene.seen.profile = Some(Generation { number: 1, system: system(1) });
        scene.switched(order, Some(Ending::RolledBack), true);
        scene.fold();
        assert_eq!((scene.memory.awaiting.clone(), scene.memory.gates.back.clone()), (None, None));
        let status = scene.status();
        assert_eq!((status.state, status.running.drift), (State::Held, false));
        assert_eq!(status.boot.default, Some(system(1)));
        assert_eq!(scene.memory.history.last().unwrap().id, deployment);
    }
}

//! Rolling back as a person asks for it.

use super::*;

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
            let act = crate::tests::switching::words(guardian.next());
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

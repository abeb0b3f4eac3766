//! Changes that another hand made, and those that this agent takes for its own.

use super::fixture::{Scene, boot, commit, system, target};
use crate::decide::{Due, Outlook, Step};
use crate::job::{Ending, How};
use crate::observed::Relation;
use crate::policy::Operation;

#[test]
fn what_another_hand_ended_is_not_verified_when_it_comes_back() {
    let mut scene = Scene::at_rest();
    scene.wants_two();
    let order = scene.switch_order(2, 2, How::Activate);
    scene.seen.running = Some(system(7));
    scene.switched(order, Some(Ending::Superseded), false);
    assert!(!scene.memory.has_verified(&system(2)));
    assert_eq!(scene.decide().outlook, Outlook::Drift);
    // As after a reboot, if it was the default already.
    scene.seen.running = Some(system(2));
    scene.seen.profile.as_mut().unwrap().system = system(2);
    scene.passes(2);
    let Outlook::Due(due) = scene.decide().outlook else { panic!("not due") };
    let Due::Switch(order) = due else { panic!("not judged") };
    assert_eq!((order.candidate, order.old), (system(2), Some(system(1))));
}

#[test]
fn what_was_put_back_is_no_drift() {
    let mut scene = Scene::at_rest();
    scene.seen.running = Some(system(7));
    let order = scene.switch_order(2, 2, How::Activate);
    assert_eq!(order.old, Some(system(7)));
    scene.switched(order, Some(Ending::RolledBack), true);
    assert_eq!(scene.memory.put, Some(system(7)));
    assert!(!scene.status().running.drift);
}

#[test]
fn what_was_put_back_is_drift_if_another_hand_came_after() {
    let mut scene = Scene::at_rest();
    let order = scene.switch_order(2, 2, How::Activate);
    scene.seen.running = Some(system(7));
    scene.switched(order, Some(Ending::RolledBack), true);
    assert_eq!(scene.memory.put, Some(system(1)));
    assert!(scene.status().running.drift);
}

#[test]
fn after_a_boot_the_default_and_the_last_good_are_no_drift_and_another_choice_is() {
    for (booted, default, drift) in [(3, 3, false), (1, 3, false), (7, 3, true)] {
        let mut scene = Scene::at_rest();
        scene.memory.put = Some(system(9));
        scene.memory.settled = None;
        scene.seen.boot_id = boot(2);
        scene.seen.running = Some(system(booted));
        scene.seen.profile.as_mut().unwrap().system = system(default);
        scene.fold();
        assert_eq!(scene.status().running.drift, drift, "{booted}");
    }
}

#[test]
fn what_is_settled_is_kept_when_something_else_is_wanted_only_while_it_is_in_force() {
    let follow = |operation, running, default| {
        let mut scene = Scene::at_rest();
        scene.memory.settled.as_mut().unwrap().operation = operation;
        scene.seen.running = Some(system(running));
        scene.seen.profile.as_mut().unwrap().system = system(default);
        scene.gives(0, Some(2), None);
        scene.relates(1, 2, Relation::Ahead);
        assert!(matches!(scene.turn().step, Step::Follow { .. }));
        scene.memory.settled.is_some()
    };
    assert!(follow(Operation::Switch, 1, 1));
    assert!(!follow(Operation::Switch, 7, 1));
    assert!(!follow(Operation::Switch, 1, 7));
    assert!(follow(Operation::Test, 1, 7));
    assert!(!follow(Operation::Test, 7, 7));
}

#[test]
fn operations_are_written_as_they_are_read() {
    for operation in [Operation::Switch, Operation::Boot, Operation::Test] {
        let written = serde_json::to_string(&operation).unwrap();
        assert_eq!(written, format!("{:?}", operation.as_str()));
    }
}

#[test]
fn a_hand_that_switches_while_a_commit_is_built_came_later_than_it() {
    let mut scene = Scene::at_rest();
    scene.memory.boot_id = Some(super::fixture::boot(1));
    scene.memory.target = Some(target(2, Operation::Switch));
    scene.memory.accepted.as_mut().unwrap().commit = commit(2);
    scene.gives(0, Some(2), None);
    let Step::StartRealise(order) = scene.turn().step else { panic!("not begun") };
    let mut job = super::switching::realise_job(&order);
    job.life = crate::observed::Life::Running;
    scene.seen.jobs = vec![job];
    scene.fold();
    scene.seen.running = Some(system(7));
    scene.fold();
    assert_eq!(scene.memory.history.last().unwrap().verdict, Ending::Superseded);
    assert_eq!(scene.decide().outlook, Outlook::Drift);
    // Back where it was, what is wanted is still wanted.
    scene.seen.running = Some(system(1));
    scene.fold();
    assert!(!matches!(scene.decide().outlook, Outlook::Drift));
    // And the next commit is another matter.
    scene.seen.jobs.clear();
    scene.fold();
    scene.seen.running = Some(system(7));
    scene.fold();
    scene.gives(0, Some(3), None);
    scene.relates(2, 3, crate::observed::Relation::Ahead);
    assert!(matches!(scene.turn().step, Step::Follow { .. }));
    assert!(!matches!(scene.decide().outlook, Outlook::Drift));
}

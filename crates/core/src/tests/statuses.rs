//! Statuses, as people read them.

use super::fixture::{Scene, system};
use crate::remedy::Remedy;
use crate::status::State;

#[test]
fn states_are_shown_in_this_order() {
    let mut sorted = State::ALL;
    sorted.sort();
    assert_eq!(sorted, State::ALL);
    for state in State::ALL {
        let written = serde_json::to_string(&state).unwrap();
        assert_eq!(written, format!("{:?}", state.as_str()));
    }
    insta::assert_snapshot!(State::ALL.map(State::as_str).join(" > "));
}

#[test]
fn the_status_at_rest_reads_like_this() {
    let mut scene = Scene::at_rest();
    scene.fold();
    insta::assert_snapshot!(serde_json::to_string_pretty(&scene.status()).unwrap());
}

#[test]
fn another_machine_is_held_and_nothing_is_done() {
    let mut scene = Scene::at_rest();
    scene.policy.machine_id = Some("a".into());
    scene.seen.machine_id = Some("b".into());
    let shown = scene.status();
    assert_eq!(shown.state, State::Held);
    assert_eq!(shown.held.unwrap().cause.word(), "machine-id");
    scene.seen.machine_id = Some("a".into());
    assert_eq!(scene.status().state, State::UpToDate);
}

#[test]
fn no_answer_three_times_running_is_unreachable() {
    let mut scene = Scene::at_rest();
    scene.fails(0);
    scene.fails(1);
    scene.seen.remotes[1].failures = 2;
    assert_eq!(scene.status().state, State::UpToDate);
    scene.seen.remotes[1].failures = 3;
    let shown = scene.status();
    assert_eq!(shown.state, State::Unreachable);
    assert!(shown.reason.contains("no route to host"), "{}", shown.reason);
}

#[test]
fn what_to_do_is_told_of_the_remote_whose_error_is() {
    let mut scene = Scene::at_rest();
    scene.fails(0);
    scene.fails(1);
    let lift = |scene: &Scene| scene.status().lift.unwrap();
    assert_eq!(lift(&scene), "bring network or forge back; it is asked again by itself");
    scene.seen.remotes[0].remedy = Remedy::Token;
    scene.seen.remotes[1].remedy = Remedy::Url;
    assert_eq!(lift(&scene), "put a valid token there; it is read at every poll");
}

/// The others are told by tests that bring them about.
#[test]
fn the_manual_has_what_to_do_about_every_remote() {
    let manual = include_str!("../../../../docs/operations.md").replace('`', "");
    let manual = manual.split_whitespace().collect::<Vec<_>>().join(" ");
    for remedy in Remedy::ALL {
        assert!(manual.contains(remedy.lift()), "{remedy:?}: {}", remedy.lift());
    }
}

/// The first was given up before the second was ever asked.
#[test]
fn a_remote_that_was_not_asked_yet_may_answer() {
    let mut scene = Scene::at_rest();
    scene.fails(0);
    scene.seen.remotes[1] = crate::observed::Remote::default();
    assert_eq!(scene.status().state, State::UpToDate);
}

#[test]
fn another_kernel_in_the_default_requires_a_reboot_and_is_still_in_force() {
    let mut scene = Scene::at_rest();
    scene.seen.reboot_why = Some("another kernel".into());
    let shown = scene.status();
    assert_eq!(shown.state, State::RebootRequired);
    assert!(shown.boot.reboot_required && shown.in_sync());
    assert_eq!(shown.boot.default, Some(system(1)));
}

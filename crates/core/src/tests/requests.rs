//! Requests of a person, and when they are refused.

use super::fixture::{Scene, boot, commit, system};
use crate::decide::{Outlook, Step};
use crate::job::{Ending, How};
use crate::memory::Tested;
use crate::observed::Relation;
use crate::request::{Prefix, Request, answer};

pub(super) fn ask(scene: &mut Scene, request: &Request) -> Result<String, String> {
    let answered = answer(request, &scene.policy, &scene.memory, &scene.seen, scene.now);
    answered.map(|(memory, said)| {
        scene.memory = memory;
        said
    })
}

fn accept(text: &str) -> Request {
    Request::Accept(Prefix::parse(text).unwrap())
}

fn retry(text: &str) -> Request {
    Request::Retry(Some(Prefix::parse(text).unwrap()))
}

fn force_pushed() -> Scene {
    let mut scene = Scene::at_rest();
    scene.gives(0, Some(2), None);
    scene.relates(1, 2, Relation::Diverged);
    scene.gives(1, Some(1), None);
    scene
}

#[test]
fn an_accepted_head_is_followed_at_once_and_only_once() {
    let mut scene = force_pushed();
    assert_eq!(ask(&mut scene, &accept("2222222")).unwrap(), "2222222 is accepted");
    assert!(matches!(scene.turn().step, Step::Follow { .. }));
    assert_eq!(scene.memory.accepted.as_ref().unwrap().commit, commit(2));
    assert_eq!(scene.memory.allowed, None);
}

#[test]
fn a_rewind_can_be_accepted() {
    let mut scene = force_pushed();
    scene.relates(1, 2, Relation::Behind);
    assert!(ask(&mut scene, &accept("22222222")).is_ok());
    scene.turn();
    assert_eq!(scene.memory.target.unwrap().commit, commit(2));
}

#[test]
fn accepting_something_else_is_refused_with_what_waits() {
    let mut scene = force_pushed();
    let said = ask(&mut scene, &accept("3333333")).unwrap_err();
    assert_eq!(said, "3333333 is not waiting to be accepted; 2222222 is");
    let said = ask(&mut scene, &accept("1111111")).unwrap_err();
    assert_eq!(said, "1111111 is the accepted head already");
    let mut scene = Scene::at_rest();
    let said = ask(&mut scene, &accept("3333333")).unwrap_err();
    assert_eq!(said, "3333333 is not waiting to be accepted; no head is");
    assert_eq!(scene.memory.allowed, None);
}

#[test]
fn a_prefix_has_seven_to_forty_digits() {
    for bad in ["", "123456", "12345g7", &"1".repeat(41)] {
        assert!(Prefix::parse(bad).unwrap_err().contains("7 to 40"), "{bad}");
    }
    assert!(Prefix::parse("ABCDEF0").unwrap().matches(commit_of("abcdef0")));
    assert!(!Prefix::parse("ABCDEF1").unwrap().matches(commit_of("abcdef0")));
    assert_eq!(Prefix::parse("ABCDEF0").unwrap().to_string(), "abcdef0");
}

fn commit_of(first: &str) -> crate::types::Commit {
    format!("{first}{}", "0".repeat(40 - first.len())).parse().unwrap()
}

fn failed_twice() -> Scene {
    let mut scene = Scene::at_rest();
    scene.policy.activations = 1;
    scene.wants_two();
    let order = scene.switch_order(2, 2, How::Activate);
    scene.switched(order, Some(Ending::RolledBack), true);
    scene
}

#[test]
fn retry_lifts_a_quarantine() {
    let mut scene = failed_twice();
    assert!(matches!(scene.decide().outlook, Outlook::Stuck(_)));
    assert_eq!(ask(&mut scene, &Request::Retry(None)).unwrap(), "tried again now");
    scene.passes(2);
    assert!(matches!(scene.decide().outlook, Outlook::Due(_)));
    assert_eq!(scene.memory.trouble_with(&subject(2)), None);
}

#[test]
fn retry_of_a_commit_lifts_what_is_held_back_for_it_alone() {
    let mut scene = failed_twice();
    let said = ask(&mut scene, &retry("3333333")).unwrap_err();
    assert_eq!(said, "nothing is held back for 3333333");
    assert!(scene.memory.trouble_with(&subject(2)).is_some());
    assert!(ask(&mut scene, &retry("2222222")).is_ok());
    assert_eq!(scene.memory.trouble_with(&subject(2)), None);
}

#[test]
fn retry_with_nothing_held_back_says_so() {
    let mut scene = Scene::at_rest();
    assert_eq!(ask(&mut scene, &Request::Retry(None)).unwrap(), "nothing is held back");
}

#[test]
fn retry_tries_a_testing_head_again_that_a_reboot_has_undone() {
    let mut scene = Scene::at_rest();
    scene.gives(0, Some(1), Some(2));
    scene.relates(1, 2, Relation::Ahead);
    scene.memory.tested = Some(Tested { commit: commit(2), boot_id: boot(7) });
    assert_eq!(ask(&mut scene, &retry("3333333")).ok(), None);
    assert!(ask(&mut scene, &retry("2222222")).is_ok());
    scene.turn();
    assert_eq!(scene.memory.target.unwrap().commit, commit(2));
}

fn subject(digit: u8) -> crate::memory::Subject {
    crate::memory::Subject::System { system: system(digit) }
}

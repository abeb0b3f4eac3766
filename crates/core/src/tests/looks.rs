//! Checks before an activation, and the three looks for a remote.

use super::fixture::{Scene, boot, commit, system};
use crate::cause::SwitchCause;
use crate::decide::{Outlook, Step};
use crate::job::{Check, Ending, How, Refusal, RefusalCause, SwitchOutcome};
use crate::memory::{Stuck, Subject};
use crate::observed::{Look, Preflight};
use crate::request::{Prefix, Request, answer};
use crate::status::{NextAction, State};

fn subject() -> Subject {
    Subject::System { system: system(2) }
}

/// System 2 is to run, nothing is known of it yet, and every root is kept.
fn ready() -> Scene {
    let mut scene = Scene::at_rest();
    scene.wants_two();
    scene
}

fn refuse(scene: &mut Scene, cause: RefusalCause) {
    let evidence = [("free".into(), "1 MiB".into())].into();
    let refusal = Some(Refusal { cause, detail: "it does not fit".into(), evidence });
    let needs_agent = scene.policy.units;
    scene.seen.preflight = Some(Preflight {
        system: system(2),
        needs_agent,
        writes_boot: true,
        ended: scene.now.mono,
        refusal,
        deferral: None,
    });
}

/// System 2 was put back because no remote answered from it.
fn lost(scene: &mut Scene) {
    let order = scene.switch_order(2, 2, How::Activate);
    let check = |name: &str, ok| Check {
        name: name.into(),
        ok,
        detail: "no answer".into(),
        required: true,
        ..Check::default()
    };
    let outcome = SwitchOutcome {
        ending: Some(Ending::RolledBack),
        cause: Some("check remote: no answer".into()),
        why: Some(Box::new(SwitchCause::RemotesLost {
            name: "remote".into(),
            detail: "no answer".into(),
        })),
        counts: true,
        stages: Default::default(),
        checks: vec![check("web", true), check("remote", false)],
        deferred: false,
        kept: None,
    };
    scene.seen.jobs = vec![super::switching::job(&order, Some(outcome))];
    scene.fold();
    scene.seen.jobs.clear();
    assert!(scene.memory.experiment.is_some());
    assert!(matches!(scene.decide().outlook, Outlook::Experiment(_)));
}

fn look(scene: &mut Scene, reached: bool, network: Option<bool>) {
    let now = scene.now.mono;
    let detail = "a look".into();
    scene.seen.look = Some(Look { began: now, ended: now, reached, network, detail });
}

fn failures(scene: &Scene) -> u32 {
    scene.memory.trouble_with(&subject()).map_or(0, |trouble| trouble.failures)
}

#[test]
fn an_activation_waits_for_a_preflight_and_for_a_remote_that_answers() {
    let mut scene = ready();
    let Step::Preflight { system: asked, needs_agent, .. } = scene.decide().step else {
        panic!("not looked at")
    };
    assert_eq!((asked, needs_agent), (system(2), false));
    scene.passes(2);
    scene.seen.look = None;
    assert_eq!(scene.decide().step, Step::Look);
    look(&mut scene, false, None);
    let decision = scene.decide();
    assert_eq!(decision.outlook, Outlook::AwaitsRemote);
    assert!(matches!(decision.step, Step::Wait { until: Some(_) }));
    scene.later(6);
    assert_eq!(scene.decide().step, Step::Look);
    look(&mut scene, true, None);
    assert!(matches!(scene.decide().outlook, Outlook::Due(_)));
    // An old look says nothing about now.
    scene.later(90);
    scene.gives(0, Some(2), None);
    assert!(matches!(scene.decide().outlook, Outlook::Preflight(_)));
}

#[test]
fn what_a_preflight_refuses_is_held_and_looked_at_again() {
    let mut scene = ready();
    refuse(&mut scene, RefusalCause::DiskSpace);
    let shown = scene.status();
    assert_eq!(shown.state, State::Held);
    let held = shown.held.unwrap();
    assert_eq!(
        (held.cause.word(), held.cause.evidence()["free"].as_str()),
        ("disk-space", Some("1 MiB"))
    );
    assert!(matches!(scene.decide().step, Step::Wait { until: Some(_) }));
    assert_eq!(shown.next.unwrap().action, NextAction::Preflight);
    scene.later(61);
    scene.gives(0, Some(2), None);
    assert!(matches!(scene.decide().step, Step::Preflight { .. }));
    assert_eq!(failures(&scene), 0, "nobody failed");
}

#[test]
fn a_system_without_an_agent_is_refused_until_a_person_accepts_it() {
    let mut scene = ready();
    scene.policy.units = true;
    refuse(&mut scene, RefusalCause::NoAgent);
    let held = scene.status().held.unwrap();
    assert_eq!((held.cause.word(), held.lift.contains("fort-agent accept")), ("no-agent", true));
    let prefix = Prefix::parse(&commit(2).prefix(12)).unwrap();
    let request = Request::Accept(prefix);
    let (memory, _) =
        answer(&request, &scene.policy, &scene.memory, &scene.seen, scene.now).unwrap();
    scene.memory = memory;
    let Step::Preflight { needs_agent, .. } = scene.decide().step else { panic!("not again") };
    assert!(!needs_agent);
}

#[test]
fn reachable_again_from_the_old_system_it_broke_the_network() {
    let mut scene = ready();
    scene.policy.activations = 1;
    lost(&mut scene);
    assert_eq!(scene.decide().step, Step::Look);
    look(&mut scene, true, None);
    scene.fold();
    assert_eq!(failures(&scene), 1);
    let stuck = scene.memory.trouble_with(&subject()).unwrap().stuck.clone();
    assert_eq!(stuck, Some(Stuck::Quarantined));
}

#[test]
fn a_forge_that_was_away_counts_against_nobody() {
    let mut scene = ready();
    lost(&mut scene);
    look(&mut scene, false, Some(true));
    scene.fold();
    assert!(scene.memory.experiment.is_some(), "the network may still be coming back");
    scene.later(61);
    look(&mut scene, false, Some(true));
    scene.fold();
    assert!(scene.memory.experiment.is_none());
    assert_eq!(failures(&scene), 0);
}

#[test]
fn what_cannot_be_told_counts_from_the_second_time_on() {
    let mut scene = ready();
    for (round, expected) in [(1, 0), (2, 1), (3, 2)] {
        lost(&mut scene);
        scene.later(61);
        look(&mut scene, false, [None, Some(false), None][round - 1]);
        scene.fold();
        assert_eq!(failures(&scene), expected, "round {round}");
    }
}

#[test]
fn a_reboot_in_between_is_one_of_those_that_cannot_be_told() {
    let mut scene = ready();
    lost(&mut scene);
    scene.seen.boot_id = boot(2);
    look(&mut scene, true, None);
    scene.fold();
    assert!(scene.memory.experiment.is_none());
    assert_eq!(failures(&scene), 0);
}

#[test]
fn a_forge_that_is_away_each_time_is_not_away() {
    let mut scene = ready();
    for _ in 0..9 {
        lost(&mut scene);
        scene.later(61);
        look(&mut scene, false, Some(true));
        scene.fold();
    }
    assert!(failures(&scene) > 0);
}

#[test]
fn a_retry_lifts_what_is_still_being_found_out() {
    let mut scene = ready();
    lost(&mut scene);
    let request = Request::Retry(None);
    let (memory, said) =
        answer(&request, &scene.policy, &scene.memory, &scene.seen, scene.now).unwrap();
    assert_eq!(said, "tried again now");
    scene.memory = memory;
    look(&mut scene, true, None);
    scene.fold();
    assert_eq!(failures(&scene), 0);
}

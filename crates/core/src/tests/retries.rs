//! Rule 6: what is tried again, when, and how often.

use std::time::Duration;

use serde_json::Value;

use super::fixture::{Scene, commit, now, system, target};
use crate::decide::{Outlook, Step};
use crate::job::{Ending, How, Realised, Refusal, RefusalCause};
use crate::memory::{Stuck, Subject};
use crate::policy::Operation;
use crate::types::Wall;

/// Commit 2 is wanted and its system not known.
fn wanted() -> Scene {
    let mut scene = Scene::at_rest();
    scene.memory.target = Some(target(2, Operation::Switch));
    scene.memory.accepted.as_mut().unwrap().commit = commit(2);
    scene.gives(0, Some(2), None);
    scene
}

fn failed(cause: &str) -> Realised {
    Realised::Failed { cause: cause.into(), tail: String::new(), fault: None }
}

fn pause(scene: &Scene) -> u64 {
    let Outlook::BackingOff(trouble) = scene.decide().outlook else { panic!("not backing off") };
    scene.now.wall.until(trouble.not_before).as_secs()
}

#[test]
fn a_commit_that_cannot_be_realised_is_retried_at_doubling_pauses_without_end() {
    let mut scene = wanted();
    let mut pauses = Vec::new();
    for attempt in 1..=8 {
        let Step::StartRealise(order) = scene.turn().step else { panic!("not tried again") };
        assert_eq!(order.attempt, attempt);
        scene.realised(failed("the cache is away"));
        assert_eq!(scene.memory.history.last().unwrap().verdict, Ending::Failed);
        pauses.push(pause(&scene));
        assert!(matches!(scene.decide().step, Step::Wait { .. }));
        scene.later(pauses.last().unwrap() - 1);
        assert!(matches!(scene.decide().outlook, Outlook::BackingOff(_)));
        scene.later(1);
    }
    assert_eq!(pauses, [60, 120, 240, 480, 960, 1920, 1920, 1920]);
}

/// The first says the least of them.
#[test]
fn a_cause_of_several_lines_is_told_whole() {
    let mut scene = wanted();
    scene.turn();
    scene.realised(failed("Failed assertions:\n- services.a.enable needs\n  services.b\n\n"));
    let reason = scene.status().reason;
    assert!(
        reason.ends_with(": Failed assertions: - services.a.enable needs services.b"),
        "{reason}"
    );
}

#[test]
fn a_build_that_works_is_forgiven_what_failed_before() {
    let mut scene = wanted();
    scene.turn();
    scene.realised(failed("the cache is away"));
    scene.later(60);
    scene.turn();
    scene.realised(Realised::Built { system: system(2) });
    assert!(scene.memory.troubles.is_empty());
    assert_eq!(scene.memory.system_of(commit(2), "flake"), Some(&system(2)));
}

#[test]
fn a_commit_without_this_host_is_held_and_not_tried_again() {
    let mut scene = wanted();
    scene.turn();
    scene.realised(Realised::NoSuchHost { hosts: vec!["batman".into()] });
    let held = scene.status().held.unwrap();
    assert_eq!(held.cause.word(), "no-such-host");
    assert_eq!(held.cause.evidence()["hosts"][0], "batman");
    scene.later(100_000);
    assert!(matches!(scene.decide().outlook, Outlook::Stuck(_)));
}

#[test]
fn a_commit_that_does_not_pin_its_inputs_is_held_and_not_tried_again() {
    let mut scene = wanted();
    scene.turn();
    let evidence = [("inputs", "nixpkgs"), ("mend", "run nix flake lock")];
    let refusal = Refusal {
        cause: RefusalCause::LockIncomplete,
        detail: "flake.lock does not pin the input nixpkgs".into(),
        evidence: evidence.map(|(name, value)| (name.into(), value.into())).into(),
    };
    scene.realised(Realised::Refused { refusal });
    assert_eq!(scene.memory.history.last().unwrap().verdict, Ending::Failed);
    let status = scene.status();
    let held = status.held.unwrap();
    assert_eq!(
        (held.cause.word(), &held.cause.evidence()["inputs"]),
        ("lock-incomplete", &"nixpkgs".into())
    );
    assert!(status.reason.contains("does not pin the input nixpkgs"), "{}", status.reason);
    assert!(held.lift.starts_with("run nix flake lock, commit"), "{}", held.lift);
    scene.later(100_000);
    assert!(matches!(scene.decide().outlook, Outlook::Stuck(_)));

    // An earlier version that is put back reads all but why.
    let written = serde_json::to_value(&scene.memory).unwrap();
    let trouble = &written["troubles"][0];
    assert_eq!(
        (&trouble["refusal"], &trouble["stuck"]["is"]),
        (&Value::Null, &"quarantined".into())
    );
    // Another commit is another matter.
    scene.memory.target = Some(target(3, Operation::Switch));
    scene.memory.accepted.as_mut().unwrap().commit = commit(3);
    scene.gives(0, Some(3), None);
    assert!(matches!(scene.turn().step, Step::StartRealise(_)));
}

#[test]
fn a_realise_job_that_was_killed_counts_but_not_one_that_a_reboot_ended() {
    for (boots, failures) in [(1, 1), (2, 0)] {
        let mut scene = wanted();
        let Step::StartRealise(order) = scene.turn().step else { panic!("not begun") };
        scene.seen.boot_id = super::fixture::boot(boots);
        scene.seen.jobs = vec![super::switching::realise_job(&order)];
        scene.fold();
        assert_eq!(scene.memory.history.last().unwrap().verdict, Ending::Interrupted);
        assert_eq!(scene.memory.troubles.len(), failures);
    }
}

#[test]
fn a_realise_job_that_another_hand_stopped_is_repeated_soon_and_not_counted() {
    let mut scene = wanted();
    scene.turn();
    scene.realised(Realised::Cancelled);
    assert_eq!(scene.memory.history.last().unwrap().verdict, Ending::Interrupted);
    assert_eq!(pause(&scene), 5);
    assert_eq!(scene.memory.troubles[0].failures, 0);
}

fn switch_fails(scene: &mut Scene, counts: bool) {
    scene.describes(2, 2);
    scene.memory.deployment = None;
    scene.now = now(scene.now.mono.as_millis() / 1000 + 1);
    let order = scene.switch_order(2, 2, How::Activate);
    let ending = if counts { Ending::RolledBack } else { Ending::Failed };
    scene.switched(order, Some(ending), counts);
}

#[test]
fn a_system_that_fails_is_retried_at_that_pace_and_then_quarantined() {
    let mut scene = wanted();
    for expected in [60, 120] {
        switch_fails(&mut scene, true);
        assert_eq!(pause(&scene), expected);
        scene.later(expected);
    }
    switch_fails(&mut scene, true);
    let shown = scene.status();
    assert_eq!(shown.held.unwrap().cause.word(), "quarantined");
    assert_eq!(shown.quarantine[0].failures, 3);
    assert_eq!(shown.quarantine[0].system, system(2));
    scene.later(1_000_000);
    assert!(matches!(scene.decide().outlook, Outlook::Stuck(_)));
}

#[test]
fn what_was_nobodys_fault_is_repeated_soon_and_never_quarantined() {
    let mut scene = wanted();
    for _ in 0..9 {
        switch_fails(&mut scene, false);
        assert_eq!(pause(&scene), 5);
        scene.later(5);
    }
}

#[test]
fn a_killed_guardian_makes_no_system_suspect_and_a_bad_verdict_does() {
    let mut scene = wanted();
    scene.describes(2, 2);
    let found_bad = |scene: &Scene| scene.memory.troubles.iter().any(|it| it.found_bad);
    let order = scene.switch_order(2, 2, How::Activate);
    scene.switched(order, Some(Ending::Interrupted), true);
    assert_eq!((scene.memory.troubles[0].failures, found_bad(&scene)), (1, false));
    scene.later(60);
    switch_fails(&mut scene, true);
    assert!(found_bad(&scene));
    // It stays so, whatever comes next.
    scene.later(120);
    switch_fails(&mut scene, false);
    assert!(found_bad(&scene));
}

#[test]
fn another_system_starts_afresh_and_the_same_one_stays_quarantined() {
    let mut scene = wanted();
    scene.policy.activations = 1;
    switch_fails(&mut scene, true);
    // A docs-only commit has the same system.
    scene.memory.target = Some(target(3, Operation::Switch));
    scene.memory.accepted.as_mut().unwrap().commit = commit(3);
    scene.gives(0, Some(3), None);
    assert!(matches!(scene.turn().step, Step::StartRealise(_)));
    scene.realised(Realised::Built { system: system(2) });
    assert!(matches!(scene.turn().step, Step::GiveUp { .. }));
    assert!(matches!(scene.turn().outlook, Outlook::Stuck(_)));
    assert_eq!(scene.memory.history.last().unwrap().verdict, Ending::Failed);
    scene.describes(3, 4);
    scene.passes(4);
    assert!(matches!(scene.decide().outlook, Outlook::Due(_)));
}

#[test]
fn a_pause_from_another_clock_is_over() {
    let mut scene = wanted();
    switch_fails(&mut scene, true);
    scene.now.wall = Wall::from_millis(0);
    scene.passes(2);
    assert!(matches!(scene.decide().outlook, Outlook::Due(_)));
}

#[test]
fn a_good_ending_forgets_the_failures() {
    let mut scene = wanted();
    switch_fails(&mut scene, true);
    scene.later(60);
    let order = scene.switch_order(2, 2, How::Activate);
    scene.switched(order, Some(Ending::Good), false);
    assert_eq!(scene.memory.trouble_with(&Subject::System { system: system(2) }), None);
    assert_eq!(scene.memory.last_good.as_ref().unwrap().system, system(2));
    assert_eq!(scene.memory.good_before.as_ref().unwrap().system, system(1));
}

#[test]
fn chance_shortens_a_pause_by_a_tenth_at_most() {
    let mut scene = wanted();
    scene.seen.luck = crate::backoff::Luck(u16::MAX);
    switch_fails(&mut scene, true);
    assert_eq!(pause(&scene), 54);
}

#[test]
fn an_uncounted_failure_does_not_lift_a_quarantine() {
    let mut scene = wanted();
    scene.policy.activations = 1;
    switch_fails(&mut scene, true);
    switch_fails(&mut scene, false);
    let trouble = scene.memory.trouble_with(&Subject::System { system: system(2) }).unwrap();
    assert_eq!((trouble.failures, &trouble.stuck), (1, &Some(Stuck::Quarantined)));
}

#[test]
fn a_remote_that_fails_is_asked_less_and_less_often() {
    let mut scene = Scene::at_rest();
    scene.policy.remotes.truncate(1);
    scene.seen.remotes.truncate(1);
    let mut pauses = Vec::new();
    for failures in 0..6 {
        scene.seen.remotes[0].failures = failures;
        scene.seen.remotes[0].asked = Some(scene.now.mono);
        let next = scene.decide().next_poll.unwrap();
        pauses.push(next.since(scene.now.mono).as_secs());
    }
    assert_eq!(pauses, [30, 30, 60, 120, 240, 300]);
    scene.seen.remotes[0].wanted = true;
    assert!(matches!(scene.decide().step, Step::Poll { remote: 0, .. }));
    scene.seen.remotes[0] = Default::default();
    assert!(matches!(scene.decide().step, Step::Poll { remote: 0, .. }));
    assert_eq!(Duration::ZERO, scene.policy.poll_jitter);
}

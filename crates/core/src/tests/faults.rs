//! Faults, by whose matter a failure is, and the reservations of a verdict that is good.

use std::time::Duration;

use super::fixture::{Scene, boot, commit, now, target};
use crate::decide::Step;
use crate::fault::Fault;
use crate::guardian::{Phase, Progress, WayBack};
use crate::job::{Check, Ending, How, JobId, JobKind, RealiseOutcome, Realised, Verdict};
use crate::memory::Memory;
use crate::observed::{Job, Life, Remains, Round, Work};
use crate::policy::Operation;
use crate::status::State;

/// Commit 2 is wanted, and its realise job was started.
fn realising() -> Scene {
    let mut scene = Scene::at_rest();
    scene.memory.target = Some(target(2, Operation::Switch));
    scene.memory.accepted.as_mut().unwrap().commit = commit(2);
    scene.gives(0, Some(2), None);
    assert!(matches!(scene.turn().step, Step::StartRealise(_)));
    scene
}

fn failed(fault: Fault, said: &str) -> Realised {
    Realised::Failed { cause: fault.told(said), tail: String::new(), fault: Some(fault) }
}

#[test]
fn what_the_host_prevents_is_lifted_on_the_host_and_not_by_a_commit() {
    let mut scene = realising();
    scene.realised(failed(Fault::NixSettings, "option 'sandbox' has invalid value 'maybe'"));
    let shown = scene.status();
    assert_eq!(shown.state, State::BackingOff);
    assert!(shown.reason.contains("Nix cannot read its settings: option"), "{}", shown.reason);
    let lift = shown.lift.unwrap();
    assert_eq!(lift, "correct nix.conf, or [nix] options; then fort-agent retry 2222222");
    let entry = scene.memory.history.last().unwrap();
    assert_eq!((entry.verdict, entry.fault), (Ending::Failed, Some(Fault::NixSettings)));
    // What a commit mends says so as ever.
    let mut scene = realising();
    scene.realised(failed(Fault::Evaluation, "the moon is not full"));
    assert!(scene.status().lift.unwrap().ends_with("or push a commit that mends it"));
}

#[test]
fn a_memory_from_before_there_were_faults_is_read() {
    let mut scene = realising();
    scene.realised(failed(Fault::Memory, "nix, while evaluating"));
    let mut old = serde_json::to_value(&scene.memory).unwrap();
    for entry in old["history"].as_array_mut().unwrap() {
        entry.as_object_mut().unwrap().remove("fault");
    }
    old["troubles"][0].as_object_mut().unwrap().remove("fault").unwrap();
    let read: Memory = serde_json::from_value(old).unwrap();
    assert!(read.troubles[0].fault.is_none() && read.history.last().unwrap().fault.is_none());
    // And one from a newer agent that tells more apart.
    let mut newer = serde_json::to_value(&scene.memory).unwrap();
    newer["troubles"][0]["fault"] = "tide-is-low".into();
    let read: Memory = serde_json::from_value(newer).unwrap();
    assert_eq!(read.troubles[0].fault, Some(Fault::Other));
}

/// How the deployment ended whose realise job ended without an outcome.
fn without_outcome(remains: Remains, unstarted: Option<&str>) -> (String, Option<Fault>) {
    let mut scene = realising();
    let deployment = scene.memory.deployment.clone().unwrap();
    let order = scene.order(2, Operation::Switch);
    scene.seen.jobs = vec![Job {
        id: deployment.job.unwrap(),
        life: Life::Ended,
        stopping: false,
        resumed: None,
        unstarted: unstarted.map(str::to_owned),
        remains,
        work: Work::Realise { order, progress: None, outcome: None },
    }];
    scene.fold();
    let entry = scene.memory.history.last().unwrap();
    assert_eq!(entry.verdict, Ending::Interrupted);
    assert_eq!(scene.memory.troubles[0].fault, entry.fault);
    (entry.cause.clone().unwrap(), entry.fault)
}

#[test]
fn only_a_job_that_was_at_work_was_killed() {
    let (cause, fault) = without_outcome(Remains::Begun, None);
    assert_eq!((cause.as_str(), fault), ("the realise job was killed", Some(Fault::JobKilled)));
    let (cause, fault) =
        without_outcome(Remains::NotBegun, Some("the system bus: connection refused"));
    assert_eq!(cause, "the realise job could not be started: the system bus: connection refused");
    assert_eq!(fault, Some(Fault::JobNotBegun));
    let (cause, _) = without_outcome(Remains::NotBegun, None);
    assert_eq!(cause, "the realise job never began");
    let (cause, fault) =
        without_outcome(Remains::Unwritten("No space left on device".into()), None);
    assert_eq!(cause, "what came of the realise job could not be written: No space left on device");
    assert_eq!(fault, Some(Fault::StateDir));
}

#[test]
fn a_job_that_went_down_with_its_host_was_not_killed() {
    let mut scene = realising();
    let deployment = scene.memory.deployment.clone().unwrap();
    let order = scene.order(2, Operation::Switch);
    scene.seen.boot_id = boot(9);
    scene.seen.jobs = vec![Job {
        id: deployment.job.unwrap(),
        life: Life::Ended,
        stopping: false,
        resumed: None,
        unstarted: None,
        remains: Remains::Begun,
        work: Work::Realise { order, progress: None, outcome: None },
    }];
    scene.fold();
    let entry = scene.memory.history.last().unwrap();
    let cause = entry.cause.as_deref();
    assert_eq!(cause, Some("the host went down before the realise job had ended"));
    assert_eq!(entry.fault, None);
}

#[test]
fn a_job_that_found_no_room_for_its_directory_says_so() {
    let mut scene = realising();
    scene.seen.unwritten = Some("cannot start to realise it: No space left on device".into());
    scene.fold();
    let entry = scene.memory.history.last().unwrap();
    assert!(entry.cause.as_ref().unwrap().ends_with("No space left on device"), "{entry:?}");
    assert_eq!(entry.fault, Some(Fault::StateDir));
}

/// A switch to system 2 has come to this, and its job does not run.
fn idle_switch(phase: Phase, life: Life, unstarted: Option<&str>) -> Scene {
    let mut scene = Scene::at_rest();
    scene.describes(2, 2);
    scene.memory.target = Some(target(2, Operation::Switch));
    let order = scene.switch_order(2, 2, How::Activate);
    let progress = Progress { phase, ..Progress::ready(scene.now.mono) };
    scene.seen.jobs = vec![Job {
        id: JobId { kind: JobKind::Switch, deployment: order.order.deployment.clone() },
        life,
        stopping: false,
        resumed: None,
        unstarted: unstarted.map(str::to_owned),
        remains: Remains::NotBegun,
        work: Work::Switch { order, progress: Some(progress), verdict: None, outcome: None },
    }];
    scene
}

#[test]
fn a_switch_whose_job_cannot_be_started_is_not_activating() {
    let dead = Some("the system bus: connection refused");
    for life in [Life::Starting, Life::Ended] {
        let shown = idle_switch(Phase::Ready, life, dead).status();
        assert_eq!(shown.state, State::Waiting, "{life:?}");
        assert_eq!(
            shown.reason,
            "2222222 is ready, 1111111 runs, but its switch job cannot be started: the system \
             bus: connection refused"
        );
        assert!(shown.lift.unwrap().contains("systemctl status dbus"));
    }
    // One that was, some time ago, is at work now; so is one that is just being started.
    assert_eq!(idle_switch(Phase::Ready, Life::Running, dead).status().state, State::Activating);
    assert_eq!(idle_switch(Phase::Ready, Life::Starting, None).status().state, State::Activating);
}

#[test]
fn a_way_back_whose_job_is_gone_says_that_nobody_is_at_it() {
    let why = "check web: no answer";
    let back = Phase::PuttingBack(WayBack::begun(why, Ending::RolledBack, true));
    let shown = idle_switch(back, Life::Ended, Some("systemd did not answer")).status();
    assert_eq!(shown.state, State::RollingBack);
    assert!(
        shown
            .reason
            .ends_with("its job is gone and cannot be started again: systemd did not answer"),
        "{}",
        shown.reason
    );
    assert!(shown.lift.is_some());
}

#[test]
fn settings_that_a_flake_wants_and_does_not_get_are_noted_until_another_commit_is_wanted() {
    let mut scene = realising();
    let deployment = scene.memory.deployment.clone().unwrap();
    let outcome = RealiseOutcome {
        result: failed(Fault::Build, "no"),
        took: 1,
        ignored: vec!["extra-substituters".into(), "extra-trusted-public-keys".into()],
    };
    let order = scene.order(2, Operation::Switch);
    scene.seen.jobs = vec![Job {
        id: deployment.job.unwrap(),
        life: Life::Ended,
        stopping: false,
        resumed: None,
        unstarted: None,
        remains: Remains::Begun,
        work: Work::Realise { order, progress: None, outcome: Some(outcome) },
    }];
    scene.fold();
    let notes = scene.status().notes;
    assert_eq!(notes.len(), 1);
    let named = "the nixConfig of 2222222 is not followed (extra-substituters, \
                 extra-trusted-public-keys)";
    assert!(notes[0].starts_with(named), "{notes:?}");
    scene.memory.target = Some(target(3, Operation::Switch));
    assert!(scene.status().notes.is_empty());
}

/// The verdict on system 2 after a round that found this.
fn verdict(checks: Vec<Check>) -> Verdict {
    let began = now(0).mono;
    let mut scene = idle_switch(Phase::Activated { at: began }, Life::Running, None);
    let job = scene.seen.jobs[0].id.clone();
    scene.later(20);
    let ended = scene.now.mono;
    scene.seen.checks = Some(Round { job, began: ended, ended, checks, hopeless: None });
    let step = scene.decide().step;
    let Step::WriteVerdict { verdict, .. } = step else { panic!("{step:?}") };
    verdict
}

fn check(name: &str, ok: bool, required: bool, uncounted: &[&str]) -> Check {
    let uncounted = uncounted.iter().map(|&it| it.to_owned()).collect();
    Check { name: name.into(), ok, detail: "503".into(), required, uncounted, ..Check::default() }
}

#[test]
fn a_good_verdict_names_what_failed_and_was_not_counted() {
    let units = check("units", true, true, &["backup.service has failed"]);
    let Verdict { good, cause, .. } = verdict(vec![units, check("web", false, false, &[])]);
    assert!(good);
    assert_eq!(
        cause.as_deref(),
        Some("not counted: check web fails: 503, backup.service has failed")
    );
    let many: Vec<String> = (0..9).map(|n| format!("u{n}.service has failed")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let cause = verdict(vec![check("units", true, true, &many)]).cause.unwrap();
    assert!(cause.ends_with("u4.service has failed and 4 more"), "{cause}");
    assert_eq!(verdict(vec![check("web", true, true, &[])]).cause, None);
}

#[test]
fn a_verdict_that_rests_on_nothing_says_so() {
    let Verdict { good, cause, .. } = verdict(Vec::new());
    assert!(good && cause.unwrap().starts_with("nothing was checked"));
}

#[test]
fn faults_have_their_pauses_like_other_failures() {
    let mut scene = realising();
    scene.realised(failed(Fault::Memory, "nix, while evaluating"));
    let trouble = &scene.memory.troubles[0];
    assert!(scene.now.wall.until(trouble.not_before) >= Duration::from_secs(60));
}

#[test]
fn the_manual_has_every_fault_and_what_to_do_about_it() {
    let manual = include_str!("../../../../docs/operations.md").replace('`', "");
    for fault in Fault::ALL {
        let name = serde_json::to_value(fault).unwrap();
        let name = format!("| {} |", name.as_str().unwrap());
        let row = manual.lines().filter(|line| line.starts_with(&name));
        let lift = fault.lift().unwrap_or_default();
        assert!(
            row.clone().any(|row| row.contains(lift)),
            "{fault:?}: {:?}",
            row.collect::<Vec<_>>()
        );
    }
}

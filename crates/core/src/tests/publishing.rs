//! Publishing: what is sent, when, and that it touches nothing else.

mod stops;

use super::fixture::*;
use crate::decide::{Outlook, Step};
use crate::job::{
    DeploymentId, Ending, How, JobId, JobKind, PublishOrder, PublishOutcome, PublishPhase,
    PublishProgress, Realised,
};
use crate::memory::Memory;
use crate::observed::{Job, Life, Relation, Remains, Work};
use crate::policy::Operation;
use crate::request::{Request, answer};
use crate::types::Mono;

/// The last good system was verified, and nothing of it was published yet.
fn unpublished() -> Scene {
    let mut scene = Scene::at_rest();
    scene.policy.publish = Some("https://cache/fort".into());
    scene
}

/// The job that is started now, in whatever life.
fn started(scene: &mut Scene) -> JobId {
    let step = scene.turn().step;
    let Step::StartPublish(order) = step.clone() else { panic!("{step:?}") };
    let id = step.starts().unwrap();
    let work = Work::Publish { order, progress: None, outcome: None };
    let (life, stopping, resumed) = (Life::Running, false, None);
    let (unstarted, remains) = (None, Remains::Begun);
    scene.seen.jobs.push(Job { id: id.clone(), life, stopping, resumed, unstarted, remains, work });
    id
}

fn job(scene: &mut Scene) -> &mut Job {
    scene.seen.jobs.iter_mut().find(|job| !job.is_of_deployment()).unwrap()
}

/// Ends the publish job with this outcome.
fn ends(scene: &mut Scene, end: PublishOutcome) {
    let job = job(scene);
    job.life = Life::Ended;
    let Work::Publish { outcome, .. } = &mut job.work else { panic!("{job:?}") };
    *outcome = Some(end);
}

fn removed(scene: &mut Scene) {
    let step = scene.turn().step;
    assert_eq!(step, Step::RemoveJob(job(scene).id.clone()));
    scene.seen.jobs.retain(Job::is_of_deployment);
}

fn waits(scene: &mut Scene) -> bool {
    matches!(scene.turn().step, Step::Wait { .. })
}

fn failed(left: u64) -> PublishOutcome {
    PublishOutcome { left, cause: Some("no answer".into()), ..Default::default() }
}

fn starts(step: &Step) -> bool {
    matches!(step, Step::StartPublish(_))
}

#[test]
fn a_verified_system_is_published_once() {
    let mut scene = unpublished();
    let id = started(&mut scene);
    assert_eq!(id.to_string(), "publish-20260101T000140Z-11111111-1");
    assert!(waits(&mut scene));
    let history = scene.memory.history.clone();
    ends(&mut scene, PublishOutcome { sent: 4, ..Default::default() });
    removed(&mut scene);
    assert!(waits(&mut scene));
    scene.later(100_000);
    assert!(waits(&mut scene));
    assert_eq!(scene.memory.history, history);
    assert!(scene.memory.troubles.is_empty() && scene.memory.deployment.is_none());
}

#[test]
fn a_system_that_was_only_found_running_is_not_given_to_others() {
    let mut scene = unpublished();
    scene.memory = Memory { target: scene.memory.target.take(), ..Memory::new() };
    scene.fold();
    assert!(scene.memory.last_good.is_some());
    assert_eq!(scene.memory.to_publish(&scene.policy), None);
    assert_eq!(scene.status().publish, None);
    // Its commit describes it: still nobody has looked whether it works.
    scene.describes(1, 1);
    scene.memory.accepted = unpublished().memory.accepted;
    let step = scene.turn().step;
    assert!(matches!(step, Step::Settle { .. }), "{step:?}");
    assert_eq!(scene.memory.to_publish(&scene.policy), None);
    // Now it was.
    scene.later(1);
    let order = scene.switch_order(1, 1, How::Verify);
    scene.switched(order, Some(Ending::Good), false);
    assert!(starts(&scene.turn().step));
}

#[test]
fn without_a_cache_nothing_is_published() {
    let mut scene = unpublished();
    let id = started(&mut scene);
    scene.policy.publish = None;
    assert_eq!(scene.turn().step, Step::StopJob(id));
    job(&mut scene).stopping = true;
    assert!(waits(&mut scene));
    assert_eq!(scene.status().publish, None);
    ends(&mut scene, PublishOutcome { cancelled: true, ..failed(3) });
    removed(&mut scene);
    scene.later(100_000);
    assert!(waits(&mut scene));
}

#[test]
fn another_cache_has_none_of_it() {
    let mut scene = unpublished();
    started(&mut scene);
    ends(&mut scene, PublishOutcome::default());
    removed(&mut scene);
    assert!(waits(&mut scene));
    scene.policy.publish = Some("https://cache/other".into());
    let id = started(&mut scene);
    scene.policy.publish = Some("https://cache/third".into());
    assert_eq!(scene.turn().step, Step::StopJob(id));
}

#[test]
fn what_failed_is_tried_again_after_growing_pauses() {
    let mut scene = unpublished();
    for (attempt, minutes) in [1, 2, 4, 8, 16, 32, 32].into_iter().enumerate() {
        let id = started(&mut scene);
        assert!(id.to_string().ends_with(&format!("-{}", attempt + 1)), "{id}");
        ends(&mut scene, failed(57));
        removed(&mut scene);
        let Step::Wait { until: Some(_) } = scene.turn().step else { panic!("no wait") };
        scene.later(minutes * 60 - 1);
        assert!(waits(&mut scene), "{minutes}");
        let shown = scene.status().publish.unwrap();
        assert_eq!((shown.backlog, shown.last_error.as_deref()), (57, Some("no answer")));
        assert!(shown.next_attempt.is_some());
        scene.later(1);
    }
    assert!(scene.memory.troubles.is_empty() && scene.memory.history.is_empty());
}

#[test]
fn an_outcome_is_taken_in_once() {
    let mut scene = unpublished();
    started(&mut scene);
    ends(&mut scene, failed(57));
    scene.fold();
    let once = scene.memory.clone();
    scene.later(600);
    scene.fold();
    assert_eq!(scene.memory.publishing, once.publishing);
    assert_eq!(scene.memory.publishing.unfinished.as_ref().unwrap().failures, 1);
}

#[test]
fn only_one_that_was_at_work_was_killed() {
    let told = |remains: Remains, unstarted: Option<&str>, now: Option<u8>| {
        let mut scene = unpublished();
        started(&mut scene);
        let seen = job(&mut scene);
        (seen.life, seen.remains) = (Life::Ended, remains);
        seen.unstarted = unstarted.map(str::to_owned);
        if let Some(now) = now {
            scene.seen.boot_id = boot(now);
        }
        scene.fold();
        scene.status().publish.unwrap().last_error.unwrap()
    };
    assert_eq!(told(Remains::Begun, None, None), "the publish job was killed");
    let dead = "the system bus: connection refused";
    assert_eq!(
        told(Remains::NotBegun, Some(dead), None),
        format!("the publish job could not be started: {dead}")
    );
    let full = "No space left on device";
    assert_eq!(
        told(Remains::Unwritten(full.into()), None, None),
        format!("what came of the publish job could not be written: {full}")
    );
    assert_eq!(
        told(Remains::Begun, None, Some(9)),
        "the host went down before the publish job had ended"
    );
}

#[test]
fn one_that_was_killed_does_not_start_in_a_loop() {
    let mut scene = unpublished();
    started(&mut scene);
    let seen = job(&mut scene);
    seen.life = Life::Ended;
    let Work::Publish { progress, .. } = &mut seen.work else { panic!("{seen:?}") };
    *progress = Some(PublishProgress { to_send: 40, sent: 12, ..Default::default() });
    removed(&mut scene);
    assert!(waits(&mut scene));
    let shown = scene.status().publish.unwrap();
    assert_eq!(shown.last_error.as_deref(), Some("the publish job was killed"));
    assert_eq!(shown.backlog, 28);
    // So does one that never began.
    scene.later(60);
    started(&mut scene);
    scene.seen.jobs.clear();
    assert!(waits(&mut scene));
    let shown = scene.status().publish.unwrap();
    assert_eq!(shown.last_error.as_deref(), Some("the publish job could not be started"));
    scene.later(119);
    assert!(waits(&mut scene));
    scene.later(1);
    assert!(starts(&scene.turn().step));
}

#[test]
fn one_whose_order_cannot_be_read_is_stopped_and_counted() {
    let mut scene = unpublished();
    let id = started(&mut scene);
    job(&mut scene).work = Work::Unreadable;
    assert_eq!(scene.turn().step, Step::StopJob(id));
    job(&mut scene).stopping = true;
    assert!(waits(&mut scene));
    job(&mut scene).life = Life::Ended;
    removed(&mut scene);
    let error = scene.status().publish.unwrap().last_error.unwrap();
    assert_eq!(error, "the publish job's order cannot be read");
}

#[test]
fn retry_lifts_the_pause() {
    let mut scene = unpublished();
    started(&mut scene);
    ends(&mut scene, failed(57));
    removed(&mut scene);
    assert!(waits(&mut scene));
    let retry = Request::Retry(None);
    let (memory, said) =
        answer(&retry, &scene.policy, &scene.memory, &scene.seen, scene.now).unwrap();
    assert_eq!(said, "tried again now");
    scene.memory = memory;
    assert!(starts(&scene.turn().step));
}

#[test]
fn it_holds_up_no_reboot() {
    let mut scene = unpublished();
    started(&mut scene);
    scene.policy.reboots = true;
    scene.seen.reboot_why = Some("another kernel".into());
    assert!(matches!(scene.turn().step, Step::LookAgainstReboot));
}

#[test]
fn its_progress_shows_and_changes_neither_state_nor_reason() {
    let mut scene = unpublished();
    let before = scene.status();
    assert_eq!(before.publish.clone().unwrap().backlog, 1);
    started(&mut scene);
    let Work::Publish { progress, .. } = &mut job(&mut scene).work else { panic!("no job") };
    *progress = Some(PublishProgress {
        phase: PublishPhase::Sending,
        sent: 12,
        to_send: 40,
        bytes: 120,
        bytes_expected: 480,
        current: Some("glibc".into()),
        trouble: Some("503".into()),
        patience: None,
        given_up: 0,
    });
    let shown = scene.status();
    assert_eq!(
        (shown.state, &shown.reason, &shown.next),
        (before.state, &before.reason, &before.next)
    );
    insta::assert_snapshot!(serde_json::to_string_pretty(&shown.publish).unwrap());
    ends(&mut scene, PublishOutcome::default());
    scene.fold();
    let shown = scene.status().publish.unwrap();
    assert_eq!((shown.backlog, shown.last_error, shown.progress), (0, None, None));
}

#[test]
fn a_deployment_may_have_the_name_of_a_publish_job() {
    let mut scene = unpublished();
    let id = started(&mut scene);
    newer(&mut scene);
    job(&mut scene).stopping = true;
    job(&mut scene).id.deployment = DeploymentId::new(scene.now.wall, commit(2), 1);
    let step = scene.turn().step;
    let Step::StartRealise(order) = &step else { panic!("{step:?}") };
    assert_eq!(order.deployment, DeploymentId::new(scene.now.wall, commit(2), 1), "{id}");
}

#[test]
fn what_an_older_agent_wrote_is_read_and_what_this_one_writes_an_older_keeps() {
    let mut scene = unpublished();
    started(&mut scene);
    let mut written = serde_json::to_value(&scene.memory).unwrap();
    // An older one writes what it does not know back as it was.
    let read: Memory = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(read, scene.memory);
    // And has never written it.
    written.as_object_mut().unwrap().remove("publishing");
    written["last_good"].as_object_mut().unwrap().remove("verified");
    let read: Memory = serde_json::from_value(written).unwrap();
    assert_eq!(read.publishing, Default::default());
    assert_eq!(read.to_publish(&scene.policy), None);
}

/// A realise job that fails has the same effect on the memory with publishing and without.
#[test]
fn nothing_of_a_deployment_changes_by_it() {
    let mut with = unpublished();
    newer(&mut with);
    let mut without = with.clone();
    without.policy.publish = None;
    for scene in [&mut with, &mut without] {
        let step = scene.turn().step;
        assert!(matches!(step, Step::StartRealise(_)), "{step:?}");
        scene.realised(Realised::Failed { cause: "no".into(), tail: String::new(), fault: None });
        scene.later(1);
    }
    assert!(matches!(with.decide().outlook, Outlook::BackingOff(_)));
    // While it backs off there is time to publish.
    assert!(starts(&with.turn().step));
    assert!(waits(&mut without));
    with.memory.publishing = Default::default();
    assert_eq!(with.memory, without.memory);
}

/// A newer commit is there, and was not realised yet.
fn newer(scene: &mut Scene) {
    scene.relates(1, 2, Relation::Ahead);
    scene.gives(0, Some(2), None);
    let step = scene.turn().step;
    assert!(matches!(step, Step::Follow { .. }), "{step:?}");
}

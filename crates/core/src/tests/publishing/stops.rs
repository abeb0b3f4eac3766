//! Publish jobs that are stopped.

use super::*;

#[test]
fn a_deployment_stops_it_and_never_waits_for_it() {
    let mut scene = unpublished();
    let id = started(&mut scene);
    newer(&mut scene);
    assert_eq!(scene.turn().step, Step::StopJob(id.clone()));
    let seen = job(&mut scene);
    seen.stopping = true;
    let stopped = scene.clone();
    // Whatever it does.
    for life in [Life::Starting, Life::Running, Life::Ended] {
        for readable in [true, false] {
            let mut scene = stopped.clone();
            job(&mut scene).life = life;
            if !readable {
                job(&mut scene).work = Work::Unreadable;
            }
            let mut step = scene.turn().step;
            if step == Step::RemoveJob(id.clone()) {
                scene.seen.jobs.clear();
                step = scene.turn().step;
            }
            assert!(matches!(step, Step::StartRealise(_)), "{life:?} {readable}: {step:?}");
        }
    }
}

#[test]
fn an_activation_stops_it_first_and_goes_on_while_it_ignores_that() {
    let mut scene = unpublished();
    scene.describes(2, 2);
    newer(&mut scene);
    scene.passes(2);
    let looks_again = std::mem::take(&mut scene.seen.preflight);
    let order = PublishOrder {
        order: scene.order(1, Operation::Switch),
        system: system(1),
        cache: "https://cache/fort".into(),
    };
    let id = JobId { kind: JobKind::Publish, deployment: order.order.deployment.clone() };
    let work = Work::Publish { order, progress: None, outcome: None };
    let (life, stopping, resumed) = (Life::Running, false, None);
    let (unstarted, remains) = (None, Remains::Begun);
    scene.seen.jobs =
        vec![Job { id: id.clone(), life, stopping, resumed, unstarted, remains, work }];
    // Before the preflight already: there is time to end well.
    assert_eq!(scene.turn().step, Step::StopJob(id.clone()));
    job(&mut scene).stopping = true;
    assert!(matches!(scene.turn().step, Step::Preflight { .. }));
    scene.seen.preflight = looks_again;
    scene.seen.rooting = false;
    let step = scene.turn().step;
    let Step::KeepRoots(roots) = step else { panic!("{step:?}") };
    scene.seen.roots = roots;
    let step = scene.turn().step;
    assert!(matches!(step, Step::StartSwitch(_)), "{step:?}");
}

#[test]
fn a_newer_good_system_takes_its_place() {
    let mut scene = unpublished();
    let id = started(&mut scene);
    let order = scene.switch_order(2, 2, How::Activate);
    let publishes = scene.seen.jobs.clone();
    scene.describes(2, 2);
    scene.memory.target = Some(target(2, Operation::Switch));
    scene.switched(order, Some(Ending::Good), false);
    scene.seen.jobs = publishes;
    scene.seen.running = Some(system(2));
    scene.seen.profile.as_mut().unwrap().system = system(2);
    scene.relates(1, 2, Relation::Ahead);
    scene.memory.accepted.as_mut().unwrap().commit = commit(2);
    scene.gives(0, Some(2), None);
    assert_eq!(scene.turn().step, Step::StopJob(id));
    job(&mut scene).stopping = true;
    assert!(waits(&mut scene));
    ends(&mut scene, PublishOutcome { cancelled: true, ..failed(9) });
    removed(&mut scene);
    let step = scene.turn().step;
    let Step::StartPublish(order) = &step else { panic!("{step:?}") };
    assert_eq!(order.system, system(2));
}

#[test]
fn being_stopped_counts_nothing_and_keeps_what_is_known() {
    let mut scene = unpublished();
    started(&mut scene);
    ends(&mut scene, failed(57));
    removed(&mut scene);
    scene.later(60);
    started(&mut scene);
    ends(&mut scene, PublishOutcome { cancelled: true, left: 40, ..Default::default() });
    removed(&mut scene);
    let unfinished = scene.memory.publishing.unfinished.clone().unwrap();
    assert_eq!((unfinished.failures, unfinished.left), (1, 40));
    assert_eq!(unfinished.cause.as_deref(), Some("no answer"));
    // Whoever stopped it may do so again: not at once.
    assert!(waits(&mut scene));
    scene.later(5);
    let id = started(&mut scene);
    // Nor does it count to be killed for not having stopped.
    let seen = job(&mut scene);
    (seen.stopping, seen.life) = (true, Life::Ended);
    removed(&mut scene);
    assert_eq!(scene.memory.publishing.unfinished.clone().unwrap().failures, 1, "{id}");
}

#[test]
fn one_that_hangs_is_stopped_after_a_day() {
    let mut scene = unpublished();
    let id = started(&mut scene);
    scene.later(24 * 3600 - 1);
    assert_eq!(scene.turn().step, Step::Wait { until: Some(Mono::from_millis(86_500_000)) });
    scene.later(1);
    assert_eq!(scene.turn().step, Step::StopJob(id));
}

#[test]
fn one_that_nobody_knows_is_stopped_and_removed_uncounted() {
    let mut scene = unpublished();
    let id = started(&mut scene);
    scene.memory.publishing = Default::default();
    assert_eq!(scene.turn().step, Step::StopJob(id));
    ends(&mut scene, failed(3));
    removed(&mut scene);
    assert_eq!(scene.memory.publishing, Default::default());
}

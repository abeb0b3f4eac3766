//! The decision table: stage, what the remote says, what runs.

use std::fmt::Write as _;

use super::fixture::{Scene, boot, commit, system, target};
use super::switching::job;
use crate::decide::{Due, Outlook, Step};
use crate::guardian::{Phase, Progress, WayBack};
use crate::job::{DeploymentId, Ending, How, JobId, JobKind};
use crate::memory::{Awaiting, Deployment, Stuck, Subject, Trouble};
use crate::observed::{Job, Life, Relation, Remains, Work};
use crate::policy::{ForcePush, Operation};
use crate::select::{Standing, select};
use crate::types::Mono;

/// How far commit 2 is; commit 1 is what ran before.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Settled,
    Unrealised,
    Realising,
    BuildFailed,
    NoSuchHost,
    Realised,
    Failed,
    Quarantined,
    AwaitsBoot,
    Booted,
    AwaitsOnce,
    BootedOnce,
    Activating,
    Activated,
    PuttingBack,
}

const STAGES: [Stage; 15] = [
    Stage::Settled,
    Stage::Unrealised,
    Stage::Realising,
    Stage::BuildFailed,
    Stage::NoSuchHost,
    Stage::Realised,
    Stage::Failed,
    Stage::Quarantined,
    Stage::AwaitsBoot,
    Stage::Booted,
    Stage::AwaitsOnce,
    Stage::BootedOnce,
    Stage::Activating,
    Stage::Activated,
    Stage::PuttingBack,
];

const HEADS: [(&str, Option<u8>, Relation); 5] = [
    ("the same", Some(2), Relation::Same),
    ("ahead", Some(3), Relation::Ahead),
    ("set back", Some(1), Relation::Behind),
    ("forced", Some(4), Relation::Diverged),
    ("deleted", None, Relation::Same),
];

const RUNNING: [(&str, u8); 3] = [("wanted", 2), ("the old", 1), ("by hand", 7)];

fn scene(stage: Stage) -> Scene {
    let mut scene = Scene::at_rest();
    scene.policy.remotes.truncate(1);
    scene.seen.remotes.truncate(1);
    scene.memory.accepted.as_mut().unwrap().commit = commit(2);
    scene.memory.target = Some(target(2, Operation::Switch));
    scene.memory.boot_id = Some(boot(1));
    let deployment = |scene: &Scene, system, job: Option<JobKind>| {
        let order = scene.order(2, Operation::Switch);
        let job = job.map(|kind| JobId { kind, deployment: order.deployment.clone() });
        let (id, target) = (order.deployment, order.target);
        let (attempt, started) = (1, scene.now.wall);
        Deployment { id, target, attempt, started, system, job, stages: Default::default() }
    };
    let trouble = |scene: &Scene, subject, stuck| Trouble {
        subject,
        failures: 3,
        at: scene.now.wall,
        not_before: scene.now.wall.plus(scene.policy.retry_first),
        stuck,
        cause: "it failed".into(),
        refusal: None,
        fault: None,
        refused: None,
        excused: 0,
        found_bad: false,
    };
    let commit_2 = Subject::Commit { commit: commit(2), recipe: "flake".into() };
    let system_2 = Subject::System { system: system(2) };
    let switching = |scene: &mut Scene, phase: Phase| {
        scene.describes(2, 2);
        scene.memory.deployment = Some(deployment(scene, Some(system(2)), Some(JobKind::Switch)));
        let mut order = scene.switch_order(2, 2, How::Activate);
        order.running = Some(system(1));
        order.old = Some(system(1));
        let mut switch = job(&order, None);
        if let Work::Switch { progress, .. } = &mut switch.work {
            let mut written = Progress::ready(scene.now.mono);
            written.phase = phase;
            *progress = Some(written);
        }
        scene.seen.jobs = vec![switch];
    };
    let awaiting = |scene: &mut Scene, number| {
        scene.describes(2, 2);
        let why = "awaits the next boot".into();
        let boot_id = boot(number);
        let deployment = deployment(scene, Some(system(2)), None);
        let (kept, came_up) = (None, false);
        let system = system(2);
        scene.seen.profile.as_mut().unwrap().system = system.clone();
        scene.memory.awaiting = Some(Awaiting { deployment, system, boot_id, why, kept, came_up });
    };
    let awaiting_once = |scene: &mut Scene, number| {
        awaiting(scene, number);
        scene.memory.settled = None;
        scene.memory.awaiting.as_mut().unwrap().kept = Some(system(1));
        scene.seen.profile.as_mut().unwrap().system = system(1);
    };
    match stage {
        Stage::Settled => {
            scene.describes(2, 2);
            scene.memory.learn_good(&system(2), true);
            scene.memory.put = Some(system(2));
            scene.seen.profile.as_mut().unwrap().system = system(2);
            let settled = scene.memory.settled.as_mut().unwrap();
            (settled.commit, settled.system) = (commit(2), system(2));
        }
        Stage::Unrealised => {}
        Stage::Realising => {
            let order = scene.order(2, Operation::Switch);
            scene.memory.deployment = Some(deployment(&scene, None, Some(JobKind::Realise)));
            scene.seen.jobs = vec![Job {
                id: JobId { kind: JobKind::Realise, deployment: order.deployment.clone() },
                life: Life::Running,
                stopping: false,
                resumed: None,
                unstarted: None,
                remains: Remains::Begun,
                work: Work::Realise { order, progress: None, outcome: None },
            }];
        }
        Stage::BuildFailed => {
            let failed = trouble(&scene, commit_2, None);
            scene.memory.learn_trouble(failed);
        }
        Stage::NoSuchHost => {
            let stuck = Some(Stuck::NoSuchHost { hosts: vec!["batman".into()] });
            let failed = trouble(&scene, commit_2, stuck);
            scene.memory.learn_trouble(failed);
        }
        Stage::Realised => {
            scene.describes(2, 2);
            scene.memory.deployment = Some(deployment(&scene, Some(system(2)), None));
        }
        Stage::Failed | Stage::Quarantined => {
            scene.describes(2, 2);
            let quarantined = matches!(stage, Stage::Quarantined).then_some(Stuck::Quarantined);
            let failed = trouble(&scene, system_2, quarantined);
            scene.memory.learn_trouble(failed);
        }
        Stage::AwaitsBoot => awaiting(&mut scene, 1),
        Stage::Booted => awaiting(&mut scene, 0),
        Stage::AwaitsOnce => awaiting_once(&mut scene, 1),
        Stage::BootedOnce => awaiting_once(&mut scene, 0),
        Stage::Activating => {
            switching(&mut scene, Phase::Activating { since: Mono::from_millis(99_000) });
        }
        Stage::Activated => {
            switching(&mut scene, Phase::Activated { at: Mono::from_millis(80_000) });
        }
        Stage::PuttingBack => {
            let back = WayBack::begun("check web: no answer", Ending::RolledBack, false);
            switching(&mut scene, Phase::PuttingBack(back));
        }
    }
    scene
}

fn step_words(step: &Step) -> String {
    match step {
        Step::Wait { .. } => "wait".into(),
        Step::Poll { .. } => "poll".into(),
        Step::Compare { .. } => "compare".into(),
        Step::Follow { target, .. } => format!("follow {}", target.commit.short()),
        Step::KeepRoots(_) => "keep roots".into(),
        Step::StartRealise(order) => format!("realise {}", order.target.commit.short()),
        Step::StopJob(_) => "stop the job".into(),
        Step::RemoveJob(_) => "remove the job".into(),
        Step::StartSwitch(switch) => {
            format!("{} {}", switch.how.name(), switch.order.target.commit.short()).to_lowercase()
        }
        Step::StartPublish(_) => "publish".into(),
        Step::ResumeSwitch(_) => "resume".into(),
        Step::RunChecks(_) => "run checks".into(),
        Step::Preflight { .. } => "preflight".into(),
        Step::Look => "look for a remote".into(),
        Step::Disarm { .. } => "disarm".into(),
        Step::LookAgainstReboot => "look against a reboot".into(),
        Step::Reboot { .. } => "reboot".into(),
        Step::WriteVerdict { verdict, .. } => format!("verdict {}", verdict.good),
        Step::Settle { .. } => "settle".into(),
        Step::AskToConfirm { .. } => "ask to confirm".into(),
        Step::GiveUp { .. } => "give up".into(),
    }
}

/// The first step that is not about roots or what is followed, and what is
/// shown with it.
fn row(stage: Stage, head: Option<u8>, relation: Relation, running: u8) -> [String; 3] {
    let mut scene = scene(stage);
    scene.seen.running = Some(system(running));
    scene.gives(0, head, None);
    if let Some(head) = head {
        scene.relates(2, head, relation);
        scene.relates(1, head, Relation::Ahead);
    }
    scene.seen.rooting = false;
    scene.passes(2);
    let mut steps = Vec::new();
    for _ in 0..6 {
        let decision = scene.turn();
        let step = decision.step;
        if let Step::KeepRoots(roots) = step {
            scene.seen.roots = roots;
            continue;
        }
        steps.push(step_words(&step));
        if !matches!(step, Step::Follow { .. }) {
            break;
        }
    }
    let shown = scene.status();
    [steps.join(", "), shown.state.as_str().into(), shown.reason]
}

#[test]
fn decisions() {
    let mut table = format!(
        "{:<13}{:<10}{:<9}{:<32}{:<17}{}\n",
        "2222222 is", "head is", "runs", "next step", "state", "reason"
    );
    for stage in STAGES {
        for (name, head, relation) in HEADS {
            let rows = RUNNING.map(|(runs, which)| (runs, row(stage, head, relation, which)));
            let same = rows.iter().all(|(_, row)| *row == rows[0].1);
            let shown = if same { &rows[..1] } else { &rows[..] };
            for (runs, [step, state, reason]) in shown {
                let stage = format!("{stage:?}");
                let runs = if same { "any" } else { runs };
                let reason = reason.replace(system(7).as_str(), "SYSTEM-7");
                writeln!(table, "{stage:<13}{name:<10}{runs:<9}{step:<32}{state:<17}{reason}")
                    .unwrap();
            }
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn what_a_head_is_worth() {
    let mut table = format!("{:<10}{:<24}{:<10}{}\n", "head is", "given by", "policy", "standing");
    for relation in [Relation::Same, Relation::Ahead, Relation::Behind, Relation::Diverged] {
        for (giver, remote) in [("who gave the accepted", 0), ("another remote", 1)] {
            for policy in [ForcePush::Refuse, ForcePush::Accept] {
                let mut scene = Scene::at_rest();
                scene.policy.force_push = policy;
                let head = if relation == Relation::Same { 1 } else { 2 };
                scene.relates(1, 2, relation);
                scene.fails(0);
                scene.gives(remote, Some(head), None);
                let standing =
                    select(&scene.policy, &scene.memory, &scene.seen, scene.now).standings[remote];
                let (relation, policy) = (format!("{relation:?}"), format!("{policy:?}"));
                writeln!(table, "{relation:<10}{giver:<24}{policy:<10}{}", worth(standing))
                    .unwrap();
            }
        }
    }
    insta::assert_snapshot!(table);
}

fn worth(standing: Standing) -> &'static str {
    match standing {
        Standing::Unknown => "unknown",
        Standing::Silent => "silent",
        Standing::BranchMissing => "branch missing",
        Standing::Usable(_) => "usable",
        Standing::Behind(_) => "behind: ignored and reported",
        Standing::ForcePush(_) => "force-push: held",
        Standing::Rewind(_) => "rewind: held",
        Standing::Unclear(_) => "unclear",
        Standing::TooLarge(_) => "too large: held",
    }
}

#[test]
fn two_attempts_in_one_second_have_two_names() {
    let mut scene = scene(Stage::Unrealised);
    scene.gives(0, Some(2), None);
    let Step::StartRealise(first) = scene.turn().step else { panic!("not begun") };
    let taken: DeploymentId = first.deployment.clone();
    scene.fold();
    scene.memory.troubles.clear();
    assert!(scene.memory.has_ended(&taken), "its job has no directory");
    let Outlook::Due(due) = scene.decide().outlook else { panic!("not due") };
    let Due::Realise(second) = due else { panic!("not begun") };
    assert_ne!(second.deployment, taken);
}

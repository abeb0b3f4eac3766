//! Why a commit is, or is not, the one that runs.

use super::fixture::{Scene, boot, commit, system};
use crate::explain::{About, Explanation, Moment, Rule, explain};
use crate::gates::GateKind;
use crate::guardian::{Phase, Progress};
use crate::job::{Check, Ending, How, JobId, JobKind, Realised, Refusal, RefusalCause};
use crate::memory::Tested;
use crate::observed::{Job, Life, Oversize, Relation, Remains, Round, Work};
use crate::policy::Confirm;
use crate::request::Prefix;
use crate::types::Mono;

fn asked(scene: &Scene, meant: Option<&str>) -> Result<Explanation, String> {
    let (decision, status) = (scene.decide(), scene.status());
    let moment = Moment {
        policy: &scene.policy,
        memory: &scene.memory,
        seen: &scene.seen,
        decision: &decision,
        status: &status,
        now: scene.now,
    };
    explain(meant.map(|text| Prefix::parse(text).unwrap()).as_ref(), moment)
}

fn explained(scene: &Scene, meant: Option<&str>) -> Explanation {
    asked(scene, meant).unwrap()
}

fn of(scene: &Scene, digit: u8) -> Explanation {
    explained(scene, Some(&commit(digit).short()))
}

fn broken(explanation: &Explanation) -> Vec<&Rule> {
    explanation.rules.iter().filter(|rule| rule.holds == Some(false)).collect()
}

/// As a table, for people who change the words.
fn told(explanation: &Explanation) -> String {
    let Explanation { about, runs, state, conclusion, cause, lift, rules, .. } = explanation;
    let mut text = format!(
        "{about:?}, runs: {runs}, {}: {conclusion}\ncause {cause:?}, lift {lift:?}\n",
        state.as_str()
    );
    for Rule { rule, holds, evidence, lift } in rules {
        let holds = match holds {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "-",
        };
        let lift = lift.as_ref().map(|lift| format!(" [{lift}]")).unwrap_or_default();
        text.push_str(&format!("  {holds:3} {rule:12} {evidence}{lift}\n"));
    }
    text
}

/// Commit 2 descends from what runs, and is wanted; its system is 2.
fn wanted() -> Scene {
    let mut scene = Scene::at_rest();
    scene.gives(0, Some(2), None);
    scene.relates(1, 2, Relation::Ahead);
    scene.turn();
    scene
}

pub(super) fn realised() -> Scene {
    let mut scene = wanted();
    scene.turn();
    scene.realised(Realised::Built { system: system(2) });
    scene
}

pub(super) fn switching(scene: &mut Scene, phase: Phase) -> JobId {
    let order = scene.switch_order(2, 2, How::Activate);
    let id = JobId { kind: JobKind::Switch, deployment: order.order.deployment.clone() };
    let progress = Progress { phase, ..Progress::ready(scene.now.mono) };
    scene.seen.jobs = vec![Job {
        id: id.clone(),
        life: Life::Running,
        stopping: false,
        resumed: None,
        unstarted: None,
        remains: Remains::Begun,
        work: Work::Switch { order, progress: Some(progress), verdict: None, outcome: None },
    }];
    id
}

fn check(ok: bool) -> Check {
    let detail = if ok { "200 OK" } else { "connection refused\nsecond line" };
    Check { name: "web".into(), ok, detail: detail.into(), required: true, ..Check::default() }
}

#[test]
fn each_situation_is_explained_rule_by_rule() {
    let rest = Scene::at_rest();
    let mut forced = Scene::at_rest();
    forced.gives(0, Some(2), None);
    forced.relates(1, 2, Relation::Diverged);
    forced.fails(1);
    let mut missing = Scene::at_rest();
    missing.gives(0, None, None);
    missing.gives(1, None, None);
    let mut stale = Scene::at_rest();
    stale.gives(0, Some(1), Some(3));
    stale.relates(1, 3, Relation::Diverged);
    let mut undone = Scene::at_rest();
    undone.gives(0, Some(1), Some(3));
    undone.relates(1, 3, Relation::Ahead);
    undone.memory.tested = Some(Tested { commit: commit(3), boot_id: boot(0) });
    let mut machine = Scene::at_rest();
    machine.policy.machine_id = Some("a".into());
    machine.seen.machine_id = Some("b".into());
    let mut host = wanted();
    host.turn();
    host.realised(Realised::NoSuchHost { hosts: vec!["bane".into(), "riddler".into()] });
    let mut build = wanted();
    build.turn();
    build.realised(Realised::Failed {
        cause: "main.c:7: error\nmore".into(),
        tail: "".into(),
        fault: None,
    });
    let due = realised();
    let mut refused = realised();
    refused.passes(2);
    if let Some(found) = &mut refused.seen.preflight {
        found.refusal = Some(Refusal {
            cause: RefusalCause::DiskSpace,
            detail: "/boot has 3 MB left, 40 MB are needed".into(),
            evidence: [].into(),
        });
    }
    let mut silent = realised();
    silent.passes(2);
    silent.fails(0);
    silent.fails(1);
    let mut checking = realised();
    let id = switching(&mut checking, Phase::Activated { at: Mono::from_millis(90_000) });
    let (began, ended) = (checking.now.mono, checking.now.mono);
    checking.seen.checks =
        Some(Round { job: id, began, ended, checks: vec![check(false)], hopeless: None });
    let mut reboot = Scene::at_rest();
    reboot.seen.reboot_why = Some("another kernel".into());
    let mut drifted = Scene::at_rest();
    drifted.seen.running = Some(system(4));
    let text: String = [
        ("at rest", rest),
        ("force-pushed", forced),
        ("no branch", missing),
        ("testing branch left behind", stale),
        ("testing undone", undone),
        ("another machine", machine),
        ("no such host", host),
        ("build failed", build),
        ("ready", due),
        ("no room", refused),
        ("no remote", silent),
        ("a check fails", checking),
        ("needs a reboot", reboot),
        ("another hand", drifted),
    ]
    .iter()
    .map(|(name, scene)| format!("== {name}\n{}\n", told(&explained(scene, None))))
    .collect();
    insta::assert_snapshot!(text);
}

#[test]
fn other_commits_are_explained_by_what_is_known_of_them() {
    let mut scene = realised();
    let order = scene.switch_order(2, 2, How::Activate);
    scene.switched(order, Some(Ending::RolledBack), true);
    scene.gives(0, Some(3), Some(5));
    scene.relates(2, 3, Relation::Ahead);
    scene.relates(3, 5, Relation::Diverged);
    scene.gives(1, Some(4), None);
    scene.turn();
    let text: String = [1, 2, 3, 4, 5, 9]
        .map(|digit| format!("== {}\n{}\n", commit(digit).short(), told(&of(&scene, digit))))
        .concat();
    insta::assert_snapshot!(text);
}

#[test]
fn it_says_what_the_status_says() {
    let mut scene = Scene::at_rest();
    scene.gives(0, Some(2), None);
    scene.relates(1, 2, Relation::Diverged);
    let (status, said) = (scene.status(), explained(&scene, None));
    let held = status.held.unwrap();
    assert_eq!(said.conclusion, status.reason);
    assert_eq!(
        (said.cause, said.lift),
        (Some(held.cause.word().to_owned()), Some(held.lift.to_string()))
    );
    let refused = of(&scene, 2);
    assert_eq!((refused.about, refused.lift), (About::Refused, Some(held.lift.into())));
}

#[test]
fn a_quarantined_system_is_the_only_rule_that_is_broken() {
    let mut scene = realised();
    for _ in 0..3 {
        let order = scene.switch_order(2, 2, How::Activate);
        scene.switched(order, Some(Ending::RolledBack), true);
        scene.later(4000);
        scene.gives(0, Some(2), None);
        scene.turn();
    }
    let said = explained(&scene, None);
    assert_eq!(said.cause.as_deref(), Some("quarantined"));
    let broken = broken(&said);
    let [rule] = broken[..] else { panic!("{broken:?}") };
    assert_eq!((rule.rule.as_str(), &rule.lift), ("quarantine", &said.lift));
    assert!(rule.evidence.contains("check web: no answer"), "{}", rule.evidence);
}

#[test]
fn a_prefix_of_two_commits_is_refused_with_both() {
    let mut scene = Scene::at_rest();
    let other = format!("{}{}", "1".repeat(8), "0".repeat(32)).parse().unwrap();
    let heads = scene.seen.remotes[0].heads.as_mut().unwrap();
    heads.testing = Some(other);
    let error = asked(&scene, Some("1111111")).unwrap_err();
    assert_eq!(error, "1111111 may be any of 111111110000, 111111111111: give more digits");
    assert_eq!(explained(&scene, Some("111111110")).commit, Some(other));
}

#[test]
fn a_head_that_was_not_fetched_is_explained_as_the_status_has_it() {
    let mut scene = Scene::at_rest();
    let (found, lift) = ("what is new there is larger than 1.0 GiB".into(), "raise it".into());
    scene.seen.remotes[0].oversize =
        Some(Oversize { head: commit(2), testing: false, found, lift });
    let explanation = of(&scene, 2);
    assert_eq!(
        (explanation.about, explanation.cause.as_deref()),
        (About::Refused, Some("too-large"))
    );
    assert!(explanation.conclusion.contains("larger than 1.0 GiB"), "{explanation:?}");
    assert_eq!(explanation.lift.as_deref(), Some("raise it"));
    assert_eq!(broken(&explained(&scene, None))[0].rule, "release");
}

#[test]
fn whether_a_gate_is_closed_is_said_of_any_commit_whatever_else_keeps_it_back() {
    let mut scene = realised();
    let closed = |scene: &Scene| of(scene, 2).gates.unwrap().closed.map(|gate| gate.kind);
    assert_eq!(closed(&scene), None);
    scene.policy.confirm = Confirm::Manual;
    assert_eq!(closed(&scene), Some(GateKind::Confirm));
    // It is not what the status says.
    scene.seen.unwritten = Some("the disk is full".into());
    assert_eq!(of(&scene, 2).cause.as_deref(), Some("state-dir"));
    assert_eq!(closed(&scene), Some(GateKind::Confirm));
    scene.memory.gates.confirmed.push(commit(2));
    assert_eq!(closed(&scene), None);
    scene.seen.deploy_window.open = false;
    assert_eq!(closed(&scene), Some(GateKind::Window));
    assert_eq!(explained(&scene, Some("0123456")).gates, None);
}

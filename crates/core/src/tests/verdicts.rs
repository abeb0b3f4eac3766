//! For how long checks are repeated, and which of them is the cause.

use super::explanations::{realised, switching};
use super::fixture::{Scene, system};
use crate::cause::SwitchCause;
use crate::decide::Step;
use crate::guardian::Phase;
use crate::job::{Check, CheckKind, Verdict};
use crate::observed::Round;
use crate::policy::OnFailure;
use crate::types::Mono;

fn check(name: &str, ok: bool, required: bool) -> Check {
    let detail = if ok { "well" } else { "unwell" }.into();
    Check { name: name.into(), ok, detail, required, ..Check::default() }
}

/// A system that has been running for a while, of the time that it has, after this round.
fn after(checks: &[Check], hopeless: Option<usize>) -> Scene {
    let mut scene = realised();
    scene.seen.running = Some(system(2));
    let job = switching(&mut scene, Phase::Activated { at: Mono::from_millis(90_000) });
    let (began, ended) = (scene.now.mono, scene.now.mono);
    let checks = checks.to_vec();
    scene.seen.checks = Some(Round { job, began, ended, checks, hopeless });
    scene
}

fn verdict(scene: &Scene) -> Option<Verdict> {
    let step = scene.decide().step;
    if let Step::WriteVerdict { verdict, .. } = step {
        return Some(verdict);
    }
    assert!(matches!(step, Step::Wait { .. }), "{step:?}");
    None
}

#[test]
fn a_check_that_cannot_pass_any_more_is_not_waited_for_and_is_the_cause() {
    let checks = [check("web", false, true), check("units", false, true)];
    assert_eq!(verdict(&after(&checks, None)), None, "each may still pass");
    let bad = verdict(&after(&checks, Some(1))).expect("there is nothing to wait for");
    assert!(!bad.good);
    assert_eq!(bad.cause.as_deref(), Some("check units: unwell"));
    assert_eq!(bad.checks, checks);
}

#[test]
fn what_is_kept_all_the_same_is_checked_for_as_long_as_there_is_time() {
    let checks = [check("web", false, true), check("units", false, true)];
    let mut scene = after(&checks, Some(1));
    scene.policy.on_failure = OnFailure::Report;
    assert_eq!(verdict(&scene), None);
}

#[test]
fn only_the_agents_own_check_is_a_look_for_a_remote_whatever_others_are_called() {
    let named = check("remote", false, true);
    let own = Check { kind: CheckKind::Remote, ..named.clone() };
    let why =
        |checks: &[Check]| verdict(&after(checks, Some(0))).unwrap().why.map(|why| *why).unwrap();
    assert!(matches!(why(&[named]), SwitchCause::Check { .. }));
    assert!(matches!(why(std::slice::from_ref(&own)), SwitchCause::RemotesLost { .. }));
    let optional = check("nicety", false, false);
    assert!(matches!(why(&[own.clone(), optional]), SwitchCause::RemotesLost { .. }));
    // Something else is wrong as well.
    assert!(matches!(why(&[own, check("web", false, true)]), SwitchCause::Check { .. }));
}

//! Choice of the commit, rule by rule (1, 2, 4, 5 and 9 of the design).

use super::fixture::{Scene, boot, commit, system};
use crate::decide::{Outlook, Step};
use crate::job::{Ending, How, Target};
use crate::memory::{Memory, Tested};
use crate::observed::{Oversize, Relation};
use crate::policy::{ForcePush, Operation};
use crate::select::{Standing, Testing, select};

fn target(scene: &Scene) -> Target {
    select(&scene.policy, &scene.memory, &scene.seen, scene.now).target.unwrap()
}

fn standings(scene: &Scene) -> Vec<Standing> {
    select(&scene.policy, &scene.memory, &scene.seen, scene.now).standings
}

#[test]
fn a_later_remote_is_not_asked_while_the_first_is_usable() {
    let scene = Scene::at_rest();
    assert!(matches!(scene.decide().step, Step::Wait { .. }));
    assert_eq!(standings(&scene), [Standing::Usable(commit(1)), Standing::Unknown]);
}

#[test]
fn a_later_remote_is_asked_when_the_first_is_silent() {
    let mut scene = Scene::at_rest();
    scene.fails(0);
    assert!(matches!(scene.decide().step, Step::Poll { remote: 1, .. }));
}

#[test]
fn a_later_remote_stands_in_for_a_refused_one_and_the_refusal_stays_visible() {
    let mut scene = Scene::at_rest();
    scene.gives(0, Some(2), None);
    scene.relates(1, 2, Relation::Diverged);
    scene.gives(1, Some(3), None);
    scene.relates(1, 3, Relation::Ahead);
    assert_eq!(target(&scene).commit, commit(3));
    assert_eq!(&*target(&scene).remote, "mirror");
    let held = scene.status().held.unwrap();
    assert_eq!(held.cause.word(), "force-push");
    assert_eq!(held.cause.evidence()["remote"], "origin");
}

fn too_large(digit: u8, testing: bool) -> Option<Oversize> {
    let (found, lift) = ("it is larger than 1.0 GiB".into(), "raise it".into());
    Some(Oversize { head: commit(digit), testing, found, lift })
}

#[test]
fn a_head_that_is_too_large_is_held_and_what_runs_goes_on() {
    let mut scene = Scene::at_rest();
    scene.seen.remotes[0].oversize = too_large(2, false);
    assert_eq!(standings(&scene)[0], Standing::TooLarge(commit(2)));
    assert!(matches!(scene.decide().step, Step::Poll { remote: 1, .. }), "another may do");
    scene.fails(1);
    assert_eq!(target(&scene).commit, commit(1));
    let status = scene.status();
    let held = status.held.clone().unwrap();
    assert_eq!((held.cause.word(), &*held.lift), ("too-large", "raise it"));
    assert_eq!(held.cause.evidence()["head"], commit(2).to_string());
    assert_eq!(status.lift.as_deref(), Some("raise it"));
    let said = format!("{} on release was not fetched", commit(2).short());
    assert!(status.reason.starts_with(&said) && status.reason.ends_with("1.0 GiB"), "{status:?}");
    assert!(status.remotes[0].reachable, "it did answer");
    assert!(status.remotes[0].error.as_ref().unwrap().contains("raise it"));

    // The next one fits.
    scene.gives(0, Some(3), None);
    scene.relates(1, 3, Relation::Ahead);
    assert_eq!(target(&scene).commit, commit(3));
    assert_eq!(scene.status().held, None);
}

#[test]
fn a_testing_head_that_is_too_large_keeps_no_release_back() {
    let mut scene = Scene::at_rest();
    scene.gives(0, Some(2), None);
    scene.relates(1, 2, Relation::Ahead);
    scene.seen.remotes[0].oversize = too_large(3, true);
    assert_eq!(target(&scene).commit, commit(2));
    let status = scene.status();
    assert_eq!(status.held, None);
    let said = format!("{} on release-joker-test was not fetched", commit(3).short());
    assert!(status.notes.iter().any(|note| note.starts_with(&said)), "{:?}", status.notes);
}

#[test]
fn what_a_remote_said_that_is_not_asked_any_more_holds_nothing() {
    let mut scene = Scene::at_rest();
    scene.gives(1, Some(2), None);
    scene.relates(1, 2, Relation::Diverged);
    assert_eq!(scene.status().held, None);
    assert_eq!(scene.status().state.as_str(), "up-to-date");
    scene.fails(0);
    assert_eq!(scene.status().held.unwrap().cause.word(), "force-push");
}

#[test]
fn a_relation_is_not_looked_up_for_a_remote_that_is_not_needed() {
    let mut scene = Scene::at_rest();
    scene.gives(1, Some(2), None);
    assert!(matches!(scene.decide().step, Step::Wait { .. }));
    scene.fails(0);
    assert!(matches!(scene.decide().step, Step::Compare { .. }));
}

#[test]
fn an_ancestor_from_another_remote_is_a_stale_mirror_and_no_refusal() {
    let mut scene = Scene::at_rest();
    scene.fails(0);
    scene.gives(1, Some(2), None);
    scene.relates(1, 2, Relation::Behind);
    assert_eq!(standings(&scene), [Standing::Silent, Standing::Behind(commit(2))]);
    assert_eq!(target(&scene).commit, commit(1));
    let shown = scene.status();
    assert_eq!(shown.held, None);
    assert!(shown.remotes[1].error.as_ref().unwrap().contains("is behind"));
}

#[test]
fn a_descendant_is_followed() {
    let mut scene = Scene::at_rest();
    scene.gives(0, Some(2), None);
    scene.relates(1, 2, Relation::Ahead);
    let Step::Follow { target, release } = scene.turn().step else { panic!("not followed") };
    assert_eq!((target.commit, target.operation), (commit(2), Operation::Switch));
    assert_eq!(release, Some((commit(2), "origin".into())));
    assert_eq!(scene.memory.accepted.unwrap().commit, commit(2));
}

#[test]
fn a_relation_that_is_not_known_is_looked_up_first() {
    let mut scene = Scene::at_rest();
    scene.gives(0, Some(2), None);
    let step = scene.decide().step;
    assert_eq!(step, Step::Compare { older: commit(1), newer: commit(2) });
    scene.seen.comparing = true;
    assert!(matches!(scene.decide().step, Step::Wait { .. }));
}

#[test]
fn a_force_push_is_held_with_both_commits_and_the_command_that_accepts() {
    let mut scene = Scene::at_rest();
    scene.gives(0, Some(2), None);
    scene.relates(1, 2, Relation::Diverged);
    scene.gives(1, Some(1), None);
    assert_eq!(target(&scene).commit, commit(1));
    let held = scene.status().held.unwrap();
    assert_eq!(held.cause.evidence()["head"], commit(2).to_string());
    assert_eq!(held.cause.evidence()["accepted"], commit(1).to_string());
    assert_eq!(held.lift, "fort-agent accept 2222222");
}

#[test]
fn with_accept_a_force_push_is_followed_but_a_rewind_only_from_who_gave_the_head() {
    let mut scene = Scene::at_rest();
    scene.policy.force_push = ForcePush::Accept;
    scene.gives(0, Some(2), None);
    scene.relates(1, 2, Relation::Diverged);
    assert_eq!(target(&scene).commit, commit(2));
    scene.relates(1, 2, Relation::Behind);
    assert_eq!(target(&scene).commit, commit(2));
    scene.fails(0);
    scene.gives(1, Some(2), None);
    assert_eq!(target(&scene).commit, commit(1));
}

#[test]
fn a_missing_branch_is_held_and_changes_nothing() {
    let mut scene = Scene::at_rest();
    scene.gives(0, None, None);
    scene.gives(1, None, None);
    assert_eq!(target(&scene).commit, commit(1));
    assert_eq!(scene.status().held.unwrap().cause.word(), "branch-missing");
}

#[test]
fn a_testing_head_counts_while_it_is_strictly_ahead_of_the_release() {
    for (relation, testing, followed) in [
        (Relation::Ahead, Testing::Followed(commit(2)), 2),
        (Relation::Behind, Testing::Stale(commit(2)), 1),
        (Relation::Diverged, Testing::Stale(commit(2)), 1),
    ] {
        let mut scene = Scene::at_rest();
        scene.gives(0, Some(1), Some(2));
        scene.relates(1, 2, relation);
        let selection = select(&scene.policy, &scene.memory, &scene.seen, scene.now);
        assert_eq!(selection.testing, testing);
        assert_eq!(target(&scene).commit, commit(followed));
        let tests = target(&scene).operation == Operation::Test;
        assert_eq!(tests, relation == Relation::Ahead);
    }
}

#[test]
fn a_testing_head_that_is_the_release_is_stale() {
    let mut scene = Scene::at_rest();
    scene.gives(0, Some(1), Some(1));
    assert_eq!(target(&scene).operation, Operation::Switch);
}

#[test]
fn without_a_testing_branch_in_the_configuration_none_is_followed() {
    let mut scene = Scene::at_rest();
    scene.gives(0, Some(1), Some(2));
    scene.relates(1, 2, Relation::Ahead);
    scene.policy.testing = None;
    assert_eq!(target(&scene).commit, commit(1));
}

#[test]
fn a_testing_head_is_undone_by_a_reboot_and_says_so() {
    let mut scene = Scene::at_rest();
    scene.gives(0, Some(1), Some(2));
    scene.relates(1, 2, Relation::Ahead);
    scene.memory.tested = Some(Tested { commit: commit(2), boot_id: boot(1) });
    assert_eq!(target(&scene).commit, commit(2));
    scene.seen.boot_id = boot(2);
    assert_eq!(target(&scene).commit, commit(1));
    scene.turn();
    let shown = scene.status();
    assert_eq!(shown.state.as_str(), "waiting");
    assert!(shown.reason.contains("undone by a reboot"), "{}", shown.reason);
    assert!(shown.next.is_some());
}

#[test]
fn when_the_testing_branch_goes_the_release_comes_back() {
    let mut scene = Scene::at_rest();
    scene.memory.target = Some(super::fixture::target(2, Operation::Test));
    scene.gives(0, Some(1), None);
    let target = target(&scene);
    assert_eq!((target.commit, target.operation), (commit(1), Operation::Switch));
}

#[test]
fn until_a_remote_answers_after_a_restart_what_was_tried_is_kept() {
    let mut scene = Scene::at_rest();
    scene.memory.target = Some(super::fixture::target(2, Operation::Test));
    for remote in &mut scene.seen.remotes {
        *remote = Default::default();
    }
    assert_eq!(target(&scene).commit, commit(2));
    scene.memory.tested = Some(Tested { commit: commit(2), boot_id: boot(7) });
    assert_eq!(target(&scene).commit, commit(1));
}

#[test]
fn a_docs_only_commit_activates_nothing() {
    let mut scene = Scene::at_rest();
    scene.gives(0, Some(2), None);
    scene.relates(1, 2, Relation::Ahead);
    scene.describes(2, 1);
    scene.turn();
    let Step::Settle { system: settled, .. } = scene.turn().step else { panic!("not settled") };
    assert_eq!(settled, system(1));
    assert_eq!(scene.memory.history.last().unwrap().verdict, Ending::Good);
    assert_eq!(scene.status().running.commit, Some(commit(2)));
    assert_eq!(scene.decide().outlook, Outlook::InSync);
}

#[test]
fn a_merged_test_is_verified_and_made_the_default_without_being_activated_again() {
    let mut scene = Scene::at_rest();
    scene.describes(2, 2);
    scene.seen.running = Some(system(2));
    scene.memory.put = Some(system(2));
    scene.memory.settled = Some(crate::memory::Settled {
        commit: commit(2),
        operation: Operation::Test,
        system: system(2),
        left: false,
    });
    scene.gives(0, Some(2), Some(2));
    scene.relates(1, 2, Relation::Ahead);
    scene.turn();
    scene.seen.rooting = false;
    while let Step::KeepRoots(roots) = scene.decide().step {
        scene.seen.roots = roots;
    }
    let Step::StartSwitch(order) = scene.turn().step else { panic!("not begun") };
    assert_eq!((order.how, order.candidate, order.old), (How::Verify, system(2), Some(system(1))));
}

#[test]
fn on_a_first_start_what_runs_is_adopted_as_the_last_good_system() {
    let mut scene = Scene::at_rest();
    scene.memory = Memory::new();
    scene.fold();
    assert_eq!(scene.memory.last_good.as_ref().unwrap().system, system(1));
    let shown = scene.status();
    assert_eq!(shown.last_good.unwrap().commit, None);
    assert!(!shown.running.drift);
}

#[test]
fn a_first_start_during_a_switch_adopts_what_it_would_put_back() {
    let mut scene = Scene::at_rest();
    let order = scene.switch_order(2, 2, How::Activate);
    scene.memory = Memory::new();
    scene.seen.running = Some(system(2));
    scene.seen.jobs = vec![super::switching::job(&order, None)];
    scene.fold();
    assert_eq!(scene.memory.last_good.as_ref().unwrap().system, system(1));
    assert_eq!(scene.memory.deployment.as_ref().unwrap().id, order.order.deployment);
}

#[test]
fn what_another_hand_put_there_is_left_alone_until_the_next_commit() {
    let mut scene = Scene::at_rest();
    scene.seen.running = Some(system(7));
    scene.turn();
    assert_eq!(scene.decide().outlook, Outlook::Drift);
    assert!(scene.status().running.drift);
    assert_eq!(scene.status().running.commit, None);
    scene.gives(0, Some(2), None);
    scene.relates(1, 2, Relation::Ahead);
    assert!(matches!(scene.turn().step, Step::Follow { .. }));
    assert!(matches!(scene.turn().step, Step::StartRealise(_)));
}

#[test]
fn a_default_that_another_hand_made_is_drift_too() {
    let mut scene = Scene::at_rest();
    scene.seen.profile.as_mut().unwrap().system = system(7);
    assert_eq!(scene.decide().outlook, Outlook::Drift);
    assert!(scene.status().reason.contains("made the boot default"));
}

#[test]
fn a_commit_that_was_settled_before_is_brought_back_after_another_hand() {
    let mut scene = Scene::at_rest();
    scene.relates(1, 2, Relation::Ahead);
    scene.gives(0, Some(2), None);
    scene.turn();
    scene.seen.running = Some(system(7));
    scene.memory.allowed = Some(commit(1));
    scene.gives(0, Some(1), None);
    assert!(matches!(scene.turn().step, Step::Follow { .. }));
    assert_ne!(scene.decide().outlook, Outlook::Drift);
}

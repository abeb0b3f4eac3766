//! Decisions after a boot, and those that lead to one.

use serde_json::json;

use super::fixture::{Scene, boot, system, target};
use crate::decide::{Due, Outlook, Step};
use crate::guardian::lock::Lock;
use crate::guardian::{Act, Phase, Progress, Sight, Traces, act};
use crate::job::{Ending, Generation, How, Restore, SwitchOrder};
use crate::memory::{Rebooted, Stuck, Subject};
use crate::observed::{Against, Window};
use crate::policy::{OnKernelChange, Operation};
use crate::status::{NextAction, State};
use crate::types::Mono;

/// System 2 runs, is the default and verified; system 1 was so before.
fn settled() -> Scene {
    let mut scene = Scene::at_rest();
    scene.policy.remotes.truncate(1);
    scene.seen.remotes.truncate(1);
    scene.wants_two();
    scene.seen.running = Some(system(2));
    scene.seen.profile = Some(Generation { number: 2, system: system(2) });
    let order = scene.switch_order(2, 2, How::Activate);
    scene.switched(order, Some(Ending::Good), false);
    scene
}

#[test]
fn what_was_verified_under_another_kernel_is_verified_again_after_the_reboot() {
    let mut scene = settled();
    scene.seen.reboot_why = Some("kernel changed".into());
    scene.fold();
    assert_eq!(scene.decide().outlook, Outlook::InSync);
    scene.seen.boot_id = boot(2);
    scene.seen.booted = Some(system(2));
    scene.seen.reboot_why = None;
    scene.fold();
    let Outlook::Due(due) = scene.decide().outlook else { panic!("not verified again") };
    let Due::Switch(order) = due else { panic!("not a switch") };
    assert_eq!((order.how.clone(), order.old.clone()), (How::Verify, Some(system(1))));
    // It fails: what was good before is good.
    scene.seen.running = Some(system(1));
    scene.seen.profile = Some(Generation { number: 1, system: system(1) });
    scene.switched(*order, Some(Ending::RolledBack), true);
    assert_eq!(scene.memory.last_good.as_ref().unwrap().system, system(1));
    assert!(scene.memory.unproven.is_none());
    assert_eq!(
        scene.memory.trouble_with(&Subject::System { system: system(2) }).unwrap().failures,
        1
    );
}

#[test]
fn a_reboot_that_needs_nothing_verifies_nothing() {
    let mut scene = settled();
    scene.seen.boot_id = boot(2);
    scene.seen.booted = Some(system(2));
    scene.fold();
    assert_eq!(scene.decide().outlook, Outlook::InSync);
}

#[test]
fn a_default_that_the_boot_loader_gave_up_is_put_back_and_quarantined() {
    let mut scene = settled();
    scene.seen.boot_id = boot(2);
    (scene.seen.running, scene.seen.booted) = (Some(system(1)), Some(system(1)));
    scene.seen.gave_up = true;
    scene.fold();
    let Outlook::Due(due) = scene.decide().outlook else { panic!("not put back") };
    let Due::Switch(order) = due else { panic!("not a switch") };
    assert_eq!(
        (order.how.clone(), order.candidate.clone()),
        (How::Restore(Restore::FellBack), system(2))
    );
    assert_eq!(order.old, Some(system(1)));
    // The guardian touches nothing but the default.
    let mut progress = Progress::ready(scene.now.mono);
    let sight = Sight {
        unseen: None,
        boot_id: boot(2),
        running: Some(system(1)),
        booted: Some(system(1)),
        profile: Some(Generation { number: 2, system: system(2) }),
        verdict: None,
        own: true,
        last: None,
        traces: Traces::default(),
        lock: Lock::Free,
    };
    let Act::Note(noted) = act(&order, &progress, &sight, scene.now.mono) else { panic!() };
    assert!(noted.default_touched);
    let Phase::PuttingBack(back) = &noted.phase else { panic!() };
    assert!(back.activated);
    progress = noted;
    let next = act(&order, &progress, &sight, scene.now.mono);
    assert_eq!(next, Act::RestoreProfile(system(1)));

    scene.seen.profile = Some(Generation { number: 1, system: system(1) });
    scene.seen.gave_up = false;
    scene.switched(*order, Some(Ending::RolledBack), true);
    let trouble = scene.memory.trouble_with(&Subject::System { system: system(2) }).unwrap();
    assert_eq!(trouble.stuck, Some(Stuck::Quarantined), "at once");
    assert_eq!(scene.memory.last_good.as_ref().unwrap().system, system(1));
    assert!(matches!(scene.decide().outlook, Outlook::Stuck(_)));
    assert!(!scene.status().running.drift);
}

/// A system that another hand had switched to in between became the default, and nobody
/// had verified it, nor had it booted.
#[test]
fn what_becomes_the_default_again_is_what_was_booted_and_not_what_was_switched_to_since() {
    let mut scene = settled();
    scene.seen.boot_id = boot(2);
    (scene.seen.running, scene.seen.booted) = (Some(system(3)), Some(system(1)));
    scene.seen.gave_up = true;
    scene.fold();
    let Outlook::Due(due) = scene.decide().outlook else { panic!("not put back") };
    let Due::Switch(order) = due else { panic!("not a switch") };
    assert_eq!(
        (order.how.clone(), order.old.clone()),
        (How::Restore(Restore::FellBack), Some(system(1)))
    );
    assert_eq!(order.running, Some(system(3)));
}

#[test]
fn what_a_person_chose_in_the_boot_menu_is_left_alone() {
    let mut scene = settled();
    scene.seen.boot_id = boot(2);
    (scene.seen.running, scene.seen.booted) = (Some(system(1)), Some(system(1)));
    scene.fold();
    assert_eq!(scene.decide().outlook, Outlook::Drift);
    assert!(matches!(scene.decide().step, Step::Wait { .. } | Step::Poll { .. }));
}

#[test]
fn another_kernel_is_left_to_the_next_boot_where_that_is_wished() {
    let mut scene = Scene::at_rest();
    scene.policy.on_kernel_change = OnKernelChange::Boot;
    scene.wants_two();
    scene.passes(2);
    scene.seen.preflight.as_mut().unwrap().deferral = Some("kernel changed".into());
    let Outlook::Due(due) = scene.decide().outlook else { panic!("not due") };
    let Due::Switch(order) = due else { panic!("not a switch") };
    assert_eq!(order.how, How::Boot { why: "kernel changed".into() });
    // What is only tried cannot wait for a boot, which would undo it.
    scene.memory.target = Some(target(2, Operation::Test));
    let Outlook::Due(due) = scene.decide().outlook else { panic!("not due") };
    let Due::Switch(order) = due else { panic!("not a switch") };
    assert_eq!(order.how, How::Activate);
}

/// Settled, in need of a reboot, on a host that reboots by itself.
fn pending() -> Scene {
    let mut scene = settled();
    scene.policy.reboots = true;
    scene.seen.reboot_why = Some("kernel changed".into());
    scene.fold();
    let decision = scene.decide();
    if let Step::Poll { .. } = decision.step {
        scene.seen.remotes[0].asked = Some(scene.now.mono);
    }
    scene
}

#[test]
fn a_reboot_is_asked_for_once_nobody_is_against_it() {
    let mut scene = pending();
    assert_eq!(scene.decide().step, Step::LookAgainstReboot);
    let ended = scene.now.mono;
    scene.seen.against = Some(Against { ended, whom: vec!["root on tty1".into()] });
    assert!(matches!(scene.decide().step, Step::Wait { until: Some(_) }));
    let shown = scene.status();
    assert_eq!(shown.state, State::RebootRequired);
    assert!(shown.notes.iter().any(|note| note.contains("root on tty1")), "{:?}", shown.notes);
    scene.seen.against = Some(Against { ended, whom: Vec::new() });
    assert_eq!(scene.turn().step, Step::Reboot { system: system(2) });
    // It is under way.
    assert!(matches!(scene.decide().step, Step::Wait { .. }));
    // It has not helped: once is enough.
    scene.seen.boot_id = boot(2);
    scene.fold();
    assert!(!matches!(scene.decide().step, Step::Reboot { .. } | Step::LookAgainstReboot));
}

#[test]
fn a_reboot_waits_for_its_window() {
    let mut scene = pending();
    let opens = scene.now.wall.plus(std::time::Duration::from_secs(600));
    scene.seen.reboot_window = Window { open: false, changes: Some(opens) };
    assert!(matches!(scene.decide().step, Step::Wait { until: Some(_) }));
    let next = scene.status().next.unwrap();
    assert_eq!((next.action, next.at), (NextAction::Reboot, opens));
}

#[test]
fn nothing_is_rebooted_that_was_not_asked_to_be() {
    let mut scene = pending();
    scene.policy.reboots = false;
    assert!(matches!(scene.decide().step, Step::Wait { .. }));
}

#[test]
fn what_another_hand_left_is_not_verified_for_a_commit_that_has_another_system() {
    let mut scene = settled();
    // Commit 3 describes system 3; by hand system 2 was put back instead.
    scene.describes(3, 3);
    scene.memory.target = Some(target(3, Operation::Switch));
    let mut order = scene.switch_order(3, 3, How::Activate);
    order.order.target = target(3, Operation::Switch);
    scene.seen.reboot_why = Some("kernel changed".into());
    scene.switched(order, Some(Ending::Superseded), false);
    scene.fold();
    assert!(scene.memory.unproven.is_none());
}

/// No default is rebooted for in circles; but one that was booted, found good, and
/// replaced, may need its reboot again some day.
#[test]
fn a_reboot_that_did_its_work_may_be_asked_for_again() {
    let mut scene = settled();
    let asked = || Some(Rebooted { system: system(2), boot_id: boot(1), at: Mono::from_millis(1) });
    scene.memory.rebooted = asked();
    scene.seen.boot_id = boot(2);
    // Something else was booted: what needed the reboot is not asked for again.
    let order = scene.switch_order(2, 2, How::Verify);
    scene.switched(order, Some(Ending::Good), false);
    assert_eq!(scene.memory.rebooted, asked());
    scene.seen.booted = Some(system(2));
    scene.later(60);
    let order = scene.switch_order(2, 2, How::Verify);
    scene.switched(order, Some(Ending::Good), false);
    assert_eq!(scene.memory.rebooted, None);
}

#[test]
fn orders_of_earlier_versions_are_read_and_written_as_they_were() {
    let scene = Scene::at_rest();
    for (how, fields) in [
        (How::Activate, json!({"how": "activate", "deferral": null})),
        (How::Verify, json!({"how": "verify", "deferral": null})),
        (How::Boot { why: "x".into() }, json!({"how": "boot", "deferral": "x"})),
        (How::Restore(Restore::FellBack), json!({"how": "restore", "deferral": null})),
        (
            How::Restore(Restore::Asked { reason: String::new() }),
            json!({"how": "restore", "deferral": null, "asked": ""}),
        ),
    ] {
        let order = SwitchOrder { once: true, ..scene.switch_order(2, 2, how) };
        let written = json!(order);
        for (key, value) in fields.as_object().unwrap() {
            assert_eq!(&written[key], value, "{written}");
        }
        assert_eq!(serde_json::from_value::<SwitchOrder>(written).unwrap(), order);
    }
}

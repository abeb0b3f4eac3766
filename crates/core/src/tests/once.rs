//! A system that is booted once before it becomes the default.

mod nobody_found_good;

use super::fixture::{Scene, boot, commit, system, target};
use super::switching::{Switch, words};
use crate::decide::{Due, Outlook, Step};
use crate::guardian::{Act, Done, Phase};
use crate::job::{Ending, Generation, How, Restore, SwitchOrder};
use crate::memory::{Stuck, Subject};
use crate::policy::Operation;

const WHY: &str = "kernel changed";

fn generation(number: u64, which: u8) -> Generation {
    Generation { number, system: system(which) }
}

/// System 2 is left to the next boot; system 1 runs and boots.
fn deferring() -> Switch {
    let phase = Phase::Deferring { why: WHY.into(), stays: false };
    let mut switch = Switch::new(Operation::Switch, phase);
    switch.order.how = How::Boot { why: "kernel changed".into() };
    switch.progress.deferred = true;
    switch.progress.default_touched = true;
    switch
}

/// The guardian's next act, and how it ends if not otherwise. The last one says
/// which default was kept.
fn one(switch: &mut Switch, ends: Option<Done>) -> (String, Option<Option<u8>>) {
    let next = switch.next();
    let done = match (&next, ends) {
        (_, Some(done)) => done,
        (Act::SetProfile, None) => {
            switch.sight.profile = Some(generation(2, 2));
            Done::Profile(Ok(()))
        }
        (Act::ReturnProfile(before), None) => {
            switch.sight.profile = Some(before.clone());
            Done::Profile(Ok(()))
        }
        (Act::SetOneshot { next, default }, None) => {
            assert_eq!((next, default), (&generation(2, 2), &generation(1, 1)));
            Done::Oneshot(Ok(()))
        }
        (Act::WriteBoot | Act::WriteOldBoot(_), None) => Done::Exit(0),
        (Act::Finish(outcome), None) => {
            let kept = outcome.kept.as_ref().map(|kept| u8::from(*kept == system(1)));
            assert!(outcome.deferred);
            return (words(next), Some(kept));
        }
        (other, None) => panic!("{other:?}"),
    };
    switch.sight.last = Some(done);
    (words(next), None)
}

/// Act after act until it is over, if each ends so and not otherwise.
fn course(switch: &mut Switch, ends: impl Fn(&Act) -> Option<Done>) -> (Vec<String>, Option<u8>) {
    let mut acts = Vec::new();
    for _ in 0..12 {
        let ends = ends(&switch.clone().next());
        let (act, over) = one(switch, ends);
        acts.push(act);
        if let Some(kept) = over {
            return (acts, kept);
        }
    }
    panic!("it is never over: {acts:#?}")
}

const AS_ALWAYS: [&str; 2] = ["make it the default of the next boot", "write the boot loader"];
const OVER: &str = "awaits the boot, not counted";

#[test]
fn what_is_left_to_a_boot_is_booted_once_and_the_default_stays() {
    let mut switch = deferring();
    let (acts, kept) = course(&mut switch, |_| None);
    let more = ["boot it once", "give the profile back", "write the old boot loader", OVER];
    assert_eq!(acts, [&AS_ALWAYS[..], &more].concat());
    assert_eq!(kept, Some(1));
    assert_eq!(switch.sight.profile, Some(generation(1, 1)));
}

#[test]
fn it_is_the_default_where_nothing_can_be_booted_once() {
    let refused = |act: &Act| {
        let asked = matches!(act, Act::SetOneshot { .. });
        asked.then(|| Done::Oneshot(Err("not systemd-boot".into())))
    };
    let (acts, kept) = course(&mut deferring(), refused);
    assert_eq!(acts, [&AS_ALWAYS[..], &["boot it once", OVER]].concat());
    assert_eq!(kept, None);
    // What was the default is not what runs, or it is itself that: nothing is
    // there of which it is known that it boots.
    for which in [2, 3] {
        let mut switch = deferring();
        switch.order.profile = Some(generation(1, which));
        switch.sight.profile = Some(generation(1, which));
        let (acts, kept) = course(&mut switch, |_| None);
        assert_eq!((acts.last().unwrap().as_str(), kept), (OVER, None));
        assert!(!acts.contains(&"boot it once".to_owned()), "{acts:?}");
    }
}

#[test]
fn a_default_that_cannot_be_given_back_leaves_the_new_one() {
    let profile_fails = |act: &Act| {
        matches!(act, Act::ReturnProfile(_)).then(|| Done::Profile(Err("no space".into())))
    };
    let (acts, kept) = course(&mut deferring(), profile_fails);
    assert_eq!(acts[2..], ["boot it once", "give the profile back", OVER]);
    assert_eq!(kept, None);
    for broken in [Done::Exit(1), Done::Broke("killed".into())] {
        let mut switch = deferring();
        let loader_fails = |act: &Act| matches!(act, Act::WriteOldBoot(_)).then(|| broken.clone());
        let (acts, kept) = course(&mut switch, loader_fails);
        assert_eq!(acts[4], "write the old boot loader");
        // It worked a moment ago.
        assert_eq!(acts[5..], [&AS_ALWAYS[..], &[OVER]].concat());
        assert_eq!((kept, switch.sight.profile), (None, Some(generation(2, 2))));
    }
}

#[test]
fn a_guardian_that_was_killed_on_the_way_goes_on_from_what_is_there() {
    let whole = course(&mut deferring(), |_| None).0.len();
    for dies_after in 1..whole {
        let mut switch = deferring();
        let mut acts = 0;
        let kept = loop {
            let (_, over) = one(&mut switch, None);
            acts += 1;
            if acts == dies_after {
                // What it did is done, and nobody knows.
                (switch.sight.own, switch.sight.last) = (false, None);
            }
            if let Some(kept) = over {
                break kept;
            }
        };
        assert_eq!(kept, Some(1), "killed after {dies_after} acts");
        assert_eq!(switch.sight.profile, Some(generation(1, 1)));
    }
}

#[test]
fn a_host_that_boots_it_too_early_is_left_with_one_default() {
    // The loader could not be given back, and is being written once more.
    let mut switch = deferring();
    switch.progress.phase = Phase::Deferring { why: WHY.into(), stays: true };
    (switch.sight.boot_id, switch.sight.running) = (boot(2), Some(system(2)));
    let (acts, kept) = course(&mut switch.clone(), |_| None);
    assert_eq!(acts, [&AS_ALWAYS[..], &[OVER]].concat());
    assert_eq!(kept, None);
    // It could be.
    switch.progress.phase = Phase::Returning { why: WHY.into() };
    let (acts, kept) = course(&mut switch, |_| None);
    assert_eq!((acts, kept), (vec![OVER.to_owned()], Some(1)));
}

#[test]
fn another_hand_on_the_way_is_left_alone() {
    let mut switch = deferring();
    switch.progress.phase = Phase::Returning { why: WHY.into() };
    switch.sight.profile = Some(generation(9, 7));
    let Act::Finish(outcome) = switch.next() else { panic!("it goes on") };
    assert_eq!(outcome.ending, Some(Ending::Superseded));
    assert!(outcome.deferred, "it may still be booted once");
}

/// System 2 awaits its boot, which is to be the only one so far.
fn armed() -> (Scene, SwitchOrder) {
    let mut scene = Scene::at_rest();
    scene.policy.remotes.truncate(1);
    scene.seen.remotes.truncate(1);
    scene.wants_two();
    let order = scene.switch_order(2, 2, How::Boot { why: "kernel changed".into() });
    scene.deferred(&order, Some(1));
    (scene, order)
}

fn booted(scene: &mut Scene, which: u8) {
    scene.seen.boot_id = boot(2);
    (scene.seen.running, scene.seen.booted) = (Some(system(which)), Some(system(which)));
    scene.fold();
}

fn switch(scene: &Scene) -> SwitchOrder {
    let Outlook::Due(due) = scene.decide().outlook else { panic!("{:?}", scene.decide()) };
    let Due::Switch(order) = due else { panic!("{due:?}") };
    *order
}

#[test]
fn it_waits_for_its_boot_while_the_old_default_stays() {
    let (mut scene, _) = armed();
    scene.fold();
    assert!(matches!(scene.decide().outlook, Outlook::AwaitsBoot { .. }));
    let status = scene.status();
    assert_eq!(status.state.as_str(), "reboot-required");
    assert_eq!(status.boot.default, Some(system(1)));
    assert!(status.boot.reboot_required && !status.running.drift);
    // Nothing but its root keeps it in the store: generations are cleared away.
    let kept = scene.memory.awaiting.as_ref().map(|awaiting| &awaiting.system);
    assert_eq!(kept, Some(&system(2)));
    scene.policy.reboots = true;
    scene.seen.against = Some(crate::observed::Against { ended: scene.now.mono, whom: Vec::new() });
    assert_eq!(scene.decide().step, Step::Reboot { system: system(2) });
}

#[test]
fn once_booted_it_is_verified_and_only_then_the_default() {
    let (mut scene, first) = armed();
    booted(&mut scene, 2);
    assert!(!scene.status().running.drift);
    let order = switch(&scene);
    assert_eq!(
        (order.how.clone(), order.once, order.old.clone()),
        (How::Verify, true, Some(system(1)))
    );
    assert_eq!(order.order.deployment, first.order.deployment);
    scene.seen.profile = Some(generation(2, 2));
    scene.switched(order, Some(Ending::Good), false);
    assert!(scene.memory.awaiting.is_none());
    assert_eq!(scene.memory.last_good.as_ref().unwrap().system, system(2));
    assert_eq!(scene.decide().outlook, Outlook::InSync);
}

#[test]
fn judged_bad_it_leaves_nothing_behind() {
    let mut switch = Switch::putting_back();
    (switch.order.how, switch.order.once) = (How::Verify, true);
    switch.order.running = Some(system(2));
    assert_eq!(switch.next(), Act::ActivateOld(system(1)));
    (switch.sight.running, switch.sight.last) = (Some(system(1)), Some(Done::Exit(0)));
    // Its generation and its entry go, although it was never the default.
    assert_eq!(switch.next(), Act::RestoreProfile(system(1)));
    switch.sight.last = Some(Done::Profile(Ok(())));
    assert_eq!(switch.next(), Act::WriteOldBoot(system(1)));
    switch.sight.last = Some(Done::Exit(0));
    let Act::Finish(outcome) = switch.next() else { panic!("not over") };
    assert_eq!(outcome.ending, Some(Ending::RolledBack));
}

#[test]
fn one_that_does_not_come_up_is_quarantined_at_once() {
    let (mut scene, first) = armed();
    booted(&mut scene, 1);
    let order = switch(&scene);
    assert_eq!((order.how.clone(), order.once), (How::Restore(Restore::FellBack), true));
    assert_eq!((order.candidate.clone(), order.old.clone()), (system(2), Some(system(1))));
    assert_eq!(order.order.deployment, first.order.deployment);
    scene.switched(order, Some(Ending::RolledBack), true);
    let trouble = scene.memory.trouble_with(&Subject::System { system: system(2) }).unwrap();
    assert_eq!((trouble.failures, trouble.stuck.as_ref()), (1, Some(&Stuck::Quarantined)));
    assert_eq!(scene.memory.history.len(), 1);
    assert!(matches!(scene.decide().outlook, Outlook::Stuck(_)));
    assert!(scene.memory.awaiting.is_none() && !scene.status().running.drift);
}

#[test]
fn one_that_does_not_come_up_is_found_out_after_a_default_that_does_not_either() {
    let (mut scene, _) = armed();
    scene.seen.gave_up = true;
    booted(&mut scene, 3);
    let order = switch(&scene);
    assert_eq!((order.candidate.clone(), order.once), (system(1), false));
    scene.seen.gave_up = false;
    scene.seen.profile = Some(generation(0, 3));
    scene.switched(order, Some(Ending::RolledBack), true);
    let order = switch(&scene);
    assert_eq!(
        (order.how, order.candidate, order.once),
        (How::Restore(Restore::FellBack), system(2), true)
    );
}

#[test]
fn one_that_came_up_and_was_cut_off_is_counted_and_tried_again() {
    let (mut scene, _) = armed();
    booted(&mut scene, 2);
    scene.seen.boot_id = boot(3);
    (scene.seen.running, scene.seen.booted) = (Some(system(1)), Some(system(1)));
    scene.fold();
    let trouble = scene.memory.trouble_with(&Subject::System { system: system(2) }).unwrap();
    assert_eq!((trouble.failures, trouble.stuck.as_ref()), (1, None));
    let ended: Vec<_> = scene.memory.history.iter().map(|entry| entry.verdict).collect();
    assert_eq!(ended, [Ending::Interrupted]);
    assert!(matches!(scene.decide().outlook, Outlook::BackingOff(_)));
}

#[test]
fn what_took_its_place_is_what_boots_next() {
    // The commit before it is wanted again: its system runs and is the default.
    let (mut scene, _) = armed();
    scene.memory.target = Some(target(1, Operation::Switch));
    scene.memory.accepted.as_mut().unwrap().commit = commit(1);
    scene.gives(0, Some(1), None);
    let Outlook::Due(due) = scene.decide().outlook else { panic!("not due") };
    assert!(matches!(due, Due::Settle { .. }));
    assert!(matches!(scene.turn().step, Step::Settle { .. }));
    assert_eq!(scene.turn().step, Step::Disarm { system: system(2) });
    scene.seen.disarming = true;
    assert!(!matches!(scene.turn().step, Step::Disarm { .. }));
    (scene.seen.disarming, scene.seen.disarmed) = (false, Some((system(2), scene.now.mono)));
    assert!(!matches!(scene.turn().step, Step::Disarm { .. }));
    assert!(scene.memory.armed.is_empty());
}

#[test]
fn what_is_booted_once_too_late_is_no_other_hand() {
    // As before, but power was cut before the boot loader was told.
    let (mut scene, _) = armed();
    scene.memory.target = Some(target(1, Operation::Switch));
    scene.memory.accepted.as_mut().unwrap().commit = commit(1);
    scene.gives(0, Some(1), None);
    scene.turn();
    booted(&mut scene, 2);
    assert!(!scene.status().running.drift);
    scene.passes(1);
    let order = switch(&scene);
    assert_eq!((order.how, order.candidate), (How::Activate, system(1)));
}

#[test]
fn a_default_by_another_hand_ends_the_wait() {
    let (mut scene, _) = armed();
    scene.seen.profile = Some(generation(3, 7));
    scene.fold();
    assert!(scene.memory.awaiting.is_none());
    assert_eq!(scene.memory.history.last().unwrap().verdict, Ending::Superseded);
    assert_eq!(scene.decide().step, Step::Disarm { system: system(2) });
}

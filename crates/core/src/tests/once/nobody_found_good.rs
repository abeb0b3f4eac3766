//! Defaults that nobody found good.

use super::*;

/// System 2 boots by default, for it was left to a boot that never came; system
/// 3 runs. A commit describes system 2 again, and system 1 is the last good one.
fn a_default_that_nobody_found_good() -> Switch {
    let mut switch = Switch::putting_back();
    switch.order.old = Some(system(3));
    switch.order.running = Some(system(3));
    switch.order.profile = Some(generation(2, 2));
    switch.order.default_instead = Some(system(1));
    switch.sight.running = Some(system(3));
    switch.sight.booted = Some(system(3));
    switch.sight.profile = Some(generation(2, 2));
    switch
}

#[test]
fn a_default_that_nobody_found_good_is_given_back_when_it_fails() {
    let mut switch = a_default_that_nobody_found_good();
    assert_eq!(switch.next(), Act::ActivateOld(system(3)));
    switch.sight.last = Some(Done::Exit(0));
    assert_eq!(switch.next(), Act::RestoreProfile(system(1)));
    switch.sight.profile = Some(generation(1, 1));
    switch.sight.last = Some(Done::Profile(Ok(())));
    assert_eq!(switch.next(), Act::WriteOldBoot(system(1)));
    switch.sight.last = Some(Done::Exit(0));
    assert_eq!(words(switch.next()), "rolled-back, counted");

    // Or when it cannot be activated at all.
    let mut refused = a_default_that_nobody_found_good();
    refused.progress.phase = Phase::Activating { since: crate::tests::switching::at(0) };
    refused.sight.last = Some(Done::Exit(1));
    assert_eq!(refused.next(), Act::RestoreProfile(system(1)));

    // One that was found good stays what boots.
    let mut good = a_default_that_nobody_found_good();
    good.order.default_instead = None;
    assert_eq!(good.next(), Act::ActivateOld(system(3)));
    good.sight.last = Some(Done::Exit(0));
    assert_eq!(words(good.next()), "rolled-back, counted");
}

#[test]
fn what_boots_instead_is_the_last_good_system() {
    let mut scene = Scene::at_rest();
    scene.policy.remotes.truncate(1);
    scene.seen.remotes.truncate(1);
    scene.wants_two();
    let good = scene.memory.last_good.clone().unwrap().system;
    let instead = |scene: &mut Scene| {
        scene.passes(2);
        let Outlook::Due(due) = scene.decide().outlook else { panic!("nothing is due") };
        let Due::Switch(order) = due else { panic!("{due:?} is no switch") };
        assert_eq!(order.how, How::Activate);
        order.default_instead
    };
    assert_eq!(instead(&mut scene), None);
    scene.seen.profile = Some(generation(2, 2));
    assert_eq!(instead(&mut scene), Some(good));
}

#[test]
fn what_has_failed_before_is_booted_once_or_not_at_all() {
    let failed = || {
        let mut switch = deferring();
        switch.order.suspect = true;
        switch
    };
    let (acts, kept) = course(&mut failed(), |_| None);
    assert_eq!((acts.last().map(String::as_str), kept), (Some(OVER), Some(1)));
    // It would stay the default, unverified.
    let mut switch = failed();
    let cannot = |act: &Act| {
        matches!(act, Act::SetOneshot { .. }).then(|| Done::Oneshot(Err("no entry".into())))
    };
    for _ in 0..3 {
        let ends = cannot(&switch.clone().next());
        one(&mut switch, ends);
    }
    let Act::RestoreProfile(default) = switch.next() else { panic!("{:?}", switch.progress) };
    assert_eq!(default, system(1));
    let Phase::PuttingBack(back) = &switch.progress.phase else { panic!() };
    assert_eq!(back.ending, Ending::RolledBack);
    assert!(back.cause.words.contains("it has failed before"), "{}", back.cause);
    // What an operator only ever wants booted is tried as often as everything.
    let mut switch = failed();
    switch.order.order.target.operation = Operation::Boot;
    let (acts, kept) = course(&mut switch, cannot);
    assert_eq!((acts.last().map(String::as_str), kept), (Some(OVER), None));
}

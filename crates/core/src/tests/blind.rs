//! A host that cannot be looked at: nothing is concluded from what is not seen.

use std::time::Duration;

use super::fixture::{Scene, commit, now, system};
use super::switching::{Switch, at, words};
use crate::decide::{LOOK_AGAIN, Outlook, Step};
use crate::guardian::{Act, Done, Phase, act};
use crate::job::{Ending, How, Verdict};
use crate::observed::{Job, Life, Remains, Seen, Work};
use crate::policy::Operation;
use crate::request::{Request, answer};
use crate::status::{NextAction, State};
use crate::unseen::{Odd, OddProfile, Part, Unseen};

fn unseen(part: Part) -> Unseen {
    let (path, error) = ("/the/path".to_owned(), "Input/output error (os error 5)".to_owned());
    Unseen { part, path, errno: Some(5), error }
}

/// At rest, and then this cannot be looked at: there seems to be nothing.
fn blind(part: Part) -> Scene {
    let mut scene = Scene::at_rest();
    scene.fold();
    (scene.seen.running, scene.seen.profile) = (None, None);
    scene.seen.present.clear();
    scene.seen.unseen = vec![unseen(part)];
    scene
}

#[test]
fn what_cannot_be_seen_changes_no_memory_and_nothing_is_done() {
    for part in [Part::Running, Part::Profile, Part::Jobs, Part::Store, Part::Descriptors] {
        let mut scene = blind(part);
        let before = scene.memory.clone();
        // A push is seen, and a commit that is to be activated is left.
        scene.gives(0, Some(2), None);
        scene.fold();
        assert_eq!(scene.memory.blind_since, Some(scene.now.wall), "{part:?}");
        assert_eq!(scene.memory.running, before.running);
        assert_eq!(scene.memory.history, before.history);
        let step = scene.decide().step;
        // What it is worth may be looked up; it is not followed.
        assert_eq!(step, Step::Compare { older: commit(1), newer: commit(2) });
        scene.seen.comparing = true;
        let Step::Wait { until: Some(until) } = scene.decide().step else { panic!("{part:?}") };
        assert!(until <= scene.now.mono.plus(LOOK_AGAIN));
    }
}

#[test]
fn the_remotes_are_asked_all_the_same() {
    let mut scene = blind(Part::Jobs);
    scene.now = now(10_000);
    scene.fold();
    assert!(matches!(scene.decide().step, Step::Poll { remote: 0, .. }));
}

#[test]
fn it_is_shown_with_path_since_and_what_lifts_it_before_whatever_is_held() {
    let mut scene = blind(Part::Profile);
    scene.fold();
    let since = scene.now.wall;
    scene.seen.unwritten = Some("no room".into());
    scene.now = now(200);
    scene.fold();
    let shown = scene.status();
    assert_eq!(shown.state, State::Blind);
    let told = shown.blind.clone().unwrap();
    assert_eq!((told.unseen, told.since), (unseen(Part::Profile), since));
    assert_eq!(shown.lift, Some(told.lift.into()));
    assert!(shown.reason.contains("/the/path: Input/output error"), "{}", shown.reason);
    assert!(shown.reason.contains(&format!("since {since}")), "{}", shown.reason);
    assert_eq!(shown.next.unwrap().action, NextAction::Look);
    // It is over, and as if it had not been.
    let mut scene = Scene { seen: Scene::at_rest().seen, ..scene };
    scene.fold();
    assert_eq!(scene.memory.blind_since, None);
    let shown = scene.status();
    assert_eq!((shown.state, shown.blind), (State::UpToDate, None));
    assert!(scene.memory.history.is_empty());
}

#[test]
fn a_kernel_that_cannot_be_compared_is_only_noted_and_asks_for_no_reboot() {
    let mut scene = Scene::at_rest();
    scene.seen.unseen = vec![unseen(Part::Kernel)];
    scene.fold();
    let shown = scene.status();
    assert_eq!((shown.state, shown.boot.reboot_required), (State::UpToDate, false));
    assert!(shown.notes[0].starts_with("whether a reboot is needed cannot be told: /the/path"));
}

#[test]
fn a_switch_that_is_at_work_is_shown_first_and_not_judged() {
    let mut scene = Scene::at_rest();
    scene.fold();
    let order = scene.switch_order(2, 2, How::Activate);
    let mut switch = Switch::new(Operation::Switch, Phase::Activated { at: at(90) });
    switch.progress.phase = Phase::Activated { at: at(90) };
    let id = crate::job::JobId {
        kind: crate::job::JobKind::Switch,
        deployment: order.order.deployment.clone(),
    };
    let (progress, verdict, outcome) = (Some(switch.progress), None, None);
    let work = Work::Switch { order, progress, verdict, outcome };
    let job = Job {
        id,
        life: Life::Running,
        stopping: false,
        resumed: None,
        unstarted: None,
        remains: Remains::Begun,
        work,
    };
    scene.seen = Seen { jobs: vec![job], running: None, ..scene.seen };
    scene.seen.unseen = vec![unseen(Part::Running)];
    scene.now = now(9_000);
    scene.seen.remotes.iter_mut().for_each(|remote| remote.asked = Some(scene.now.mono));
    scene.fold();
    assert!(matches!(scene.decide().outlook, Outlook::Switching { .. }));
    assert!(matches!(scene.decide().step, Step::Wait { .. }), "{:?}", scene.decide().step);
    let shown = scene.status();
    assert_eq!(shown.state, State::Verifying);
    assert!(shown.blind.is_some());
    assert!(shown.notes.iter().any(|note| note.contains("cannot be looked at: /the/path")));
}

#[test]
fn nobody_goes_back_blindly() {
    let mut scene = blind(Part::Running);
    scene.fold();
    let request = Request::Rollback { to: None, reason: String::new() };
    let (policy, memory, seen) = (&scene.policy, &scene.memory, &scene.seen);
    let refused = answer(&request, policy, memory, seen, scene.now).unwrap_err();
    assert!(refused.contains("/the/path"), "{refused}");
}

#[test]
fn a_profile_that_is_none_of_nix_envs_is_named_and_left_until_the_next_commit() {
    let mut scene = Scene::at_rest();
    let (path, why) = ("/nix/var/nix/profiles/system".to_owned(), Odd::Dangling { number: 12 });
    (scene.seen.profile, scene.seen.odd_profile) = (None, Some(OddProfile { path, why }));
    scene.fold();
    let shown = scene.status();
    assert_eq!(shown.state, State::Waiting);
    let named = "/nix/var/nix/profiles/system links to generation 12, which is not there";
    assert!(shown.reason.contains(named), "{}", shown.reason);
    assert!(shown.lift.unwrap().contains("push a commit"));
}

/// Blind since the first second, and now it is that second.
fn blindly(mut switch: Switch, part: Part, second: u64) -> Act {
    if part != Part::Profile {
        switch.sight.running = None;
    }
    switch.sight.profile = None;
    switch.sight.unseen = Some((unseen(part), at(1)));
    act(&switch.order, &switch.progress, &switch.sight, at(second))
}

#[test]
fn a_guardian_takes_what_it_cannot_see_for_no_other_hand() {
    let activated = || Switch::new(Operation::Switch, Phase::Activated { at: at(0) });
    let again = Act::LookAgain(Duration::from_secs(1));
    assert_eq!(blindly(activated(), Part::Running, 2), again);
    // It waits for the verdict without the profile.
    let mut seen = activated();
    seen.sight.running = Some(system(2));
    assert_eq!(words(blindly(seen, Part::Profile, 2)), "await the verdict");
    // A bad one, and time, lead back.
    let mut judged = activated();
    let verdict = Verdict { cause: Some("no web".into()), good: false, ..Verdict::good(None) };
    judged.sight.verdict = Some(verdict);
    let leads_back = |act: Act, why: &str| {
        let Act::Note(progress) = act else { panic!("{act:?}") };
        let Phase::PuttingBack(back) = progress.phase else { panic!("{:?}", progress.phase) };
        assert!(back.cause.words.contains(why), "{}", back.cause);
        assert_eq!(back.ending, Ending::RolledBack);
    };
    leads_back(blindly(judged, Part::Running, 2), "no web");
    leads_back(blindly(activated(), Part::Running, 9_000), "/the/path");
}

#[test]
fn a_guardian_that_cannot_look_waits_a_minute_and_goes_back() {
    let phase = |phase| Switch::new(Operation::Switch, phase);
    let why = || "kernel".to_owned();
    for (begun, then) in [
        (Phase::Activating { since: at(0) }, "note PuttingBack"),
        (Phase::Committing, "note PuttingBack"),
        (Phase::Deferring { why: why(), stays: false }, "note PuttingBack"),
        (Phase::Returning { why: why() }, "note PuttingBack"),
        (Phase::Ready, "interrupted, not counted"),
    ] {
        let mut switch = phase(begun.clone());
        // What was done is not done again.
        switch.sight.last = Some(Done::Exit(0));
        assert_eq!(words(blindly(switch.clone(), Part::Running, 60)), "look again in 1 s");
        let told = words(blindly(switch, Part::Running, 62));
        assert!(told.starts_with(then), "{begun:?}: {told}");
    }
}

#[test]
fn the_way_back_is_not_blocked_and_its_default_is_not_guessed() {
    // The system comes back, whatever cannot be seen.
    assert_eq!(
        words(blindly(Switch::putting_back(), Part::Profile, 2)),
        "free the lock of Leftovers"
    );
    assert_eq!(words(blindly(Switch::putting_back(), Part::Running, 2)), "look again in 1 s");
    assert_eq!(
        words(blindly(Switch::putting_back(), Part::Running, 62)),
        "free the lock of Leftovers"
    );
    // It does not end before the profile was seen: it may name the candidate.
    let mut back = Switch::putting_back();
    let Phase::PuttingBack(way) = &mut back.progress.phase else { panic!() };
    way.activated = true;
    back.progress.default_touched = true;
    for _ in 0..3 {
        let Act::Note(progress) = blindly(back.clone(), Part::Profile, 62) else { panic!() };
        back.progress = progress;
    }
    let Phase::PuttingBack(way) = &back.progress.phase else { panic!() };
    assert_eq!(way.tries, 3);
    assert!(way.error.as_ref().unwrap().contains("/the/path"));
    assert_eq!(words(blindly(back, Part::Profile, 99)), "look again in 10 s");
}

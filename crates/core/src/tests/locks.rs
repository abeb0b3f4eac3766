//! The lock of `switch-to-configuration`: who may lose it, and for how long it is
//! waited for. Whoever holds it, and for however long, the old system comes back.

use std::fmt::Write as _;

use super::fixture::system;
use super::switching::{Switch, at, words};
use crate::guardian::lock::{Claim, LOCK_LIMIT, Lock, Whom};
use crate::guardian::{Act, Done, Hanging, Phase, RUNGS, Traces, WayBack, act};
use crate::job::{Ending, Generation, SwitchOutcome};
use crate::policy::Operation;
use crate::types::Mono;

fn held() -> Lock {
    Lock::Held("process 7 (sleep) of x.service".into())
}

#[test]
fn only_who_cannot_be_switching_the_host_loses_the_lock() {
    let root = Claim { root: true, over: false };
    let left_behind = Claim { root: true, over: true };
    let stranger = Claim { root: false, over: false };
    let mut table = String::new();
    for (holders, claims) in [
        ("nobody", &[][..]),
        ("a stranger", &[stranger]),
        ("two strangers", &[stranger, stranger]),
        ("what was left behind", &[left_behind]),
        ("that and a stranger", &[left_behind, stranger]),
        ("root", &[root]),
        ("root and a stranger", &[stranger, root]),
        ("root and what was left behind", &[left_behind, root]),
    ] {
        write!(table, "{holders:<32}").unwrap();
        for whom in [Whom::Strangers, Whom::Leftovers, Whom::Everybody] {
            write!(table, "{:<10}", format!("{:?}", whom.about(claims))).unwrap();
        }
        table.truncate(table.trim_end().len());
        table.push('\n');
    }
    insta::assert_snapshot!(table, @r"
    nobody                          Renew     Renew     Renew
    a stranger                      PassBy    End       PassBy
    two strangers                   PassBy    End       PassBy
    what was left behind            Leave     End       PassBy
    that and a stranger             Leave     End       PassBy
    root                            Leave     Leave     PassBy
    root and a stranger             Leave     Leave     PassBy
    root and what was left behind   Leave     Leave     PassBy
    ");
}

#[test]
fn the_lock_of_another_switch_is_waited_for_no_longer_than_an_activation_may_take() {
    let mut switch = Switch::activating().locked_out(Lock::Unknown);
    assert!(matches!(switch.act(), Act::Pause(_)));
    let Act::Finish(outcome) = switch.next_at(at(900)) else { panic!("it still waits") };
    assert_eq!((outcome.ending, outcome.counts), (Some(Ending::Failed), false));
}

#[test]
fn who_holds_the_lock_is_written_down_once_and_said_at_the_end() {
    let mut switch = Switch::activating().locked_out(held());
    switch.progress.lock = None;
    let Act::Note(progress) = switch.act() else { panic!("{:?}", switch.act()) };
    assert_eq!(progress.lock.as_deref(), Some("process 7 (sleep) of x.service"));
    assert_eq!(progress.phase, switch.progress.phase);
    switch.progress = progress;
    assert!(matches!(switch.act(), Act::Pause(_)));
    let Act::Finish(outcome) = switch.next_at(at(900)) else { panic!("it still waits") };
    let cause = "another switch holds the lock (exit code 11): process 7 (sleep) of x.service";
    assert_eq!(outcome.cause.as_deref(), Some(cause));
}

#[test]
fn what_held_the_lock_may_have_switched_the_host() {
    let mut switch = Switch::activating().last(Done::Waited);
    assert_eq!(switch.clone().next(), Act::Activate);
    switch.sight.running = Some(system(7));
    let Act::Finish(outcome) = switch.act() else { panic!("it switches all the same") };
    assert_eq!((outcome.ending, outcome.counts), (Some(Ending::Superseded), false));
}

#[test]
fn strangers_lose_the_lock_before_each_program_and_what_was_left_behind_on_the_way_back() {
    let activating = Switch::activating();
    assert_eq!(activating.act(), Act::FreeLock(Whom::Strangers));
    assert_eq!(activating.last(Done::Waited).act(), Act::FreeLock(Whom::Strangers));
    let mut committing = Switch::new(Operation::Switch, Phase::Committing);
    committing.sight.running = Some(system(2));
    committing.sight.profile = Some(Generation { number: 2, system: system(2) });
    assert_eq!(committing.act(), Act::FreeLock(Whom::Strangers));
    let back = Switch::putting_back();
    assert_eq!(back.act(), Act::FreeLock(Whom::Leftovers));
    assert_eq!(back.last(Done::Waited).act(), Act::FreeLock(Whom::Leftovers));
}

/// Lets a switch go on while root holds the lock for ever: what it does, each in words and once,
/// how long it took, and its outcome.
fn plays(switch: &mut Switch) -> (Vec<String>, u64, SwitchOutcome) {
    let (mut now, mut passed_by) = (1, false);
    let mut acts: Vec<String> = Vec::new();
    while now < 3_600 {
        let next = act(&switch.order, &switch.progress, &switch.sight, at(now));
        let word = words(next.clone());
        if !matches!(next, Act::Note(_)) && !acts.contains(&word) {
            acts.push(word);
        }
        // Each takes its time.
        now += 1;
        switch.sight.traces = Traces::default();
        switch.sight.last = Some(match next {
            Act::Note(progress) => {
                (switch.progress, switch.sight.own, switch.sight.last) = (progress, true, None);
                continue;
            }
            Act::FreeLock(whom) => {
                passed_by = whom == Whom::Everybody;
                Done::Lock(Vec::new())
            }
            Act::Pause(pause) => {
                now += pause.as_secs();
                Done::Waited
            }
            Act::WriteOldBoot(_) if passed_by => Done::Exit(0),
            Act::Activate | Act::ActivateOld(_) | Act::WriteBoot | Act::WriteOldBoot(_) => {
                switch.sight.traces.locked_out = true;
                switch.sight.lock = held();
                Done::Exit(11)
            }
            Act::RestartBus => Done::Bus,
            Act::StartUnits => Done::Units(Vec::new()),
            Act::ReviveOld(old) => {
                switch.sight.running = Some(old);
                Done::Exit(0)
            }
            Act::RestoreProfile(_) => {
                switch.sight.profile = Some(Generation { number: 1, system: system(1) });
                Done::Profile(Ok(()))
            }
            Act::Finish(outcome) => return (acts, now, outcome),
            Act::AwaitVerdict(_)
            | Act::LookAgain(_)
            | Act::SetProfile
            | Act::EndUnits(_)
            | Act::Reboot
            | Act::SetOneshot { .. }
            | Act::ReturnProfile(_) => panic!("{next:?}"),
        });
    }
    panic!("it waits for ever: {acts:?}")
}

#[test]
fn a_lock_that_is_held_for_ever_ends_in_the_old_system_and_the_bus_is_left_alone() {
    let mut switch = Switch::putting_back();
    switch.order.units = true;
    let (acts, took, outcome) = plays(&mut switch);
    assert_eq!(outcome.ending, Some(Ending::RolledBack));
    assert!(acts.contains(&"put back by hand".to_owned()), "{acts:?}");
    // Who holds it may be switching, and need the bus.
    assert!(!acts.contains(&"restart the bus".to_owned()), "{acts:?}");
    let rungs = 2 * LOCK_LIMIT.as_secs();
    assert!((rungs..rungs + 30).contains(&took), "{took} s");
}

#[test]
fn a_bus_that_is_dead_is_restarted_where_the_lock_was_not_in_the_way() {
    let mut switch = Switch::putting_back().last(Done::Exit(11));
    switch.order.units = true;
    assert_eq!(switch.next(), Act::RestartBus);
    // And it is not restarted again while the lock is waited for on that rung.
    let mut switch = switch.locked_out(held());
    assert!(matches!(switch.next(), Act::Pause(_)));
    assert_eq!(switch.last(Done::Waited).next(), Act::ActivateOld(system(1)));
}

#[test]
fn a_lock_that_is_held_for_ever_does_not_keep_the_default_of_before_away() {
    let mut switch = Switch::putting_back();
    switch.progress.default_touched = true;
    switch.sight.running = Some(system(1));
    switch.sight.profile = Some(Generation { number: 2, system: system(2) });
    switch.progress.phase =
        Phase::PuttingBack(WayBack::begun("exit code 1", Ending::RolledBack, true));
    let (acts, took, outcome) = plays(&mut switch);
    assert_eq!((outcome.ending, outcome.counts), (Some(Ending::RolledBack), true));
    assert!(acts.contains(&"free the lock of Everybody".to_owned()), "{acts:?}");
    // Longer than any boot loader takes to be written.
    assert!(took > 2 * LOCK_LIMIT.as_secs(), "{took} s");
    assert!(switch.back().tries > RUNGS);
}

#[test]
fn a_good_system_waits_for_the_lock_to_become_the_default_and_blames_nobody_in_the_end() {
    let mut switch = Switch::new(Operation::Switch, Phase::Committing);
    switch.sight.running = Some(system(2));
    switch.sight.profile = Some(Generation { number: 2, system: system(2) });
    let mut waiting = switch.clone().locked_out(held());
    assert_eq!(words(waiting.next()), "again in 2 s");
    // What is done meanwhile by who holds it is respected.
    let mut taken = waiting.last(Done::Waited);
    taken.sight.running = Some(system(7));
    assert_eq!(words(taken.next()), "superseded, not counted");
    switch.progress.default_touched = true;
    let (acts, took, outcome) = plays(&mut switch);
    assert!(took > 900, "{took} s: it is waited for as long as an activation may take");
    assert!(acts.contains(&"put the profile back".to_owned()), "{acts:?}");
    assert_eq!((outcome.ending, outcome.counts), (Some(Ending::RolledBack), false));
    assert!(outcome.cause.unwrap().contains("process 7 (sleep) of x.service"));
}

#[test]
fn who_had_to_be_killed_for_the_way_back_is_named_once_in_the_cause() {
    let told = || vec!["process 9 (flock) of user 7 held the lock and was killed".to_owned()];
    let mut switch = Switch::putting_back().last(Done::Lock(told()));
    assert_eq!(switch.next(), Act::ActivateOld(system(1)));
    let cause = "check web: no answer; process 9 (flock) of user 7 held the lock and was killed";
    assert_eq!(switch.back().cause, cause);
    let mut switch = switch.last(Done::Lock(told()));
    assert_eq!(switch.next(), Act::ActivateOld(system(1)));
    assert_eq!(switch.back().cause, cause);
    // However many come, what is told of them has an end.
    for n in 0..200 {
        switch = switch.last(Done::Lock(vec![format!("process {n} (flock) held the lock")]));
        assert_eq!(switch.next(), Act::ActivateOld(system(1)));
    }
    assert!(switch.back().cause.words.len() < 3_000);
}

fn hanging(unit: &str, stopping: bool) -> Traces {
    let hanging = vec![Hanging { unit: unit.into(), stopping }];
    Traces { hanging, ..Traces::default() }
}

#[test]
fn a_unit_that_cannot_be_stopped_is_killed_and_named_and_the_ladder_goes_on() {
    let mut switch = Switch::putting_back().last(Done::Broke("timed out".into()));
    switch.sight.traces = hanging("stuck.service", true);
    assert_eq!(switch.next(), Act::EndUnits(vec!["stuck.service".into()]));
    let mut switch = switch.last(Done::UnitsEnded(vec!["stuck.service".into()]));
    assert_eq!(switch.next(), Act::ActivateOld(system(1)));
    let back = switch.back();
    assert_eq!(back.tries, 1);
    let said = "switch-to-configuration test: timed out, while systemd was stopping stuck.service, \
                which was killed";
    assert_eq!(back.error.as_deref(), Some(said));
    assert!(
        back.cause.words.starts_with("check web: no answer; ") && back.cause.words.contains(said)
    );
    // On the way forward likewise: the way back would meet it again.
    let mut switch = Switch::activating().last(Done::Broke("timed out".into()));
    switch.sight.traces = hanging("stuck.service", true);
    assert_eq!(switch.next(), Act::EndUnits(vec!["stuck.service".into()]));
    let mut switch = switch.last(Done::UnitsEnded(vec!["stuck.service".into()]));
    assert_eq!(switch.next(), Act::ActivateOld(system(1)));
    assert_eq!(switch.back().cause, said);
}

#[test]
fn a_unit_that_does_not_get_started_is_named_and_lives() {
    let mut switch = Switch::putting_back().last(Done::Broke("timed out".into()));
    switch.sight.traces = hanging("slow.service", false);
    assert_eq!(switch.next(), Act::ActivateOld(system(1)));
    let error = switch.back().error.clone().unwrap();
    assert!(error.ends_with("timed out, while systemd was starting slow.service"), "{error}");
}

#[test]
fn progress_that_an_earlier_version_wrote_can_be_read() {
    let text = r#"{"phase":{"is":"putting-back","cause":"no","ending":"rolled-back",
        "activated":false,"tries":1,"error":null},"since":7,"default_touched":false}"#;
    let progress: crate::guardian::Progress = serde_json::from_str(text).unwrap();
    let Phase::PuttingBack(back) = progress.phase else { panic!() };
    assert_eq!(back, WayBack { tries: 1, ..WayBack::begun("no", Ending::RolledBack, false) });
    assert_eq!(progress.since, Mono::from_millis(7));
}

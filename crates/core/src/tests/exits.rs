//! From the end of a program to what follows: every code and signal, at every
//! point of a switch, with the host moved or not and the lock held or not.
//!
//! The real `switch-to-configuration` ends many errors with the last errno, so that
//! any code may come at any point.

use std::fmt::Write as _;

use super::fixture::system;
use super::switching::{Switch, at, words};
use crate::guardian::lock::Lock;
use crate::guardian::{Done, Phase, Traces, WayBack};
use crate::job::{Ending, Generation, How};
use crate::policy::Operation;

/// Codes that mean something, and some errnos: EINTR is 4, EAGAIN 11, EBUSY 16,
/// EPIPE 32, ENETDOWN 100, ETIMEDOUT 110.
const CODES: [i32; 11] = [0, 1, 2, 4, 5, 11, 16, 32, 100, 110, 127];

/// How a program ended.
struct End {
    name: String,
    done: Done,
}

fn ends() -> Vec<End> {
    let codes = CODES.map(|code| End { name: format!("exit code {code}"), done: Done::Exit(code) });
    let broke = End { name: "a signal or a timeout".into(), done: Done::Broke("killed".into()) };
    codes.into_iter().chain([broke]).collect()
}

fn began(unfinished: bool) -> Traces {
    Traces { began: true, unfinished, ..Traces::default() }
}

fn locked_out() -> Traces {
    Traces { locked_out: true, ..Traces::default() }
}

fn held() -> Lock {
    Lock::Held("process 7 (sleep)".into())
}

/// Cases of exit code 11: whether the program says that it was the lock, and who holds that.
fn of_the_lock() -> [(&'static str, Traces, Lock); 5] {
    [
        ("says so, it is held", locked_out(), held()),
        ("says so, nobody holds it", locked_out(), Lock::Free),
        ("says so, cannot be told", locked_out(), Lock::Unknown),
        ("does not say so, is held", Traces::default(), held()),
        ("does not, cannot be told", Traces::default(), Lock::Unknown),
    ]
}

#[test]
fn what_an_activation_ended_with_becomes_a_verdict_only_where_the_host_agrees() {
    let mut table = format!(
        "{:<24}{:<32}{:<38}{}\n",
        "test ended with", "and", "for a release", "for a testing branch"
    );
    let mut row = |end: &End, and: &str, runs: u8, traces: &Traces, lock: &Lock| {
        let ended = |operation| {
            let mut switch = Switch::new(operation, Phase::Activating { since: at(0) });
            switch.sight.running = Some(system(runs));
            let switch = switch.with(traces.clone(), lock.clone());
            words(switch.last(end.done.clone()).next())
        };
        let (release, testing) = (ended(Operation::Switch), ended(Operation::Test));
        writeln!(table, "{:<24}{and:<32}{release:<38}{testing}", end.name).unwrap();
    };
    for end in ends() {
        row(&end, "nothing has begun", 1, &Traces::default(), &Lock::Free);
        row(&end, "units were stopped", 1, &began(false), &Lock::Free);
        row(&end, "the candidate runs", 2, &began(false), &Lock::Free);
        row(&end, "it runs, units are not started", 2, &began(true), &Lock::Free);
        if end.done == Done::Exit(11) {
            for (and, traces, lock) in of_the_lock() {
                row(&end, and, 1, &traces, &lock);
            }
            row(&end, "is held, the candidate runs", 2, &locked_out(), &held());
            row(&end, "is held, units were stopped", 1, &began(false), &held());
        }
    }
    insta::assert_snapshot!(table);
}

/// A switch at one of its other points, where a program is about to end.
fn points() -> Vec<(&'static str, Switch)> {
    let candidates = Some(Generation { number: 2, system: system(2) });
    let why = || "a changed kernel".to_owned();
    let mut commit = Switch::new(Operation::Switch, Phase::Committing);
    (commit.sight.running, commit.sight.profile) = (Some(system(2)), candidates.clone());
    commit.progress.default_touched = true;
    let mut defer = Switch::new(Operation::Boot, Phase::Deferring { why: why(), stays: false });
    (defer.order.how, defer.sight.profile) =
        (How::Boot { why: "kernel changed".into() }, candidates);
    defer.progress.default_touched = true;
    let mut give_back = Switch::new(Operation::Boot, Phase::Returning { why: why() });
    (give_back.order.how, give_back.progress.default_touched) =
        (How::Boot { why: "kernel changed".into() }, true);
    let mut back = Switch::putting_back();
    back.order.units = true;
    let mut returned = back.clone();
    returned.sight.running = Some(system(1));
    let mut unstarted = returned.clone();
    unstarted.sight.traces.unfinished = true;
    let mut back_boot = returned.clone();
    back_boot.progress.default_touched = true;
    back_boot.progress.phase =
        Phase::PuttingBack(WayBack::begun("check web: no answer", Ending::RolledBack, true));
    let mut by_hand = returned.clone();
    by_hand.back().tries = 2;
    vec![
        ("boot, to commit", commit),
        ("boot, to defer", defer),
        ("boot, to give the default back", give_back),
        ("test, back, the candidate runs", back),
        ("test, back, the old one runs", returned),
        ("test, back, units not started", unstarted),
        ("boot, back", back_boot),
        ("activate, back, by hand", by_hand),
    ]
}

#[test]
fn a_program_ends_and_the_switch_goes_on_at_every_other_point() {
    let mut table = String::new();
    for (point, switch) in points() {
        writeln!(table, "{point}").unwrap();
        let mut row = |end: &str, mut switch: Switch| {
            let tries = |switch: &Switch| {
                if let Phase::PuttingBack(back) = &switch.progress.phase { back.tries } else { 0 }
            };
            let before = tries(&switch);
            let next = words(switch.next());
            let failed = if tries(&switch) > before { "failed: " } else { "" };
            writeln!(table, "  {end:<36}{failed}{next}").unwrap();
        };
        for end in ends() {
            row(&end.name, switch.clone().last(end.done.clone()));
            if end.done == Done::Exit(11) {
                for (and, traces, lock) in of_the_lock() {
                    let switch = switch.clone().last(end.done.clone());
                    row(&format!("  {and}"), switch.with(traces, lock));
                }
            }
        }
    }
    insta::assert_snapshot!(table);
}

#[test]
fn a_candidate_that_runs_is_never_another_hand() {
    // Whoever activated it while the lock was waited for.
    let mut switch = Switch::activating().last(Done::Waited);
    switch.sight.running = Some(system(2));
    assert_eq!(words(switch.next()), "activate");
    for end in ends() {
        let mut switch = Switch::activating().last(end.done);
        switch.sight.running = Some(system(2));
        let next = words(switch.next());
        assert!(!next.contains("superseded"), "{}: {next}", end.name);
    }
}

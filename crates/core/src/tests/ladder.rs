//! The way back: rung by rung, each judged by what runs and by the units.
#![allow(clippy::wildcard_enum_match_arm, reason = "what else it does is a failure")]

use std::time::Duration;

use super::switching::Switch;
use crate::guardian::{Act, Done, RUNGS};
use crate::job::{Ending, Generation};

use super::fixture::{boot, system};

/// Acts of the guardian when everything that it tries breaks.
fn climbs(units: bool, reboots: bool) -> Vec<String> {
    let mut switch = Switch::putting_back();
    (switch.order.units, switch.order.reboot_if_stuck) = (units, reboots);
    let mut acts = Vec::new();
    for _ in 0..14 {
        let act = switch.next();
        let (word, done) = match act {
            Act::ActivateOld(_) => ("switch", Done::Exit(1)),
            Act::RestartBus => ("bus", Done::Bus),
            Act::ReviveOld(_) => ("by hand", Done::Broke("killed".into())),
            Act::Reboot => ("reboot", Done::Bus),
            Act::Pause(pause) => {
                acts.push(format!("{} s", pause.as_secs()));
                switch.sight.last = Some(Done::Waited);
                continue;
            }
            other => panic!("{other:?}"),
        };
        acts.push(word.into());
        switch.sight.last = Some(done);
    }
    acts
}

#[test]
fn a_way_back_that_fails_is_climbed_and_then_begun_again_for_ever() {
    let under_systemd = climbs(true, false);
    assert_eq!(under_systemd[..6], ["switch", "bus", "switch", "by hand", "2 s", "switch"]);
    assert_eq!(under_systemd[6..10], ["bus", "switch", "by hand", "4 s"]);
    // Where there is no systemd nothing is done to it.
    assert_eq!(climbs(false, false)[..5], ["switch", "switch", "by hand", "2 s", "switch"]);
}

#[test]
fn a_host_that_cannot_be_put_back_is_rebooted_once_where_that_is_wished() {
    let acts = climbs(true, true);
    assert_eq!(acts[..7], ["switch", "bus", "switch", "by hand", "reboot", "2 s", "switch"]);
    assert_eq!(acts.iter().filter(|act| *act == "reboot").count(), 1);
}

#[test]
fn it_is_not_rebooted_into_what_was_never_verified() {
    for touched in [true, false] {
        let mut switch = Switch::putting_back();
        switch.order.reboot_if_stuck = true;
        switch.back().tries = RUNGS;
        switch.progress.default_touched = touched;
        let number = if touched { 1 } else { 2 };
        let default = if touched { system(1) } else { system(2) };
        switch.sight.profile = Some(Generation { number, system: default });
        assert_eq!(switch.next(), Act::Pause(Duration::from_secs(2)), "touched {touched}");
    }
}

#[test]
fn units_that_do_not_come_back_are_climbed_for_and_told_in_the_end() {
    let mut switch = Switch::putting_back();
    switch.order.units = true;
    let mut acts = Vec::new();
    let outcome = loop {
        let act = switch.next();
        switch.sight.last = Some(match act {
            Act::ActivateOld(_) | Act::ReviveOld(_) => {
                switch.sight.running = Some(system(1));
                acts.push("activated");
                Done::Exit(0)
            }
            Act::RestartBus => Done::Bus,
            Act::StartUnits => {
                acts.push("started");
                Done::Units(vec!["web.service".into()])
            }
            Act::Finish(outcome) => break outcome,
            other => panic!("{other:?}"),
        });
    };
    assert_eq!(acts, ["activated", "started"].repeat(3));
    assert_eq!(outcome.ending, Some(Ending::RolledBack));
    let cause = outcome.cause.unwrap();
    assert!(cause.contains("check web: no answer") && cause.contains("web.service"), "{cause}");
}

#[test]
fn an_exit_code_is_not_believed_where_something_else_runs() {
    let mut switch = Switch::putting_back();
    switch.sight.last = Some(Done::Exit(0));
    // It says that it is done, and the candidate runs.
    assert_eq!(switch.next(), Act::ActivateOld(system(1)));
    assert_eq!(switch.back().tries, 1);
}

#[test]
fn a_host_that_boots_something_else_on_the_way_back_is_left_as_it_is() {
    let mut switch = Switch::putting_back();
    switch.sight.boot_id = boot(2);
    (switch.sight.running, switch.sight.booted) = (Some(system(7)), Some(system(7)));
    let Act::Finish(outcome) = switch.next() else { panic!("not over") };
    assert_eq!((outcome.ending, outcome.counts), (Some(Ending::Interrupted), true));
    // In the same boot only another hand can have done that.
    let mut switch = Switch::putting_back();
    switch.sight.running = Some(system(7));
    let Act::Finish(outcome) = switch.next() else { panic!("not over") };
    assert_eq!(outcome.ending, Some(Ending::Superseded));
}

#[test]
fn a_default_that_another_hand_has_set_meanwhile_stays() {
    let mut switch = Switch::putting_back();
    switch.progress.default_touched = true;
    switch.sight.running = Some(system(1));
    switch.sight.profile = Some(Generation { number: 9, system: system(7) });
    switch.back().activated = true;
    let Act::Finish(outcome) = switch.next() else { panic!("it writes over it") };
    assert_eq!(outcome.ending, Some(Ending::Superseded));
}

#[test]
fn after_a_reboot_into_the_candidate_half_a_way_back_is_not_taken_for_a_whole_one() {
    let mut switch = Switch::putting_back();
    switch.sight.boot_id = boot(2);
    switch.sight.booted = Some(system(2));
    assert_eq!(switch.next(), Act::ActivateOld(system(1)));
    // It was killed half-way, and current-system names the old one already.
    switch.sight.running = Some(system(1));
    (switch.sight.own, switch.sight.last) = (false, None);
    assert_eq!(switch.next(), Act::ActivateOld(system(1)));
}

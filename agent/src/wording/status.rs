//! The sentences of a status that every face says alike.

use super::text::{Clock, Tone, ahead};
use crate::core::policy::Operation;
use crate::core::status::{HeldCause, Lift, NextAction, State, Status};
use crate::core::types::StorePath;

pub(crate) fn answer(status: &Status, clock: &Clock) -> (Tone, String) {
    let reason = &status.reason;
    match status.state {
        State::UpToDate => (Tone::Good, in_sync(status, clock)),
        State::Activating | State::Verifying | State::Realising => (Tone::Busy, reason.clone()),
        State::Starting => (Tone::Busy, format!("starting: {reason}")),
        State::Waiting => (Tone::Busy, format!("waiting: {reason}")),
        State::BackingOff => (Tone::Bad, format!("BACKING OFF: {reason}")),
        State::RebootRequired => (Tone::Bad, format!("REBOOT REQUIRED: {reason}")),
        State::Unreachable => (Tone::Bad, format!("UNREACHABLE: {reason}")),
        State::RollingBack => (Tone::Bad, format!("ROLLING BACK: {reason}")),
        State::RollbackFailed => (Tone::Bad, format!("ROLLBACK FAILED: {reason}")),
        State::Blind => (Tone::Bad, format!("BLIND: {reason}")),
        State::Held => (Tone::Bad, format!("HELD: {reason}")),
    }
}

/// Returns what a person can do about a status, or what happens without one.
pub(crate) fn lift(status: &Status, clock: &Clock) -> Lift {
    let run = |lift: &Lift| {
        let run = if lift.starts_with("fort-agent ") { "run " } else { "" };
        Lift::from(run).then(lift)
    };
    let held = status.held.as_ref().filter(|_| status.state == State::Held);
    if let Some(held) = held {
        let meant = matches!(held.cause, HeldCause::ForcePush(_));
        let if_meant = if meant { " if that was meant" } else { "" };
        return run(&held.lift).and(if_meant);
    }
    if let (State::Waiting, Some(gate)) = (status.state, &status.gate) {
        return run(&gate.lift);
    }
    let next = status.next.as_ref();
    match (status.state, next.map(|next| (&next.action, ahead(next.at, clock)))) {
        (State::BackingOff, Some((_, when))) => {
            // What a commit cannot mend comes first.
            let own = status.lift.as_deref().and_then(|it| it.split_once("; then fort-agent "));
            let own = own.map(|(first, _)| format!("{first}; ")).unwrap_or_default();
            Lift::from(format!("{own}tried again {when}, or at once by ")).run("retry")
        }
        (State::Verifying, Some((NextAction::PutBack, when))) => {
            format!("the old system is put back {when}, unless all checks pass").into()
        }
        (_, _) => status.lift.clone().unwrap_or_default(),
    }
}

pub(crate) fn in_sync(status: &Status, clock: &Clock) -> String {
    let (Some(desired), Some(commit)) = (&status.desired, status.running.commit) else {
        return status.reason.clone();
    };
    let since = status.running.since.map(|since| format!(" since {}", clock.at(since)));
    let since = since.unwrap_or_default();
    match desired.operation {
        Operation::Switch | Operation::Boot => {
            format!("in sync with {}{since}", commit.short())
        }
        Operation::Test => {
            format!("testing {} of {}{since}; a reboot undoes it", commit.short(), desired.branch)
        }
    }
}

/// Text for a part of the host that cannot be looked at.
pub(crate) const NOT_KNOWN: &str = "not known: it cannot be looked at";

/// Returns the name of a system, with as much of the hash as tells two apart.
pub(crate) fn short(system: &StorePath) -> String {
    let base = system.base_name();
    match (base.get(..7), base.get(33..)) {
        (Some(hash), Some(name)) => format!("{hash}…-{name}"),
        (_, _) => base.to_owned(),
    }
}

//! The page for people: the status and the last deployments, as HTML.
//!
//! For somebody with a phone who was woken up: the answer first, what to do
//! about it next, then the facts. It is written anew at each request and loads
//! nothing; it needs no JavaScript, and the browser is told to allow nothing
//! but this one style. It says what `fort-agent status` says, in its words.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::header::HeaderValue;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::control::Shown;
use crate::core::gates::GateKind;
use crate::core::status::{GateView, Lift, Piece, State, Status, SuspendedView};
use crate::core::types::{Commit, Wall};
use crate::windows::TimeZone;
use crate::wording::status;
use crate::wording::text::{Clock, Tone, ago, ahead};

mod bounds;
mod facts;
mod timeline;
mod under_way;

use bounds::{ANSWER, NAME, bounded};

/// Content type that the page is served as.
pub(super) const CONTENT_TYPE: &str = "text/html; charset=utf-8";

const STYLE: &str = include_str!("style.css");

/// Content security policy: the browser may show the page, in this style, and nothing
/// else. Should a text ever get out unescaped, it is still only a text.
pub(super) static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = ring::digest::digest(&ring::digest::SHA256, STYLE.as_bytes());
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
        BASE64_STANDARD.encode(hash)
    );
    HeaderValue::from_str(&policy).expect("a policy and base 64 are ASCII")
});

/// Seconds until the browser asks again, while something is under way.
const SOON: u32 = 2;
/// Seconds until the browser asks again, otherwise.
const LATER: u32 = 10;

/// Renders the page. `turns`: whether the loop has turned lately.
pub(super) fn page(shown: &Shown, turns: bool, now: Wall) -> Markup {
    // Whoever reads it may be anywhere.
    let clock = &Clock { now, zone: TimeZone::UTC };
    let status = &shown.status;
    let host = bounded(&status.hostname, NAME);
    let title = format!("{}: {host} - fort-agent", word(status.state));
    let publishes = status.publish.as_ref().is_some_and(|publish| publish.progress.is_some());
    let busy = status.deployment.is_some() || publishes || status.state == State::Starting;
    let again = if busy { SOON } else { LATER };
    document(
        &title,
        again,
        &html! {
            header {
                p.host {
                    strong { (host) }
                    span.faint { "fort-agent " (bounded(&status.agent.version, NAME)) }
                }
                @if !turns {
                    div.answer.bad {
                        h1 { "Stuck" }
                        p.reason { "The agent's loop does not turn. What follows was so when it did." }
                    }
                }
                (answer(status, clock))
            }
            main {
                div.column {
                    (under_way::section(status, clock))
                    (facts::host(status, clock))
                    (facts::checks(status))
                    (facts::remotes(status, clock))
                    (facts::quarantine(status, clock))
                    (facts::publish(status, clock))
                    (facts::notes(status))
                }
                div.column { (timeline::section(&shown.history, clock)) }
            }
            footer {
                "As of " (time(now, &absolute_seconds(now))) "; times are in UTC; asked again every " (again)
                " seconds. For programs: " a href="status" { "status" } ", "
                a href="metrics" { "metrics" } ", " a href="healthz" { "healthz" } "."
            }
        },
    )
}

/// Renders the page of an agent whose loop has not turned yet.
pub(super) fn starting() -> Markup {
    let title = "starting - fort-agent";
    document(
        title,
        SOON,
        &html! {
            header {
                div.answer.busy {
                    h1 { "Starting" }
                    p.reason { "The agent has only just been started: it has not looked at this \
                                host yet." }
                }
            }
        },
    )
}

fn document(title: &str, again: u32, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="refresh" content=(again);
                meta name="referrer" content="no-referrer";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body { (body) }
        }
    }
}

/// Renders the answer: the state, why, what lifts it, and what comes next.
fn answer(status: &Status, clock: &Clock) -> Markup {
    let (tone, _) = status::answer(status, clock);
    let reason = if status.state == State::UpToDate {
        // The headline says the first words of it.
        let told = status::in_sync(status, clock);
        told.strip_prefix("in sync ").map_or(told.clone(), str::to_owned)
    } else {
        status.reason.clone()
    };
    let lift = status::lift(status, clock);
    let held = status.held.as_ref();
    html! {
        div class={ "answer " (class(tone)) } {
            h1 { (word(status.state)) }
            p.reason { (bounded(&reason, ANSWER)) }
            @if !lift.is_empty() { p.lift { (told(&lift)) } }
            @if let Some(held) = held {
                p.faint { "Cause: " code { (bounded(held.cause.word(), NAME)) } }
            }
            // What a suspension holds back is said with it.
            @if let Some(gate) = status.gate.as_ref().filter(|_| status.suspended.is_none()) {
                p.gate { (opens(gate, clock)) }
            }
            @if let Some(suspended) = &status.suspended {
                p.gate { (suspension(suspended, clock)) }
            }
            @if let Some(next) = &status.next {
                p.faint { "Next: " (bounded(next.action.as_str(), NAME)) " " (time(next.at, &ahead(next.at, clock))) }
            }
        }
    }
}

/// Renders what lets a ready system go ahead; the reason says what the system waits for.
fn opens(gate: &GateView, clock: &Clock) -> Markup {
    let lift = told(&gate.lift);
    let at = gate.until.map(|until| time(until, &ahead(until, clock)));
    html! {
        @match (&gate.kind, at) {
            (GateKind::Window, Some(at)) => { "the window opens " (at) }
            (_, Some(at)) => { "run " (lift) ", or it goes ahead by itself " (at) }
            (GateKind::Window, None) => (lift),
            (_, None) => { "run " (lift) }
        }
    }
}

fn suspension(suspended: &SuspendedView, clock: &Clock) -> Markup {
    html! {
        "Suspended since " (time(suspended.since, &clock.at(suspended.since)))
        @if !suspended.reason.is_empty() { ": " (bounded(&suspended.reason, ANSWER)) }
        @match suspended.until {
            Some(until) => { "; ends " (time(until, &ahead(until, clock))) ", or by " }
            None => { "; until " }
        }
        code { "fort-agent resume" }
    }
}

/// Renders what a person can do, in which commands stand out. Only in the agent's own
/// words: a build may print a command as well.
fn told(lift: &Lift) -> Markup {
    html! {
        @for part in lift.parts() {
            @match part {
                Piece::Words(words) => (between(words)),
                Piece::Command(command) => { code { (bounded(command, NAME)) } },
            }
        }
    }
}

/// Renders words, with a blank where a command comes before or after them.
fn between(words: &str) -> Markup {
    let (before, after) = (words.starts_with(' '), words.ends_with(' '));
    html! { @if before { " " } (bounded(words, ANSWER)) @if after { " " } }
}

/// Renders a time: in these words, and exactly for programs and for readers who hover.
fn time(at: Wall, words: &str) -> Markup {
    html! { time datetime=(at) title=(absolute_seconds(at)) { (words) } }
}

fn since(at: Wall, clock: &Clock) -> Markup {
    time(at, &ago(at, clock))
}

fn absolute_seconds(at: Wall) -> String {
    at.to_string().replace('T', " ").replace('Z', " UTC")
}

fn commit(commit: Commit) -> Markup {
    html! { code title=(commit) { (commit.short()) } }
}

fn class(tone: Tone) -> &'static str {
    match tone {
        Tone::Good => "good",
        Tone::Busy => "busy",
        Tone::Bad => "bad",
        Tone::Faint => "faint",
        Tone::Plain => "plain",
    }
}

/// Returns the state as a headline.
fn word(state: State) -> &'static str {
    match state {
        State::RollingBack => "Rolling back",
        State::RollbackFailed => "Rollback failed",
        State::Activating => "Activating",
        State::Verifying => "Verifying",
        State::Blind => "Blind",
        State::Held => "Held",
        State::Realising => "Realising",
        State::Waiting => "Waiting",
        State::BackingOff => "Backing off",
        State::RebootRequired => "Reboot required",
        State::Unreachable => "Unreachable",
        State::UpToDate => "In sync",
        State::Starting => "Starting",
    }
}

#[cfg(test)]
mod tests;

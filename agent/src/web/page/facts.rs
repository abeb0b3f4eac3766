//! The facts: what should run and does, what boots, checks, remotes, the cache.

use maud::{Markup, html};

use super::bounds::{CHECKS, DETAIL, FACT, ITEMS, NAME, bounded, first};
use super::under_way::bar;
use super::{commit, since, time};
use crate::core::bytes::bytes;
use crate::core::job::Check;
use crate::core::policy::Operation;
use crate::core::status::{BootView, Desired, RemoteView, Status};
use crate::core::types::{Commit, StorePath};
use crate::core::unseen::Part;
use crate::wording::status::{NOT_KNOWN, short};
use crate::wording::text::{Clock, ahead, lasting};

/// Renders which system should run, which runs, and which boots.
pub(super) fn host(status: &Status, clock: &Clock) -> Markup {
    let running = &status.running;
    let good = status.last_good.as_ref();
    let good = good.filter(|good| Some(&good.system) != running.system.as_ref());
    html! {
        section {
            h2 { "This host" }
            dl {
                dt { "Desired" }
                dd {
                    @match &status.desired {
                        Some(desired) => (wanted(desired, clock)),
                        None => "nothing is known yet",
                    }
                }
                dt { "Running" }
                dd {
                    @if running.system.is_none() && status.hides(Part::Running) {
                        (NOT_KNOWN)
                    } @else {
                        (what(running.commit, running.system.as_ref()))
                    }
                    @if let Some(name) = &running.specialisation { br; "specialisation " code { (name) } }
                    @if running.drift { br; span.bad { span.mark { "put there by another hand" } } }
                    @if let Some(revision) = running.said_revision() {
                        br; "by its own account of " code { (revision) }
                    }
                    @if let Some(at) = running.since { br; (time(at, &lasting(at, clock))) }
                }
                dt { "Boots" }
                dd { (boots(status)) }
                @if let Some(good) = good {
                    dt { "Last good" }
                    dd { (what(good.commit, Some(&good.system))) }
                }
                dt { "Agent" }
                dd { "started " (since(status.agent.started, clock)) }
            }
        }
    }
}

fn wanted(desired: &Desired, clock: &Clock) -> Markup {
    html! {
        (commit(desired.commit))
        @if desired.source != desired.commit { " made from " (commit(desired.source)) }
        " on " (bounded(&desired.branch, NAME)) " of " (bounded(&desired.remote, NAME))
        @match desired.operation {
            Operation::Switch => {}
            Operation::Boot => { ", for the next boot" }
            Operation::Test => { ", for this boot only" }
        }
        ", first seen " (since(desired.first_seen, clock))
        @if let Some(system) = &desired.system { br; (name(system)) }
    }
}

fn what(of: Option<Commit>, system: Option<&StorePath>) -> Markup {
    html! {
        @match (of, system) {
            (_, None) => "nothing",
            (Some(of), Some(system)) => { (commit(of)) br; (name(system)) }
            (None, Some(system)) => { "of no known commit" br; (name(system)) }
        }
    }
}

fn name(system: &StorePath) -> Markup {
    html! { code.faint title=(system) { (short(system)) } }
}

fn boots(status: &Status) -> Markup {
    let BootView { default, commit, booted, reboot_required, why } = &status.boot;
    html! {
        @match default {
            None if status.hides(Part::Profile) => (NOT_KNOWN),
            None => "no system profile yet",
            Some(default) if Some(default) == status.running.system.as_ref() => "the running system",
            Some(default) => (what(*commit, Some(default))),
        }
        @if let Some(booted) = booted.as_ref().filter(|booted| Some(*booted) != default.as_ref()) {
            br; span.faint { "booted: " } (name(booted))
        }
        @if *reboot_required {
            br; span.bad { span.mark { "needs a reboot" } }
            @if let Some(why) = why { ": " (bounded(why, FACT)) }
        }
    }
}

/// Renders the checks that the last verdict rested on.
pub(super) fn checks(status: &Status) -> Markup {
    let last = status.last_deployment.as_ref();
    let Some(entry) = last.filter(|entry| !entry.checks.is_empty()) else { return html! {} };
    html! {
        section {
            h2 { "Checks of the last deployment" }
            (check_list(&entry.checks))
        }
    }
}

/// Renders a list of checks; the failing ones come first.
pub(super) fn check_list(checks: &[Check]) -> Markup {
    let mut sorted: Vec<&Check> = checks.iter().collect();
    sorted.sort_by_key(|check| (check.ok, !check.required));
    let (shown, left) = first(&sorted, CHECKS);
    html! {
        ul {
            @for check in shown {
                li class=(if check.ok { "good" } else { "bad" }) {
                    span.mark { (if check.ok { "✓ " } else { "✗ " }) }
                    (bounded(&check.name, NAME)) " "
                    span.mark { (if check.ok { "passes" } else { "fails" }) }
                    @if !check.required { span.faint { " (not required)" } }
                    p.faint { (bounded(&check.detail, DETAIL)) }
                }
            }
        }
        (more(left))
    }
}

pub(super) fn remotes(status: &Status, clock: &Clock) -> Markup {
    let (shown, left) = first(&status.remotes, ITEMS);
    html! {
        section {
            h2 { "Remotes" }
            ul { @for remote in shown { (remote_item(remote, clock)) } }
            (more(left))
        }
    }
}

fn remote_item(remote: &RemoteView, clock: &Clock) -> Markup {
    // A later one is asked only when those before it have nothing to offer.
    let unasked = remote.last_success.is_none() && remote.error.is_none();
    let (tone, words) = match (remote.reachable, &remote.error) {
        _ if unasked => ("faint", "not asked yet"),
        (true, None) => ("good", "answers"),
        (true, Some(_)) => ("bad", "answers, but"),
        (false, _) => ("bad", "does not answer"),
    };
    html! {
        li class=(tone) {
            strong { (bounded(&remote.name, NAME)) } " " span.mark { (words) }
            @if let Some(head) = remote.head { ", head " (commit(head)) }
            @if let Some(at) = remote.last_success {
                span.faint { ", last answered " (since(at, clock)) }
            }
            @if let Some(error) = &remote.error { p { (bounded(error, FACT)) } }
        }
    }
}

pub(super) fn quarantine(status: &Status, clock: &Clock) -> Markup {
    let (shown, left) = first(&status.quarantine, ITEMS);
    html! {
        @if !shown.is_empty() {
            section {
                h2 { "Quarantine" }
                ul {
                    @for it in shown {
                        li.bad {
                            (what(it.commit, Some(&it.system)))
                            p {
                                span.mark { "failed " (it.failures) "×" } ", last "
                                (since(it.since, clock)) ": " (bounded(&it.cause, FACT))
                            }
                        }
                    }
                }
                (more(left))
                p.faint { "Tried again by " code { "fort-agent retry" } "." }
            }
        }
    }
}

pub(super) fn publish(status: &Status, clock: &Clock) -> Markup {
    let Some(publish) = &status.publish else { return html! {} };
    let progress = publish.progress.as_ref();
    html! {
        section {
            h2 { "Cache" }
            @match (publish.backlog, progress) {
                (0, _) => p.good { span.mark { "✓ has all of what runs" } },
                (_, Some(it)) if it.to_send > 0 => {
                    (bar("paths published", it.sent, it.to_send))
                    p.faint { (bytes(it.bytes)) " of " (bytes(it.bytes_expected)) }
                }
                (_, Some(_)) => p { "asked what it lacks" },
                (1, None) => p { "lacks the system" },
                (paths, None) => p { "lacks " (paths) " paths" },
            }
            @if let Some(current) = progress.and_then(|it| it.current.as_ref()) {
                p.faint { (bounded(current, NAME)) }
            }
            @if let Some(error) = &publish.last_error {
                p.bad { span.mark { "failed: " } (bounded(error, FACT)) }
            }
            @if let Some(at) = publish.next_attempt {
                p.faint { "tried again " (time(at, &ahead(at, clock))) }
            }
        }
    }
}

pub(super) fn notes(status: &Status) -> Markup {
    let (shown, left) = first(&status.notes, ITEMS);
    let unconfined = status.agent.unconfined.as_ref().map(ToString::to_string);
    html! {
        @if !shown.is_empty() || unconfined.is_some() {
            section {
                h2 { "Notes" }
                ul {
                    @for note in shown { li { (bounded(note, FACT)) } }
                    @if let Some(why) = &unconfined { li { (bounded(why, FACT)) } }
                }
                (more(left))
            }
        }
    }
}

fn more(left: usize) -> Markup {
    html! { @if left > 0 { p.faint { "and " (left) " more" } } }
}

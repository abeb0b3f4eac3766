//! The last deployments, newest first.

use maud::{Markup, html};

use super::bounds::{CAUSE, DEPLOYMENTS, bounded};
use super::{commit, since};
use crate::core::job::{Ending, Stages};
use crate::core::memory::Entry;
use crate::core::policy::Operation;
use crate::wording::history::lasted;
use crate::wording::text::{Clock, took};

/// Renders the last deployments, newest first; `history` is oldest first.
pub(super) fn section(history: &[Entry], clock: &Clock) -> Markup {
    let left = history.len().saturating_sub(DEPLOYMENTS);
    html! {
        section {
            h2 { "Last deployments" }
            @if history.is_empty() { p { "None has ended yet." } }
            ol.line { @for entry in history.iter().rev().take(DEPLOYMENTS) { (item(entry, clock)) } }
            @if left > 0 {
                p.faint { (left) " older ones: " code { "fort-agent history" } }
            }
        }
    }
}

fn item(entry: &Entry, clock: &Clock) -> Markup {
    let cause = entry.cause.as_deref().unwrap_or_default();
    let stages = stages(entry.stages);
    html! {
        li class=(tone(entry.verdict)) {
            span.when.faint { (since(entry.ended, clock)) }
            span.mark { (word(entry.verdict)) } " " (commit(entry.commit))
            @match entry.operation {
                Operation::Switch => {}
                Operation::Boot => { span.faint { " for the next boot" } }
                Operation::Test => { span.faint { " as a test" } }
            }
            @if !cause.is_empty() { p { (bounded(cause, CAUSE)) } }
            p.faint {
                "took " (lasted(entry))
                @if !stages.is_empty() { ": " (stages) }
            }
        }
    }
}

fn stages(stages: Stages) -> String {
    let Stages { realise, activate, verify, commit, rollback } = stages;
    let named = [
        ("realise", realise),
        ("activate", activate),
        ("verify", verify),
        ("commit", commit),
        ("rollback", rollback),
    ];
    let told = named.into_iter().filter_map(|(name, millis)| {
        let took = took(millis?.max(100));
        // On a phone a unit must not be left alone on the next line.
        Some(format!("{name} {took}").replace(' ', "\u{a0}"))
    });
    told.collect::<Vec<_>>().join(", ")
}

fn word(verdict: Ending) -> &'static str {
    match verdict {
        Ending::Good => "good",
        Ending::RolledBack => "rolled back",
        Ending::Failed => "failed",
        Ending::Interrupted => "interrupted",
        Ending::Superseded => "superseded",
    }
}

fn tone(verdict: Ending) -> &'static str {
    match verdict {
        Ending::Good => "good",
        Ending::RolledBack | Ending::Failed => "bad",
        Ending::Interrupted | Ending::Superseded => "busy",
    }
}

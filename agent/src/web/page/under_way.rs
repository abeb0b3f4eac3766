//! The deployment under way: its stage, and how far that is.

use maud::{Markup, html};
use serde_json::Value;

use super::bounds::{FACT, NAME, bounded};
use super::{commit, facts, since};
use crate::cli::text::Clock;
use crate::core::bytes::bytes;
use crate::core::job::{Check, RealiseProgress};
use crate::core::status::{DeploymentView, Status};

/// In the order in which they come, and in people's words.
const STAGES: [(&str, &str); 5] = [
    ("realise", "fetch and build"),
    ("gate", "preflight"),
    ("activate", "activate"),
    ("verify", "verify"),
    ("commit", "make default"),
];

/// Nothing when none is.
pub(super) fn section(status: &Status, clock: &Clock) -> Markup {
    let Some(deployment) = &status.deployment else { return html! {} };
    html! {
        section {
            h2 { "Under way" }
            (stages(&deployment.stage))
            p {
                (commit(deployment.commit)) ", begun " (since(deployment.started, clock))
                @if deployment.attempt > 1 { ", attempt " (deployment.attempt) }
            }
            (progress(deployment))
        }
    }
}

fn stages(now: &str) -> Markup {
    let known = STAGES.iter().any(|(stage, _)| *stage == now);
    html! {
        ol.stages {
            @for (stage, words) in STAGES {
                li aria-current=[(stage == now).then_some("step")] { (words) }
            }
            @if !known {
                li aria-current="step" {
                    @if now == "rollback" { "put back" } @else { (bounded(now, NAME)) }
                }
            }
        }
    }
}

fn progress(deployment: &DeploymentView) -> Markup {
    let progress = &deployment.progress;
    let checks = progress.get("checks").cloned().unwrap_or_default();
    if let Ok(checks) = serde_json::from_value::<Vec<Check>>(checks) {
        return facts::check_list(&checks);
    }
    // A switch's phase is a value of another kind.
    let realises = progress.get("phase").is_some_and(Value::is_string);
    let read = || serde_json::from_value::<RealiseProgress>(progress.clone()).ok();
    realises.then(read).flatten().map(|progress| realise(&progress)).unwrap_or_default()
}

fn realise(progress: &RealiseProgress) -> Markup {
    html! {
        @if progress.to_build == 0 && progress.to_fetch == 0 {
            p { (bounded(&progress.phase, NAME)) }
        }
        (bar("fetched", progress.fetched, progress.to_fetch))
        @if progress.bytes_expected > 0 {
            p.faint {
                (bytes(progress.bytes)) " of " (bytes(progress.bytes_expected))
            }
        }
        (bar("built", progress.built, progress.to_build))
        @if let Some(current) = &progress.current {
            p { (bounded(&progress.phase, NAME)) " " code { (bounded(current, NAME)) } }
        }
        @if let Some(trouble) = &progress.cache_trouble {
            p.busy { span.mark { "trouble with the cache: " } (bounded(trouble, FACT)) }
        }
        @if !progress.elsewhere.is_empty() {
            p.faint { "not in the repository: " (bounded(&progress.elsewhere.join(", "), FACT)) }
        }
    }
}

/// Nothing when there is nothing to do of it.
pub(super) fn bar(what: &str, done: u64, of: u64) -> Markup {
    html! {
        @if of > 0 {
            label {
                (done) " of " (of) " " (what)
                progress value=(done.min(of)) max=(of) {}
            }
        }
    }
}

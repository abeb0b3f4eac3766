//! The deployment under way: its stage, and how far that is.

use maud::{Markup, html};

use super::bounds::{FACT, NAME, bounded};
use super::{commit, facts, since};
use crate::core::bytes::bytes;
use crate::core::job::RealiseProgress;
use crate::core::status::{DeploymentView, Stage, StageProgress, Status};
use crate::wording::text::Clock;

/// Stages in the order in which they come, each in people's words.
const STAGES: [(Stage, &str); 5] = [
    (Stage::Realise, "fetch and build"),
    (Stage::Gate, "preflight"),
    (Stage::Activate, "activate"),
    (Stage::Verify, "verify"),
    (Stage::Commit, "make default"),
];

/// Renders the deployment under way; nothing when none is.
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

fn stages(now: &Stage) -> Markup {
    let unlisted = match now {
        Stage::Rollback => Some("put back"),
        Stage::Other(other) => Some(other.as_str()),
        Stage::Realise | Stage::Gate | Stage::Activate | Stage::Verify | Stage::Commit => None,
    };
    html! {
        ol.stages {
            @for (stage, words) in &STAGES {
                li aria-current=[(stage == now).then_some("step")] { (words) }
            }
            @if let Some(words) = unlisted {
                li aria-current="step" { (bounded(words, NAME)) }
            }
        }
    }
}

fn progress(deployment: &DeploymentView) -> Markup {
    match &deployment.progress {
        StageProgress::Realise(progress) => realise(progress),
        StageProgress::Switch { checks: Some(checks), .. } => facts::check_list(checks),
        StageProgress::Switch { checks: None, .. }
        | StageProgress::Unknown
        | StageProgress::Other(_) => html! {},
    }
}

fn realise(progress: &RealiseProgress) -> Markup {
    html! {
        @if progress.to_build == 0 && progress.to_fetch == 0 {
            p { (bounded(progress.phase.as_str(), NAME)) }
        }
        (bar("fetched", progress.fetched, progress.to_fetch))
        @if progress.bytes_expected > 0 {
            p.faint {
                (bytes(progress.bytes)) " of " (bytes(progress.bytes_expected))
            }
        }
        (bar("built", progress.built, progress.to_build))
        @if let Some(current) = &progress.current {
            p { (bounded(progress.phase.as_str(), NAME)) " " code { (bounded(current, NAME)) } }
        }
        @if let Some(trouble) = &progress.cache_trouble {
            p.busy { span.mark { "trouble with the cache: " } (bounded(trouble, FACT)) }
        }
        @if !progress.elsewhere.is_empty() {
            p.faint { "not in the repository: " (bounded(&progress.elsewhere.join(", "), FACT)) }
        }
    }
}

/// Renders a progress bar; nothing when there is nothing to do.
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

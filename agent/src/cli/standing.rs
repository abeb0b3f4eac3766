//! How things stand, as people read it: the answer first, then the facts that
//! matter now. Whatever is as it should be is left out.

use serde_json::Value;

use crate::core::job::{Check, RealiseProgress};
use crate::core::memory::Entry;
use crate::core::policy::Operation;
use crate::core::status::{
    DeploymentView, Desired, PublishView, QuarantineView, RemoteView, State, Status,
};
use crate::core::types::{Commit, StorePath, Wall};

use super::past::lasted;
use super::text::{Look, Tone, absolute, ago, ahead, clean, fit, lasting, shorten_paths, wrap};

/// Lines that the answer may take: what to do about it must not be cut off.
const ANSWER_LINES: usize = 4;
/// Lines that one fact may take.
const FACT_LINES: usize = 3;

/// The status, ending in a newline.
pub(super) fn render(status: &Status, now: Wall, look: Look) -> String {
    let mut out = String::new();
    let (tone, answer) = answer(status, now);
    for line in together(&readable(&answer), &lift(status, now), look.width) {
        out.push_str(&look.paint(tone, &line));
        out.push('\n');
    }
    let rows = rows(status, now);
    let label_width = rows.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
    let room = look.width.saturating_sub(label_width + 4);
    for (label, fact) in rows {
        let mut label = format!("{label:label_width$}");
        for line in wrap(&readable(&fact), room, FACT_LINES) {
            out.push_str(&format!("  {}  {line}\n", look.paint(Tone::Faint, &label)));
            label = " ".repeat(label_width);
        }
    }
    out
}

/// What to say before a status that was read from a file.
pub(super) fn recorded(at: Option<Wall>, now: Wall, look: Look) -> String {
    let when = at.map_or_else(|| "some time ago".into(), |at| ago(at, now));
    let line = fit(&format!("the agent does not answer; last recorded {when}:"), look.width);
    format!("{}\n", look.paint(Tone::Bad, &line))
}

pub(crate) fn answer(status: &Status, now: Wall) -> (Tone, String) {
    let reason = &status.reason;
    match status.state {
        State::UpToDate => (Tone::Good, in_sync(status, now)),
        State::Activating | State::Verifying | State::Realising => (Tone::Busy, reason.clone()),
        State::Starting => (Tone::Busy, format!("starting: {reason}")),
        State::Waiting => (Tone::Busy, format!("waiting: {reason}")),
        State::BackingOff => (Tone::Bad, format!("BACKING OFF: {reason}")),
        State::RebootRequired => (Tone::Bad, format!("REBOOT REQUIRED: {reason}")),
        State::Unreachable => (Tone::Bad, format!("UNREACHABLE: {reason}")),
        State::RollingBack => (Tone::Bad, format!("ROLLING BACK: {reason}")),
        State::RollbackFailed => (Tone::Bad, format!("ROLLBACK FAILED: {reason}")),
        State::Held => (Tone::Bad, format!("HELD: {reason}")),
    }
}

/// What a person can do about it, or what happens without one.
pub(crate) fn lift(status: &Status, now: Wall) -> String {
    let held = status.held.as_ref().filter(|_| status.state == State::Held);
    if let Some(held) = held {
        let lift = clean(&held.lift);
        return match held.cause.as_str() {
            "force-push" => format!("run {lift} if that was meant"),
            _ if lift.starts_with("fort-agent ") => format!("run {lift}"),
            _ => lift,
        };
    }
    let next = status.next.as_ref();
    match (status.state, next.map(|next| (next.action.as_str(), ahead(next.at, now)))) {
        (State::BackingOff, Some((_, when))) => {
            format!("tried again {when}, or at once by fort-agent retry")
        }
        (State::Verifying, Some(("put-back", when))) => {
            format!("the old system is put back {when}, unless all checks pass")
        }
        (_, _) => String::new(),
    }
}

/// On one line if they fit; never is what to do broken off by what is the case.
fn together(answer: &str, lift: &str, width: usize) -> Vec<String> {
    if lift.is_empty() {
        return wrap(answer, width, ANSWER_LINES);
    }
    let whole = format!("{answer}; {lift}");
    if whole.chars().count() <= width {
        return vec![whole];
    }
    let mut lines = wrap(answer, width, ANSWER_LINES);
    let lift = wrap(lift, width.saturating_sub(2), ANSWER_LINES);
    lines.extend(lift.iter().map(|line| format!("  {line}")));
    lines
}

pub(crate) fn in_sync(status: &Status, now: Wall) -> String {
    let (Some(desired), Some(commit)) = (&status.desired, status.running.commit) else {
        return status.reason.clone();
    };
    let since = status.running.since.map(|since| format!(", {}", lasting(since, now)));
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

type Row = (&'static str, String);

fn rows(status: &Status, now: Wall) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    rows.extend(status.desired.as_ref().map(|desired| ("desired", wanted(desired, now))));
    rows.push(("running", running(status, now)));
    rows.extend(boots(status).map(|boot| ("boots", boot)));
    let others = [status.running.system.as_ref(), status.boot.default.as_ref()];
    let last_good = status.last_good.as_ref();
    if let Some(good) = last_good.filter(|good| !others.contains(&Some(&good.system))) {
        rows.push(("last good", commit_and_system(good.commit, Some(&good.system))));
    }
    rows.extend(status.deployment.as_ref().map(|it| ("deploying", deploying(it, now))));
    // Quarantine has a row of its own.
    let held = status.held.as_ref().filter(|_| status.quarantine.is_empty());
    rows.extend(held.and_then(|held| evidence(&held.evidence)));
    let last = status.last_deployment.as_ref();
    let last = last.and_then(|entry| serde_json::from_value::<Entry>(entry.clone()).ok());
    rows.extend(last.map(|entry| ("last", ended(&entry, &status.reason, now))));
    let remotes = status.remotes.iter().filter(|it| !is_held(status, it));
    rows.extend(remotes.filter_map(|it| remote(it, now)).map(|it| ("remote", it)));
    rows.extend(status.quarantine.iter().map(|it| ("quarantine", quarantined(it, now))));
    let publish = status.publish.as_ref().and_then(|it| publishing(it, now));
    rows.extend(publish.map(|it| ("publish", it)));
    rows.extend(status.notes.iter().map(|note| ("note", note.clone())));
    let next = status.next.as_ref();
    rows.extend(next.map(|next| ("next", format!("{} {}", next.action, ahead(next.at, now)))));
    rows
}

fn wanted(desired: &Desired, now: Wall) -> String {
    let how = match desired.operation {
        Operation::Switch => "",
        Operation::Boot => ", for the next boot",
        Operation::Test => ", for this boot only",
    };
    let source = if desired.source == desired.commit {
        String::new()
    } else {
        format!(", made from {}", desired.source.short())
    };
    format!(
        "{} on {} of {}{source}{how}, first seen {}",
        desired.commit.short(),
        desired.branch,
        desired.remote,
        ago(desired.first_seen, now)
    )
}

fn running(status: &Status, now: Wall) -> String {
    let running = &status.running;
    let system = commit_and_system(running.commit, running.system.as_ref());
    let drift = if running.drift { ", put there by another hand" } else { "" };
    let since = running.since.map(|since| format!(", {}", lasting(since, now)));
    format!("{system}{drift}{}", since.unwrap_or_default())
}

/// Nothing when that is simply the running system.
fn boots(status: &Status) -> Option<String> {
    let (boot, running) = (&status.boot, status.running.system.as_ref());
    let good = status.last_good.as_ref();
    let why = boot.why.as_deref().unwrap_or("unknown");
    let reboot =
        if boot.reboot_required { format!("; needs a reboot: {why}") } else { String::new() };
    match &boot.default {
        Some(default) if Some(default) != running => {
            let good = good.filter(|good| good.system == *default);
            let default = good.map_or_else(
                || short(default),
                |good| {
                    format!("{}, the last good one", commit_and_system(good.commit, Some(default)))
                },
            );
            Some(format!("{default}{reboot}"))
        }
        Some(_) if boot.reboot_required => Some(format!("the running system{reboot}")),
        Some(_) => None,
        None => Some(format!("no system profile yet{reboot}")),
    }
}

fn deploying(deployment: &DeploymentView, now: Wall) -> String {
    let mut text = format!("{}, {}", deployment.commit.short(), deployment.stage);
    if deployment.attempt > 1 {
        text.push_str(&format!(", attempt {}", deployment.attempt));
    }
    text.push_str(&format!(", begun {}", ago(deployment.started, now)));
    if let Some(progress) = progress(deployment) {
        text.push_str(&format!(": {progress}"));
    }
    text
}

fn progress(deployment: &DeploymentView) -> Option<String> {
    let progress = &deployment.progress;
    if let Some(checks) = progress.get("checks").filter(|checks| checks.is_array()) {
        let checks = serde_json::from_value::<Vec<Check>>(checks.clone()).ok()?;
        let failing = checks.iter().filter(|check| !check.ok);
        let failing: Vec<_> =
            failing.map(|check| format!("{} fails: {}", check.name, check.detail)).collect();
        return Some(match failing.is_empty() {
            true => format!("{} of {} checks pass", checks.len(), checks.len()),
            false => failing.join(", "),
        });
    }
    progress.get("phase").filter(|phase| phase.is_string())?;
    let progress = serde_json::from_value::<RealiseProgress>(progress.clone()).ok()?;
    let counted =
        |done: u64, of: u64, what: &str| (of > 0).then(|| format!("{done} of {of} {what}"));
    let parts: Vec<String> = [
        counted(progress.built, progress.to_build, "built"),
        counted(progress.fetched, progress.to_fetch, "fetched"),
        progress.current.clone(),
        progress.cache_trouble.as_ref().map(|why| format!("trouble with the cache: {why}")),
    ]
    .into_iter()
    .flatten()
    .collect();
    if parts.is_empty() { Some(progress.phase) } else { Some(parts.join(", ")) }
}

/// Plain values only: what is nested is for `--json`.
fn evidence(evidence: &Value) -> Option<Row> {
    let shown = |value: &Value| match value {
        Value::String(text) => Some(abbreviated(text)),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(true) => Some("yes".into()),
        Value::Array(list) => {
            let list: Vec<_> = list.iter().filter_map(Value::as_str).map(abbreviated).collect();
            Some(if list.is_empty() { "none".into() } else { list.join(" ") })
        }
        Value::Bool(false) | Value::Null | Value::Object(_) => None,
    };
    let parts: Vec<_> = evidence
        .as_object()?
        .iter()
        .filter_map(|(key, value)| Some(format!("{} {}", key.replace('_', " "), shown(value)?)))
        .collect();
    (!parts.is_empty()).then(|| ("evidence", parts.join(", ")))
}

/// Commits by the digits that people read, times without their T and Z.
fn abbreviated(text: &str) -> String {
    if let Ok(commit) = text.parse::<Commit>() {
        return commit.short();
    }
    text.parse::<Wall>().map_or_else(|_| text.to_owned(), absolute)
}

/// With its cause, unless that was said already.
fn ended(entry: &Entry, said: &str, now: Wall) -> String {
    let cause = entry.cause.as_deref().filter(|cause| {
        let first = cause.lines().map(str::trim).find(|line| !line.is_empty());
        !first.is_some_and(|line| said.contains(line))
    });
    let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
    format!(
        "{} {} {}, after {}{cause}",
        entry.commit.short(),
        entry.verdict.as_str(),
        ago(entry.ended, now),
        lasted(entry),
    )
}

/// Whether the answer is about this remote already.
fn is_held(status: &Status, remote: &RemoteView) -> bool {
    status.held.as_ref().is_some_and(|held| {
        held.cause == "force-push" && held.evidence["remote"] == remote.name.as_str()
    })
}

/// What others wrote, as people read it.
fn readable(text: &str) -> String {
    shorten_paths(&clean(text))
}

/// Nothing when all is well with it.
fn remote(remote: &RemoteView, now: Wall) -> Option<String> {
    if remote.reachable && remote.error.is_none() {
        return None;
    }
    let error = remote.error.as_deref();
    match (remote.last_success, error) {
        // A later one is asked only when those before it have nothing to offer.
        (None, None) => None,
        (None, Some(error)) => Some(format!("{}: {error}; never answered yet", remote.name)),
        (Some(at), error) => Some(format!(
            "{}: {}; last answered {}",
            remote.name,
            error.unwrap_or("does not answer"),
            ago(at, now)
        )),
    }
}

fn quarantined(it: &QuarantineView, now: Wall) -> String {
    format!(
        "{}: failed {}x, last {}: {}",
        commit_and_system(it.commit, Some(&it.system)),
        it.failures,
        ago(it.since, now),
        it.cause
    )
}

/// Nothing when the cache has it all.
fn publishing(it: &PublishView, now: Wall) -> Option<String> {
    if it.backlog == 0 && it.last_error.is_none() {
        return None;
    }
    let error = it.last_error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    // Before the cause, which may be long and be cut off.
    let again = it.next_attempt.map(|at| format!(", tried again {}", ahead(at, now)));
    let counted = it.progress.as_ref().filter(|progress| progress.to_send > 0);
    let what = match (counted, &it.progress, it.backlog) {
        (Some(p), _, _) => format!(
            "publishing {} of {} paths, {} of {} MB",
            p.sent,
            p.to_send,
            p.bytes / 1_000_000,
            p.bytes_expected / 1_000_000
        ),
        (None, Some(_), _) => "asking the cache what it lacks".into(),
        (None, None, 0 | 1) => "the system is not in the cache yet".into(),
        (None, None, paths) => format!("{paths} paths are not in the cache"),
    };
    Some(format!("{what}{}{error}", again.unwrap_or_default()))
}

fn commit_and_system(commit: Option<Commit>, system: Option<&StorePath>) -> String {
    match (commit, system) {
        (Some(commit), Some(system)) => format!("{} = {}", commit.short(), short(system)),
        (None, Some(system)) => format!("{} (of no known commit)", short(system)),
        (_, None) => "nothing".into(),
    }
}

/// The name, and as much of the hash as tells two apart.
pub(crate) fn short(system: &StorePath) -> String {
    let base = system.base_name();
    match (base.get(..7), base.get(33..)) {
        (Some(hash), Some(name)) => format!("{hash}…-{name}"),
        (_, _) => base.to_owned(),
    }
}

#[cfg(test)]
#[path = "standing_tests.rs"]
pub(crate) mod tests;

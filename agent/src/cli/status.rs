//! How things stand, as people read it: the answer first, then the facts that
//! matter now. Whatever is as it should be is left out.

use serde_json::Value;

use crate::core::bytes::bytes;
use crate::core::gates::GateKind;
use crate::core::job::{Check, RealiseProgress};
use crate::core::memory::Entry;
use crate::core::policy::Operation;
use crate::core::status::{
    DeploymentView, Desired, GateView, HeldCause, PublishProgressView, PublishView, QuarantineView,
    RemoteView, StageProgress, State, Status, SuspendedView,
};
use crate::core::types::{Commit, StorePath, Wall};
use crate::core::unseen::Part;

use crate::wording::history::lasted;
use crate::wording::status::{NOT_KNOWN, answer, lift, short};
use crate::wording::text::{
    Clock, Look, Tone, ago, ahead, clean, columns, fit, lasting, shorten_paths, wrap,
};

/// Lines that the answer may take: what to do about it must not be cut off.
const ANSWER_LINES: usize = 4;
/// Lines that one fact may take.
const FACT_LINES: usize = 4;

/// Renders the status, ending in a newline.
pub(super) fn render(status: &Status, clock: &Clock, look: Look) -> String {
    let mut out = String::new();
    let (tone, answer) = answer(status, clock);
    for line in together(&readable(&answer, clock), &clean(&lift(status, clock)), look.width) {
        out.push_str(&look.paint(tone, &line));
        out.push('\n');
    }
    let rows = rows(status, clock);
    let label_width = rows.iter().map(|(label, _)| columns(label)).max().unwrap_or(0);
    let room = look.width.saturating_sub(label_width + 4);
    for (label, fact) in rows {
        let mut label = format!("{label:label_width$}");
        for line in wrap(&readable(&fact, clock), room, FACT_LINES) {
            out.push_str(&format!("  {}  {line}\n", look.paint(Tone::Faint, &label)));
            label = " ".repeat(label_width);
        }
    }
    out
}

/// Renders the status on one line, however long, and without distances in time: it
/// changes only when something does.
pub(super) fn line(status: &Status, clock: &Clock) -> String {
    let (_, mut line) = answer(status, clock);
    let progress = status.deployment.as_ref().and_then(progress);
    let publish = status.publish.as_ref().and_then(|it| it.progress.as_ref());
    let publish = publish.filter(|progress| progress.to_send > 0).map(sent);
    line.extend([progress, publish].into_iter().flatten().map(|more| format!("; {more}")));
    if status.held.is_some() && status.state == State::Held {
        line.push_str(&format!("; {}", lift(status, clock)));
    }
    readable(&line, clock)
}

/// Renders the line before a status that was read from a file.
pub(super) fn recorded(at: Option<Wall>, clock: &Clock, look: Look) -> String {
    let when = at.map_or_else(|| "some time ago".into(), |at| ago(at, clock));
    let line = fit(&format!("the agent does not answer; last recorded {when}:"), look.width);
    format!("{}\n", look.paint(Tone::Bad, &line))
}

/// Joins the answer and what to do on one line if they fit; a long answer never cuts
/// off what to do.
fn together(answer: &str, lift: &str, width: usize) -> Vec<String> {
    if lift.is_empty() {
        return wrap(answer, width, ANSWER_LINES);
    }
    let whole = format!("{answer}; {lift}");
    if columns(&whole) <= width {
        return vec![whole];
    }
    let mut lines = wrap(answer, width, ANSWER_LINES);
    let lift = wrap(lift, width.saturating_sub(2), ANSWER_LINES);
    lines.extend(lift.iter().map(|line| format!("  {line}")));
    lines
}

type Row = (&'static str, String);

fn rows(status: &Status, clock: &Clock) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    rows.extend(status.desired.as_ref().map(|desired| ("desired", wanted(desired, clock))));
    rows.push(("running", running(status, clock)));
    rows.extend(boots(status).map(|boot| ("boots", boot)));
    let others = [status.running.system.as_ref(), status.boot.default.as_ref()];
    let last_good = status.last_good.as_ref();
    if let Some(good) = last_good.filter(|good| !others.contains(&Some(&good.system))) {
        rows.push(("last good", commit_and_system(good.commit, Some(&good.system))));
    }
    rows.extend(status.deployment.as_ref().map(|it| ("deploying", deploying(it, clock))));
    // Quarantine has a row of its own.
    let held = status.held.as_ref().filter(|_| status.quarantine.is_empty());
    rows.extend(held.and_then(|held| evidence(&held.cause.evidence(), clock)));
    rows.extend(status.gate.as_ref().map(|it| ("gate", gate(it, clock))));
    rows.extend(status.suspended.as_ref().map(|it| ("suspended", suspended(it, clock))));
    let last = status.last_deployment.as_ref();
    rows.extend(last.map(|entry| ("last", ended(entry, &status.reason, clock))));
    let remotes = status.remotes.iter().filter(|it| !is_held(status, it));
    rows.extend(remotes.filter_map(|it| remote(it, clock)).map(|it| ("remote", it)));
    rows.extend(status.quarantine.iter().map(|it| ("quarantine", quarantined(it, clock))));
    let publish = status.publish.as_ref().and_then(|it| publishing(it, clock));
    rows.extend(publish.map(|it| ("publish", it)));
    rows.extend(status.notes.iter().map(|note| ("note", note.clone())));
    rows.extend(status.agent.unconfined.iter().map(|why| ("note", why.to_string())));
    let next = status.next.as_ref();
    rows.extend(next.map(|next| ("next", format!("{} {}", next.action, ahead(next.at, clock)))));
    rows
}

/// Describes the gate: what waits for a person, or for a time.
fn gate(gate: &GateView, clock: &Clock) -> String {
    let commit = gate.commit.short();
    let until = gate.until.map(|at| format!("{} ({})", clock.at(at), ahead(at, clock)));
    match (&gate.kind, until) {
        (GateKind::Confirm, None) => format!("{commit} waits to be confirmed"),
        (GateKind::Confirm, Some(until)) => {
            format!("{commit} waits to be confirmed, and goes ahead at {until}")
        }
        (GateKind::Window, Some(until)) => format!("{commit} waits for a window, at {until}"),
        (GateKind::Suspended, None) => format!("{commit} waits: deployments are suspended"),
        (GateKind::Suspended, Some(until)) => {
            format!("{commit} waits: deployments are suspended until {until}")
        }
        (GateKind::Window | GateKind::Other(_), None) => {
            format!("{commit} waits for a {}", gate.kind)
        }
        (GateKind::Other(other), Some(until)) => {
            format!("{commit} waits for a {other} until {until}")
        }
    }
}

fn suspended(suspended: &SuspendedView, clock: &Clock) -> String {
    let since = clock.at(suspended.since);
    let until = match suspended.until {
        Some(until) => format!("until {} ({})", clock.at(until), ahead(until, clock)),
        None => "until fort-agent resume".into(),
    };
    let reason = Some(&suspended.reason).filter(|reason| !reason.is_empty());
    let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("since {since}, {until}{reason}")
}

fn wanted(desired: &Desired, clock: &Clock) -> String {
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
        ago(desired.first_seen, clock)
    )
}

fn running(status: &Status, clock: &Clock) -> String {
    let running = &status.running;
    if running.system.is_none() && status.hides(Part::Running) {
        return NOT_KNOWN.into();
    }
    let system = commit_and_system(running.commit, running.system.as_ref());
    let part = running.specialisation.as_ref().map(|name| format!(", specialisation {name}"));
    let drift = if running.drift { ", put there by another hand" } else { "" };
    let of = running.said_revision().map(|of| format!(", by its own account of {of}"));
    let since = running.since.map(|since| format!(", {}", lasting(since, clock)));
    let (part, of, since) =
        (part.unwrap_or_default(), of.unwrap_or_default(), since.unwrap_or_default());
    format!("{system}{part}{drift}{of}{since}")
}

/// Describes the system that boots next; `None` when that is simply the running one.
fn boots(status: &Status) -> Option<String> {
    let (boot, running) = (&status.boot, status.running.system.as_ref());
    let good = status.last_good.as_ref();
    let why = boot.why.as_deref().unwrap_or("unknown");
    let reboot =
        if boot.reboot_required { format!("; needs a reboot: {why}") } else { String::new() };
    match &boot.default {
        Some(default) if Some(default) != running => {
            let good = good.filter(|good| good.system == *default);
            let commit = boot.commit.or_else(|| good.and_then(|good| good.commit));
            let default = commit_and_system(commit, Some(default));
            let good = good.map_or("", |_| ", the last good one");
            Some(format!("{default}{good}{reboot}"))
        }
        Some(_) if boot.reboot_required => Some(format!("the running system{reboot}")),
        Some(_) => None,
        None if status.hides(Part::Profile) => Some(format!("{NOT_KNOWN}{reboot}")),
        None => Some(format!("no system profile yet{reboot}")),
    }
}

fn deploying(deployment: &DeploymentView, clock: &Clock) -> String {
    let mut text = format!("{}, {}", deployment.commit.short(), deployment.stage);
    if deployment.attempt > 1 {
        text.push_str(&format!(", attempt {}", deployment.attempt));
    }
    text.push_str(&format!(", begun {}", ago(deployment.started, clock)));
    if let Some(progress) = progress(deployment) {
        text.push_str(&format!(": {progress}"));
    }
    text
}

fn progress(deployment: &DeploymentView) -> Option<String> {
    match &deployment.progress {
        StageProgress::Realise(progress) => Some(realising(progress)),
        StageProgress::Switch { checks, .. } => checks.as_deref().map(checking),
        StageProgress::Unknown | StageProgress::Other(_) => None,
    }
}

fn checking(checks: &[Check]) -> String {
    let failing = checks.iter().filter(|check| !check.ok);
    let failing: Vec<_> =
        failing.map(|check| format!("{} fails: {}", check.name, check.detail)).collect();
    match failing.is_empty() {
        true => format!("{} of {} checks pass", checks.len(), checks.len()),
        false => failing.join(", "),
    }
}

fn realising(progress: &RealiseProgress) -> String {
    let counted =
        |done: u64, of: u64, what: &str| (of > 0).then(|| format!("{done} of {of} {what}"));
    let bytes = (progress.bytes_expected > 0).then(|| {
        let (done, of) = (bytes(progress.bytes), bytes(progress.bytes_expected));
        format!("{done} of {of}")
    });
    let parts: Vec<String> = [
        counted(progress.built, progress.to_build, "built"),
        counted(progress.fetched, progress.to_fetch, "fetched"),
        bytes,
        progress.current.clone(),
        progress.cache_trouble.as_ref().map(|why| format!("trouble with the cache: {why}")),
        elsewhere(&progress.elsewhere),
    ]
    .into_iter()
    .flatten()
    .collect();
    if parts.is_empty() { progress.phase.to_string() } else { parts.join(", ") }
}

fn elsewhere(paths: &[String]) -> Option<String> {
    (!paths.is_empty()).then(|| format!("not in the repository: {}", paths.join(", ")))
}

/// Renders the plain values of the evidence: what is nested is for `--json`.
fn evidence(evidence: &Value, clock: &Clock) -> Option<Row> {
    let shown = |value: &Value| match value {
        Value::String(text) => Some(abbreviated(text, clock)),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(true) => Some("yes".into()),
        Value::Array(list) => {
            let list: Vec<_> =
                list.iter().filter_map(Value::as_str).map(|it| abbreviated(it, clock)).collect();
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

/// Shortens commits to the digits that people read, and shows times in the reader's zone.
fn abbreviated(text: &str, clock: &Clock) -> String {
    if let Ok(commit) = text.parse::<Commit>() {
        return commit.short();
    }
    text.parse::<Wall>().map_or_else(|_| text.to_owned(), |time| clock.at(time))
}

/// Describes how a deployment ended, with its cause unless that was said already.
fn ended(entry: &Entry, said: &str, clock: &Clock) -> String {
    let cause = entry.cause.as_deref().filter(|cause| {
        let first = cause.lines().map(str::trim).find(|line| !line.is_empty());
        !first.is_some_and(|line| said.contains(line))
    });
    let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
    format!(
        "{} {} {}, after {}{cause}",
        entry.commit.short(),
        entry.verdict.as_str(),
        ago(entry.ended, clock),
        lasted(entry),
    )
}

/// Whether the answer is about this remote already.
fn is_held(status: &Status, remote: &RemoteView) -> bool {
    status.held.as_ref().is_some_and(|held| match &held.cause {
        HeldCause::ForcePush(it) => it.remote.as_deref() == Some(&*remote.name),
        HeldCause::StateDir(_)
        | HeldCause::MachineId(_)
        | HeldCause::BranchMissing(_)
        | HeldCause::TooLargeHead(_)
        | HeldCause::NoSuchHost(_)
        | HeldCause::Quarantined(_)
        | HeldCause::Refused(_)
        | HeldCause::Other { .. } => false,
    })
}

/// Rewrites text by others as people read it: clean, with local times and short store paths.
fn readable(text: &str, clock: &Clock) -> String {
    shorten_paths(&clock.localise(&clean(text)))
}

/// Describes the trouble with a remote; `None` when all is well with it.
fn remote(remote: &RemoteView, clock: &Clock) -> Option<String> {
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
            ago(at, clock)
        )),
    }
}

fn quarantined(it: &QuarantineView, clock: &Clock) -> String {
    format!(
        "{}: failed {}x, last {}: {}",
        commit_and_system(it.commit, Some(&it.system)),
        it.failures,
        ago(it.since, clock),
        it.cause
    )
}

/// Describes what is still to be published; `None` when the cache has it all.
fn publishing(it: &PublishView, clock: &Clock) -> Option<String> {
    if it.backlog == 0 && it.last_error.is_none() {
        return None;
    }
    let error = it.last_error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    // Before the cause, which may be long and be cut off.
    let again = it.next_attempt.map(|at| format!(", tried again {}", ahead(at, clock)));
    let counted = it.progress.as_ref().filter(|progress| progress.to_send > 0);
    let what = match (counted, &it.progress, it.backlog) {
        (Some(progress), _, _) => sent(progress),
        (None, Some(_), _) => "asking the cache what it lacks".into(),
        (None, None, 0 | 1) => "the system is not in the cache yet".into(),
        (None, None, paths) => format!("{paths} paths are not in the cache"),
    };
    Some(format!("{what}{}{error}", again.unwrap_or_default()))
}

fn sent(it: &PublishProgressView) -> String {
    let (done, of) = (bytes(it.bytes), bytes(it.bytes_expected));
    format!("publishing {} of {} paths, {done} of {of}", it.sent, it.to_send)
}

fn commit_and_system(commit: Option<Commit>, system: Option<&StorePath>) -> String {
    match (commit, system) {
        (Some(commit), Some(system)) => format!("{} = {}", commit.short(), short(system)),
        (None, Some(system)) => format!("{} (of no known commit)", short(system)),
        (_, None) => "nothing".into(),
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;

//! How deployments end, and what is learnt from it.

use std::sync::Arc;
use std::time::Duration;

use crate::backoff;
use crate::fault::Fault;
use crate::job::{Ending, Target};
use crate::memory::{Deployment, Entry, Memory, Settled, Stuck, Subject, Trouble};
use crate::observed::Seen;
use crate::policy::Policy;
use crate::types::{Now, StorePath};

pub(super) fn settle(
    memory: &mut Memory,
    target: &Target,
    system: &StorePath,
    verified: bool,
    now: Now,
) {
    memory.settled = Some(Settled {
        commit: target.commit,
        operation: target.operation,
        system: system.clone(),
        left: false,
    });
    if target.operation.sets_default() {
        memory.learn_good(system, verified);
        end_awaiting(memory, REPLACED, now);
    }
}

/// Ends the wait for a first boot; the deployment counts as superseded, if nothing else
/// was recorded of it yet.
pub(super) fn end_awaiting(memory: &mut Memory, cause: &str, now: Now) {
    if let Some(awaiting) = memory.awaiting.take() {
        learn_ended(memory, awaiting.deployment, Ending::Superseded, cause, now);
    }
}

pub(super) const REPLACED: &str = "another system became the default before the boot";

pub(super) fn end(memory: &mut Memory, verdict: Ending, cause: &str, now: Now) {
    if let Some(deployment) = memory.deployment.take() {
        learn_ended(memory, deployment, verdict, cause, now);
    }
}

pub(super) fn learn_ended(
    memory: &mut Memory,
    deployment: Deployment,
    verdict: Ending,
    cause: &str,
    now: Now,
) {
    // None of those that end so was activated in this boot.
    let previous = memory.running.as_ref().map(|running| running.system.clone());
    memory.learn_ending(Entry {
        id: deployment.id,
        commit: deployment.target.commit,
        system: deployment.system,
        previous,
        operation: deployment.target.operation,
        verdict,
        cause: Some(cause.to_owned()),
        why: None,
        fault: None,
        started: deployment.started,
        ended: now.wall,
        stages: deployment.stages,
        checks: Vec::new(),
    });
}

pub(super) fn learn_failure(
    policy: &Policy,
    memory: &mut Memory,
    seen: &Seen,
    subject: Subject,
    cause: &str,
    now: Now,
) {
    let before = memory.trouble_with(&subject);
    let failures = before.map_or(0, |trouble| trouble.failures).saturating_add(1);
    let excused = before.map_or(0, |trouble| trouble.excused);
    let found_bad = before.is_some_and(|trouble| trouble.found_bad);
    let pause = backoff::pause(policy.retry_first, policy.retry_max, failures, seen.luck);
    let stuck = match &subject {
        Subject::System { .. } if failures >= policy.activations => Some(Stuck::Quarantined),
        Subject::System { .. } | Subject::Commit { .. } => None,
    };
    memory.learn_trouble(Trouble {
        subject,
        failures,
        at: now.wall,
        not_before: now.wall.plus(pause),
        stuck,
        cause: cause.to_owned(),
        refusal: None,
        fault: None,
        refused: None,
        excused,
        found_bad,
    });
}

/// Records a failure that is not the subject's fault: not counted, but with a pause,
/// lest it spin.
pub(super) fn pause_uncounted(
    policy: &Policy,
    memory: &mut Memory,
    subject: Subject,
    cause: &str,
    now: Now,
) {
    let before = memory.trouble_with(&subject);
    let failures = before.map_or(0, |trouble| trouble.failures);
    let stuck = before.and_then(|trouble| trouble.stuck.clone());
    let excused = before.map_or(0, |trouble| trouble.excused);
    let found_bad = before.is_some_and(|trouble| trouble.found_bad);
    memory.learn_trouble(Trouble {
        subject,
        failures,
        at: now.wall,
        not_before: now.wall.plus(policy.retry_first.min(SHORT_PAUSE)),
        stuck,
        cause: cause.to_owned(),
        refusal: None,
        fault: None,
        refused: None,
        excused,
        found_bad,
    });
}

/// Records the kind of the failure that was learnt last.
pub(super) fn learn_fault(memory: &mut Memory, subject: &Subject, fault: Option<Fault>) {
    if let Some(trouble) = memory.trouble_mut(subject) {
        trouble.fault = fault;
    }
    if let Some(entry) = Arc::make_mut(&mut memory.history).last_mut() {
        entry.fault = fault;
    }
}

/// Longest pause after a failure that was nobody's fault.
pub(super) const SHORT_PAUSE: Duration = Duration::from_secs(5);

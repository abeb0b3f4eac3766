//! Whether a system is to blame for having lost the remotes: what was seen from
//! the old one.

use std::time::Duration;

use super::endings::{learn_failure, pause_uncounted};
use crate::cause::SwitchCause;
use crate::job::SwitchOutcome;
use crate::memory::{Experiment, Memory, Subject};
use crate::observed::Seen;
use crate::policy::Policy;
use crate::types::Now;

/// Whether nothing else was wrong with the system.
pub(super) fn lost_the_remotes(outcome: &SwitchOutcome) -> bool {
    matches!(outcome.why.as_deref(), Some(SwitchCause::RemotesLost { .. }))
}

/// The third look is over: whether the system is to blame for having lost the
/// remotes.
pub(super) fn fold_experiment(policy: &Policy, memory: &mut Memory, seen: &Seen, now: Now) {
    let Some(experiment) = &memory.experiment else { return };
    let here = experiment.boot_id == seen.boot_id;
    let look = seen.look.as_ref().filter(|look| here && look.began >= experiment.since);
    let reached = look.is_some_and(|look| look.reached);
    // The old system's network may take its time to come back.
    let over = now.mono.since(experiment.since) >= settling(policy);
    if here && !reached && !(over && look.is_some()) {
        return;
    }
    let network = look.and_then(|look| look.network);
    let Some(Experiment { system, cause, .. }) = memory.experiment.take() else { return };
    let subject = Subject::System { system };
    let excused = memory.trouble_with(&subject).map_or(0, |trouble| trouble.excused);
    let away = look.map_or("the host was rebooted", |look| look.detail.as_str());
    let (blamed, cause) = match (reached, network) {
        (true, _) => (true, format!("{cause}; from the old system a remote answers")),
        (false, Some(true)) => {
            (excused >= MOST_EXCUSED, format!("{cause}; nor from the old system: {away}"))
        }
        (false, Some(false) | None) => {
            (excused >= 1, format!("{cause}; whether that is its fault is not known: {away}"))
        }
    };
    if blamed {
        learn_failure(policy, memory, seen, subject, &cause, now);
    } else {
        pause_uncounted(policy, memory, subject.clone(), &cause, now);
        if let Some(trouble) = memory.trouble_mut(&subject) {
            trouble.excused = excused.saturating_add(1);
        }
    }
}

/// How long the old system may take until it reaches the remotes again.
pub(super) fn settling(policy: &Policy) -> Duration {
    policy.health_timeout.min(SETTLING)
}

pub(super) const SETTLING: Duration = Duration::from_secs(60);

/// A forge that is away each time a system is verified is not away.
pub(super) const MOST_EXCUSED: u32 = 5;

//! Upkeep of jobs: they are resumed, judged, stopped or removed.

use std::time::Duration;

use super::{Decider, Step, Wake};
use crate::cause::SwitchCause;
use crate::guardian::Phase;
use crate::job::{Check, CheckKind, How, SwitchOrder, Verdict};
use crate::observed::{Job, Life, Work};
use crate::policy::OnFailure;
use crate::types::Mono;

/// The pause between two rounds of checks.
const ROUND_PAUSE: Duration = Duration::from_secs(1);
/// The pause before a killed switch job is started again, after the first.
const RESUME_PAUSE: Duration = Duration::from_secs(10);

impl Decider<'_> {
    /// Returns the first step that a job needs: to be resumed, judged, stopped or removed.
    pub(super) fn tend_jobs(&self, wake: &mut Wake) -> Option<Step> {
        self.seen.jobs.iter().find_map(|job| match &job.work {
            Work::Switch { outcome: Some(_), .. } | Work::Unreadable => {
                (job.life == Life::Ended).then(|| Step::RemoveJob(job.id.clone()))
            }
            Work::Switch { outcome: None, .. } if job.life == Life::Ended => self.resume(job, wake),
            Work::Switch { order, progress, verdict: None, .. } => {
                let phase = progress.as_ref().map(|progress| &progress.phase);
                let Some(Phase::Activated { at }) = phase else { return None };
                // After a reboot it is over, and `at` means nothing.
                if order.order.boot_id != self.seen.boot_id {
                    return None;
                }
                self.verify(job, order, *at, wake)
            }
            Work::Switch { verdict: Some(_), .. } => None,
            Work::Realise { outcome, .. } => self.tend_realise(job, outcome.is_some()),
            Work::Publish { .. } => {
                let known = self.memory.publishing.job.as_ref().is_some_and(|it| it.id == job.id);
                (job.life == Life::Ended && !known).then(|| Step::RemoveJob(job.id.clone()))
            }
        })
    }

    pub(super) fn resume(&self, job: &Job, wake: &mut Wake) -> Option<Step> {
        let due = job.resumed.map(|resumed| resumed.plus(RESUME_PAUSE));
        match due {
            Some(due) if due > self.now.mono => {
                wake.at(due);
                None
            }
            Some(_) | None => Some(Step::ResumeSwitch(job.id.clone())),
        }
    }

    pub(super) fn tend_realise(&self, job: &Job, has_outcome: bool) -> Option<Step> {
        // The way back to an earlier system waits for no build.
        let goes_back = self.memory.gates.back.is_some() && !has_outcome;
        let wanted = !goes_back
            && self.memory.deployment.as_ref().is_some_and(|d| d.job.as_ref() == Some(&job.id));
        if wanted {
            return None;
        }
        match job.life {
            Life::Starting | Life::Running if has_outcome => None,
            Life::Starting => None,
            Life::Running => (!job.stopping).then(|| Step::StopJob(job.id.clone())),
            // Its directory holds the link that keeps the system in the store.
            Life::Ended if self.seen.rooting || self.roots_to_keep().is_some() => None,
            Life::Ended => Some(Step::RemoveJob(job.id.clone())),
        }
    }

    /// Reservation about a system that lacks the specialisation that was to run; `None`
    /// if it has it.
    fn lacks_specialisation(&self, order: &SwitchOrder) -> Option<String> {
        let wanted = order.specialisation.as_ref().filter(|_| order.how == How::Activate)?;
        (self.seen.specialisation.as_ref() != Some(wanted))
            .then(|| format!("without the specialisation {wanted}: it has none of that name"))
    }

    /// Checks are repeated until they pass, cannot pass any more, or the time for them is over.
    pub(super) fn verify(
        &self,
        job: &Job,
        order: &SwitchOrder,
        at: Mono,
        wake: &mut Wake,
    ) -> Option<Step> {
        let timeout = order.health_timeout;
        // The guardian puts back at the very end: the agent speaks before it,
        // since it knows why.
        let last_word = at.plus(timeout - (timeout / 10).min(Duration::from_secs(1)));
        let round = self.seen.checks.as_ref().filter(|round| round.job == job.id);
        let checks = round.map(|round| round.checks.as_slice()).unwrap_or_default();
        let fails = |check: &&Check| check.required && !check.ok;
        // One that cannot pass any more is the one that decides.
        let lost = round.and_then(|round| round.checks.get(round.hopeless?)).filter(fails);
        let failed = lost.or_else(|| checks.iter().find(fails));
        let passed = round.is_some() && failed.is_none();
        // What is kept all the same is looked at for as long as there is time: another check
        // may still pass.
        let hopeless = self.policy.on_failure == OnFailure::Rollback && lost.is_some();
        let verdict = |verdict: Verdict| {
            let verdict = Verdict { checks: checks.to_vec(), ..verdict };
            Some(Step::WriteVerdict { job: job.id.clone(), verdict })
        };
        if passed {
            let reserved = round.and_then(|round| reservations(&round.checks));
            let both: Vec<String> =
                self.lacks_specialisation(order).into_iter().chain(reserved).collect();
            return verdict(Verdict::good((!both.is_empty()).then(|| both.join("; "))));
        }
        if self.now.mono >= last_word || hopeless {
            let found = failed.map_or(SwitchCause::ChecksUnfinished, |check| {
                let (name, detail) = (check.name.clone(), check.detail.clone());
                let remotes = |check: &Check| check.kind == CheckKind::Remote;
                match checks.iter().filter(fails).all(remotes) {
                    true => SwitchCause::RemotesLost { name, detail },
                    false => SwitchCause::Check { name, detail },
                }
            });
            return verdict(match self.policy.on_failure {
                OnFailure::Rollback => Verdict::bad(found),
                OnFailure::Report => {
                    Verdict::good(Some(format!("kept as configured, although {found}")))
                }
            });
        }
        wake.at(last_word);
        if self.seen.checking {
            return None;
        }
        let due = round.map_or(at.plus(self.policy.grace), |round| round.ended.plus(ROUND_PAUSE));
        if self.now.mono >= due {
            return Some(Step::RunChecks(job.id.clone()));
        }
        wake.at(due);
        None
    }
}

/// Reservations of a good verdict: failures that were not counted, or that there was
/// nothing it could rest on. `None` if there are none.
fn reservations(checks: &[Check]) -> Option<String> {
    if checks.is_empty() {
        return Some("nothing was checked: no unit, no remote, no health.check".into());
    }
    const SHOWN: usize = 5;
    let failed = checks.iter().filter(|check| !check.ok && !check.required);
    let failed = failed.map(|check| format!("check {} fails: {}", check.name, check.detail));
    let uncounted = checks.iter().flat_map(|check| check.uncounted.iter().cloned());
    let all: Vec<String> = failed.chain(uncounted).collect();
    let more = match all.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let shown = all.get(..SHOWN).unwrap_or(&all).join(", ");
    (!all.is_empty()).then(|| format!("not counted: {shown}{more}"))
}

//! The log's words for what the loop does: one line per decision. A build that
//! takes an hour changes its numbers every second: of that it is said when it
//! begins, when it is over, and once a minute between.

use std::time::Duration;

use crate::core::decide::Step;
use crate::core::job::{Ending, JobKind, RealisePhase};
use crate::core::memory::Deployment;
use crate::core::memory::Entry;
use crate::core::publishing;
use crate::core::status::{RemoteView, StageProgress, State, Status, Unconfined};
use crate::core::types::Mono;
use crate::nix::evaluator::Evaluator;

/// Shortest time between two lines on how far a realisation is.
const PACE: Duration = Duration::from_secs(60);

/// The status that was last said, and which later ones are news.
#[derive(Default)]
pub(super) struct Said {
    last: Option<(Status, Mono)>,
    /// Deployment that was logged as building or fetching.
    building: Option<String>,
}

impl Said {
    /// Whether a status is to be logged now; if so, it is the last one from now on.
    pub(super) fn is_news(&mut self, status: &Status, now: Mono) -> bool {
        let news = match &self.last {
            None => true,
            Some((last, at)) if realises(last) && realises(status) => {
                last.desired != status.desired
                    || last.running != status.running
                    || (last.reason != status.reason && now.since(*at) >= PACE)
                    || self.begins_to_build(status)
            }
            Some((last, _)) => {
                last.state != status.state
                    || last.reason != status.reason
                    || last.lift != status.lift
                    || last.desired != status.desired
                    || last.running != status.running
            }
        };
        if news {
            self.last = Some((status.clone(), now));
            if let Some(id) = builds(status) {
                self.building = Some(id.to_owned());
            }
        }
        news
    }

    /// Takes in a status that differs only in what is not logged.
    pub(super) fn learn(&mut self, status: &Status) {
        if let Some((last, _)) = &mut self.last {
            last.clone_from(status);
        }
    }

    /// Returns the last status that was logged, with what was learnt since.
    pub(super) fn last(&self) -> Option<&Status> {
        self.last.as_ref().map(|(status, _)| status)
    }

    fn begins_to_build(&self, status: &Status) -> bool {
        builds(status).is_some_and(|id| self.building.as_deref() != Some(id))
    }
}

fn realises(status: &Status) -> bool {
    status.state == State::Realising
}

/// Returns the deployment for which something is built or fetched.
fn builds(status: &Status) -> Option<&str> {
    let deployment = status.deployment.as_ref()?;
    let StageProgress::Realise(progress) = &deployment.progress else { return None };
    let builds = matches!(progress.phase, RealisePhase::Building | RealisePhase::Fetching);
    builds.then_some(deployment.id.as_str())
}

/// Logs that a system was got, if it just was.
pub(super) fn realised(before: Option<&Deployment>, now: Option<&Deployment>) {
    let (Some(before), Some(now)) = (before, now) else { return };
    if let Some(system) = now.system.as_ref().filter(|_| before.system.is_none()) {
        let (deployment, took) = (&now.id, now.stages.realise);
        tracing::info!(%deployment, commit = %now.target.commit, stage = "realise", %system, took, "realised");
    }
}

/// Logs which user evaluates commits, or why they are evaluated with all rights.
pub(super) fn evaluator(chosen: &Result<Evaluator, Unconfined>) {
    match chosen {
        Ok(Evaluator { user, .. }) => tracing::info!(user, "commits are evaluated as {user}"),
        Err(why) => tracing::warn!("{why}"),
    }
}

/// Logs a step, unless it is one of every poll.
pub(super) fn step(step: &Step) {
    match step {
        Step::Wait { .. } | Step::Poll { .. } | Step::RunChecks(_) => {
            tracing::trace!(?step, "next");
        }
        Step::Compare { older, newer } => tracing::debug!(?older, ?newer, "comparing"),
        Step::KeepRoots(roots) => tracing::debug!(?roots, "keeping systems in the store"),
        Step::Preflight { system, .. } => tracing::debug!(%system, "may it be activated?"),
        Step::Look => tracing::debug!("does a remote answer?"),
        Step::Disarm { system } => tracing::info!(%system, "it is not to be booted once any more"),
        Step::LookAgainstReboot => tracing::debug!("is anybody against a reboot?"),
        Step::Reboot { system } => tracing::warn!(%system, "rebooting, as configured"),
        Step::RemoveJob(job) => tracing::debug!(%job, "its outcome is remembered"),
        Step::Follow { target, .. } => tracing::info!(
            commit = %target.commit,
            branch = %target.branch,
            remote = %target.remote,
            operation = target.operation.as_str(),
            "following a new head"
        ),
        Step::StartRealise(order) => tracing::info!(
            deployment = %order.deployment,
            commit = %order.target.commit,
            stage = "realise",
            attempt = order.attempt,
            "realising"
        ),
        Step::StartSwitch(switch) => tracing::info!(
            deployment = %switch.order.deployment,
            commit = %switch.order.target.commit,
            stage = "activate",
            system = %switch.candidate,
            how = %switch.how.name(),
            "switching"
        ),
        Step::StartPublish(order) => tracing::info!(
            job = step.starts().map(tracing::field::display),
            system = %order.system,
            cache = &*order.cache,
            stage = "publish",
            "giving the cache what it lacks"
        ),
        Step::ResumeSwitch(job) => {
            let deployment = &job.deployment;
            tracing::warn!(%deployment, %job, "the job was killed before it was done; starting it again");
        }
        Step::StopJob(job) if job.kind == JobKind::Publish => {
            tracing::info!(%job, stage = "publish", "publishing can wait; stopping");
        }
        Step::StopJob(job) => {
            let deployment = &job.deployment;
            tracing::info!(%deployment, %job, "nobody waits for it any more; stopping");
        }
        Step::WriteVerdict { job, verdict } if verdict.good => {
            let deployment = &job.deployment;
            tracing::info!(%deployment, stage = "verify", cause = verdict.cause, "the system works");
        }
        Step::WriteVerdict { job, verdict } => {
            let deployment = &job.deployment;
            let cause = verdict.cause.as_deref();
            tracing::warn!(%deployment, stage = "verify", cause, "the system does not work");
        }
        Step::Settle { target, system, .. } => tracing::info!(
            commit = %target.commit,
            %system,
            "the same system as before: nothing to activate"
        ),
        Step::AskToConfirm { commit } => {
            tracing::info!(%commit, "ready; waits to be confirmed");
        }
        Step::GiveUp { cause } => tracing::warn!(cause, "not activated"),
    }
}

/// Returns the error message for a step that failed.
pub(super) fn failed(step: &Step) -> String {
    match step {
        Step::StartRealise(order) => format!("cannot start to realise {}", order.deployment),
        Step::StartSwitch(switch) => {
            format!("cannot start to switch for {}", switch.order.deployment)
        }
        Step::StartPublish(order) => format!("cannot start to publish {}", order.system),
        Step::ResumeSwitch(job) => format!("cannot start {job} again"),
        Step::StopJob(job) => format!("cannot stop {job}"),
        Step::RemoveJob(job) => format!("cannot remove the directory of {job}"),
        Step::WriteVerdict { job, .. } => format!("cannot write the verdict for {job}"),
        Step::Wait { .. }
        | Step::Poll { .. }
        | Step::Compare { .. }
        | Step::Follow { .. }
        | Step::KeepRoots(_)
        | Step::RunChecks(_)
        | Step::Preflight { .. }
        | Step::Look
        | Step::Disarm { .. }
        | Step::LookAgainstReboot
        | Step::Reboot { .. }
        | Step::Settle { .. }
        | Step::AskToConfirm { .. }
        | Step::GiveUp { .. } => "cannot take the next step".into(),
    }
}

/// Logs notes that are new, and new errors of remotes that answer. Why a remote does not
/// answer is logged when it was asked.
pub(super) fn asides(before: Option<&Status>, now: &Status) {
    let noted = |note: &String| before.is_some_and(|before| before.notes.contains(note));
    for note in now.notes.iter().filter(|note| !noted(note)) {
        tracing::warn!("{note}");
    }
    let wrong = |it: &RemoteView| (it.name.clone(), it.error.clone());
    let known = |remote: &RemoteView| {
        before.is_some_and(|it| it.remotes.iter().any(|it| wrong(it) == wrong(remote)))
    };
    for remote in now.remotes.iter().filter(|remote| remote.reachable && !known(remote)) {
        if let Some(error) = &remote.error {
            tracing::warn!(remote = remote.name, "{error}");
        }
    }
}

/// Logs how a publish job ended.
pub(super) fn published(ended: &publishing::Ended<'_>) {
    let (job, system) = (&ended.job.id, &ended.job.what.system);
    let outcome = ended.outcome.cloned().unwrap_or_default();
    let (sent, bytes, took) = (outcome.sent, outcome.bytes, outcome.took);
    let Some(unfinished) = ended.unfinished else {
        tracing::info!(%job, %system, stage = "publish", sent, bytes, took, "the cache has it all");
        return;
    };
    let (left, again) = (unfinished.left, unfinished.not_before);
    if outcome.cancelled || unfinished.cause.is_none() {
        tracing::info!(%job, %system, stage = "publish", sent, left, "publishing was stopped");
        return;
    }
    let cause = unfinished.cause.as_deref();
    tracing::warn!(%job, %system, stage = "publish", sent, left, cause, %again, "not published");
}

/// Logs how a deployment ended.
pub(super) fn ended(entry: &Entry) {
    let (deployment, verdict) = (&entry.id, entry.verdict.as_str());
    let cause = entry.cause.as_deref();
    match entry.verdict {
        Ending::Good | Ending::Superseded => {
            tracing::info!(%deployment, commit = %entry.commit, verdict, cause, "deployment ended");
        }
        Ending::RolledBack | Ending::Failed | Ending::Interrupted => {
            tracing::warn!(%deployment, commit = %entry.commit, verdict, cause, "deployment ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::job::RealiseProgress;
    use crate::core::status::{DeploymentView, Stage};
    use crate::wording::fixture::{NOW, commit, well};

    fn realising(phase: &str, reason: &str) -> Status {
        let deployment = DeploymentView {
            id: "20260101T000000Z-02020202-1".into(),
            commit: commit(2),
            stage: Stage::Realise,
            started: NOW,
            attempt: 1,
            progress: StageProgress::Realise(RealiseProgress {
                phase: phase.into(),
                ..RealiseProgress::default()
            }),
        };
        let (deployment, reason) = (Some(deployment), reason.to_owned());
        Status { state: State::Realising, reason, deployment, ..well() }
    }

    #[test]
    fn a_build_is_said_when_it_begins_when_it_is_over_and_once_a_minute_between() {
        let mut said = Said::default();
        let mut news =
            |status: &Status, seconds: u64| said.is_news(status, Mono::from_millis(seconds * 1000));
        assert!(news(&well(), 0));
        assert!(news(&realising("", "2 is next"), 1));
        assert!(!news(&realising("exporting", "exporting 2"), 2));
        assert!(!news(&realising("evaluating", "evaluating 2"), 3));
        assert!(news(&realising("fetching", "fetching 2"), 4));
        // Two builds end each second, for two minutes.
        let lines = (5..125).filter(|&second| {
            let phase = if second % 2 == 0 { "fetching" } else { "building" };
            news(&realising(phase, &format!("building 2: {second} of 300 built")), second)
        });
        assert_eq!(lines.count(), 2);
        assert!(!news(&realising("building", "building 2: 300 of 300 built"), 125));
        assert!(news(&well(), 126));
    }

    #[test]
    fn what_is_no_build_is_said_at_once() {
        let mut said = Said::default();
        let mut news = |status: &Status| said.is_news(status, Mono::from_millis(0));
        assert!(news(&well()) && !news(&well()));
        let other = Status { reason: "it is late".into(), ..well() };
        assert!(news(&other) && !news(&other));
        // Another commit is wanted in the middle of a build.
        assert!(news(&realising("building", "building 2")));
        assert!(news(&Status { desired: None, ..realising("building", "building 3") }));
    }
}

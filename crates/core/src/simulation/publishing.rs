//! The cache, the publish job's process with its faults, and what must hold of
//! both: above all that nothing of a deployment changes by them.

use super::agent::name;
use super::host::Task;
use super::story::Publishes;
use super::world::{Tick, World, Wrong};
use crate::decide::{Decision, Step, decide};
use crate::job::{JobId, JobKind, PublishOrder, PublishOutcome, PublishProgress};
use crate::memory::Memory;
use crate::observed::{Job, Seen};
use crate::policy::Policy;
use crate::record::fold;
use crate::status::PublishView;
use crate::types::StorePath;

/// A job that was told to stop is killed after this.
const STOP: u64 = 10_000;

/// Number of paths in a system's closure that no upstream has.
fn paths(system: &StorePath) -> u64 {
    1 + super::forge::system_index(system) as u64 * 7 % 40
}

impl World {
    /// Number of a system's paths that the cache lacks.
    fn lacks(&self, system: &StorePath) -> u64 {
        paths(system) - self.cache.get(system).copied().unwrap_or(0)
    }

    pub(super) fn publish_tick(&mut self, id: &JobId, first: bool) {
        let took = self.chance.between(200, 60_000);
        let (killed, part) = (self.chance.one_in(3), self.chance.next());
        let dir = self.host.jobs.get_mut(id).expect("it ticks");
        let incarnation = dir.incarnation;
        let process = dir.process.as_mut().expect("it ticks");
        let stopping = process.stopping;
        let Task::Publish { order, how, .. } = &dir.task else { return };
        let (system, how) = (order.system.clone(), *how);
        if first && !stopping {
            process.due = self.t + took;
            // Something to be busy with, so that no other tick ends it early.
            process.doing = Some(crate::guardian::Act::Activate);
            let to_send = self.lacks(&system);
            let told = PublishProgress { to_send, ..PublishProgress::default() };
            if let Task::Publish { progress, .. } = &mut self.host.jobs.get_mut(id).unwrap().task {
                *progress = Some(told);
            }
            self.schedule(took, Tick::Job(id.clone(), incarnation));
            self.stir();
            return;
        }
        if how == Publishes::Never || how == Publishes::Deaf && stopping {
            return;
        }
        let there = self.host.store.contains(&system);
        let lacks = self.lacks(&system);
        let some = part % (lacks + 1);
        let sent = match how {
            Publishes::All | Publishes::Deaf if there && !stopping => lacks,
            Publishes::All | Publishes::Deaf | Publishes::Part | Publishes::Dies if there => some,
            Publishes::All | Publishes::Deaf | Publishes::Part | Publishes::Dies => 0,
            Publishes::Nothing | Publishes::Never => 0,
        };
        *self.cache.entry(system.clone()).or_default() += sent;
        if stopping && killed || how == Publishes::Dies {
            self.kill_job(id);
            return;
        }
        let left = lacks - sent;
        let failed = left > 0 || how == Publishes::Nothing;
        let cause = (failed && !stopping).then(|| "the cache is away".to_owned());
        let ended = PublishOutcome { sent, left, cause, cancelled: stopping, ..Default::default() };
        let dir = self.host.jobs.get_mut(id).expect("it ticks");
        dir.process.as_mut().expect("it ticks").doing = None;
        if let Task::Publish { outcome, .. } = &mut dir.task {
            *outcome = Some(ended);
        }
        let gone = self.chance.between(0, 40);
        self.schedule(gone, Tick::Job(id.clone(), incarnation));
        self.stir();
    }

    /// How the next publish job goes.
    pub(super) fn how_it_publishes(&mut self) -> Publishes {
        match &mut self.faults.publishing {
            Some((how, times @ 1..)) => {
                *times -= 1;
                *how
            }
            Some((_, 0)) | None => Publishes::All,
        }
    }

    /// Stops a publish job that was told to: it does, or is killed.
    pub(super) fn stop_publishing(&mut self, id: &JobId, incarnation: u32) {
        self.schedule(STOP, Tick::Killed(id.clone(), incarnation));
    }

    pub(super) fn killed(&mut self, id: &JobId, incarnation: u32) {
        let lives = |id| self.host.jobs.get(id).is_some_and(|dir| dir.process.is_some());
        if lives(id) && self.host.jobs[id].incarnation == incarnation {
            self.kill_job(id);
        }
    }

    pub(super) fn check_publish(&self, order: &PublishOrder) -> Result<(), Wrong> {
        let system = &order.system;
        if !self.truth.verified.contains(system) {
            return Err(format!("{system:?} is published and was never verified"));
        }
        if self.policy.publish.as_deref() != Some(&*order.cache) {
            return Err("it publishes to what is not configured".into());
        }
        if self.truth.published.as_ref() == Some(system) {
            return Err(format!("{system:?} is published again, and nothing has changed"));
        }
        match self.host.jobs.keys().next() {
            Some(other) => Err(format!("it publishes while {other} is there")),
            None => Ok(()),
        }
    }

    /// While a deployment is at work, every publish job was told to stop.
    pub(super) fn check_pause(&self, step: &Step, stopped: &[JobId]) -> Result<(), Wrong> {
        let deploys = |id: &JobId| id.kind != JobKind::Publish;
        let at_work = |(id, dir): (&JobId, &super::host::Directory)| {
            deploys(id) && dir.process.is_some() && !dir.task.has_outcome()
        };
        let starts =
            step.starts().is_some_and(|id| deploys(&id)) || matches!(step, Step::ResumeSwitch(_));
        if matches!(step, Step::StopJob(_)) || !(starts || self.host.jobs.iter().any(at_work)) {
            return Ok(());
        }
        let goes_on = self.host.jobs.iter().find(|(id, dir)| {
            let locked = dir.process.as_ref().is_some_and(|process| process.locked);
            !deploys(id) && locked && !dir.task.has_outcome() && !stopped.contains(id)
        });
        match goes_on {
            Some((id, _)) => Err(format!("{id} goes on at {}", name(step))),
            None => Ok(()),
        }
    }

    /// The same memory and the same step as if there were no cache.
    pub(super) fn check_undisturbed(
        &self,
        before: &Memory,
        folded: &Memory,
        seen: &Seen,
        decision: &Decision,
    ) -> Result<(), Wrong> {
        if self.policy.publish.is_none() && seen.jobs.iter().all(Job::is_of_deployment) {
            return Ok(());
        }
        let policy = Policy { publish: None, ..self.policy.clone() };
        let mut alone = seen.clone();
        alone.jobs.retain(Job::is_of_deployment);
        let without = |memory: &Memory| Memory { publishing: Default::default(), ..memory.clone() };
        let memory = fold(&policy, without(before), &alone, self.now());
        if memory != without(folded) {
            return Err("a publish job changes what is remembered of deployments".into());
        }
        let other = decide(&policy, &memory, &alone, self.now());
        let publishes = |id: &JobId| id.kind == JobKind::Publish;
        let same = match (&decision.step, &other.step) {
            (Step::StopJob(id) | Step::RemoveJob(id), _) if publishes(id) => true,
            (Step::StartPublish(_), Step::Wait { .. }) => true,
            (Step::Wait { until }, Step::Wait { until: longest }) => match (until, longest) {
                (Some(until), Some(longest)) => until <= longest,
                (Some(_) | None, None) => true,
                (None, Some(_)) => false,
            },
            (step, other) => step == other,
        };
        if same && decision.outlook == other.outlook {
            return Ok(());
        }
        Err(format!(
            "{} ({:?}), and without a cache {} ({:?})",
            name(&decision.step),
            decision.outlook,
            name(&other.step),
            other.outlook
        ))
    }

    /// Checks that the status of publishing is true.
    pub(super) fn check_backlog(&self, shown: &PublishView) -> Result<(), Wrong> {
        let lacks = shown.system.as_ref().map_or(0, |system| self.lacks(system));
        if shown.backlog == 0 && lacks > 0 {
            return Err(format!("{lacks} paths are not in the cache, and it shows none"));
        }
        Ok(())
    }

    /// P6: when the faults stop, the cache has the last good system.
    pub(super) fn is_published(&self) -> bool {
        let Some(agent) = &self.agent else { return false };
        let wanted = agent.memory.to_publish(&self.policy);
        wanted.filter(|what| self.host.store.contains(&what.system)).is_none_or(|what| {
            self.lacks(&what.system) == 0 && agent.memory.publishing.done.as_ref() == Some(&what)
        })
    }
}

//! The jobs' processes: one that realises, and the guardian, which does one
//! act of [`guardian::act`] at a time and can be killed anywhere.

use super::forge::{Build, Health, commit_index};
use super::host::{Process, Task};
use super::world::{JobPoint, Tick, World, Wrong};
use crate::guardian::lock::Lock;
use crate::guardian::{Act, Phase, Progress, Sight, Traces, act};
use crate::job::{JobId, RealiseOutcome, Realised, SwitchOrder};
use crate::types::StorePath;

/// More acts than this, and it spins.
const ACTS: u32 = 4_000;

impl World {
    pub(super) fn job_tick(&mut self, id: &JobId, incarnation: u32) -> Result<(), Wrong> {
        let t = self.t;
        let Some(dir) = self.host.jobs.get_mut(id) else { return Ok(()) };
        if dir.incarnation != incarnation {
            return Ok(());
        }
        let Some(process) = &mut dir.process else { return Ok(()) };
        let has_outcome = dir.task.has_outcome();
        let waits = matches!(process.doing, None | Some(Act::AwaitVerdict(_)));
        if process.locked && t < process.due && !waits && !process.stopping {
            return Ok(());
        }
        if has_outcome {
            dir.process = None;
            self.stir();
            return Ok(());
        }
        let first = !process.locked;
        process.locked = true;
        match &dir.task {
            Task::Realise { .. } => self.realise_tick(id, first),
            Task::Switch { .. } => return self.switch_tick(id, first),
            Task::Publish { .. } => self.publish_tick(id, first),
        }
        Ok(())
    }

    fn realise_tick(&mut self, id: &JobId, first: bool) {
        let took = match self.chance.below(8) {
            0 => self.chance.between(30_000, 300_000),
            _ => self.chance.between(200, 20_000),
        };
        let (killed, t) = (self.chance.one_in(3), self.t);
        let dir = self.host.jobs.get_mut(id).expect("it ticks");
        let incarnation = dir.incarnation;
        let process = dir.process.as_mut().expect("it ticks");
        let stopping = process.stopping;
        if first && !stopping {
            process.due = t + took;
            // Something to be busy with, so that no other tick ends it early.
            process.doing = Some(Act::Activate);
            self.schedule(took, Tick::Job(id.clone(), incarnation));
            return;
        }
        if stopping && killed {
            dir.process = None;
            self.stir();
            return;
        }
        let Task::Realise { order, outcome } = &mut dir.task else { return };
        let commit = order.target.commit;
        let index = commit_index(commit);
        let system = self.forge.systems[self.forge.commits[index].system].path.clone();
        let failed = |cause: &str| {
            let (cause, tail) = (cause.into(), String::new());
            Realised::Failed { cause, tail, fault: None }
        };
        let result = match (stopping, self.forge.commits[index].build) {
            (true, _) => Realised::Cancelled,
            (false, Build::Works { failures: 0 }) => {
                self.host.store.insert(system.clone());
                Realised::Built { system }
            }
            (false, Build::Works { failures }) => {
                self.forge.commits[index].build = Build::Works { failures: failures - 1 };
                failed("the cache is away")
            }
            (false, Build::Broken) => failed("error: attribute missing"),
            (false, Build::NoHost) => Realised::NoSuchHost { hosts: vec!["other".into()] },
            (false, Build::Damaged) => {
                self.forge.commits[index].build = Build::Works { failures: 0 };
                Realised::Damaged { cause: "object is missing".into() }
            }
        };
        if !matches!(result, Realised::Built { .. } | Realised::Cancelled) {
            *self.truth.builds.entry(commit).or_default() += 1;
        }
        *outcome = Some(RealiseOutcome { result, took, ignored: Vec::new() });
        process.doing = None;
        let gone = self.chance.between(0, 40);
        self.schedule(gone, Tick::Job(id.clone(), incarnation));
        self.stir();
    }

    fn switch_tick(&mut self, id: &JobId, first: bool) -> Result<(), Wrong> {
        let now = self.mono();
        let dir = self.host.jobs.get_mut(id).expect("it ticks");
        let process = dir.process.as_mut().expect("it ticks");
        let Task::Switch { progress, order, .. } = &mut dir.task else { return Ok(()) };
        let order = order.clone();
        if first && progress.is_none() {
            *progress = Some(Progress::ready(now));
        }
        if let Some(done) = process.doing.take() {
            let kill = matches!(self.faults.guardian, Some((JobPoint::MidAct, 0)))
                && !matches!(done, Act::AwaitVerdict(_) | Act::Pause(_) | Act::LookAgain(_));
            if kill && self.chance.one_in(2) {
                self.faults.guardian = None;
                self.kill_job(id);
                return Ok(());
            }
            let half_before = self.host.jobs[id].process.as_ref().expect("it ticks").half_before;
            self.traces = Traces::default();
            let result = self.effect(id, &order, &done, half_before)?;
            self.host.changing = None;
            if kill || self.guardian_dies(JobPoint::AfterEffect) {
                self.faults.guardian = None;
                self.kill_job(id);
                return Ok(());
            }
            let lock = match self.host.claims(self.t).is_empty() {
                _ if self.chance.one_in(8) => Lock::Unknown,
                true => Lock::Free,
                false => Lock::Held("process 7 (sleep)".into()),
            };
            let dir = self.host.jobs.get_mut(id).expect("it ticks");
            // Whoever waits for a verdict need not report that it has waited.
            let silent = matches!(done, Act::AwaitVerdict(_));
            let process = dir.process.as_mut().expect("it ticks");
            if !matches!(done, Act::LookAgain(_)) {
                process.last = (!silent).then_some(result);
                (process.traces, process.lock) = (std::mem::take(&mut self.traces), lock);
            }
        }
        self.next_act(id, &order)
    }

    fn guardian_dies(&mut self, here: JobPoint) -> bool {
        match self.faults.guardian {
            Some((point, 0)) if point == here => {
                self.faults.guardian = None;
                true
            }
            _ => false,
        }
    }

    fn next_act(&mut self, id: &JobId, order: &SwitchOrder) -> Result<(), Wrong> {
        let mono = self.mono();
        let (boot_id, running, profile) =
            (self.boot_id(), self.host.running.clone(), self.host.profile());
        let dir = &self.host.jobs[id];
        let incarnation = dir.incarnation;
        let process = dir.process.as_ref().expect("it ticks");
        let Task::Switch { progress: Some(progress), verdict, .. } = &dir.task else {
            return Err("a guardian without progress".into());
        };
        let (own, last, verdict) = (process.own, process.last.clone(), verdict.clone());
        let booted = self.host.booted.clone();
        let (traces, lock) = (process.traces.clone(), process.lock.clone());
        let sight = Sight {
            unseen: None,
            boot_id,
            running,
            booted,
            profile,
            verdict,
            own,
            last,
            traces,
            lock,
        };
        let progress = progress.clone();
        let blind = self.blinded_sight(sight.clone());
        let process = self.host.jobs.get_mut(id).and_then(|dir| dir.process.as_mut());
        let process = process.expect("it ticks");
        let sight = match blind {
            Some(mut blind) => {
                let since = *process.blind_since.get_or_insert(mono);
                blind.unseen = blind.unseen.map(|(unseen, _)| (unseen, since));
                blind
            }
            None => {
                process.blind_since = None;
                sight
            }
        };
        let is_blind = sight.unseen.is_some();
        let next = act(order, &progress, &sight, mono);
        if let Some((_, after)) = &mut self.faults.guardian {
            *after = after.saturating_sub(1);
        }
        if self.guardian_dies(JobPoint::BeforeAct) {
            self.kill_job(id);
            return Ok(());
        }
        if self.telling.is_some() {
            let text = if let Act::Note(progress) = &next {
                format!("{:?}", progress.phase)
            } else if let Act::Finish(outcome) = &next {
                format!("Finish {:?} {:?}", outcome.ending, outcome.cause)
            } else {
                format!("{next:?}")
            };
            self.tell(|| format!("switch {} {text}", order.order.target.commit.short()));
        }
        self.check_act(id, order, &progress, &next)?;
        let counted = self.host.jobs.get_mut(id).and_then(|dir| dir.process.as_mut());
        let process = counted.expect("it ticks");
        process.acts += 1;
        if process.acts > ACTS {
            return Err("the guardian spins".into());
        }
        let took = match &next {
            Act::Note(noted) => {
                let back = |phase: &Phase| matches!(phase, Phase::PuttingBack(_));
                let defers =
                    matches!(progress.phase, Phase::Deferring { .. } | Phase::Returning { .. });
                // Nobody can say that it works; or it has failed before, and can only be
                // booted for good.
                let blamed = is_blind || defers && order.suspect;
                if blamed && back(&noted.phase) && !back(&progress.phase) {
                    self.blame(id, &order.candidate);
                }
                let progress = noted;
                let activated = matches!(progress.phase, Phase::Activated { .. });
                let dir = self.host.jobs.get_mut(id).expect("it ticks");
                if let Task::Switch { progress: written, .. } = &mut dir.task {
                    *written = Some(progress.clone());
                }
                let process = dir.process.as_mut().expect("it ticks");
                (process.last, process.own) = (None, true);
                self.schedule(2, Tick::Job(id.clone(), incarnation));
                if self.guardian_dies(JobPoint::AfterNote) {
                    self.kill_job(id);
                }
                // What is written is noticed at once, or a little later.
                if activated || self.chance.one_in(3) {
                    self.stir();
                }
                return Ok(());
            }
            Act::Finish(outcome) => {
                self.check_outcome(id, order, outcome)?;
                let dir = self.host.jobs.get_mut(id).expect("it ticks");
                if let Task::Switch { outcome: written, .. } = &mut dir.task {
                    *written = Some(outcome.clone());
                }
                let gone = self.chance.between(1, 40);
                self.schedule(gone, Tick::Job(id.clone(), incarnation));
                self.stir();
                return Ok(());
            }
            Act::AwaitVerdict(until) => super::agent::millis(until.since(mono)).max(1),
            Act::Pause(pause) | Act::LookAgain(pause) => super::agent::millis(*pause).max(1),
            Act::FreeLock(_) => self.chance.between(5, 50),
            Act::RestartBus | Act::StartUnits | Act::EndUnits(_) | Act::Reboot => {
                self.chance.between(20, 2_000)
            }
            Act::Activate | Act::ActivateOld(_) | Act::ReviveOld(_) => {
                if self.chance.one_in(4) && self.agent.is_some() {
                    // The agent's own unit is restarted by it.
                    self.crash_agent();
                }
                self.chance.between(100, 9_000)
            }
            Act::SetProfile
            | Act::WriteBoot
            | Act::RestoreProfile(_)
            | Act::WriteOldBoot(_)
            | Act::SetOneshot { .. }
            | Act::ReturnProfile(_) => self.chance.between(20, 900),
        };
        let changes = !matches!(next, Act::AwaitVerdict(_) | Act::Pause(_) | Act::LookAgain(_));
        if changes {
            if let Some(other) = &self.host.changing {
                return Err(format!("P2: {id} acts while {other} does"));
            }
            self.host.changing = Some(id.clone());
        }
        let (t, half) = (self.t, self.host.half_done);
        if matches!(next, Act::Activate | Act::ActivateOld(_) | Act::ReviveOld(_)) {
            self.host.half_done = true;
        }
        let dir = self.host.jobs.get_mut(id).expect("it ticks");
        let process = dir.process.as_mut().expect("it ticks");
        process.doing = Some(next);
        process.due = t + took;
        process.half_before = half;
        self.schedule(took, Tick::Job(id.clone(), incarnation));
        Ok(())
    }

    pub(super) fn kill_job(&mut self, id: &JobId) {
        self.tell(|| format!("{id} is killed"));
        if self.host.changing.as_ref() == Some(id) {
            self.host.changing = None;
        }
        self.blame_if_begun(id);
        if let Some(dir) = self.host.jobs.get_mut(id) {
            dir.process = None::<Process>;
            let switches = matches!(dir.task, Task::Switch { .. });
            // Without an agent only the unit can.
            let alone = self.running_health() == Some(Health::NoAgent);
            if switches && (alone || self.chance.one_in(2)) {
                let after = self.chance.between(100, 3_000);
                self.schedule(after, Tick::JobStarts(id.clone()));
            }
        }
        self.stir();
    }

    /// Something that can be blamed on a system has happened to it.
    pub(super) fn blame(&mut self, id: &JobId, system: &StorePath) {
        self.truth.failures.entry(system.clone()).or_default().insert(id.deployment.clone());
    }

    /// Blames the candidate for an end half-way through a switch: it may be the cause.
    fn blame_if_begun(&mut self, id: &JobId) {
        let Some(dir) = self.host.jobs.get(id) else { return };
        let Task::Switch { order, progress: Some(progress), outcome: None, .. } = &dir.task else {
            return;
        };
        if progress.phase != Phase::Ready {
            let candidate = order.candidate.clone();
            self.blame(id, &candidate);
        }
    }

    /// Blames a system that was booted once and is gone with the boot: it may have
    /// brought it down.
    pub(super) fn blame_booted_once(&mut self) {
        let Some(once) = self.host.booted_once.take() else { return };
        let memory = self.host.journal.as_ref();
        let awaiting = memory.and_then(|memory| memory.awaiting.as_ref());
        if let Some(awaiting) = awaiting.filter(|awaiting| awaiting.system == once) {
            let id = awaiting.deployment.id.clone();
            if !awaiting.came_up {
                // Nobody has seen that it did.
                self.truth.gave_up.insert(once.clone());
            }
            self.truth.failures.entry(once).or_default().insert(id);
        }
    }

    pub(super) fn blame_reboot(&mut self) {
        let ids: Vec<JobId> = self.host.jobs.keys().cloned().collect();
        for id in ids {
            self.blame_if_begun(&id);
        }
    }

    /// Forgets the failures that were counted so far, but for those of jobs that are not over.
    pub(super) fn forgive(&mut self) {
        let jobs = &self.host.jobs;
        for failures in self.truth.failures.values_mut() {
            failures.retain(|id| jobs.keys().any(|job| job.deployment == *id));
        }
    }

    fn check_act(
        &mut self,
        id: &JobId,
        order: &SwitchOrder,
        progress: &Progress,
        next: &Act,
    ) -> Result<(), Wrong> {
        let defaults = order.order.target.operation.sets_default();
        if matches!(next, Act::SetProfile | Act::WriteBoot) {
            if !defaults {
                return Err(format!("{id}: a test becomes the default"));
            }
            if matches!(progress.phase, Phase::Deferring { .. }) {
                self.truth.deferred.insert(order.candidate.clone());
            }
        }
        Ok(())
    }
}

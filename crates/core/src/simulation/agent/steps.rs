//! The steps of the simulated agent, as they are taken in the simulated world.

use super::*;

impl World {
    pub(in crate::simulation) fn perform(&mut self, step: &Step) -> Result<(), Wrong> {
        let incarnation = self.incarnation;
        let mono = self.mono();
        let latency = self.chance.between(20, 900);
        let agent = self.agent.as_mut().expect("it lives");
        match step {
            Step::Wait { until } => {
                if let Some(until) = until {
                    let turn = agent.turn;
                    let after = until.since(mono).as_millis() as u64;
                    self.schedule(after, Tick::AgentTurn(turn));
                }
                return Ok(());
            }
            Step::Poll { remote, accepted: _ } => {
                agent.remotes[*remote].busy = true;
                agent.remotes[*remote].wanted = false;
                self.schedule(latency, Tick::Polled(incarnation, *remote));
            }
            Step::Compare { older, newer } => {
                agent.comparing = true;
                self.schedule(latency / 10, Tick::Compared(incarnation, *older, *newer));
            }
            Step::KeepRoots(roots) => {
                agent.rooting = Some(roots.clone());
                self.schedule(latency, Tick::Rooted(incarnation));
            }
            Step::RunChecks(job) => {
                agent.checking = true;
                agent.began_checks = mono;
                self.schedule(latency, Tick::Checked(incarnation, job.clone(), false));
            }
            Step::Preflight { system, default: _, needs_agent, writes_boot } => {
                if !self.host.store.contains(system) {
                    return Err(format!("{system:?} is looked at and is not there"));
                }
                agent.preflighting = true;
                let found =
                    Tick::Preflighted(incarnation, system.clone(), *needs_agent, *writes_boot);
                self.schedule(latency, found);
            }
            Step::Look => {
                agent.looking = true;
                self.schedule(latency, Tick::Looked(incarnation, mono));
            }
            Step::Disarm { system } => {
                agent.disarming = true;
                self.schedule(latency, Tick::Disarmed(incarnation, system.clone(), mono));
            }
            Step::LookAgainstReboot => {
                agent.rebooting = true;
                self.schedule(latency, Tick::Against(incarnation));
            }
            Step::Reboot { system } => {
                agent.rebooting = true;
                self.check_reboot(system)?;
                let boot = self.boot;
                self.schedule(latency * 10, Tick::Reboots(boot));
            }
            Step::ResumeSwitch(job) => {
                agent.resumed.insert(job.clone(), mono);
                let locked = |dir: &Directory| dir.process.as_ref().is_some_and(|p| p.locked);
                if self.host.jobs.get(job).is_none_or(locked) {
                    return Err(format!("{job} is started again while it lives"));
                }
                self.start_process(job);
            }
            Step::StartRealise(order) => {
                let task = Task::Realise { order: order.clone(), outcome: None };
                self.start_job(step, task)?;
            }
            Step::StartSwitch(order) => {
                let order = Box::new(order.clone());
                let (progress, verdict, outcome) = (None, None, None);
                let copy = Box::new((agent.memory.clone(), self.truth.failures.clone()));
                self.start_job(step, Task::Switch { order, copy, progress, verdict, outcome })?;
            }
            Step::StartPublish(order) => {
                let how = self.how_it_publishes();
                let order = Box::new(order.clone());
                self.start_job(step, Task::Publish { order, how, progress: None, outcome: None })?;
            }
            Step::StopJob(job) => {
                if job.kind == JobKind::Publish {
                    agent.stopped.push(job.clone());
                }
                let process = self.host.jobs.get_mut(job).and_then(|dir| dir.process.as_mut());
                if let Some(process) = process {
                    process.stopping = true;
                    let dir_incarnation = self.host.jobs[job].incarnation;
                    self.schedule(latency, Tick::Job(job.clone(), dir_incarnation));
                    if job.kind == JobKind::Publish {
                        self.stop_publishing(job, dir_incarnation);
                    }
                }
            }
            Step::RemoveJob(job) => {
                self.check_removal(job)?;
                self.host.jobs.remove(job);
            }
            Step::WriteVerdict { job, verdict } => {
                self.check_verdict(job, verdict.good)?;
                self.judge(job, verdict.good);
                let dir = self.host.jobs.get_mut(job).ok_or("a verdict for no job")?;
                let dir_incarnation = dir.incarnation;
                if let Task::Switch { verdict: written, .. } = &mut dir.task {
                    *written = Some(verdict.clone());
                }
                self.schedule(5, Tick::Job(job.clone(), dir_incarnation));
            }
            Step::Follow { .. }
            | Step::Settle { .. }
            | Step::AskToConfirm { .. }
            | Step::GiveUp { .. } => {}
        }
        let turn = self.agent.as_ref().expect("it lives").turn;
        self.schedule(2, Tick::AgentTurn(turn));
        Ok(())
    }

    pub(in crate::simulation) fn start_job(
        &mut self,
        step: &Step,
        task: Task,
    ) -> Result<(), Wrong> {
        let id = step.starts().expect("it starts a job");
        if self.host.jobs.contains_key(&id) {
            return Err(format!("{id} is started twice"));
        }
        if self.faults.starts > 0 {
            self.faults.starts -= 1;
            self.tell(|| format!("{id} cannot be started"));
            return Ok(());
        }
        let stillborn = self.faults.stillborn > 0;
        self.faults.stillborn = self.faults.stillborn.saturating_sub(1);
        let ordered = self.t;
        self.host
            .jobs
            .insert(id.clone(), Directory { task, process: None, ordered, incarnation: 0 });
        if !stillborn {
            self.start_process(&id);
        }
        Ok(())
    }

    pub(in crate::simulation) fn start_process(&mut self, job: &JobId) {
        let Some(dir) = self.host.jobs.get_mut(job).filter(|dir| dir.process.is_none()) else {
            return;
        };
        dir.incarnation += 1;
        dir.process = Some(Process::default());
        let incarnation = dir.incarnation;
        let after = self.chance.between(5, 700);
        self.schedule(after, Tick::Job(job.clone(), incarnation));
    }
}

//! The agent's process, and the loop in it: exactly the one that the host
//! runs, step by step, with a crash wherever the story has one.

mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::forge::Health;
use super::host::{Directory, Process, Task};
use super::world::{AgentPoint, Tick, World, Wrong};
use crate::backoff::Luck;
use crate::decide::{Decision, Step, decide};
use crate::job::{JobId, JobKind};
use crate::memory::Memory;
use crate::observed::{
    Against, Job, Life, Look, Preflight, Purpose, Relation, Relations, Remains, Remote, Round,
    Seen, Window, Work,
};
use crate::record::{fold, note};
use crate::types::{Commit, Mono, StorePath};

/// State of the agent's process, which dies with it.
pub(super) struct Agent {
    pub(super) memory: Memory,
    pub(super) remotes: Vec<Remote>,
    pub(super) relations: BTreeMap<(Commit, Commit), Relation>,
    pub(super) shared: Relations,
    pub(super) comparing: bool,
    pub(super) rooting: Option<BTreeMap<Purpose, StorePath>>,
    pub(super) checks: Option<Round>,
    pub(super) checking: bool,
    pub(super) preflight: Option<Preflight>,
    pub(super) preflighting: bool,
    pub(super) look: Option<Look>,
    pub(super) looking: bool,
    pub(super) against: Option<Against>,
    pub(super) rebooting: bool,
    pub(super) disarmed: Option<(StorePath, Mono)>,
    pub(super) disarming: bool,
    pub(super) began_checks: Mono,
    pub(super) resumed: BTreeMap<JobId, Mono>,
    /// Publish jobs that this agent has told to stop.
    pub(super) stopped: Vec<JobId>,
    /// Number of the present turn: those of before it mean nothing.
    pub(super) turn: u32,
    /// Steps since anything happened besides.
    pub(super) idle_steps: u32,
    pub(super) decision: Option<Decision>,
    pub(super) seen: Option<Seen>,
}

/// More steps than this, and nothing else happening, is a loop.
const IDLE_STEPS: u32 = 40;

impl World {
    pub(super) fn start_agent(&mut self) {
        if self.running_health() == Some(Health::NoAgent) {
            return;
        }
        if self.host.journal.is_none() {
            self.adopt();
        }
        let fresh = || {
            let mut memory = Memory::new();
            memory.accepted = self.host.accepted.clone();
            memory
        };
        let read = self.chance.one_in(8);
        let memory = self.host.journal.clone().map_or_else(fresh, |memory| {
            // What is read is what was written: looked at now and then.
            if !read {
                return memory;
            }
            let text = serde_json::to_string(&memory).expect("a memory is JSON");
            serde_json::from_str(&text).expect("and is read again")
        });
        let mut remotes = vec![Remote::default(); self.policy.remotes.len()];
        for remote in &mut remotes {
            remote.luck = Luck(self.chance.next() as u16);
        }
        self.agent = Some(Agent {
            memory,
            remotes,
            relations: BTreeMap::new(),
            shared: Relations::default(),
            comparing: false,
            rooting: None,
            checks: None,
            checking: false,
            preflight: None,
            preflighting: false,
            look: None,
            looking: false,
            against: None,
            rebooting: false,
            disarmed: None,
            disarming: false,
            began_checks: self.mono(),
            resumed: BTreeMap::new(),
            stopped: Vec::new(),
            turn: self.incarnation << 16,
            idle_steps: 0,
            decision: None,
            seen: None,
        });
        self.tell(|| "agent starts".into());
        self.stir();
    }

    /// Records what an agent without a journal takes for good: what runs, or what ran
    /// before a switch that is not over.
    fn adopt(&mut self) {
        let switching = self.host.jobs.values().find_map(|dir| match &dir.task {
            Task::Switch { order, outcome: None, .. } => Some(order.old.clone()),
            Task::Switch { .. } | Task::Realise { .. } | Task::Publish { .. } => None,
        });
        self.truth.adopted.extend(switching.unwrap_or(self.host.running.clone()));
    }

    pub(super) fn kill_agent(&mut self) {
        if self.agent.take().is_some() {
            self.tell(|| "agent dies".into());
        }
        self.incarnation += 1;
    }

    pub(super) fn crash_agent(&mut self) {
        self.kill_agent();
        let (after, incarnation) = (self.chance.between(500, 15_000), self.incarnation);
        self.schedule(after, Tick::AgentStarts(incarnation));
    }

    /// One turn of the loop.
    pub(super) fn agent_turn(&mut self) -> Result<(), Wrong> {
        let mut agent = self.agent.take().expect("it lives");
        let seen = self.observe(&agent);
        let now = self.now();
        let before = agent.memory.clone();
        let first = self.host.journal.is_none();
        if before.boot_id.is_none() && seen.blind().is_none() {
            self.adopt();
        }
        let folded = fold(&self.policy, agent.memory, &seen, now);
        let decision = decide(&self.policy, &folded, &seen, now);
        self.check_blind(&before, &folded, &seen, &decision)?;
        self.check_undisturbed(&before, &folded, &seen, &decision)?;
        let step = decision.step.clone();
        // A host that cannot be looked at is not touched: nobody knows what is at work.
        if seen.blind().is_none() {
            self.check_pause(&step, &agent.stopped)?;
        }
        // What is shown while nothing goes on is looked at now and then.
        let dull = matches!(
            step,
            Step::Wait { .. }
                | Step::Poll { .. }
                | Step::Compare { .. }
                | Step::RunChecks(_)
                | Step::Look
        );
        if self.chance.one_in(if dull { 60 } else { 8 }) {
            self.check_shown(&folded, &seen, &decision)?;
        }
        agent.memory = note(folded, &seen, &step, now);
        // A look every few seconds is no spinning.
        if seen.blind().is_none() || !matches!(step, Step::Wait { .. }) {
            agent.idle_steps += 1;
        }
        self.truth.steps += 1;
        if agent.idle_steps > IDLE_STEPS {
            return Err(format!("it spins: {step:?}"));
        }
        self.check_step(&agent.memory, &decision)?;
        let crash = match &mut self.faults.agent {
            Some(_) if matches!(step, Step::Wait { .. } | Step::Poll { .. }) => None,
            Some((_, after @ 1..)) => {
                *after -= 1;
                None
            }
            fault => fault.take().map(|(point, _)| point),
        };
        if crash == Some(AgentPoint::BeforeSave) {
            self.tell(|| format!("agent dies before saving {}", name(&step)));
            self.crash_agent();
            return Ok(());
        }
        if first || agent.memory != before {
            self.check_save(&before, &agent.memory, &seen)?;
            self.truth.saves += 1;
            self.host.journal = Some(agent.memory.clone());
            self.host.accepted.clone_from(&agent.memory.accepted);
        }
        if crash == Some(AgentPoint::AfterSave) {
            self.tell(|| format!("agent dies before doing {}", name(&step)));
            self.crash_agent();
            return Ok(());
        }
        if self.telling.is_some() {
            self.tell_step(&agent.memory, &seen, &decision);
        }
        agent.decision = Some(decision);
        agent.seen = Some(seen);
        self.agent = Some(agent);
        self.perform(&step)?;
        if crash == Some(AgentPoint::AfterStep) {
            self.crash_agent();
        }
        Ok(())
    }

    pub(super) fn observe(&mut self, agent: &Agent) -> Seen {
        let host = &self.host;
        let memory = &agent.memory;
        let target = memory.target.as_ref().map(|target| target.commit);
        let named = memory
            .systems
            .iter()
            .filter(|known| Some(known.commit) == target)
            .map(|known| &known.system)
            .chain(memory.deployment.iter().filter_map(|deployment| deployment.system.as_ref()))
            .chain(memory.awaiting.iter().map(|awaiting| &awaiting.system))
            .chain(memory.last_good.iter().map(|good| &good.system))
            .chain(memory.good_before.iter().map(|good| &good.system))
            .chain(&host.running);
        let present: BTreeSet<StorePath> =
            named.filter(|system| host.store.contains(*system)).cloned().collect();
        let kernel = |system: &Option<StorePath>| {
            system.as_ref().map(|system| self.forge.system(system).kernel)
        };
        let default = host.profile_system().cloned();
        let reboot = host.booted.is_some() && kernel(&host.booted) != kernel(&default);
        let seen = Seen {
            unseen: Vec::new(),
            boot_id: self.boot_id(),
            machine_id: None,
            running: host.running.clone(),
            specialisation: None,
            revision: None,
            booted: host.booted.clone(),
            profile: host.profile(),
            odd_profile: None,
            reboot_why: reboot.then(|| "another kernel".into()),
            present,
            roots: host.roots.clone(),
            rooting: agent.rooting.is_some(),
            unwritten: None,
            remotes: agent.remotes.clone(),
            relations: agent.shared.clone(),
            comparing: agent.comparing,
            jobs: host.jobs.iter().map(|(id, dir)| self.job_seen(agent, id, dir)).collect(),
            checks: agent.checks.clone(),
            checking: agent.checking,
            preflight: agent.preflight.clone(),
            preflighting: agent.preflighting,
            look: agent.look.clone(),
            looking: agent.looking,
            gave_up: host.gave_up.is_some()
                && host.gave_up == host.generation
                && host.booted.as_ref() != host.profile_system(),
            disarmed: agent.disarmed.clone(),
            disarming: agent.disarming,
            against: agent.against.clone(),
            rebooting: agent.rebooting,
            deploy_window: self.deploy_window(),
            reboot_window: Window::ALWAYS,
            luck: Luck(self.chance.next() as u16),
        };
        self.blinded(seen)
    }

    fn job_seen(&self, agent: &Agent, id: &JobId, dir: &Directory) -> Job {
        let (outcome, work, boot_id) = match &dir.task {
            Task::Realise { order, outcome } => {
                let (order, outcome) = (order.clone(), outcome.clone());
                let boot = order.boot_id.clone();
                (outcome.is_some(), Work::Realise { order, progress: None, outcome }, boot)
            }
            Task::Switch { order, progress, verdict, outcome, copy: _ } => {
                let (progress, verdict) = (progress.clone(), verdict.clone());
                let (order, outcome) = ((**order).clone(), outcome.clone());
                let boot = order.order.boot_id.clone();
                (outcome.is_some(), Work::Switch { order, progress, verdict, outcome }, boot)
            }
            Task::Publish { order, how: _, progress, outcome } => {
                let (order, progress) = ((**order).clone(), progress.clone());
                let (outcome, boot) = (outcome.clone(), order.order.boot_id.clone());
                (outcome.is_some(), Work::Publish { order, progress, outcome }, boot)
            }
        };
        let locked = dir.process.as_ref().is_some_and(|process| process.locked);
        let young = self.t < dir.ordered + 10_000 && boot_id == self.boot_id();
        let never_locked = dir.incarnation <= 1 && !outcome;
        let life = match (locked, young && never_locked) {
            (true, _) => Life::Running,
            (false, true) => Life::Starting,
            (false, false) => Life::Ended,
        };
        let stopping = match dir.task {
            Task::Realise { .. } | Task::Switch { .. } => {
                dir.process.as_ref().is_some_and(|process| process.stopping)
            }
            Task::Publish { .. } => agent.stopped.contains(id),
        };
        let begun = dir.incarnation > 0;
        Job {
            id: id.clone(),
            life,
            stopping,
            resumed: agent.resumed.get(id).copied(),
            unstarted: None,
            remains: if begun { Remains::Begun } else { Remains::NotBegun },
            work,
        }
    }
}

impl Agent {
    pub(super) fn learn_relation(&mut self, older: Commit, newer: Commit, relation: Relation) {
        self.relations.insert((older, newer), relation);
        self.shared = Relations(Arc::new(self.relations.clone()));
    }

    pub(super) fn is_idle(&self) -> bool {
        self.idle_steps > 0
            && !self.comparing
            && self.rooting.is_none()
            && !self.checking
            && !self.preflighting
            && !self.looking
            && !self.disarming
            && !self.rebooting
    }

    pub(super) fn all_asked_since(&self, moment: Mono, all: bool) -> bool {
        let count = if all { self.remotes.len() } else { 1 };
        self.remotes
            .iter()
            .take(count)
            .all(|remote| remote.answers() && remote.asked.is_some_and(|asked| asked >= moment))
    }
}

/// Name of a step, without its fields.
pub(super) fn name(step: &Step) -> String {
    let text = format!("{step:?}");
    text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
}

/// How long the world is given for something.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

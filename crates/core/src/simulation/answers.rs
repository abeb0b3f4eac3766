//! Answers that come back to the agent: of remotes, of roots, of rounds of checks, and
//! requests of a person.

use super::forge::Health;
use super::host::Task;
use super::world::{Tick, World, Wrong};
use crate::backoff::Luck;
use crate::job::CheckKind;
use crate::job::{Check, JobId, Refusal, RefusalCause};
use crate::observed::{Against, Look, Oversize, Preflight, Round};
use crate::policy::{OnFailure, OnKernelChange};
use crate::request::{Request, answer};
use crate::types::{Commit, Mono, StorePath};

impl World {
    pub(super) fn running_health(&self) -> Option<Health> {
        let running = self.host.running.as_ref()?;
        Some(self.forge.system(running).health)
    }

    fn network(&self, remote: usize) -> bool {
        !self.forge.mirrors[remote].down && self.running_health() != Some(Health::NoNetwork)
    }

    pub(super) fn polled(&mut self, index: usize) {
        let up = self.network(index);
        let now = self.now();
        let luck = Luck(self.chance.next() as u16);
        let compares = self.chance.one_in(2);
        let heads = self.forge.heads(index);
        let large = self.forge.mirrors[index].large;
        let Some(agent) = &mut self.agent else { return };
        let remote = &mut agent.remotes[index];
        remote.busy = false;
        remote.asked = Some(now.mono);
        remote.luck = luck;
        let new = heads.release.filter(|_| remote.heads != Some(heads));
        if let (true, true, Some(head)) = (up, large, new) {
            let found = "it is too large".into();
            let lift = "take something out".into();
            remote.oversize = Some(Oversize { head, testing: false, found, lift });
            remote.answered = Some(now.wall);
            remote.failures = 0;
            remote.error = None;
        } else if up {
            remote.oversize = None;
            if remote.heads != Some(heads) {
                remote.moved = Some(now.wall);
            }
            remote.answered = Some(now.wall);
            remote.failures = 0;
            remote.error = None;
            remote.heads = Some(heads);
            if let (true, Some(head), Some(accepted)) =
                (compares, heads.release, agent.memory.accepted.clone())
            {
                let relation = self.forge.relation(accepted.commit, head);
                agent.learn_relation(accepted.commit, head, relation);
            }
            self.truth.shown_release.extend(heads.release.map(|head| (index, head)));
            self.truth.shown_testing.extend(heads.testing);
            self.truth.tested.take_if(|(tested, _)| heads.testing != Some(*tested));
        } else {
            remote.failures += 1;
            remote.error = Some("no route to host".into());
        }
        self.stir();
    }

    pub(super) fn compared(&mut self, older: Commit, newer: Commit) {
        let relation = self.forge.relation(older, newer);
        let Some(agent) = &mut self.agent else { return };
        agent.comparing = false;
        agent.learn_relation(older, newer, relation);
        self.stir();
    }

    pub(super) fn rooted(&mut self) {
        let fails = self.faults.roots > 0;
        self.faults.roots = self.faults.roots.saturating_sub(1);
        let Some(agent) = &mut self.agent else { return };
        let Some(roots) = agent.rooting.take() else { return };
        if !fails {
            self.host.roots =
                roots.into_iter().filter(|(_, system)| self.host.store.contains(system)).collect();
        }
        self.stir();
    }

    pub(super) fn preflighted(&mut self, system: StorePath, needs_agent: bool, writes_boot: bool) {
        let full = self.t < self.host.full_until;
        let mute = needs_agent && self.lacks_agent(&system);
        let cause = match (full, mute) {
            (true, _) => Some(RefusalCause::DiskSpace),
            (false, true) => Some(RefusalCause::NoAgent),
            (false, false) => None,
        };
        let refusal = cause.map(|cause| {
            let evidence = [("store".into(), "none".into())].into();
            Refusal { cause, detail: cause.as_str().into(), evidence }
        });
        let kernel = |system: &StorePath| self.forge.system(system).kernel;
        let other = self.host.booted.as_ref().is_some_and(|b| kernel(b) != kernel(&system));
        let defers = self.policy.on_kernel_change == OnKernelChange::Boot && other;
        let deferral = defers.then(|| "another kernel".into());
        let ended = self.mono();
        let Some(agent) = &mut self.agent else { return };
        agent.preflighting = false;
        agent.preflight =
            Some(Preflight { system, needs_agent, writes_boot, ended, refusal, deferral });
        self.stir();
    }

    /// Of systems whose agent never speaks every other one has none at all.
    fn lacks_agent(&self, system: &StorePath) -> bool {
        let mute = self.forge.system(system).health == Health::NoAgent;
        mute && super::forge::system_index(system).is_multiple_of(2)
    }

    pub(super) fn disarmed(&mut self, system: &StorePath, began: Mono) {
        self.host.oneshot.take_if(|once| once == system);
        let Some(agent) = &mut self.agent else { return };
        (agent.disarming, agent.disarmed) = (false, Some((system.clone(), began)));
        self.stir();
    }

    pub(super) fn asked_whom(&mut self) {
        let against = self.t < self.host.against_until;
        let whom = against.then(|| "somebody".to_owned()).into_iter().collect();
        let ended = self.mono();
        let Some(agent) = &mut self.agent else { return };
        agent.rebooting = false;
        agent.against = Some(Against { ended, whom });
        self.stir();
    }

    /// One of the three looks.
    pub(super) fn looked(&mut self, began: Mono) {
        let reached = (0..self.policy.remotes.len()).any(|remote| self.network(remote));
        let broken = self.running_health() == Some(Health::NoNetwork);
        let known = self.chance.one_in(2);
        let network = (!reached && known).then_some(!broken);
        let ended = self.mono();
        let Some(agent) = &mut self.agent else { return };
        agent.looking = false;
        let detail = if reached { "it answers" } else { "no answer" }.into();
        agent.look = Some(Look { began, ended, reached, network, detail });
        self.stir();
    }

    pub(super) fn checked(&mut self, job: &JobId, late: bool) {
        let health = self.running_health();
        let hangs = health == Some(Health::Hangs);
        let reachable = (0..self.policy.remotes.len()).any(|remote| self.network(remote));
        let (order, candidate_runs) = match self.host.jobs.get(job).map(|dir| &dir.task) {
            Some(Task::Switch { order, .. }) => {
                (Some(order), self.host.running.as_ref() == Some(&order.candidate))
            }
            Some(Task::Realise { .. } | Task::Publish { .. }) | None => (None, false),
        };
        let needs_remote =
            self.policy.health_remote && order.is_some_and(|order| order.remote_before);
        if hangs && !late {
            // The host bounds it.
            let (after, incarnation) = (self.chance.between(10_000, 90_000), self.incarnation);
            self.schedule(after, Tick::Checked(incarnation, job.clone(), true));
            return;
        }
        let web = match health.filter(|_| !late) {
            Some(Health::Good { rounds }) => rounds == 0 && candidate_runs,
            Some(Health::NoNetwork) => true,
            Some(Health::Bad | Health::Hangs | Health::NoAgent) | None => false,
        };
        if let (Some(Health::Good { rounds }), Some(running)) = (health, &self.host.running) {
            let index = super::forge::system_index(running);
            self.forge.systems[index].health = Health::Good { rounds: rounds.saturating_sub(1) };
        }
        let ended = self.mono();
        // What is bad may be known to stay so.
        let lasting = health == Some(Health::Bad) && !late && self.chance.one_in(2);
        let hopeless = lasting.then_some(0);
        let Some(agent) = &mut self.agent else { return };
        let check = |name: &str, ok: bool| Check {
            name: name.into(),
            ok,
            detail: if ok { "ok" } else { "no answer" }.into(),
            required: true,
            ..Check::default()
        };
        let mut checks = vec![check("web", web)];
        if needs_remote {
            checks.push(Check { kind: CheckKind::Remote, ..check("remote", reachable) });
        }
        agent.checking = false;
        let (job, began) = (job.clone(), agent.began_checks);
        agent.checks = Some(Round { job, began, ended, checks, hopeless });
        self.stir();
    }

    /// A verdict is true of what runs.
    pub(super) fn judge(&mut self, job: &JobId, good: bool) {
        let Some(Task::Switch { order, .. }) = self.host.jobs.get(job).map(|dir| &dir.task) else {
            return;
        };
        let candidate = order.candidate.clone();
        if !good {
            self.blame(job, &candidate);
        } else if self.host.running.as_ref() == Some(&candidate) {
            self.truth.verified.insert(candidate);
        }
    }

    /// A verdict says what the last round of checks said, or is late.
    pub(super) fn check_verdict(&self, job: &JobId, good: bool) -> Result<(), Wrong> {
        let agent = self.agent.as_ref().expect("it lives");
        let round = agent.checks.as_ref().filter(|round| round.job == *job);
        let passed = round.is_some_and(|round| round.checks.iter().all(|check| check.ok));
        if good && !passed && self.policy.on_failure == OnFailure::Rollback {
            return Err("P1: a good verdict without checks that passed".into());
        }
        Ok(())
    }

    /// A person asks for something.
    pub(super) fn request(&mut self, request: &Request) -> Option<Result<String, String>> {
        let now = self.now();
        let mut agent = self.agent.take()?;
        let seen = self.observe(&agent);
        let result =
            answer(request, &self.policy, &agent.memory, &seen, now).map(|(memory, said)| {
                agent.memory = memory;
                self.host.journal = Some(agent.memory.clone());
                said
            });
        for remote in &mut agent.remotes {
            remote.wanted = !remote.busy;
        }
        self.agent = Some(agent);
        self.tell(|| format!("a person: {request:?}: {result:?}"));
        self.stir();
        Some(result)
    }
}

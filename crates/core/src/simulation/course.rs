//! Plays a story, and says what it must have come to once the faults stop.

mod expected;

use super::forge::{Activation, Build, Health, commit, commit_index};
use super::host::Task;
use super::story::Story;
use super::world::{World, Wrong};
use crate::decide::{Outlook, Step};
use crate::gates::Gate;
use crate::guardian::Phase;
use crate::job::{Refusal, RefusalCause};
use crate::memory::Stuck;
use crate::observed::Relation;
use crate::policy::{ForcePush, OnFailure, OnKernelChange, Operation};
use crate::status::{HeldCause, State, Status};
use crate::types::Commit;

/// Result of a story that was played.
pub(super) struct Course {
    /// Accepted heads that came to a final verdict.
    pub(super) deployments: u64,
    pub(super) steps: u64,
    pub(super) wrong: Option<Wrong>,
    pub(super) told: Vec<String>,
}

/// Plays a story to its end, or until something is wrong.
pub(super) fn play(story: &Story, telling: bool) -> Course {
    let mut world = World::new(story);
    if telling {
        world.telling = Some(Vec::new());
    }
    let wrong = world.run().err();
    Course {
        deployments: world.truth.finished.len() as u64,
        steps: world.truth.steps,
        wrong,
        told: world.telling.unwrap_or_default(),
    }
}

/// State that must be reached in the end.
#[derive(Debug)]
enum Expected {
    /// Nothing has ever been asked for.
    Nothing,
    /// The commit cannot be realised.
    Unrealised(Commit, State),
    /// The commit's system does not work.
    Bad(Commit),
    /// The commit is in force.
    InForce(Commit, Operation),
}

impl World {
    fn run(&mut self) -> Result<(), Wrong> {
        while !self.story_is_over() {
            self.advance()?;
            if self.resting {
                self.rest()?;
                self.resting = false;
                self.next_event();
            }
        }
        Ok(())
    }

    /// The faults stop: P4 and P6.
    fn rest(&mut self) -> Result<(), Wrong> {
        self.faults = Default::default();
        for mirror in &mut self.forge.mirrors {
            *mirror = Default::default();
        }
        self.host.full_until = 0;
        self.host.against_until = 0;
        self.host.old_failures = 0;
        self.host.profile_failures = 0;
        self.host.blind = None;
        let incarnation = self.incarnation;
        self.schedule(3_000, super::world::Tick::AgentStarts(incarnation));
        self.way_back_ends()?;
        self.host.lock = None;
        self.tell(|| "       the faults stop".into());
        let mut helped = 0;
        let mut since = self.mono();
        let mut deadline = self.t + self.patience();
        loop {
            if self.t > deadline {
                return Err(format!(
                    "P6: {:?} does not come about: {}; published: {}",
                    self.expected(),
                    self.told_state(),
                    self.is_published()
                ));
            }
            let boot = self.boot;
            self.advance()?;
            if self.boot != boot {
                // The agent's own doing, and with it begins another clock.
                since = self.mono();
            }
            if !self.is_idle(since) {
                continue;
            }
            let shown = self.shown();
            match self.needs_help() {
                _ if helped > 12 => return Err("P6: it needs help again and again".into()),
                Some(Help::Reboot) => {
                    self.reboot();
                    self.stir();
                }
                Some(Help::Retry) => self.retry(),
                Some(Help::Resume) => self.resume(),
                Some(Help::Confirm) => self.confirm(),
                None if self.is_as_expected(&shown)? && self.is_published() => break,
                None => continue,
            }
            helped += 1;
            since = self.mono();
            deadline = self.t + self.patience();
        }
        self.check_endings()?;
        self.check_idle()
    }

    /// P4: whoever holds the lock, and if it were for ever, what is on its way back gets there.
    fn way_back_ends(&mut self) -> Result<(), Wrong> {
        let Some(held) = &mut self.host.lock else { return Ok(()) };
        held.until = u64::MAX;
        let deadline = self.t + 15 * 60_000;
        while self.host.lock.is_some() && self.puts_back() {
            if self.t > deadline {
                return Err("P4: the way back waits for the lock for ever".into());
            }
            self.advance()?;
        }
        Ok(())
    }

    fn puts_back(&self) -> bool {
        self.host.jobs.values().any(|dir| match &dir.task {
            Task::Switch { progress: Some(progress), outcome: None, .. } => {
                matches!(progress.phase, Phase::PuttingBack(_))
            }
            Task::Switch { .. } | Task::Realise { .. } | Task::Publish { .. } => false,
        })
    }

    fn patience(&self) -> u64 {
        let policy = &self.policy;
        let tries = policy.retry_max * (policy.activations + 4);
        let slow = (policy.health_timeout + policy.poll_interval) * 12;
        // A publish job that hangs is given a day.
        let day = if policy.publish.is_some() { 25 * 3_600_000 } else { 0 };
        super::agent::millis(tries + slow) + 4_000_000 + day
    }

    fn is_idle(&self, since: crate::types::Mono) -> bool {
        self.host.jobs.is_empty()
            && self.agent.as_ref().is_some_and(|agent| {
                let waits = agent
                    .decision
                    .as_ref()
                    .is_some_and(|decision| matches!(decision.step, Step::Wait { .. }));
                // With the first refused the next one counts as well.
                // Nobody is against its reboot any more.
                let pending = agent.decision.is_some()
                    && agent.seen.is_some()
                    && self.shown().boot.reboot_required
                    // Suspended, it asks nobody.
                    && agent.memory.gates.suspended.is_none()
                    && matches!(self.outlook(), Some(Outlook::AwaitsBoot { .. } | Outlook::InSync));
                let reboots = self.policy.reboots
                    && pending
                    && agent.against.as_ref().is_some_and(|against| !against.whom.is_empty());
                // Nor does one that was asked for and did not come.
                let asked = agent.memory.rebooted.as_ref();
                let again = asked.is_some_and(|asked| asked.boot_id == self.boot_id());
                let reboots = reboots || self.policy.reboots && pending && again;
                let asking = agent.remotes.iter().any(|remote| remote.busy);
                waits
                    && !reboots
                    && !asking
                    && agent.is_idle()
                    && agent.all_asked_since(since, self.refuses() || self.is_behind())
            })
    }

    fn shown(&self) -> Status {
        let agent = self.agent.as_ref().expect("it is idle, so it lives");
        let seen = agent.seen.as_ref().expect("it has looked");
        let decision = agent.decision.as_ref().expect("it has decided");
        self.status(&agent.memory, seen, decision)
    }

    fn told_state(&self) -> String {
        match &self.agent {
            Some(agent) if agent.decision.is_some() => {
                let shown = self.shown();
                format!(
                    "{} ({}), runs {:?}, default {:?}, jobs {:?}, step {:?}",
                    shown.state.as_str(),
                    shown.reason,
                    self.host.running,
                    self.host.profile_system(),
                    self.host.jobs.keys().collect::<Vec<_>>(),
                    agent.decision.as_ref().map(|decision| &decision.step),
                )
            }
            Some(_) | None => "no agent".into(),
        }
    }

    fn outlook(&self) -> Option<&Outlook> {
        Some(&self.agent.as_ref()?.decision.as_ref()?.outlook)
    }

    /// Whether the branch has nothing to offer: it is gone, or was forced.
    fn refuses(&self) -> bool {
        let head = self.forge.release.map(commit);
        let accepted = self.truth.accepted.as_ref().map(|accepted| accepted.commit);
        match (head, accepted) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(head), Some(accepted)) => {
                let relation = self.relation(accepted, head);
                self.policy.force_push == ForcePush::Refuse
                    && self.truth.allowed != Some(head)
                    && matches!(relation, Relation::Behind | Relation::Diverged)
            }
        }
    }

    /// Whether the first remote gives an ancestor: then the next one is asked,
    /// whose own head that may be.
    fn is_behind(&self) -> bool {
        let head = self.forge.release.map(commit);
        let accepted = self.truth.accepted.as_ref().map(|accepted| accepted.commit);
        head.zip(accepted)
            .is_some_and(|(head, accepted)| self.relation(accepted, head) == Relation::Behind)
    }

    /// P5: all that began has ended, but for what is still under way.
    fn check_endings(&self) -> Result<(), Wrong> {
        let memory = &self.agent.as_ref().expect("it is idle, so it lives").memory;
        let open = |id: &crate::job::DeploymentId| {
            memory.deployment.as_ref().is_some_and(|d| d.id == *id)
                || memory.awaiting.as_ref().is_some_and(|a| a.deployment.id == *id)
        };
        match self.truth.deployments.iter().find(|(id, ending)| ending.is_none() && !open(id)) {
            Some((id, _)) => Err(format!("P5: {id} never ended")),
            None => Ok(()),
        }
    }

    /// Nothing is written while nothing happens.
    fn check_idle(&mut self) -> Result<(), Wrong> {
        if matches!(self.outlook(), Some(Outlook::BackingOff(_) | Outlook::Gated(_))) {
            return Ok(());
        }
        let saves = self.truth.saves;
        let before = self.host.journal.clone();
        let until = self.t + 2 * super::agent::millis(self.policy.poll_interval);
        while self.t < until {
            self.advance()?;
        }
        if self.truth.saves == saves {
            Ok(())
        } else {
            let before = before.map(|m| format!("{m:?}")).unwrap_or_default();
            let after = self.host.journal.as_ref().map(|m| format!("{m:?}")).unwrap_or_default();
            let same = before.bytes().zip(after.bytes()).take_while(|(a, b)| a == b).count();
            let around = |text: &str| {
                text.chars().skip(same.saturating_sub(60)).take(120).collect::<String>()
            };
            Err(format!(
                "saved although nothing happened: {} became {}",
                around(&before),
                around(&after)
            ))
        }
    }
}

enum Help {
    Reboot,
    Retry,
    Resume,
    Confirm,
}

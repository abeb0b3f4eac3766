//! Effects of events on the world.

use super::forge::{Change, Health, commit, commit_index};
use super::host::{Directory, Held, Task};
use super::story::{Event, Hand};
use super::world::{Tick, World, Wrong};
use crate::job::JobKind;
use crate::memory::Subject;
use crate::request::{Prefix, Request};

impl World {
    pub(super) fn happen(&mut self, event: &Event) -> Result<(), Wrong> {
        let release = self.forge.release.unwrap_or(self.forge.last_release);
        match *event {
            Event::Push(change) => {
                self.forge.release = Some(self.forge.author(vec![release], change));
            }
            Event::ForcePush(back, change) => {
                let onto = self.forge.before(release, back);
                let parents = if onto == release { Vec::new() } else { vec![onto] };
                self.forge.release = Some(self.forge.author(parents, change));
            }
            Event::Rewind(back) => self.forge.release = Some(self.forge.before(release, back)),
            Event::DeleteRelease => self.forge.release = None,
            Event::Mend(change) => {
                let accepted = self.truth.accepted.as_ref();
                let onto = accepted.map_or(release, |accepted| commit_index(accepted.commit));
                self.forge.release = Some(self.forge.author(vec![onto], change));
            }
            Event::RestoreRelease => self.forge.release = Some(release),
            Event::Test { change, on_release } => {
                let onto = self.forge.testing.filter(|_| !on_release).unwrap_or(release);
                self.forge.testing = Some(self.forge.author(vec![onto], change));
            }
            Event::MergeTest => {
                if let Some(testing) = self.forge.testing {
                    let forward = self.forge.contains(commit(testing), commit(release));
                    self.forge.release = Some(if forward && self.chance.one_in(2) {
                        testing
                    } else {
                        self.forge.merge(release, testing)
                    });
                }
            }
            Event::DeleteTest => self.forge.testing = None,
            Event::Down(remote) => self.forge.mirrors[remote].down = true,
            Event::Up(remote) => self.forge.mirrors[remote].down = false,
            Event::Stale(remote) => {
                self.forge.mirrors[remote].stale = Some(self.forge.heads(remote));
            }
            Event::Fresh(remote) => self.forge.mirrors[remote].stale = None,
            Event::Large(remote) => self.forge.mirrors[remote].large = true,
            Event::Small(remote) => self.forge.mirrors[remote].large = false,
            Event::CrashAgent(point, after) => self.faults.agent = Some((point, after)),
            Event::KillAgent => self.crash_agent(),
            Event::KillGuardian(point, after) => self.faults.guardian = Some((point, after)),
            Event::KillJob => self.kill_some_job(),
            Event::PowerCut => {
                self.lose_verdicts();
                self.reboot();
            }
            Event::Clock(off) => self.clock_off = off,
            Event::Hand(hand) => self.another_hand(hand),
            Event::Gc => self.host.collect_garbage(),
            Event::LoseJournal => self.lose_journal(),
            Event::ForeignJournal => self.lose_journal_to_another_version(),
            Event::Against(for_) => self.host.against_until = self.t + for_,
            Event::Full(for_) => self.host.full_until = self.t + for_,
            Event::Accept => self.accept(),
            Event::Retry => self.retry(),
            Event::StartsFail(times) => self.faults.starts = times,
            Event::Stillborn(times) => self.faults.stillborn = times,
            Event::RootsFail(times) => self.faults.roots = times,
            Event::Locked(who, for_) => {
                self.host.lock = Some(Held { who, until: self.t + for_ });
            }
            Event::OldFails(times) => self.host.old_failures = times,
            Event::ProfileFails(times) => self.host.profile_failures = times,
            Event::Publishing(how, times) => self.faults.publishing = Some((how, times)),
            Event::Suspend(millis) => self.suspend(millis),
            Event::Resume => self.resume(),
            Event::Confirm => self.confirm(),
            Event::RollBack => self.roll_back(),
            Event::Blind(part, for_) => self.host.blind = Some((part, self.t + for_)),
            Event::Closed(for_) => {
                self.host.closed_until = self.t + for_;
                self.host.closed_at = self.t;
            }
            Event::Rest => self.resting = true,
        }
        if let Some(release) = self.forge.release {
            self.forge.last_release = release;
        }
        Ok(())
    }

    fn kill_some_job(&mut self) {
        let living: Vec<_> =
            self.host.jobs.iter().filter(|(_, dir)| dir.process.is_some()).collect();
        if living.is_empty() {
            return;
        }
        let (id, dir) = living[self.chance.index(living.len())];
        let (id, incarnation) = (id.clone(), dir.incarnation);
        if id.kind != JobKind::Switch && self.chance.one_in(2) {
            // It is asked to stop, and not by the agent.
            let dir = self.host.jobs.get_mut(&id).expect("it was found");
            if let Some(process) = &mut dir.process {
                process.stopping = true;
            }
            self.schedule(1, Tick::Job(id, incarnation));
            return;
        }
        self.kill_job(&id);
    }

    /// Loses verdicts, in one of two cases: what was written last may be lost with the power.
    fn lose_verdicts(&mut self) {
        let lost = self.chance.one_in(2);
        for dir in self.host.jobs.values_mut() {
            if let (Task::Switch { verdict, outcome: None, .. }, true) = (&mut dir.task, lost) {
                *verdict = None;
            }
        }
    }

    fn another_hand(&mut self, hand: Hand) {
        if self.host.changing.is_some() {
            // It holds the lock.
            return;
        }
        let known = self.truth.verified.iter().chain(&self.truth.adopted);
        let known: Vec<_> = known
            .filter(|system| {
                self.host.store.contains(*system)
                    && matches!(self.forge.system(system).health, Health::Good { .. })
                    && self.forge.system(system).boots
            })
            .cloned()
            .collect();
        let system = if known.is_empty() || self.chance.one_in(2) {
            let new = self.forge.new_system(Change::Docs, 0);
            self.forge.systems[new].path.clone()
        } else {
            known[self.chance.index(known.len())].clone()
        };
        self.host.store.insert(system.clone());
        self.truth.hand = true;
        self.truth.hand_at = Some(self.t);
        if hand != Hand::Default {
            self.host.running = Some(system.clone());
            self.host.half_done = false;
        }
        if hand != Hand::Running {
            self.truth.by_hand.insert(system.clone());
            self.host.set_profile(&system);
            self.host.boot_loader = Some(system);
            self.host.gave_up = None;
        }
    }

    fn lose_journal(&mut self) {
        self.crash_agent();
        self.host.journal = None;
        self.truth.published = None;
        let switches = |dir: &Directory| matches!(&dir.task, Task::Switch { outcome: None, .. });
        // Nor that what runs was never activated to its end, with nothing to put
        // back: it is what was found there.
        self.host.half_done &= self.host.jobs.values().any(switches);
        // Nobody knows any more how it became the default.
        self.truth.by_hand.append(&mut self.truth.deferred);
        // But for what an outcome says that is still to be taken in.
        let once = self.host.oneshot.as_ref();
        let says = |dir: &Directory| match &dir.task {
            Task::Switch { order, outcome: Some(outcome), .. } => {
                outcome.deferred && Some(&order.candidate) == once
            }
            Task::Switch { outcome: None, .. } | Task::Realise { .. } | Task::Publish { .. } => {
                false
            }
        };
        self.host.orphaned = once.is_some() && !self.host.jobs.values().any(says);
        self.forgive();
        self.truth.tested = None;
        self.truth.allowed = None;
        self.forget_what_was_said(None);
        let jobs = &self.host.jobs;
        self.truth.deployments.retain(|id, ending| {
            ending.is_none()
                && jobs.iter().any(|(job, dir)| {
                    job.deployment == *id && matches!(dir.task, Task::Switch { .. })
                })
        });
    }

    /// A newer agent has written what this one cannot read, and is gone.
    fn lose_journal_to_another_version(&mut self) {
        let copy = self.host.jobs.values().rev().find_map(|dir| match &dir.task {
            Task::Switch { copy, .. } => Some((**copy).clone()),
            Task::Realise { .. } | Task::Publish { .. } => None,
        });
        // What is gone is not written over.
        let copy = copy.filter(|_| self.host.journal.is_some());
        let Some((mut copy, failures)) = copy else { return };
        for (system, ids) in failures {
            self.truth.failures.entry(system).or_default().extend(ids);
        }
        self.crash_agent();
        // Kept in a second place.
        copy.accepted.clone_from(&self.host.accepted);
        // What has ended since is learned again, from the job.
        let jobs = &self.host.jobs;
        self.truth.deployments.retain(|id, ending| {
            if copy.has_ended(id) {
                return true;
            }
            *ending = None;
            jobs.keys().any(|job| job.deployment == *id)
        });
        self.forget_what_was_said(Some(&copy));
        self.host.journal = Some(copy);
        self.truth.published = None;
    }

    fn accept(&mut self) {
        let Some(release) = self.forge.release.map(commit) else { return };
        let prefix = Prefix::parse(&release.prefix(12)).expect("twelve digits");
        if let Some(Ok(said)) = self.request(&Request::Accept(prefix))
            && !said.contains("without an agent")
        {
            self.truth.allowed = Some(release);
        }
    }

    pub(super) fn retry(&mut self) {
        let memory = self.host.journal.as_ref();
        let troubles = memory.map(|memory| memory.troubles.clone()).unwrap_or_default();
        if let Some(Ok(_)) = self.request(&Request::Retry(None)) {
            self.forgive();
            // One whose default is only being put back is quarantined after it.
            self.truth.gave_up.retain(|system| {
                let subject = Subject::System { system: system.clone() };
                !troubles.iter().any(|t| t.subject == subject && t.stuck.is_some())
            });
            self.truth.tested = None;
        }
    }
}

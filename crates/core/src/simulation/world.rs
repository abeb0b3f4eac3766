//! The simulated world: its clocks, its queue of what is to happen, and what
//! is known to be true in it, whatever the agent believes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use super::agent::Agent;
use super::chance::Chance;
use super::forge::Forge;
use super::host::{Failures, Host};
use super::story::{Event, Publishes, Story};
use crate::guardian::Traces;
use crate::job::{DeploymentId, Ending, JobId};
use crate::memory::Accepted;
use crate::observed::Relation;
use crate::policy::Policy;
use crate::types::{BootId, Commit, Mono, Now, StorePath, Wall};

/// Violation of a property, in words.
pub(super) type Wrong = String;

/// Event that is to happen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tick {
    Story(usize),
    AgentStarts(u32),
    AgentTurn(u32),
    Polled(u32, usize),
    Compared(u32, Commit, Commit),
    /// Whether it hung and was given up.
    Checked(u32, JobId, bool),
    Rooted(u32),
    /// Whether it must have an agent, and becomes the default.
    Preflighted(u32, StorePath, bool, bool),
    /// Time at which the look began.
    Looked(u32, Mono),
    Against(u32),
    Disarmed(u32, StorePath, Mono),
    Job(JobId, u32),
    JobStarts(JobId),
    Killed(JobId, u32),
    Reboots(u32),
}

/// Facts that are true, kept apart from everything that is tested.
#[derive(Clone, Debug, Default)]
pub(super) struct Truth {
    /// Systems that may be the boot default.
    pub(super) verified: BTreeSet<StorePath>,
    pub(super) by_hand: BTreeSet<StorePath>,
    pub(super) adopted: BTreeSet<StorePath>,
    pub(super) deferred: BTreeSet<StorePath>,
    /// Failures that really happened to a system since it last went well.
    pub(super) failures: Failures,
    /// The head that was accepted, and who gave it.
    pub(super) accepted: Option<Accepted>,
    /// Head that a person has accepted.
    pub(super) allowed: Option<Commit>,
    /// Heads that remotes have answered with.
    pub(super) shown_release: BTreeSet<(usize, Commit)>,
    pub(super) shown_testing: BTreeSet<Commit>,
    /// The last testing head activated: when, and whether it was taken away or
    /// asked for since.
    pub(super) tested: Option<(Commit, u32)>,
    /// Deployments that began, and how they ended.
    pub(super) deployments: BTreeMap<DeploymentId, Option<Ending>>,
    /// Endings that the outcomes of switch jobs reported.
    pub(super) outcomes: BTreeMap<DeploymentId, Option<Ending>>,
    /// Another hand has changed the host since the last target came.
    pub(super) hand: bool,
    /// When it last did.
    pub(super) hand_at: Option<u64>,
    /// Realise jobs that failed, by commit.
    pub(super) builds: BTreeMap<Commit, u32>,
    /// Systems that did not boot.
    pub(super) gave_up: BTreeSet<StorePath>,
    /// Commits that came to a final verdict.
    pub(super) finished: BTreeSet<Commit>,
    /// The system that was last published, if the agent can know.
    pub(super) published: Option<StorePath>,
    /// Requests that people have made.
    pub(super) said: super::gates::Said,
    pub(super) saves: u64,
    pub(super) steps: u64,
}

pub(super) struct World {
    pub(super) chance: Chance,
    pub(super) policy: Policy,
    /// Milliseconds since it all began.
    pub(super) t: u64,
    pub(super) boot: u32,
    boot_id: BootId,
    pub(super) boot_began: u64,
    /// Error of the wall clock, in milliseconds.
    pub(super) clock_off: i64,
    queue: BinaryHeap<Reverse<(u64, u64, Tick)>>,
    queued: u64,
    pub(super) forge: Forge,
    pub(super) host: Host,
    /// Of each system: how many of its paths the cache has.
    pub(super) cache: BTreeMap<StorePath, u64>,
    pub(super) agent: Option<Agent>,
    /// How often the agent was started.
    pub(super) incarnation: u32,
    pub(super) faults: Faults,
    /// Traces that a program leaves which a guardian runs, besides its exit code.
    pub(super) traces: Traces,
    /// Whether the boot loader counts boots; if not no kernel panics, for then
    /// nothing is promised.
    counts_boots: bool,
    /// Whether it can boot something once.
    pub(super) boots_once: bool,
    pub(super) truth: Truth,
    /// Lines in which the story is told; none if it is not.
    pub(super) telling: Option<Vec<String>>,
    events: Arc<[(u64, Event)]>,
    /// The gates through which the story goes: how many it has passed.
    pub(super) passed: usize,
    /// Whether the story waits for everything to be as it should be.
    pub(super) resting: bool,
}

/// Faults that come next.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults {
    /// The agent dies at this point, after so many steps.
    pub(super) agent: Option<(AgentPoint, u32)>,
    /// The switch job dies at this point, after so many acts.
    pub(super) guardian: Option<(JobPoint, u32)>,
    /// So many jobs cannot be started.
    pub(super) starts: u32,
    /// So many jobs are ordered and never get a process.
    pub(super) stillborn: u32,
    /// So many times roots cannot be changed.
    pub(super) roots: u32,
    /// So many publish jobs go like this.
    pub(super) publishing: Option<(Publishes, u32)>,
}

/// Where an agent dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AgentPoint {
    BeforeSave,
    AfterSave,
    AfterStep,
}

/// Where a switch job dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JobPoint {
    BeforeAct,
    /// While it is acting; whether the effect is there is left to chance.
    MidAct,
    /// The effect is there, and it is not written down.
    AfterEffect,
    AfterNote,
}

impl World {
    pub(super) fn new(story: &Story) -> Self {
        let mut chance = Chance::new(story.seed);
        let mut world = Self {
            policy: story.policy.clone(),
            t: 0,
            boot: 1,
            boot_id: BootId("boot-1".into()),
            boot_began: 0,
            clock_off: 0,
            queue: BinaryHeap::new(),
            queued: 0,
            forge: Forge::default(),
            host: Host::default(),
            cache: BTreeMap::new(),
            agent: None,
            incarnation: 0,
            faults: Faults::default(),
            traces: Traces::default(),
            counts_boots: story.seed.is_multiple_of(3),
            boots_once: story.seed.is_multiple_of(2),
            truth: Truth::default(),
            telling: None,
            events: story.events.clone().into(),
            passed: 0,
            resting: false,
            chance: Chance::new(chance.next()),
        };
        world.begin(story);
        world
    }

    fn begin(&mut self, story: &Story) {
        let remotes = self.policy.remotes.len();
        self.forge.mirrors = vec![Default::default(); remotes];
        let first = self.forge.new_system(super::forge::Change::Docs, 0);
        let first = self.forge.systems[first].path.clone();
        if !story.bare {
            self.host.store.insert(first.clone());
            self.host.running = Some(first.clone());
            self.host.booted = Some(first.clone());
            self.host.set_profile(&first);
            self.host.boot_loader = Some(first.clone());
            self.truth.adopted.insert(first);
        }
        let change = super::forge::Change::Built(super::forge::Build::Works { failures: 0 });
        self.forge.release = Some(self.forge.author(Vec::new(), change));
        self.schedule(0, Tick::AgentStarts(0));
        self.next_event();
    }

    pub(super) fn now(&self) -> Now {
        Now { wall: self.wall(), mono: self.mono() }
    }

    pub(super) fn mono(&self) -> Mono {
        Mono::from_millis(self.t - self.boot_began)
    }

    fn wall(&self) -> Wall {
        // 2026, more or less.
        let t = i64::try_from(self.t).expect("stories end");
        Wall::from_millis(1_767_225_600_000 + t + self.clock_off)
    }

    pub(super) fn boot_id(&self) -> BootId {
        self.boot_id.clone()
    }

    pub(super) fn schedule(&mut self, after: u64, tick: Tick) {
        self.queued += 1;
        self.queue.push(Reverse((self.t + after, self.queued, tick)));
    }

    pub(super) fn next_event(&mut self) {
        if let Some((after, _)) = self.events.get(self.passed) {
            self.schedule(*after, Tick::Story(self.passed));
        }
    }

    /// Whether everything in the story has happened.
    pub(super) fn story_is_over(&self) -> bool {
        self.passed >= self.events.len()
    }

    /// Lets the next thing happen.
    pub(super) fn advance(&mut self) -> Result<(), Wrong> {
        let Some(Reverse((at, _, tick))) = self.queue.pop() else {
            return Err("nothing will ever happen again".into());
        };
        self.t = self.t.max(at);
        match tick {
            Tick::Story(index) => {
                let event = self.events[index].1;
                self.tell(|| format!("       {event:?}"));
                self.happen(&event)?;
                self.passed = index + 1;
                if !self.resting {
                    self.next_event();
                }
                self.stir();
            }
            Tick::AgentStarts(incarnation) => {
                if self.agent.is_none() && incarnation == self.incarnation {
                    self.start_agent();
                }
            }
            Tick::AgentTurn(turn) => {
                if self.agent.as_ref().is_some_and(|agent| agent.turn == turn) {
                    self.agent_turn()?;
                }
            }
            Tick::Polled(incarnation, remote) if incarnation == self.incarnation => {
                self.polled(remote);
            }
            Tick::Compared(incarnation, older, newer) if incarnation == self.incarnation => {
                self.compared(older, newer);
            }
            Tick::Checked(incarnation, job, late) if incarnation == self.incarnation => {
                self.checked(&job, late);
            }
            Tick::Rooted(incarnation) if incarnation == self.incarnation => self.rooted(),
            Tick::Preflighted(incarnation, system, needs_agent, writes_boot)
                if incarnation == self.incarnation =>
            {
                self.preflighted(system, needs_agent, writes_boot);
            }
            Tick::Looked(incarnation, began) if incarnation == self.incarnation => {
                self.looked(began);
            }
            Tick::Against(incarnation) if incarnation == self.incarnation => self.asked_whom(),
            Tick::Disarmed(incarnation, system, began) if incarnation == self.incarnation => {
                self.disarmed(&system, began);
            }
            Tick::Polled(..)
            | Tick::Compared(..)
            | Tick::Checked(..)
            | Tick::Rooted(..)
            | Tick::Preflighted(..)
            | Tick::Looked(..)
            | Tick::Against(..)
            | Tick::Disarmed(..) => {}
            Tick::Reboots(boot) => {
                if boot == self.boot {
                    self.tell(|| "the host is rebooted".into());
                    self.reboot();
                }
            }
            Tick::JobStarts(id) => self.start_process(&id),
            Tick::Killed(id, incarnation) => self.killed(&id, incarnation),
            Tick::Job(id, incarnation) => self.job_tick(&id, incarnation)?,
        }
        self.check_always()
    }

    /// Something happened that the agent is told of.
    pub(super) fn stir(&mut self) {
        if let Some(agent) = &mut self.agent {
            agent.idle_steps = 0;
            agent.turn = agent.turn.wrapping_add(1);
            let turn = agent.turn;
            self.schedule(1, Tick::AgentTurn(turn));
        }
    }

    pub(super) fn tell(&mut self, line: impl FnOnce() -> String) {
        let t = self.t;
        if let Some(lines) = &mut self.telling {
            let line = line();
            if lines.last().is_none_or(|last| !last.ends_with(&line)) {
                lines.push(format!("{:>9.1}s {line}", t as f64 / 1000.0));
            }
        }
    }

    pub(super) fn relation(&self, older: Commit, newer: Commit) -> Relation {
        self.forge.relation(older, newer)
    }

    /// Returns the system that the boot loader comes up with. One that counts boots
    /// gives a kernel that panics up, and boots another generation.
    fn boots(&mut self) -> Option<StorePath> {
        self.host.gave_up = None;
        self.host.booted_once = None;
        if let Some(once) = self.host.oneshot.take() {
            if self.host.orphaned {
                (self.truth.hand, self.truth.hand_at) = (true, Some(self.t));
            }
            if !self.panics(&once) {
                self.host.booted_once = Some(once.clone());
                return Some(once);
            }
            self.tell(|| format!("{once:?} does not boot"));
            self.truth.gave_up.insert(once);
        }
        let default = self.host.boot_loader.clone()?;
        if !self.panics(&default) {
            return Some(default);
        }
        let mut others = self.host.generations.values().rev().filter(|s| !self.panics(s));
        let Some(other) = others.next().cloned() else { return Some(default) };
        self.tell(|| format!("{default:?} does not boot"));
        // What was counted is its own entry: of one that the profile names and
        // the boot loader has not been told of there is none.
        let told = self.host.profile_system() == Some(&default);
        self.host.gave_up = self.host.generation.filter(|_| told);
        self.truth.gave_up.insert(default);
        // It has shown that it boots.
        self.truth.adopted.insert(other.clone());
        Some(other)
    }

    pub(super) fn panics(&self, system: &StorePath) -> bool {
        self.counts_boots && self.forge.system(system).kernel % 5 == 4
    }

    /// The power is gone and comes back, or the host is rebooted.
    pub(super) fn reboot(&mut self) {
        self.blame_reboot();
        self.blame_booted_once();
        self.kill_agent();
        for directory in self.host.jobs.values_mut() {
            directory.process = None;
        }
        self.host.changing = None;
        self.host.half_done = false;
        self.host.lock = None;
        self.boot += 1;
        self.boot_id = BootId(format!("boot-{}", self.boot).into());
        self.t += 20_000;
        self.boot_began = self.t;
        self.host.booted = self.boots();
        self.host.running = self.host.booted.clone();
        let incarnation = self.incarnation;
        self.schedule(2_000, Tick::AgentStarts(incarnation));
    }
}

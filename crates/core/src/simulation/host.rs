//! The host: store, profile, boot loader, what runs, and the files of the
//! agent and of its jobs.

use std::collections::{BTreeMap, BTreeSet};

use super::story::Publishes;

use crate::guardian::lock::{Claim, Lock};
use crate::guardian::{Act, Done, Progress, Traces};
use crate::job::{
    DeploymentId, Generation, JobId, Order, PublishOrder, PublishOutcome, PublishProgress,
    RealiseOutcome, Realised, SwitchOrder, SwitchOutcome, Verdict,
};
use crate::memory::{Accepted, Memory};
use crate::observed::Purpose;
use crate::types::{Mono, StorePath};
use crate::unseen::Part;

#[derive(Clone, Debug, Default)]
pub(super) struct Host {
    pub(super) running: Option<StorePath>,
    pub(super) booted: Option<StorePath>,
    pub(super) generations: BTreeMap<u64, StorePath>,
    pub(super) generation: Option<u64>,
    pub(super) boot_loader: Option<StorePath>,
    pub(super) store: BTreeSet<StorePath>,
    pub(super) roots: BTreeMap<Purpose, StorePath>,
    pub(super) jobs: BTreeMap<JobId, Directory>,
    pub(super) journal: Option<Memory>,
    /// Kept in a second place, as the host does.
    pub(super) accepted: Option<Accepted>,
    /// An activation was broken off, and no other has been completed since.
    pub(super) half_done: bool,
    /// The job that is changing the system right now.
    pub(super) changing: Option<JobId>,
    /// Another process holds the lock of `switch-to-configuration`.
    pub(super) lock: Option<Held>,
    /// There is no room until then.
    pub(super) full_until: u64,
    /// The generation that the boot loader has given up.
    pub(super) gave_up: Option<u64>,
    /// System that the boot loader boots once, the next time.
    pub(super) oneshot: Option<StorePath>,
    /// Nobody remembers who told it so: it passes for a person's choice.
    pub(super) orphaned: bool,
    /// System that runs because it was to be booted once, and is not the default.
    pub(super) booted_once: Option<StorePath>,
    /// Somebody is against a reboot until then.
    pub(super) against_until: u64,
    /// No window is open until then, since then.
    pub(super) closed_until: u64,
    pub(super) closed_at: u64,
    /// Part of the host that cannot be looked at until then.
    pub(super) blind: Option<(Part, u64)>,
    /// So many ways back will fail.
    pub(super) old_failures: u32,
    /// So many writes of a profile will fail.
    pub(super) profile_failures: u32,
}

/// Kind of process that holds the lock of `switch-to-configuration`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// A root process of a unit that is at work: it may be a person's switch.
    Root,
    /// One without root's rights.
    Stranger,
    /// One that was left behind.
    LeftBehind,
}

/// Process that holds the lock, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) who: Who,
    pub(super) until: u64,
}

/// Failures that really happened to a system since it last went well.
pub(super) type Failures = BTreeMap<StorePath, BTreeSet<DeploymentId>>;

/// A job's directory, and its process.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    pub(super) task: Task,
    pub(super) process: Option<Process>,
    /// Time at which the job was ordered.
    pub(super) ordered: u64,
    /// How often its process was started, so that the ticks of an earlier one
    /// mean nothing.
    pub(super) incarnation: u32,
}

#[derive(Clone, Debug)]
pub(super) enum Task {
    Realise {
        order: Order,
        outcome: Option<RealiseOutcome>,
    },
    Switch {
        order: Box<SwitchOrder>,
        /// Copy of the memory, from when the job was ordered, and what was true of it then.
        copy: Box<(Memory, Failures)>,
        progress: Option<Progress>,
        verdict: Option<Verdict>,
        outcome: Option<SwitchOutcome>,
    },
    Publish {
        order: Box<PublishOrder>,
        /// Way in which the job goes.
        how: Publishes,
        progress: Option<PublishProgress>,
        outcome: Option<PublishOutcome>,
    },
}

impl Task {
    pub(super) fn has_outcome(&self) -> bool {
        match self {
            Self::Realise { outcome, .. } => outcome.is_some(),
            Self::Switch { outcome, .. } => outcome.is_some(),
            Self::Publish { outcome, .. } => outcome.is_some(),
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Process {
    /// Whether it holds its lock.
    pub(super) locked: bool,
    pub(super) stopping: bool,
    /// Whether this process wrote the phase down: see [`crate::guardian::Sight`].
    pub(super) own: bool,
    pub(super) last: Option<Done>,
    pub(super) traces: Traces,
    pub(super) lock: Lock,
    pub(super) doing: Option<Act>,
    pub(super) acts: u32,
    /// When what it is doing is done.
    pub(super) due: u64,
    /// Since when it cannot look at the host.
    pub(super) blind_since: Option<Mono>,
    /// Whether the system was half-done before that.
    pub(super) half_before: bool,
}

impl Host {
    /// Returns what the holders of the lock have to show for it.
    pub(super) fn claims(&self, t: u64) -> Vec<Claim> {
        let held = self.lock.filter(|held| t < held.until);
        let claim = |held: Held| match held.who {
            Who::Root => Claim { root: true, over: false },
            Who::Stranger => Claim { root: false, over: false },
            Who::LeftBehind => Claim { root: true, over: true },
        };
        held.map(claim).into_iter().collect()
    }

    pub(super) fn profile(&self) -> Option<Generation> {
        let number = self.generation?;
        Some(Generation { number, system: self.generations[&number].clone() })
    }

    pub(super) fn profile_system(&self) -> Option<&StorePath> {
        self.generation.map(|number| &self.generations[&number])
    }

    pub(super) fn set_profile(&mut self, system: &StorePath) {
        let number = self.generations.keys().last().map_or(1, |last| last + 1);
        self.generations.insert(number, system.clone());
        self.generation = Some(number);
        // Somebody clears old generations away.
        while self.generations.len() > 8 {
            self.generations.pop_first();
        }
    }

    /// Back to the generation that names `system`, deleting the one in force.
    pub(super) fn restore_profile(&mut self, before: Option<&Generation>, system: &StorePath) {
        let left = self.generation;
        let by_number = before
            .filter(|before| before.system == *system)
            .map(|before| before.number)
            .filter(|number| self.generations.contains_key(number));
        let by_system =
            || self.generations.iter().rev().find(|(_, s)| *s == system).map(|(n, _)| *n);
        match by_number.or_else(by_system) {
            Some(number) => self.generation = Some(number),
            None => self.set_profile(system),
        }
        if let Some(left) = left.filter(|left| Some(*left) != self.generation) {
            self.generations.remove(&left);
        }
    }

    /// Back to a generation, and nothing is deleted.
    pub(super) fn return_profile(&mut self, before: &Generation) -> Result<(), String> {
        if !self.generations.contains_key(&before.number) {
            return Err("there is no such generation".into());
        }
        self.generation = Some(before.number);
        Ok(())
    }

    /// Deletes what nothing keeps.
    pub(super) fn collect_garbage(&mut self) {
        let mut kept: BTreeSet<&StorePath> = self.roots.values().collect();
        kept.extend(self.generations.values());
        kept.extend(&self.running);
        kept.extend(&self.booted);
        for directory in self.jobs.values() {
            if let Task::Realise { outcome: Some(outcome), .. } = &directory.task
                && let Realised::Built { system } = &outcome.result
            {
                kept.insert(system);
            }
        }
        let kept: BTreeSet<StorePath> = kept.into_iter().cloned().collect();
        self.store.retain(|system| kept.contains(system));
    }
}

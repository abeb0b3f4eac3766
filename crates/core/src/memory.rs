//! Memory of the agent: what was decided, and what came of it.
//!
//! Saved as one small JSON file (the journal) whenever it changed. Within a
//! major version fields are only added, and unknown ones kept. The times of
//! polls are not in it: nothing is written for a poll that found nothing new.

mod records;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use self::records::{
    Accepted, Armed, Awaiting, Deployment, Entry, Experiment, Good, IgnoredSettings, KnownSystem,
    Rebooted, Running, Settled, Stuck, Subject, Tested, Trouble, Unproven,
};
use super::gates::Gates;
use super::job::{DeploymentId, Target};
use super::observed::Seen;
use super::publishing::Publishing;
use super::types::{BootId, Commit, StorePath, Wall};

/// The journal's major version.
pub const VERSION: u32 = 1;
/// Number of deployments that are remembered.
const HISTORY: usize = 50;
/// Number of commits whose system is remembered.
const SYSTEMS: usize = 32;
/// Number of systems remembered that may be booted once; nearly always there is one.
const ARMED: usize = 8;
/// Number of commits and systems whose failures are remembered.
const TROUBLES: usize = 32;

/// Memory of the agent, as the journal has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The format's major version.
    pub version: u32,
    /// The last release head that was accepted: the next must descend from it.
    #[serde(default)]
    pub accepted: Option<Accepted>,
    /// Head that a person accepted although it does not descend from the accepted one.
    #[serde(default)]
    pub allowed: Option<Commit>,
    /// A commit that a person accepted although its system has no agent.
    #[serde(default)]
    pub without_agent: Option<Commit>,
    /// Target that this host is to run.
    #[serde(default)]
    pub target: Option<Target>,
    /// The deployment under way.
    #[serde(default)]
    pub deployment: Option<Deployment>,
    /// The last deployment that ended well, while it is still meant to be in
    /// force: what it brought about is not brought about again.
    #[serde(default)]
    pub settled: Option<Settled>,
    /// The system that was last verified and made the boot default.
    #[serde(default)]
    pub last_good: Option<Good>,
    /// Last good system before that one.
    #[serde(default)]
    pub good_before: Option<Good>,
    /// The system that this agent last put there, or found at a boot.
    #[serde(default)]
    pub put: Option<StorePath>,
    /// System that ran when last looked at, and since when.
    #[serde(default)]
    pub running: Option<Running>,
    /// A system that was left to the next boot, unverified.
    #[serde(default)]
    pub awaiting: Option<Awaiting>,
    /// Systems that the boot loader may boot once, or has.
    #[serde(default)]
    pub armed: Vec<Armed>,
    /// The testing head that was activated, and in which boot.
    #[serde(default)]
    pub tested: Option<Tested>,
    /// System that was rolled back because it lost the remotes: whether it is to blame shows in
    /// whether they answer again.
    #[serde(default)]
    pub experiment: Option<Experiment>,
    /// A system that was verified, but not in a boot of its own kernel.
    #[serde(default)]
    pub unproven: Option<Unproven>,
    /// The last reboot that was asked for.
    #[serde(default)]
    pub rebooted: Option<Rebooted>,
    /// Decisions of people about deployments, and the commit that waits for one.
    #[serde(default)]
    pub gates: Gates,
    /// Publications to the cache: what it was given, and what it still lacks.
    #[serde(default)]
    pub publishing: Publishing,
    /// Settings that the last realised commit wants of Nix, and does not get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignored: Option<IgnoredSettings>,
    /// Boot in which the memory was last written.
    #[serde(default)]
    pub boot_id: Option<BootId>,
    /// The systems that commits were found to describe, oldest first.
    #[serde(default)]
    pub systems: Vec<KnownSystem>,
    /// Failures and when they are tried again, oldest first.
    #[serde(default)]
    pub troubles: Vec<Trouble>,
    /// Deployments that ended, oldest first. Shared: each turn of the loop has a copy.
    #[serde(default)]
    pub history: Arc<Vec<Entry>>,
    /// Why the memory had to be made anew, if it had to.
    #[serde(default)]
    pub rebuilt: Option<String>,
    /// Time since which the host cannot be looked at, if it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blind_since: Option<Wall>,
    /// Fields of newer versions.
    #[serde(flatten)]
    pub unknown: serde_json::Map<String, serde_json::Value>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Memory {
    /// Makes the memory of an agent that starts for the first time.
    pub fn new() -> Self {
        Self {
            version: VERSION,
            accepted: None,
            allowed: None,
            without_agent: None,
            target: None,
            deployment: None,
            settled: None,
            last_good: None,
            good_before: None,
            put: None,
            running: None,
            awaiting: None,
            armed: Vec::new(),
            tested: None,
            experiment: None,
            unproven: None,
            rebooted: None,
            gates: Gates::default(),
            publishing: Publishing::default(),
            ignored: None,
            boot_id: None,
            systems: Vec::new(),
            troubles: Vec::new(),
            history: Arc::default(),
            rebuilt: None,
            blind_since: None,
            unknown: serde_json::Map::new(),
        }
    }

    /// The system that a commit is known to describe.
    pub fn system_of(&self, commit: Commit, recipe: &str) -> Option<&StorePath> {
        let known = |known: &&KnownSystem| known.commit == commit && *known.recipe == *recipe;
        self.systems.iter().rev().find(known).map(|known| &known.system)
    }

    /// The newest commit that is known to describe a system.
    pub fn commit_of(&self, system: &StorePath) -> Option<Commit> {
        self.systems.iter().rev().find(|known| known.system == *system).map(|known| known.commit)
    }

    /// Returns the remembered failures of a commit or system.
    pub fn trouble_with(&self, subject: &Subject) -> Option<&Trouble> {
        self.troubles.iter().find(|trouble| trouble.subject == *subject)
    }

    /// Whether the target was brought about, and nothing else since.
    pub fn has_settled(&self, target: &Target) -> bool {
        self.settled.as_ref().is_some_and(|settled| {
            settled.commit == target.commit && settled.operation == target.operation
        })
    }

    /// Whether this system runs with a good verdict.
    pub fn has_verified(&self, system: &StorePath) -> bool {
        self.settled.as_ref().is_some_and(|settled| !settled.left && settled.system == *system)
            || self.last_good.as_ref().is_some_and(|good| good.system == *system)
    }

    /// Whether a deployment of this name has ended.
    pub fn has_ended(&self, id: &DeploymentId) -> bool {
        self.history.iter().any(|entry| entry.id == *id)
    }

    /// Remembers the system of a commit, as the newest.
    pub(super) fn learn_system(&mut self, known: KnownSystem) {
        self.systems.retain(|old| old.commit != known.commit || old.recipe != known.recipe);
        self.systems.push(known);
        keep_newest(&mut self.systems, SYSTEMS);
    }

    /// Remembers a failure, as the newest.
    pub(super) fn learn_trouble(&mut self, trouble: Trouble) {
        self.forget_trouble(&trouble.subject);
        self.troubles.push(trouble);
        keep_newest(&mut self.troubles, TROUBLES);
    }

    /// Returns the remembered failures of a commit or system, to be changed.
    pub(super) fn trouble_mut(&mut self, subject: &Subject) -> Option<&mut Trouble> {
        self.troubles.iter_mut().find(|trouble| trouble.subject == *subject)
    }

    /// Forgets that a system was good: after its own kernel was booted, say. The one before it,
    /// which was put back, is the last good one.
    pub(super) fn unlearn_good(&mut self, system: &StorePath, old: Option<&StorePath>) {
        if self.last_good.as_ref().is_some_and(|good| good.system == *system)
            && self.good_before.as_ref().is_some_and(|good| Some(&good.system) == old)
        {
            self.last_good = self.good_before.take();
            self.settled.take_if(|settled| settled.system == *system);
        }
    }

    /// Forgets a default that does not boot, whatever was thought of it; the booted one does.
    pub(super) fn lose_default(&mut self, system: &StorePath, booted: Option<&StorePath>) {
        self.awaiting.take_if(|awaiting| awaiting.system == *system);
        if let Some(awaiting) = &mut self.awaiting
            && awaiting.kept.as_ref() == Some(system)
        {
            awaiting.kept = booted.cloned();
        }
        self.settled.take_if(|settled| settled.system == *system);
        self.unproven.take_if(|unproven| unproven.system == *system);
        // Quarantined, it is not rebooted for; after `retry` it is, once more.
        self.rebooted.take_if(|asked| asked.system == *system);
        self.good_before.take_if(|good| good.system == *system);
        if self.last_good.as_ref().is_some_and(|good| good.system == *system) {
            let before = self.good_before.as_ref();
            let good = |booted: &StorePath| Good {
                system: booted.clone(),
                verified: before.is_some_and(|good| good.system == *booted && good.verified),
            };
            self.last_good = booted.map(good);
            self.good_before.take_if(|good| Some(&good.system) == booted);
        }
        self.put = booted.cloned();
    }

    /// Whether what runs is what the boot loader was to boot once.
    pub(super) fn booted_once(&self, seen: &Seen) -> bool {
        self.armed.iter().any(|armed| {
            armed.boot_id != seen.boot_id && seen.running.as_ref() == Some(&armed.system)
        })
    }

    /// Whether a system was to be booted once, and what is the default was
    /// booted instead.
    pub(super) fn missed_its_boot(&self, seen: &Seen) -> Option<&Awaiting> {
        let awaiting = self.awaiting.as_ref()?;
        let default = seen.profile.as_ref().map(|generation| &generation.system);
        let kept = awaiting.kept.as_ref();
        let missed = kept.is_some()
            && awaiting.boot_id != seen.boot_id
            && seen.running.as_ref() == kept
            && default == kept
            // Or another hand has switched away from it.
            && seen.booted.as_ref() != Some(&awaiting.system);
        missed.then_some(awaiting)
    }

    /// Forgets the failures of a commit or system.
    pub(super) fn forget_trouble(&mut self, subject: &Subject) {
        self.troubles.retain(|trouble| trouble.subject != *subject);
    }

    /// Remembers how a deployment ended, once.
    pub(super) fn learn_ending(&mut self, entry: Entry) {
        if !self.has_ended(&entry.id) {
            let history = Arc::make_mut(&mut self.history);
            history.push(entry);
            keep_newest(history, HISTORY);
        }
    }

    /// Remembers that a system may be booted once.
    pub(super) fn learn_armed(&mut self, armed: Armed) {
        self.armed.retain(|other| other.system != armed.system);
        self.armed.push(armed);
        keep_newest(&mut self.armed, ARMED);
    }

    /// Remembers a system as the last good one.
    pub(super) fn learn_good(&mut self, system: &StorePath, verified: bool) {
        if let Some(good) = self.last_good.as_mut().filter(|good| good.system == *system) {
            good.verified |= verified;
            return;
        }
        let good = Good { system: system.clone(), verified };
        self.good_before = self.last_good.replace(good);
    }
}

fn keep_newest<T>(list: &mut Vec<T>, most: usize) {
    let surplus = list.len().saturating_sub(most);
    list.drain(..surplus);
}

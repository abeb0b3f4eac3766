//! What the agent remembers: what was decided, and what came of it.
//!
//! Saved as one small JSON file (the journal) whenever it changed. Within a
//! major version fields are only added, and unknown ones kept. The times of
//! polls are not in it: nothing is written for a poll that found nothing new.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::cause::SwitchCause;
use super::fault::Fault;
use super::gates::Gates;
use super::job::{Check, DeploymentId, Ending, JobId, Refusal, Stages, Target};
use super::observed::Seen;
use super::policy::Operation;
use super::publishing::Publishing;
use super::types::{BootId, Commit, Mono, StorePath, Wall};

/// The journal's major version.
pub const VERSION: u32 = 1;
/// Deployments remembered.
const HISTORY: usize = 50;
/// Commits whose system is remembered.
const SYSTEMS: usize = 32;
/// Systems remembered that may be booted once; nearly always there is one.
const ARMED: usize = 8;
/// Commits and systems whose failures are remembered.
const TROUBLES: usize = 32;

/// What is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The format's major version.
    pub version: u32,
    /// The last release head that was accepted: the next must descend from it.
    #[serde(default)]
    pub accepted: Option<Accepted>,
    /// A head that a person accepted although it does not.
    #[serde(default)]
    pub allowed: Option<Commit>,
    /// A commit that a person accepted although its system has no agent.
    #[serde(default)]
    pub without_agent: Option<Commit>,
    /// What this host is to run.
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
    /// The one before it.
    #[serde(default)]
    pub good_before: Option<Good>,
    /// The system that this agent last put there, or found at a boot.
    #[serde(default)]
    pub put: Option<StorePath>,
    /// What ran when last looked at, and since when.
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
    /// A system was put back because it lost the remotes: whether it is to
    /// blame shows in whether they answer again.
    #[serde(default)]
    pub experiment: Option<Experiment>,
    /// A system that was verified, but not in a boot of its own kernel.
    #[serde(default)]
    pub unproven: Option<Unproven>,
    /// The last reboot that was asked for.
    #[serde(default)]
    pub rebooted: Option<Rebooted>,
    /// What people said, and what waits for them to.
    #[serde(default)]
    pub gates: Gates,
    /// What the cache was given.
    #[serde(default)]
    pub publishing: Publishing,
    /// What the last commit that was realised wants of Nix, and does not get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignored: Option<IgnoredSettings>,
    /// The boot in which this was last written.
    #[serde(default)]
    pub boot_id: Option<BootId>,
    /// The systems that commits were found to describe, oldest first.
    #[serde(default)]
    pub systems: Vec<KnownSystem>,
    /// What failed and when it is tried again, oldest first.
    #[serde(default)]
    pub troubles: Vec<Trouble>,
    /// How deployments ended, oldest first. Shared: each turn of the loop has a copy.
    #[serde(default)]
    pub history: Arc<Vec<Entry>>,
    /// Why this had to be made anew, if it had to.
    #[serde(default)]
    pub rebuilt: Option<String>,
    /// Since when the host cannot be looked at, if it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blind_since: Option<Wall>,
    /// Fields of newer versions.
    #[serde(flatten)]
    pub unknown: serde_json::Map<String, serde_json::Value>,
}

/// A release head that was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The head.
    pub commit: Commit,
    /// The remote that gave it.
    pub remote: Arc<str>,
}

/// A deployment under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Its name.
    pub id: DeploymentId,
    /// What it is to bring about.
    pub target: Target,
    /// Counted from 1.
    pub attempt: u32,
    /// Since when.
    pub started: Wall,
    /// The system, as soon as it is known.
    pub system: Option<StorePath>,
    /// The job that works for it; none between two.
    pub job: Option<JobId>,
    /// The time that finished stages took.
    #[serde(default)]
    pub stages: Stages,
}

/// A deployment that ended well, or was taken over by another hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// Its commit.
    pub commit: Commit,
    /// Its purpose.
    pub operation: Operation,
    /// Its system.
    pub system: StorePath,
    /// Whether another hand ended it instead: it was not verified, and is left
    /// alone while something else runs.
    #[serde(default)]
    pub left: bool,
}

/// A system that was verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Good {
    /// The system.
    pub system: StorePath,
    /// Whether this agent has found it good, and not only running.
    #[serde(default)]
    pub verified: bool,
}

/// What runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The system.
    pub system: StorePath,
    /// When it was first seen to run.
    pub since: Wall,
}

/// A system that awaits its first boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Awaiting {
    /// The deployment that it ends.
    pub deployment: Deployment,
    /// The system.
    pub system: StorePath,
    /// The boot that has to end first.
    pub boot_id: BootId,
    /// Why it was not activated.
    pub why: String,
    /// The default that is kept until it was verified, where it is booted once;
    /// none: it is the default itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<StorePath>,
    /// Whether it was seen to run, in a boot that was to be its only one.
    #[serde(default)]
    pub came_up: bool,
}

/// A system that the boot loader may boot once, with the boot after this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Armed {
    /// The system.
    pub system: StorePath,
    /// In which boot it was told to.
    pub boot_id: BootId,
    /// Not before then.
    pub since: Mono,
}

/// A testing head that was activated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tested {
    /// The head.
    pub commit: Commit,
    /// In which boot: never in another one.
    pub boot_id: BootId,
}

/// The third look for a remote, which is still to be taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Experiment {
    /// The system that was put back.
    pub system: StorePath,
    /// What its checks found.
    pub cause: String,
    /// In which boot.
    pub boot_id: BootId,
    /// When that was learned.
    pub since: Mono,
}

/// A reboot that the agent asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebooted {
    /// The default that was to be booted.
    pub system: StorePath,
    /// In which boot.
    pub boot_id: BootId,
    /// When.
    pub at: Mono,
}

/// A verified system that needs a reboot, and is verified again after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unproven {
    /// The system.
    pub system: StorePath,
    /// What it is in force for.
    pub target: Target,
    /// The boot in which it was verified.
    pub boot_id: BootId,
}

/// The system that a commit describes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownSystem {
    /// The commit.
    pub commit: Commit,
    /// How its tree becomes a system.
    pub recipe: Arc<str>,
    /// The system.
    pub system: StorePath,
}

/// Settings in a commit's `nixConfig` that Nix does not follow here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IgnoredSettings {
    /// The commit.
    pub commit: Commit,
    /// Their names.
    pub names: Vec<String>,
}

/// What failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Subject {
    /// A commit could not be realised by this recipe.
    Commit {
        /// The commit.
        commit: Commit,
        /// The recipe.
        recipe: Arc<str>,
    },
    /// A system could not be activated or verified.
    System {
        /// The system.
        system: StorePath,
    },
}

/// A failure and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// What failed.
    pub subject: Subject,
    /// How often in a row.
    pub failures: u32,
    /// The last time.
    pub at: Wall,
    /// Not tried again before then.
    pub not_before: Wall,
    /// Not tried again at all until a person says so, or something else is
    /// wanted.
    pub stuck: Option<Stuck>,
    /// Why, in words.
    pub cause: String,
    /// It was refused before anything was touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
    /// Why a commit could not be realised, by who has to do what about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// The commit was refused for what it is: it is stuck. In a field of its own, for
    /// earlier versions do not know the causes, and could read nothing of all this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refusal>,
    /// How often in a row it lost the remotes, and was not blamed for it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub excused: u32,
    /// Whether the system itself was found bad, and not only who activated it killed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub found_bad: bool,
}

/// Why something is not tried again by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Stuck {
    /// The system failed too often.
    Quarantined,
    /// The commit has no such host.
    NoSuchHost {
        /// The hosts that it has.
        hosts: Vec<String>,
    },
}

/// How a deployment ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name.
    pub id: DeploymentId,
    /// Its commit.
    pub commit: Commit,
    /// Its system, if that was found.
    pub system: Option<StorePath>,
    /// The system that ran before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<StorePath>,
    /// Its purpose.
    pub operation: Operation,
    /// How it ended.
    pub verdict: Ending,
    /// Why, in words.
    pub cause: Option<String>,
    /// The same, if a switch ended it and this process learnt of that, as what it is.
    #[serde(skip)]
    pub why: Option<Box<SwitchCause>>,
    /// The same, if its system could not be got, by who has to do what about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// When it began.
    pub started: Wall,
    /// When that was learned.
    pub ended: Wall,
    /// The time that each stage took.
    pub stages: Stages,
    /// What the verdict rested on.
    pub checks: Vec<Check>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Memory {
    /// Of an agent that starts for the first time.
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

    /// What is known of failures of a commit or system.
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

    /// The same, to be changed.
    pub(super) fn trouble_mut(&mut self, subject: &Subject) -> Option<&mut Trouble> {
        self.troubles.iter_mut().find(|trouble| trouble.subject == *subject)
    }

    /// A system that was good is so no more: after its own kernel was booted,
    /// say. The one before it, which was put back, is the last good one.
    pub(super) fn unlearn_good(&mut self, system: &StorePath, old: Option<&StorePath>) {
        if self.last_good.as_ref().is_some_and(|good| good.system == *system)
            && self.good_before.as_ref().is_some_and(|good| Some(&good.system) == old)
        {
            self.last_good = self.good_before.take();
            self.settled.take_if(|settled| settled.system == *system);
        }
    }

    /// A default that does not boot, whatever was thought of it; the other one
    /// does.
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

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

fn keep_newest<T>(list: &mut Vec<T>, most: usize) {
    let surplus = list.len().saturating_sub(most);
    list.drain(..surplus);
}

//! Memory of the agent: what was decided, and what came of it.
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

/// A release head that was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Head that was accepted.
    pub commit: Commit,
    /// The remote that gave it.
    pub remote: Arc<str>,
}

/// A deployment under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Name of the deployment.
    pub id: DeploymentId,
    /// Target that the deployment is to bring about.
    pub target: Target,
    /// Number of the attempt, counted from 1.
    pub attempt: u32,
    /// Time at which the deployment began.
    pub started: Wall,
    /// The system, as soon as it is known.
    pub system: Option<StorePath>,
    /// Job that works for the deployment; none between two jobs.
    pub job: Option<JobId>,
    /// The time that finished stages took.
    #[serde(default)]
    pub stages: Stages,
}

/// A deployment that ended well, or was taken over by another hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// Commit of the deployment.
    pub commit: Commit,
    /// Purpose of the deployment: switch, boot or test.
    pub operation: Operation,
    /// System of the deployment.
    pub system: StorePath,
    /// Whether another hand ended the deployment instead: the system was not verified, and is
    /// left alone while something else runs.
    #[serde(default)]
    pub left: bool,
}

/// A system that was verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Good {
    /// System that was found good, or running.
    pub system: StorePath,
    /// Whether this agent has found the system good, and not only running.
    #[serde(default)]
    pub verified: bool,
}

/// Running system, with the time since which it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// System that was seen to run.
    pub system: StorePath,
    /// Time at which the system was first seen to run.
    pub since: Wall,
}

/// A system that awaits its first boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Awaiting {
    /// Deployment that ends with the boot.
    pub deployment: Deployment,
    /// System that awaits its first boot.
    pub system: StorePath,
    /// The boot that has to end first.
    pub boot_id: BootId,
    /// Why the system was not activated.
    pub why: String,
    /// The default that is kept until it was verified, where it is booted once;
    /// none: it is the default itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<StorePath>,
    /// Whether the system was seen to run, in a boot that was to be its only one.
    #[serde(default)]
    pub came_up: bool,
}

/// A system that the boot loader may boot once, with the boot after this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Armed {
    /// System that may be booted once.
    pub system: StorePath,
    /// Boot in which the boot loader was told to.
    pub boot_id: BootId,
    /// Earliest time at which the arming may be undone.
    pub since: Mono,
}

/// A testing head that was activated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tested {
    /// Testing head that was activated.
    pub commit: Commit,
    /// Boot in which the head was activated: never in another one.
    pub boot_id: BootId,
}

/// The third look for a remote, which is still to be taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Experiment {
    /// System that lost the remotes and was rolled back.
    pub system: StorePath,
    /// Finding of the system's checks, in words.
    pub cause: String,
    /// Boot in which the rollback was learned of.
    pub boot_id: BootId,
    /// Time at which the rollback was learned of.
    pub since: Mono,
}

/// A reboot that the agent asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebooted {
    /// The default that was to be booted.
    pub system: StorePath,
    /// Boot in which the reboot was asked for.
    pub boot_id: BootId,
    /// Time of the request, by that boot's clock.
    pub at: Mono,
}

/// A verified system that needs a reboot, and is verified again after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unproven {
    /// System that was verified, and will be again.
    pub system: StorePath,
    /// Target that the system is in force for.
    pub target: Target,
    /// The boot in which it was verified.
    pub boot_id: BootId,
}

/// The system that a commit describes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownSystem {
    /// Commit that describes the system.
    pub commit: Commit,
    /// Recipe by which the commit's tree becomes a system.
    pub recipe: Arc<str>,
    /// System that the commit describes.
    pub system: StorePath,
}

/// Settings in a commit's `nixConfig` that Nix does not follow here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IgnoredSettings {
    /// Commit whose `nixConfig` has the settings.
    pub commit: Commit,
    /// Names of the settings.
    pub names: Vec<String>,
}

/// Commit or system that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Subject {
    /// A commit could not be realised by this recipe.
    Commit {
        /// Commit that could not be realised.
        commit: Commit,
        /// Recipe that was used for the commit.
        recipe: Arc<str>,
    },
    /// A system could not be activated or verified.
    System {
        /// System that could not be activated or verified.
        system: StorePath,
    },
}

/// A failure and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// Commit or system that failed.
    pub subject: Subject,
    /// Number of failures in a row.
    pub failures: u32,
    /// Time of the last failure.
    pub at: Wall,
    /// Earliest time at which it is tried again.
    pub not_before: Wall,
    /// Why it is not tried again at all until a person says so, or something else is wanted.
    pub stuck: Option<Stuck>,
    /// Cause of the last failure, in words.
    pub cause: String,
    /// Refusal, if it came before anything was touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
    /// Fault for which a commit could not be realised, by who has to do what about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// Refusal of the commit for what it is: it is stuck. In a field of its own, for earlier
    /// versions do not know the causes, and could read nothing of all this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refusal>,
    /// Number of times in a row that the system lost the remotes, and was not blamed for it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub excused: u32,
    /// Whether the system itself was found bad, and not only the process that activated it
    /// killed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub found_bad: bool,
}

/// Reason why something is not tried again by itself.
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

/// Entry of the history: how a deployment ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Name of the deployment.
    pub id: DeploymentId,
    /// Commit of the deployment.
    pub commit: Commit,
    /// System of the deployment, if it was found.
    pub system: Option<StorePath>,
    /// System that ran before the deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<StorePath>,
    /// Purpose of the deployment: switch, boot or test.
    pub operation: Operation,
    /// How the deployment ended.
    pub verdict: Ending,
    /// Cause of that end, in words.
    pub cause: Option<String>,
    /// Cause as a value, if a switch ended the deployment and this process learnt of that.
    #[serde(skip)]
    pub why: Option<Box<SwitchCause>>,
    /// Fault, if the deployment's system could not be got, by who has to do what about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// Time at which the deployment began.
    pub started: Wall,
    /// Time at which the end was learned of.
    pub ended: Wall,
    /// The time that each stage took.
    pub stages: Stages,
    /// Checks that the verdict rested on.
    pub checks: Vec<Check>,
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

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

fn keep_newest<T>(list: &mut Vec<T>, most: usize) {
    let surplus = list.len().saturating_sub(most);
    list.drain(..surplus);
}

//! The other side: commits with real ancestry, branches, the systems that
//! commits describe, and remotes that are down, stale or up.

use crate::observed::{Heads, Relation};
use crate::types::{Commit, StorePath};

/// Result of realising a commit's tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Build {
    /// The commit builds, after this many failures.
    Works { failures: u32 },
    /// The commit never builds.
    Broken,
    /// The commit has no such host.
    NoHost,
    /// The commit's objects are damaged in the clone, the first time.
    Damaged,
}

/// Codes that a `switch-to-configuration` ends with half-way, and thereby means nothing: the real
/// one ends with whatever errno was the last. 4 is EINTR, 11 EAGAIN, 100 ENETDOWN.
pub(super) const ERRNOS: [i32; 9] = [1, 2, 4, 5, 11, 11, 32, 100, 127];

/// Result of `switch-to-configuration test` of a system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Activation {
    /// Exit code 0 or 4: the system runs.
    Works(i32),
    /// Exit code 1: refused, nothing has changed.
    Refused,
    /// Exit code 100: needs a reboot, nothing has changed.
    NeedsReboot,
    /// Any code: half of it is done, and perhaps it is what runs.
    Half(i32, bool),
    /// A signal or a timeout.
    Broke(bool),
}

/// Health of a system that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// The checks pass, after this many rounds that failed.
    Good { rounds: u32 },
    /// The checks never pass.
    Bad,
    /// The checks never end.
    Hangs,
    /// No remote can be reached from it.
    NoNetwork,
    /// The agent does not start in it.
    NoAgent,
}

/// A system and how it behaves.
#[derive(Clone, Debug)]
pub(super) struct System {
    pub(super) path: StorePath,
    pub(super) activation: Activation,
    /// Activations that fail before that.
    pub(super) flaky: u32,
    pub(super) health: Health,
    /// Whether it can be written to the boot loader.
    pub(super) boots: bool,
    pub(super) kernel: u64,
}

/// Content of a new commit on a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The same system again.
    Docs,
    /// The system of the commit before.
    Revert,
    /// Another system, which behaves like this.
    New { activation: Activation, flaky: u32, health: Health, boots: bool, kernel: bool },
    /// Another system, that is not got at once.
    Built(Build),
}

#[derive(Clone, Debug)]
pub(super) struct Authored {
    pub(super) parents: Vec<usize>,
    ancestors: Vec<bool>,
    pub(super) system: usize,
    pub(super) build: Build,
}

/// A remote, as the network shows it.
#[derive(Clone, Debug, Default)]
pub(super) struct Mirror {
    pub(super) down: bool,
    /// Heads that it still shows, if it has stopped following.
    pub(super) stale: Option<Heads>,
    /// Whether everything that is new there is too large.
    pub(super) large: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Forge {
    pub(super) commits: Vec<Authored>,
    pub(super) systems: Vec<System>,
    pub(super) release: Option<usize>,
    pub(super) testing: Option<usize>,
    /// Last release head, also once the branch was deleted.
    pub(super) last_release: usize,
    pub(super) mirrors: Vec<Mirror>,
}

pub(super) fn commit(index: usize) -> Commit {
    let mut bytes = [0; 20];
    let number = u32::try_from(index).expect("few commits").to_be_bytes();
    bytes[..3].copy_from_slice(&number[1..]);
    bytes[3] = 0x5f;
    Commit::from_bytes(bytes)
}

pub(super) fn commit_index(commit: Commit) -> usize {
    let b = commit.as_bytes();
    usize::from(b[0]) << 16 | usize::from(b[1]) << 8 | usize::from(b[2])
}

pub(super) fn system_index(path: &StorePath) -> usize {
    path.as_str().rsplit('-').next().and_then(|n| n.parse().ok()).expect("named by its number")
}

impl Forge {
    pub(super) fn heads(&self, remote: usize) -> Heads {
        self.mirrors[remote].stale.unwrap_or(self.fresh_heads())
    }

    pub(super) fn fresh_heads(&self) -> Heads {
        Heads { release: self.release.map(commit), testing: self.testing.map(commit) }
    }

    pub(super) fn system_of(&self, commit: Commit) -> &System {
        &self.systems[self.commits[commit_index(commit)].system]
    }

    pub(super) fn system(&self, path: &StorePath) -> &System {
        &self.systems[system_index(path)]
    }

    /// Whether `newer` is `older` or descends from it.
    pub(super) fn contains(&self, newer: Commit, older: Commit) -> bool {
        newer == older || self.commits[commit_index(newer)].ancestors[commit_index(older)]
    }

    pub(super) fn relation(&self, older: Commit, newer: Commit) -> Relation {
        if older == newer {
            Relation::Same
        } else if self.contains(newer, older) {
            Relation::Ahead
        } else if self.contains(older, newer) {
            Relation::Behind
        } else {
            Relation::Diverged
        }
    }

    pub(super) fn new_system(&mut self, change: Change, kernel: u64) -> usize {
        let number = self.systems.len();
        let path = format!("/nix/store/{number:032}-system-{number}");
        let (activation, flaky, health, boots) = match change {
            Change::New { activation, flaky, health, boots, .. } => {
                (activation, flaky, health, boots)
            }
            Change::Docs | Change::Revert | Change::Built(_) => {
                (Activation::Works(0), 0, Health::Good { rounds: 0 }, true)
            }
        };
        let path = path.parse().expect("a store path");
        self.systems.push(System { path, activation, flaky, health, boots, kernel });
        number
    }

    pub(super) fn author(&mut self, parents: Vec<usize>, change: Change) -> usize {
        let before = parents.first().copied();
        let kept = before.map(|parent| self.commits[parent].system);
        let kernel = kept.map_or(0, |system| self.systems[system].kernel);
        let reverted = before
            .and_then(|parent| self.commits[parent].parents.first())
            .map(|parent| self.commits[*parent].system);
        let system = match (change, kept, reverted) {
            (Change::Docs, Some(system), _) | (Change::Revert, _, Some(system)) => system,
            (Change::New { kernel: true, .. }, ..) => self.new_system(change, kernel + 1),
            (_, _, _) => self.new_system(change, kernel),
        };
        let build =
            if let Change::Built(build) = change { build } else { Build::Works { failures: 0 } };
        self.push_commit(parents, system, build)
    }

    /// A merge: what `second` describes, on top of `first`.
    pub(super) fn merge(&mut self, first: usize, second: usize) -> usize {
        let (system, build) = (self.commits[second].system, self.commits[second].build);
        self.push_commit(vec![first, second], system, build)
    }

    fn push_commit(&mut self, parents: Vec<usize>, system: usize, build: Build) -> usize {
        let mut ancestors = vec![false; self.commits.len() + 1];
        for parent in &parents {
            ancestors[*parent] = true;
            for (index, is) in self.commits[*parent].ancestors.iter().enumerate() {
                ancestors[index] |= is;
            }
        }
        for commit in &mut self.commits {
            commit.ancestors.push(false);
        }
        self.commits.push(Authored { parents, ancestors, system, build });
        self.commits.len() - 1
    }

    /// The commit so many first parents before.
    pub(super) fn before(&self, mut commit: usize, steps: u64) -> usize {
        for _ in 0..steps {
            commit = self.commits[commit].parents.first().copied().unwrap_or(commit);
        }
        commit
    }
}

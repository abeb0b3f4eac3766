//! What is known of a remote and of its heads.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::backoff::Luck;
use crate::remedy::Remedy;
use crate::types::{Commit, Mono, Wall};

/// State of a remote, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remote {
    /// Whether the remote is being asked.
    pub busy: bool,
    /// Time at which the remote was last asked, and had answered or failed.
    pub asked: Option<Mono>,
    /// Time of the remote's last answer.
    pub answered: Option<Wall>,
    /// Number of failures since the remote last answered.
    pub failures: u32,
    /// Error of the last poll, if it failed.
    pub error: Option<String>,
    /// Remedy of a person for that error.
    pub remedy: Remedy,
    /// Heads that the remote answered last.
    pub heads: Option<Heads>,
    /// Head that the remote has now and this host did not take, if there is one.
    pub oversize: Option<Oversize>,
    /// Time at which the remote last gave another answer than before.
    pub moved: Option<Wall>,
    /// Whether a person wants the remote asked now.
    pub wanted: bool,
    /// Random number, drawn anew for each poll.
    pub luck: Luck,
}

impl Remote {
    /// Whether the last poll was answered.
    pub fn answers(&self) -> bool {
        self.asked.is_some() && self.failures == 0
    }
}

/// A head that was not fetched: with what it brings it is larger than this host
/// takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oversize {
    /// Head that was not fetched.
    pub head: Commit,
    /// Whether the head is that of the testing branch: then the release's was fetched.
    pub testing: bool,
    /// Limit that the head exceeds, in words.
    pub found: String,
    /// Remedy that would let the head through.
    pub lift: String,
}

/// The heads of the branches that are followed; none for one that is not
/// there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heads {
    /// Head of the release branch.
    pub release: Option<Commit>,
    /// Head of the testing branch.
    pub testing: Option<Commit>,
}

/// Relation of a newer-seen commit to an older-seen one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relation {
    /// Both are the same commit.
    Same,
    /// The newer-seen commit descends from the older-seen one.
    Ahead,
    /// The newer-seen commit is an ancestor of the older-seen one.
    Behind,
    /// Neither descends from the other, as far as the clone knows.
    Diverged,
}

/// Relations that were looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Relations(pub Arc<BTreeMap<(Commit, Commit), Relation>>);

impl Relations {
    /// Returns how `newer` is related to `older`, if that was looked up.
    pub fn of(&self, older: Commit, newer: Commit) -> Option<Relation> {
        if older == newer {
            return Some(Relation::Same);
        }
        self.0.get(&(older, newer)).copied()
    }
}

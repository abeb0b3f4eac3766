//! Selection of the commit that is to run: the rules, applied to what the remotes answered.
//!
//! Remotes are ordered; a later one is asked only when the earlier ones gave
//! no usable head. A refusal stays visible even when another remote is usable.

use std::sync::Arc;

use super::job::Target;
use super::memory::Memory;
use super::observed::{Relation, Seen};
use super::policy::{ForcePush, Operation, Policy};
use super::types::{Commit, Now};

/// Result of the rules, applied to the remotes' answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Commit that is to run; none while nothing is known.
    pub target: Option<Target>,
    /// Release head that would be accepted with the target.
    pub release: Option<(Commit, Arc<str>)>,
    /// Standing of each remote's release head, in the remotes' order.
    pub standings: Vec<Standing>,
    /// Fate of the testing branch.
    pub testing: Testing,
    /// Two commits, older first, whose relation must be known first.
    pub compare: Option<(Commit, Commit)>,
}

/// Standing of a remote's release head: how far it is usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// The remote was not asked, or has not answered yet.
    Unknown,
    /// The remote did not answer the last time; its earlier answer may be old.
    Silent,
    /// The remote has no such branch.
    BranchMissing,
    /// The head is usable.
    Usable(Commit),
    /// The head is an ancestor of the accepted head: an old copy.
    Behind(Commit),
    /// The head does not descend from the accepted head.
    ForcePush(Commit),
    /// The remote that gave the accepted head now gives an ancestor of it.
    Rewind(Commit),
    /// The head's relation to the accepted head is not known yet.
    Unclear(Commit),
    /// The head was not fetched, for it is larger than this host takes.
    TooLarge(Commit),
}

impl Standing {
    /// Whether a later remote has to be asked.
    pub fn needs_another(self) -> bool {
        match self {
            Self::Silent
            | Self::BranchMissing
            | Self::Behind(_)
            | Self::ForcePush(_)
            | Self::Rewind(_)
            | Self::TooLarge(_) => true,
            Self::Unknown | Self::Usable(_) | Self::Unclear(_) => false,
        }
    }
}

/// Fate of the testing branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Testing {
    /// There is no testing head.
    Absent,
    /// The testing head is the target.
    Followed(Commit),
    /// The release has the testing head, or has gone another way: it costs nothing.
    Stale(Commit),
    /// The testing head was activated in another boot.
    UndoneByReboot(Commit),
}

/// Applies the rules to the remotes' answers.
pub fn select(policy: &Policy, memory: &Memory, seen: &Seen, now: Now) -> Selection {
    let standings: Vec<Standing> =
        (0..policy.remotes.len()).map(|index| standing(policy, memory, seen, index)).collect();
    let unclear = standings.iter().find(|standing| !standing.needs_another());
    let unclear = unclear.and_then(|standing| match standing {
        Standing::Unclear(head) => Some(*head),
        Standing::Unknown
        | Standing::Silent
        | Standing::BranchMissing
        | Standing::Usable(_)
        | Standing::Behind(_)
        | Standing::ForcePush(_)
        | Standing::Rewind(_)
        | Standing::TooLarge(_) => None,
    });
    let accepted = memory.accepted.as_ref();
    let compare = unclear.zip(accepted).map(|(head, accepted)| (accepted.commit, head));
    let mut selection = Selection {
        target: memory.target.clone(),
        release: None,
        standings,
        testing: Testing::Absent,
        compare,
    };
    if selection.compare.is_some() {
        return selection;
    }

    let usable = selection.standings.iter().enumerate().find_map(|(index, standing)| {
        if let Standing::Usable(head) = standing { Some((index, *head)) } else { None }
    });
    let (release, remote) = match (usable, accepted) {
        (Some((index, head)), Some(accepted)) if head == accepted.commit => {
            (head, kept_remote(policy, accepted.remote.clone(), index))
        }
        (Some((index, head)), _) => (head, policy.remotes[index].clone()),
        (None, Some(accepted)) => (accepted.commit, accepted.remote.clone()),
        // Nothing was ever accepted and nothing is usable: stay as we are.
        (None, None) => return selection,
    };
    let Some((head, asked)) = testing_head(policy, seen, usable.map(|(index, _)| index)) else {
        selection.release = Some((release, remote.clone()));
        // What a remote says of the testing branch is unknown until one says
        // something: a host that restarts keeps what it was trying.
        let unheard = seen.remotes.iter().all(|remote| remote.heads.is_none());
        let trying = memory.target.as_ref().filter(|target| target.operation == Operation::Test);
        if !(unheard && trying.is_some_and(|target| !undone(memory, seen, target.commit))) {
            selection.target =
                Some(target(policy, memory, now, (release, remote), policy.operation));
        }
        return selection;
    };
    match seen.relations.of(release, head) {
        None => selection.compare = Some((release, head)),
        Some(Relation::Same | Relation::Behind | Relation::Diverged) => {
            selection.testing = Testing::Stale(head);
        }
        Some(Relation::Ahead) if undone(memory, seen, head) => {
            selection.testing = Testing::UndoneByReboot(head);
        }
        Some(Relation::Ahead) => selection.testing = Testing::Followed(head),
    }
    if selection.compare.is_none() {
        selection.release = Some((release, remote.clone()));
        selection.target = Some(match selection.testing {
            Testing::Followed(head) => {
                let at = policy.remotes[asked].clone();
                target(policy, memory, now, (head, at), Operation::Test)
            }
            Testing::Absent | Testing::Stale(_) | Testing::UndoneByReboot(_) => {
                target(policy, memory, now, (release, remote), policy.operation)
            }
        });
    }
    selection
}

fn standing(policy: &Policy, memory: &Memory, seen: &Seen, index: usize) -> Standing {
    let Some(remote) = seen.remotes.get(index) else { return Standing::Unknown };
    if remote.asked.is_none() {
        return Standing::Unknown;
    }
    if !remote.answers() {
        return Standing::Silent;
    }
    if let Some(oversize) = remote.oversize.as_ref().filter(|oversize| !oversize.testing) {
        return Standing::TooLarge(oversize.head);
    }
    let Some(head) = remote.heads.and_then(|heads| heads.release) else {
        return Standing::BranchMissing;
    };
    let Some(accepted) = &memory.accepted else { return Standing::Usable(head) };
    if memory.allowed == Some(head) {
        return Standing::Usable(head);
    }
    let gave_accepted = accepted.remote == policy.remotes[index];
    match (seen.relations.of(accepted.commit, head), policy.force_push) {
        (None, _) => Standing::Unclear(head),
        (Some(Relation::Same | Relation::Ahead), _) => Standing::Usable(head),
        (Some(Relation::Behind), _) if !gave_accepted => Standing::Behind(head),
        (Some(Relation::Behind | Relation::Diverged), ForcePush::Accept) => Standing::Usable(head),
        (Some(Relation::Behind), ForcePush::Refuse) => Standing::Rewind(head),
        (Some(Relation::Diverged), ForcePush::Refuse) => Standing::ForcePush(head),
    }
}

/// Returns the testing head, and which remote gives it: the one whose release is used, else the
/// first that ever gave any.
fn testing_head(policy: &Policy, seen: &Seen, chosen: Option<usize>) -> Option<(Commit, usize)> {
    policy.testing.as_ref()?;
    let index = chosen.or_else(|| seen.remotes.iter().position(|r| r.heads.is_some()))?;
    let head = seen.remotes.get(index)?.heads?.testing?;
    Some((head, index))
}

/// Whether a testing head was activated in another boot: it is activated in at most one.
fn undone(memory: &Memory, seen: &Seen, head: Commit) -> bool {
    memory
        .tested
        .as_ref()
        .is_some_and(|tested| tested.commit == head && tested.boot_id != seen.boot_id)
}

/// Returns the remote that counts as the giver of the accepted head: the one that gave it stays
/// that while it is configured, whichever else gives it too.
fn kept_remote(policy: &Policy, giver: Arc<str>, index: usize) -> Arc<str> {
    if policy.remotes.contains(&giver) { giver } else { policy.remotes[index].clone() }
}

fn target(
    policy: &Policy,
    memory: &Memory,
    now: Now,
    (commit, remote): (Commit, Arc<str>),
    operation: Operation,
) -> Target {
    let branch = match (operation, &policy.testing) {
        (Operation::Test, Some(testing)) => testing.clone(),
        (Operation::Test | Operation::Switch | Operation::Boot, _) => policy.release.clone(),
    };
    let known = memory.target.as_ref().filter(|old| old.commit == commit);
    let first_seen = known.map_or(now.wall, |old| old.first_seen);
    Target { commit, branch, remote, operation, first_seen }
}

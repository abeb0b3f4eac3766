//! Commits and their history, as far as they matter here: tree, parents, time.
//!
//! Read leniently, as git itself reads them: a commit with two authors, a line
//! break in an address or headers in another order is in somebody's history, and
//! every later one stands on it. A tree and parents are at its beginning, or git
//! could not read it either; a time that is not there is 0.
//!
//! What surprises: a commit that cannot be read is no damage. What is damaged,
//! the checksums of the packs say, or an object that is missing.

use std::collections::{BinaryHeap, HashMap, HashSet};

use gix::ObjectId;
use gix::objs::{Find as _, Kind};

use super::limits::{Exceeded, Limits, exhausted};
use super::{poll, steps};
use fort_core::observed::Relation;
use fort_core::plain::one_line;
use fort_core::types::Commit;

/// Parts of a commit that matter here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Links {
    /// Tree of the commit.
    pub(super) tree: ObjectId,
    /// Commits that it was made from; none for a first one.
    pub(super) parents: Vec<ObjectId>,
    /// The committer's time, in seconds since 1970; 0 where none is told.
    pub(super) time: i64,
}

/// Reason for which an object is not there to be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReadFailed {
    /// The clone lacks the object.
    #[error("{0}")]
    Missing(String),
    /// The object's bytes are not what was written.
    #[error("{0}")]
    Damaged(String),
    /// The object is larger than is read.
    #[error("{0}")]
    Exceeds(Exceeded),
    /// The object is whole, and not what it should be.
    #[error("{0}")]
    Odd(String),
}

/// A clone, to be read within limits.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) repository: &'a gix::Repository,
    pub(super) limits: Limits,
}

impl<'a> Reader<'a> {
    /// Reads the bytes of an object, which must be of that kind.
    pub(super) fn object(
        self,
        id: ObjectId,
        kind: Kind,
        buffer: &mut Vec<u8>,
    ) -> Result<(), ReadFailed> {
        let found = match self.repository.objects.try_find(&id, buffer) {
            Ok(Some(found)) => found.kind,
            Ok(None) => return Err(ReadFailed::Missing(format!("{kind} {id} is missing"))),
            Err(error) => {
                return Err(match exhausted(&error, self.limits) {
                    Some(limit) => ReadFailed::Exceeds(limit),
                    None => ReadFailed::Damaged(one_line(&format!(
                        "{kind} {id} cannot be read: {}",
                        poll::words(&error)
                    ))),
                });
            }
        };
        if found == kind { Ok(()) } else { Err(ReadFailed::Odd(format!("{id} is a {found}"))) }
    }

    /// Reads the tree, parents and time of a commit.
    pub(super) fn links(self, id: ObjectId, buffer: &mut Vec<u8>) -> Result<Links, ReadFailed> {
        self.object(id, Kind::Commit, buffer)?;
        parse(buffer)
            .ok_or_else(|| ReadFailed::Odd(format!("commit {id} does not begin as commits do")))
    }

    /// Whether a commit is there, with the root of its tree.
    pub(super) fn is_whole(self, id: ObjectId) -> Result<(), ReadFailed> {
        let mut buffer = Vec::new();
        let tree = self.links(id, &mut buffer)?.tree;
        self.object(tree, Kind::Tree, &mut buffer)?;
        for entry in gix::objs::TreeRefIter::from_bytes(&buffer, gix::hash::Kind::Sha1) {
            let odd = |e: gix::Error| {
                let why = poll::words(&e);
                ReadFailed::Odd(one_line(&format!("the tree {tree} of commit {id}: {why}")))
            };
            entry.map_err(odd)?;
        }
        Ok(())
    }

    /// The history of some commits, themselves included; newest first, where
    /// times are told and right.
    pub(super) fn history(
        self,
        tips: impl IntoIterator<Item = ObjectId>,
    ) -> Result<Walk<'a>, ReadFailed> {
        let shallow = steps::boundary(self.repository).unwrap_or_default().into_iter().collect();
        let (waiting, seen) = Default::default();
        let mut walk = Walk { reader: self, waiting, seen, shallow, buffer: Vec::new() };
        for tip in tips {
            walk.add(tip)?;
        }
        Ok(walk)
    }

    /// How `newer` stands to `older`.
    ///
    /// Both histories are walked at once, and only as far as they are not one: what is
    /// an ancestor of both leads to neither.
    pub(super) fn relation(self, older: Commit, newer: Commit) -> Result<Relation, ReadFailed> {
        const OLD: u8 = 1;
        const NEW: u8 = 2;
        const BOTH: u8 = OLD | NEW;
        let (old, new) = (id(older), id(newer));
        if old == new {
            return Ok(Relation::Same);
        }
        if !self.repository.has_object(old) || !self.repository.has_object(new) {
            return Ok(Relation::Diverged);
        }
        let mut walk = self.history([])?;
        let mut reached = HashMap::from([(old, OLD), (new, NEW)]);
        let mut queued = HashSet::from([old, new]);
        for tip in [old, new] {
            walk.push(tip)?;
        }
        // Of those queued, the ones that only one of the two leads to.
        let mut open = 2_usize;
        while open > 0 {
            let Some(Waiting { id, parents, .. }) = walk.waiting.pop() else { break };
            let by = reached.get(&id).copied().unwrap_or(BOTH);
            queued.remove(&id);
            open -= usize::from(by != BOTH);
            for parent in parents {
                let before = reached.get(&parent).copied().unwrap_or(0);
                let after = before | by;
                if after == before {
                    continue;
                }
                match after {
                    BOTH if parent == old => return Ok(Relation::Ahead),
                    BOTH if parent == new => return Ok(Relation::Behind),
                    _ => {}
                }
                reached.insert(parent, after);
                if queued.insert(parent) {
                    walk.push(parent)?;
                    open += usize::from(after != BOTH);
                } else {
                    // It was open, or nothing would have changed.
                    open -= usize::from(after == BOTH);
                }
            }
        }
        Ok(Relation::Diverged)
    }
}

/// Commits of a history, each once.
pub(super) struct Walk<'a> {
    reader: Reader<'a>,
    waiting: BinaryHeap<Waiting>,
    seen: HashSet<ObjectId>,
    /// Commits whose parents a shallow remote does not have.
    shallow: HashSet<ObjectId>,
    buffer: Vec<u8>,
}

/// Commit that a walk has still to visit; ordered by time first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    time: i64,
    id: ObjectId,
    parents: Vec<ObjectId>,
}

impl Walk<'_> {
    fn add(&mut self, id: ObjectId) -> Result<(), ReadFailed> {
        if self.seen.insert(id) { self.push(id) } else { Ok(()) }
    }

    fn push(&mut self, id: ObjectId) -> Result<(), ReadFailed> {
        let (time, parents) = match self.reader.links(id, &mut self.buffer) {
            Ok(links) => (links.time, links.parents),
            // It is in the way of nobody who only wants to get past it.
            Err(ReadFailed::Odd(_)) => (0, Vec::new()),
            Err(trouble) => return Err(trouble),
        };
        let parents = if self.shallow.contains(&id) { Vec::new() } else { parents };
        self.waiting.push(Waiting { time, id, parents });
        Ok(())
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<ObjectId, ReadFailed>;

    fn next(&mut self) -> Option<Self::Item> {
        let Waiting { id, parents, .. } = self.waiting.pop()?;
        for parent in parents {
            if let Err(trouble) = self.add(parent) {
                return Some(Err(trouble));
            }
        }
        Some(Ok(id))
    }
}

/// gix's id of a commit.
pub(super) fn id(commit: Commit) -> ObjectId {
    ObjectId::Sha1(*commit.as_bytes())
}

/// Parses a commit as git's `parse_commit_buffer`: a tree, then all parents; the rest as it is.
fn parse(data: &[u8]) -> Option<Links> {
    let (tree, mut rest) = named(data, b"tree ")?;
    let mut parents = Vec::new();
    while rest.starts_with(b"parent ") {
        let (parent, after) = named(rest, b"parent ")?;
        parents.push(parent);
        rest = after;
    }
    let headers = rest.split(|byte| *byte == b'\n').take_while(|line| !line.is_empty());
    let time = headers.filter_map(|line| line.strip_prefix(b"committer ")).find_map(time);
    Some(Links { tree, parents, time: time.unwrap_or(0) })
}

/// A line that is a name and an id, and what comes after it.
fn named<'a>(data: &'a [u8], name: &[u8]) -> Option<(ObjectId, &'a [u8])> {
    let (hex, rest) = data.strip_prefix(name)?.split_at_checked(40)?;
    Some((ObjectId::from_hex(hex).ok()?, rest.strip_prefix(b"\n")?))
}

/// Reads the committer's time, the number behind the address.
fn time(committer: &[u8]) -> Option<i64> {
    let behind = committer.rsplit(|byte| *byte == b'>').next()?;
    std::str::from_utf8(behind).ok()?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "1111111111111111111111111111111111111111";
    const B: &str = "2222222222222222222222222222222222222222";

    fn read(text: &str) -> Option<(usize, i64)> {
        let links = parse(text.replace("TREE", A).replace("PARENT", B).as_bytes())?;
        assert_eq!(links.tree.to_string(), A);
        let wanted: Vec<_> = links.parents.iter().map(ToString::to_string).collect();
        assert!(wanted.iter().all(|parent| parent == B));
        Some((links.parents.len(), links.time))
    }

    #[test]
    fn what_git_reads_of_a_commit_is_read() {
        for (text, parents, time) in [
            ("tree TREE\nauthor A <a> 1 +0000\ncommitter C <c> 7 +0000\n\nm", 0, 7),
            ("tree TREE\nparent PARENT\nparent PARENT\nauthor A <a> 1 +0000\n\nm", 2, 0),
            // Two authors; none at all; in another order; with more headers.
            ("tree TREE\nauthor A <a> 1 +0\nauthor B <b> 2 +0\ncommitter C <c> 7 +0\n\n", 0, 7),
            ("tree TREE\nparent PARENT\n\nm", 1, 0),
            ("tree TREE\ncommitter C <c> 7 +0\nauthor A <a> 1 +0\n\nm", 0, 7),
            ("tree TREE\nparent PARENT\nencoding x\nodd\ncommitter C <c> 7 +0\n\nm", 1, 7),
            // A line break in an address; one that is not closed; no time.
            ("tree TREE\nauthor A <a\nb> 1 +0\ncommitter C <c> 7 +0\n\nm", 0, 7),
            ("tree TREE\nauthor A 1 +0\ncommitter C <c 7 +0\n\nm", 0, 0),
            ("tree TREE\nauthor A <a>\ncommitter C <c>\n\nm", 0, 0),
            ("tree TREE\nauthor A <a>\ncommitter C > <c> 7 +0", 0, 7),
            ("tree TREE\nauthor A <a>\ncommitter C <c> 99999999999999999999 +0\n\n", 0, 0),
            // The message is no header.
            ("tree TREE\nauthor A <a> 1 +0\n\ncommitter C <c> 7 +0\n", 0, 0),
            ("tree TREE\n", 0, 0),
        ] {
            assert_eq!(read(text), Some((parents, time)), "{text:?}");
        }
        for text in ["", "tree", "parent PARENT\ntree TREE\n", "tree 12\n", "tree TREE"] {
            assert_eq!(read(text), None, "{text:?}");
        }
        assert_eq!(read("tree TREE\nparent 12\nauthor A <a> 1 +0\n"), None);
    }
}

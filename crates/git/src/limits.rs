//! Limits of what git may cost this host: how much a remote may send, how much memory
//! reading that may take, and how large a tree may become on disk.
//!
//! What is read here comes from whoever may push: a pack of some hundred bytes
//! unpacks to gigabytes, and a tree of a kilobyte to a million files. So the
//! processes that read it ([`super::child`]) confine themselves before they read
//! the first byte of it, and what is larger is refused by name.
//!
//! What surprises: the limit is one of data (RLIMIT_DATA), not of address space.
//! Packs are mapped, and a clone may well be larger than the memory that reading
//! it takes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use fort_sys::disk::Space;

use super::http::lock;
use fort_core::bytes::bytes;

/// Largest list of refs, in bytes: some ten thousand branches.
const LIST: u64 = 2 << 20;
/// Bytes after which the disk is looked at again.
const LOOK: u64 = 1 << 20;

/// Limits of what git may cost, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Memory of a process that reads what was pushed.
    pub memory: u64,
    /// The largest pack that is received.
    pub pack: u64,
    /// The largest tree that is written out, each file counted in whole blocks.
    pub tree: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: 512 << 20, pack: 1 << 30, tree: 1 << 30 }
    }
}

impl Limits {
    /// The largest object that is read. Three or four of them are in memory at
    /// once when a delta is applied.
    pub fn object(self) -> u64 {
        self.memory / 4
    }
}

/// A limit that was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Exceeded {
    /// A remote lists more than is taken.
    #[error("the list of its branches is larger than {}", bytes(*limit))]
    List {
        /// Largest list of refs, in bytes.
        limit: u64,
    },
    /// A remote sends more than is taken.
    #[error("what is new there is larger than {}", bytes(*limit))]
    Pack {
        /// Largest pack that is received, in bytes.
        limit: u64,
    },
    /// Reading takes more memory than is granted.
    #[error("reading it takes more than {} of memory", bytes(*limit))]
    Memory {
        /// Memory of a process that reads what was pushed, in bytes.
        limit: u64,
    },
    /// One object is larger than may be read.
    #[error("a file in it is larger than {}", bytes(*limit))]
    Object {
        /// Largest object that is read, in bytes.
        limit: u64,
    },
}

impl Exceeded {
    /// Returns what would let through what was refused.
    pub fn lift(self) -> &'static str {
        match self {
            Self::List { .. } => "delete branches there whose names begin like those followed here",
            Self::Pack { .. } => {
                "take large files out of the branch's history, or raise pack in [git]"
            }
            Self::Memory { .. } | Self::Object { .. } => {
                "take large files out of the branch's history, or raise memory in [git]"
            }
        }
    }
}

/// Less room on the disk than is to stay free.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}", self.words())]
pub struct NoRoom {
    /// Directory that has too little room.
    pub directory: PathBuf,
    /// Bytes that can be used.
    pub free: u64,
    /// Bytes that are to stay free.
    pub keep: u64,
    /// Bytes that would be written at least.
    pub need: u64,
}

impl NoRoom {
    /// Whether there is room for so many more bytes in a directory, and for what is
    /// to stay free besides. What cannot be found out refuses nothing.
    pub(super) fn at(directory: &Path, need: u64) -> Result<(), Self> {
        let Ok(space) = Space::at(directory) else { return Ok(()) };
        let (free, keep) = (space.free, space.reserve());
        if free >= keep.saturating_add(need) {
            return Ok(());
        }
        Err(Self { directory: directory.to_owned(), free, keep, need })
    }

    fn words(&self) -> String {
        let Self { directory, free, keep, need } = self;
        let (free, keep) = (bytes(*free), bytes(*keep));
        let need = match need {
            0 => String::new(),
            need => format!("; {} are to be written", bytes(*need)),
        };
        format!("{} has {free} free{need}, and {keep} are to stay free", directory.display())
    }
}

/// Limits this process, and whatever it starts, for the rest of its life: its
/// data, the files it writes, and no core dump. The kernel, short of memory, ends
/// it before all others.
pub(super) fn confine(limits: Limits) -> io::Result<()> {
    let lower = |resource: Resource, to: u64| {
        let maximum = getrlimit(resource).maximum.map_or(to, |maximum| maximum.min(to));
        setrlimit(resource, Rlimit { current: Some(maximum), maximum: Some(maximum) })
    };
    lower(Resource::Data, limits.memory)?;
    lower(Resource::Core, 0)?;
    // A pack is completed with objects of the clone that it refers to.
    lower(Resource::Fsize, limits.pack.max(limits.tree).saturating_mul(2))?;
    // Without /proc it is as likely as others.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    Ok(())
}

/// Reason for which no more is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stopped {
    Exceeds(Exceeded),
    NoRoom(NoRoom),
}

/// Counts what comes from a remote, against how much may. Shared by whoever
/// reads and whoever says what is expected.
#[derive(Debug, Clone)]
pub(super) struct Meter(Arc<Mutex<Counted>>);

#[derive(Debug)]
struct Counted {
    limit: Exceeded,
    /// Bytes that came in earlier packs.
    received: u64,
    taken: u64,
    /// Directory that is written to, and how much room there was; none for what is kept
    /// in memory.
    disk: Option<(PathBuf, u64)>,
    looked: u64,
    stopped: Option<Stopped>,
}

impl Meter {
    /// Returns a meter for a list of refs.
    pub(super) fn list() -> Self {
        Self(Arc::new(Mutex::new(Counted {
            limit: Exceeded::List { limit: LIST },
            received: 0,
            taken: 0,
            disk: None,
            looked: 0,
            stopped: None,
        })))
    }

    /// Expects a pack from now on, which is written to a directory. `received` bytes of
    /// what may come have come in packs before it.
    pub(super) fn expect_pack(&self, limit: u64, received: u64, directory: &Path) {
        let mut counted = lock(&self.0);
        counted.limit = Exceeded::Pack { limit };
        let free = Space::at(directory).map_or(u64::MAX, |space| space.free);
        counted.disk = Some((directory.to_owned(), free));
        counted.received = received;
        counted.taken = 0;
        counted.looked = 0;
    }

    /// Counts from zero, as another answer begins.
    pub(super) fn begin(&self) {
        let mut counted = lock(&self.0);
        counted.taken = 0;
        counted.looked = 0;
    }

    /// Counts bytes that have come. Fails when that is too much.
    pub(super) fn take(&self, bytes: usize) -> io::Result<()> {
        let mut counted = lock(&self.0);
        counted.taken = counted.taken.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        if counted.received.saturating_add(counted.taken) > counted.limit.bytes() {
            let limit = counted.limit;
            return Err(counted.stop(Stopped::Exceeds(limit)));
        }
        let Some((directory, free)) = &counted.disk else { return Ok(()) };
        if counted.taken.saturating_sub(counted.looked) < LOOK {
            return Ok(());
        }
        // An object is written only when it is whole: what is free by then is not
        // what tells.
        let written = Space::at(directory).map_or(0, |now| free.saturating_sub(now.free));
        let need = counted.taken.saturating_sub(written);
        if let Err(no_room) = NoRoom::at(directory, need) {
            return Err(counted.stop(Stopped::NoRoom(no_room)));
        }
        counted.looked = counted.taken;
        Ok(())
    }

    /// Reason for which no more was taken, if that was so.
    pub(super) fn stopped(&self) -> Option<Stopped> {
        lock(&self.0).stopped.clone()
    }
}

impl Counted {
    fn stop(&mut self, why: Stopped) -> io::Error {
        let told = match &why {
            Stopped::Exceeds(limit) => limit.to_string(),
            Stopped::NoRoom(no_room) => no_room.to_string(),
        };
        self.stopped.get_or_insert(why);
        io::Error::other(told)
    }
}

impl Exceeded {
    fn bytes(self) -> u64 {
        match self {
            Self::List { limit }
            | Self::Pack { limit }
            | Self::Memory { limit }
            | Self::Object { limit } => limit,
        }
    }
}

/// The limit that an error of gix's is about, if it is one.
pub(super) fn exhausted(error: &gix::Error, limits: Limits) -> Option<Exceeded> {
    use gix::error::Class;
    use gix::error::ResourceExhaustionKind::{AllocationFailure, AllocationLimit};
    error.classify().find_map(|found| match found.class() {
        Class::ResourceExhaustion(AllocationLimit) => {
            Some(Exceeded::Object { limit: limits.object() })
        }
        Class::ResourceExhaustion(AllocationFailure) => {
            Some(Exceeded::Memory { limit: limits.memory })
        }
        Class::Cancelled
        | Class::Corruption
        | Class::ResourceExhaustion(_)
        | Class::Validation
        | Class::Unsupported
        | Class::Unauthenticated
        | Class::PermissionDenied
        | Class::Conflict
        | Class::NotFound
        | Class::Retryable
        | _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_has_what_lets_through_what_is_too_large() {
        let manual = include_str!("../../../docs/operations.md").replace('`', "");
        let manual = manual.split_whitespace().collect::<Vec<_>>().join(" ");
        let limit = 1;
        for exceeded in [
            Exceeded::List { limit },
            Exceeded::Pack { limit },
            Exceeded::Memory { limit },
            Exceeded::Object { limit },
        ] {
            assert!(manual.contains(exceeded.lift()), "{exceeded:?}: {}", exceeded.lift());
        }
    }
}

//! Realise jobs: how far they are, and what comes of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fault::Fault;
use crate::open_words::open_words;
use crate::types::StorePath;

/// Reason why nothing was touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalCause {
    /// There is no room, on the store or on /boot.
    DiskSpace,
    /// A path that the system refers to is not in the store.
    IncompleteClosure,
    /// The system has no agent: nothing would follow the branch any more.
    NoAgent,
    /// The commit's flake has inputs that nothing pins.
    LockIncomplete,
    /// The commit's tree, or a file in it, is larger than this host takes.
    TooLarge,
}

impl RefusalCause {
    /// Every cause of a refusal.
    pub const ALL: [Self; 5] = [
        Self::DiskSpace,
        Self::IncompleteClosure,
        Self::NoAgent,
        Self::TooLarge,
        Self::LockIncomplete,
    ];

    /// Whether the commit itself is refused, whatever the host is like: a commit that is refused
    /// so stays refused.
    pub fn is_of_the_commit(self) -> bool {
        match self {
            Self::LockIncomplete => true,
            Self::DiskSpace | Self::IncompleteClosure | Self::NoAgent | Self::TooLarge => false,
        }
    }

    /// Returns the name of the cause, as in status and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DiskSpace => "disk-space",
            Self::IncompleteClosure => "incomplete-closure",
            Self::NoAgent => "no-agent",
            Self::LockIncomplete => "lock-incomplete",
            Self::TooLarge => "too-large",
        }
    }
}

/// A refusal before anything was touched: nobody's failure, and asked again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Cause in one word.
    pub cause: RefusalCause,
    /// Cause in a sentence, with the figures.
    pub detail: String,
    /// Evidence that the refusal rests on.
    #[serde(default)]
    pub evidence: BTreeMap<String, String>,
}

/// Outcome of a realise job (`outcome.json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RealiseOutcome {
    /// Result of trying to get the system.
    pub result: Realised,
    /// Time that the job took, in milliseconds.
    pub took: u64,
    /// Settings of the flake's `nixConfig` that were not followed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignored: Vec<String>,
}

/// Result of trying to get a system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum Realised {
    /// The system is in the store.
    Built {
        /// Store path of the system.
        system: StorePath,
    },
    /// The commit has no such host.
    NoSuchHost {
        /// The hosts that it has.
        hosts: Vec<String>,
    },
    /// The system could not be got.
    Failed {
        /// Cause in one line or a few.
        cause: String,
        /// End of the output that was printed.
        #[serde(default)]
        tail: String,
        /// Kind of the failure; none where nobody told it apart.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fault: Option<Fault>,
    },
    /// The commit's objects are damaged in the clone.
    Damaged {
        /// Damage that was found, in words.
        cause: String,
    },
    /// The job was stopped, as asked.
    Cancelled,
    /// The commit was refused: nothing was built or fetched.
    Refused {
        /// Refusal, with what it rests on.
        refusal: Refusal,
    },
}

/// Progress of a realise job (`progress.json`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RealiseProgress {
    /// Phase that the job is in.
    pub phase: RealisePhase,
    /// Number of derivations that are built.
    pub built: u64,
    /// Number of derivations to build in all.
    pub to_build: u64,
    /// Number of paths that are fetched.
    pub fetched: u64,
    /// Number of paths to fetch in all.
    pub to_fetch: u64,
    /// Number of bytes that are fetched.
    pub bytes: u64,
    /// Number of bytes to fetch in all.
    pub bytes_expected: u64,
    /// Name of the derivation or path that is being built or fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// Why the cache is of no use, or may be of none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_trouble: Option<String>,
    /// Submodules and files in Git LFS: what they stand for is not in the
    /// repository.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub elsewhere: Vec<String>,
}

open_words! {
    /// Phase that a realise job is in.
    #[derive(Default)]
    pub enum RealisePhase {
        /// The job has done nothing yet.
        #[default]
        Begun = "",
        /// Writing the commit's tree out.
        Exporting = "exporting",
        /// Finding out what the system is.
        Evaluating = "evaluating",
        /// Downloading, and nothing else.
        Fetching = "fetching",
        /// Building, perhaps downloading as well.
        Building = "building",
    }
}

//! Parts of this host that could not be looked at, and a system profile that is none.
//!
//! A look that fails is no answer. It says neither that nothing is there nor
//! that all is as it was, so nothing is concluded from it: while a part that
//! decisions rest on cannot be looked at, the host is left alone.

use serde::{Deserialize, Serialize};

/// A part of the host that is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The agent's own room for open files: without it every other look fails.
    Descriptors,
    /// Id of the current boot.
    Boot,
    /// The machine's id, where the configuration names one.
    MachineId,
    /// System that runs (`/run/current-system`).
    Running,
    /// System that was booted (`/run/booted-system`).
    Booted,
    /// The system profile: what boots by default.
    Profile,
    /// The jobs and their files.
    Jobs,
    /// The jobs that an agent with another state directory began.
    Handover,
    /// Whether systems are in the store.
    Store,
    /// The systems that are kept from the garbage collector.
    Roots,
    /// The boot loader's entries, where another system than the default was
    /// booted.
    BootLoader,
    /// Whether the default has another kernel than what was booted.
    Kernel,
}

impl Part {
    /// Whether decisions rest on this part. One that they do not rest on is only reported.
    pub fn is_needed(self) -> bool {
        match self {
            Self::Descriptors
            | Self::Boot
            | Self::MachineId
            | Self::Running
            | Self::Booted
            | Self::Profile
            | Self::Jobs
            | Self::Handover
            | Self::Store
            | Self::Roots
            | Self::BootLoader => true,
            Self::Kernel => false,
        }
    }
}

/// A part of the host that could not be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unseen {
    /// Part that could not be looked at.
    pub part: Part,
    /// The file, link or directory that could not be read.
    pub path: String,
    /// Number of the error, as the system has it; none where the error is not the system's.
    pub errno: Option<i32>,
    /// The error, in words.
    pub error: String,
}

// As Linux numbers them.
const EPERM: i32 = 1;
const EACCES: i32 = 13;
const ENOTDIR: i32 = 20;
const EISDIR: i32 = 21;
const EINVAL: i32 = 22;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;
const ELOOP: i32 = 40;

impl Unseen {
    /// Returns what a person can do about it.
    pub fn lift(&self) -> &'static str {
        match self.errno {
            Some(EMFILE) => {
                "raise LimitNOFILE of fort-agent.service, or start it anew, which systemd's \
                 watchdog does by itself"
            }
            Some(ENFILE) => "end what has so many files open, or raise the sysctl fs.file-max",
            Some(EPERM | EACCES) => "let the agent read it; it is looked at again by itself",
            Some(ENOTDIR | EISDIR | EINVAL | ELOOP) => {
                "that path is not what it should be: repair it; it is looked at again by itself"
            }
            Some(_) | None => {
                "mend that path, or the disk that it is on; it is looked at again by itself"
            }
        }
    }
}

impl std::fmt::Display for Unseen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, self.error)
    }
}

/// A system profile that `nix-env` did not make. It counts as none, and setting
/// it makes it one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OddProfile {
    /// Path of the profile.
    pub path: String,
    /// Fault that was found in the profile.
    pub why: Odd,
}

/// Fault of a profile that `nix-env` did not make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Odd {
    /// A file or directory.
    NoLink,
    /// A link to something else than a generation of its own.
    Elsewhere {
        /// Target of the link.
        target: String,
    },
    /// A link to a generation that is not there.
    Dangling {
        /// Number of the missing generation.
        number: u64,
    },
    /// A link to a generation that is none of a system.
    NoSystem {
        /// Number of that generation.
        number: u64,
    },
}

impl std::fmt::Display for OddProfile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { path, why } = self;
        match why {
            Odd::NoLink => write!(f, "{path} is no link"),
            Odd::Elsewhere { target } => write!(f, "{path} links to {target}, no generation"),
            Odd::Dangling { number } => {
                write!(f, "{path} links to generation {number}, which is not there")
            }
            Odd::NoSystem { number } => {
                write!(f, "{path} links to generation {number}, which is no system's")
            }
        }
    }
}

//! What a job is told: `spec.json`, the order of the core with what this host
//! adds to it. Secrets are not in it, only where they are.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::job::{Order, PublishOrder, SwitchOrder};
use crate::git::Limits;
use crate::machine::Machine;
use crate::nix::Nix;
use crate::nix::evaluator::Evaluator;
use crate::nix::realise::Kind;
use crate::publish::Settings;
use crate::substitute;

/// What a realise job is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RealiseSpec {
    /// The core's order.
    #[serde(flatten)]
    pub order: Order,
    /// How this host realises.
    pub host: RealiseHost,
}

/// How this host realises.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RealiseHost {
    /// The clone that has the commit.
    pub clone: PathBuf,
    /// Where exported trees are.
    pub exports: PathBuf,
    /// This host's name.
    pub hostname: String,
    /// What kind of expression describes the systems.
    pub kind: Kind,
    /// The file, for that kind.
    pub file: String,
    /// Where in the tree it is.
    pub flake_dir: String,
    /// The attribute that is the system, with `{hostname}` in it.
    pub attribute: String,
    /// How Nix is run.
    pub nix: Nix,
    /// Who evaluates; none: the job itself, with all its rights.
    #[serde(default)]
    pub evaluator: Option<Evaluator>,
    /// The cache to fetch from, if there is one.
    #[serde(default)]
    pub cache: Option<substitute::Settings>,
    /// For evaluation and build together.
    pub timeout: Duration,
    /// Whether submodules are part of a tree.
    #[serde(default)]
    pub submodules: bool,
    /// What reading and writing out a commit may cost.
    #[serde(default)]
    pub limits: Limits,
}

/// What a switch job is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchSpec {
    /// The core's order.
    #[serde(flatten)]
    pub order: SwitchOrder,
    /// How this host switches.
    pub host: SwitchHost,
}

/// How this host switches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchHost {
    /// Where the host's own paths are.
    pub machine: Machine,
    /// How Nix is run, for the profile.
    pub nix: Nix,
}

/// What a publish job is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishSpec {
    /// The core's order.
    #[serde(flatten)]
    pub order: PublishOrder,
    /// How this host publishes.
    pub host: PublishHost,
}

/// How this host publishes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishHost {
    /// How Nix is run, and where its store is.
    pub nix: Nix,
    /// The cache.
    pub settings: Settings,
}

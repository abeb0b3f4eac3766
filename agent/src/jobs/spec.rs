//! Orders of jobs as files: `spec.json`, the order of the core with what this host adds
//! to it. Secrets are not in it, only where they are.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::core::job::{Order, PublishOrder, SwitchOrder};
use crate::git::Limits;
use crate::machine::Machine;
use crate::nix::Nix;
use crate::nix::evaluator::Evaluator;
use crate::nix::realise::RecipeKind;
use crate::publish::Settings;
use crate::substitute;

/// Contents of a realise job's `spec.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RealiseSpec {
    /// Order that the core decided on.
    #[serde(flatten)]
    pub order: Order,
    /// How this host realises.
    pub host: RealiseHost,
}

/// Settings with which this host realises.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RealiseHost {
    /// The clone that has the commit.
    pub clone: PathBuf,
    /// Directory of the exported trees.
    pub exports: PathBuf,
    /// Name of this host, by which its system is chosen.
    pub hostname: String,
    /// Kind of expression that describes the systems.
    pub kind: RecipeKind,
    /// Path of the file, for that kind of expression.
    pub file: String,
    /// Directory of the flake or file within the tree.
    pub flake_dir: String,
    /// The attribute that is the system, with `{hostname}` in it.
    pub attribute: String,
    /// How Nix is run.
    pub nix: Nix,
    /// User that evaluates; `None`: the job itself, with all its rights.
    #[serde(default)]
    pub evaluator: Option<Evaluator>,
    /// The cache to fetch from, if there is one.
    #[serde(default)]
    pub cache: Option<substitute::Settings>,
    /// Limit for evaluation and build together.
    pub timeout: Duration,
    /// Whether submodules are part of a tree.
    #[serde(default)]
    pub submodules: bool,
    /// Limits on reading and writing out a commit.
    #[serde(default)]
    pub limits: Limits,
}

/// Contents of a switch job's `spec.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchSpec {
    /// Order that the core decided on.
    #[serde(flatten)]
    pub order: SwitchOrder,
    /// How this host switches.
    pub host: SwitchHost,
}

/// Settings with which this host switches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchHost {
    /// Prefix of the host's own paths.
    pub machine: Machine,
    /// How Nix is run, for the profile.
    pub nix: Nix,
}

/// Contents of a publish job's `spec.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishSpec {
    /// Order that the core decided on.
    #[serde(flatten)]
    pub order: PublishOrder,
    /// How this host publishes.
    pub host: PublishHost,
}

/// Settings with which this host publishes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishHost {
    /// How Nix is run, and where its store is.
    pub nix: Nix,
    /// Settings of the cache that is published to.
    pub settings: Settings,
}

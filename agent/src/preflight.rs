//! Whether a system may be activated on this host: looked at before anything is
//! touched.

use std::path::Path;

use crate::core::job::Refusal;
use crate::core::types::StorePath;
use crate::nix::{Nix, StoreRoot};

/// What is to be activated, and where.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Prefix of the host's own paths.
    pub root: &'a Path,
    /// Where the store's paths really are.
    pub store: &'a StoreRoot,
    /// How Nix is run.
    pub nix: &'a Nix,
    /// The system.
    pub system: &'a StorePath,
    /// The system that boots now.
    pub default: Option<&'a StorePath>,
    /// Whether it must have an agent.
    pub needs_agent: bool,
}

/// Why it may not be activated, if so.
pub async fn before_switch(candidate: &Candidate<'_>) -> anyhow::Result<Result<(), Refusal>> {
    let _ = candidate;
    Ok(Ok(()))
}

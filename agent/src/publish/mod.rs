//! Gives the cluster's cache what it lacks of a system: what `fort-agent push`
//! and the publish job do.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::core::job::{PublishOutcome, PublishProgress};
use crate::core::types::StorePath;
use crate::nix::Nix;

/// Where to, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Where the server is, without a `/` at its end.
    pub endpoint: String,
    /// The cache's name there.
    pub name: String,
    /// Holds the token; read when it is needed, and again when it is refused.
    pub token_file: PathBuf,
    /// Names of keys whose paths it need not have, besides those that it lists
    /// itself.
    pub upstream_keys: Vec<String>,
    /// Paths that are sent at the same time.
    pub jobs: u32,
}

/// Publishes what these paths refer to, directly or not, themselves included.
/// Calls `progress` whenever something changed. When `cancel` becomes ready it
/// ends at once: what the cache has confirmed is there, the rest is left.
pub async fn publish(
    _nix: &Nix,
    _settings: &Settings,
    _paths: &[StorePath],
    _progress: impl FnMut(&PublishProgress),
    _cancel: impl Future<Output = ()>,
) -> PublishOutcome {
    PublishOutcome::default()
}

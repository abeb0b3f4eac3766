//! Settings for the crates below, made from a configuration: each has settings of its
//! own, and knows nothing of the file.

use std::path::PathBuf;

use fort_cache::{publish, substitute};
use fort_core::status::Unconfined;
use fort_nix::evaluator::{Evaluator, Way};

use super::{Cache, Config, Runner};

impl Config {
    /// Returns where and how Nix is run.
    pub fn nix_settings(&self) -> fort_nix::Settings {
        fort_nix::Settings {
            bin_dir: self.nix.bin_dir.clone(),
            store: self.nix.store.clone(),
            options: self.nix.options.clone(),
            home: self.state_dir.join("home"),
            cache: self.state_dir.join("cache"),
        }
    }

    /// Returns the user that evaluates, or why nobody else than the agent can.
    pub fn evaluator(&self) -> Result<Evaluator, Unconfined> {
        let way = match self.activation.runner {
            Runner::Systemd => Way::Unit,
            Runner::Direct => Way::Plain,
        };
        Evaluator::choose(&self.nix.store, &self.state_dir, way)
    }

    /// Returns the cache that Nix fetches from; `None` if nothing is to be fetched.
    pub fn substitute_settings(&self) -> Option<substitute::Settings> {
        let cache = self.cache.as_ref().filter(|cache| cache.substitute)?;
        Some(substitute::Settings {
            endpoint: cache.endpoint.clone(),
            name: cache.name.clone(),
            public_keys: cache.public_keys.clone(),
            token_file: cache.token_file.clone(),
            netrc: self.netrc(),
        })
    }

    /// Removes the cache's token from where Nix was given it, if nothing is fetched any
    /// more.
    pub fn forget_unused_token(&self) {
        if self.substitute_settings().is_none() {
            substitute::forget(&self.netrc());
        }
    }

    /// Returns the file that Nix is given the token in.
    fn netrc(&self) -> PathBuf {
        self.state_dir.join("netrc")
    }
}

impl Cache {
    /// Returns the cache that is published to; `None` without a token file.
    pub fn publish_settings(&self) -> Option<publish::Settings> {
        Some(publish::Settings {
            endpoint: self.endpoint.clone(),
            name: self.name.clone(),
            token_file: self.token_file.clone()?,
            upstream_keys: self.upstream_keys.clone(),
            jobs: self.jobs,
        })
    }
}

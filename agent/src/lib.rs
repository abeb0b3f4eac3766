//! The agent that keeps a NixOS host at what a git branch says.
//!
//! `core` decides and touches nothing; every other module knows one outside
//! party and decides nothing. ARCHITECTURE.md tells how they hang together.

pub mod announce;
pub mod boot_loader;
pub mod bus;
pub mod changes;
pub mod cli;
pub mod config;
pub mod control;
pub mod crash;
mod dbus;
pub mod health;
pub mod host;
pub mod jobs;
pub mod journal;
pub mod logging;
pub mod machine;
pub mod metrics;
pub mod network;
pub mod preflight;
pub mod specialisation;
pub mod switch_lock;
pub mod systemd;
pub mod web;
pub mod windows;
mod wording;

pub use fort_cache::{attic, publish, substitute};
pub use fort_core as core;
pub use fort_git as git;
pub use fort_nix as nix;
pub use fort_nix::{nar, store};
pub use fort_sys::{
    clock, command, core_dumps, environment, error_chain, files, flock, foreign_file, jitter,
    own_directory, sight, threads, watch,
};

/// Version of the agent, from Cargo.toml.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

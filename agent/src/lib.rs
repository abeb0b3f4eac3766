//! The agent that keeps a NixOS host at what a git branch says.
//!
//! `core` decides and touches nothing; every other module knows one outside
//! party and decides nothing. ARCHITECTURE.md tells how they hang together.

pub mod announce;
pub mod attic;
pub mod boot_loader;
pub mod bus;
pub mod chance;
pub mod changes;
pub mod cli;
pub mod clock;
pub mod command;
pub mod config;
pub mod control;
pub mod core_dumps;
pub mod crash;
mod dbus;
pub mod environment;
pub mod files;
pub mod flock;
pub mod foreign_file;
pub mod git;
pub mod health;
pub mod host;
pub mod jobs;
pub mod journal;
pub mod logging;
pub mod machine;
pub mod metrics;
pub mod nar;
pub mod network;
pub mod nix;
pub mod own_directory;
pub mod preflight;
pub mod publish;
pub mod sight;
pub mod specialisation;
pub mod store;
pub mod substitute;
pub mod switch_lock;
pub mod systemd;
pub mod threads;
pub mod token;
pub mod transport;
pub mod watch;
pub mod web;
pub mod windows;

pub use fort_core as core;

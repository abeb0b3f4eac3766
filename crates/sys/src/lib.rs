//! Operating system interfaces of fort-agent: processes and what they print, files that
//! are whole or absent, clocks, locks, watches and threads.
//!
//! Knows nothing of Nix, git or NixOS, and decides nothing.

pub mod clock;
pub mod command;
pub mod core_dumps;
pub mod crash;
pub mod disk;
pub mod environment;
pub mod error_chain;
pub mod files;
pub mod flock;
pub mod foreign_file;
pub mod jitter;
pub mod own_directory;
pub mod sight;
pub mod threads;
pub mod watch;

//! The real binary and library against real counterparts.
#![allow(unreachable_pub, dead_code, clippy::unwrap_used, clippy::panic)]
#![allow(clippy::wildcard_enum_match_arm)]

mod announce;
mod architecture;
mod attic;
mod bus;
mod deploy;
mod face;
mod fixture;
mod git;
mod nar;
mod nix;
mod preflight;
mod push;
mod stalls;
mod store;
mod substitute;
mod support;
mod terminal;
mod watched;

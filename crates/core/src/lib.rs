//! Decides what fort-agent does next, and says why. No I/O, no clock, no
//! randomness: its `Cargo.toml` has no crate for them, and its `clippy.toml` bans
//! what the standard library has.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod backoff;
pub mod bytes;
pub mod cause;
pub mod decide;
pub mod explain;
pub mod fault;
pub mod gates;
pub mod guardian;
pub mod job;
pub mod memory;
pub mod observed;
mod open_words;
pub mod plain;
pub mod policy;
pub mod publishing;
pub mod record;
pub mod remedy;
pub mod request;
pub mod select;
#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "stories are told with a length and a stopwatch")]
mod simulation;
pub mod status;
#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the sources are read")]
mod tests;
pub mod types;
pub mod unseen;

//! The pure part: what should happen, and why. No I/O, no clock, no
//! randomness; `clippy.toml` bans them here. Nothing in here imports from
//! outside `core`.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod backoff;
pub mod decide;
pub mod explain;
pub mod fault;
pub mod gates;
pub mod guardian;
pub mod job;
pub mod memory;
pub mod plain;
pub mod policy;
pub mod publishing;
pub mod record;
pub mod remedy;
pub mod request;
pub mod seen;
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

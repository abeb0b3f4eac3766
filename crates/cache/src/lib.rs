//! The cluster's binary cache: what Nix fetches from it, and what is published to it.
//!
//! Decides neither what is deployed nor what is worth keeping.

pub mod attic;
pub mod publish;
pub mod substitute;

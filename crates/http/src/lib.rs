//! HTTP as fort-agent speaks it: the one client, the certificates it trusts, the tokens
//! it sends, and why an exchange broke.
//!
//! Knows no server's protocol, and does not try again.

mod address;
mod broken;
mod client;
mod secret;
pub mod token;

pub use address::{in_clear, stays_here};
pub use broken::Broken;
pub use client::{NotTrusted, USER_AGENT, client, client_trusting};
pub use secret::Secret;

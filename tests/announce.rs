//! What outsiders are told when a deployment ends.

mod hooks;
mod statuses;

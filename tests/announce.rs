//! Announcements to outsiders when a deployment ends: hooks and commit statuses.

mod hooks;
mod statuses;

//! The agent's D-Bus interface: how programs ask it and tell it things.
//!
//! The object (`object.rs`) knows the loop and no transport; whether a caller
//! may do something is asked of [`Callers`]. It is served peer to peer on a
//! socket of our own (`server.rs`), which only root and the agent's own user reach
//! and which works without any message bus, and on the system bus (`system.rs`), where polkit
//! says who else may manage the agent. Nothing here decides: it passes on and
//! renders.
//!
//! The format is in the D-Bus specification; peer to peer means that there is
//! neither `Hello` nor a destination, right after the SASL handshake
//! (mechanism EXTERNAL).

mod client;
mod handshake;
mod object;
mod polkit;
mod public;
mod server;
mod system;

pub use client::{Client, ClientError};
pub use object::{Agent, Callers, Failure};
pub use server::{BusLimits, serve, serve_with};
pub use system::serve_on_system_bus;

/// Name of the interface, and of the agent on a message bus.
pub const NAME: &str = "network.gisi.fort.Agent1";
/// Path of the agent's object.
pub const PATH: &str = "/network/gisi/fort/Agent1";
/// File name of the socket in the agent's `run_dir`.
pub const SOCKET: &str = "bus";

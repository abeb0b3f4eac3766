//! Whole hosts: real systemd, D-Bus, nix-daemon and network, booted in a
//! second and switched for real. `make vm-test` runs them, as root.
#![allow(unreachable_pub, dead_code, clippy::unwrap_used, clippy::panic)]
#![allow(clippy::wildcard_enum_match_arm)]

mod boot;
mod broken_agent;
mod broken_bus;
mod broken_disk;
mod broken_network;
mod broken_switch;
mod cache;
mod calm;
mod deploy;
mod evaluate;
mod follow;
mod forge;
mod gates;
mod hands;
mod kills;
mod people;
mod power;
mod private_socket;
mod publishing;
mod reboots;
mod stalls;
mod support;

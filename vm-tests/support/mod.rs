//! Hosts that boot, a network between them, and a forge on it.
//!
//! A test is `#[test] fn fact() { on(Image::Trixie, |cluster| { .. }) }`, or
//! `on_each` for every image there is. Its body runs in a process of its own
//! with its own mounts, network and process numbers ([`world`]): whatever ends
//! the test ends everything in it.

pub(crate) mod cluster;
pub(crate) mod dns;
pub(crate) mod image;
pub(crate) mod machine;
pub(crate) mod moment;
#[path = "../../tests/support/mod.rs"]
pub(crate) mod shared;
pub(crate) mod standing;
pub(crate) mod systems;
pub(crate) mod world;

pub(crate) use cluster::{Cluster, Pace};
pub(crate) use image::Image;
pub(crate) use machine::{EVALUATOR, Machine};
pub(crate) use moment::{MARKS, Moment};
pub(crate) use systems::{Host, service};
pub(crate) use world::{on, on_each};

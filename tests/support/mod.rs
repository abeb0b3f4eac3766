//! Real parts for the tests, and the demo, to work on.

pub(crate) mod attic;
pub(crate) mod browser;
pub(crate) mod bus;
pub(crate) mod chance;
pub(crate) mod counted;
pub(crate) mod firmware;
pub(crate) mod flat;
pub(crate) mod forge;
pub(crate) mod forgejo;
pub(crate) mod grown;
pub(crate) mod measure;
pub mod mounts;
pub mod nix;
pub(crate) mod pages;
pub mod planted;
pub(crate) mod prometheus;
pub(crate) mod rig;
pub(crate) mod site;
pub(crate) mod sshd;
pub mod system;
pub(crate) mod told;
pub(crate) mod work;

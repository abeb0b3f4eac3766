//! Real parts for the tests, and the demo, to work on.

pub(crate) mod attic;
pub(crate) mod big_repo;
pub(crate) mod browser;
pub(crate) mod bus;
pub(crate) mod chance;
pub(crate) mod counted;
pub(crate) mod firmware;
pub(crate) mod forge;
pub(crate) mod forgejo;
pub(crate) mod measure;
pub(crate) mod memory_use;
pub mod mounts;
pub mod nix;
pub(crate) mod pages;
pub(crate) mod prometheus;
pub(crate) mod rig;
pub(crate) mod site;
pub(crate) mod sshd;
pub mod store_paths;
pub mod system;
pub(crate) mod told;
pub(crate) mod work;

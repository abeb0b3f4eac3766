//! The root file systems that hosts boot from: made by `vm-tests/setup`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A distribution to boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Image {
    /// systemd 257, Nix 2.26; dbus-broker as NixOS has it.
    Trixie,
    /// The newest of both: systemd 262, Nix 2.34 or later; dbus-daemon, which NixOS had
    /// before. Not always to be had.
    Sid,
}

/// A root file system that stays while this is held.
pub(crate) struct Root {
    path: PathBuf,
    _lock: File,
}

impl Image {
    pub(crate) const ALL: [Self; 2] = [Self::Trixie, Self::Sid];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Trixie => "trixie",
            Self::Sid => "sid",
        }
    }

    /// The program that is its system bus.
    pub(crate) fn bus(self) -> &'static str {
        match self {
            Self::Trixie => "/usr/bin/dbus-broker-launch",
            Self::Sid => "/usr/bin/dbus-daemon",
        }
    }

    /// Returns the image's root file system, or why there is none.
    pub(crate) fn root(self) -> Result<Root, String> {
        let setup = concat!(env!("CARGO_MANIFEST_DIR"), "/../vm-tests/setup");
        let output = Command::new("sh").args([setup, "where", self.name()]).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        if !output.status.success() {
            return Err(said);
        }
        let lock = File::open(&said).unwrap();
        lock.lock_shared().unwrap();
        Ok(Root { path: said.into(), _lock: lock })
    }
}

impl Root {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

//! Keeps systems from being collected as garbage: links of ours that Nix
//! knows as roots.
//!
//! A root lives as long as its link: removing the link is enough, and whoever
//! removes a directory of links has dropped their roots. The target is
//! logical, so it is read and never followed.

use std::future::pending;
use std::io;
use std::path::Path;

use super::{Nix, NixFailed, succeed};
use crate::core::types::StorePath;

impl Nix {
    /// Makes `link` a root of a path that is in the store, whatever it was a
    /// root of before. Its directory exists.
    pub async fn keep(&self, link: &Path, path: &StorePath) -> Result<(), NixFailed> {
        let command = self.old("nix-store").arg("--add-root").arg(link);
        let command = command.args(["--realise", path.as_str()]);
        succeed("keeping a system in the store", command.run(pending()).await?)?;
        Ok(())
    }
}

/// What a root keeps, if there is one.
pub fn kept(link: &Path) -> io::Result<Option<StorePath>> {
    match std::fs::read_link(link) {
        Ok(target) => target.to_string_lossy().parse().map(Some).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Lets go of what a root keeps; fine if there is none.
pub fn release(link: &Path) -> io::Result<()> {
    match std::fs::remove_file(link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

//! Roots that keep systems from being collected as garbage: links of ours that Nix
//! knows as roots. [`crate::store::Store::root`] makes them.
//!
//! A root lives as long as its link: removing the link is enough, and whoever
//! removes a directory of links has dropped their roots. The target is
//! logical, so it is read and never followed.

use std::io;
use std::path::Path;

use fort_core::types::StorePath;
use fort_sys::sight::{Unreadable, at};

/// Returns the store path that a root keeps; `None` if there is no root, or something
/// else in its place, which keeps nothing: the root is made anew.
pub fn look(link: &Path) -> Result<Option<StorePath>, Unreadable> {
    match kept(link) {
        Ok(kept) => Ok(kept),
        Err(error) if error.raw_os_error().is_none() => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(None),
        Err(error) => Err(at(link)(error)),
    }
}

/// Returns the store path that a root keeps; `None` if there is no root.
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

//! The directories that are the agent's alone: made where they are not there, and
//! refused where somebody else could have put something into them, or still can.
//!
//! What is in them is believed without a second look: what was accepted, what a job
//! is to run as root, who may ask. systemd and tmpfiles make them as they should be;
//! a person, an image or another configuration may not have.
//!
//! Others may have the right to pass through (`--x`): they meet nothing there whose
//! name they do not know, and each file in it has a mode of its own. A right to read
//! is taken away, unless there are files of others. A right to write is not: what was
//! written by then stays.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::files;

/// Permission bits by which group and others can write.
const WRITE: u32 = 0o022;
const READ: u32 = 0o044;
/// Sticky bit: in a directory that everybody may write to, only owners rename and remove.
const STICKY: u32 = 0o1000;
const ROOT: u32 = 0;

/// Reason why a directory cannot be the agent's. Its message ends with the command that mends it.
#[derive(Debug, thiserror::Error)]
pub enum NotOurs {
    /// The directory is there, and belongs to somebody else.
    #[error(
        "{path} belongs to user {owner} (mode {mode:04o}), who could have put anything there; \
         it must belong to user {own}. Look at what is in it, then run: chown -h {own} {path} && \
         chmod 0700 {path}",
        path = path.display()
    )]
    Owner {
        /// Path of the directory.
        path: PathBuf,
        /// User that owns the directory.
        owner: u32,
        /// Mode of the directory.
        mode: u32,
        /// User that the agent runs as.
        own: u32,
    },
    /// Others can change what is in the directory.
    #[error(
        "{path} has mode {mode:04o} (owner {owner}): others can write there, and could have \
         put anything in it. Look at what is in it, then run: chmod 0700 {path}",
        path = path.display()
    )]
    Writable {
        /// Path of the directory.
        path: PathBuf,
        /// User that owns the directory.
        owner: u32,
        /// Mode of the directory.
        mode: u32,
    },
    /// The directory has others' files, and is not to be closed to them.
    #[error(
        "{path} has mode {mode:04o} (owner {owner}), and files that are not the agent's: it must \
         be a directory of the agent's own, which nobody else can read. Name another one, or \
         run: chmod 0700 {path}",
        path = path.display()
    )]
    Shared {
        /// Path of the directory.
        path: PathBuf,
        /// User that owns the directory.
        owner: u32,
        /// Mode of the directory.
        mode: u32,
    },
    /// A directory above is not safe: whoever can rename there can put another in its place.
    #[error(
        "{path} cannot be used: {above} belongs to user {owner} and has mode {mode:04o}, so others \
         can put another directory in its place. Run: chown 0 {above} && chmod go-w {above}; or \
         name a directory elsewhere",
        path = path.display(),
        above = above.display()
    )]
    Above {
        /// Path of the directory.
        path: PathBuf,
        /// Path of the directory above it.
        above: PathBuf,
        /// User that owns the directory above.
        owner: u32,
        /// Mode of the directory above.
        mode: u32,
    },
    /// The path is no directory, or cannot be made or looked at.
    #[error("{} cannot be used", path.display())]
    Unusable {
        /// Path that cannot be used.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
}

/// Makes a directory that only this user can enter, or looks whether the one that is
/// there can be trusted. `ours` tells one that the agent has used before, by a file
/// in it.
pub fn claim(path: &Path, ours: &str) -> Result<(), NotOurs> {
    let unusable = |source| NotOurs::Unusable { path: path.into(), source };
    files::private_directory(path).map_err(unusable)?;
    let own = rustix::process::geteuid().as_raw();
    // Whoever owns a link can have it lead elsewhere.
    for found in [fs::symlink_metadata(path), fs::metadata(path)] {
        let found = found.map_err(unusable)?;
        let (owner, mode) = (found.uid(), found.mode() & 0o7777);
        let is_link = found.is_symlink();
        if owner != own && !(is_link && owner == ROOT) {
            return Err(NotOurs::Owner { path: path.into(), owner, mode, own });
        }
        if is_link {
            continue;
        }
        if mode & WRITE != 0 {
            return Err(NotOurs::Writable { path: path.into(), owner, mode });
        }
        if mode & READ != 0 {
            let used = path.join(ours).symlink_metadata().is_ok();
            let empty = fs::read_dir(path).map_err(unusable)?.next().is_none();
            if !used && !empty {
                return Err(NotOurs::Shared { path: path.into(), owner, mode });
            }
            let closed = mode & !READ;
            tracing::warn!("{} had mode {mode:04o}: it has {closed:04o} now", path.display());
            fs::set_permissions(path, Permissions::from_mode(closed)).map_err(unusable)?;
        }
    }
    Ok(())
}

/// Looks whether nobody but root and this user can put another directory in the place
/// of this one.
pub fn stays_in_place(path: &Path) -> Result<(), NotOurs> {
    let real =
        fs::canonicalize(path).map_err(|source| NotOurs::Unusable { path: path.into(), source })?;
    let own = rustix::process::geteuid().as_raw();
    let safe = |found: &Metadata| {
        let sticky_or_closed = found.mode() & WRITE == 0 || found.mode() & STICKY != 0;
        [ROOT, own].contains(&found.uid()) && sticky_or_closed
    };
    for above in real.ancestors().skip(1) {
        let found = fs::metadata(above)
            .map_err(|source| NotOurs::Unusable { path: path.into(), source })?;
        if !safe(&found) {
            let (owner, mode) = (found.uid(), found.mode() & 0o7777);
            return Err(NotOurs::Above { path: path.into(), above: above.into(), owner, mode });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_mode(mode: u32, files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            fs::write(dir.path().join(file), "").unwrap();
        }
        fs::set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
        dir
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn one_that_is_not_there_is_made_for_this_user_alone() {
        let dir = tempfile::tempdir().unwrap();
        let new = dir.path().join("a/b");
        claim(&new, "lock").unwrap();
        assert_eq!(mode(&new), 0o700);
        claim(&new, "lock").unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&new, &link).unwrap();
        claim(&link, "lock").unwrap();
    }

    #[test]
    fn where_others_can_write_it_is_refused_and_stays_as_it_is() {
        for open in [0o777, 0o720, 0o702, 0o770, 0o1777] {
            let dir = with_mode(open, &["lock"]);
            let refused = claim(dir.path(), "lock").unwrap_err();
            let said = refused.to_string();
            assert!(matches!(refused, NotOurs::Writable { .. }), "{said}");
            assert!(said.contains(&format!("has mode {open:04o}")), "{said}");
            assert!(said.ends_with(&format!("chmod 0700 {}", dir.path().display())), "{said}");
            assert_eq!(mode(dir.path()), open);
        }
    }

    #[test]
    fn what_others_can_read_is_closed_unless_there_is_something_of_theirs() {
        for (open, closed) in [(0o755, 0o711), (0o750, 0o710), (0o711, 0o711), (0o700, 0o700)] {
            for files in [&[][..], &["lock", "journal.json"]] {
                let dir = with_mode(open, files);
                claim(dir.path(), "lock").unwrap();
                assert_eq!(mode(dir.path()), closed, "{open:o} {files:?}");
            }
        }
        let dir = with_mode(0o755, &["home"]);
        let refused = claim(dir.path(), "lock").unwrap_err();
        assert!(matches!(refused, NotOurs::Shared { mode: 0o755, .. }), "{refused}");
        assert_eq!(mode(dir.path()), 0o755);
    }

    #[test]
    fn what_is_no_directory_is_refused() {
        let dir = with_mode(0o700, &["file"]);
        for path in [dir.path().join("file"), dir.path().join("file/below")] {
            let refused = claim(&path, "lock").unwrap_err();
            assert!(matches!(refused, NotOurs::Unusable { .. }), "{refused}");
        }
    }

    #[test]
    fn one_that_others_can_put_another_in_the_place_of_is_refused() {
        let dir = with_mode(0o700, &[]);
        let state = dir.path().join("open/state");
        claim(&state, "lock").unwrap();
        // Its parents are those of every temporary directory: sticky.
        stays_in_place(&state).unwrap();
        let open = |mode| {
            fs::set_permissions(dir.path().join("open"), Permissions::from_mode(mode)).unwrap();
            stays_in_place(&state)
        };
        assert!(matches!(open(0o777), Err(NotOurs::Above { mode: 0o777, .. })));
        assert!(open(0o1777).is_ok());
        assert!(open(0o755).is_ok());
    }
}

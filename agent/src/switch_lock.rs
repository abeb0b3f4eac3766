//! The lock that keeps two `switch-to-configuration` from running at once.
//!
//! An flock(2) of a file that stays (nixpkgs, `switch-to-configuration-ng`), which that program
//! makes readable by everybody: and whoever can read a file can lock it. So the file is replaced
//! by one that only root can open. A descriptor that was opened before then belongs to a file
//! that nobody asks any more.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::process::geteuid;

/// Returns the path of the lock, below a host's root.
pub fn path(root: &Path) -> PathBuf {
    root.join("run/nixos/switch-to-configuration.lock")
}

/// Puts a file that only root can open in the lock's place, unless it is one.
///
/// Returns the one of before, locked: a switch that opened it before it was replaced must not
/// begin on it, for as long as that is kept. Fails with `WouldBlock`, and replaces nothing, if
/// somebody holds its lock.
pub fn renew(root: &Path) -> io::Result<Option<File>> {
    let before = match File::open(path(root)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        opened => Some(opened?),
    };
    if let Some(before) = &before {
        if is_private(before)? {
            return Ok(None);
        }
        flock(before.as_fd(), FlockOperation::NonBlockingLockExclusive)?;
    }
    replace(root)?;
    Ok(before)
}

/// Replaces the file in any case: a process that holds its lock holds one that nobody
/// asks any more.
pub fn pass_by(root: &Path) -> io::Result<()> {
    replace(root)
}

/// Takes the lock, until the file is dropped; `None` if another process holds it.
pub fn take(root: &Path) -> io::Result<Option<File>> {
    let lock = OpenOptions::new().append(true).create(true).mode(0o600).open(path(root))?;
    match flock(lock.as_fd(), FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        taken => taken.map(|()| Some(lock)).map_err(io::Error::from),
    }
}

fn is_private(lock: &File) -> io::Result<bool> {
    let found = lock.metadata()?;
    let owned = found.uid() == 0 || found.uid() == geteuid().as_raw();
    Ok(found.is_file() && owned && found.mode() & 0o077 == 0)
}

fn replace(root: &Path) -> io::Result<()> {
    let path = path(root);
    let new = path.with_extension("lock.new");
    if let Some(directory) = path.parent() {
        // As the program itself makes it.
        DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    }
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    fs::rename(&new, &path)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::os::unix::fs::PermissionsExt as _;

    fn with_lock(mode: u32) -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let lock = path(root.path());
        fs::create_dir_all(lock.parent().unwrap()).unwrap();
        fs::write(&lock, "").unwrap();
        fs::set_permissions(&lock, fs::Permissions::from_mode(mode)).unwrap();
        (root, lock)
    }

    fn inode_and_mode(lock: &Path) -> (u64, u32) {
        let found = fs::metadata(lock).unwrap();
        (found.ino(), found.mode() & 0o777)
    }

    fn holds(file: &File) -> bool {
        flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive).is_ok()
    }

    #[test]
    fn a_lock_that_others_can_open_is_replaced_and_who_opened_it_holds_nothing() {
        let (root, lock) = with_lock(0o644);
        // Before: by anybody.
        let opened = File::open(&lock).unwrap();
        let before = inode_and_mode(&lock);
        let kept = renew(root.path()).unwrap().unwrap();
        let after = inode_and_mode(&lock);
        assert_eq!(after.1, 0o600);
        assert_ne!(after.0, before.0);
        assert!(!holds(&opened), "nor can a switch begin on the old one");
        drop(kept);
        assert!(holds(&opened));
        assert!(take(root.path()).unwrap().is_some(), "it is another one");
        assert_eq!(fs::read_dir(lock.parent().unwrap()).unwrap().count(), 1, "nothing is left");
    }

    #[test]
    fn a_private_lock_stays_the_file_that_it_is() {
        let (root, lock) = with_lock(0o600);
        let before = inode_and_mode(&lock);
        let held = take(root.path()).unwrap().unwrap();
        assert!(renew(root.path()).unwrap().is_none());
        assert_eq!(inode_and_mode(&lock), before);
        assert!(take(root.path()).unwrap().is_none(), "one holds it");
        drop(held);
        assert!(take(root.path()).unwrap().is_some());
    }

    #[test]
    fn a_lock_that_a_switch_holds_is_not_replaced() {
        let (root, lock) = with_lock(0o644);
        let switch = File::open(&lock).unwrap();
        assert!(holds(&switch));
        let before = inode_and_mode(&lock);
        let refused = renew(root.path()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(inode_and_mode(&lock), before);
        // Whoever is of no account keeps his hold on what counts no more.
        pass_by(root.path()).unwrap();
        assert_ne!(inode_and_mode(&lock).0, before.0);
        assert!(take(root.path()).unwrap().is_some());
    }

    #[test]
    fn where_there_is_none_a_private_one_is_made() {
        let root = tempfile::tempdir().unwrap();
        assert!(renew(root.path()).unwrap().is_none());
        assert_eq!(inode_and_mode(&path(root.path())).1, 0o600);
    }
}

//! Small files that survive a crash whole: written beside, made durable, then
//! renamed into place; read back only up to a bound.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::crash;

/// Largest file that is read, in bytes: a larger one was not written by us.
const MOST_BYTES: u64 = 8 << 20;

/// Whether a write must outlast a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The write must outlast a power cut: what follows relies on it.
    Durable,
    /// The write may be lost: the file is made anew, or only tells how far something is.
    Passing,
}

/// Writes a value as JSON, readable by its owner only. Either the old file or
/// the whole new one is there, whenever this is interrupted.
pub fn write_json(path: &Path, value: &impl Serialize, durability: Durability) -> io::Result<()> {
    let mut text = serde_json::to_vec(value)?;
    text.push(b'\n');
    write_private(path, &text, durability)?;
    crash::wrote(path);
    Ok(())
}

/// Writes any other file in the same way.
pub fn write_private(path: &Path, text: &[u8], durability: Durability) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = directory.join(name);
    let written = (|| {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(text)?;
        if durability == Durability::Durable {
            file.sync_all()?;
        }
        fs::rename(&beside, path)
    })();
    if written.is_err() {
        // A full disk must not stay fuller for it.
        let _ = fs::remove_file(&beside);
    }
    written?;
    match durability {
        Durability::Durable => sync_directory(directory),
        Durability::Passing => Ok(()),
    }
}

/// Makes the names in a directory durable.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Reads a JSON file; `None` if it is not there.
///
/// Fails with `InvalidData` when it is not what it should be.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let Some(bytes) = read_bounded(path)? else { return Ok(None) };
    let value = serde_json::from_slice(&bytes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Some(value))
}

/// Reads a file up to the bound; `None` if it is not there.
pub fn read_bounded(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too large"));
    }
    Ok(Some(bytes))
}

/// Makes a directory that only its owner can enter, and those above it. One
/// that is there stays as it is: it may not be ours alone.
pub fn private_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Holds a file's lock for as long as the value lives; `None` if another
/// process holds it.
pub fn lock(path: &Path) -> io::Result<Option<File>> {
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        write_json(&path, &1, Durability::Durable).unwrap();
        fs::create_dir(dir.path().join("x.json.new")).unwrap();
        assert!(write_json(&path, &2, Durability::Durable).is_err());
        assert_eq!(read_json::<i32>(&path).unwrap(), Some(1));
    }

    #[test]
    fn what_is_not_there_is_none_and_what_is_truncated_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        assert_eq!(read_json::<Vec<i32>>(&path).unwrap(), None);
        fs::write(&path, "[1, 2").unwrap();
        let error = read_json::<Vec<i32>>(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_lock_is_held_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = lock(&path).unwrap();
        assert!(held.is_some());
        assert!(lock(&path).unwrap().is_none());
        drop(held);
        assert!(lock(&path).unwrap().is_some());
    }
}

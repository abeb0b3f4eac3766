//! A repository of the commit to evaluate, for a user that cannot open the clone:
//! Nix before 2.26 needs one for a flake in a directory of its tree.
//!
//! Its objects are the clone's own files, by hard links: nothing is copied, and
//! the history is whole, which Nix counts. git reads a repository only where its
//! directory belongs to whoever reads; what is in it stays root's.

use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use super::evaluator::{Evaluator, open_to_readers};
use fort_core::types::Commit;
use fort_sys::files;

/// How often the clone's files may change while they are linked.
const TRIES: usize = 3;

/// Makes the repository anew, with one branch, at the commit: where it is, which is
/// always the same. Nix keeps a copy of the history for every place it was given.
pub(super) fn lend(
    evaluator: &Evaluator,
    clone: &Path,
    branch: &str,
    commit: Commit,
) -> io::Result<PathBuf> {
    let repositories = evaluator.repositories();
    evaluator.lend(&repositories)?;
    let repository = repositories.join("one-commit.git");
    // Made beside, where the user cannot reach it: it owns the one that is there.
    let beside = repositories.join(".new");
    remove(&beside)?;
    files::private_directory(&beside)?;
    for part in ["refs/heads", "objects/pack"] {
        fs::create_dir_all(beside.join(part))?;
    }
    link_objects(&clone.join("objects"), &beside.join("objects"))?;
    fs::write(beside.join("config"), "[core]\n\trepositoryformatversion = 0\n\tbare = true\n")?;
    fs::write(beside.join("refs/heads").join(branch), format!("{commit}\n"))?;
    fs::write(beside.join("HEAD"), format!("ref: refs/heads/{branch}\n"))?;
    open_all(&beside)?;
    chown(&beside, Some(evaluator.credentials.uid), Some(evaluator.credentials.gid))?;
    remove(&repository)?;
    fs::rename(&beside, &repository)?;
    Ok(repository)
}

/// Links loose objects and packs; a fetch may change which there are meanwhile.
fn link_objects(from: &Path, to: &Path) -> io::Result<()> {
    for _ in 1..TRIES {
        match link_all(from, to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
    }
    link_all(from, to)
}

fn link_all(from: &Path, to: &Path) -> io::Result<()> {
    for directory in fs::read_dir(from)? {
        let directory = directory?;
        let name = directory.file_name();
        let objects = name == "pack" || name.len() == 2;
        if !objects || !directory.file_type()?.is_dir() {
            continue;
        }
        fs::create_dir_all(to.join(&name))?;
        for file in fs::read_dir(directory.path())? {
            let file = file?;
            let link = to.join(&name).join(file.file_name());
            match fs::hard_link(file.path(), &link) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                    fs::copy(file.path(), &link)?;
                }
                other => other?,
            }
        }
    }
    Ok(())
}

/// Lets everybody read what is below a directory; whom it belongs to keeps others
/// out of it.
fn open_all(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let found = entry.metadata()?;
        open_to_readers(&entry.path(), &found)?;
        if found.is_dir() {
            open_all(&entry.path())?;
        }
    }
    Ok(())
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

//! Writes out the tree of exactly one commit, for Nix to evaluate.
//!
//! No filters, attributes or line endings are applied: what is written is what
//! was committed. A tree that could not be written faithfully (a submodule, an
//! LFS pointer, a name that is a path) is refused, never written in part.
//!
//! What surprises: files that the previous export had too are hard links to
//! it, so nobody may ever write into an export. Nothing is synced to disk: an
//! export of an earlier boot may have lost its contents, so it is not linked
//! to, and its owner should remake it.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice as _};
use gix::objs::tree::{EntryKind, EntryMode};

use super::repository::{self, Damage};
use crate::core::types::Commit;
use crate::transport::one_line;

/// Deeper than any project, and well within the stack.
const MAX_DEPTH: usize = 100;
/// A small tree can name itself a million times over.
const MAX_ENTRIES: u32 = 1_000_000;
/// What git-lfs writes in place of a file; pointers are shorter than this
/// (git-lfs, docs/spec.md).
const LFS: &[u8] = b"version https://git-lfs.github.com/spec/v1";
const LFS_LIMIT: usize = 1024;

/// A tree that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// Where it is: files 0444, or 0555 if executable, less the umask.
    pub dir: PathBuf,
    /// The committer's time, in seconds since 1970.
    pub last_modified: i64,
    /// How many commits are reachable, as `git rev-list --count` says.
    pub rev_count: u64,
}

/// Why a tree was not written. Nothing is left of it.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The clone lacks something or cannot be read: fetch with `reclone`.
    #[error("the clone is damaged: {0}")]
    Damaged(String),
    /// It can be read but not written faithfully: a fault of the commit.
    #[error("{path}: {why}")]
    Refused {
        /// Where in the tree.
        path: String,
        /// What is there.
        why: &'static str,
    },
    /// No space, or no quota.
    #[error("the disk is full")]
    DiskFull,
    /// Anything else with our own files.
    #[error("cannot write {}", path.display())]
    Local {
        /// What was being written.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl From<Damage> for ExportError {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage.0)
    }
}

/// Writes the tree of `commit` to `dest`, which must not exist yet and appears
/// when it is complete. Beside it, names that begin with its own are used:
/// `DEST.partial-PID` while it is written, and `DEST.commit`, by which a later
/// export recognises it as its `previous`.
pub fn export(
    clone: &Path,
    commit: Commit,
    dest: &Path,
    previous: Option<&Path>,
) -> Result<Exported, ExportError> {
    if fs::symlink_metadata(dest).is_ok() {
        let source = io::ErrorKind::AlreadyExists.into();
        return Err(ExportError::Local { path: dest.to_owned(), source });
    }
    let partial = beside(dest, &format!(".partial-{}", std::process::id()));
    let attempt = || {
        remove_partials(dest);
        catch_unwind(AssertUnwindSafe(|| write(clone, commit, &partial, previous)))
            .unwrap_or_else(|_| Err(ExportError::Damaged("reading objects panicked".into())))
    };
    // A clone that is replaced while it is read looks damaged, once.
    let written = match attempt() {
        Err(ExportError::Damaged(_)) => attempt(),
        other => other,
    };
    let finished = written.and_then(|(last_modified, rev_count)| {
        fs::rename(&partial, dest).map_err(|e| local(dest, e))?;
        label(dest, commit)?;
        Ok(Exported { dir: dest.to_owned(), last_modified, rev_count })
    });
    finished.inspect_err(|_| remove_partials(dest))
}

fn write(
    clone: &Path,
    commit: Commit,
    dest: &Path,
    previous: Option<&Path>,
) -> Result<(i64, u64), ExportError> {
    let repository = repository::open(clone)?;
    let (tree, last_modified) = root(&repository, commit)?;
    let rev_count = count(&repository, commit)?;
    let older = previous.and_then(|dir| {
        let older = labelled(dir)?;
        Some(Older { tree: root(&repository, older).ok()?.0, dir: dir.to_owned() })
    });
    let mut walk = Walk { repository: &repository, entries: 0, at: BString::default() };
    walk.directory(tree, dest, older.as_ref(), 0)?;
    Ok((last_modified, rev_count))
}

/// The same directory in the previous export.
struct Older {
    tree: ObjectId,
    dir: PathBuf,
}

struct Walk<'a> {
    repository: &'a gix::Repository,
    entries: u32,
    /// The path within the tree, for what is said to people.
    at: BString,
}

impl Walk<'_> {
    fn directory(
        &mut self,
        tree: ObjectId,
        dest: &Path,
        older: Option<&Older>,
        depth: usize,
    ) -> Result<(), ExportError> {
        if depth > MAX_DEPTH {
            return Err(self.refused("directories are nested too deeply"));
        }
        let unread = |e: &dyn std::fmt::Display| damaged(&format!("tree {tree}"), e);
        let object = self.repository.find_tree(tree).map_err(|e| unread(&e))?;
        let before = match older {
            Some(older) if older.tree != tree => self.entries_of(older.tree),
            _ => HashMap::new(),
        };
        fs::create_dir(dest).map_err(|e| self.unwritten(dest, e))?;
        for entry in object.iter() {
            let entry = entry.map_err(|e| unread(&e))?;
            let (name, mode, id) = (entry.filename(), entry.mode(), entry.oid().to_owned());
            let length = self.at.len();
            if length > 0 {
                self.at.push(b'/');
            }
            self.at.extend_from_slice(name);
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(self.refused("there are too many files"));
            }
            if !is_plain(name) {
                return Err(self.refused("not a name that a file may have"));
            }
            let path = dest.join(OsStr::from_bytes(name));
            let was = older.and_then(|older| {
                let same = (mode, id);
                let (mode, id) =
                    if older.tree == tree { same } else { *before.get(name.as_bytes())? };
                Some((mode, id, older.dir.join(OsStr::from_bytes(name))))
            });
            self.entry(mode, id, &path, was, depth)?;
            self.at.truncate(length);
        }
        Ok(())
    }

    fn entry(
        &mut self,
        mode: EntryMode,
        id: ObjectId,
        path: &Path,
        was: Option<(EntryMode, ObjectId, PathBuf)>,
        depth: usize,
    ) -> Result<(), ExportError> {
        if mode.is_tree() {
            let older =
                was.filter(|(mode, ..)| mode.is_tree()).map(|(_, tree, dir)| Older { tree, dir });
            return self.directory(id, path, older.as_ref(), depth + 1);
        }
        let kind = mode.kind();
        let unchanged = was.filter(|(was, old, _)| was.kind() == kind && *old == id);
        if let Some((.., old)) = unchanged
            && fs::hard_link(old, path).is_ok()
        {
            return Ok(());
        }
        match kind {
            EntryKind::Blob => self.file(id, path, 0o444),
            EntryKind::BlobExecutable => self.file(id, path, 0o555),
            EntryKind::Link => {
                let target = self.blob(id)?;
                if target.is_empty() || target.contains(&0) {
                    return Err(self.refused("a symbolic link to nowhere"));
                }
                let target = OsStr::from_bytes(&target);
                std::os::unix::fs::symlink(target, path).map_err(|e| self.unwritten(path, e))
            }
            EntryKind::Commit => Err(self.refused("submodules are not supported")),
            EntryKind::Tree => Err(self.refused("neither a file nor a directory")),
        }
    }

    fn file(&self, id: ObjectId, path: &Path, mode: u32) -> Result<(), ExportError> {
        let data = self.blob(id)?;
        if data.len() < LFS_LIMIT && data.starts_with(LFS) {
            return Err(self.refused("files in Git LFS are not supported"));
        }
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)
            .and_then(|mut file| file.write_all(&data))
            .map_err(|e| self.unwritten(path, e))
    }

    fn blob(&self, id: ObjectId) -> Result<Vec<u8>, ExportError> {
        match self.repository.find_blob(id) {
            Ok(mut blob) => Ok(blob.take_data()),
            Err(e) if e.is_resource_exhausted() => Err(self.refused("the file is too large")),
            Err(e) => Err(damaged(&self.at.to_string(), &e)),
        }
    }

    /// Without them, everything is written out.
    fn entries_of(&self, tree: ObjectId) -> HashMap<Vec<u8>, (EntryMode, ObjectId)> {
        let Ok(tree) = self.repository.find_tree(tree) else { return HashMap::new() };
        tree.iter()
            .filter_map(Result::ok)
            .map(|e| (e.filename().to_vec(), (e.mode(), e.oid().to_owned())))
            .collect()
    }

    fn refused(&self, why: &'static str) -> ExportError {
        ExportError::Refused { path: one_line(&self.at.to_string()), why }
    }

    /// A tree that has a name twice, as a symbolic link and as a directory,
    /// would write elsewhere: nothing that exists is ever written to.
    fn unwritten(&self, path: &Path, error: io::Error) -> ExportError {
        if error.kind() == io::ErrorKind::AlreadyExists {
            return self.refused("the tree has this name twice");
        }
        if error.kind() == io::ErrorKind::InvalidFilename {
            return self.refused("the name is too long");
        }
        local(path, error)
    }
}

/// Whether a name is one that git itself would write (`verify_path`).
fn is_plain(name: &BStr) -> bool {
    !name.is_empty()
        && name != "."
        && name != ".."
        && !name.eq_ignore_ascii_case(b".git")
        && !name.contains(&b'/')
        && !name.contains(&0)
}

fn root(repository: &gix::Repository, commit: Commit) -> Result<(ObjectId, i64), ExportError> {
    let read = || -> gix::Result<_> {
        let found = repository.find_commit(repository::id(commit))?;
        Ok((found.tree_id()?.detach(), found.time()?.seconds))
    };
    read().map_err(|e| damaged(&format!("commit {commit}"), &e))
}

fn count(repository: &gix::Repository, commit: Commit) -> Result<u64, ExportError> {
    let broken = |e: &dyn std::fmt::Display| damaged("its history", e);
    let mut count = 0;
    for commit in repository.rev_walk([repository::id(commit)]).all().map_err(|e| broken(&e))? {
        commit.map_err(|e| broken(&e))?;
        count += 1;
    }
    Ok(count)
}

/// Notes beside an export which commit it is of, and in which boot it was made.
fn label(dest: &Path, commit: Commit) -> Result<(), ExportError> {
    let Some(boot) = boot() else { return Ok(()) };
    let path = beside(dest, ".commit");
    fs::write(&path, format!("{commit} {boot}\n")).map_err(|e| local(&path, e))
}

fn labelled(dir: &Path) -> Option<Commit> {
    let label = fs::read_to_string(beside(dir, ".commit")).ok()?;
    let (commit, boot_then) = label.trim_end().split_once(' ')?;
    (boot_then == boot()?).then(|| commit.parse().ok())?
}

fn boot() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim_end().to_owned())
}

/// Also what a run that was killed left.
fn remove_partials(dest: &Path) {
    let prefix = beside(dest, ".partial-");
    let listed = dest.parent().and_then(|parent| fs::read_dir(parent).ok());
    for entry in listed.into_iter().flatten().flatten() {
        let path = entry.path();
        if path.as_os_str().as_bytes().starts_with(prefix.as_os_str().as_bytes()) {
            // If it cannot be removed, what is written next says why.
            let _ = fs::remove_dir_all(path);
        }
    }
}

fn beside(dest: &Path, suffix: &str) -> PathBuf {
    let mut name = dest.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    dest.with_file_name(name)
}

fn damaged(what: &str, error: &dyn std::fmt::Display) -> ExportError {
    ExportError::Damaged(one_line(&format!("{what}: {error}")))
}

fn local(path: &Path, source: io::Error) -> ExportError {
    if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        return ExportError::DiskFull;
    }
    ExportError::Local { path: path.to_owned(), source }
}

//! Writes the files of a tree, and counts what they take.
//!
//! A tree of a kilobyte can name a million files, and one file a million times:
//! what is counted is what the disk gives, whole blocks, and each name for itself.
//! For that is what Nix makes of the tree, which copies it to its store, where no
//! file is shared.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice as _};
use gix::objs::tree::{EntryKind, EntryMode};
use gix::objs::{Kind, TreeRefIter};

use super::export::{ExportError, Unfit, local};
use super::history::{ReadFailed, Reader};
use super::limits::{Exceeded, NoRoom};
use fort_core::plain::one_line;

/// Deepest nesting of directories: deeper than any project, and well within the stack.
const MAX_DEPTH: usize = 100;
/// Most entries of a tree: a small one can name itself a million times over.
const MAX_ENTRIES: u32 = 1_000_000;
/// Beginning of what git-lfs writes in place of a file; pointers are shorter than
/// `LFS_LIMIT` (git-lfs, docs/spec.md).
const LFS: &[u8] = b"version https://git-lfs.github.com/spec/v1";
const LFS_LIMIT: usize = 1024;
/// Most paths that are named whose content is elsewhere.
const MOST_NAMED: usize = 10;
/// Bytes after which the disk is looked at again.
const LOOK: u64 = 1 << 20;

/// The same directory in the previous export.
pub(super) struct Older {
    pub(super) tree: ObjectId,
    pub(super) dir: PathBuf,
}

/// Writer of one tree, which counts what it takes.
pub(super) struct Writer<'a> {
    reader: Reader<'a>,
    /// Size in bytes above which the clone may lack files.
    left_out: Option<u64>,
    submodules: bool,
    entries: u32,
    /// Bytes that the files take, each in whole blocks.
    bytes: u64,
    looked: u64,
    block: u64,
    top: PathBuf,
    /// Path that content was first written to, by whether it is executable.
    written: HashMap<(ObjectId, bool), PathBuf>,
    elsewhere: Vec<String>,
    /// The path within the tree, for what is said to people.
    at: BString,
    buffer: Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(reader: Reader<'a>, left_out: Option<u64>, submodules: bool) -> Self {
        Self {
            reader,
            left_out,
            submodules,
            entries: 0,
            bytes: 0,
            looked: 0,
            block: 4096,
            top: PathBuf::new(),
            written: HashMap::new(),
            elsewhere: Vec::new(),
            at: BString::default(),
            buffer: Vec::new(),
        }
    }

    /// Writes a tree, and says whose content is elsewhere.
    pub(super) fn write(
        mut self,
        tree: ObjectId,
        dest: &Path,
        older: Option<&Older>,
    ) -> Result<Vec<String>, ExportError> {
        self.top = dest.parent().unwrap_or(Path::new("/")).to_owned();
        let block = fs::metadata(&self.top).map(|data| data.blksize());
        self.block = block.unwrap_or(4096).clamp(512, 1 << 16);
        self.directory(tree, dest, older, 0)?;
        Ok(self.elsewhere)
    }

    fn directory(
        &mut self,
        tree: ObjectId,
        dest: &Path,
        older: Option<&Older>,
        depth: usize,
    ) -> Result<(), ExportError> {
        if depth > MAX_DEPTH {
            return Err(self.refused(Unfit::Nested));
        }
        let entries = self.tree(tree)?;
        let before = match older {
            // Without them, everything is written out.
            Some(older) if older.tree != tree => self
                .tree(older.tree)
                .unwrap_or_default()
                .into_iter()
                .map(|(mode, name, id)| (name, (mode, id)))
                .collect(),
            Some(_) | None => HashMap::new(),
        };
        self.takes(0)?;
        fs::create_dir(dest).map_err(|e| self.unwritten(dest, &e))?;
        for (mode, name, id) in entries {
            let length = self.at.len();
            if length > 0 {
                self.at.push(b'/');
            }
            self.at.extend_from_slice(&name);
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(self.refused(Unfit::TooMany));
            }
            if !is_plain(name.as_bstr()) {
                return Err(self.refused(Unfit::Name));
            }
            let path = dest.join(OsStr::from_bytes(&name));
            let was = older.and_then(|older| {
                let same = (mode, id);
                let (mode, id) = if older.tree == tree { same } else { *before.get(&name)? };
                Some((mode, id, older.dir.join(OsStr::from_bytes(&name))))
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
        let was_there = was.clone().filter(|(was, ..)| was.kind() == EntryKind::Commit);
        let unchanged = was.filter(|(was, old, _)| was.kind() == kind && *old == id);
        if let Some((.., old)) = unchanged
            && kind != EntryKind::Commit
            && let Ok(data) = old.symlink_metadata()
            && fs::hard_link(&old, path).is_ok()
        {
            if kind != EntryKind::Link && data.len() < LFS_LIMIT as u64 {
                self.look_for_pointer(&fs::read(path).unwrap_or_default());
            }
            return self.takes(data.len());
        }
        match kind {
            EntryKind::Blob => self.file(id, path, false),
            EntryKind::BlobExecutable => self.file(id, path, true),
            EntryKind::Link => {
                self.blob(id)?;
                if self.buffer.is_empty() || self.buffer.contains(&0) {
                    return Err(self.refused(Unfit::Link));
                }
                self.takes(0)?;
                let target = OsStr::from_bytes(&self.buffer);
                std::os::unix::fs::symlink(target, path).map_err(|e| self.unwritten(path, &e))
            }
            EntryKind::Commit if self.submodules => self.submodule(id, path, was_there, depth),
            EntryKind::Commit => {
                self.is_elsewhere("a submodule");
                self.takes(0)?;
                fs::create_dir(path).map_err(|e| self.unwritten(path, &e))
            }
            EntryKind::Tree => Err(self.refused(Unfit::Kind)),
        }
    }

    /// Writes the tree of a submodule's commit in its place.
    fn submodule(
        &mut self,
        commit: ObjectId,
        path: &Path,
        was: Option<(EntryMode, ObjectId, PathBuf)>,
        depth: usize,
    ) -> Result<(), ExportError> {
        let links = self.reader.links(commit, &mut self.buffer);
        let tree = match links {
            Ok(links) => links.tree,
            Err(ReadFailed::Missing(_)) => return Err(self.refused(Unfit::Submodule)),
            Err(other) => return Err(other.into()),
        };
        let older = was.and_then(|(_, old, dir)| {
            let tree = self.reader.links(old, &mut self.buffer).ok()?.tree;
            Some(Older { tree, dir })
        });
        self.directory(tree, path, older.as_ref(), depth + 1)
    }

    fn file(&mut self, id: ObjectId, path: &Path, executable: bool) -> Result<(), ExportError> {
        if let Some(same) = self.written.get(&(id, executable))
            && let Ok(data) = same.metadata()
            && fs::hard_link(same, path).is_ok()
        {
            return self.takes(data.len());
        }
        self.blob(id)?;
        let data = std::mem::take(&mut self.buffer);
        self.look_for_pointer(&data);
        self.takes(data.len() as u64)?;
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(if executable { 0o555 } else { 0o444 })
            .open(path)
            .and_then(|mut file| file.write_all(&data))
            .map_err(|e| self.unwritten(path, &e))?;
        self.buffer = data;
        self.written.insert((id, executable), path.to_owned());
        Ok(())
    }

    /// Counts the bytes of one more file or directory.
    fn takes(&mut self, bytes: u64) -> Result<(), ExportError> {
        let blocks = bytes.div_ceil(self.block).max(1);
        self.bytes = self.bytes.saturating_add(blocks.saturating_mul(self.block));
        let limit = self.reader.limits.tree;
        if self.bytes > limit {
            return Err(ExportError::TooLarge { limit });
        }
        if self.bytes - self.looked >= LOOK {
            // What is written is gone from what is free; Nix's copy comes yet.
            NoRoom::at(&self.top, self.bytes).map_err(ExportError::NoRoom)?;
            self.looked = self.bytes;
        }
        Ok(())
    }

    /// Reads a blob into the buffer.
    fn blob(&mut self, id: ObjectId) -> Result<(), ExportError> {
        let read = self.reader.object(id, Kind::Blob, &mut self.buffer);
        read.map_err(|trouble| match (trouble, self.left_out) {
            (ReadFailed::Missing(_), Some(limit))
            | (ReadFailed::Exceeds(Exceeded::Object { limit }), _) => {
                self.refused(Unfit::TooLarge { limit })
            }
            (ReadFailed::Odd(_), _) => self.refused(Unfit::Kind),
            (ReadFailed::Missing(what) | ReadFailed::Damaged(what), _) => {
                ExportError::Damaged(one_line(&format!("{}: {what}", self.at)))
            }
            (ReadFailed::Exceeds(limit), _) => ExportError::Exceeds(limit),
        })
    }

    fn tree(&mut self, id: ObjectId) -> Result<Vec<(EntryMode, Vec<u8>, ObjectId)>, ExportError> {
        let read = self.reader.object(id, Kind::Tree, &mut self.buffer);
        read.map_err(|trouble| match trouble {
            ReadFailed::Odd(_) => self.refused(Unfit::Kind),
            other @ (ReadFailed::Missing(_) | ReadFailed::Damaged(_) | ReadFailed::Exceeds(_)) => {
                other.into()
            }
        })?;
        TreeRefIter::from_bytes(&self.buffer, gix::hash::Kind::Sha1)
            .map(|entry| {
                let entry = entry.map_err(|_| self.refused(Unfit::Tree))?;
                Ok((entry.mode, entry.filename.to_vec(), entry.oid.to_owned()))
            })
            .collect()
    }

    fn look_for_pointer(&mut self, data: &[u8]) {
        if data.len() < LFS_LIMIT && data.starts_with(LFS) {
            self.is_elsewhere("in Git LFS");
        }
    }

    fn is_elsewhere(&mut self, what: &str) {
        if self.elsewhere.len() < MOST_NAMED {
            self.elsewhere.push(format!("{} ({what})", one_line(&self.at.to_string())));
        }
    }

    fn refused(&self, why: Unfit) -> ExportError {
        ExportError::Refused { path: one_line(&self.at.to_string()), why }
    }

    /// A tree that has a name twice, as a symbolic link and as a directory,
    /// would write elsewhere: nothing that exists is ever written to.
    fn unwritten(&self, path: &Path, error: &io::Error) -> ExportError {
        if error.kind() == io::ErrorKind::AlreadyExists {
            self.refused(Unfit::Twice)
        } else if error.kind() == io::ErrorKind::InvalidFilename {
            self.refused(Unfit::LongName)
        } else {
            local(path, error)
        }
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

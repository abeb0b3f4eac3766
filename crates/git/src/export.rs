//! Writes out the tree of exactly one commit, for Nix to evaluate.
//!
//! No filters, attributes or line endings are applied: what is written is what
//! was committed, and what could not be written faithfully is refused, never
//! written in part. As with Nix's own fetchers a pointer of Git LFS stays the text
//! that it is, and a submodule an empty directory, unless it is asked for; both are
//! named.
//!
//! What surprises: files that the previous export had too are hard links to
//! it, and so are files of one content within an export, so nobody may ever write
//! into one. Nothing is synced to disk: an export of an earlier boot may have lost
//! its contents, so it is not linked to, and its owner should remake it.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use super::history::{self, Links, ReadFailed, Reader};
use super::limits::{Exceeded, Limits, NoRoom};
use super::process::{self, Died};
use super::repository;
use super::tree::{Older, Writer};
use fort_core::bytes::bytes;
use fort_core::plain::one_line;
use fort_core::types::Commit;

/// Marker in the name of an export that is not complete.
const PARTIAL: &str = ".partial-";

/// Tree that is to be written, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Export {
    /// The clone that has the commit.
    pub clone: PathBuf,
    /// Commit whose tree is written.
    pub commit: Commit,
    /// Directory that must not exist yet, and appears when it is complete. Beside it,
    /// names that begin with its own are used: `DEST.partial-PID` while it is written,
    /// and `DEST.commit`, by which a later export recognises it as its `previous`.
    pub dest: PathBuf,
    /// An earlier export, whose unchanged files are linked to.
    pub previous: Option<PathBuf>,
    /// Whether submodules are written out too: they must have been fetched.
    #[serde(default)]
    pub submodules: bool,
    /// Limits of what the export may cost.
    #[serde(default)]
    pub limits: Limits,
}

/// A tree that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    /// Directory of the tree: files are 0444, or 0555 if executable, less the umask.
    pub dir: PathBuf,
    /// The committer's time, in seconds since 1970; 0 where the commit tells none.
    pub last_modified: i64,
    /// How many commits are reachable, as `git rev-list --count` says.
    pub rev_count: u64,
    /// Submodules and files in Git LFS, whose content is elsewhere: their paths,
    /// the first few of them.
    #[serde(default)]
    pub elsewhere: Vec<String>,
}

/// Reason for which a tree was not written. Nothing is left of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum ExportError {
    /// The clone lacks something or cannot be read: fetch with `reclone`.
    #[error("the clone is damaged: {0}")]
    Damaged(String),
    /// The tree can be read but not written faithfully: a fault of the commit.
    #[error("{path}: {why}")]
    Refused {
        /// Path within the tree.
        path: String,
        /// Reason for which it cannot be written.
        why: Unfit,
    },
    /// The commit is whole, and not what a commit should be.
    #[error("{0}")]
    Unreadable(String),
    /// The tree is larger than this host takes.
    #[error("its tree is larger than {}", bytes(*limit))]
    TooLarge {
        /// Largest tree in bytes, each file counted in whole blocks.
        limit: u64,
    },
    /// Reading it takes more than is granted.
    #[error(transparent)]
    Exceeds(Exceeded),
    /// Less room than is to stay free.
    #[error(transparent)]
    NoRoom(NoRoom),
    /// No space, or no quota.
    #[error("the disk is full")]
    DiskFull,
    /// Anything else with our own files.
    #[error("cannot write {}: {why}", path.display())]
    Local {
        /// File or directory that was being written.
        path: PathBuf,
        /// Cause of the failure, as one line.
        why: String,
    },
    /// The process could not run, or ended without an answer.
    #[error("the exporting process {status}{}{stderr}", if stderr.is_empty() { "" } else { ": " })]
    Crashed {
        /// End of the process in words, such as its exit status.
        status: String,
        /// End of the process's stderr, as one line.
        stderr: String,
    },
}

/// Reason for which a part of a tree cannot be written as it was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Unfit {
    /// Deeper than any project.
    #[error("directories are nested too deeply")]
    Nested,
    /// A small tree can name itself a million times over.
    #[error("there are too many files")]
    TooMany,
    /// A path, or what git itself would not write.
    #[error("not a name that a file may have")]
    Name,
    /// Longer than the file system takes.
    #[error("the name is too long")]
    LongName,
    /// One name for two files.
    #[error("the tree has this name twice")]
    Twice,
    /// A link's target is empty, or no path.
    #[error("a symbolic link to nowhere")]
    Link,
    /// The entry is of no kind that git knows, or of another than its tree says.
    #[error("neither a file nor a directory")]
    Kind,
    /// The bytes of a tree are none.
    #[error("this directory is not one that git can read")]
    Tree,
    /// The submodule is wanted, and was not brought.
    #[error(
        "this submodule is not here: it has to be in .gitmodules, on the remote's own host, and \
         readable with its token"
    )]
    Submodule,
    /// The file is larger than is read, or was fetched.
    #[error("the file is larger than {}", bytes(*limit))]
    TooLarge {
        /// Largest file that is written, in bytes.
        limit: u64,
    },
}

impl From<ReadFailed> for ExportError {
    fn from(trouble: ReadFailed) -> Self {
        match trouble {
            ReadFailed::Missing(what) | ReadFailed::Damaged(what) => Self::Damaged(what),
            ReadFailed::Exceeds(limit) => Self::Exceeds(limit),
            ReadFailed::Odd(what) => Self::Unreadable(what),
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum ExportAnswer {
    Error { error: ExportError },
    Done(Exported),
}

/// The child: what `fort-agent job export` does.
pub fn main() -> ExitCode {
    let limits = |order: &Export| order.limits;
    process::serve("export", limits, |order| match export(order) {
        Ok(done) => ExportAnswer::Done(done),
        Err(error) => ExportAnswer::Error { error },
    })
}

/// Exports in a child (`exe job export`), which limits itself. Dropping the future
/// kills the child; nothing is left of a tree that was not complete.
pub async fn run(exe: &Path, order: &Export) -> Result<Exported, ExportError> {
    let _swept = Swept(order);
    let died = match process::ask(exe, "export", order).await {
        Ok(ExportAnswer::Done(done)) => return Ok(done),
        Ok(ExportAnswer::Error { error }) => return Err(error),
        Err(died) => died,
    };
    let exceeded = died.exceeded(order.limits);
    let Died { how, stderr, .. } = died;
    Err(exceeded.map_or_else(|| ExportError::Crashed { status: how, stderr }, ExportError::Exceeds))
}

/// Sweeps an export however it ends, even if it is only that nobody waits for it any more.
struct Swept<'a>(&'a Export);

impl Drop for Swept<'_> {
    fn drop(&mut self) {
        sweep(&self.0.dest);
    }
}

/// Writes out a tree, in this process. `run` is what bounds its memory.
pub fn export(order: &Export) -> Result<Exported, ExportError> {
    let dest = &order.dest;
    if fs::symlink_metadata(dest).is_ok() {
        return Err(local(dest, &io::ErrorKind::AlreadyExists.into()));
    }
    let partial = beside(dest, &format!("{PARTIAL}{}", std::process::id()));
    let attempt = || {
        sweep(dest);
        catch_unwind(AssertUnwindSafe(|| write(order, &partial)))
            .unwrap_or_else(|_| Err(ExportError::Damaged("reading objects panicked".into())))
    };
    // A clone that is replaced while it is read looks damaged, once.
    let written = match attempt() {
        Err(ExportError::Damaged(_)) => attempt(),
        other => other,
    };
    let finished = written.and_then(|mut done| {
        fs::rename(&partial, dest).map_err(|e| local(dest, &e))?;
        label(dest, order.commit)?;
        done.dir.clone_from(dest);
        Ok(done)
    });
    finished.inspect_err(|_| sweep(dest))
}

fn write(order: &Export, dest: &Path) -> Result<Exported, ExportError> {
    let limits = order.limits;
    let repository =
        repository::open(&order.clone, limits).map_err(|damage| ExportError::Damaged(damage.0))?;
    let reader = Reader { repository: &repository, limits };
    let links = |commit| -> Result<Links, ReadFailed> {
        reader.links(history::id(commit), &mut Vec::new())
    };
    let Links { tree, time, .. } = links(order.commit)?;
    let mut rev_count = 0;
    for commit in reader.history([history::id(order.commit)])? {
        commit?;
        rev_count += 1;
    }
    let older = order
        .previous
        .as_ref()
        .and_then(|dir| Some(Older { tree: links(labelled(dir)?).ok()?.tree, dir: dir.clone() }));
    let left_out = repository::left_out(&order.clone);
    let writer = Writer::new(reader, left_out, order.submodules);
    let elsewhere = writer.write(tree, dest, older.as_ref())?;
    Ok(Exported { dir: dest.to_owned(), last_modified: time, rev_count, elsewhere })
}

/// Notes beside an export which commit it is of, and in which boot it was made.
fn label(dest: &Path, commit: Commit) -> Result<(), ExportError> {
    let Some(boot) = boot() else { return Ok(()) };
    let path = beside(dest, ".commit");
    fs::write(&path, format!("{commit} {boot}\n")).map_err(|e| local(&path, &e))
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

/// Removes what was written of an export that is not complete, also by a run that
/// was killed.
pub fn sweep(dest: &Path) {
    let prefix = beside(dest, PARTIAL);
    remove_all(dest.parent(), |path| {
        path.as_os_str().as_bytes().starts_with(prefix.as_os_str().as_bytes())
    });
}

/// Removes what was written of all exports in a directory that are not complete.
pub fn sweep_all(directory: &Path) {
    let partial = |name: &[u8]| name.windows(PARTIAL.len()).any(|it| it == PARTIAL.as_bytes());
    remove_all(Some(directory), |path| {
        path.file_name().is_some_and(|name| partial(name.as_bytes()))
    });
}

fn remove_all(directory: Option<&Path>, doomed: impl Fn(&Path) -> bool) {
    let listed = directory.and_then(|directory| fs::read_dir(directory).ok());
    for entry in listed.into_iter().flatten().flatten() {
        let path = entry.path();
        if doomed(&path) {
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

pub(super) fn local(path: &Path, error: &io::Error) -> ExportError {
    if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        return ExportError::DiskFull;
    }
    ExportError::Local { path: path.to_owned(), why: one_line(&error.to_string()) }
}

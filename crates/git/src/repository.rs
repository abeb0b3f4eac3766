//! The clone on disk: opening it, judging whether it is sound, and how two of
//! its commits relate.
//!
//! Nothing in a clone is worth saving: it can be fetched again. So damage is
//! looked for wherever that is cheap, and never repaired.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use gix::bstr::ByteSlice as _;
use gix::odb::pack::{self, data::input};
use serde::{Deserialize, Serialize};

use super::history::{ReadFailed, Reader};
use super::limits::Limits;
use fort_core::observed::Relation;
use fort_core::plain::one_line;
use fort_core::types::Commit;

/// File that says which files this clone may lack: those of more bytes than it names.
const LEFT_OUT: &str = "fort-left-out";

/// Two commits and how they relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Related {
    /// The one that was there before.
    pub older: Commit,
    /// The one that came.
    pub newer: Commit,
    /// How the newer stands to the older.
    pub relation: Relation,
}

/// Damage of a clone, in one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Damage(pub(super) String);

impl Damage {
    pub(super) fn new(what: &str, error: &dyn std::fmt::Display) -> Self {
        Self(one_line(&format!("{what}: {error}")))
    }
}

/// State of what is found where the clone should be.
pub(super) enum CloneState {
    Absent,
    Damaged(Damage),
    Sound { repository: Box<gix::Repository>, packs: usize },
}

/// Creates a new, empty, bare repository.
pub(super) fn create(dir: &Path, limits: Limits) -> Result<gix::Repository, gix::Error> {
    gix::init_bare(dir)?;
    gix::open_opts(dir, options(limits))
}

/// Opens a clone, without looking further.
pub(super) fn open(dir: &Path, limits: Limits) -> Result<gix::Repository, Damage> {
    let repository =
        gix::open_opts(dir, options(limits)).map_err(|e| Damage::new("it cannot be opened", &e))?;
    if repository.object_hash() != gix::hash::Kind::Sha1 || !repository.is_bare() {
        return Err(Damage("it is not a bare repository of SHA-1 objects".into()));
    }
    repository.head_name().map_err(|e| Damage::new("its HEAD cannot be read", &e))?;
    Ok(repository)
}

/// Opens a clone and looks for the damage that a power cut leaves: truncated
/// packs, empty refs, heads without their objects. Takes about a millisecond.
pub(super) fn inspect(dir: &Path, limits: Limits) -> CloneState {
    if std::fs::symlink_metadata(dir).is_err_and(|e| e.kind() == io::ErrorKind::NotFound) {
        return CloneState::Absent;
    }
    let sound = || {
        let repository = open(dir, limits)?;
        let packs = packs(dir)?;
        for pack in &packs {
            trailers_agree(pack)?;
        }
        for head in heads(&repository)? {
            undamaged(Reader { repository: &repository, limits }.is_whole(head))?;
        }
        Ok((repository, packs.len()))
    };
    match sound() {
        Ok((repository, packs)) => CloneState::Sound { repository: Box::new(repository), packs },
        Err(damage) => CloneState::Damaged(damage),
    }
}

/// Reads all packs and all of history, for when something did go wrong.
pub(super) fn verify(dir: &Path, limits: Limits) -> Result<(), Damage> {
    let repository = open(dir, limits)?;
    for pack in packs(dir)? {
        trailers_agree(&pack)?;
        checksum_is_right(&pack)?;
        checksum_is_right(&pack.with_extension("idx"))?;
    }
    let reader = Reader { repository: &repository, limits };
    let heads = heads(&repository)?;
    for &head in &heads {
        undamaged(reader.is_whole(head))?;
    }
    let walked = reader.history(heads).and_then(|mut walk| walk.try_for_each(|it| it.map(drop)));
    undamaged(walked)
}

/// Fails for what is missing or damaged. Objects that are whole may still be odd, or
/// too large to be read.
fn undamaged(read: Result<(), ReadFailed>) -> Result<(), Damage> {
    match read {
        Ok(()) | Err(ReadFailed::Odd(_) | ReadFailed::Exceeds(_)) => Ok(()),
        Err(ReadFailed::Missing(what) | ReadFailed::Damaged(what)) => Err(Damage(what)),
    }
}

/// Notes that files of more than so many bytes may be missing from now on.
pub(super) fn leaves_out(repository: &gix::Repository, largest: u64) -> io::Result<()> {
    std::fs::write(repository.git_dir().join(LEFT_OUT), format!("{largest}\n"))
}

/// The bytes that files of a clone have at most, if larger ones may be missing.
pub(super) fn left_out(dir: &Path) -> Option<u64> {
    std::fs::read_to_string(dir.join(LEFT_OUT)).ok()?.trim_end().parse().ok()
}

/// Deletes the refs below `prefix` that `doomed` names (by what follows the
/// prefix).
pub(super) fn delete_refs(
    repository: &gix::Repository,
    prefix: &str,
    doomed: impl Fn(&str) -> bool,
) -> gix::Result<()> {
    let platform = repository.references()?;
    let found: Vec<_> = platform.prefixed(prefix)?.collect();
    for reference in found {
        // A reference that cannot be read is an error here, and damage.
        let reference = reference.map_err(|e| gix::Error::from_error(io::Error::other(e)))?;
        let name = reference.name().as_bstr().to_str_lossy().into_owned();
        if name.strip_prefix(prefix).is_some_and(&doomed) {
            reference.delete()?;
        }
    }
    Ok(())
}

fn options(limits: Limits) -> gix::open::Options {
    gix::open::Options::isolated()
        .open_path_as_is(true)
        .with(gix::sec::Trust::Full)
        .config_overrides([
            "core.logAllRefUpdates=false".to_owned(),
            format!("gitoxide.objects.allocLimit={}", limits.object()),
        ])
}

/// Every commit that a ref names.
pub(super) fn heads(repository: &gix::Repository) -> Result<Vec<gix::ObjectId>, Damage> {
    let broken = |e: &dyn std::fmt::Display| Damage::new("its refs cannot be read", e);
    let references = repository.references().map_err(|e| broken(&e))?;
    let mut heads = Vec::new();
    for reference in references.all().map_err(|e| broken(&e))? {
        let reference = reference.map_err(|e| broken(&e))?;
        heads.extend(reference.try_id().map(gix::Id::detach));
    }
    Ok(heads)
}

/// Reads a pack, checks it, completes what it lacks from the objects that are here, and
/// puts it with its index into the clone.
pub(super) fn write_pack(
    repository: &gix::Repository,
    limits: Limits,
    pack: &mut dyn io::BufRead,
    progress: &mut dyn gix::progress::DynNestedProgress,
    interrupt: &AtomicBool,
) -> gix::Result<pack::bundle::write::Outcome> {
    pack::Bundle::write_to_directory(
        pack,
        Some(&repository.git_dir().join("objects/pack")),
        progress,
        interrupt,
        Some(repository.objects.clone()),
        gix::hash::Kind::Sha1,
        pack::bundle::write::Options {
            thread_limit: Some(1),
            iteration_mode: input::Mode::Verify,
            alloc_limit_bytes: usize::try_from(limits.object()).ok(),
            ..Default::default()
        },
    )
}

/// The packs of a clone.
pub(super) fn packs(dir: &Path) -> Result<Vec<PathBuf>, Damage> {
    let dir = dir.join("objects/pack");
    let broken = |e: &dyn std::fmt::Display| Damage::new("its packs cannot be listed", e);
    let mut packs = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|e| broken(&e))? {
        let path = entry.map_err(|e| broken(&e))?.path();
        if path.extension().is_some_and(|e| e == "pack") {
            packs.push(path);
        }
    }
    Ok(packs)
}

/// An index ends with the checksum of its pack, then its own; a pack with its
/// own (gitformat-pack). A file that was cut off does not.
fn trailers_agree(pack: &Path) -> Result<(), Damage> {
    let tail = |path: &Path, from_end: u64| -> io::Result<[u8; 20]> {
        let mut file = std::fs::File::open(path)?;
        let start =
            file.metadata()?.len().checked_sub(from_end).ok_or(io::ErrorKind::UnexpectedEof)?;
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = [0; 20];
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    };
    let name = pack.file_name().unwrap_or_default().to_string_lossy();
    let index = pack.with_extension("idx");
    let agree = tail(pack, 20).and_then(|own| Ok(own == tail(&index, 40)?));
    match agree {
        Ok(true) => Ok(()),
        Ok(false) => Err(Damage(format!("{name} is truncated"))),
        Err(e) => Err(Damage::new(&name, &e)),
    }
}

/// Packs and indices end with the SHA-1 of all that is before it.
fn checksum_is_right(path: &Path) -> Result<(), Damage> {
    let read = || -> io::Result<bool> {
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len().checked_sub(20).ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut hasher = gix::hash::hasher(gix::hash::Kind::Sha1);
        let mut content = io::BufReader::with_capacity(64 << 10, &mut file).take(length);
        let mut buffer = [0; 32 << 10];
        loop {
            match content.read(&mut buffer)? {
                0 => break,
                n => hasher.update(&buffer[..n]),
            }
        }
        let found = hasher.try_finalize().map_err(io::Error::other)?;
        file.seek(SeekFrom::Start(length))?;
        let mut expected = [0; 20];
        file.read_exact(&mut expected)?;
        Ok(found.as_bytes() == expected)
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match read() {
        Ok(true) => Ok(()),
        Ok(false) => Err(Damage(format!("{name} is corrupted"))),
        Err(e) => Err(Damage::new(&name, &e)),
    }
}

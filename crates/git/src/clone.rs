//! Keeps the one clone that all remotes share: whole, swept, and replaced
//! when it is damaged.
//!
//! One at a time: a lock file beside the clone is held throughout. A new clone
//! is made beside the old one and renamed into its place when complete, so
//! there is never half a clone where one is looked for.

use std::fs::{File, OpenOptions};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::child::{FetchError, Reply, Request};
use super::combine;
use super::failure::PollError;
use super::fetch::fetch;
use super::history::{self, ReadFailed, Reader};
use super::repository::{self, CloneState, Damage, Related};
use super::submodules;

/// Most packs of a clone. Every fetch adds one. They are combined long before; where
/// that does not work, the clone is made anew.
const MAX_PACKS: usize = 64;
/// Longest wait for the lock: its holder ends with its parent; this is for the moment between.
const LOCK_WAIT: Duration = Duration::from_secs(10);
const KEEP: &str = "refs/fort/keep/";

/// Carries out a request, in this process.
pub(super) fn update(request: &Request) -> Result<Reply, FetchError> {
    let clone = &request.clone;
    let _lock = lock(clone)?;
    sweep(clone)?;
    let state = repository::inspect(clone, request.limits);
    let existed = !matches!(state, CloneState::Absent);
    let why_anew = match state {
        _ if request.reclone => "asked for".to_owned(),
        CloneState::Absent if request.branches.is_empty() => {
            return Err(FetchError::Damaged("there is no clone yet".into()));
        }
        CloneState::Absent => String::new(),
        CloneState::Damaged(damage) => damage.0,
        CloneState::Sound { packs, .. } if packs > MAX_PACKS && !request.branches.is_empty() => {
            format!("it has {packs} packs")
        }
        CloneState::Sound { .. } if lacks_files(request) && !request.branches.is_empty() => {
            "files were left out of it that are not too large any more".into()
        }
        CloneState::Sound { repository, .. } => {
            match guarded(|| bring(&repository, request)) {
                Ok(reply) => return Ok(combined(&repository, request, reply)),
                // The remote's doing, the clone's, or ours? Look, don't guess.
                Err(error) if error.may_be_damage() => match guarded_verify(request) {
                    Ok(()) if !matches!(error, FetchError::Damaged(_)) => return Err(error),
                    Ok(()) => error.to_string(),
                    Err(damage) => damage.0,
                },
                Err(error) => return Err(error),
            }
        }
    };
    if request.branches.is_empty() {
        return Err(FetchError::Damaged(why_anew));
    }
    let mut reply = anew(request)?;
    if existed {
        reply.recloned = true;
        reply.note = Some(format!("the clone was made anew: {why_anew}"));
    }
    Ok(reply)
}

/// Whether files are missing that would be fetched today.
fn lacks_files(request: &Request) -> bool {
    repository::left_out(&request.clone).is_some_and(|least| least < request.limits.object())
}

/// Combines small packs, if there are many. What was fetched is there whatever comes
/// of it.
fn combined(repository: &gix::Repository, request: &Request, reply: Reply) -> Reply {
    let done = guarded(|| {
        let packs = repository::packs(&request.clone).map_err(|d| FetchError::Damaged(d.0))?;
        if request.branches.is_empty() || packs.len() <= combine::AT {
            return Ok(());
        }
        combine::combine(repository, packs, request.limits)
            .map_err(|error| local("cannot combine packs", &error))
    });
    match done {
        Ok(()) => reply,
        Err(error) => Reply { note: reply.note.or_else(|| Some(error.to_string())), ..reply },
    }
}

/// Fetches, keeps and compares in a repository that is there.
fn bring(repository: &gix::Repository, request: &Request) -> Result<Reply, FetchError> {
    let heads = match request.branches.is_empty() {
        true => Default::default(),
        false => fetch(repository, &request.remote, &request.branches, request.limits)?,
    };
    keep(repository, request).map_err(|e| local("cannot write refs", &e))?;
    let reader = Reader { repository, limits: request.limits };
    if request.submodules {
        submodules::fetch(reader, &request.remote, heads.values().map(|it| history::id(*it)))?;
    }
    let compared = request.compare.iter().map(|&(older, newer)| {
        let relation = reader.relation(older, newer)?;
        Ok(Related { older, newer, relation })
    });
    let relations = compared.collect::<Result<_, ReadFailed>>()?;
    Ok(Reply { heads, relations, recloned: false, note: None })
}

/// Writes refs that keep commits alive through a force-push; the others are deleted.
fn keep(repository: &gix::Repository, request: &Request) -> gix::Result<()> {
    let hexes: Vec<_> = request.keep.iter().map(ToString::to_string).collect();
    repository::delete_refs(repository, KEEP, |hex| !hexes.iter().any(|kept| kept == hex))?;
    for &commit in &request.keep {
        let id = history::id(commit);
        if repository.has_object(id) {
            let any = gix::refs::transaction::PreviousValue::Any;
            repository.reference(format!("{KEEP}{commit}"), id, any, "")?;
        }
    }
    Ok(())
}

fn anew(request: &Request) -> Result<Reply, FetchError> {
    let clone = &request.clone;
    let new = beside(clone, &format!(".new-{}", std::process::id()));
    let made = guarded(|| {
        if let Some(parent) = clone.parent() {
            std::fs::create_dir_all(parent).map_err(|e| local("cannot make a directory", &e))?;
        }
        let repository = repository::create(&new, request.limits)
            .map_err(|e| local("cannot make a repository", &e))?;
        bring(&repository, request)
    });
    let moved = made.and_then(|reply| {
        let old = beside(clone, &format!(".old-{}", std::process::id()));
        match std::fs::rename(clone, &old) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(local("cannot rename", &e));
            }
            _ => {}
        }
        std::fs::rename(&new, clone).map_err(|e| local("cannot rename", &e))?;
        remove(&old);
        Ok(reply)
    });
    moved.inspect_err(|_| remove(&new))
}

/// A panic over what a damaged file contains is damage, not the end.
fn guarded<T>(work: impl FnOnce() -> Result<T, FetchError>) -> Result<T, FetchError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(FetchError::Remote(PollError::Protocol("reading objects panicked".into())))
    })
}

fn guarded_verify(request: &Request) -> Result<(), Damage> {
    catch_unwind(AssertUnwindSafe(|| repository::verify(&request.clone, request.limits)))
        .unwrap_or_else(|_| Err(Damage("reading it panics".into())))
}

fn lock(clone: &Path) -> Result<File, FetchError> {
    let path = beside(clone, ".lock");
    if let Some(parent) = clone.parent() {
        std::fs::create_dir_all(parent).map_err(|e| local("cannot make a directory", &e))?;
    }
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|e| local("cannot open the lock", &e))?;
    let until = Instant::now() + LOCK_WAIT;
    while let Err(error) = file.try_lock() {
        match error {
            std::fs::TryLockError::WouldBlock if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(20));
            }
            std::fs::TryLockError::WouldBlock => return Err(FetchError::Busy),
            std::fs::TryLockError::Error(e) => return Err(local("cannot lock", &e)),
        }
    }
    Ok(file)
}

/// Removes what a run that was killed left: half-made clones, temporary packs,
/// packs without an index, locks on refs. Whoever holds the lock owns these.
fn sweep(clone: &Path) -> Result<(), FetchError> {
    let name = clone.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for path in entries(clone.parent().unwrap_or(Path::new("."))) {
        let found = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let rest = found.strip_prefix(&name).unwrap_or_default();
        if rest.starts_with(".new-") || rest.starts_with(".old-") {
            remove(&path);
        }
    }
    for path in entries(&clone.join("objects/pack")) {
        let has = |extension| path.with_extension(extension).is_file();
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        let good = matches!(extension, "pack" | "idx") && has("pack") && has("idx");
        if !good {
            remove(&path);
        }
    }
    let mut directories = vec![clone.join("refs")];
    for path in entries(clone) {
        remove_lock(&path);
    }
    while let Some(directory) = directories.pop() {
        for path in entries(&directory) {
            match path.is_dir() && !path.is_symlink() {
                true => directories.push(path),
                false => remove_lock(&path),
            }
        }
    }
    Ok(())
}

fn remove_lock(path: &Path) {
    if path.extension().is_some_and(|e| e == "lock") {
        remove(path);
    }
}

/// Lists a directory. One that cannot be listed holds nothing to sweep; the clone is
/// judged later.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(directory).into_iter().flatten();
    listed.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// Removes a file or directory. One that cannot be removed now is swept the next time.
fn remove(path: &Path) {
    let _ = match path.is_dir() && !path.is_symlink() {
        true => std::fs::remove_dir_all(path),
        false => std::fs::remove_file(path),
    };
}

fn beside(clone: &Path, suffix: &str) -> PathBuf {
    let mut name = clone.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    clone.with_file_name(name)
}

pub(super) fn local(what: &str, error: &(dyn std::error::Error + 'static)) -> FetchError {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    let full = fort_sys::error_chain::chain(error)
        .filter_map(|e| e.downcast_ref::<io::Error>())
        .any(|e| matches!(e.kind(), StorageFull | QuotaExceeded));
    if full {
        return FetchError::DiskFull;
    }
    FetchError::Local(fort_core::plain::one_line(&format!("{what}: {error}")))
}

//! Packs store paths (Nix's archive format, NAR) as they are sent: read from
//! the file system, hashed on the way, and compared with what the store says
//! of them before the last byte is let go.
//!
//! A path that was damaged on disk, or collected meanwhile, thus never arrives
//! whole anywhere. Memory is flat whatever its size.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use ring::digest;
use tokio::sync::mpsc;

use crate::store::{NarHash, PathInfo, Store, StoreFailed};
use fort_core::types::StorePath;

/// Size of the pieces that are read, hashed and sent at once, in bytes.
const CHUNK: usize = 128 << 10;
/// Chunks that are ready before they are wanted.
const AHEAD: usize = 2;
/// A symlink's target (4,095 bytes) and a name (255), with what is around
/// them: no part of an archive but a file's contents is larger.
const LARGEST_PART: usize = 8 << 10;

/// Why a path could not be packed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NarFailed {
    /// The path is not there, or cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// The path's contents differ from those that the store registered. `nix-store
    /// --repair-path` may get them back.
    #[error(
        "it is damaged on disk: its contents are not those that the store registered (try nix-store --repair-path)"
    )]
    Damaged,
}

/// A path as it is packed, chunk by chunk.
pub struct Packed {
    chunks: mpsc::Receiver<Bytes>,
    size: u64,
}

/// Tells afterwards why a path did not arrive whole, if that was its own fault.
#[derive(Clone, Default)]
pub struct Fault(Arc<Mutex<Option<NarFailed>>>);

impl Fault {
    /// Returns why the path did not arrive whole; `None` if the path was not at fault.
    pub fn get(&self) -> Option<NarFailed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, failed: NarFailed) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(failed);
    }
}

impl Packed {
    /// Length of the archive in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The next chunk; none at the end, and after a [`Fault`].
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.chunks.poll_recv(cx)
    }
}

/// Packs what is at `place`, which must be what `info` says. Needs a tokio
/// runtime: it reads in a thread of its own, which ends with what is returned.
/// `taken` is told of each chunk that is let go, in bytes.
pub fn pack(
    place: PathBuf,
    info: &PathInfo,
    taken: impl Fn(u64) + Send + 'static,
) -> (Packed, Fault) {
    let (sender, packed, fault) = channel(info);
    let (checking, told) = (Checking::of(info), fault.clone());
    // Whoever sees the end of it must see why.
    let open = sender.clone();
    tokio::task::spawn_blocking(move || {
        let archive = nix_nar::Encoder::builder(&place).internal_buffer_size(LARGEST_PART).build();
        let archive = archive.map_err(|error| NarFailed::Unreadable(error.to_string()));
        let send = |chunk: Bytes| {
            let length = chunk.len() as u64;
            let wanted = sender.blocking_send(chunk).is_ok();
            if wanted {
                taken(length);
            }
            wanted
        };
        if let Err(failed) = archive.and_then(|archive| send_all(archive, checking, send)) {
            told.set(failed);
        }
        drop(open);
    });
    (packed, fault)
}

/// Has the store's daemon pack a path: slower, but it knows file names that are
/// no UTF-8, and may read what this process may not.
pub fn packed_by(
    store: Store,
    path: &StorePath,
    info: &PathInfo,
    taken: impl Fn(u64) + Send + 'static,
) -> (Packed, Fault) {
    let (sender, packed, fault) = channel(info);
    let (mut checking, told) = (Checking::of(info), fault.clone());
    let (path, size) = (path.clone(), info.nar_size);
    let open = sender.clone();
    let work = async move {
        let unreadable = |error: StoreFailed| NarFailed::Unreadable(error.to_string());
        let mut archive = store.nar(&path, size).await.map_err(unreadable)?;
        loop {
            let mut chunk = vec![0; CHUNK];
            let read = archive.read(&mut chunk).await.map_err(unreadable)?;
            chunk.truncate(read);
            let ready = if read == 0 { checking.end()? } else { checking.next(chunk)? };
            if let Some(ready) = ready {
                let length = ready.len() as u64;
                if sender.send(ready).await.is_err() {
                    return Ok(());
                }
                taken(length);
            }
            if read == 0 {
                return Ok(());
            }
        }
    };
    tokio::spawn(async move {
        if let Err(failed) = work.await {
            told.set(failed);
        }
        drop(open);
    });
    (packed, fault)
}

fn channel(info: &PathInfo) -> (mpsc::Sender<Bytes>, Packed, Fault) {
    let (sender, chunks) = mpsc::channel(AHEAD);
    (sender, Packed { chunks, size: info.nar_size }, Fault::default())
}

/// Compares what passes with what the store registered, and holds the last
/// chunk back until all of it is right.
struct Checking {
    hashing: digest::Context,
    hash: NarHash,
    left: u64,
    held: Option<Bytes>,
}

impl Checking {
    fn of(info: &PathInfo) -> Self {
        let hashing = digest::Context::new(&digest::SHA256);
        Self { hashing, hash: info.nar_hash, left: info.nar_size, held: None }
    }

    /// Takes the next chunk, and lets the one before it go.
    fn next(&mut self, chunk: Vec<u8>) -> Result<Option<Bytes>, NarFailed> {
        self.left = self.left.checked_sub(chunk.len() as u64).ok_or(NarFailed::Damaged)?;
        self.hashing.update(&chunk);
        Ok(self.held.replace(Bytes::from(chunk)))
    }

    /// Lets the last one go.
    fn end(&mut self) -> Result<Option<Bytes>, NarFailed> {
        let right =
            self.left == 0 && self.hashing.clone().finish().as_ref() == self.hash.as_bytes();
        if right { Ok(self.held.take()) } else { Err(NarFailed::Damaged) }
    }
}

/// Sends an archive in chunks. Ends early, and well, when nobody takes them any
/// more.
fn send_all(
    mut archive: impl Read,
    mut checking: Checking,
    send: impl Fn(Bytes) -> bool,
) -> Result<(), NarFailed> {
    loop {
        let chunk =
            next_chunk(&mut archive).map_err(|error| NarFailed::Unreadable(error.to_string()))?;
        let is_end = chunk.is_empty();
        let ready = if is_end { checking.end()? } else { checking.next(chunk)? };
        if ready.is_some_and(|ready| !send(ready)) || is_end {
            return Ok(());
        }
    }
}

/// A chunk that is full but for the largest part: the encoder gives small
/// parts whole or, with little room, fails. Empty at the end.
fn next_chunk(archive: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut chunk = vec![0; CHUNK];
    let mut filled = 0;
    while chunk.len() - filled >= LARGEST_PART {
        match archive.read(&mut chunk[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    chunk.truncate(filled);
    Ok(chunk)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    fn sha256(bytes: &[u8]) -> NarHash {
        let digest = digest::digest(&digest::SHA256, bytes);
        let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        NarHash::from_hex(&hex).unwrap()
    }

    fn checking(hash: NarHash, left: u64) -> Checking {
        let hashing = digest::Context::new(&digest::SHA256);
        Checking { hashing, hash, left, held: None }
    }

    fn sent(bytes: &[u8], hash: NarHash, size: u64) -> (Vec<u8>, Result<(), NarFailed>) {
        let sent = RefCell::new(Vec::new());
        let send = |chunk: Bytes| {
            sent.borrow_mut().extend(chunk);
            true
        };
        let result = send_all(bytes, checking(hash, size), send);
        (sent.into_inner(), result)
    }

    #[test]
    fn the_last_chunk_is_let_go_only_if_all_is_right() {
        for length in [1, CHUNK - LARGEST_PART, CHUNK, 3 * CHUNK + 1] {
            let bytes: Vec<u8> = (0..length).map(|at| at.to_le_bytes()[0]).collect();
            let (hash, size) = (sha256(&bytes), bytes.len() as u64);
            assert_eq!(sent(&bytes, hash, size), (bytes.clone(), Ok(())));
            for (hash, size) in [(sha256(b"x"), size), (hash, size + 1), (hash, size - 1)] {
                let (sent, result) = sent(&bytes, hash, size);
                assert_eq!(result, Err(NarFailed::Damaged));
                assert!(sent.len() < bytes.len(), "{length}");
            }
        }
    }

    #[test]
    fn nobody_who_listens_is_no_fault() {
        let checking = checking(sha256(b""), 3 * CHUNK as u64);
        assert_eq!(send_all(&[7_u8; 3 * CHUNK][..], checking, |_| false), Ok(()));
    }
}

//! Combines the small packs of a clone into one: every fetch adds one, and with many of
//! them reading becomes slow.
//!
//! Entries are copied as they are. A delta names its base by the distance to it, or by
//! its id, and every pack here is complete by itself; so packs one after the other are a
//! pack again (gitformat-pack). Objects that are in several stay so. The result is read
//! and checked as one that was fetched, and made durable before the others go.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use gix::progress::Discard;

use super::limits::Limits;
use super::repository;

/// Number of packs that are left as they are.
pub(super) const AT: usize = 32;
/// Number of packs that are combined at least. More, as long as one is no larger than
/// all before it: so nothing is copied more often than its size doubles.
const LEAST: usize = AT / 2;
/// Bytes of the signature, the version and the number of entries.
const HEADER: usize = 12;
/// Bytes of the SHA-1 of all that is before it.
const TRAILER: u64 = 20;

/// Combines as many of these packs as it should.
pub(super) fn combine(
    repository: &gix::Repository,
    packs: Vec<PathBuf>,
    limits: Limits,
) -> io::Result<()> {
    let chosen = chosen(sizes(packs)?, limits.memory / 4);
    if chosen.len() < 2 {
        return Ok(());
    }
    let mut source = BufReader::with_capacity(64 << 10, Combined::open(&chosen)?);
    let expected = source.get_ref().entries;
    let directory = repository.git_dir().join("objects/pack");
    let uninterrupted = AtomicBool::new(false);
    let written =
        repository::write_pack(repository, limits, &mut source, &mut Discard, &uninterrupted)
            .map_err(io::Error::other)?;
    if written.index.num_objects < expected {
        return Err(io::Error::other("it lacks objects"));
    }
    for path in [&written.data_path, &written.index_path].into_iter().flatten() {
        File::open(path)?.sync_all()?;
    }
    File::open(&directory)?.sync_all()?;
    if let Some(keep) = &written.keep_path {
        std::fs::remove_file(keep)?;
    }
    for old in chosen.iter().filter(|old| Some(*old) != written.data_path.as_ref()) {
        // Without its index nobody opens it; and what is left is swept.
        std::fs::remove_file(old.with_extension("idx"))?;
        std::fs::remove_file(old)?;
    }
    Ok(())
}

fn sizes(packs: Vec<PathBuf>) -> io::Result<Vec<(u64, PathBuf)>> {
    packs.into_iter().map(|pack| Ok((pack.metadata()?.len(), pack))).collect()
}

/// Returns the smallest packs, up to `most` bytes in all.
fn chosen(mut packs: Vec<(u64, PathBuf)>, most: u64) -> Vec<PathBuf> {
    packs.sort();
    let mut sum = 0;
    let fits = |(nth, (size, _)): &(usize, (u64, PathBuf))| {
        let small = *nth < LEAST || *size <= sum;
        sum += size;
        small && sum <= most
    };
    packs.into_iter().enumerate().take_while(fits).map(|(_, (_, pack))| pack).collect()
}

/// Packs one after the other, read as one.
struct Combined {
    /// Number of objects in all of the packs.
    entries: u32,
    header: io::Cursor<Vec<u8>>,
    /// The entries of each, the next one last.
    bodies: Vec<io::Take<File>>,
    hasher: gix::hash::Hasher,
    trailer: Option<io::Cursor<Vec<u8>>>,
}

impl Combined {
    fn open(packs: &[PathBuf]) -> io::Result<Self> {
        let mut entries = 0_u32;
        let mut bodies = Vec::with_capacity(packs.len());
        for pack in packs.iter().rev() {
            let (number, body) = open(pack)?;
            entries = entries.checked_add(number).ok_or(io::ErrorKind::FileTooLarge)?;
            bodies.push(body);
        }
        let version = 2_u32.to_be_bytes();
        let header = [*b"PACK", version, entries.to_be_bytes()].concat();
        Ok(Self {
            entries,
            header: io::Cursor::new(header),
            bodies,
            hasher: gix::hash::hasher(gix::hash::Kind::Sha1),
            trailer: None,
        })
    }

    fn read_entries(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.header.read(buffer)?;
        if read > 0 {
            return Ok(read);
        }
        while let Some(body) = self.bodies.last_mut() {
            match body.read(buffer)? {
                // The file has become shorter since.
                0 if body.limit() > 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                0 => drop(self.bodies.pop()),
                read => return Ok(read),
            }
        }
        Ok(0)
    }
}

impl Read for Combined {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if let Some(trailer) = &mut self.trailer {
            return trailer.read(buffer);
        }
        let read = self.read_entries(buffer)?;
        if read > 0 {
            self.hasher.update(&buffer[..read]);
            return Ok(read);
        }
        let hasher = gix::hash::hasher(gix::hash::Kind::Sha1);
        let hasher = std::mem::replace(&mut self.hasher, hasher);
        let sum = hasher.try_finalize().map_err(io::Error::other)?;
        self.trailer.insert(io::Cursor::new(sum.as_bytes().to_vec())).read(buffer)
    }
}

/// How many entries a pack has, and those.
fn open(path: &Path) -> io::Result<(u32, io::Take<File>)> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut header = [0; HEADER];
    file.read_exact(&mut header)?;
    let [b'P', b'A', b'C', b'K', 0, 0, 0, 2 | 3, number @ ..] = header else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    file.seek(SeekFrom::Start(HEADER as u64))?;
    let body = length.checked_sub(HEADER as u64 + TRAILER).ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok((u32::from_be_bytes(number), file.take(body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(sizes: impl IntoIterator<Item = u64>, most: u64) -> usize {
        let packs = sizes.into_iter().enumerate();
        chosen(packs.map(|(nth, size)| (size, format!("{nth}").into())).collect(), most).len()
    }

    #[test]
    fn the_smallest_are_combined_and_large_ones_left_alone() {
        assert_eq!(picked((0..33).map(|_| 10), 10_000), 33);
        // The sixteen, and whatever is no larger than all before it.
        assert_eq!(picked((0..16).map(|_| 10).chain([160, 330]), 10_000), 17);
        assert_eq!(picked((0..16).map(|_| 10).chain([161]), 10_000), 16);
        assert_eq!(picked((0..33).map(|_| 10), 45), 4);
        assert_eq!(picked([1000, 2000], 100), 0);
    }
}

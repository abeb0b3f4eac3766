//! How much room a file system has, and how much of it is to stay free.

use std::io;
use std::path::Path;

/// Most that is kept free, in bytes: the need of builds is not known before, but of a
/// system it is mostly configuration, some MiB; and a file system that is full to the
/// last block stops the services that write to it, and what Nix itself has to write down.
/// A share of the disk alone would keep 50 GB of a terabyte free, and refuse a host that
/// is well.
const RESERVE: u64 = 512 << 20;
/// Largest part of a disk that is kept free, as a divisor of its size: small disks stay usable.
const RESERVE_PART: u64 = 20;

/// Room that a file system has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that can be used.
    pub free: u64,
    /// Size of the file system, in bytes.
    pub size: u64,
    /// Size that files are rounded up to, in bytes.
    pub block: u64,
}

impl Space {
    /// Returns the room of the file system that a path is on. The path must exist.
    pub fn at(path: &Path) -> io::Result<Self> {
        let space = rustix::fs::statvfs(path)?;
        // What is reserved for root stays so: the daemon's builders are not.
        let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
        let (free, size) = (bytes(space.f_bavail), bytes(space.f_blocks));
        Ok(Self { free, size, block: space.f_frsize.max(1) })
    }

    /// Returns the bytes that are to stay free.
    pub fn reserve(self) -> u64 {
        RESERVE.min(self.size / RESERVE_PART)
    }
}

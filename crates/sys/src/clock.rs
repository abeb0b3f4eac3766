//! The clocks, and which boot this is.

use std::io::ErrorKind;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::sight::{Unreadable, at};
use fort_core::types::{BootId, Mono, Now, Wall};

/// Reads the wall clock and the monotonic clock.
pub fn now() -> Now {
    Now { wall: wall(), mono: mono() }
}

/// Returns the time since the boot, suspended time included; the same for every process.
pub fn mono() -> Mono {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Mono::from_millis(seconds * 1000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000)
}

/// Returns the clock that systemd dates its units by, in microseconds: as [`mono`], but
/// suspended time is not in it.
pub fn monotonic_micros() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0) / 1000
}

fn wall() -> Wall {
    let millis = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        // Before 1970: a host without a clock.
        Err(_) => 0,
    };
    Wall::from_millis(millis)
}

/// Reads the id of this boot: the kernel's, or that of a host that lives below `root` and
/// has a `/proc` of its own.
pub fn boot_id(root: &Path) -> Result<BootId, Unreadable> {
    let below = root.join("proc/sys/kernel/random/boot_id");
    match std::fs::read_to_string(&below) {
        Ok(text) => Ok(BootId(text.trim().into())),
        // Only then: the kernel's would be that of another boot.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let own = Path::new("/proc/sys/kernel/random/boot_id");
            let text = std::fs::read_to_string(own).map_err(at(own))?;
            Ok(BootId(text.trim().into()))
        }
        Err(error) => Err(at(below)(error)),
    }
}

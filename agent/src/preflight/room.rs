//! Whether what is to be fetched and built fits the store.

use std::path::Path;

use anyhow::Context as _;
use fort_sys::disk::Space;

use super::evidence;
use crate::core::bytes::bytes;
use crate::core::job::{Refusal, RefusalCause};
use crate::nix::{Progress, StoreRoot};

/// Amount that is to be fetched and built.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Need {
    /// Bytes to be fetched, unpacked.
    pub fetch: u64,
    /// Whether something is to be built or fetched at all.
    pub work: bool,
}

/// Makes a refusal for want of room in a directory, `detail` saying how much.
pub fn no_room(directory: &Path, free: u64, keep: u64, detail: String) -> Refusal {
    Refusal {
        cause: RefusalCause::DiskSpace,
        detail,
        evidence: evidence([
            ("directory", directory.display().to_string()),
            ("free", free.to_string()),
            ("reserve", keep.to_string()),
        ]),
    }
}

/// Whether there is room on the store's file system.
///
/// Sizes are those of files as they are: a file system that compresses may have
/// room for more than this says. Neither inodes nor what a collection of
/// garbage would free are counted.
pub fn room(store: &StoreRoot, need: Need) -> anyhow::Result<Result<(), Refusal>> {
    if !need.work {
        return Ok(Ok(()));
    }
    // Before the first path there may be no store yet.
    let directory = store.directory();
    let existing = directory.ancestors().find(|directory| directory.is_dir()).unwrap_or(directory);
    let space = Space::at(existing)
        .with_context(|| format!("cannot look for room at {}", existing.display()))?;
    Ok(judge(directory, need, space))
}

fn judge(directory: &Path, need: Need, space: Space) -> Result<(), Refusal> {
    let reserve = space.reserve();
    if space.free >= need.fetch.saturating_add(reserve) {
        return Ok(());
    }
    let what = match need.fetch {
        0 => "something is to be built".to_owned(),
        fetch => format!("{} are to be fetched", bytes(fetch)),
    };
    Err(Refusal {
        cause: RefusalCause::DiskSpace,
        detail: format!(
            "{} has {} free; {what}, and {} are to stay free",
            directory.display(),
            bytes(space.free),
            bytes(reserve)
        ),
        evidence: evidence([
            ("directory", directory.display().to_string()),
            ("free", space.free.to_string()),
            ("fetch", need.fetch.to_string()),
            ("reserve", reserve.to_string()),
        ]),
    })
}

impl Need {
    /// Returns what Nix has still to do, as far as it has announced that.
    pub fn of_progress(progress: &Progress) -> Self {
        let fetch = progress.bytes_expected.saturating_sub(progress.bytes_done);
        // What was asked for is counted as to be built even where it is there
        // already. It is not, if anything else is, or anything is being done.
        let to_build = progress.to_build.saturating_sub(progress.built);
        let work = to_build > 1 || to_build == 1 && progress.current.is_some();
        Self { fetch, work: work || fetch > 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    fn fits(free: u64, size: u64, fetch: u64) -> bool {
        let space = Space { free, size, block: 4096 };
        judge(Path::new("/nix/store"), Need { fetch, work: true }, space).is_ok()
    }

    #[test]
    fn what_is_kept_free_is_a_part_of_small_disks_and_bounded_on_large_ones() {
        assert!(fits(512 * MIB, 1000 * GIB, 0) && !fits(512 * MIB - 1, 1000 * GIB, 0));
        assert!(fits(512 * MIB + 7, 1000 * GIB, 7) && !fits(512 * MIB + 6, 1000 * GIB, 7));
        assert!(fits(MIB, 20 * MIB, 0) && !fits(MIB, 20 * MIB, 1));
        assert!(!fits(1000 * GIB, 1000 * GIB, u64::MAX));
    }

    #[test]
    fn a_refusal_has_the_figures() {
        let space = Space { free: 12 * MIB, size: 16 * MIB, block: 4096 };
        let need = Need { fetch: 3 * GIB, work: true };
        let refusal = judge(Path::new("/nix/store"), need, space).unwrap_err();
        assert_eq!(
            refusal.detail,
            "/nix/store has 12.0 MiB free; 3.0 GiB are to be fetched, and 819.2 KiB are to stay free"
        );
        assert_eq!(refusal.evidence["free"], (12 * MIB).to_string());
    }

    #[test]
    fn nothing_to_do_is_told_from_something() {
        let need = |to_build, built, current: Option<&str>, bytes_expected, bytes_done| {
            let current = current.map(str::to_owned);
            let all = Progress::default();
            let progress = Progress { to_build, built, current, bytes_expected, bytes_done, ..all };
            Need::of_progress(&progress)
        };
        let nothing = Need { fetch: 0, work: false };
        assert_eq!(need(0, 0, None, 0, 0), nothing);
        // A tree that the evaluation itself fetches.
        assert_eq!(need(0, 0, Some("tree"), 0, 0), nothing);
        assert_eq!(need(1, 0, None, 0, 0), nothing);
        assert_eq!(need(7, 6, None, 0, 0), nothing);
        assert!(need(1, 0, Some("system"), 0, 0).work && need(2, 0, None, 0, 0).work);
        assert_eq!(need(1, 0, None, 70, 20), Need { fetch: 50, work: true });
    }
}

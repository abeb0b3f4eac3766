//! Whether a kernel and an initrd fit where the boot loader reads them.
//!
//! What boot loaders copy there, and under which names, is that of NixOS's own
//! scripts: systemd-boot-builder.py, install-grub.pl and
//! extlinux-conf-builder.sh.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{Candidate, evidence};
use crate::boot_loader::generation_of;
use crate::core::bytes::bytes;
use crate::core::job::{Refusal, RefusalCause};
use crate::core::types::StorePath;
use crate::nix::StoreRoot;
use fort_sys::disk::Space;

/// Mount points of the file systems that boot loaders read.
const DIRECTORIES: [&str; 3] = ["boot", "efi", "boot/efi"];
/// Directories of kernels in them: systemd-boot, GRUB, extlinux.
const KERNELS: [&str; 3] = ["EFI/nixos", "kernels", "nixos"];
/// Room for entries, menus and the like, in bytes.
const ENTRIES: u64 = 1 << 20;

/// A file that the boot loader reads.
struct Part {
    /// Physical path of the file.
    file: PathBuf,
    /// The name that boot loaders give their copy.
    name: String,
    length: u64,
}

pub(super) fn room(candidate: &Candidate<'_>) -> io::Result<Result<(), Refusal>> {
    let Some(mounted) = mounted(candidate.root)? else { return Ok(Ok(())) };
    let there: Vec<Part> = match candidate.default {
        Some(default) => parts(candidate.store, default)?,
        None => Vec::new(),
    };
    let mut needed = parts(candidate.store, candidate.system)?;
    needed.retain(|part| {
        // What boots now is there, under whichever name.
        let boots = there.iter().any(|booting| booting.file == part.file);
        !boots && !has_copy(&mounted, part)
    });
    if needed.is_empty() {
        return Ok(Ok(()));
    }
    let space = Space::at(&mounted)?;
    let lengths = needed.iter().map(|part| part.length.next_multiple_of(space.block));
    let length = lengths.sum::<u64>().saturating_add(ENTRIES);
    if space.free >= length {
        return Ok(Ok(()));
    }
    let freed = freed(candidate.root, &mounted)?;
    if space.free.saturating_add(freed) >= length {
        return Ok(Ok(()));
    }
    let names: Vec<&str> = needed.iter().map(|part| part.name.as_str()).collect();
    Ok(Err(Refusal {
        cause: RefusalCause::DiskSpace,
        detail: format!(
            "{} has {} free, and the kernel and initrd of {} take {}",
            mounted.display(),
            bytes(space.free),
            candidate.system.base_name(),
            bytes(length)
        ),
        evidence: evidence([
            ("directory", mounted.display().to_string()),
            ("free", space.free.to_string()),
            ("needed", length.to_string()),
            ("files", names.join(" ")),
        ]),
    }))
}

/// Returns the file system that the boot loader reads, where it is one of its own: of
/// several, the one with kernels in it.
fn mounted(root: &Path) -> io::Result<Option<PathBuf>> {
    let mut mounted = Vec::new();
    for directory in DIRECTORIES {
        let directory = root.join(directory);
        // Also mounts one that is mounted when it is looked at.
        match std::fs::read_dir(&directory) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        }
        if directory.metadata()?.dev() != directory.join("..").metadata()?.dev() {
            mounted.push(directory);
        }
    }
    let has_kernels =
        |directory: &&PathBuf| KERNELS.iter().any(|in_it| directory.join(in_it).is_dir());
    Ok(mounted.iter().find(has_kernels).or(mounted.first()).cloned())
}

/// Returns a system's kernel and initrd; what it does not have it does not need.
fn parts(store: &StoreRoot, system: &StorePath) -> io::Result<Vec<Part>> {
    let mut parts = Vec::new();
    for part in ["kernel", "initrd"] {
        let file = match store.resolve(&Path::new(system.as_str()).join(part)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let length = file.metadata()?.len();
        let below = file.strip_prefix(store.directory()).unwrap_or(&file);
        let name = below.to_string_lossy().trim_start_matches('/').replace('/', "-");
        parts.push(Part { file, name, length });
    }
    Ok(parts)
}

/// Whether a copy of the file is there. One that was cut short by a power cut is not.
fn has_copy(mounted: &Path, part: &Part) -> bool {
    let names = [format!("{}.efi", part.name), part.name.clone()];
    KERNELS.iter().map(|place| mounted.join(place)).any(|place| {
        // The initrd's copy may have secrets appended.
        let whole = |data: std::fs::Metadata| data.len() >= part.length;
        names.iter().any(|name| place.join(name).metadata().is_ok_and(whole))
    })
}

/// Returns the bytes that systemd-boot's builder frees before it copies anything: files
/// of no generation any more, and files that only the oldest entry needs where there are
/// fewer entries than generations, for then their number is limited. (GRUB's script
/// removes afterwards, and is believed to free nothing.)
fn freed(root: &Path, mounted: &Path) -> io::Result<u64> {
    let mut entries = BTreeMap::new();
    for (name, path) in listed(&mounted.join("loader/entries"))? {
        // nixos-generation-N.conf, or nixos-generation-N-specialisation-X.conf;
        // where boots are counted, nixos-HASH.conf, and the number is in it.
        let number = name.strip_prefix("nixos-generation-");
        let number = number.and_then(|rest| rest.split(['-', '.', '+']).next()?.parse().ok());
        let Some(number) = number.or_else(|| generation_of(&path)) else { continue };
        let text = std::fs::read_to_string(path)?;
        let files = text.lines().filter_map(|line| {
            let (key, file) = line.split_once(char::is_whitespace)?;
            let name = file.trim().rsplit('/').next()?.to_owned();
            matches!(key, "linux" | "initrd").then_some(name)
        });
        entries.entry(number).or_insert_with(BTreeSet::<String>::new).extend(files);
    }
    if entries.is_empty() {
        return Ok(0);
    }
    let generations: BTreeSet<u64> = listed(&root.join("nix/var/nix/profiles"))?
        .iter()
        .filter_map(|(name, _)| name.strip_prefix("system-")?.strip_suffix("-link")?.parse().ok())
        .collect();
    let limited = generations.len() > entries.len();
    entries.retain(|number, _| generations.contains(number));
    if limited {
        entries.pop_first();
    }
    let kept: BTreeSet<String> = entries.into_values().flatten().collect();
    let mut freed = 0_u64;
    for (name, path) in listed(&mounted.join("EFI/nixos"))? {
        if !kept.contains(&name) {
            freed = freed.saturating_add(path.symlink_metadata()?.len());
        }
    }
    Ok(freed)
}

/// Lists the entries of a directory; none if there is no such directory.
fn listed(directory: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let named = |entry: io::Result<std::fs::DirEntry>| {
        let entry = entry?;
        Ok((entry.file_name().to_string_lossy().into_owned(), entry.path()))
    };
    entries.map(named).collect()
}

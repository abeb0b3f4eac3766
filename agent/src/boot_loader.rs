//! systemd-boot's view of our systems: which it has given up, and which it is to boot once.
//!
//! Boot counting is in the names of its entries, `NAME+LEFT-DONE.conf`: none
//! left is given up, no counter is good or not counted (the Boot Loader
//! Specification, "Boot counting"). Which system an entry boots is in the file:
//! `init=` of its `options`. NixOS names entries `nixos-generation-N` or, since
//! it counts boots, `nixos-HASH`; a specialisation has an entry and an `init`
//! of its own, so it is never taken for its system.
//!
//! Other boot loaders, and systems in one EFI file each (lanzaboote), are not
//! known: nothing is given up there, and nothing can be booted once.

use std::ffi::OsStr;
use std::future::pending;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::command::{CannotStart, Command, Finished};
use crate::core::job::Generation;
use crate::core::types::StorePath;
use crate::sight::{Unreadable, at};

/// Mount points of the file systems that boot loaders read.
const BOOT_DIRECTORIES: [&str; 3] = ["boot", "efi", "boot/efi"];
/// More entries than this are not read.
const MOST_ENTRIES: usize = 4096;
/// EFI variable in which the boot loader that booted this host names itself.
const LOADER_INFO: &str =
    "sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// EFI variable with the entry that is booted once, as bootctl writes it.
const ONESHOT: &str =
    "sys/firmware/efi/efivars/LoaderEntryOneShot-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// Limit of bootctl, a program of systemd's, and of a file system that may have to be mounted.
const LIMIT: Duration = Duration::from_secs(30);
/// Directory of bootctl on NixOS, should the unit's PATH lack it.
const SYSTEM_PROGRAMS: &str = "/run/current-system/sw/bin";

/// Reason why a system cannot be made the one that boots once.
#[derive(Debug, thiserror::Error)]
pub enum CannotOneshot {
    /// The boot loader of this host is another one, or not to be reached.
    #[error("the boot loader is not systemd-boot, or has no bootctl")]
    NotSystemdBoot,
    /// The boot loader has no entry of that system.
    #[error("the boot loader has no entry for generation {0}")]
    NoEntry(u64),
    /// The system has an entry, which would not be booted.
    #[error("the boot loader has given up generation {0}")]
    GivenUp(u64),
    /// The boot loader would have nothing to boot after that.
    #[error("the boot loader has no entry for generation {0}, which is to stay the default")]
    NoDefault(u64),
    /// bootctl could not be started.
    #[error("bootctl cannot be run")]
    CannotStart(#[from] CannotStart),
    /// bootctl did not do it.
    #[error("bootctl set-oneshot: {0}")]
    Refused(String),
}

/// An entry of the boot loader.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    /// Name of the entry as boot loader and bootctl call it: without counters.
    id: String,
    /// Number of tries that are left; `None` where boots are not, or no longer, counted.
    left: Option<u64>,
    generation: Option<u64>,
    system: Option<StorePath>,
}

/// Whether the boot loader has tried to boot this generation as often as it
/// may, and now boots another. Fails where its entries cannot be read: what they
/// say is not known then.
pub fn given_up(root: &Path, generation: &Generation) -> Result<bool, Unreadable> {
    let entries = read_entries(root)?.into_iter();
    let mut of_it = entries.filter(|entry| entry.boots(generation)).peekable();
    Ok(of_it.peek().is_some() && of_it.all(|entry| entry.given_up()))
}

/// Returns the generation that an entry is of, by what is in it: a specialisation's is
/// its system's.
pub(crate) fn generation_of(path: &Path) -> Option<u64> {
    entry(path)?.generation
}

/// Makes a generation the one that boots next, and only then: whatever becomes
/// of it, the boot after that boots the default. Only on a host whose firmware
/// says that systemd-boot booted it, which a host below another root has not.
pub async fn set_oneshot(
    root: &Path,
    next: &Generation,
    default: &Generation,
) -> Result<(), CannotOneshot> {
    let bootctl = bootctl_of(root).await.ok_or(CannotOneshot::NotSystemdBoot)?;
    set_oneshot_by(&bootctl, root, next, default).await
}

/// Lets the boot loader boot its default again, if it was to boot this system
/// once; what a person has chosen stays.
pub async fn clear_oneshot(root: &Path, system: &StorePath) -> Result<(), CannotOneshot> {
    let Some(chosen) = oneshot(root) else { return Ok(()) };
    let of_it = |entry: &Entry| entry.id == chosen && entry.system.as_ref() == Some(system);
    if !entries(root).iter().any(of_it) {
        return Ok(());
    }
    let bootctl = bootctl_of(root).await.ok_or(CannotOneshot::NotSystemdBoot)?;
    tell(&bootctl, "").await
}

async fn bootctl_of(root: &Path) -> Option<PathBuf> {
    if !booted_by_systemd_boot(root) {
        return None;
    }
    let bootctl = bootctl()?;
    let command = Command::new(bootctl.clone()).args(["is-installed"]).time_limit(LIMIT);
    let asked = command.run(pending()).await;
    asked.is_ok_and(|finished| finished.end.success()).then_some(bootctl)
}

async fn set_oneshot_by(
    bootctl: &Path,
    root: &Path,
    next: &Generation,
    default: &Generation,
) -> Result<(), CannotOneshot> {
    let number = next.number;
    let entries = entries(root);
    // Only so many generations have entries.
    if !entries.iter().any(|entry| entry.boots(default) && !entry.given_up()) {
        return Err(CannotOneshot::NoDefault(default.number));
    }
    let of_it: Vec<_> = entries.into_iter().filter(|entry| entry.boots(next)).collect();
    let entry = of_it.iter().find(|entry| !entry.given_up());
    let entry = entry.ok_or(match of_it.is_empty() {
        true => CannotOneshot::NoEntry(number),
        false => CannotOneshot::GivenUp(number),
    })?;
    tell(bootctl, &entry.id).await
}

/// Tells bootctl which entry is to be booted once; an empty name: none.
async fn tell(bootctl: &Path, id: &str) -> Result<(), CannotOneshot> {
    let command = Command::new(bootctl).args(["set-oneshot", id]).time_limit(LIMIT);
    let Finished { end, stderr, .. } = command.run(pending()).await?;
    if end.success() {
        return Ok(());
    }
    let last = stderr.trim().lines().last().unwrap_or_default();
    let said = if last.is_empty() { end.to_string() } else { last.to_owned() };
    Err(CannotOneshot::Refused(said))
}

impl Entry {
    /// Whether the entry boots a generation: the number or the system must be told, and
    /// each that is told must fit.
    fn boots(&self, generation: &Generation) -> bool {
        let number = self.generation.map(|number| number == generation.number);
        let system = self.system.as_ref().map(|system| *system == generation.system);
        match (number, system) {
            (None, None) => false,
            (number, system) => number != Some(false) && system != Some(false),
        }
    }

    fn given_up(&self) -> bool {
        self.left == Some(0)
    }
}

/// Returns the entries that can be read: nothing is booted once by one that cannot.
fn entries(root: &Path) -> Vec<Entry> {
    let files = directories(root).filter_map(|dir| std::fs::read_dir(dir).ok()).flatten().flatten();
    files.take(MOST_ENTRIES).filter_map(|file| entry(&file.path())).collect()
}

/// Returns all entries. Fails where one cannot be read: what they say is not known then.
fn read_entries(root: &Path) -> Result<Vec<Entry>, Unreadable> {
    let absent = |error: &io::Error| {
        matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
    };
    let mut entries = Vec::new();
    for directory in directories(root) {
        let files = match std::fs::read_dir(&directory) {
            Ok(files) => files,
            Err(error) if absent(&error) => continue,
            Err(error) => return Err(at(directory)(error)),
        };
        for file in files.take(MOST_ENTRIES) {
            let path = file.map_err(at(&directory))?.path();
            if let Some(name) = entry_name(&path) {
                let text = match crate::files::read_bounded(&path) {
                    Ok(text) => text.unwrap_or_default(),
                    // Too large to be one.
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => Vec::new(),
                    Err(error) => return Err(at(path)(error)),
                };
                entries.push(parsed(&name, &text));
            }
        }
    }
    Ok(entries)
}

fn directories(root: &Path) -> impl Iterator<Item = PathBuf> {
    BOOT_DIRECTORIES.iter().map(|dir| root.join(dir).join("loader/entries"))
}

fn entry_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.strip_suffix(".conf")?.to_owned())
}

fn entry(path: &Path) -> Option<Entry> {
    let bytes = crate::files::read_bounded(path).ok().flatten().unwrap_or_default();
    Some(parsed(&entry_name(path)?, &bytes))
}

/// Parses an entry from its file's name, without `.conf`, and its text.
fn parsed(stem: &str, bytes: &[u8]) -> Entry {
    let (name, left) = match stem.rsplit_once('+') {
        Some((name, counters)) => match tries_left(counters) {
            Some(left) => (name, Some(left)),
            None => (stem, None),
        },
        None => (stem, None),
    };
    // `nixos-generation-7-specialisation-x` is no number, and has its own init.
    let numbered = name.strip_prefix("nixos-generation-").and_then(number);
    let text = String::from_utf8_lossy(bytes);
    let values = |key: &'static str| {
        text.lines().filter_map(move |line| {
            let (found, value) = line.trim().split_once(char::is_whitespace)?;
            (found == key).then(|| value.trim())
        })
    };
    let versioned = || {
        let version = values("version").next()?.strip_prefix("Generation ")?;
        number(version.split(' ').next()?)
    };
    let mut options = values("options").flat_map(str::split_whitespace);
    let init = options.find_map(|option| option.strip_prefix("init="));
    Entry {
        id: format!("{name}.conf"),
        left,
        generation: numbered.or_else(versioned),
        system: init.and_then(|init| StorePath::containing(init).ok()),
    }
}

/// Returns the tries left, from counters like `LEFT` or `LEFT-DONE`.
fn tries_left(counters: &str) -> Option<u64> {
    let (left, done) = counters.split_once('-').unwrap_or((counters, "0"));
    number(done)?;
    number(left)
}

fn number(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// Whether systemd-boot booted this host. Other boot loaders leave their names there too.
fn booted_by_systemd_boot(root: &Path) -> bool {
    variable(root, LOADER_INFO).is_some_and(|info| info.starts_with("systemd-boot"))
}

fn oneshot(root: &Path) -> Option<String> {
    variable(root, ONESHOT)
}

/// Reads a text among the firmware's variables: four bytes of attributes, then UTF-16.
fn variable(root: &Path, name: &str) -> Option<String> {
    let bytes = crate::files::read_bounded(&root.join(name)).ok().flatten()?;
    let letters =
        bytes.get(4..)?.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let text = char::decode_utf16(letters.take_while(|letter| *letter != 0));
    Some(text.map(|letter| letter.unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
}

fn bootctl() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    find(&path, "bootctl")
}

fn find(search_path: &OsStr, name: &str) -> Option<PathBuf> {
    let executable = |path: &PathBuf| {
        path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    };
    let directories = std::env::split_paths(search_path).chain([SYSTEM_PROGRAMS.into()]);
    let places = directories.filter(|dir| dir.is_absolute()).map(|dir| dir.join(name));
    places.into_iter().find(executable)
}

#[cfg(test)]
mod tests;

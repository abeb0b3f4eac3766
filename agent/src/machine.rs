//! The host as its links tell it: what runs, what was booted, what boots.
//!
//! Links below `root` are read, never followed by the kernel: they name
//! logical store paths, and `root` may not be `/`.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock;
use crate::core::job::Generation;
use crate::core::types::{BootId, Mono, StorePath};
use crate::core::unseen::{OddProfile, Part, Unseen};
use crate::nix::StoreRoot;
use crate::nix::profile::{self, Generation as Profiled, Profile};
use crate::sight::{Unreadable, at};
use crate::specialisation;

/// Prefix below which a host's own paths are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Prefix of the host's paths.
    pub root: PathBuf,
}

impl Machine {
    /// Returns the system that runs, as its own activation says.
    pub fn running(&self) -> Result<Option<StorePath>, Unreadable> {
        self.system_link("run/current-system")
    }

    /// Returns the system that was booted, as its init says.
    pub fn booted(&self) -> Result<Option<StorePath>, Unreadable> {
        self.system_link("run/booted-system")
    }

    /// Returns the system that a running or booted one is: of a specialisation, the one
    /// of `systems` that it is part of, and its name.
    pub fn whole<'a>(
        &self,
        store: &StoreRoot,
        found: Option<StorePath>,
        systems: impl IntoIterator<Item = &'a StorePath>,
    ) -> (Option<StorePath>, Option<String>) {
        let of = found.as_ref().and_then(|found| specialisation::of(store, found, systems));
        of.map_or((found, None), |(system, name)| (Some(system), Some(name)))
    }

    /// Returns the path of the system profile's link.
    pub fn profile_path(&self) -> PathBuf {
        self.root.join("nix/var/nix/profiles/system")
    }

    /// Returns the generation that the profile names; and what the profile is, if
    /// `nix-env` did not make it, which counts as none.
    pub fn profile(&self) -> Result<(Option<Generation>, Option<OddProfile>), Unreadable> {
        let path = self.profile_path();
        Ok(match profile::look(&path)? {
            Profile::Absent => (None, None),
            Profile::Odd(why) => (None, Some(OddProfile { path: path.display().to_string(), why })),
            Profile::Current(current) => (Some(known(current)), None),
        })
    }

    /// Returns the newest generation of a system, and all of another one.
    pub fn generations(&self) -> Result<Vec<Generation>, Unreadable> {
        let generations = profile::generations(&self.profile_path())?;
        Ok(generations.into_iter().map(known).collect())
    }

    /// Reads the machine's id from `/etc/machine-id`; `None` if it is absent or empty.
    pub fn id(&self) -> Result<Option<String>, Unreadable> {
        let path = self.root.join("etc/machine-id");
        let bytes = crate::files::read_bounded(&path).map_err(at(&path))?;
        let id = bytes.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
        Ok(id.filter(|id| !id.is_empty()))
    }

    /// Returns the id of this boot.
    pub fn boot_id(&self) -> Result<BootId, Unreadable> {
        clock::boot_id(&self.root)
    }

    /// Returns where the jobs of running switches are found, whatever a new configuration
    /// says of the state directory.
    pub fn handover(&self) -> PathBuf {
        self.root.join("run/fort-agent-handover")
    }

    /// Reads a link to a system. A link that names no system counts as none: another
    /// system's activation makes it anew.
    fn system_link(&self, link: &str) -> Result<Option<StorePath>, Unreadable> {
        let link = self.root.join(link);
        match std::fs::read_link(&link) {
            // A specialisation counts as its system.
            Ok(target) => Ok(target.to_str().and_then(|target| StorePath::containing(target).ok())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at(link)(error)),
        }
    }
}

fn known(Profiled { number, system }: Profiled) -> Generation {
    Generation { number, system }
}

/// Says whether a system needs a reboot to run in full; looks once per pair.
#[derive(Debug, Default)]
pub struct RebootCheck {
    known: HashMap<(StorePath, StorePath), Option<String>>,
    /// Last pair that could not be compared, with the reason, and when that was tried.
    failed: Option<((StorePath, StorePath), Unseen, Mono)>,
}

/// Pause before systems that could not be compared are compared again: it may be much.
const COMPARE_AGAIN: Duration = Duration::from_secs(60);

impl RebootCheck {
    /// Returns why, if the booted system's kernel or the like differ from the default's.
    /// Fails where they could not be compared.
    pub fn why(
        &mut self,
        store: &StoreRoot,
        booted: Option<&StorePath>,
        default: Option<&StorePath>,
        now: Mono,
    ) -> Result<Option<String>, Unseen> {
        let (Some(booted), Some(default)) = (booted, default) else { return Ok(None) };
        if booted == default {
            return Ok(None);
        }
        let pair = (booted.clone(), default.clone());
        if let Some(known) = self.known.get(&pair) {
            return Ok(known.clone());
        }
        if let Some((failed, unseen, tried)) = &self.failed
            && *failed == pair
            && now.since(*tried) < COMPARE_AGAIN
        {
            return Err(unseen.clone());
        }
        self.failed = None;
        match changed_parts(store, &pair) {
            Ok(parts) => {
                let why = (!parts.is_empty()).then(|| format!("{} changed", parts.join(", ")));
                if self.known.len() > 16 {
                    self.known.clear();
                }
                self.known.insert(pair, why.clone());
                Ok(why)
            }
            Err(unreadable) => {
                let unseen = unreadable.unseen(Part::Kernel);
                self.failed = Some((pair, unseen.clone(), now));
                Err(unseen)
            }
        }
    }
}

fn changed_parts(
    store: &StoreRoot,
    (booted, default): &(StorePath, StorePath),
) -> Result<Vec<&'static str>, Unreadable> {
    let mut parts = Vec::new();
    for part in ["kernel", "initrd", "kernel-modules", "kernel-params"] {
        if !same_part(store, booted, default, part)? {
            parts.push(part);
        }
    }
    Ok(parts)
}

/// Largest directory tree that is compared, in entries.
const MOST_ENTRIES: usize = 10_000;

/// Whether two systems have the same part: the resolved paths or the bytes are equal, of
/// whole directories too. Both lacking it is equal.
fn same_part(
    store: &StoreRoot,
    a: &StorePath,
    b: &StorePath,
    part: &str,
) -> Result<bool, Unreadable> {
    let resolve = |system: &StorePath| {
        let logical = Path::new(system.as_str()).join(part);
        match store.resolve(&logical) {
            Ok(place) => Ok(Some(place)),
            // It has none, or none that leads anywhere.
            Err(error) if error.raw_os_error().is_none() => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at(store.physical(system).join(part))(error)),
        }
    };
    match (resolve(a)?, resolve(b)?) {
        (None, None) => Ok(true),
        (Some(a), Some(b)) if a == b => Ok(true),
        (Some(a), Some(b)) => same_tree(&a, &b, &mut 0).map_err(at(b)),
        (Some(_), None) | (None, Some(_)) => Ok(false),
    }
}

/// Whether two directories are the same. Links in them are compared by what they say: it
/// is in the store, or not ours.
fn same_tree(a: &Path, b: &Path, entries: &mut usize) -> io::Result<bool> {
    *entries += 1;
    let (kind_a, kind_b) = (a.symlink_metadata()?.file_type(), b.symlink_metadata()?.file_type());
    if kind_a != kind_b || *entries > MOST_ENTRIES {
        return Ok(false);
    }
    if kind_a.is_symlink() {
        return Ok(a.read_link()? == b.read_link()?);
    }
    if !kind_a.is_dir() {
        return same_bytes(a, b);
    }
    let names = |dir: &Path| -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir)?.take(MOST_ENTRIES) {
            names.push(entry?.file_name());
        }
        names.sort();
        Ok(names)
    };
    let (names_a, names_b) = (names(a)?, names(b)?);
    if names_a != names_b {
        return Ok(false);
    }
    for name in names_a {
        if !same_tree(&a.join(&name), &b.join(&name), entries)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn same_bytes(a: &Path, b: &Path) -> io::Result<bool> {
    use std::io::Read as _;
    let (a, b) = (std::fs::File::open(a)?, std::fs::File::open(b)?);
    let (size_a, size_b) = (a.metadata()?, b.metadata()?);
    if !size_a.is_file() || !size_b.is_file() || size_a.len() != size_b.len() {
        return Ok(false);
    }
    let (mut a, mut b) = (io::BufReader::new(a).bytes(), io::BufReader::new(b).bytes());
    loop {
        match (a.next().transpose()?, b.next().transpose()?) {
            (None, None) => return Ok(true),
            (a, b) if a == b => {}
            (_, _) => return Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const BOOTED: &str = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-booted";
    const DEFAULT: &str = "/nix/store/1123456789abcdfghijklmnpqrsvwxyz-default";

    /// Makes two systems that are alike, and returns what is said after a change to one.
    fn why(change: impl Fn(&Path)) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        let store = StoreRoot::of(&format!("local?root={}", dir.path().display()));
        for system in [BOOTED, DEFAULT] {
            let place = store.physical(&system.parse().unwrap());
            fs::create_dir_all(place.join("kernel-modules/lib")).unwrap();
            fs::write(place.join("kernel-modules/lib/a.ko"), "a").unwrap();
            fs::write(place.join("kernel"), "linux").unwrap();
            fs::write(place.join("initrd"), "initrd").unwrap();
        }
        change(&store.physical(&DEFAULT.parse().unwrap()));
        let (booted, default) = (BOOTED.parse().unwrap(), DEFAULT.parse().unwrap());
        let now = Mono::from_millis(0);
        RebootCheck::default().why(&store, Some(&booted), Some(&default), now).unwrap()
    }

    #[test]
    fn systems_with_the_same_bytes_need_no_reboot() {
        assert_eq!(why(|_| ()), None);
        let linked = |system: &Path| {
            fs::rename(system.join("kernel"), system.join("bzImage")).unwrap();
            std::os::unix::fs::symlink("bzImage", system.join("kernel")).unwrap();
        };
        assert_eq!(why(linked), None);
    }

    #[test]
    fn what_changed_is_named() {
        let said = why(|system| {
            fs::write(system.join("kernel"), "linux 2").unwrap();
            fs::write(system.join("kernel-modules/lib/a.ko"), "b").unwrap();
            fs::write(system.join("kernel-params"), "quiet").unwrap();
        });
        assert_eq!(said.as_deref(), Some("kernel, kernel-modules, kernel-params changed"));
        let more = |system: &Path| fs::write(system.join("kernel-modules/b.ko"), "").unwrap();
        assert_eq!(why(more).as_deref(), Some("kernel-modules changed"));
    }
}

//! The host as its links tell it: what runs, what was booted, what boots.
//!
//! Links below `root` are read, never followed by the kernel: they name
//! logical store paths, and `root` may not be `/`.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::core::job::Generation;
use crate::core::types::StorePath;
use crate::nix::{StoreRoot, profile};

/// Where a host's own paths are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The prefix of the host's paths.
    pub root: PathBuf,
}

impl Machine {
    /// The system that runs, as its own activation says.
    pub fn running(&self) -> Option<StorePath> {
        self.system_link("run/current-system")
    }

    /// The system that was booted, as its init says.
    pub fn booted(&self) -> Option<StorePath> {
        self.system_link("run/booted-system")
    }

    /// The system profile's link.
    pub fn profile_path(&self) -> PathBuf {
        self.root.join("nix/var/nix/profiles/system")
    }

    /// The generation that the profile names.
    pub fn profile(&self) -> io::Result<Option<Generation>> {
        let current = profile::current(&self.profile_path())?;
        Ok(current.map(|current| Generation { number: current.number, system: current.system }))
    }

    /// The newest generation of a system, and all of another one.
    pub fn generations(&self) -> io::Result<Vec<Generation>> {
        let path = self.profile_path();
        let directory = path.parent().unwrap_or(Path::new("/"));
        let mut generations = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let name = entry?.file_name();
            let number = name
                .to_str()
                .and_then(|name| name.strip_prefix("system-")?.strip_suffix("-link"))
                .and_then(|number| number.parse().ok());
            let Some(number) = number else { continue };
            let target = std::fs::read_link(directory.join(&name))?;
            if let Some(system) = target.to_str().and_then(|target| target.parse().ok()) {
                generations.push(Generation { number, system });
            }
        }
        generations.sort_by_key(|generation| generation.number);
        Ok(generations)
    }

    /// The machine's id.
    pub fn id(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.root.join("etc/machine-id")).ok()?;
        Some(text.trim().to_owned()).filter(|id| !id.is_empty())
    }

    /// Where the jobs of running switches are found, whatever a new
    /// configuration says of the state directory.
    pub fn handover(&self) -> PathBuf {
        self.root.join("run/fort-agent-handover")
    }

    fn system_link(&self, link: &str) -> Option<StorePath> {
        let target = std::fs::read_link(self.root.join(link)).ok()?;
        // A specialisation counts as its system.
        StorePath::containing(target.to_str()?).ok()
    }
}

/// Says whether a system needs a reboot to run in full; looks once per pair.
#[derive(Debug, Default)]
pub struct RebootCheck {
    known: HashMap<(StorePath, StorePath), Option<String>>,
}

impl RebootCheck {
    /// Why, if the booted system's kernel or the like differ from the
    /// default's.
    pub fn why(
        &mut self,
        store: &StoreRoot,
        booted: Option<&StorePath>,
        default: Option<&StorePath>,
    ) -> Option<String> {
        let pair = (booted?.clone(), default?.clone());
        if pair.0 == pair.1 {
            return None;
        }
        if self.known.len() > 16 {
            self.known.clear();
        }
        let look = || {
            let differs = |part: &&str| !same_part(store, &pair.0, &pair.1, part);
            let parts: Vec<_> = ["kernel", "initrd", "kernel-modules", "kernel-params"]
                .into_iter()
                .filter(|part| differs(part))
                .collect();
            (!parts.is_empty()).then(|| format!("{} changed", parts.join(", ")))
        };
        self.known.entry(pair.clone()).or_insert_with(look).clone()
    }
}

/// Directories with more in them than this are not compared.
const MOST_ENTRIES: usize = 10_000;

/// Equal when the resolved paths or the bytes are, of whole directories too.
/// Both lacking it is equal.
fn same_part(store: &StoreRoot, a: &StorePath, b: &StorePath, part: &str) -> bool {
    let resolve = |system: &StorePath| {
        let logical = Path::new(system.as_str()).join(part);
        store.resolve(&logical).ok()
    };
    match (resolve(a), resolve(b)) {
        (None, None) => true,
        (Some(a), Some(b)) => a == b || same_tree(&a, &b, &mut 0).unwrap_or(false),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// Links in them are compared by what they say: it is in the store, or not ours.
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

    /// Two systems that are alike, and what is said after a change to one.
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
        RebootCheck::default().why(&store, Some(&booted), Some(&default))
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

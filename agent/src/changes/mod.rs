//! Changes that another system would bring: packages by name and version, its size, and
//! the units that it would touch.
//!
//! This module only looks, and runs nothing of that system but where that is asked for
//! ([`dry_activate`]): the system has not been let in yet. A system of the history may
//! have lost its root: both are kept from the garbage collector by the connection that
//! asks the store about them, so that one has to live until the last question is
//! answered, that for its units included.

mod dry_run;
mod mounts;
mod names;
mod switching;
mod unit_files;
mod units;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use self::dry_run::dry_activate;
pub use self::switching::by_files;
pub use self::units::Units;
use crate::core::types::StorePath;
use crate::store::{Closure, Store, StoreFailed};

/// Differences between the closures of two systems.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Size of the closure that is there.
    pub before: Size,
    /// Size of the closure that would be.
    pub after: Size,
    /// Packages that are only in the new closure.
    pub added: Vec<Package>,
    /// Packages that are only in the old closure.
    pub removed: Vec<Package>,
    /// Packages in both closures, in other versions.
    pub changed: Vec<Change>,
    /// Number of paths of the same name and version that are built anew.
    pub rebuilt: u64,
}

/// Size of a closure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Number of store paths.
    pub paths: u64,
    /// Size of the contents of all, packed, in bytes.
    pub bytes: u64,
}

/// A package, in every version that there is of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Package {
    /// Name of the package.
    pub name: String,
    /// Versions, without the packages that have none.
    pub versions: Vec<String>,
}

/// A package in other versions than before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Change {
    /// Name of the package.
    pub name: String,
    /// Versions in the old closure.
    pub before: Vec<String>,
    /// Versions in the new closure.
    pub after: Vec<String>,
}

/// Reason why two systems could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum CannotCompare {
    /// The store could not be asked.
    #[error(transparent)]
    Store(#[from] StoreFailed),
    /// A system is not in the store.
    #[error("{0} is not in the store")]
    Absent(StorePath),
}

/// Compares the closures of an old and a new system, and keeps both from the garbage collector.
pub async fn between(
    store: &mut Store,
    old: &StorePath,
    new: &StorePath,
) -> Result<Changes, CannotCompare> {
    for system in [old, new] {
        if !store.is_valid(system).await? {
            return Err(CannotCompare::Absent(system.clone()));
        }
        store.keep(system).await?;
    }
    let before = store.closure(std::slice::from_ref(old)).await?;
    let after = store.closure(std::slice::from_ref(new)).await?;
    Ok(compare(&before, &after))
}

fn compare(before: &Closure, after: &Closure) -> Changes {
    let (old, new) = (packages(before), packages(after));
    let mut changes = Changes { before: size(before), after: size(after), ..Changes::default() };
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for name in names {
        match (old.get(name), new.get(name)) {
            (Some(old), Some(new)) if old.versions != new.versions => {
                let (before, after) = (old.versions(), new.versions());
                changes.changed.push(Change { name: name.clone(), before, after });
            }
            (Some(old), Some(new)) => {
                let rebuilt = new.paths.difference(&old.paths).count();
                changes.rebuilt += rebuilt as u64;
            }
            (Some(old), None) => {
                changes.removed.push(Package { name: name.clone(), versions: old.versions() });
            }
            (None, Some(new)) => {
                changes.added.push(Package { name: name.clone(), versions: new.versions() });
            }
            (None, None) => {}
        }
    }
    changes
}

/// Paths that have one name.
#[derive(Default)]
struct Found {
    versions: BTreeSet<String>,
    paths: BTreeSet<StorePath>,
}

impl Found {
    fn versions(&self) -> Vec<String> {
        self.versions.iter().filter(|version| !version.is_empty()).cloned().collect()
    }
}

fn packages(closure: &Closure) -> BTreeMap<String, Found> {
    let mut packages: BTreeMap<String, Found> = BTreeMap::new();
    for path in closure.paths.keys().filter(|path| !names::is_of_a_unit(path)) {
        let (name, version) = names::parse(path);
        let found = packages.entry(name.to_owned()).or_default();
        found.versions.insert(version.to_owned());
        found.paths.insert(path.clone());
    }
    packages
}

fn size(closure: &Closure) -> Size {
    Size {
        paths: closure.paths.len() as u64,
        bytes: closure.paths.values().map(|info| info.nar_size).sum(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{NarHash, PathInfo};

    fn closure(paths: &[(&str, &str, u64)]) -> Closure {
        let paths = paths.iter().map(|(digit, name, nar_size)| {
            let path = format!("/nix/store/{}-{name}", digit.repeat(32)).parse().unwrap();
            let info = PathInfo {
                deriver: None,
                nar_hash: NarHash::from_hex(&"0".repeat(64)).unwrap(),
                nar_size: *nar_size,
                references: BTreeSet::new(),
                ultimate: false,
                signatures: Vec::new(),
                content_address: None,
            };
            (path, info)
        });
        Closure { paths: paths.collect(), missing: BTreeSet::new() }
    }

    #[test]
    fn packages_are_compared_by_name_and_version() {
        let before = closure(&[
            ("0", "bash-5.2p37", 10),
            ("1", "bash-5.2p37-man", 1),
            ("2", "openssl-3.0.1", 20),
            ("3", "openssl-3.0.2", 20),
            ("4", "nano-8.0", 5),
            ("5", "etc", 1),
        ]);
        let after = closure(&[
            ("6", "bash-5.2p37", 10),
            ("1", "bash-5.2p37-man", 1),
            ("7", "openssl-3.0.3-bin", 30),
            ("8", "htop-3.4", 7),
            ("9", "etc", 1),
        ]);
        let changes = compare(&before, &after);
        let text = |list: &[&str]| list.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            changes,
            Changes {
                before: Size { paths: 6, bytes: 57 },
                after: Size { paths: 5, bytes: 49 },
                added: vec![Package { name: "htop".into(), versions: text(&["3.4"]) }],
                removed: vec![Package { name: "nano".into(), versions: text(&["8.0"]) }],
                changed: vec![Change {
                    name: "openssl".into(),
                    before: text(&["3.0.1", "3.0.2"]),
                    after: text(&["3.0.3"]),
                }],
                // bash, and etc, which has no version.
                rebuilt: 2,
            }
        );
    }
}

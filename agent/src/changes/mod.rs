//! What another system would change: packages by name and version, its size,
//! and the units that it would touch.
//!
//! It only looks, and runs nothing of that system but where that is asked for
//! ([`dry_activate`]): whoever is about to let it in has not done so yet. A system of the history may have lost its root: both are kept
//! from the garbage collector by the connection that asks the store about them,
//! so that one has to live until the last question is answered, that for its units
//! included.

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

/// What differs between two closures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// The one that is there.
    pub before: Size,
    /// The one that would be.
    pub after: Size,
    /// Only in the new one.
    pub added: Vec<Package>,
    /// Only in the old one.
    pub removed: Vec<Package>,
    /// In both, in other versions.
    pub changed: Vec<Change>,
    /// Of the same name and version, built anew.
    pub rebuilt: u64,
}

/// How large a closure is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Its paths.
    pub paths: u64,
    /// The contents of all, packed.
    pub bytes: u64,
}

/// A package, in every version that there is of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Without those that have none.
    pub versions: Vec<String>,
}

/// A package in other versions than before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Change {
    /// Its name.
    pub name: String,
    /// Before.
    pub before: Vec<String>,
    /// And after.
    pub after: Vec<String>,
}

/// What the store could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum CannotCompare {
    /// It failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
    /// Something is not in the store.
    #[error("{0} is not in the store")]
    Absent(StorePath),
}

/// What the new system would change of the old one.
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

/// All paths of one name.
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

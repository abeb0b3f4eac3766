//! Specialisations: variants that a NixOS system carries in itself, each a system of
//! its own.
//!
//! NixOS links `/run/current-system` to where a specialisation leads, which says
//! nothing of the system that it is part of. So it is looked for among the systems
//! that matter on a host.

use std::path::Path;

use crate::core::types::StorePath;
use crate::nix::StoreRoot;

/// Directory in which a system links its specialisations, by their names.
const DIRECTORY: &str = "specialisation";
/// Largest number of specialisations that are looked at.
const MOST: usize = 256;

/// Returns which of these systems this is a specialisation of, and its name there.
///
/// Nothing where none has it, or it could not be looked at.
pub fn of<'a>(
    store: &StoreRoot,
    found: &StorePath,
    systems: impl IntoIterator<Item = &'a StorePath>,
) -> Option<(StorePath, String)> {
    let systems: Vec<&StorePath> = systems.into_iter().collect();
    if systems.contains(&found) {
        return None;
    }
    systems.into_iter().find_map(|system| {
        let all = store.resolve(&Path::new(system.as_str()).join(DIRECTORY)).ok()?;
        let names = std::fs::read_dir(all).ok()?.take(MOST);
        let named = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut of_it = named.filter(|name| within(store, system, name).as_ref() == Some(found));
        Some((system.clone(), of_it.next()?))
    })
}

/// Returns the specialisation of that name within a system, if it has one.
pub fn within(store: &StoreRoot, system: &StorePath, name: &str) -> Option<StorePath> {
    if !is_name(name) {
        return None;
    }
    let link = Path::new(system.as_str()).join(DIRECTORY).join(name);
    let leads = std::fs::read_link(store.resolve(link.parent()?).ok()?.join(name)).ok()?;
    StorePath::containing(leads.to_str()?).ok()
}

/// Whether a specialisation can have this name: it is one component of a path.
pub fn is_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && !name.contains('/') && name.len() <= 255
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> StorePath {
        format!("/nix/store/{}-{name}", "0".repeat(32)).parse().unwrap()
    }

    #[test]
    fn a_specialisation_is_told_by_the_system_that_links_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = StoreRoot::of(&format!("local?root={}", dir.path().display()));
        let (base, other, gaming) = (path("base"), path("other"), path("gaming"));
        for system in [&base, &other, &gaming] {
            std::fs::create_dir_all(store.physical(system)).unwrap();
        }
        let all = store.physical(&base).join(DIRECTORY);
        std::fs::create_dir(&all).unwrap();
        std::os::unix::fs::symlink(gaming.as_str(), all.join("gaming")).unwrap();
        std::os::unix::fs::symlink("/etc", all.join("odd")).unwrap();
        assert_eq!(of(&store, &gaming, [&other, &base]), Some((base.clone(), "gaming".into())));
        assert_eq!(of(&store, &gaming, [&other]), None);
        // What matters by itself is no part of another.
        assert_eq!(of(&store, &gaming, [&base, &gaming]), None);
        assert_eq!(of(&store, &base, [&base]), None);
        assert_eq!(within(&store, &base, "gaming"), Some(gaming));
        for none in ["odd", "work", "", ".", "..", "../base"] {
            assert_eq!(within(&store, &base, none), None, "{none}");
        }
    }
}

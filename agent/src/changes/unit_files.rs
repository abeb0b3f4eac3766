//! The unit files of a system, and whether two of them differ for a unit that
//! runs.
//!
//! As nixpkgs' switch-to-configuration-ng reads and compares them (`parse_unit`,
//! `compare_units`): drop-ins are laid over the file, `[Install]` counts nothing,
//! and some keys change nothing for what runs already.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use crate::core::types::StorePath;
use crate::files::read_bounded;
use crate::nix::StoreRoot;

/// Keys of `[Unit]` that are for the next start only.
const FOR_THE_NEXT_START: [&str; 13] = [
    "X-Reload-Triggers",
    "Description",
    "Documentation",
    "OnFailure",
    "OnSuccess",
    "OnFailureJobMode",
    "IgnoreOnIsolate",
    "StopWhenUnneeded",
    "RefuseManualStart",
    "RefuseManualStop",
    "AllowIsolate",
    "CollectMode",
    "SourcePath",
];

/// Directory in which a system keeps its units.
pub(super) struct UnitFiles<'a> {
    store: &'a StoreRoot,
    /// Logical path of the directory, which may be elsewhere on disk.
    dir: PathBuf,
}

/// Whether there is a unit's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    Present,
    /// A link to /dev/null: the unit is not to be started.
    Masked,
    Missing,
}

/// A unit: its sections, with their keys and the values of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Unit(BTreeMap<String, BTreeMap<String, Vec<String>>>);

/// Effect that a difference between two versions of a unit has while the unit runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Difference {
    None,
    Reload,
    Restart,
}

impl<'a> UnitFiles<'a> {
    pub(super) fn of(store: &'a StoreRoot, system: &StorePath) -> Self {
        Self { store, dir: Path::new(system.as_str()).join("etc/systemd/system") }
    }

    pub(super) fn presence(&self, name: &str) -> io::Result<Presence> {
        self.look(&self.dir.join(name))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.presence(name).is_ok_and(|presence| presence == Presence::Present)
    }

    /// Lists everything that has a file or a directory there.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        self.entries(&self.dir)
    }

    /// Reads a unit with all that is laid over it; `base` is the file that it has, which
    /// is its template's where it has none of its own.
    pub(super) fn unit(&self, name: &str, base: &str) -> io::Result<Unit> {
        let mut unit = Unit::default();
        unit.read(&self.text(&self.dir.join(base))?);
        let of_instance = (name != base).then_some(name);
        for name in std::iter::once(base).chain(of_instance) {
            for file in self.overrides(name)? {
                unit.read(&self.text(&file)?);
            }
        }
        Ok(unit)
    }

    /// Whether something that is not masked is laid over a unit.
    pub(super) fn is_overridden(&self, name: &str) -> io::Result<bool> {
        for file in self.overrides(name)? {
            if self.look(&file)? == Presence::Present {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns the units that a target pulls in by links beside it.
    pub(super) fn pulled_in(&self, target: &str) -> io::Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        for kind in ["wants", "requires", "upholds"] {
            names.extend(self.entries(&self.dir.join(format!("{target}.{kind}")))?);
        }
        Ok(names)
    }

    fn overrides(&self, name: &str) -> io::Result<Vec<PathBuf>> {
        let dir = self.dir.join(format!("{name}.d"));
        let mut files: Vec<PathBuf> = self.entries(&dir)?.iter().map(|it| dir.join(it)).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "conf"));
        files.sort();
        Ok(files)
    }

    fn look(&self, logical: &Path) -> io::Result<Presence> {
        match self.store.resolve(logical) {
            Ok(file) if file == Path::new("/dev/null") => Ok(Presence::Masked),
            Ok(_) => Ok(Presence::Present),
            Err(error) if is_missing(&error) => Ok(Presence::Missing),
            Err(error) => Err(error),
        }
    }

    fn text(&self, logical: &Path) -> io::Result<String> {
        let bytes = read_bounded(&self.store.resolve(logical)?)?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Lists a directory; empty where there is none.
    fn entries(&self, logical: &Path) -> io::Result<Vec<String>> {
        let listed = self.store.resolve(logical).and_then(std::fs::read_dir);
        let listed = match listed {
            Err(error) if is_missing(&error) => return Ok(Vec::new()),
            other => other?,
        };
        listed.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }
}

pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

impl Unit {
    /// Lays a file over the values that are there.
    fn read(&mut self, text: &str) {
        let mut section = String::new();
        // What one file says of a key is one assignment: an empty value in it
        // drops what was before.
        let mut said: BTreeMap<(String, String), (bool, Vec<String>)> = BTreeMap::new();
        for line in lines(text) {
            let line = line.trim();
            if let Some(name) = line.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
                section = name.to_owned();
                continue;
            }
            let Some((key, value)) = line.split_once('=') else { continue };
            if section.is_empty() || section == "Install" || line.starts_with(['#', ';']) {
                continue;
            }
            let (clears, values) =
                said.entry((section.clone(), key.trim().to_owned())).or_default();
            match value.trim() {
                "" => {
                    *clears = true;
                    values.clear();
                }
                value => values.push(value.to_owned()),
            }
        }
        for ((section, key), (clears, values)) in said {
            let known = self.0.entry(section).or_default().entry(key).or_default();
            if clears {
                known.clear();
            }
            known.extend(values);
        }
    }

    /// Returns a boolean, of which the last value counts.
    pub(super) fn is(&self, section: &str, key: &str, default: bool) -> bool {
        let last = self.values(section, key).last();
        last.map_or(default, |value| matches!(value.as_str(), "1" | "yes" | "true" | "on"))
    }

    pub(super) fn values(&self, section: &str, key: &str) -> &[String] {
        self.0.get(section).and_then(|keys| keys.get(key)).map_or(&[], Vec::as_slice)
    }

    /// Returns what the change to `new` means for the unit that runs.
    pub(super) fn compared_to(&self, new: &Self) -> Difference {
        let sections: BTreeSet<&String> = self.0.keys().chain(new.0.keys()).collect();
        let none = BTreeMap::new();
        let mut worth = Difference::None;
        for section in sections {
            let old = self.0.get(section).unwrap_or(&none);
            let new = new.0.get(section).unwrap_or(&none);
            let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for key in keys {
                match changed(section, key, old.get(key), new.get(key)) {
                    Difference::None => {}
                    Difference::Reload => worth = Difference::Reload,
                    Difference::Restart => return Difference::Restart,
                }
            }
        }
        worth
    }
}

fn changed(
    section: &str,
    key: &str,
    old: Option<&Vec<String>>,
    new: Option<&Vec<String>>,
) -> Difference {
    match (section, key, old, new) {
        _ if old == new => Difference::None,
        // Without a trigger there is nothing to be reloaded for.
        ("Unit", "X-Reload-Triggers", _, Some(_)) => Difference::Reload,
        ("Unit", key, ..) if FOR_THE_NEXT_START.contains(&key) => Difference::None,
        // What runs cannot be reloaded any more.
        ("Service", "ExecReload", _, None) => Difference::None,
        ("Service", "ExecReload", _, Some(_)) => Difference::Reload,
        ("Mount", "Options", Some(_), Some(_)) => Difference::Reload,
        _ => Difference::Restart,
    }
}

/// Returns the lines of a unit file; a backslash at the end joins a line with the next
/// one (systemd.syntax(7)).
fn lines(text: &str) -> impl Iterator<Item = String> + '_ {
    let mut lines = text.lines();
    std::iter::from_fn(move || {
        let mut line = lines.next()?.to_owned();
        while line.ends_with('\\') && !line.trim_start().starts_with(['#', ';']) {
            line.pop();
            line.push(' ');
            line.push_str(lines.next().unwrap_or_default());
        }
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(files: &[&str]) -> Unit {
        let mut unit = Unit::default();
        files.iter().for_each(|text| unit.read(text));
        unit
    }

    #[test]
    fn files_are_laid_over_each_other_as_systemd_does() {
        let base = "[Unit]\nDescription=a\n# no=comment\n[Service]\nExecStart=/a\nExecStart=/b \\\n  c\n\
                    Environment=A=1\n[Install]\nWantedBy=x.target\n";
        let all = unit(&[base, "[Service]\nExecStart=\nExecStart=/d\nEnvironment=B=2\n"]);
        assert_eq!(all.values("Service", "ExecStart"), ["/d"]);
        assert_eq!(all.values("Service", "Environment"), ["A=1", "B=2"]);
        assert_eq!(unit(&[base]).values("Service", "ExecStart"), ["/a", "/b    c"]);
        assert!(all.values("Install", "WantedBy").is_empty());
        assert!(all.values("Unit", "# no").is_empty() && all.values("Unit", "no").is_empty());
        let yes = unit(&["[Service]\nX=yes\n", "[Service]\nX=no\n"]);
        assert!(!yes.is("Service", "X", true) && yes.is("Service", "Y", true));
    }

    #[test]
    fn a_difference_is_worth_a_restart_a_reload_or_nothing() {
        use Difference::{None, Reload, Restart};
        let base = "[Unit]\nDescription=a\n[Service]\nExecStart=/a\n";
        for (new, worth) in [
            ("[Unit]\nDescription=a\n[Service]\nExecStart=/a\n[Install]\nWantedBy=x\n", None),
            ("[Unit]\nDescription=b\nDocumentation=c\n[Service]\nExecStart=/a\n", None),
            ("[Service]\nExecStart=/a\n", None),
            ("[Unit]\nDescription=a\nX-Reload-Triggers=1\n[Service]\nExecStart=/a\n", Reload),
            ("[Unit]\nDescription=a\n[Service]\nExecStart=/a\nExecReload=/r\n", Reload),
            ("[Unit]\nDescription=a\n[Service]\nExecStart=/b\n", Restart),
            ("[Unit]\nDescription=a\nX-Restart-Triggers=1\n[Service]\nExecStart=/a\n", Restart),
            (
                "[Unit]\nDescription=a\nX-Reload-Triggers=1\nAfter=b\n[Service]\nExecStart=/a\n",
                Restart,
            ),
            ("[Unit]\nDescription=a\n[Service]\nExecStart=/a\n[Socket]\nX=1\n", Restart),
            ("[Unit]\nDescription=a\n", Restart),
        ] {
            assert_eq!(unit(&[base]).compared_to(&unit(&[new])), worth, "{new:?}");
        }
        let mount = |options: &str| unit(&[&format!("[Mount]\nWhat=/d\nOptions={options}\n")]);
        assert_eq!(mount("ro").compared_to(&mount("rw")), Reload);
        let reload = unit(&["[Service]\nExecStart=/a\nExecReload=/r\n"]);
        assert_eq!(reload.compared_to(&unit(&["[Service]\nExecStart=/a\n"])), None);
    }
}

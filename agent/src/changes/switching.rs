//! Units that run and that an activation would touch, told from the files of both
//! systems: nothing of the new one is run.
//!
//! The rules are those that NixOS documents for its units and that nixpkgs'
//! switch-to-configuration-ng follows (`collect_unit_changes`,
//! `handle_modified_unit`), of July 2026. Not told, for no file says it: what
//! activation scripts ask for besides, and units of people's sessions.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::unit_files::{Difference, Presence, Unit, UnitFiles, is_missing};
use super::{Units, mounts};
use crate::core::types::StorePath;
use crate::files::read_bounded;
use crate::nix::StoreRoot;
use crate::systemd::units::Active;

/// Compares two systems, the old one of which runs.
///
/// `active`: what systemd says of the units that are not inactive. Without it all
/// that the old system defines are taken for active; the error says why.
pub fn by_files(
    store: &StoreRoot,
    old: &StorePath,
    new: &StorePath,
    active: Result<Active, String>,
) -> io::Result<Units> {
    let files = (UnitFiles::of(store, old), UnitFiles::of(store, new));
    let (active, assumed) = match active {
        Ok(active) => (active, None),
        Err(why) => (all_of(&files.0)?, Some(why)),
    };
    let mut switch = Switch { old: files.0, new: files.1, active, units: Units::default() };
    for (unit, state) in switch.active.clone() {
        if matches!(state.as_str(), "active" | "activating") {
            switch.unit(&unit)?;
        }
    }
    switch.begin_new_ones()?;
    let mut units = switch.units;
    let fstab = |system: &StorePath| text(store, system, "etc/fstab");
    mounts::compare(&fstab(old)?, &fstab(new)?, &mut units);
    let file = |system: &StorePath, path: &str| real(store, system, path);
    units.systemd = ["systemd/lib/systemd/systemd", "etc/systemd/system.conf"]
        .iter()
        .any(|path| file(old, path) != file(new, path));
    units.assumed = assumed;
    Ok(units.joined())
}

fn all_of(files: &UnitFiles<'_>) -> io::Result<Active> {
    let names = files.names()?.into_iter();
    let units = names.filter(|name| {
        let kind = name.rsplit_once('.').map_or("", |(_, kind)| kind);
        !name.contains("@.") && !matches!(kind, "d" | "wants" | "requires" | "upholds" | "")
    });
    Ok(units.filter(|name| files.has(name)).map(|name| (name, "active".to_owned())).collect())
}

struct Switch<'a> {
    old: UnitFiles<'a>,
    new: UnitFiles<'a>,
    active: Active,
    units: Units,
}

impl Switch<'_> {
    /// Takes in a unit that is active.
    fn unit(&mut self, unit: &str) -> io::Result<()> {
        let mut base = unit.to_owned();
        let mut removed = false;
        if let Some(template) = template(unit)
            && self.old.presence(unit)? == Presence::Missing
            && self.new.presence(unit)? == Presence::Missing
        {
            // What makes an instance the system's own may be only a drop-in.
            removed = self.old.is_overridden(unit)? && !self.new.is_overridden(unit)?;
            base = template;
        }
        if self.old.presence(&base)? == Presence::Missing {
            return Ok(());
        }
        if removed || self.new.presence(&base)? != Presence::Present {
            // What is masked has nothing to say about itself.
            let was = self.old.unit(unit, &base)?;
            if was.is("Unit", "X-StopOnRemoval", true) {
                self.units.stop.push(unit.to_owned());
            }
            return Ok(());
        }
        if unit.ends_with(".target") {
            // Started again each time, for what they newly want.
            return Ok(());
        }
        let (was, is) = (self.old.unit(unit, &base)?, self.new.unit(unit, &base)?);
        match was.compared_to(&is) {
            Difference::None => {}
            Difference::Reload => self.units.reload.push(unit.to_owned()),
            Difference::Restart => self.changed(unit, &base, &is),
        }
        Ok(())
    }

    fn changed(&mut self, unit: &str, base: &str, is: &Unit) {
        let units = &mut self.units;
        let name = unit.to_owned();
        let kind = unit.rsplit_once('.').map_or("", |(_, kind)| kind);
        match kind {
            // They take what is new when systemd reads its units anew; nothing is
            // done about sockets by themselves.
            "path" | "slice" | "socket" => {}
            "mount" if matches!(unit, "-.mount" | "nix.mount") => units.reload.push(name),
            "mount" => units.restart.push(name),
            _ if is.is("Service", "X-ReloadIfChanged", false) => units.reload.push(name),
            _ if !is.is("Service", "X-RestartIfChanged", true)
                || is.is("Unit", "RefuseManualStop", false)
                || is.is("Unit", "X-OnlyManualStart", false) =>
            {
                units.left.push(name);
            }
            "service" if is.is("Service", "X-StopIfChanged", true) => {
                self.stopped_and_started(unit, base, is);
            }
            _ => units.restart.push(name),
        }
    }

    /// Adds a service that is stopped before the activation, and started after it; by its
    /// sockets, if it has any.
    fn stopped_and_started(&mut self, unit: &str, base: &str, is: &Unit) {
        let named = is.values("Service", "Sockets").join(" ");
        let mut sockets: Vec<String> = named.split_whitespace().map(str::to_owned).collect();
        if sockets.is_empty() {
            let stem = base.strip_suffix(".service").unwrap_or(base);
            sockets.push(format!("{}.socket", stem.strip_suffix('@').unwrap_or(stem)));
        }
        let mut by_socket = false;
        for socket in sockets {
            let stays = self.new.presence(&socket).is_ok_and(|it| it != Presence::Missing);
            by_socket |= stays;
            if self.active.contains_key(&socket) {
                self.units.stop.push(socket.clone());
                if stays {
                    self.units.start.push(socket);
                }
            }
        }
        self.units.stop.push(unit.to_owned());
        if !by_socket || is.is("Service", "X-NotSocketActivated", false) {
            self.units.start.push(unit.to_owned());
        }
    }

    /// Adds units that are in the new system only, and that an active target wants.
    fn begin_new_ones(&mut self) -> io::Result<()> {
        let targets: Vec<String> =
            self.active.keys().filter(|unit| unit.ends_with(".target")).cloned().collect();
        let mut wanted = BTreeSet::new();
        for target in targets {
            wanted.extend(self.new.pulled_in(&target)?);
            if self.new.has(&target) {
                let unit = self.new.unit(&target, &target)?;
                for key in ["Wants", "Requires"] {
                    let named = unit.values("Unit", key).iter();
                    wanted.extend(named.flat_map(|it| it.split_whitespace()).map(str::to_owned));
                }
            }
        }
        for unit in wanted {
            let base = template(&unit).filter(|_| !self.new.has(&unit)).unwrap_or(unit.clone());
            let is_new = self.new.has(&base) && self.old.presence(&base)? == Presence::Missing;
            if is_new && !self.active.contains_key(&unit) && !unit.ends_with(".target") {
                self.units.start.push(unit);
            }
        }
        Ok(())
    }
}

/// Returns the template of an instance: `a@.service` for `a@b.service`.
fn template(unit: &str) -> Option<String> {
    let (name, rest) = unit.split_once('@')?;
    let kind = rest.rsplit_once('.')?.1;
    Some(format!("{name}@.{kind}"))
}

fn text(store: &StoreRoot, system: &StorePath, path: &str) -> io::Result<String> {
    match store.resolve(&Path::new(system.as_str()).join(path)) {
        Ok(file) => {
            let bytes = read_bounded(&file)?.unwrap_or_default();
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
        Err(error) if is_missing(&error) => Ok(String::new()),
        Err(error) => Err(error),
    }
}

fn real(store: &StoreRoot, system: &StorePath, path: &str) -> Option<PathBuf> {
    store.resolve(&Path::new(system.as_str()).join(path)).ok()
}

#[cfg(test)]
mod tests;

//! Interfaces that a host cannot exchange while it runs: the message bus, by its
//! implementation, and systemd, by the interface that a system expects of it.
//!
//! nixpkgs named both among the switch inhibitors once, and leaves that to the
//! configuration now. Each connection to a bus ends with it, that of
//! switch-to-configuration in the middle of its work included.

use std::path::Path;

use super::inhibitors::shown;
use crate::core::types::StorePath;
use crate::files;
use crate::nix::StoreRoot;

/// Returns why a system can only be left to the next boot. Parts that cannot be told
/// apart are no reason: a system without a bus, say, or one whose bus is started in
/// another way.
pub(super) fn differ(
    store: &StoreRoot,
    running: Option<&StorePath>,
    candidate: &StorePath,
) -> Option<String> {
    let running = running?;
    let other = |what: &str, now: Option<String>, then: Option<String>| {
        let (now, then) = (now?, then?);
        let differs = now != then;
        differs.then(|| {
            format!("its {what} is another than runs ({} -> {})", shown(&now), shown(&then))
        })
    };
    other("message bus", bus(store, running), bus(store, candidate)).or_else(|| {
        other("interface of systemd", interface(store, running), interface(store, candidate))
    })
}

/// Returns the name of the program that is the bus: `dbus-daemon`, `dbus-broker-launch`.
/// Another build of the same is no other bus.
fn bus(store: &StoreRoot, system: &StorePath) -> Option<String> {
    let unit = text(store, system, "etc/systemd/system/dbus.service")?;
    let start = unit.lines().find_map(|line| line.trim().strip_prefix("ExecStart="))?;
    // Before the path may be what systemd.service(5) calls special prefixes.
    let program = start.split_whitespace().next()?.trim_start_matches(['@', '-', ':', '+', '!']);
    let name = program.rsplit('/').next().filter(|name| !name.is_empty())?;
    Some(name.to_owned())
}

/// Returns systemd's interface as NixOS names it, and switch-to-configuration compares it.
fn interface(store: &StoreRoot, system: &StorePath) -> Option<String> {
    let version = text(store, system, "init-interface-version")?;
    Some(version.trim().to_owned()).filter(|version| !version.is_empty())
}

fn text(store: &StoreRoot, system: &StorePath, file: &str) -> Option<String> {
    let file = store.resolve(&Path::new(system.as_str()).join(file)).ok()?;
    String::from_utf8(files::read_bounded(&file).ok()??).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store with a running system and a candidate, by what their units say.
    fn differing(now: &[(&str, &str)], then: &[(&str, &str)]) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        let store = StoreRoot::of(&format!("local?root={}", dir.path().display()));
        let system = |digit: &str, files: &[(&str, &str)]| {
            let path = format!("/nix/store/{}-system", digit.repeat(32));
            let system: StorePath = path.parse().unwrap();
            for (name, text) in files {
                let file = store.physical(&system).join(name);
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(file, text).unwrap();
            }
            system
        };
        let (now, then) = (system("0", now), system("1", then));
        differ(&store, Some(&now), &then)
    }

    const UNIT: &str = "etc/systemd/system/dbus.service";
    const DAEMON: &str =
        "[Service]\nExecStart=@/nix/store/a-dbus-1.14/bin/dbus-daemon dbus-daemon --system\n";
    const NEWER: &str =
        "[Service]\nExecStart=@/nix/store/b-dbus-1.16/bin/dbus-daemon dbus-daemon --system\n";
    const BROKER: &str = "[Unit]\nAfter=x\n[Service]\nType=notify\n\
                          ExecStart=/nix/store/c-dbus-broker-36/bin/dbus-broker-launch --scope system\n";

    #[test]
    fn another_implementation_of_the_bus_is_told_and_a_newer_one_is_not() {
        assert_eq!(
            differing(&[(UNIT, DAEMON)], &[(UNIT, BROKER)]).as_deref(),
            Some("its message bus is another than runs (dbus-daemon -> dbus-broker-launch)")
        );
        assert_eq!(differing(&[(UNIT, DAEMON)], &[(UNIT, NEWER)]), None);
        assert_eq!(differing(&[(UNIT, BROKER)], &[(UNIT, BROKER)]), None);
        // Nothing is known of one of them.
        assert_eq!(differing(&[(UNIT, DAEMON)], &[]), None);
        assert_eq!(differing(&[(UNIT, "[Service]\nExecStart=\n")], &[(UNIT, BROKER)]), None);
    }

    /// Layout as NixOS has it: whichever runs, the other's name is a link to its unit,
    /// and all of /etc is links into other store paths.
    #[test]
    fn the_bus_is_found_through_the_links_of_nixos_by_either_name() {
        let dir = tempfile::tempdir().unwrap();
        let store = StoreRoot::of(&format!("local?root={}", dir.path().display()));
        let path = |digit: &str, name: &str| -> StorePath {
            format!("/nix/store/{}-{name}", digit.repeat(32)).parse().unwrap()
        };
        let system = |digits: [&str; 4], unit: &str, alias: &str, text: &str| {
            let [system, etc, units, package] = digits;
            let (system, etc) = (path(system, "system"), path(etc, "etc"));
            let (units, package) = (path(units, "system-units"), path(package, "package"));
            let made = |inside: &StorePath, file: &str| {
                let file = store.physical(inside).join(file);
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                file
            };
            std::fs::write(made(&package, unit), text).unwrap();
            for (at, to) in [
                (made(&system, "etc"), format!("{etc}/etc")),
                (made(&etc, "etc/systemd/system"), units.to_string()),
                (made(&units, unit), format!("{package}/{unit}")),
                (made(&units, alias), unit.to_owned()),
            ] {
                std::os::unix::fs::symlink(to, at).unwrap();
            }
            system
        };
        let (daemon, broker) = ("dbus.service", "dbus-broker.service");
        let now = system(["0", "1", "2", "3"], broker, daemon, BROKER);
        let then = system(["4", "5", "6", "7"], daemon, broker, DAEMON);
        assert_eq!(
            differ(&store, Some(&now), &then).as_deref(),
            Some("its message bus is another than runs (dbus-broker-launch -> dbus-daemon)")
        );
        assert_eq!(differ(&store, Some(&now), &now), None);
    }

    #[test]
    fn another_interface_of_systemd_is_told() {
        let version = "init-interface-version";
        assert_eq!(
            differing(&[(version, "systemd 2\n")], &[(version, "systemd 3")]).as_deref(),
            Some("its interface of systemd is another than runs (systemd 2 -> systemd 3)")
        );
        assert_eq!(differing(&[(version, "systemd 2\n")], &[(version, "systemd 2")]), None);
        assert_eq!(differing(&[], &[(version, "systemd 2")]), None);
    }
}

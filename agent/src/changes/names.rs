//! A store path's name, split into a package's name and its version.
//!
//! As Nix's `DrvName` (libstore/names.cc): the version begins after the first
//! dash that no letter follows. The names of outputs at its end are left out,
//! as `nix store diff-closures` does.

use crate::core::types::StorePath;

/// Names of outputs that nixpkgs uses.
const OUTPUTS: &[&str] = &[
    "bin", "lib", "man", "dev", "doc", "out", "info", "debug", "devdoc", "devman", "static",
    "data", "py", "dist", "terminfo", "getent", "modules",
];

/// Returns name and version; the latter empty if there is none.
pub(super) fn parse(path: &StorePath) -> (&str, &str) {
    let whole = path.base_name().get(33..).unwrap_or_default();
    let (name, version) = split(whole);
    // Only after a version: `linux-doc` may be a package.
    let bare = version.rsplit_once('-').filter(|(_, output)| OUTPUTS.contains(output));
    (name, bare.map_or(version, |(version, _)| version))
}

/// Whether NixOS made it out of a unit's definition: `systemd.services.web` becomes
/// `unit-web.service`, its scripts `unit-script-web-start`, its triggers
/// `X-Restart-Triggers-web`. Such a path is no package; what becomes of units is
/// told as that.
pub(super) fn is_of_a_unit(path: &StorePath) -> bool {
    const KINDS: [&str; 11] = [
        "service",
        "socket",
        "target",
        "timer",
        "path",
        "mount",
        "automount",
        "slice",
        "swap",
        "device",
        "scope",
    ];
    let whole = path.base_name().get(33..).unwrap_or_default();
    let Some(unit) = whole.strip_prefix("unit-") else {
        return ["X-Restart-Triggers-", "X-Reload-Triggers-"]
            .iter()
            .any(|it| whole.starts_with(it));
    };
    let unit = unit.strip_suffix("-disabled").unwrap_or(unit);
    let kind = unit.rsplit_once('.').map(|(_, kind)| kind);
    unit.starts_with("script-") || kind.is_some_and(|kind| KINDS.contains(&kind))
}

fn split(whole: &str) -> (&str, &str) {
    let bytes = whole.as_bytes();
    let dash = (0..bytes.len()).find(|at| {
        let next = bytes.get(at + 1);
        bytes[*at] == b'-' && next.is_some_and(|next| !next.is_ascii_alphabetic())
    });
    // Names in the store are ASCII.
    dash.and_then(|at| Some((whole.get(..at)?, whole.get(at + 1..)?))).unwrap_or((whole, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nixos_makes_of_units_is_told_from_packages() {
        let is = |whole: &str| {
            is_of_a_unit(&format!("/nix/store/{}-{whole}", "0".repeat(32)).parse().unwrap())
        };
        for whole in [
            "unit-nginx.service",
            "unit-getty-1.service-disabled",
            "unit-dev-disk-by-x2dlabel.swap",
            "unit-script-nginx-start",
            "X-Restart-Triggers-nginx",
            "X-Reload-Triggers-firewall",
        ] {
            assert!(is(whole), "{whole}");
        }
        for whole in ["unit-1.4", "unit", "unit-php-8.3", "units-2.22", "nginx.service", "nginx"] {
            assert!(!is(whole), "{whole}");
        }
    }

    #[test]
    fn names_are_split_as_nix_splits_them() {
        for (whole, name, version) in [
            ("bash-5.2p37", "bash", "5.2p37"),
            ("bash-5.2p37-man", "bash", "5.2p37"),
            (
                "nixos-system-joker-25.11.20260101.abcdef0",
                "nixos-system-joker",
                "25.11.20260101.abcdef0",
            ),
            ("linux-6.12.5-modules", "linux", "6.12.5"),
            ("python3.12-requests-2.32", "python3.12-requests", "2.32"),
            ("etc", "etc", ""),
            ("unit-nginx.service", "unit-nginx.service", ""),
            ("linux-doc", "linux-doc", ""),
            ("X-Restart-Triggers-nginx", "X-Restart-Triggers-nginx", ""),
            ("gcc-14-20241116-lib", "gcc", "14-20241116"),
            ("ends-", "ends-", ""),
            ("source--1", "source", "-1"),
        ] {
            let path = format!("/nix/store/{}-{whole}", "0".repeat(32)).parse().unwrap();
            assert_eq!(parse(&path), (name, version), "{whole}");
        }
    }
}

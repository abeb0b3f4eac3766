//! Changes to file systems and swap when `/etc/fstab` is another one, as nixpkgs'
//! switch-to-configuration-ng has it: new ones are mounted by their target.

use std::collections::BTreeMap;

use super::Units;

struct Mount<'a> {
    device: &'a str,
    kind: &'a str,
    options: &'a str,
}

/// Adds the units that change from one text to the other.
pub(super) fn compare(old: &str, new: &str, units: &mut Units) {
    let ((old_mounts, old_swaps), (new_mounts, new_swaps)) = (parse(old), parse(new));
    for (place, old) in &old_mounts {
        let name = escaped(place);
        let mount = format!("{name}.mount");
        let Some(new) = new_mounts.get(place) else {
            let automount = old.options.contains("x-systemd.automount");
            units.stop.push(if automount { format!("{name}.automount") } else { mount });
            continue;
        };
        let other = (old.device, old.kind) != (new.device, new.kind);
        // These cannot be unmounted.
        let rooted = matches!(*place, "/" | "/nix");
        match (other, old.options != new.options) {
            (true, true) if rooted => units.reload.push(mount),
            (true, false) if rooted => units.left.push(mount),
            (true, _) => units.restart.push(mount),
            (false, true) => units.reload.push(mount),
            (false, false) => {}
        }
    }
    let gone = old_swaps.iter().filter(|device| !new_swaps.contains(device));
    units.stop.extend(gone.map(|device| format!("{}.swap", escaped(device))));
}

fn parse(text: &str) -> (BTreeMap<&str, Mount<'_>>, Vec<&str>) {
    let (mut mounts, mut swaps) = (BTreeMap::new(), Vec::new());
    for line in text.lines().filter(|line| !line.contains('#')) {
        let mut fields = line.split_whitespace();
        let (Some(device), Some(place), Some(kind)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let options = fields.next().unwrap_or_default();
        if kind == "swap" {
            swaps.push(device);
        } else {
            mounts.insert(place, Mount { device, kind, options });
        }
    }
    (mounts, swaps)
}

/// Returns a path as the name of a unit (systemd-escape(1), `--path`).
fn escaped(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let path = parts.join("/");
    if path.is_empty() {
        return "-".into();
    }
    let mut name = String::new();
    for (at, byte) in path.bytes().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b'.' if at == 0 => name.push_str("\\x2e"),
            b':' | b'_' | b'.' => name.push(byte.into()),
            _ if byte.is_ascii_alphanumeric() => name.push(byte.into()),
            _ => name.push_str(&format!("\\x{byte:02x}")),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_that_changed_are_remounted_mounted_anew_or_left() {
        let old = "/dev/a / ext4 rw 0 1\n/dev/n /nix ext4 rw\n/dev/b /srv ext4 rw\n\
                   /dev/c /var/log ext4 rw\n/dev/d /mnt/x-y ext4 x-systemd.automount\n\
                   /dev/e /gone ext4 rw\n# /dev/f /f ext4 rw\n/dev/s none swap sw\n/dev/t none swap sw\n";
        let new = "/dev/z / ext4 rw 0 1\n/dev/n /nix ext4 ro\n/dev/b /srv xfs rw\n\
                   /dev/c /var/log ext4 ro\n/dev/new /new ext4 rw\n/dev/t none swap sw\n";
        let mut units = Units::default();
        compare(old, new, &mut units);
        assert_eq!(units.left, ["-.mount"]);
        assert_eq!(units.reload, ["nix.mount", "var-log.mount"]);
        assert_eq!(units.restart, ["srv.mount"]);
        assert_eq!(units.stop, ["gone.mount", "mnt-x\\x2dy.automount", "dev-s.swap"]);
        let mut same = Units::default();
        compare(old, old, &mut same);
        assert_eq!(same, Units::default());
    }
}

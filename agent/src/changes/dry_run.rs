//! Dry run of a switch: which units a system would touch, as its own
//! `switch-to-configuration dry-activate` reports them.
//!
//! **The program is part of that system and runs as root.** It is to change nothing, but
//! that is its promise: only for a system that could be activated all the same. It takes
//! the lock that every switch takes, for as long as it runs: the agent waits for it as
//! for any other hand.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use super::Units;
use crate::command::{Command, End, plain};
use crate::core::types::StorePath;
use crate::error_chain;
use crate::nix::StoreRoot;

/// Limit of a dry run, which takes a twentieth of a second; with a hundred units not much more.
const LIMIT: Duration = Duration::from_secs(60);
/// Exit code of `switch-to-configuration`: another one is at work.
const LOCKED: i32 = 11;

/// Asks the system which units it would touch. Fails with why not, in words.
pub async fn dry_activate(
    system: &StorePath,
    store: &StoreRoot,
    root: &Path,
    cancel: impl Future<Output = ()>,
) -> Result<Units, String> {
    let program = store.physical(system).join("bin/switch-to-configuration");
    let handed_on = ["PATH", "LOCALE_ARCHIVE"]
        .into_iter()
        .filter_map(|name| Some((name.into(), std::env::var_os(name)?)));
    let mut environment: Vec<(OsString, OsString)> = handed_on.collect();
    environment.push(("NIXOS_INSTALL_BOOTLOADER".into(), "0".into()));
    if root != Path::new("/") {
        environment.push(("FORT_AGENT_ROOT".into(), root.into()));
    }
    let command =
        Command::new(program).arg("dry-activate").environment(environment).time_limit(LIMIT);
    let mut units = Units::default();
    let mut last = String::new();
    let ended = command.run_with_lines(cancel, |_, line| {
        let line = plain(line);
        units.learn(&line);
        if !line.trim().is_empty() {
            last = line;
        }
    });
    match ended.await.map(|finished| finished.end) {
        Ok(End::Exit(0)) => Ok(units),
        Ok(End::Exit(LOCKED)) => {
            Err("another switch-to-configuration is at work: ask again when it is done".into())
        }
        Ok(end) => {
            let said = if last.is_empty() { String::new() } else { format!(": {last}") };
            Err(format!("switch-to-configuration dry-activate: {end}{said}"))
        }
        Err(error) => Err(error_chain::line(&error)),
    }
}

impl Units {
    /// Takes in a line as nixpkgs' switch-to-configuration-ng prints it.
    fn learn(&mut self, line: &str) {
        self.systemd |= line == "would restart systemd";
        let Some((what, names)) = line.split_once(": ") else { return };
        let list = match what {
            "would stop the following units" => &mut self.stop,
            "would restart the following units" => &mut self.restart,
            "would start the following units" => &mut self.start,
            "would reload the following units" => &mut self.reload,
            "would NOT stop the following changed units"
            | "would NOT restart the following changed units" => &mut self.left,
            _ => return,
        };
        list.extend(names.split(", ").map(str::to_owned));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_from_what_a_dry_activation_says() {
        let mut units = Units::default();
        for line in [
            "would stop the following units: a.service, b.service",
            "would NOT stop the following changed units: dbus.service",
            "would activate the configuration...",
            "would restart systemd",
            "would reload the following units: firewall.service",
            "would restart the following units: c.service",
            "would start the following units: b.service, d.service",
        ] {
            units.learn(line);
        }
        let list = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            units.joined(),
            Units {
                stop: list(&["a.service"]),
                restart: list(&["b.service", "c.service"]),
                start: list(&["d.service"]),
                reload: list(&["firewall.service"]),
                left: list(&["dbus.service"]),
                systemd: true,
                assumed: None,
            }
        );
    }

    /// Makes a store with a system whose switch-to-configuration is this script.
    fn system(script: &str) -> (tempfile::TempDir, StoreRoot, StorePath) {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let store = StoreRoot::of(&format!("local?root={}", dir.path().display()));
        let system: StorePath = format!("/nix/store/{}-system", "0".repeat(32)).parse().unwrap();
        let bin = store.physical(&system).join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        let program = bin.join("switch-to-configuration");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        (dir, store, system)
    }

    async fn asked(script: &str) -> Result<Units, String> {
        let (dir, store, system) = system(script);
        dry_activate(&system, &store, dir.path(), std::future::pending()).await
    }

    #[tokio::test]
    async fn a_system_is_asked_and_one_that_will_not_say_says_why() {
        let units = asked(
            "[ \"$1 $NIXOS_INSTALL_BOOTLOADER $FORT_AGENT_ROOT\" = \"dry-activate 0 ${0%/nix/store/*}\" ] \
             || exit 9; echo would start the following units: web.service >&2",
        );
        assert_eq!(units.await.unwrap().start, ["web.service"]);
        let failed = asked("echo Failed to open the bus >&2; exit 1").await.unwrap_err();
        assert!(failed.contains("exit code 1: Failed to open the bus"), "{failed}");
        assert!(asked("exit 11").await.unwrap_err().contains("at work"));
        let (dir, store, system) = system("sleep 600");
        let units = dry_activate(&system, &store, dir.path(), std::future::ready(())).await;
        assert!(units.unwrap_err().contains("cancelled"));
    }
}

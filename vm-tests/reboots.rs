//! Hazard: what comes after a boot. A kernel that does not boot and that the boot
//! loader gives up; a system that needs a reboot, on a host that does it itself.

use serde_json::Value;

use crate::support::shared::firmware;
use crate::support::{Cluster, Host, Image, Machine, on};

fn in_sync(cluster: &Cluster, more: &str) -> (Host, Machine) {
    cluster.forge();
    let one = Host::new("joker", "one").agent(&cluster.agent_config(more));
    let joker = cluster.booted(&one);
    let first = cluster.push("release", &[&one]);
    joker.wait_in_sync(first);
    (one, joker)
}

/// From now on systemd-boot boots it; it is off before and on after.
fn install_systemd_boot(joker: &Machine) {
    joker.power_cut();
    firmware::create(&joker.disk("/boot/efivars"));
    let variables = std::path::Path::new("/").join(firmware::VARIABLES);
    firmware::write_bootctl(&joker.disk("/usr/local/sbin/bootctl"), &variables);
    std::fs::create_dir_all(joker.disk("/boot/loader/entries")).unwrap();
    joker.boot();
}

fn with_kernel(host: &Host, version: &str, kernel: &str) -> Host {
    let mut host = host.at(version);
    host.knobs.kernel = kernel.into();
    host
}

#[test]
fn a_default_that_the_boot_loader_gave_up_is_replaced_by_what_it_booted() {
    on(Image::Trixie, |cluster| {
        let (one, joker) = in_sync(cluster, "");
        let good = joker.running().unwrap();
        // It works, as long as nobody boots it.
        let commit = cluster.push("release", &[&with_kernel(&one, "two", "panic")]);
        let needs_reboot = |status: &Value| status["state"] == "reboot-required";
        let status = joker.wait_status("it to need a reboot", needs_reboot);
        assert_eq!(status["running"]["commit"], commit.to_string(), "{status}");
        let bad = joker.default().unwrap();
        assert_ne!(bad, good);
        let profile = joker.link("/nix/var/nix/profiles/system").unwrap();
        let number = profile.trim_start_matches("system-").trim_end_matches("-link").to_owned();

        joker.power_cut();
        // What systemd-boot does, with boot counting: three times in vain, then
        // the entry before.
        joker.write(
            &format!("/boot/loader/entries/nixos-generation-{number}+0-3.conf"),
            format!(
                "title NixOS\nversion Generation {number} NixOS\noptions init={bad}/init quiet\n"
            )
            .as_bytes(),
        );
        joker.write("/boot/once", good.as_bytes());
        joker.boot();
        let status = joker
            .wait_status("it to be quarantined", |status| status["held"]["cause"] == "quarantined");
        assert_eq!(status["running"]["system"], good, "{status}");
        assert_eq!(status["running"]["drift"], false, "{status}");
        assert_eq!(joker.default().as_deref(), Some(good.as_str()));
        assert_eq!(joker.verdicts(commit), ["good", "rolled-back"]);
        // The way on is open.
        let three = cluster.push("release", &[&one.at("three")]);
        joker.wait_in_sync(three);
        joker.reboot();
        joker.wait_in_sync(three);
    });
}

#[test]
fn a_host_that_may_reboots_for_a_kernel_and_verifies_it_then() {
    on(Image::Trixie, |cluster| {
        let (one, joker) = in_sync(cluster, "[reboot]\nallow = true\n");
        let boots = joker.boots();
        let commit = cluster.push("release", &[&with_kernel(&one, "two", "kernel 2")]);
        joker.wait_until("it to reboot", || joker.boots() > boots);
        joker.wait_booted();
        joker.wait_until("it to be verified again", || {
            joker.leader().is_some() && joker.verdicts(commit).len() == 2
        });
        let status = joker.wait_in_sync(commit);
        assert_eq!(status["boot"]["reboot_required"], false, "{status}");
        assert_eq!(joker.booted(), joker.running());
        assert_eq!(joker.verdicts(commit), ["good", "good"]);
        assert_eq!(joker.boots(), boots + 1, "once");
    });
}

#[test]
fn another_bus_comes_with_a_boot_and_its_system_is_good_then() {
    on(Image::Trixie, |cluster| {
        // Each as its package has it, under the name that NixOS has for both.
        let with_bus = |host: &Host, more: &str| {
            let unit =
                format!("[Unit]\nRequires=dbus.socket\n[Service]\nSockets=dbus.socket\n{more}");
            host.clone().unit("dbus.service", &unit)
        };
        let broker = "Type=notify-reload\nExecStart=/usr/bin/dbus-broker-launch --scope system\n";
        let daemon = "Type=notify\nUser=messagebus\nExecStart=/usr/bin/dbus-daemon --system \
                      --address=systemd: --nofork --nopidfile --systemd-activation --syslog-only\n";
        cluster.forge();
        let one = Host::new("joker", "one").agent(&cluster.agent_config(""));
        let one = with_bus(&one, broker);
        let joker = cluster.booted(&one);
        let first = cluster.push("release", &[&one]);
        joker.wait_in_sync(first);
        for (version, unit, from, to) in [
            ("two", daemon, Image::Trixie.bus(), Image::Sid.bus()),
            ("three", broker, Image::Sid.bus(), Image::Trixie.bus()),
        ] {
            let before = joker.version();
            let commit = cluster.push("release", &[&with_bus(&one.at(version), unit)]);
            let status = joker.wait_status("it to need a reboot", |status| {
                status["state"] == "reboot-required"
                    && status["desired"]["commit"] == commit.to_string()
            });
            let why = status["boot"]["why"].as_str().unwrap();
            assert!(why.contains("message bus"), "{why}");
            assert_eq!((joker.bus().as_str(), joker.version()), (from, before));
            joker.reboot();
            joker.wait_in_sync(commit);
            assert_eq!((joker.bus().as_str(), joker.version().as_str()), (to, version));
            assert_eq!(
                (joker.failed_units().as_str(), joker.verdicts(commit)),
                ("", vec!["good".to_owned()])
            );
        }
    });
}

#[test]
fn a_deferred_system_is_booted_once_and_becomes_the_default_if_it_works() {
    on(Image::Trixie, |cluster| {
        let (one, joker) = in_sync(cluster, "");
        install_systemd_boot(&joker);
        let good = joker.running().unwrap();
        let left_to_a_boot = |version: &str, kernel: &str| {
            let mut host = with_kernel(&one, version, kernel);
            host.knobs.switch.exit.insert("test", 100);
            let commit = cluster.push("release", &[&host]);
            joker.wait_status("it to need a reboot", |status| {
                status["state"] == "reboot-required"
                    && status["desired"]["commit"] == commit.to_string()
            });
            commit
        };
        // Its kernel does not come up, and nobody counts boots.
        let bad = left_to_a_boot("two", "panic");
        assert_eq!(joker.default().as_deref(), Some(good.as_str()));
        assert_eq!(joker.read("/boot/default"), good);
        joker.reboot();
        let status = joker
            .wait_status("it to be quarantined", |status| status["held"]["cause"] == "quarantined");
        assert_eq!(joker.read("/var/log/panics").lines().count(), 1);
        assert_eq!(status["running"]["system"], good, "{status}");
        assert_eq!(status["running"]["drift"], false, "{status}");
        assert_eq!(joker.default().as_deref(), Some(good.as_str()));
        assert_eq!(joker.verdicts(bad), ["rolled-back"]);
        // This one's does.
        let three = left_to_a_boot("three", "kernel 3");
        assert_eq!(joker.read("/boot/default"), good);
        joker.reboot();
        joker.wait_in_sync(three);
        assert_eq!(joker.verdicts(three), ["good"]);
        let runs = joker.running();
        assert_ne!(runs.as_deref(), Some(good.as_str()));
        assert_eq!(joker.default(), runs);
        joker.reboot();
        joker.wait_in_sync(three);
        assert_eq!(joker.booted(), runs);
    });
}

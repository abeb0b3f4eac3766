//! Systems of which the next boot is the first that runs all.

use super::play::{SELDOM, Stage, Stall, switched};
use super::systems::push;
use crate::support::system::Host;

pub(super) fn inhibited() -> Stall {
    Stall {
        cause: |stage| {
            let with = |version, dbus| Host {
                inhibitors: format!("{{\n\"dbus\": \"{dbus}\"\n}}"),
                ..Host::new(version)
            };
            push(stage, &with("two", "dbus"));
            stage.rig.wait_in_sync(stage.head);
            push(stage, &with("three", "broker"));
        },
        in_effect: switched,
        every: SELDOM,
        state: "reboot-required",
        words: &["{head} is the default, but", "switch inhibitors", "dbus (dbus -> broker)"],
        lift: &["reboot the host"],
        metrics: &["fort_agent_reboot_required 1"],
        undo: |stage| {
            stage.reboot("boot-2");
            stage.head
        },
        ..Stall::USUAL
    }
}

pub(super) fn reboot_required() -> Stall {
    Stall {
        cause: |stage| {
            // What was booted is compared with.
            stage.reboot("boot-2");
            stage.rig.wait_in_sync(stage.one);
            push(stage, &Host { kernel: "kernel 2".into(), ..Host::new("two") });
        },
        in_effect: switched,
        every: SELDOM,
        state: "reboot-required",
        words: &["{head} runs, but needs a reboot", "kernel"],
        lift: &["reboot the host"],
        metrics: &["fort_agent_reboot_required 1"],
        undo: |stage| {
            stage.reboot("boot-3");
            stage.head
        },
        ..Stall::USUAL
    }
}

pub(super) fn bus_changed() -> Stall {
    fn bus(stage: &Stage, program: &str) {
        let unit = format!("[Service]\nExecStart=@/x/bin/{program} {program} --system\n");
        stage.rig.tree.write("hosts/joker/etc/systemd/system/dbus.service", &unit);
    }
    Stall {
        cause: |stage| {
            bus(stage, "dbus-daemon");
            push(stage, &Host::new("two"));
            stage.rig.wait_in_sync(stage.head);
            bus(stage, "dbus-broker-launch");
            push(stage, &Host::new("three"));
        },
        in_effect: switched,
        every: SELDOM,
        state: "reboot-required",
        words: &[
            "{head} is the default, but",
            "its message bus is another than runs (dbus-daemon -> dbus-broker-launch)",
        ],
        lift: &["reboot the host"],
        metrics: &["fort_agent_reboot_required 1"],
        undo: |stage| {
            stage.reboot("boot-2");
            stage.head
        },
        ..Stall::USUAL
    }
}

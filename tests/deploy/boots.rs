//! Systems that become the default before they run, and kernels.

use super::checks::version_check;
use crate::support::rig::Rig;
use crate::support::system::Host;

fn next_boot(rig: &mut Rig, id: &str) {
    rig.stop();
    rig.boot(id);
    rig.start();
}

#[test]
fn operation_boot_sets_the_default_and_is_verified_after_the_boot() {
    let mut rig = Rig::new();
    rig.settings.branch = "operation = \"boot\"\n".into();
    rig.settings.health = "grace = \"0s\"\ntimeout = \"1s\"\n".into();
    rig.settings.sections = version_check(&rig, "");
    let one = rig.push("release", &Host::new("one"));
    rig.start();
    let status = rig.wait_state("reboot-required");
    assert_eq!(rig.version(), "");
    assert_eq!(rig.boot_default().as_deref(), status["boot"]["default"].as_str());
    assert_eq!(rig.switched(), ["boot one"]);
    next_boot(&mut rig, "boot-2");
    rig.wait_in_sync(one);
    assert_eq!(rig.version(), "one");
    assert_eq!(rig.verdicts(one), ["good"]);

    let default = rig.boot_default();
    let bad = rig.push("release", &Host::new("bad"));
    let status = rig.wait_state("reboot-required");
    assert_eq!(status["running"]["commit"], one.to_string());
    assert_eq!(status["running"]["drift"], false);
    assert_ne!(rig.boot_default(), default);
    next_boot(&mut rig, "boot-3");
    assert_eq!(rig.version(), "bad");
    let entry = rig.wait_verdict(bad, "rolled-back");
    assert!(entry["cause"].as_str().unwrap().contains("check version"), "{entry:#}");
    assert_eq!(rig.version(), "one");
    assert_eq!((rig.boot_default(), rig.generations()), (default, 1));
}

#[test]
fn operation_boot_is_followed_by_a_newer_commit_before_the_boot() {
    let (mut rig, _) = Rig::deployed();
    rig.stop();
    rig.settings.branch = "operation = \"boot\"\n".into();
    rig.start();
    let two = rig.push("release", &Host::new("two"));
    rig.wait_state("reboot-required");
    let three = rig.push("release", &Host::new("three"));
    rig.wait("three awaits the boot", |status| {
        status["state"] == "reboot-required" && status["desired"]["commit"] == three.to_string()
    });
    assert_eq!(rig.verdicts(two), ["superseded"]);
    assert_eq!(rig.version(), "one");
    next_boot(&mut rig, "boot-2");
    rig.wait_in_sync(three);
    assert_eq!(rig.version(), "three");
    assert_eq!(rig.verdicts(three), ["good"]);
}

#[test]
fn a_changed_kernel_is_switched_to_and_needs_a_reboot() {
    let (mut rig, _) = Rig::deployed();
    // The first system is booted, so that there is something to compare with.
    next_boot(&mut rig, "boot-2");
    let mut host = Host::new("two");
    let two = rig.push("release", &host);
    let status = rig.wait_in_sync(two);
    assert_eq!(status["boot"]["reboot_required"], false, "{status:#}");
    host.version = "three".into();
    host.kernel = "kernel 2".into();
    let three = rig.push("release", &host);
    let status = rig.wait_state("reboot-required");
    assert_eq!(rig.version(), "three");
    assert_eq!(status["running"]["commit"], three.to_string());
    assert_eq!(status["boot"]["reboot_required"], true);
    let why = status["boot"]["why"].as_str().unwrap();
    assert!(why.contains("kernel") && why.contains("initrd"), "{why}");
    assert_eq!(rig.verdicts(three), ["good"]);
    next_boot(&mut rig, "boot-3");
    let status = rig.wait_in_sync(three);
    assert_eq!(status["boot"]["reboot_required"], false);
    assert_eq!(rig.version(), "three");
}

/// As with nixpkgs, what only one of the two names is no reason.
#[test]
fn a_system_that_inhibits_the_switch_awaits_the_boot() {
    let (mut rig, _) = Rig::deployed();
    let with = |version: &str, inhibitors: &str| {
        let mut host = Host::new(version);
        host.inhibitors = format!("{{\n{inhibitors}\n}}");
        host
    };
    let two = rig.push("release", &with("two", "\"dbus\": \"1\""));
    rig.wait_in_sync(two);
    let three = rig.push("release", &with("three", "\"dbus\": \"1\",\n\"init\": \"old\""));
    rig.wait_in_sync(three);
    let four = rig.push("release", &with("four", "\"dbus\": \"1\",\n\"init\": \"new\""));
    let status = rig.wait_state("reboot-required");
    assert_eq!(status["desired"]["commit"], four.to_string());
    let why = status["boot"]["why"].as_str().unwrap();
    assert!(why.contains("init (old -> new)") && !why.contains("dbus"), "{why}");
    assert_eq!(rig.version(), "three");
    assert_eq!(rig.switched().last().map(String::as_str), Some("boot four"));
    next_boot(&mut rig, "boot-2");
    rig.wait_in_sync(four);
    assert_eq!(rig.verdicts(four), ["good"]);
}

#[test]
fn a_rollback_before_the_boot_gives_the_default_back() {
    let (mut rig, one) = Rig::deployed();
    rig.stop();
    rig.settings.branch = "operation = \"boot\"\n".into();
    rig.start();
    rig.wait_in_sync(one);
    let default = rig.boot_default();
    let two = rig.push("release", &Host::new("two"));
    rig.wait_state("reboot-required");
    assert_ne!(rig.boot_default(), default);
    let (code, said) = rig.tell(&["rollback", "--reason", "not today"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains(&format!("from {} to {}", two.short(), one.short())), "{said}");
    let entry = rig.wait_verdict(two, "rolled-back");
    assert_eq!(entry["cause"], "rolled back by a person: not today");
    let status = rig.wait_held("quarantined");
    assert_eq!(status["boot"]["default"], status["running"]["system"]);
    assert_eq!((rig.boot_default(), rig.generations()), (default, 1));
    // Nothing was activated, and the next boot is none of it.
    assert_eq!(rig.switched()[2..], ["boot two", "boot one"]);
    next_boot(&mut rig, "boot-2");
    rig.wait_held("quarantined");
    assert_eq!(rig.version(), "one");
    assert_eq!(rig.verdicts(two), ["rolled-back"]);
}

/// nixpkgs names it among the inhibitors no more.
#[test]
fn another_message_bus_comes_with_the_next_boot_unless_it_may_come_at_once() {
    let bus = |rig: &Rig, program: &str| {
        let unit = format!("[Service]\nExecStart=@/x/bin/{program} {program} --system\n");
        rig.tree.write("hosts/joker/etc/systemd/system/dbus.service", &unit);
    };
    let (mut rig, _) = Rig::deployed_with(|rig| bus(rig, "dbus-daemon"));
    bus(&rig, "dbus-broker-launch");
    let two = rig.push("release", &Host::new("two"));
    let status = rig.wait_state("reboot-required");
    let why = status["boot"]["why"].as_str().unwrap();
    assert!(why.contains("message bus") && why.contains("dbus-broker-launch"), "{why}");
    assert_eq!(status["boot"]["commit"], two.to_string());
    assert_eq!(rig.version(), "one");
    next_boot(&mut rig, "boot-2");
    rig.wait_in_sync(two);
    rig.stop();
    rig.settings.activation = "on_bus_change = \"switch\"\n".into();
    rig.start();
    bus(&rig, "dbus-daemon");
    let three = rig.push("release", &Host::new("three"));
    rig.wait_in_sync(three);
    assert_eq!(rig.version(), "three");
}

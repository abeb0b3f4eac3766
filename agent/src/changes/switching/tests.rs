use std::fs;
use std::os::unix::fs::symlink;

use super::*;

/// A store with two systems.
struct Pair {
    dir: tempfile::TempDir,
    old: StorePath,
    new: StorePath,
}

impl Pair {
    fn new() -> Self {
        let path = |digit: &str| format!("/nix/store/{}-system", digit.repeat(32)).parse();
        let dir = tempfile::tempdir().unwrap();
        Self { dir, old: path("1").unwrap(), new: path("2").unwrap() }
    }

    fn store(&self) -> StoreRoot {
        StoreRoot::of(&format!("local?root={}", self.dir.path().display()))
    }

    fn file(&self, system: &StorePath, path: &str) -> PathBuf {
        let file = self.store().physical(system).join("etc").join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        file
    }

    fn write(&self, system: &StorePath, unit: &str, text: &str) {
        fs::write(self.file(system, &format!("systemd/system/{unit}")), text).unwrap();
    }

    fn old(&self, unit: &str, text: &str) -> &Self {
        self.write(&self.old, unit, text);
        self
    }

    fn new_(&self, unit: &str, text: &str) -> &Self {
        self.write(&self.new, unit, text);
        self
    }

    /// Writes a unit to both systems, started by another program in the new one.
    fn changed(&self, unit: &str, text: &str) -> &Self {
        let of = |version: u32| format!("{text}\n[Service]\nExecStart=/v{version}\n");
        self.old(unit, &of(1)).new_(unit, &of(2))
    }

    fn told(&self, active: &[&str]) -> Units {
        let active = active.iter().map(|unit| ((*unit).to_owned(), "active".to_owned()));
        by_files(&self.store(), &self.old, &self.new, Ok(active.collect())).unwrap()
    }
}

fn lists(units: &Units) -> [&[String]; 5] {
    [&units.stop, &units.restart, &units.start, &units.reload, &units.left].map(Vec::as_slice)
}

#[test]
fn a_changed_service_is_treated_as_its_options_say() {
    let pair = Pair::new();
    pair.changed("plain.service", "")
        .changed("restarts.service", "[Service]\nX-StopIfChanged=false")
        .changed("reloads.service", "[Service]\nX-ReloadIfChanged=true")
        .changed("stays.service", "[Service]\nX-RestartIfChanged=false")
        .changed("bus.service", "[Unit]\nRefuseManualStop=true")
        .changed("once.service", "[Unit]\nX-OnlyManualStart=true")
        .changed("asleep.service", "")
        .changed("clock.timer", "")
        .changed("dir.path", "")
        .changed("some.slice", "")
        .changed("a.socket", "")
        .old("same.service", "[Unit]\nDescription=1\n")
        .new_("same.service", "[Unit]\nDescription=2\n");
    let units = pair.told(&[
        "plain.service",
        "restarts.service",
        "reloads.service",
        "stays.service",
        "bus.service",
        "once.service",
        "clock.timer",
        "dir.path",
        "some.slice",
        "a.socket",
        "same.service",
        "not-of-nixos.service",
    ]);
    assert_eq!(units.restart, ["clock.timer", "plain.service", "restarts.service"]);
    assert_eq!(units.reload, ["reloads.service"]);
    assert_eq!(units.left, ["bus.service", "once.service", "stays.service"]);
    assert!(units.stop.is_empty() && units.start.is_empty() && !units.systemd, "{units:?}");
}

#[test]
fn what_is_gone_stops_and_what_is_new_and_wanted_starts() {
    let pair = Pair::new();
    pair.old("gone.service", "[Service]\nExecStart=/a\n")
        .old("stays.service", "[Unit]\nX-StopOnRemoval=false\n")
        .old("masked.service", "[Service]\nExecStart=/a\n")
        .old("multi-user.target", "[Unit]\n")
        .new_("multi-user.target", "[Unit]\nWants=by-key.service\n")
        .new_("new.service", "[Service]\nExecStart=/a\n")
        .new_("by-key.service", "[Service]\nExecStart=/a\n")
        .new_("unwanted.service", "[Service]\nExecStart=/a\n")
        .new_("tty@.service", "[Service]\nExecStart=/a\n");
    symlink("/dev/null", pair.file(&pair.new, "systemd/system/masked.service")).unwrap();
    for wanted in ["new.service", "tty@1.service"] {
        let link =
            pair.file(&pair.new, &format!("systemd/system/multi-user.target.wants/{wanted}"));
        symlink("../whatever", link).unwrap();
    }
    let units =
        pair.told(&["gone.service", "stays.service", "masked.service", "multi-user.target"]);
    assert_eq!(units.stop, ["gone.service", "masked.service"]);
    assert_eq!(units.start, ["by-key.service", "new.service", "tty@1.service"]);
    assert_eq!(lists(&units).map(<[_]>::len), [2, 0, 3, 0, 0]);
}

#[test]
fn a_service_with_a_socket_is_started_by_it() {
    let pair = Pair::new();
    pair.changed("web.service", "")
        .changed("own.service", "[Service]\nX-NotSocketActivated=true")
        .changed("two.service", "[Service]\nSockets=x.socket y.socket")
        .changed("later.service", "")
        .changed("at@.service", "");
    for socket in ["web.socket", "own.socket", "x.socket", "y.socket", "at.socket"] {
        pair.old(socket, "[Socket]\n").new_(socket, "[Socket]\n");
    }
    pair.new_("later.socket", "[Socket]\n");
    let units = pair.told(&[
        "web.service",
        "web.socket",
        "own.service",
        "own.socket",
        "two.service",
        "x.socket",
        "later.service",
        "at@1.service",
        "at.socket",
    ]);
    assert_eq!(units.restart, ["at.socket", "own.service", "own.socket", "web.socket", "x.socket"]);
    assert_eq!(units.stop, ["at@1.service", "later.service", "two.service", "web.service"]);
    assert!(units.start.is_empty(), "{units:?}");
}

#[test]
fn drop_ins_count_as_the_unit_that_they_are_laid_over() {
    let pair = Pair::new();
    for system in [&pair.old, &pair.new] {
        pair.write(system, "a.service", "[Service]\nExecStart=/a\n");
        pair.write(system, "i@.service", "[Service]\nExecStart=/a\n");
        pair.write(system, "j@.service", "[Service]\nExecStart=/a\n");
    }
    pair.new_("a.service.d/overrides.conf", "[Service]\nExecStart=\nExecStart=/b\n");
    // An instance that only a drop-in made the system's own.
    pair.old("i@1.service.d/overrides.conf", "[Service]\nNice=1\n");
    pair.old("j@1.service.d/overrides.conf", "[Service]\nNice=1\n");
    pair.new_("j@1.service.d/overrides.conf", "[Service]\nNice=2\n");
    let units = pair.told(&["a.service", "i@1.service", "i@2.service", "j@1.service"]);
    assert_eq!(units.restart, ["a.service", "j@1.service"]);
    assert_eq!(units.stop, ["i@1.service"]);
}

#[test]
fn without_systemd_all_that_the_old_system_has_is_taken_for_running() {
    let pair = Pair::new();
    pair.changed("a.service", "").changed("t@.service", "");
    let told = by_files(&pair.store(), &pair.old, &pair.new, Err("no bus".into())).unwrap();
    assert_eq!(told.restart, ["a.service"]);
    assert_eq!(told.assumed.as_deref(), Some("no bus"));
}

#[test]
fn mounts_and_systemd_itself_are_told() {
    let pair = Pair::new();
    fs::write(pair.file(&pair.old, "fstab"), "/dev/a /srv ext4 rw\n").unwrap();
    pair.old("a.service", "[Unit]\n").new_("a.service", "[Unit]\n");
    for (system, version) in [(&pair.old, "1"), (&pair.new, "2")] {
        let systemd = pair.store().physical(system).join("systemd");
        let target = pair.dir.path().join(version);
        fs::create_dir_all(target.join("lib/systemd")).unwrap();
        fs::write(target.join("lib/systemd/systemd"), version).unwrap();
        symlink(target, systemd).unwrap();
    }
    let units = pair.told(&["a.service"]);
    assert_eq!(units.stop, ["srv.mount"]);
    assert!(units.systemd);
}

#[test]
fn nothing_of_a_system_is_run() {
    use std::os::unix::fs::PermissionsExt as _;
    let pair = Pair::new();
    pair.changed("a.service", "");
    let (mark, system) = (pair.dir.path().join("ran"), pair.store().physical(&pair.new));
    fs::create_dir_all(system.join("bin")).unwrap();
    for program in ["bin/switch-to-configuration", "dry-activate", "activate"] {
        let program = system.join(program);
        fs::write(&program, format!("#!/bin/sh\ntouch {}\n", mark.display())).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    assert_eq!(pair.told(&["a.service"]).restart, ["a.service"]);
    assert!(!mark.exists());
}

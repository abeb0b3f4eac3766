//! The fixture's systems do what NixOS's do, as far as the agent can see:
//! what they get wrong here, every test that uses them would get wrong.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use fort_agent::core::types::StorePath;

use crate::support::nix::ScratchStore;
use crate::support::system::{Host, Repository};

struct Machine {
    store: ScratchStore,
    repository: Repository,
}

impl Machine {
    fn new() -> Self {
        let store = ScratchStore::new();
        let repository = Repository::create(store.dir().join("repository"));
        Self { store, repository }
    }

    fn system(&self, host: &Host) -> StorePath {
        self.repository.host("joker", host).commit("A system");
        let flake = format!(
            "git+file://{}#nixosConfigurations.joker.config.system.build.toplevel",
            self.repository.dir().display()
        );
        let link = self.store.dir().join("result");
        let link = link.to_str().unwrap();
        self.store.run("nix", &["build", "--out-link", link, &flake]);
        std::fs::read_link(link).unwrap().to_str().unwrap().parse().unwrap()
    }

    fn root(&self) -> PathBuf {
        self.store.dir().join("root")
    }

    fn start(&self, system: &StorePath, action: &str) -> Child {
        let script = self.store.root().physical(system).join("bin/switch-to-configuration");
        Command::new(script).arg(action).env("FORT_AGENT_ROOT", self.root()).spawn().unwrap()
    }

    fn switch(&self, system: &StorePath, action: &str) -> Option<i32> {
        self.start(system, action).wait().unwrap().code()
    }

    fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.root().join(file)).unwrap_or_default().trim().to_owned()
    }

    fn running(&self) -> Option<PathBuf> {
        std::fs::read_link(self.root().join("run/current-system")).ok()
    }
}

fn runs(system: &StorePath) -> Option<PathBuf> {
    Some(PathBuf::from(system.as_str()))
}

#[test]
fn test_moves_the_system_and_boot_only_the_default() {
    let machine = Machine::new();
    let (one, two) = (machine.system(&Host::new("one")), machine.system(&Host::new("two")));
    assert_eq!(machine.switch(&one, "test"), Some(0));
    assert_eq!(
        (machine.running(), machine.read("run/fixture/version")),
        (runs(&one), "one".into())
    );
    assert_eq!(machine.read("boot/default"), "");
    assert_eq!(machine.switch(&two, "boot"), Some(0));
    assert_eq!((machine.running(), machine.read("boot/default")), (runs(&one), two.to_string()));
    assert_eq!(machine.switch(&two, "dry-activate"), Some(0));
    assert_eq!(machine.switch(&two, "reboot"), Some(1));
    assert_eq!(machine.running(), runs(&one));
    assert_eq!(machine.switch(&two, "switch"), Some(0));
    assert_eq!(machine.running(), runs(&two));
    let switches = format!("test {one}\nboot {two}\ndry-activate {two}\nswitch {two}");
    assert_eq!(machine.read("var/log/switches"), switches);
}

#[test]
fn exit_codes_say_what_has_moved() {
    let machine = Machine::new();
    let good = machine.system(&Host::new("good"));
    for (code, moves) in [(1, false), (100, false), (2, true), (4, true), (7, true)] {
        assert_eq!(machine.switch(&good, "test"), Some(0));
        let odd = machine.system(&Host::exits("odd", "test", code));
        assert_eq!(machine.switch(&odd, "test"), Some(code.into()));
        assert_eq!(machine.running() == runs(&odd), moves, "{code}");
        assert_eq!(machine.switch(&odd, "boot"), Some(0));
    }
}

#[test]
fn a_refused_check_can_be_overridden() {
    let machine = Machine::new();
    let mut host = Host::new("one");
    host.switch.refuse_check = true;
    let system = machine.system(&host);
    assert_eq!(machine.switch(&system, "test"), Some(1));
    assert_eq!(machine.running(), None);
    let script = machine.store.root().physical(&system).join("bin/switch-to-configuration");
    let mut command = Command::new(script);
    command.arg("test").env("FORT_AGENT_ROOT", machine.root()).env("NIXOS_NO_CHECK", "1");
    assert!(command.status().unwrap().success());
    assert_eq!(machine.running(), runs(&system));
}

#[test]
fn a_signal_strikes_before_or_after_the_move() {
    let machine = Machine::new();
    let mut host = Host::new("before");
    host.switch.signal.insert("test", 9);
    assert_eq!(machine.switch(&machine.system(&host), "test"), None);
    assert_eq!(machine.running(), None);
    host.switch.signal_after = std::mem::take(&mut host.switch.signal);
    let system = machine.system(&host);
    assert_eq!(machine.switch(&system, "test"), None);
    assert_eq!(machine.running(), runs(&system));
}

#[test]
fn a_switch_may_break_off_with_any_code_and_leaves_what_it_had_still_to_start() {
    let machine = Machine::new();
    let list = machine.root().join("run/nixos/start-list");
    let mut host = Host::new("before");
    host.switch.die.insert("test", 11);
    assert_eq!(machine.switch(&machine.system(&host), "test"), Some(11));
    assert_eq!((machine.running(), list.exists()), (None, false));
    host.switch.die_after = std::mem::take(&mut host.switch.die);
    let system = machine.system(&host);
    assert_eq!(machine.switch(&system, "test"), Some(11));
    assert_eq!((machine.running(), list.exists()), (runs(&system), true));
    assert_eq!(machine.switch(&machine.system(&Host::new("whole")), "test"), Some(0));
    assert!(!list.exists());
}

#[test]
fn one_switch_at_a_time_and_a_killed_one_frees_the_lock() {
    let machine = Machine::new();
    let mut host = Host::new("slow");
    host.switch.hang_after.insert("test", 300);
    let (slow, other) = (machine.system(&host), machine.system(&Host::new("other")));
    let mut hanging = machine.start(&slow, "test");
    wait_for(&machine.root().join("run/fixture/version"));
    assert_eq!(machine.switch(&other, "test"), Some(11));
    assert_eq!(machine.running(), runs(&slow));
    hanging.kill().unwrap();
    hanging.wait().unwrap();
    assert_eq!(machine.switch(&other, "test"), Some(0));
    assert_eq!(machine.running(), runs(&other));
    // And one that is let go ends by itself.
    let mut hanging = machine.start(&slow, "test");
    std::fs::write(machine.root().join("run/fixture/go"), "").unwrap();
    assert!(hanging.wait().unwrap().success());
}

#[test]
fn a_kernel_is_a_knob() {
    let machine = Machine::new();
    let mut host = Host::new("one");
    let kernel = |system: &StorePath| {
        std::fs::read(machine.store.root().physical(system).join("kernel")).unwrap()
    };
    let one = machine.system(&host);
    host.version = "two".into();
    let two = machine.system(&host);
    assert_eq!(kernel(&one), kernel(&two));
    host.kernel = "kernel 2".into();
    assert_ne!(kernel(&machine.system(&host)), kernel(&two));
}

#[track_caller]
fn wait_for(file: &Path) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !file.exists() {
        assert!(Instant::now() < deadline, "not within 30 s: {}", file.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

//! The hosts of these tests are hosts: what they get wrong, every test on them
//! would get wrong.

mod switching;

use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use crate::support::{Host, Image, Machine, on, on_each, service};

#[test]
fn a_host_boots_its_distribution_and_its_system() {
    on_each(|cluster| {
        let plain = cluster.machine("plain");
        timed("boot of the distribution", || plain.boot());
        assert_eq!((plain.failed_units().as_str(), plain.running()), ("", None));
        assert_eq!(plain.bus(), cluster.image().bus());
        let systemd = plain.must(&["systemctl", "--version"]);
        let nix = plain.must(&["nix", "--version"]);
        eprintln!("{}; {nix}", systemd.lines().next().unwrap());

        let host = Host::new("joker", "one");
        let joker = timed("installation", || cluster.installed(&host));
        timed("boot of a system", || joker.boot());
        assert_eq!((joker.failed_units().as_str(), joker.version().as_str()), ("", "one"));
        assert_eq!(
            (joker.must(&["hostname"]).as_str(), joker.bus().as_str()),
            ("joker", cluster.image().bus())
        );
        let installed = joker.default();
        assert!(installed.as_ref().is_some_and(|system| system.starts_with("/nix/store/")));
        assert_eq!((joker.running(), joker.booted()), (installed.clone(), installed.clone()));
        let profile = joker.must(&["readlink", "-f", "/nix/var/nix/profiles/system"]);
        assert_eq!(Some(profile), installed);
        // Its own units are, and so are the distribution's.
        assert!(joker.is_active("web.service") && joker.is_active("nix-daemon.socket"));
        assert_eq!(joker.unit("web.service", "Description"), "The web, one");
        timed("reboot", || joker.reboot());
        assert_eq!(joker.boots(), 2);
        // A command that is stopped, as by a shutdown, and goes on later is waited for; and
        // how it ends is told.
        let stopped = "(until grep -q '^State:.T' /proc/$$/status; do :; done; sleep 0.2; \
                       kill -CONT $$) & kill -STOP $$; exit 3";
        assert_eq!(joker.run(&["sh", "-c", stopped]).status.code(), Some(3));
        assert_eq!(joker.run(&["sh", "-c", "kill -KILL $$"]).status.signal(), Some(9));
    });
}

#[test]
fn four_hosts_boot_at_once_and_reach_each_other() {
    on(Image::Trixie, |cluster| {
        let names = ["joker", "riddler", "penguin", "catwoman"];
        let hosts: Vec<Machine> =
            names.iter().map(|name| cluster.installed(&Host::new(name, "one"))).collect();
        timed("boot of four", || {
            hosts.iter().for_each(Machine::switch_on);
            hosts.iter().for_each(Machine::wait_booted);
        });
        for host in &hosts {
            assert_eq!((host.failed_units().as_str(), host.version().as_str()), ("", "one"));
        }
        // Each is itself: its own name, numbers and boot.
        let different = |read: &dyn Fn(&Machine) -> String| {
            let mut all: Vec<String> = hosts.iter().map(read).collect();
            all.sort();
            all.dedup();
            assert_eq!(all.len(), hosts.len(), "{all:?}");
        };
        different(&|host| host.must(&["hostname"]));
        different(&|host| host.read("/etc/machine-id"));
        different(&|host| host.read("/proc/sys/kernel/random/boot_id"));
        for other in &hosts[1..] {
            hosts[0].must(&["busybox", "ping", "-c", "1", "-W", "5", other.address()]);
        }
        hosts[2].power_cut();
        let silent = ["busybox", "ping", "-c", "1", "-W", "1", hosts[2].address()];
        assert!(!hosts[0].run(&silent).status.success());
    });
}

#[test]
fn a_reboot_undoes_test_and_keeps_boot() {
    on_each(|cluster| {
        let host = Host::new("joker", "one");
        let joker = cluster.booted(&host);
        let one = joker.default().unwrap();
        host.at("two").write(cluster.tree());
        let two = joker.build(cluster.tree());
        assert_ne!(one, two);

        assert_eq!(timed("switch", || joker.switch(&two, "test")).0, Some(0));
        assert_eq!((joker.version().as_str(), joker.running()), ("two", Some(two.clone())));
        assert_eq!((joker.default(), joker.booted()), (Some(one.clone()), Some(one.clone())));
        joker.reboot();
        assert_eq!((joker.version().as_str(), joker.running()), ("one", Some(one.clone())));

        assert_eq!(joker.switch(&two, "boot").0, Some(0));
        assert_eq!((joker.version().as_str(), joker.default()), ("one", Some(two.clone())));
        joker.reboot();
        assert_eq!((joker.version().as_str(), joker.running()), ("two", Some(two.clone())));
        assert_eq!(joker.booted(), Some(two));

        // Once, from the boot loader's menu.
        joker.write("/boot/once", one.as_bytes());
        joker.reboot();
        assert_eq!((joker.version().as_str(), joker.booted()), ("one", Some(one)));
        joker.reboot();
        assert_eq!(joker.version(), "two");
        assert_eq!((joker.boots(), joker.failed_units().as_str()), (5, ""));
    });
}

#[test]
fn a_power_cut_in_a_switch_boots_what_was_default() {
    on(Image::Trixie, |cluster| {
        let host = Host::new("joker", "one");
        let joker = cluster.booted(&host);
        let before = joker.read("/proc/sys/kernel/random/boot_id");
        let mut hangs = host.at("two");
        hangs.knobs.switch.hang_after.insert("test", 300);
        hangs.write(cluster.tree());
        let two = joker.build(cluster.tree());
        let mut switch = joker.spawn(&[&format!("{two}/bin/switch-to-configuration"), "test"]);
        joker.wait_until("it to move", || joker.running() == Some(two.clone()));
        // Units were stopped and are not started yet; another switch must wait.
        assert!(!joker.is_active("web.service"));
        assert_eq!(joker.switch(&two, "boot").0, Some(11));
        assert_eq!(joker.read("/run/nixos/start-list"), "web.service");

        timed("power cut", || joker.power_cut());
        assert!(!switch.wait().unwrap().success());
        timed("boot after it", || joker.boot());
        assert_eq!((joker.version().as_str(), joker.boots()), ("one", 2));
        assert_eq!((joker.running(), joker.failed_units().as_str()), (joker.default(), ""));
        assert!(joker.is_active("web.service"));
        assert_ne!(joker.read("/proc/sys/kernel/random/boot_id"), before);
        // The disk is as it was, and its journal goes on.
        assert_eq!(joker.journal(&["--list-boots", "-q"]).lines().count(), 2);
        assert_eq!(joker.switches(), [("test".to_owned(), two)]);
    });
}

#[test]
fn a_kernel_that_panics_never_boots() {
    on(Image::Trixie, |cluster| {
        let host = Host::new("joker", "one");
        let joker = cluster.booted(&host);
        let mut panics = host.at("two");
        panics.knobs.kernel = "panic".into();
        panics.write(cluster.tree());
        let two = joker.build(cluster.tree());
        joker.write("/boot/once", two.as_bytes());
        joker.run(&["systemctl", "reboot"]);
        joker.wait_until("the panic", || joker.console_text().contains("kernel panic"));
        joker.wait_until("it to be off", || joker.leader().is_none());
        joker.power_cut();
        joker.boot();
        assert_eq!((joker.version().as_str(), joker.boots()), ("one", 3));
    });
}

#[test]
fn hosts_reach_the_forge_by_name_and_build_through_a_sandboxing_daemon() {
    on_each(|cluster| {
        let host = Host::new("joker", "one");
        let commit = timed("push", || {
            timed("forge", || {
                cluster.forge();
            });
            cluster.push("release", &[&host])
        });
        let joker = timed("installed and booted", || cluster.booted(&host));
        let git = ["git", "-c", "http.sslCAInfo=/etc/ssl/forge.pem"];
        let ask = ["-c", "credential.helper=", "ls-remote"];
        let url = cluster.repo().url.clone();
        assert!(url.starts_with("https://forge:"), "{url}");
        let with_token =
            url.replacen("://", &format!("://fort-agent:{}@", joker.read("/etc/forge-token")), 1);
        let heads = joker.must(&[&git[..], &ask, &[&with_token, "refs/heads/release"]].concat());
        assert!(heads.starts_with(&commit.to_string()), "{heads}");
        let env = ["env", "GIT_TERMINAL_PROMPT=0"];
        let refused = joker.run(&[&env[..], &git, &ask, &[&url]].concat());
        assert!(!refused.status.success(), "not without the token");

        // As an agent does: a clone, then the system by its flake.
        timed("clone", || {
            joker.must(
                &[&git[..], &["clone", "-q", "-b", "release", &with_token, "/var/lib/clone"]]
                    .concat(),
            )
        });
        let flake =
            "git+file:///var/lib/clone#nixosConfigurations.joker.config.system.build.toplevel";
        let nix = ["nix", "--extra-experimental-features", "nix-command flakes"];
        let build = ["build", "--no-link", "--print-out-paths", flake];
        let built = timed("build", || {
            joker.must(&[&["env", "NIX_REMOTE=daemon"][..], &nix, &build].concat())
        });
        assert_eq!(Some(built), joker.running(), "what was installed by path");

        // A builder sees nothing of the host, is nobody, and has no network.
        let looks = "b=$tools/busybox; $b id -u > $out; $b ls / >> $out; $b ip -o link >> $out";
        let looks = format!(
            "let tools = \"${{/var/lib/clone/tools}}\"; in derivation {{ name = \"looks\"; inherit tools; \
             system = builtins.currentSystem; builder = \"${{tools}}/busybox\"; \
             args = [ \"sh\" \"-euc\" \"{looks}\" ]; }}"
        );
        let build = ["build", "--impure", "--no-link", "--print-out-paths", "--expr", &looks];
        let seen = timed("look", || {
            joker.must(&[&["env", "NIX_REMOTE=daemon"][..], &nix, &build].concat())
        });
        let seen = joker.read(&seen);
        let lines: Vec<&str> = seen.lines().collect();
        assert!(lines[0] != "0" && !lines.contains(&"var") && lines.contains(&"build"), "{seen}");
        let links = lines.iter().filter(|line| line.contains("mtu"));
        assert!(
            links.clone().all(|line| line.contains("LOOPBACK")) && links.count() == 1,
            "{seen}"
        );
        assert!(joker.is_active("nix-daemon.service"), "it was started by its socket");
    });
}

#[test]
fn a_host_shuts_down_in_order() {
    on(Image::Trixie, |cluster| {
        let marks = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=true\n\
                     ExecStop=touch /var/lib/stopped\n[Install]\nWantedBy=multi-user.target\n";
        let joker = cluster.booted(&Host::new("joker", "one").unit("marks.service", marks));
        timed("shutdown", || joker.shut_down());
        assert!(joker.disk("/var/lib/stopped").exists());
        joker.boot();
        assert_eq!(joker.boots(), 2);
    });
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = work();
    let took: Duration = began.elapsed();
    eprintln!("{what}: {} ms", took.as_millis());
    result
}

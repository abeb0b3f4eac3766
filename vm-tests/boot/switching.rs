//! The system's own switch-to-configuration on a host that has booted.

use super::*;

#[test]
fn a_switch_does_to_units_what_their_change_asks_for() {
    on_each(|cluster| {
        let steady = service("", "sleep infinity");
        // NixOS's switch reads these keys in one section each, and nowhere else.
        let changed =
            |keys: &str| service(&format!("#@version@\n[Service]\n{keys}"), "sleep infinity");
        let reloads = changed("X-ReloadIfChanged=true\nExecReload=touch /run/reloaded");
        let host = Host::new("joker", "one")
            .unit("steady.service", &steady)
            .unit("goes.service", &steady)
            .unit("reloads.service", &reloads)
            .unit("restarts.service", &changed("X-StopIfChanged=false"))
            .unit("stays.service", &changed("X-RestartIfChanged=false"))
            .unit(
                "misread.service",
                &service("X-RestartIfChanged=false\n#@version@", "sleep infinity"),
            )
            .unit("keeps.service", &service("X-StopOnRemoval=false", "sleep infinity"))
            .unit("many@.service", "#@version@\n[Service]\nExecStart=sleep infinity\n")
            .file("motd-of-mine", "@version@\n");
        let joker = cluster.booted(&host);
        joker.must(&["systemctl", "start", "many@1.service"]);
        let units = ["web", "steady", "reloads", "restarts", "stays", "misread", "keeps", "many@1"];
        let pids =
            |joker: &Machine| units.map(|unit| joker.unit(&format!("{unit}.service"), "MainPID"));
        let before = pids(&joker);
        assert!(before.iter().all(|pid| pid != "0"), "{before:?}");

        let two = host
            .at("two")
            .without_unit("goes.service")
            .without_unit("keeps.service")
            .unit("new.service", &steady)
            .unit("idle.service", "[Service]\nExecStart=sleep infinity\n");
        two.write(cluster.tree());
        let two = joker.build(cluster.tree());
        let (code, said) = joker.switch(&two, "dry-activate");
        assert_eq!((code, joker.version().as_str()), (Some(0), "one"));
        for would in [
            "would stop the following units: goes.service, many@1.service, misread.service, \
             web.service\n",
            "would NOT stop the following changed units: stays.service\n",
            "would reload the following units: reloads.service\n",
            "would restart the following units: restarts.service\n",
        ] {
            assert!(said.contains(would), "{would}: {said}");
        }
        assert_eq!(pids(&joker), before);

        let (code, said) = joker.switch(&two, "switch");
        assert_eq!(code, Some(0), "{said}");
        let after = pids(&joker);
        let moved = |unit: &str| {
            let n = units.iter().position(|known| *known == unit).unwrap();
            assert_ne!(after[n], "0", "{unit}");
            before[n] != after[n]
        };
        assert_eq!(
            units.map(moved),
            [true, false, false, true, false, true, false, true],
            "{units:?}: {said}"
        );
        assert!(
            said.contains(
                "stopping the following units: goes.service many@1.service misread.service web.service"
            ),
            "{said}"
        );
        assert!(said.contains("restarting the following units: restarts.service"), "{said}");
        assert!(
            said.contains("NOT restarting the following changed units: stays.service"),
            "{said}"
        );
        assert!(joker.run(&["test", "-e", "/run/reloaded"]).status.success());
        assert!(joker.is_active("new.service"), "{said}");
        assert!(!joker.is_active("goes.service") && !joker.is_active("idle.service"));
        assert_eq!(joker.unit("web.service", "Description"), "The web, two");
        assert_eq!(joker.read("/etc/motd-of-mine"), "two");
        assert_eq!((joker.default(), joker.failed_units().as_str()), (Some(two), ""));
        assert_eq!(joker.tell(&["ls", "/run/nixos"]), "switch-to-configuration.lock");
    });
}

#[test]
fn a_failed_unit_or_activation_is_told_by_the_exit_code() {
    on_each(|cluster| {
        let host = Host::new("joker", "one");
        let joker = cluster.booted(&host);
        let built = |host: &Host| {
            host.write(cluster.tree());
            joker.build(cluster.tree())
        };
        // 4, and switched.
        let bad =
            "[Service]\nType=oneshot\nExecStart=false\n[Install]\nWantedBy=multi-user.target\n";
        let fails = built(&host.at("two").unit("bad.service", bad));
        let (code, said) = joker.switch(&fails, "test");
        assert_eq!((code, joker.running()), (Some(4), Some(fails.clone())), "{said}");
        assert!(joker.failed_units().starts_with("bad.service"), "{}", joker.failed_units());
        // The way back is clean.
        let one = joker.default().unwrap();
        let (code, said) = joker.switch(&one, "test");
        assert_eq!((code, joker.failed_units().as_str()), (Some(0), ""), "{said}");
        // A restart loop is as bad as a failure.
        let again = "[Service]\nType=notify\nExecStart=false\nRestart=always\nRestartSec=60\n\
                     [Install]\nWantedBy=multi-user.target\n";
        let loops = built(&host.at("three").unit("again.service", again));
        assert_eq!(joker.switch(&loops, "test").0, Some(4));
        assert_eq!(joker.switch(&one, "test").0, Some(0));
        // 2, and carried on.
        let breaks = built(&host.at("four").activation("touch /run/half-way\nfalse\n"));
        let (code, said) = joker.switch(&breaks, "test");
        assert_eq!((code, joker.version().as_str()), (Some(2), "four"), "{said}");
        assert_eq!(joker.unit("web.service", "Description"), "The web, four");
        assert!(joker.is_active("web.service"));
        assert!(joker.run(&["test", "-e", "/run/half-way"]).status.success());
        // 1: its own check refuses, unless told not to look.
        let mut refuses = host.at("five");
        refuses.knobs.switch.refuse_check = true;
        let refuses = built(&refuses);
        assert_eq!(joker.switch(&refuses, "test").0, Some(1));
        assert_eq!(joker.version(), "four");
        let program = format!("{refuses}/bin/switch-to-configuration");
        joker.must(&["env", "NIXOS_NO_CHECK=1", &program, "test"]);
        assert_eq!(joker.version(), "five");
    });
}

#[test]
fn without_a_bus_nothing_can_be_switched() {
    on_each(|cluster| {
        let host = Host::new("joker", "one");
        let joker = cluster.booted(&host);
        host.at("two").write(cluster.tree());
        let two = joker.build(cluster.tree());
        // Its socket would start it again.
        joker.must(&["systemctl", "stop", "dbus.socket", "dbus.service"]);
        let (code, said) = joker.switch(&two, "test");
        assert_eq!((code, joker.version().as_str()), (Some(1), "one"), "{said}");
        assert!(said.contains("system bus"), "{said}");
        assert!(joker.is_active("web.service"), "nothing was stopped");
        // The boot loader needs no bus, and systemd's private socket is there.
        assert_eq!(joker.switch(&two, "boot").0, Some(0));
        // logind does not come back to a bus that was away.
        joker.must(&["systemctl", "start", "dbus.socket"]);
        joker.must(&["systemctl", "restart", "dbus.service", "systemd-logind.service"]);
        for name in ["org.freedesktop.systemd1", "org.freedesktop.login1"] {
            joker.wait_for(&["busctl", "--system", "status", name]);
        }
        assert_eq!(joker.switch(&two, "test").0, Some(0));

        // Without logind it stops half-way.
        host.at("three").write(cluster.tree());
        let three = joker.build(cluster.tree());
        joker.must(&["systemctl", "mask", "--runtime", "--now", "systemd-logind.service"]);
        let (code, said) = joker.switch(&three, "test");
        assert_eq!((code, joker.version().as_str()), (Some(11), "three"), "{said}");
        assert!(!joker.is_active("web.service"), "stopped, and not started again");
        joker.must(&["systemctl", "unmask", "--runtime", "systemd-logind.service"]);
        // The lists that it left are taken up by the next one.
        assert_eq!(joker.switch(&three, "test").0, Some(0));
        assert!(joker.is_active("web.service"));
    });
}

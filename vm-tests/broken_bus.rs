//! Hazard: a configuration that breaks D-Bus or logind, without which
//! switch-to-configuration can do nothing, neither forward nor back.

use std::time::Duration;

use crate::support::{Cluster, Host, Image, Machine, Pace, on};

const WITHIN: Duration = Duration::from_secs(90);

fn pace() -> Pace {
    Pace { activations: 1, first: "100ms", grace: "200ms", health: "5s", ..Pace::default() }
}

fn in_sync(cluster: &Cluster) -> (Host, Machine) {
    let one = Host::new("joker", "one").agent(&cluster.agent_config_at(&pace(), ""));
    cluster.forge();
    let joker = cluster.installed(&one);
    // As on NixOS, the bus's configuration comes with the system.
    std::fs::remove_dir_all(joker.disk("/etc/dbus-1")).unwrap();
    joker.boot();
    let first = cluster.push("release", &[&one]);
    joker.wait_in_sync(first);
    (one, joker)
}

/// A unit that is started once, and does this.
fn once(command: &str) -> String {
    format!(
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart={command}\n\
         [Install]\nWantedBy=multi-user.target\n"
    )
}

#[track_caller]
fn assert_bus_works(joker: &Machine) {
    for name in ["org.freedesktop.systemd1", "org.freedesktop.login1"] {
        joker.wait_for(&["busctl", "--system", "--timeout=5", "status", name]);
    }
    assert_eq!(joker.failed_units(), "");
}

#[test]
fn a_system_that_stops_the_bus_for_good_is_put_back() {
    on(Image::Trixie, |cluster| {
        let (one, joker) = in_sync(cluster);
        // Its socket would start it again; it cannot be started.
        let stops = once("systemctl stop --no-block dbus.socket dbus.service");
        let bad = one
            .at("two")
            .unit("breaks.service", &stops)
            .unit("dbus.service", "[Service]\nExecStart=false\n")
            .unit("dbus.socket", "[Socket]\nListenStream=/run/dbus/elsewhere\n");
        let commit = cluster.push("release", &[&bad]);
        joker.assert_put_back(commit, "one", 1, WITHIN);
        assert_bus_works(&joker);
    });
}

#[test]
fn a_system_whose_bus_policy_refuses_everything_is_put_back() {
    on(Image::Trixie, |cluster| {
        let (one, joker) = in_sync(cluster);
        let policy = "<busconfig><policy context=\"mandatory\"><deny send_destination=\"*\"/>\
                      <deny own=\"*\"/></policy></busconfig>\n";
        let reload = once("systemctl kill --signal=HUP dbus.service");
        let bad =
            one.at("two").unit("reloads.service", &reload).file("dbus-1/system.d/bad.conf", policy);
        let commit = cluster.push("release", &[&bad]);
        joker.assert_put_back(commit, "one", 1, WITHIN);
        assert_bus_works(&joker);
    });
}

#[test]
fn a_system_that_breaks_logind_is_put_back() {
    on(Image::Trixie, |cluster| {
        let (one, joker) = in_sync(cluster);
        // Gone, and not to be started again.
        let stops = "systemctl stop systemd-logind.service\n";
        let bad = one
            .at("two")
            .activation(stops)
            .unit("systemd-logind.service", "[Service]\nType=notify\nExecStart=false\n");
        let commit = cluster.push("release", &[&bad]);
        joker.assert_put_back(commit, "one", 1, WITHIN);
        assert_bus_works(&joker);

        // There, and answering nobody, by no fault of the commit's: services were stopped by
        // then, and the switch ends with the code of the lock, that nobody holds.
        joker.must(&["systemctl", "kill", "--signal=STOP", "systemd-logind.service"]);
        let commit = cluster.push("release", &[&one.at("three")]);
        let cause = joker.assert_put_back(commit, "one", 1, WITHIN);
        assert!(cause.contains("exit code 11"), "{cause}");
        assert_bus_works(&joker);
    });
}

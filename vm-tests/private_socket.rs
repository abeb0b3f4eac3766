//! What the agent asks of systemd and logind, of the real ones: with no bus
//! between where it is broken, and of a reboot before it is done.
//!
//! The calls are made from outside, over the host's own sockets.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fort_agent::systemd::logind::Logind;
use fort_agent::systemd::{Failed, Systemd};

use crate::support::{Host, Machine, on_each};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_broken_bus_is_mended_over_the_private_socket() {
    on_each(|cluster| {
        let bad = "[Service]\nType=oneshot\nExecStart=false\n";
        let host = Host::new("joker", "one").unit("bad.service", bad);
        let joker = cluster.booted(&host);
        let root = root_of(&joker);
        let pid = |unit: &str| joker.unit(unit, "MainPID");

        // Its socket would start it again.
        joker.must(&["systemctl", "stop", "dbus.socket", "dbus.service"]);
        assert!(!joker.is_active("dbus.service"));
        block(async {
            let systemd = Systemd::connect_private(&root).await.unwrap();
            systemd.start_unit("dbus.socket", LIMIT).await.unwrap();
            systemd.restart_unit("dbus.service", LIMIT).await.unwrap();
            systemd.restart_unit("systemd-logind.service", LIMIT).await.unwrap();
            // It was waited for.
            assert!(systemd.unit("dbus.service").await.unwrap().unwrap().active());
            assert!(systemd.unit("systemd-logind.service").await.unwrap().unwrap().active());
        });
        for name in ["org.freedesktop.systemd1", "org.freedesktop.login1"] {
            joker.wait_for(&["busctl", "--system", "status", name]);
        }
        assert_eq!(joker.failed_units(), "");

        // The same again, with the bus's program stopped: it takes calls, and
        // answers none.
        joker.must(&["kill", "-STOP", &pid("dbus.service")]);
        let before = pid("web.service");
        block(async {
            let systemd = Systemd::connect_private(&root).await.unwrap();
            systemd.reload().await.unwrap();
            let units = systemd.units().await.unwrap();
            assert!(units.len() > 20 && units["web.service"].active(), "{units:?}");
            systemd.restart_unit("web.service", LIMIT).await.unwrap();
            // An active one stays as it is.
            systemd.start_unit("web.service", LIMIT).await.unwrap();
            // What fails, and what is not there, is said.
            let failed = systemd.start_unit("bad.service", LIMIT).await;
            assert!(
                matches!(&failed, Err(Failed::Job { unit, result })
                if unit == "bad.service" && result == "failed"),
                "{failed:?}"
            );
            let units = systemd.units().await.unwrap();
            assert!(units["bad.service"].failed());
            let failed = systemd.start_unit("nowhere.service", LIMIT).await;
            assert!(matches!(failed, Err(Failed::Bus { .. })), "{failed:?}");
            systemd.restart_unit("dbus.service", LIMIT).await.unwrap();
        });
        assert_ne!(pid("web.service"), before);
        joker.wait_for(&["busctl", "--system", "status", "org.freedesktop.systemd1"]);
    });
}

#[test]
fn a_job_is_waited_for_but_not_for_ever() {
    on_each(|cluster| {
        let takes = |seconds: u32| format!("[Service]\nType=oneshot\nExecStart=sleep {seconds}\n");
        let mut host = Host::new("joker", "one")
            .unit("takes-one.service", &takes(1))
            .unit("takes-long.service", &takes(300));
        for n in 0..100 {
            host = host.unit(&format!("many{n}.service"), &takes(0));
        }
        let joker = cluster.booted(&host);
        let root = root_of(&joker);
        block(async {
            let systemd = Systemd::connect_private(&root).await.unwrap();
            let start = std::time::Instant::now();
            systemd.start_unit("takes-one.service", LIMIT).await.unwrap();
            assert!(start.elapsed() >= Duration::from_secs(1));
            let late = systemd.start_unit("takes-long.service", Duration::from_secs(1)).await;
            assert!(matches!(late, Err(Failed::Late { .. })), "{late:?}");
            assert!(start.elapsed() < Duration::from_secs(10));
            // The connection is as good as before, and takes many at a time.
            let names: Vec<_> = (0..100).map(|n| format!("many{n}.service")).collect();
            let all = names.iter().map(|name| systemd.start_unit(name, LIMIT));
            for (name, result) in names.iter().zip(futures_util::future::join_all(all).await) {
                assert!(result.is_ok(), "{name}: {result:?}");
            }
            let gone = Systemd::connect_private(Path::new("/nowhere")).await.map(drop);
            assert!(matches!(gone, Err(Failed::Bus { .. })), "{gone:?}");
        });
    });
}

#[test]
fn a_reboot_waits_for_inhibitors_and_people() {
    on_each(|cluster| {
        let joker = cluster.booted(&Host::new("joker", "one"));
        let against = || block(async { logind(&joker).await.against_reboot().await.unwrap() });
        assert_eq!(against(), [""; 0]);

        // One that only delays is not in the way; one that blocks is.
        let inhibits = |unit: &str, mode: &str, why: &str| {
            let [unit, mode, why] = [("unit", unit), ("mode", mode), ("why", why)]
                .map(|(option, value)| format!("--{option}={value}"));
            let what = ["--what=shutdown:sleep", "--who=backup", &mode, &why];
            let run = ["systemd-run", "--quiet", &unit, "systemd-inhibit"];
            joker.must(&[&run[..], &what, &["sleep", "infinity"]].concat());
        };
        inhibits("delays", "delay", "a moment");
        inhibits("blocks", "block", "copying to tape");
        joker.wait_until("the inhibitors", || {
            let listed = joker.tell(&[
                "busctl",
                "call",
                "org.freedesktop.login1",
                "/org/freedesktop/login1",
                "org.freedesktop.login1.Manager",
                "ListInhibitors",
            ]);
            listed.contains("a moment") && listed.contains("copying to tape")
        });
        let said = against();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].starts_with("backup (process ")
                && said[0].ends_with(") blocks shutting down: copying to tape"),
            "{said:?}"
        );
        let refused = block(async { logind(&joker).await.reboot().await });
        assert!(matches!(refused, Err(Failed::Bus { .. })), "{refused:?}");
        assert_eq!(joker.boots(), 1);
        joker.must(&["systemctl", "stop", "blocks.service"]);
        joker.wait_until("the inhibitor to go", || against().is_empty());

        // Somebody logs in, and out.
        let login = |user: &str, unit: &str| {
            let (user, unit) = (format!("--property=User={user}"), format!("--unit={unit}"));
            joker.must(&[
                "systemd-run",
                "--quiet",
                "--property=PAMName=login",
                &user,
                &unit,
                "sleep",
                "infinity",
            ]);
        };
        login("games", "person");
        login("root", "admin");
        joker.wait_until("the sessions", || against().len() == 2);
        assert_eq!(against(), ["games is logged in", "root is logged in"]);
        joker.must(&["systemctl", "stop", "person.service", "admin.service"]);
        joker.wait_until("them to be gone", || against().is_empty());

        block(async { logind(&joker).await.reboot().await }).unwrap();
        joker.wait_until("the reboot", || joker.boots() == 2);
        joker.wait_booted();
    });
}

/// Its file system as its processes see it.
fn root_of(machine: &Machine) -> PathBuf {
    format!("/proc/{}/root", machine.leader().unwrap()).into()
}

async fn logind(machine: &Machine) -> Logind {
    let socket = root_of(machine).join("run/dbus/system_bus_socket");
    let address = format!("unix:path={}", socket.display());
    let bus = zbus::connection::Builder::address(address.as_str());
    Logind::on(&bus.build().await.unwrap()).await.unwrap()
}

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

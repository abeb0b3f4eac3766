//! Requests of the agent to systemd and logind, the real ones: with no bus between
//! where that is broken, and of a reboot before it is done.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use fort_agent::systemd::logind::Logind;
use fort_agent::systemd::{Failed, Systemd};
use futures_util::future::join_all;

use crate::support::{Host, Machine, on_each};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_broken_bus_is_mended_over_the_private_socket() {
    if let Some((part, root)) = part_inside() {
        return block(async {
            let systemd = Systemd::connect_private(&root).await.unwrap();
            match part.as_str() {
                "mend" => mend(&systemd).await,
                "manage" => manage(&systemd).await,
                other => panic!("{other}"),
            }
        });
    }
    on_each(|cluster| {
        let bad = "[Service]\nType=oneshot\nExecStart=false\n";
        let host = Host::new("joker", "one").unit("bad.service", bad);
        let joker = cluster.booted(&host);
        let inside = |part| inside(&joker, "a_broken_bus_is_mended_over_the_private_socket", part);
        let mended = || {
            for name in ["org.freedesktop.systemd1", "org.freedesktop.login1"] {
                joker.wait_for(&["busctl", "--system", "status", name]);
            }
        };
        // Its socket would start it again.
        joker.must(&["systemctl", "stop", "dbus.socket", "dbus.service"]);
        assert!(!joker.run(&["busctl", "--system", "list"]).status.success());
        inside("mend");
        mended();
        assert_eq!(joker.failed_units(), "");

        // One that takes calls and answers none.
        joker.must(&["busybox", "kill", "-STOP", &joker.unit("dbus.service", "MainPID")]);
        let before = joker.unit("web.service", "MainPID");
        inside("manage");
        assert_ne!(joker.unit("web.service", "MainPID"), before);
        inside("mend");
        mended();
    });
}

async fn mend(systemd: &Systemd) {
    systemd.start_unit("dbus.socket", LIMIT).await.unwrap();
    for unit in ["dbus.service", "systemd-logind.service"] {
        systemd.restart_unit(unit, LIMIT).await.unwrap();
        // It was waited for.
        assert!(systemd.unit(unit).await.unwrap().unwrap().active(), "{unit}");
    }
}

async fn manage(systemd: &Systemd) {
    systemd.reload().await.unwrap();
    let units = systemd.units().await.unwrap();
    assert!(units.len() > 20 && units["web.service"].active(), "{units:?}");
    systemd.restart_unit("web.service", LIMIT).await.unwrap();
    systemd.start_unit("web.service", LIMIT).await.unwrap();
    // What fails, and what is not there, is said.
    let failed = systemd.start_unit("bad.service", LIMIT).await;
    assert!(
        matches!(&failed, Err(Failed::Job { unit, result })
            if unit == "bad.service" && result == "failed"),
        "{failed:?}"
    );
    assert!(systemd.units().await.unwrap()["bad.service"].failed());
    let failed = systemd.start_unit("nowhere.service", LIMIT).await;
    assert!(matches!(failed, Err(Failed::Bus { .. })), "{failed:?}");
}

#[test]
fn a_job_is_waited_for_but_not_for_ever() {
    if let Some((_, root)) = part_inside() {
        return block(wait_for_jobs(&root));
    }
    on_each(|cluster| {
        let takes = |seconds| format!("[Service]\nType=oneshot\nExecStart=sleep {seconds}\n");
        let host = Host::new("joker", "one")
            .unit("takes-one.service", &takes(1))
            .unit("takes-long.service", &takes(300))
            .unit("many@.service", &takes(0));
        let joker = cluster.booted(&host);
        inside(&joker, "a_job_is_waited_for_but_not_for_ever", "all");
    });
}

async fn wait_for_jobs(root: &Path) {
    let systemd = Systemd::connect_private(root).await.unwrap();
    let start = Instant::now();
    systemd.start_unit("takes-one.service", LIMIT).await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
    let late = systemd.start_unit("takes-long.service", Duration::from_secs(1)).await;
    assert!(matches!(late, Err(Failed::Late { .. })), "{late:?}");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    // The connection is as good as before, and takes many at a time.
    let names: Vec<_> = (0..100).map(|n| format!("many@{n}.service")).collect();
    let all = join_all(names.iter().map(|name| systemd.start_unit(name, LIMIT))).await;
    for (name, result) in names.iter().zip(all) {
        assert!(result.is_ok(), "{name}: {result:?}");
    }
    let gone = Systemd::connect_private(Path::new("/nowhere")).await;
    assert!(matches!(gone, Err(Failed::Bus { .. })), "{gone:?}");
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
            let listed = joker.tell(&["systemd-inhibit", "--list", "--no-legend"]);
            listed.contains("a moment") && listed.contains("copying to tape")
        });
        let said = against();
        let [said] = &said[..] else { panic!("{said:?}") };
        assert!(said.starts_with("backup (process "), "{said}");
        assert!(said.ends_with(") blocks shutting down: copying to tape"), "{said}");
        let refused = block(async { logind(&joker).await.reboot().await });
        assert!(matches!(refused, Err(Failed::Bus { .. })), "{refused:?}");
        assert_eq!((joker.boots(), joker.tell(&["systemctl", "list-jobs", "-q"])), (1, "".into()));
        joker.must(&["systemctl", "stop", "blocks.service"]);
        joker.wait_until("the inhibitor to go", || against().is_empty());

        // A service that runs as a user is nobody who has logged in.
        let login = |user: &str, class: &str| {
            let unit = format!("--unit={user}-{class}");
            let user = format!("--property=User={user}");
            let class = format!("--setenv=XDG_SESSION_CLASS={class}");
            let run = ["systemd-run", "--quiet", "--property=PAMName=login", &user, &unit, &class];
            joker.must(&[&run[..], &["sleep", "infinity"]].concat());
        };
        let listed = || joker.tell(&["loginctl", "list-sessions", "--no-legend"]);
        login("games", "background");
        joker.wait_until("the session", || listed().contains(" background "));
        assert_eq!(against(), [""; 0], "{}", listed());
        login("games", "user");
        login("root", "user");
        joker.wait_until("the sessions", || listed().matches(" user").count() >= 2);
        assert_eq!(against(), ["games is logged in", "root is logged in"], "{}", listed());
        joker.must(&["systemctl", "stop", "games-user.service", "root-user.service"]);
        joker.wait_until("them to be gone", || against().is_empty());

        block(async { logind(&joker).await.reboot().await }).unwrap();
        joker.wait_until("the reboot", || joker.boots() == 2);
        joker.wait_booted();
    });
}

async fn logind(machine: &Machine) -> Logind {
    let socket = root_of(machine).join("run/dbus/system_bus_socket");
    let address = format!("unix:path={}", socket.display());
    let bus = zbus::connection::Builder::address(address.as_str()).build().await.unwrap();
    Logind::on(&bus).await.unwrap()
}

/// Path of a machine's file system as its processes see it.
fn root_of(machine: &Machine) -> PathBuf {
    format!("/proc/{}/root", machine.leader().unwrap()).into()
}

/// Says to a part of a test what it is, and where its host is.
const PART: &str = "FORT_AGENT_VM_PART";
const ROOT: &str = "FORT_AGENT_VM_ROOT";

fn part_inside() -> Option<(String, PathBuf)> {
    Some((std::env::var(PART).ok()?, std::env::var_os(ROOT)?.into()))
}

/// Runs a part of a test among the host's processes: systemd takes no calls
/// from a process that it cannot see.
#[track_caller]
fn inside(machine: &Machine, test: &str, part: &str) {
    let leader = machine.leader().unwrap().to_string();
    let test = format!("{}::{test}", module_path!().trim_start_matches("vm::"));
    let output = Command::new("nsenter")
        .args(["--target", &leader, "--pid", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &test, "--nocapture", "--include-ignored"])
        .env(PART, part)
        .env(ROOT, root_of(machine))
        .output()
        .unwrap();
    let said = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat();
    // A name that is no test would do nothing, well.
    assert!(output.status.success() && said.contains("1 passed"), "{part}:\n{said}");
}

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

//! Hazard: what a person says to a whole host. Going back leaves units of the
//! system that is left behind; an orphan keeps the lock of a switch that systemd
//! thinks is over, and nobody knows why nothing is deployed.

use crate::support::{Cluster, Host, Image, Machine, on, on_each};

const AGENT: &str = "/run/current-system/sw/bin/fort-agent";
const LATER: &str = "[Unit]\nDescription=Came later\n[Service]\nExecStart=sleep infinity\n";

fn in_sync(cluster: &Cluster) -> (Host, Machine) {
    let one = Host::new("joker", "one").agent(&cluster.agent_config(""));
    cluster.forge();
    let joker = cluster.booted(&one);
    let first = cluster.push("release", &[&one]);
    joker.wait_in_sync(first);
    (one, joker)
}

#[test]
fn a_person_gets_the_system_before_back_and_a_reboot_keeps_it() {
    on_each(|cluster| {
        let (one, joker) = in_sync(cluster);
        let before = joker.running();
        let later = format!("{LATER}[Install]\nWantedBy=multi-user.target\n");
        let two = one.at("two").unit("later.service", &later);
        let commit = cluster.push("release", &[&two]);
        joker.wait_in_sync(commit);
        assert!(joker.is_active("later.service"));

        joker.must(&[AGENT, "rollback", "--reason", "too slow"]);
        let status = joker.wait_status("the system before", |status| {
            status["held"]["cause"] == "quarantined" && status["deployment"].is_null()
        });
        assert_eq!(status["last_deployment"]["cause"], "rolled back by a person: too slow");
        joker.assert_stands("one");
        assert!(!joker.is_active("later.service"));
        assert_eq!((joker.running(), joker.default()), (before.clone(), before.clone()));

        joker.reboot();
        joker.wait_status("still", |status| status["held"]["cause"] == "quarantined");
        joker.assert_stands("one");
        assert_eq!((joker.booted(), joker.running()), (before.clone(), before));
        joker.must(&[AGENT, "retry"]);
        joker.wait_in_sync(commit);
        joker.assert_stands("two");
        assert_eq!(joker.verdicts(commit), ["good", "rolled-back", "good"]);
    });
}

#[test]
fn an_orphan_that_holds_the_lock_is_named_with_its_unit() {
    on(Image::Trixie, |cluster| {
        let (one, joker) = in_sync(cluster);
        // What a switch started that was broken off: its unit is over, and what
        // it left is not.
        let orphan = "mkdir -p /run/nixos; exec 9> /run/nixos/switch-to-configuration.lock; flock 9; \
                      sleep 600 & echo $! > /run/orphan";
        let unit = ["systemd-run", "--unit=broken-off", "--property=KillMode=none"];
        let unit = [&unit[..], &["--property=Type=oneshot", "sh", "-c", orphan]].concat();
        joker.must(&unit);
        let pid = joker.read("/run/orphan");
        let commit = cluster.push("release", &[&one.at("two")]);
        let status = joker.wait_status("who holds the lock", |status| {
            status["reason"].as_str().is_some_and(|reason| reason.contains("waits for the lock"))
        });
        let reason = status["reason"].as_str().unwrap();
        assert!(reason.contains(&format!("process {pid} (sleep) since ")), "{reason}");
        assert!(reason.contains("of broken-off.service, which is over"), "{reason}");
        assert_eq!(joker.version(), "one");
        joker.must(&["sh", "-c", &format!("kill {pid}")]);
        joker.wait_in_sync(commit);
        assert_eq!(joker.verdicts(commit), ["good"]);
    });
}

//! Hazard: what a person says to a whole host, or does to it without a say. Going
//! back leaves units of the system that is left behind; an orphan keeps the lock of
//! a switch that systemd thinks is over, and nobody knows why nothing is deployed;
//! any user may take that lock, and a broken system stays.

use std::time::Duration;

use crate::support::{Cluster, Host, Image, Machine, Pace, on, on_each};

const LOCK: &str = "/run/nixos/switch-to-configuration.lock";
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

#[test]
fn who_may_not_switch_the_host_delays_no_system_by_its_lock_neither_forward_nor_back() {
    on(Image::Trixie, |cluster| {
        let pace = Pace { activations: 1, first: "100ms", health: "5s", ..Pace::default() };
        let one = Host::new("joker", "one").agent(&cluster.agent_config_at(&pace, ""));
        cluster.forge();
        let joker = cluster.booted(&one);
        let first = cluster.push("release", &[&one]);
        joker.wait_in_sync(first);
        let mode = || joker.tell(&["stat", "--format=%a %u", LOCK]);

        // As a switch by hand makes it where there is none: everybody can open it.
        let made = format!("mkdir -p /run/nixos; rm -f {LOCK}; touch {LOCK}; chmod 644 {LOCK}");
        joker.must(&["sh", "-c", &made]);
        let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
        let holds = [&nobody[..], &["flock", LOCK, "sleep", "600"]].concat();
        let mut holds = joker.spawn(&holds);
        joker.wait_for(&["sh", "-c", &format!("! flock --nonblock {LOCK} true")]);
        let commit = cluster.push("release", &[&one.at("two")]);
        joker.wait_in_sync(commit);
        assert_eq!(joker.verdicts(commit), ["good"]);
        assert_eq!(mode(), "600 0");
        assert!(holds.try_wait().unwrap().is_none(), "the hold is of no account, and stays");

        // Once it runs: one that has given up root's rights holds the lock, and after that one
        // whose unit is over.
        let takes = format!(
            "systemd-run --unit=keeps sh -c 'exec 9> {LOCK}; flock 9; exec setpriv --reuid=65534 \
             --regid=65534 --clear-groups sleep 601'\n\
             systemd-run --unit=leaves --property=Type=oneshot --property=KillMode=none sh -c \
             'exec 9> {LOCK}; sh -c \"sleep 0.2; flock 9; exec sleep 602\" &'\n"
        );
        let fails =
            "[Service]\nType=oneshot\nExecStart=false\n[Install]\nWantedBy=multi-user.target\n";
        let bad = one.at("bad").activation(&takes).unit("fails.service", fails);
        let commit = cluster.push("release", &[&bad]);
        let cause = joker.assert_put_back(commit, "two", 1, Duration::from_secs(30));
        for (who, unit) in [("(sleep) of user 65534", "keeps"), ("(sleep)", "leaves")] {
            let told = cause.split("; ").find(|told| told.contains(&format!("{unit}.service")));
            let told = told.unwrap_or_else(|| panic!("{unit} is not named: {cause}"));
            assert!(told.contains(who) && told.ends_with("held the lock and was killed"), "{told}");
        }
        let journal = joker.journal(&["-t", "fort-agent"]);
        assert!(journal.contains("of keeps.service holds the lock"), "{journal}");
        holds.kill().unwrap();
        holds.wait().unwrap();
    });
}

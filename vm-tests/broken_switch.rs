//! Hazard: a configuration whose switch itself goes wrong: a unit in a restart
//! loop, an activation that fails or hangs, and a way back that the old
//! system's own pre-switch check refuses.

use std::time::Duration;

use crate::support::{Cluster, Host, Image, Machine, Pace, on};

const WITHIN: Duration = Duration::from_secs(20);

fn in_sync(cluster: &Cluster, pace: &Pace, one: Host) -> (Host, Machine) {
    let one = one.agent(&cluster.agent_config_at(pace, ""));
    cluster.forge();
    let joker = cluster.booted(&one);
    let first = cluster.push("release", &[&one]);
    joker.wait_in_sync(first);
    (one, joker)
}

#[test]
fn a_switch_that_goes_wrong_brings_the_old_system_back() {
    on(Image::Trixie, |cluster| {
        // A grace longer than the loop takes to fail for the first time.
        let pace =
            Pace { activations: 1, first: "100ms", grace: "1s", health: "4s", activation: "3s" };
        let (one, joker) = in_sync(cluster, &pace, Host::new("joker", "one"));

        let dies = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nExecStart=sh -c 'sleep 0.3; exit 1'\n\
                    Restart=always\nRestartSec=100ms\n\
                    [Install]\nWantedBy=multi-user.target\n";
        let loops = one.at("loops").unit("loop.service", dies);
        let commit = cluster.push("release", &[&loops]);
        let cause = joker.assert_put_back(commit, "one", 1, WITHIN);
        assert!(cause.contains("loop.service"), "{cause}");
        assert!(!joker.is_active("loop.service"));

        let fails = one.at("fails").activation("false\n");
        let commit = cluster.push("release", &[&fails]);
        let cause = joker.assert_put_back(commit, "one", 1, WITHIN);
        assert!(cause.contains("exit code 2"), "{cause}");

        // Before it has moved the host, and with a child that outlives it.
        let hangs = one.at("hangs").activation("sleep 3001 &\nsleep 3002\n");
        let commit = cluster.push("release", &[&hangs]);
        let cause = joker.assert_put_back(commit, "one", 1, WITHIN);
        assert!(cause.contains("switch-to-configuration test"), "{cause}");
        let look = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -c 'sleep 300[12]'";
        assert_eq!(joker.tell(&["sh", "-c", look]), "0", "nothing of it is left");

        // After it has.
        let mut stays = one.at("stays");
        stays.knobs.switch.hang_after.insert("test", 600);
        let commit = cluster.push("release", &[&stays]);
        joker.assert_put_back(commit, "one", 1, WITHIN);

        // One of its units cannot be stopped by what comes after it.
        let stuck = "[Service]\nExecStart=sleep infinity\nExecStop=sleep infinity\n\
                     TimeoutStopSec=infinity\n[Install]\nWantedBy=multi-user.target\n";
        let fails =
            "[Service]\nType=oneshot\nExecStart=false\n[Install]\nWantedBy=multi-user.target\n";
        let stuck = one.at("stuck").unit("stuck.service", stuck).unit("fails.service", fails);
        let commit = cluster.push("release", &[&stuck]);
        let cause = joker.assert_put_back(commit, "one", 1, WITHIN * 3);
        assert!(cause.contains("stopping stuck.service, which was killed"), "{cause}");
        assert!(!joker.is_active("stuck.service"));

        let commit = cluster.push("release", &[&one.at("two")]);
        joker.wait_in_sync(commit);
        joker.assert_stands("two");
    });
}

#[test]
fn a_check_of_the_old_system_that_fails_by_now_does_not_block_the_way_back() {
    on(Image::Trixie, |cluster| {
        let pace = Pace {
            activations: 3,
            first: "100ms",
            grace: "200ms",
            health: "4s",
            ..Pace::default()
        };
        let one = Host::new("joker", "one").check("test ! -e /run/refuse\n");
        let (one, joker) = in_sync(cluster, &pace, one);
        joker.must(&["touch", "/run/refuse"]);
        let old = joker.running().unwrap();
        assert_eq!(joker.switch(&old, "test").0, Some(1), "it refuses by now");
        let bad = Host::new("joker", "two")
            .agent(&cluster.agent_config_at(&pace, ""))
            .activation("false\n");
        let commit = cluster.push("release", &[&bad]);
        joker.assert_put_back(commit, "one", 3, WITHIN);
        drop(one);
    });
}

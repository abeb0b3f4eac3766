//! Hazard: a configuration that fills the disk on which the agent writes down
//! what it does. What cannot be written must not keep the old system away.

use std::time::Duration;

use crate::support::{Cluster, Host, Image, Machine, Pace, on};

const WITHIN: Duration = Duration::from_secs(45);
const FILL: &str = "/var/lib/fort-agent/fill";

fn in_sync(cluster: &Cluster) -> (Host, Machine) {
    let pace =
        Pace { activations: 1, first: "100ms", grace: "200ms", health: "4s", ..Pace::default() };
    let one = Host::new("joker", "one").agent(&cluster.agent_config_at(&pace, ""));
    cluster.forge();
    let joker = cluster.installed(&one);
    let small = "tmpfs /var/lib/fort-agent tmpfs size=32m,mode=0700 0 0\n";
    joker.write("/etc/fstab", small.as_bytes());
    joker.boot();
    let first = cluster.push("release", &[&one]);
    joker.wait_in_sync(first);
    (one, joker)
}

#[test]
fn a_service_that_fills_the_disk_is_put_back() {
    on(Image::Trixie, |cluster| {
        let (one, joker) = in_sync(cluster);
        // Goes with the service, as a cache or a queue does.
        let fills = format!(
            "[Service]\nType=oneshot\nRemainAfterExit=yes\n\
             ExecStart=sh -c 'cat /dev/zero > {FILL} || :'\nExecStopPost=rm -f {FILL}\n\
             [Install]\nWantedBy=multi-user.target\n"
        );
        let commit = cluster.push("release", &[&one.at("two").unit("fills.service", &fills)]);
        joker.wait_until("the disk to be full", || joker.disk_is_full());
        joker.assert_put_back(commit, "one", 1, WITHIN);
        let commit = cluster.push("release", &[&one.at("three")]);
        joker.wait_in_sync(commit);
    });
}

#[test]
fn an_activation_that_fills_the_disk_for_good_is_put_back() {
    on(Image::Trixie, |cluster| {
        let (one, joker) = in_sync(cluster);
        let fills = format!("cat /dev/zero > {FILL} || :\nfalse\n");
        let commit = cluster.push("release", &[&one.at("two").activation(&fills)]);
        joker.wait_until("the disk to be full", || joker.disk_is_full());
        // It is not emptied by anybody: what runs is put back all the same.
        joker.wait_until("the old system to be back", || {
            joker.version() == "one" && joker.is_active("web.service")
        });
        assert_eq!(joker.default_version(), "one");
        joker.must(&["rm", FILL]);
        joker.wait_quarantined(commit);
        joker.assert_stands("one");
    });
}

impl Machine {
    fn disk_is_full(&self) -> bool {
        let free = self.tell(&["df", "--output=avail", "/var/lib/fort-agent"]);
        free.lines().last().is_some_and(|free| free.trim() == "0")
    }
}

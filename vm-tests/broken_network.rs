//! Hazard: a configuration that cuts its host off: it loses the address, the
//! route, the name server, or drops what the forge answers.
//!
//! The forge itself is fine all the time, so each counts. The image has neither
//! nft nor iptables, and not every kernel has traffic control's filters; a route
//! for the forge into the loopback interface drops packets as silently as a
//! firewall's `drop` does: connections time out.

use std::time::Duration;

use crate::support::cluster::{FORGE, GATEWAY};
use crate::support::{Host, Image, Pace, dns, on};

const WITHIN: Duration = Duration::from_secs(45);

/// Script that sets up every system's network, with more lines for a bad one.
fn network(more: &str) -> String {
    format!(
        "address=\"$(sed -n 's/^Address=//p' /etc/systemd/network/10-host0.network)\"\n\
         ip address replace \"$address\" dev host0\n\
         ip route replace default via {GATEWAY}\n\
         ip route del {FORGE} dev lo 2> /dev/null || :\n\
         echo 'nameserver {GATEWAY}' > /etc/resolv.conf\n{more}\n"
    )
}

const UNIT: &str = "[Unit]\nBefore=network-online.target\nAfter=systemd-networkd.service\n\
    [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh -eu @out@/etc/network-setup\n\
    [Install]\nWantedBy=multi-user.target\n";

#[test]
fn a_system_that_cuts_its_host_off_is_put_back() {
    on(Image::Trixie, |cluster| {
        let pace = Pace {
            activations: 1,
            first: "100ms",
            grace: "200ms",
            health: "6s",
            ..Pace::default()
        };
        let one = Host::new("joker", "one")
            .agent(&cluster.agent_config_at(&pace, ""))
            .unit("network-setup.service", UNIT)
            .file("network-setup", &network(""));
        cluster.forge();
        dns::serve();
        let joker = cluster.installed(&one);
        // The remote's name is the name server's to know.
        joker.write("/etc/hosts", b"127.0.0.1 localhost\n127.0.1.1 joker\n");
        joker.boot();
        let first = cluster.push("release", &[&one]);
        joker.wait_in_sync(first);

        let mut good = "one".to_owned();
        for (name, breaks) in [
            ("address", "ip address flush dev host0".to_owned()),
            ("route", "ip route del default".to_owned()),
            ("dns", "echo 'nameserver 127.0.0.2' > /etc/resolv.conf".to_owned()),
            ("firewall", format!("ip route add {FORGE} dev lo")),
        ] {
            let bad = one.at(name).file("network-setup", &network(&breaks));
            let commit = cluster.push("release", &[&bad]);
            let cause = joker.assert_put_back(commit, &good, 1, WITHIN);
            eprintln!("{name}: {cause}");
            assert!(cause.contains("remote"), "{cause}");
            // The host hears of the next one.
            let version = format!("after-{name}");
            let commit = cluster.push("release", &[&one.at(&version)]);
            joker.wait_in_sync(commit);
            good = version;
        }
    });
}

//! Hazard: what only helps other hosts stands in the way of this one. The cache
//! takes every connection and never answers: the publish job hangs for as long
//! as it may, with idle priority, and neither a deployment nor a reboot waits
//! for it.

use crate::support::{Host, Machine, on_each};

/// Nothing in it is secret: nobody ever reads it.
const TOKEN: &[u8] = b"a-token";

const CACHE: &str = "[cache]\nendpoint = \"http://127.0.0.1:9999\"\nname = \"fort\"\n\
                     token_file = \"/etc/push-token\"\nsubstitute = false\n";

/// The unit of the publish job at work.
fn unit(joker: &Machine) -> Option<String> {
    let job = joker.jobs().into_iter().find(|job| job.starts_with("publish-"))?;
    let unit = format!("fort-agent-{job}.service");
    joker.is_active(&unit).then_some(unit)
}

fn at_work(joker: &Machine) -> String {
    joker.wait_until("a publish job", || unit(joker).is_some());
    unit(joker).expect("it hangs")
}

#[test]
fn a_publish_job_that_hangs_gives_way_to_everything() {
    on_each(|cluster| {
        let socket = "[Socket]\nListenStream=127.0.0.1:9999\nAccept=yes\nMaxConnections=256\n\
                      [Install]\nWantedBy=multi-user.target\n";
        let one = Host::new("joker", "one")
            .agent(&cluster.agent_config(CACHE))
            .unit("hangs.socket", socket)
            .unit("hangs@.service", "[Service]\nExecStart=sleep infinity\nStandardInput=socket\n");
        cluster.forge();
        let joker = cluster.installed(&one);
        joker.write("/etc/push-token", TOKEN);
        joker.boot();
        let two = cluster.push("release", &[&one.at("two")]);
        let status = joker.wait_in_sync(two);
        assert!(!status["publish"].is_null(), "{status:#}");

        let first = at_work(&joker);
        let said = |property: &str| joker.unit(&first, property);
        assert_eq!(said("CPUSchedulingPolicy"), "5", "idle, as sched(7) counts");
        assert_eq!(said("IOSchedulingClass"), "3", "idle, as ioprio_set(2) counts");
        assert_eq!((said("Nice").as_str(), said("OOMScoreAdjust").as_str()), ("19", "800"));
        assert_eq!(said("MemoryHigh"), (256_u64 << 20).to_string());

        let three = cluster.push("release", &[&one.at("three")]);
        joker.wait_in_sync(three);
        assert_eq!(joker.verdicts(three), ["good"]);
        joker.wait_until("it to end", || !joker.is_active(&first));
        assert_ne!(at_work(&joker), first);

        joker.reboot();
        joker.wait_in_sync(three);
        at_work(&joker);
        assert_eq!(joker.verdicts(three), ["good"], "nothing is deployed twice");
        assert_eq!(joker.failed_units(), "");
    });
}

//! Hazard: the forge goes away, which is no system's fault: while a system is
//! being verified, and when the host boots.

use crate::support::shared::forge::Fault;
use crate::support::{Cluster, Host, Image, MARKS, Machine, Moment, Pace, on};

fn pace(activations: u32) -> Pace {
    Pace { activations, first: "100ms", grace: "200ms", health: "4s", ..Pace::default() }
}

fn in_sync(cluster: &Cluster, activations: u32) -> (Host, Machine) {
    let one = Host::new("joker", "one").activation(MARKS).agent(
        &cluster.agent_config_at(&pace(activations), "[metrics]\nlisten = \"127.0.0.1:9101\"\n"),
    );
    cluster.forge();
    let joker = cluster.booted(&one);
    let first = cluster.push("release", &[&one]);
    joker.wait_in_sync(first);
    (one, joker)
}

#[test]
fn a_forge_that_goes_away_during_verification_counts_against_nobody() {
    on(Image::Trixie, |cluster| {
        // One failure that counts would be the last.
        let (one, joker) = in_sync(cluster, 1);
        let mut good = "one".to_owned();
        // Nobody listens, or nobody answers.
        for (n, fault) in [Fault::Refused, Fault::Hang].into_iter().enumerate() {
            let version = format!("v{n}");
            let commit = cluster.push("release", &[&one.at(&version)]);
            joker.wait_moment(commit, &version, Moment::Mark(2));
            cluster.forge().fault(fault);
            let wait = |what: &str, wanted: &dyn Fn() -> bool| joker.wait_until(what, wanted);
            wait("the old system to be back", &|| {
                joker.version() == good && joker.jobs().is_empty()
            });
            let status =
                joker.wait_status("it to be over", |status| status["deployment"].is_null());
            assert_eq!(status["quarantine"].as_array().unwrap().len(), 0, "{status}");
            assert_ne!(status["held"]["cause"], "quarantined", "{status}");
            joker.assert_stands(&good);
            // Once, and not again while it is away.
            assert_eq!(joker.verdicts(commit).len(), 1);
            cluster.forge().fault(Fault::None);
            joker.wait_in_sync(commit);
            assert_eq!(joker.verdicts(commit).last().unwrap(), "good");
            joker.assert_stands(&version);
            good = version;
        }
    });
}

#[test]
fn a_host_boots_and_runs_its_last_good_system_without_a_forge() {
    on(Image::Trixie, |cluster| {
        let (one, joker) = in_sync(cluster, 3);
        let two = cluster.push("release", &[&one.at("two")]);
        joker.wait_in_sync(two);
        cluster.forge().fault(Fault::Refused);
        joker.power_cut();
        joker.boot();
        let gone = |status: &serde_json::Value| status["state"] == "unreachable";
        let status = joker.wait_status("it to miss the forge", gone);
        assert_eq!(status["running"]["commit"], two.to_string());
        joker.assert_stands("two");

        // Also with a deployment cut short, whose candidate is in the store.
        cluster.forge().fault(Fault::None);
        joker.wait_in_sync(two);
        let three = cluster.push("release", &[&one.at("three")]);
        joker.wait_moment(three, "three", Moment::Mark(5));
        cluster.forge().fault(Fault::Refused);
        joker.power_cut();
        joker.boot();
        joker.wait_status("it to miss the forge", |status| {
            status["remotes"][0]["reachable"] == false
        });
        joker.assert_stands("two");
        assert_eq!(joker.verdicts(three), ["interrupted"]);
    });
}

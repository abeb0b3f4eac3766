//! Hazard: the guardian is killed with everything that it has started, at any
//! moment of a switch, by whatever; the host stays on.
//!
//! The switch changes the agent's unit, so the agent is another one before and
//! after. Somebody has to finish all the same: the host gets to the desired or
//! the last good system, each attempt ends once, and nothing is left over.

use Moment::{
    Activated, Activating, Back, BackMark, BootBegun, BootWritten, Committing, Ended, Judged, Mark,
    Moved, Ordered, ProfileSet, PuttingBack,
};

use crate::support::{Cluster, Host, Image, MARKS, Moment, Pace, on};

#[test]
fn a_guardian_killed_on_the_way_forward_ends_at_the_desired_or_the_last_good_system() {
    let moments = [
        Ordered,
        Activating,
        Mark(1),
        Mark(3),
        Mark(5),
        Mark(7),
        Mark(9),
        Moved,
        Activated,
        Judged,
        Committing,
        ProfileSet,
        BootBegun,
        BootWritten,
    ];
    on(Image::Trixie, |cluster| kill_at(cluster, &moments, true));
}

#[test]
fn a_guardian_killed_on_the_way_back_ends_at_the_last_good_system() {
    let moments =
        [PuttingBack, BackMark(1), BackMark(3), BackMark(5), BackMark(7), BackMark(9), Back, Ended];
    on(Image::Trixie, |cluster| kill_at(cluster, &moments, false));
}

/// One deployment for each moment, on one host.
fn kill_at(cluster: &Cluster, moments: &[Moment], works: bool) {
    // A kill counts, lest a system that brings it about is tried for ever.
    let activations = if works { 2 } else { 1 };
    let pace = Pace { activations, first: "100ms", grace: "200ms", ..Pace::default() };
    let config = cluster.agent_config_at(&pace, "");
    let one = Host::new("joker", "one").activation(MARKS).agent(&config);
    cluster.forge();
    let joker = cluster.booted(&one);
    let first = cluster.push("release", &[&one]);
    joker.wait_in_sync(first);
    let mut good = "one".to_owned();
    let mut seen = Vec::new();
    let mut missed = Vec::new();
    for (n, moment) in moments.iter().enumerate() {
        let version = format!("v{n}");
        // Another configuration of the agent's each time.
        let mut next = one.at(&version).agent(&format!("{config}\n# {version}"));
        if *moment == Moved {
            next.knobs.switch.hang_after.insert("test", 1);
        } else if *moment == BootBegun {
            next.knobs.switch.hang.insert("boot", 1);
        }
        if !works {
            next = next.activation(&format!("{MARKS}false\n"));
        }
        let commit = cluster.push("release", &[&next]);
        let agent = joker.unit("fort-agent.service", "MainPID");
        joker.wait_moment(commit, &version, *moment);
        let ids = joker.deployments_at_work();
        // It may be over already: then the moment was missed.
        if let Some(id) = ids.first() {
            let unit = format!("fort-agent-switch-{id}.service");
            // Or it may not have been started yet.
            while !joker.kill_unit(&unit) && *moment != Ended {
                std::thread::yield_now();
            }
        }
        let came = joker.moment(commit, &version, joker.leader());
        eprintln!("{n}: killed at {came:?}");
        if came != *moment {
            missed.push((*moment, came));
        }
        seen.extend(ids);
        if works {
            joker.wait_in_sync(commit);
            assert_eq!(joker.verdicts(commit).last().unwrap(), "good");
            good = version;
        } else {
            joker.wait_quarantined(commit);
            let verdicts = joker.verdicts(commit);
            assert!(verdicts.iter().all(|one| one != "good" && one != "superseded"));
        }
        joker.assert_stands(&good);
        joker.assert_endings(&seen);
        assert_ne!(joker.unit("fort-agent.service", "MainPID"), agent, "it was restarted");
    }
    assert!(missed.len() <= 3, "{missed:?}");
    assert_eq!(joker.boots(), 1);
}

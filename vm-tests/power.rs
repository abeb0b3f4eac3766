//! Hazard: the power goes away in the middle of a deployment, at any moment.
//!
//! The host must boot a system that was verified, then get by itself to the
//! desired or the last good one, and remember each attempt's ending once. The
//! desired systems are good and bad in turn. What is cut is every process at
//! once; the disk keeps what was written, also what was not yet synced.

use Moment::{
    Activated, Activating, Back, BackMark, BootBegun, BootWritten, Built, Committing, Ended,
    Judged, Mark, Moved, Ordered, ProfileSet, PuttingBack, RealiseBegun, RealiseOrdered, Removed,
};

use crate::support::{Cluster, Host, Image, MARKS, Moment, Pace, on};

/// Whether the system that is to come works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comes {
    Good,
    Bad,
}
use Comes::{Bad, Good};

const FAILS: &str =
    "[Service]\nType=oneshot\nExecStart=false\n[Install]\nWantedBy=multi-user.target\n";

#[test]
fn a_power_cut_before_or_in_an_activation_boots_the_last_good_system() {
    on(Image::Trixie, |cluster| {
        cut_at(
            cluster,
            &[
                (RealiseOrdered, Good),
                (RealiseBegun, Bad),
                (Built, Good),
                (Ordered, Bad),
                (Activating, Good),
                (Mark(1), Bad),
                (Mark(2), Good),
                (Mark(4), Bad),
                (Mark(5), Good),
                (Mark(8), Bad),
            ],
        );
    });
}

#[test]
fn a_power_cut_around_the_verdict_boots_a_verified_system() {
    on(Image::Trixie, |cluster| {
        cut_at(
            cluster,
            &[
                (Moved, Good),
                (Activated, Bad),
                (Activated, Good),
                (Judged, Good),
                (Judged, Bad),
                (Committing, Good),
                (ProfileSet, Good),
                (BootBegun, Good),
                (BootWritten, Good),
                (Ended, Good),
                (Removed, Good),
            ],
        );
    });
}

#[test]
fn a_power_cut_on_the_way_back_boots_the_last_good_system() {
    on(Image::Trixie, |cluster| {
        cut_at(
            cluster,
            &[
                (Moved, Bad),
                (PuttingBack, Bad),
                (BackMark(1), Bad),
                (BackMark(3), Bad),
                (BackMark(6), Bad),
                (BackMark(9), Bad),
                (Back, Bad),
                (Ended, Bad),
                (Removed, Bad),
            ],
        );
    });
}

/// One deployment for each moment, on one host.
fn cut_at(cluster: &Cluster, moments: &[(Moment, Comes)]) {
    // An interruption counts, so that a system that brings the host down is
    // given up: a good one needs a second attempt.
    let activations = if moments.iter().any(|(_, comes)| *comes == Good) { 2 } else { 1 };
    let pace =
        Pace { activations, first: "100ms", grace: "200ms", health: "4s", ..Pace::default() };
    let one =
        Host::new("joker", "one").activation(MARKS).agent(&cluster.agent_config_at(&pace, ""));
    cluster.forge();
    let joker = cluster.booted(&one);
    let first = cluster.push("release", &[&one]);
    joker.wait_in_sync(first);
    let mut good = "one".to_owned();
    let mut seen = Vec::new();
    let mut missed = Vec::new();
    for (n, (moment, comes)) in moments.iter().enumerate() {
        let version = format!("{comes:?}-{n}");
        let commit = cluster.push("release", &[&host(&one.at(&version), *moment, *comes)]);
        let came = joker.wait_moment(commit, &version, *moment);
        joker.power_cut();
        eprintln!("{n}: cut a {comes:?} one at {came:?}");
        if came != *moment {
            missed.push((*moment, came));
        }
        seen.extend(joker.deployments_at_work());
        let default = joker.default_version();
        let verified = *comes == Good && came >= Judged;
        assert!(default == good || (verified && default == version), "{default} at {came:?}");
        joker.boot();
        assert_eq!(joker.version_of(&joker.booted().unwrap()), default);
        match comes {
            Good => {
                joker.wait_in_sync(commit);
                good = version;
                assert_eq!(joker.verdicts(commit).last().unwrap(), "good");
            }
            Bad => {
                joker.wait_quarantined(commit);
                assert!(joker.verdicts(commit).iter().all(|verdict| verdict != "good"));
            }
        }
        joker.assert_stands(&good);
        joker.assert_endings(&seen);
    }
    // Whatever was missed was cut a moment later: still a moment.
    assert!(missed.len() <= 2, "{missed:?}");
    assert_eq!(joker.boots(), moments.len() + 1);
}

/// A system whose deployment stays long enough in that moment.
fn host(host: &Host, moment: Moment, comes: Comes) -> Host {
    let mut host = match comes {
        Good => host.clone(),
        // Found by the checks, after some time; or at once, by its activation.
        Bad if moment < PuttingBack => host.clone().unit("broken.service", FAILS),
        Bad => host.clone().activation(&format!("{MARKS}false\n")),
    };
    if moment == RealiseBegun {
        host.knobs.build_seconds = 1;
    } else if moment == Moved {
        host.knobs.switch.hang_after.insert("test", 1);
    } else if moment == BootBegun {
        host.knobs.switch.hang.insert("boot", 1);
    }
    host
}

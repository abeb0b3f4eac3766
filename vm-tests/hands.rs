//! Hazard: somebody switches the host by hand, as nixos-rebuild does, while a
//! deployment is under way. Whoever does that means it: what he put there
//! stays, until the next commit.

use crate::support::{Cluster, Host, Image, MARKS, Machine, Moment, Pace, on};

const HAND: &str = "nix-env -p /nix/var/nix/profiles/system --set \"$1\"\n\
    while \"$1/bin/switch-to-configuration\" switch; [ $? = 11 ]; do sleep 0.05; done\n";

fn in_sync(cluster: &Cluster) -> (Host, Machine) {
    let pace = Pace { first: "100ms", grace: "1500ms", ..Pace::default() };
    let one =
        Host::new("joker", "one").activation(MARKS).agent(&cluster.agent_config_at(&pace, ""));
    cluster.forge();
    let joker = cluster.booted(&one);
    let first = cluster.push("release", &[&one]);
    joker.wait_in_sync(first);
    (one, joker)
}

/// Deploys a system, and switches to the hand's when that is at a moment.
fn switch_by_hand(cluster: &Cluster, comes: &Host, moment: Moment, by_hand: &Host) {
    let (one, joker) = in_sync(cluster);
    by_hand.write(cluster.tree());
    let hand = joker.build(cluster.tree());
    let commit = cluster.push("release", &[comes]);
    joker.wait_moment(commit, "two", moment);
    joker.must(&["sh", "-c", HAND, "hand", &hand]);
    assert_eq!(joker.running(), Some(hand.clone()), "it is done");

    let status = joker.wait_status("the deployment to be over", |status| {
        status["deployment"].is_null() && status["running"]["drift"] == true
    });
    assert_eq!(status["running"]["system"], hand, "{status}");
    joker.assert_stands("hand");
    assert_eq!(joker.link("/nix/var/nix/profiles/system").map(|_| ()), Some(()));
    assert_eq!(joker.must(&["readlink", "-f", "/nix/var/nix/profiles/system"]), hand);
    // Nobody has switched after the hand.
    assert_eq!(joker.switches().last(), Some(&("switch".to_owned(), hand.clone())));
    assert!(joker.verdicts(commit).iter().all(|verdict| verdict == "superseded"));
    // Not later either: the agent looks again.
    let polled = |status: &serde_json::Value| status["remotes"][0]["last_success"].clone();
    let before = polled(&status);
    for _ in 0..3 {
        let last = joker.status().as_ref().map(polled);
        joker.must(&["/run/current-system/sw/bin/fort-agent", "poll"]);
        joker.wait_status("another poll", |status| Some(polled(status)) != last);
    }
    assert_ne!(joker.status().as_ref().map(polled), Some(before));
    assert_eq!(joker.running(), Some(hand));

    let commit = cluster.push("release", &[&one.at("three")]);
    joker.wait_in_sync(commit);
    joker.assert_stands("three");
}

/// The desired system, and the hand's.
fn two(cluster: &Cluster) -> (Host, Host) {
    let pace = Pace { first: "100ms", grace: "1500ms", ..Pace::default() };
    let config = cluster.agent_config_at(&pace, "");
    let host = Host::new("joker", "two").agent(&config);
    (host.clone().activation(MARKS), host.at("hand"))
}

#[test]
fn a_switch_by_hand_while_building_is_respected() {
    on(Image::Trixie, |cluster| {
        let (mut two, hand) = two(cluster);
        two.knobs.build_seconds = 3;
        switch_by_hand(cluster, &two, Moment::RealiseBegun, &hand);
    });
}

#[test]
fn a_switch_by_hand_that_holds_the_lock_before_the_activation_is_respected() {
    on(Image::Trixie, |cluster| {
        let (mut two, mut hand) = two(cluster);
        // It has the lock until the activation has asked for it.
        two.knobs.build_seconds = 1;
        hand.knobs.switch.hang.insert("switch", 5);
        switch_by_hand(cluster, &two, Moment::RealiseBegun, &hand);
    });
}

#[test]
fn a_switch_by_hand_that_waits_for_the_activation_is_respected() {
    on(Image::Trixie, |cluster| {
        let (two, hand) = two(cluster);
        switch_by_hand(cluster, &two, Moment::Mark(3), &hand);
    });
}

#[test]
fn a_switch_by_hand_during_verification_is_respected() {
    on(Image::Trixie, |cluster| {
        let (two, hand) = two(cluster);
        switch_by_hand(cluster, &two, Moment::Activated, &hand);
    });
}

#[test]
fn a_switch_by_hand_during_the_commit_is_respected() {
    on(Image::Trixie, |cluster| {
        let (mut two, hand) = two(cluster);
        two.knobs.switch.hang.insert("boot", 2);
        switch_by_hand(cluster, &two, Moment::BootBegun, &hand);
    });
}

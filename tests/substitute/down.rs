//! A cache that is of no use costs seconds, and not the deployment.

use std::time::{Duration, Instant};

use super::*;
use crate::support::attic::{Claims, Fault, Kind};
use crate::support::site::Site;

/// Longer than any of it takes, on a machine that has other things to do.
const SECONDS: Duration = Duration::from_secs(30);

/// Deploys a commit of which the cache has everything, while it misbehaves.
fn deploys_nevertheless(pair: &Pair, what: &str) -> StorePath {
    let (commit, system) = pair.push_built(what);
    let began = Instant::now();
    pair.rig.wait_in_sync(commit);
    let took = began.elapsed();
    println!("{what}: {took:?}");
    assert!(took < SECONDS, "{what} took {took:?}");
    assert_eq!(pair.rig.verdicts(commit), ["good"], "{what}");
    assert_eq!(pair.running(), system, "{what}");
    system
}

/// A cache that was of use for a first commit: Nix remembers that.
fn once_up() -> Pair {
    let mut pair = Pair::new();
    pair.rig.settings.nix_options = "\"stalled-download-timeout\" = 2".into();
    let (one, system) = pair.push_built("one");
    pair.rig.start();
    pair.rig.wait_in_sync(one);
    assert!(pair.was_fetched(&system));
    pair
}

#[test]
fn nobody_listens() {
    // Before it was ever there, and after.
    let mut pair = Pair::new();
    let one = pair.push("one");
    pair.attic.fault(Fault::Refused);
    pair.rig.start();
    pair.rig.wait_in_sync(one);
    assert_eq!(pair.rig.verdicts(one), ["good"]);
    let pair = once_up();
    let built = pair.build("two");
    pair.give(&built);
    pair.attic.fault(Fault::Refused);
    let two = pair.push("two");
    pair.rig.wait_in_sync(two);
    assert_eq!((pair.rig.verdicts(two), pair.running()), (vec!["good".into()], built.clone()));
    assert!(!pair.was_fetched(&built));
    // And it is asked again for the next one.
    pair.attic.fault(Fault::None);
    let (three, built) = pair.push_built("three");
    pair.rig.wait_in_sync(three);
    assert!(pair.was_fetched(&built));
}

/// Deploys one commit after the other, of which the cache has everything, while
/// it misbehaves.
fn is_of_no_use(cases: &[(&str, Option<Kind>, Fault)]) {
    let pair = once_up();
    for (what, kind, fault) in cases {
        pair.attic.fault(Fault::None);
        let system = pair.build(what);
        pair.give(&system);
        match kind {
            None => pair.attic.fault(fault.clone()),
            Some(kind) => pair.attic.fault_for(*kind, fault.clone()),
        }
        let began = Instant::now();
        let commit = pair.push(what);
        pair.rig.wait_in_sync(commit);
        let took = began.elapsed();
        println!("{what}: {took:?}");
        assert!(took < SECONDS, "{what} took {took:?}");
        assert_eq!(pair.rig.verdicts(commit), ["good"], "{what}");
        assert_eq!(pair.running(), system, "{what}");
        assert!(!pair.was_fetched(&system), "{what}");
    }
}

#[test]
fn whatever_it_answers_is_of_no_use() {
    let elsewhere = Site::open();
    is_of_no_use(&[
        ("broken", None, Fault::Status(500)),
        ("busy", None, Fault::Status(503)),
        ("silent", None, Fault::Hang),
        ("pages", None, Fault::WebServer),
        ("no pages", None, Fault::NotFoundPages),
        ("elsewhere", None, Fault::Redirect(elsewhere.url())),
        ("expired", None, Fault::ExpiredTokens),
        ("stalled", None, Fault::StallAnswer),
    ]);
    assert_eq!(elsewhere.visitors(), 0, "nobody follows, with a token or without");
}

#[test]
fn what_it_says_of_paths_is_of_no_use() {
    is_of_no_use(&[
        ("broken", Some(Kind::NarInfo), Fault::Status(500)),
        ("silent", Some(Kind::NarInfo), Fault::Hang),
        ("pages", Some(Kind::NarInfo), Fault::WebServer),
        ("no pages", Some(Kind::NarInfo), Fault::NotFoundPages),
        ("half", Some(Kind::NarInfo), Fault::Truncated),
    ]);
}

#[test]
fn the_paths_that_it_has_are_of_no_use() {
    is_of_no_use(&[
        ("broken", Some(Kind::Nar), Fault::Status(500)),
        ("lost", Some(Kind::Nar), Fault::NotFoundPages),
        ("pages", Some(Kind::Nar), Fault::WebServer),
        ("cut", Some(Kind::Nar), Fault::CutAnswer),
        ("half", Some(Kind::Nar), Fault::Truncated),
        ("stalled", Some(Kind::Nar), Fault::StallAnswer),
    ]);
}

#[test]
fn why_it_is_of_no_use_shows_in_the_status() {
    let mut pair = Pair::new();
    fs::remove_file(pair.token_file()).unwrap();
    pair.rig.start();
    for (version, fault, said) in [
        ("one", Fault::None, "waiting for a token: "),
        ("two", Fault::Refused, "the cache cannot be reached: "),
    ] {
        pair.attic.fault(fault);
        // For a person to see it.
        let commit = pair.rig.push("release", &Host { build_seconds: 3, ..host(version) });
        let status = pair.rig.wait("the trouble with the cache", |status| {
            status["deployment"]["progress"]["cache_trouble"].is_string()
        });
        let trouble = status["deployment"]["progress"]["cache_trouble"].as_str().unwrap();
        assert!(trouble.starts_with(said), "{trouble}");
        pair.rig.wait_in_sync(commit);
    }
}

#[test]
fn it_goes_away_while_it_is_read() {
    let pair = once_up();
    let system = pair.build("two");
    pair.give(&system);
    let size = info(&pair.builder, &system).nar_size;
    pair.attic.fault_for(Kind::Nar, Fault::Slow(size / 4));
    let two = pair.push("two");
    pair.rig.wait("a download", |status| status["deployment"]["progress"]["phase"] == "fetching");
    pair.attic.fault(Fault::Refused);
    pair.rig.wait_in_sync(two);
    assert_eq!((pair.rig.verdicts(two), pair.running()), (vec!["good".into()], system));
}

#[test]
fn without_a_good_token_what_it_has_is_built() {
    let mut pair = Pair::new();
    fs::remove_file(pair.token_file()).unwrap();
    let (one, system) = pair.push_built("one");
    pair.rig.start();
    pair.rig.wait_in_sync(one);
    assert!(!pair.was_fetched(&system));
    for (what, token) in [
        ("empty", String::new()),
        ("expired", pair.attic.sign(&Claims::new(CACHE, &["r"]).expires_in(-1))),
        ("push only", pair.attic.token(&["w"])),
        ("of another cache", pair.attic.sign(&Claims::new("other", &["r"]))),
        ("two lines", "a\nb".into()),
        ("two words", "a b".into()),
    ] {
        pair.token(&token);
        let system = deploys_nevertheless(&pair, what);
        assert!(!pair.was_fetched(&system), "{what}");
    }
    // Whoever replaces the token need not tell the agent.
    pair.token(&pair.attic.token(&["r"]));
    let (last, system) = pair.push_built("last");
    pair.rig.wait_in_sync(last);
    assert!(pair.was_fetched(&system));
    // A public cache needs none.
    fs::remove_file(pair.token_file()).unwrap();
    pair.attic.set_public(true);
    let (public, system) = pair.push_built("public");
    pair.rig.wait_in_sync(public);
    assert!(pair.was_fetched(&system));
    assert!(!pair.netrc().exists());
}

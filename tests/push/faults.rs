//! A cache that has its own troubles, and paths that have theirs.

use super::*;
use crate::support::attic::{Fault, Kind};

#[test]
fn what_fails_for_a_moment_is_tried_again() {
    for fault in [
        Fault::Status(500),
        Fault::Status(503),
        Fault::CutUpload,
        Fault::CutAnswer,
        Fault::Truncated,
    ] {
        let bench = Bench::new();
        let paths = bench.star(6, 200_000);
        bench.attic.fault_next(3, Kind::Upload, fault.clone());
        let outcome = bench.push(&paths[6..]);
        assert_eq!((outcome.sent, cause(&outcome)), (7, "(none)"), "{fault:?}");
        assert!(bench.has(&paths));
        // An answer that was lost is not a reason to send all of it again.
        assert_eq!(bench.attic.sent_again(), [""; 0], "{fault:?}");
    }
}

#[test]
fn questions_are_asked_again() {
    for kind in [Kind::CacheConfig, Kind::GetMissing] {
        for fault in [Fault::Status(502), Fault::CutAnswer, Fault::Truncated] {
            let bench = Bench::new();
            bench.attic.fault_next(2, kind, fault.clone());
            let outcome = bench.push(&bench.chain(1, 10));
            assert_eq!((outcome.sent, cause(&outcome)), (1, "(none)"), "{kind:?} {fault:?}");
        }
    }
}

#[test]
fn a_cache_that_is_away_ends_the_push_soon() {
    let bench = Bench::new();
    let paths = bench.star(40, 1000);
    bench.attic.fault(Fault::Refused);
    let outcome = bench.push(&paths[40..]);
    assert_eq!(outcome.sent, 0);
    assert!(cause(&outcome).starts_with("the cache cannot be reached"), "{outcome:?}");
    assert!(cause(&outcome).contains("onnection refused"), "{outcome:?}");
}

#[test]
fn a_cache_that_takes_no_path_ends_the_push_and_not_after_each_path() {
    let bench = Bench::new();
    let paths = bench.star(40, 1000);
    bench.attic.fault_for(Kind::Upload, Fault::Status(500));
    let outcome = bench.push(&paths[40..]);
    assert_eq!((outcome.sent, outcome.left), (0, 41));
    assert!(cause(&outcome).starts_with("the cache has a trouble of its own (500)"), "{outcome:?}");
    // Those that were on their way, each as often as it may.
    assert!(bench.attic.counts().uploads <= 8 * 5, "{:?}", bench.attic.counts());
}

#[test]
fn a_full_disk_is_told() {
    let bench = Bench::new();
    let paths = bench.chain(1, 200_000);
    bench.attic.fault_for(Kind::Upload, Fault::FullDisk);
    let outcome = bench.push(&paths);
    assert_eq!((outcome.sent, outcome.left), (0, 1));
    assert!(cause(&outcome).contains("(500)"), "{outcome:?}");
}

/// One that the server refuses before it has read it all.
#[test]
fn a_refusal_while_sending_is_heard() {
    let bench = Bench::new();
    let paths = bench.chain(2, 5_000_000);
    bench.attic.fault_for(Kind::Upload, Fault::ExpiredTokens);
    let outcome = bench.push(&paths[1..]);
    assert_eq!(outcome.sent, 0);
    assert!(cause(&outcome).contains("does not accept the token (401)"), "{outcome:?}");
}

#[test]
fn what_is_damaged_or_gone_is_never_published() {
    for damage in ["other", "shorter", "longer", "gone"] {
        let bench = Bench::new();
        let mut plants: Vec<Plant> =
            (0..4).map(|at| Plant::new(&format!("p{at}"), 300_000, &[])).collect();
        plants.push(Plant::new("bad", 300_000, &[0]));
        plants.push(Plant::new("top", 1000, &[1, 2, 3, 4]));
        let paths = plant(&bench.store, &plants);
        let place = bench.store.root().physical(&paths[4]);
        let mut contents = fs::read(&place).unwrap();
        fs::remove_file(&place).unwrap();
        match damage {
            "other" => contents[299_999] ^= 1,
            "shorter" => contents.truncate(299_992),
            _ => contents.push(0),
        }
        if damage != "gone" {
            fs::write(&place, contents).unwrap();
        }
        let outcome = bench.push(&paths[5..]);
        assert_eq!((outcome.sent, outcome.left), (4, 2), "{damage}: {outcome:?}");
        assert!(!bench.has(&paths[4..5]) && !bench.has(&paths[5..]), "{damage}");
        let words = if damage == "gone" { "it cannot be read" } else { "it is damaged on disk" };
        assert!(cause(&outcome).contains(words), "{damage}: {outcome:?}");
        assert_eq!(outcome.failed.len(), 1);
        assert!(bench.is_closed());
    }
}

#[test]
fn a_path_that_is_not_in_the_store_is_named() {
    let bench = Bench::new();
    let path: StorePath = format!("/nix/store/{}-nothing", "a".repeat(32)).parse().unwrap();
    let outcome = bench.push(&[path]);
    assert!(cause(&outcome).ends_with("-nothing is not in the store"), "{outcome:?}");
    assert_eq!(bench.attic.counts().uploads, 0);
}

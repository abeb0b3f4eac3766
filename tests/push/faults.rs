//! A cache that has its own troubles, and paths that have theirs.

use super::*;
use crate::support::attic::{Claims, Fault, Kind, Outcome};
use crate::support::forge::wait_for;

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

/// As `fort-agent push` does it: nobody begins it again.
#[test]
fn a_cache_that_is_away_for_longer_is_waited_for_by_one_that_is_patient() {
    let patient = PublishLimits {
        first_pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(20),
        ..PublishLimits::PUSH
    };
    for kind in [Kind::CacheConfig, Kind::GetMissing, Kind::Upload] {
        for (limits, sent) in
            [(patient, 3), (PublishLimits { patience: Duration::ZERO, ..patient }, 0)]
        {
            let bench = Bench::new();
            let paths = bench.chain(3, 10_000);
            bench.attic.fault_next(12, kind, Fault::Status(503));
            let (settings, never) = (bench.settings(), std::future::pending());
            let mut told = Vec::new();
            let note =
                |now: &PublishProgress| told.extend(now.trouble.as_ref().map(|_| now.patience));
            let outcome = bench.push_within(&limits, &settings, &paths[2..], note, never);
            assert_eq!(outcome.sent, sent, "{kind:?} {outcome:?}");
            assert!(bench.is_closed());
            let patience = (sent > 0).then_some(30..=120);
            let as_told = |told: &Option<u64>| match &patience {
                Some(patience) => told.is_some_and(|told| patience.contains(&told)),
                None => told.is_none(),
            };
            assert!(told.iter().all(as_told), "{kind:?} {told:?}");
        }
    }
}

/// The end of a path is held back as long as what it refers to is not there;
/// but no proxy is made to wait for it.
#[test]
fn an_end_that_would_be_held_back_for_long_is_sent_again_later() {
    let bench = Bench::new();
    let plants = [Plant::new("slow", 800_000, &[]), Plant::new("quick", 100_000, &[0])];
    let paths = plant(&bench.store, &plants);
    // More than a second for the one, a fifth of it for the other.
    bench.attic.fault_for(Kind::Upload, Fault::Slow(500_000));
    let limits = PublishLimits { hold: Duration::from_millis(100), ..PublishLimits::JOB };
    let (settings, never) = (bench.settings(), std::future::pending());
    let outcome = bench.push_within(&limits, &settings, &paths[1..], |_| {}, never);
    assert_eq!((outcome.sent, cause(&outcome)), (2, "(none)"));
    assert!(bench.has(&paths) && bench.is_closed());
    let log = bench.attic.upload_log();
    let of = |path: &StorePath| {
        let came = log.iter().filter(|upload| upload.store_path == path.as_str());
        came.map(|upload| upload.outcome).collect::<Vec<_>>()
    };
    assert_eq!(of(&paths[0]), [Outcome::Uploaded]);
    // It is chance whether the server hears of it that one is broken off.
    let again = of(&paths[1]);
    let (last, before) = again.split_last().unwrap();
    let broken_off = |outcome: &Outcome| matches!(outcome, Outcome::Open | Outcome::Refused(400));
    assert!(!before.is_empty() && before.iter().all(broken_off), "{again:?}");
    assert_eq!(*last, Outcome::Uploaded);
}

/// A server that does not wait wants no proof of possession. A path that it took at
/// once may be there before the paths that it refers to, until those have come as well.
#[test]
fn a_server_that_does_not_wait_for_the_end_is_soon_sent_nothing_ahead() {
    let bench = Bench::new();
    let paths = bench.chain(120, 10_000);
    bench.attic.create_cache("other", false, &[]);
    bench.token(&bench.attic.sign(&Claims::new("*", &["r", "w"])));
    let other = Settings { name: "other".into(), ..bench.settings() };
    assert_eq!(bench.push_with(&other, &paths[119..]).sent, 120);
    bench.attic.fault_for(Kind::Upload, Fault::NoProof);
    let outcome = bench.push(&paths[119..]);
    assert_eq!((outcome.sent, cause(&outcome)), (120, "(none)"));
    assert!(bench.has(&paths));
    let early = bench.attic.holes();
    assert!(early.len() <= 6, "{early:?}");
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

/// Refusal by a server that has not read all of the path: where the connection breaks
/// before it is read, the next question is refused as well.
#[test]
fn a_refusal_while_sending_is_heard() {
    let bench = Bench::new();
    let paths = bench.chain(2, 5_000_000);
    bench.attic.fault_for(Kind::Upload, Fault::ExpiredTokens);
    let attic = &bench.attic;
    let outcome = std::thread::scope(|scope| {
        scope.spawn(|| {
            wait_for("an upload", || attic.counts().uploads > 0);
            attic.fault(Fault::ExpiredTokens);
        });
        bench.push(&paths[1..])
    });
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

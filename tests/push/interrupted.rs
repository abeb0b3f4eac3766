//! A push that ends early, and is begun again.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::support::attic::Fault;

#[test]
fn a_push_that_is_cancelled_ends_at_once_and_goes_on_where_it_was() {
    let bench = Bench::new();
    let paths = bench.star(30, 100_000);
    let settings = Settings { jobs: 2, ..bench.settings() };
    let mut confirmed = 0;
    for round in 0..40 {
        // After another number of requests each time.
        let before = bench.attic.counts().uploads;
        let cancel = async {
            while bench.attic.counts().uploads < before + round % 5 + 1 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let outcome = bench.push_until(&settings, &paths[30..], |_| {}, cancel);
        confirmed += outcome.sent;
        assert!(bench.is_closed());
        if !outcome.cancelled {
            assert_eq!((outcome.left, cause(&outcome)), (0, "(none)"));
            break;
        }
    }
    assert!(bench.has(&paths));
    assert!(confirmed <= 31, "{confirmed}");
    assert_eq!(bench.attic.sent_again(), [""; 0]);
}

/// The ends of several links are held back at any moment of it.
#[test]
fn a_chain_that_is_cut_at_any_moment_can_be_fetched_as_far_as_it_came() {
    let bench = Bench::new();
    let paths = bench.chain(24, 60_000);
    let mut cut = 0;
    for round in 0..60 {
        let before = bench.attic.counts().uploads;
        let cancel = async {
            while bench.attic.counts().uploads < before + round % 6 + 1 {
                tokio::task::yield_now().await;
            }
        };
        let outcome = bench.push_until(&bench.settings(), &paths[23..], |_| {}, cancel);
        assert!(bench.is_closed(), "{:?}", bench.attic.holes());
        if !outcome.cancelled {
            assert_eq!((outcome.left, cause(&outcome)), (0, "(none)"));
            break;
        }
        cut += 1;
    }
    assert!(cut > 3, "{cut}");
    assert!(bench.has(&paths));
    assert_eq!(bench.attic.sent_again(), [""; 0]);
}

#[test]
fn a_server_that_dies_in_the_middle_of_a_chain_has_no_link_without_the_one_before() {
    for confirmed in [1, 2, 5] {
        let bench = Bench::new();
        let paths = bench.chain(8, 100_000);
        bench.attic.dies_after(confirmed);
        let back = AtomicU64::new(0);
        let progress = |now: &PublishProgress| {
            if now.trouble.is_some() && back.fetch_add(1, Ordering::Relaxed) == 0 {
                assert!(bench.is_closed());
                bench.attic.fault(Fault::None);
            }
        };
        let outcome =
            bench.push_until(&bench.settings(), &paths[7..], progress, std::future::pending());
        assert_eq!((outcome.sent, cause(&outcome)), (8, "(none)"), "{confirmed}");
        assert!(bench.has(&paths) && bench.is_closed());
        assert_eq!(bench.attic.sent_again(), [""; 0]);
    }
}

#[test]
fn a_server_that_dies_in_the_middle_loses_nothing() {
    let bench = Bench::new();
    let paths = bench.star(12, 100_000);
    bench.attic.dies_after(5);
    let down = AtomicU64::new(0);
    let progress = |now: &PublishProgress| {
        // It comes back once the push has noticed.
        if now.trouble.is_some() && down.fetch_add(1, Ordering::Relaxed) == 0 {
            bench.attic.fault(Fault::None);
        }
    };
    let outcome =
        bench.push_until(&bench.settings(), &paths[12..], progress, std::future::pending());
    assert_eq!((outcome.sent, cause(&outcome)), (13, "(none)"));
    assert!(down.load(Ordering::Relaxed) > 0, "it never noticed");
    assert!(bench.has(&paths) && bench.is_closed());
    assert_eq!(bench.attic.sent_again(), [""; 0]);
}

//! Several hosts that give the same to one cache.

use std::sync::Barrier;

use super::*;
use crate::support::attic::{Fault, Outcome};

/// Pushes the same paths from two hosts that begin together. Returns both outcomes.
fn pushed_by_two(attic: &Attic, plants: &[Plant]) -> [PublishOutcome; 2] {
    let limits = PublishLimits {
        fresh: Duration::from_millis(100),
        leave: Duration::from_millis(200),
        ..PublishLimits::JOB
    };
    let settings = |token_file: PathBuf| Settings {
        endpoint: attic.endpoint(),
        name: CACHE.into(),
        token_file,
        upstream_keys: Vec::new(),
        jobs: 2,
    };
    let planted = Barrier::new(2);
    let host = || {
        let store = ScratchStore::new();
        let token = store.dir().join("token");
        fs::write(&token, attic.token_rw()).unwrap();
        let top = plant(&store, plants).pop().unwrap();
        let nix = store.nix();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let never = std::future::pending();
        planted.wait();
        let outcome = runtime.block_on(async {
            let (settings, top) = (settings(token), [top]);
            let push = publish(&nix, &settings, &limits, &top, |_| {}, never);
            tokio::time::timeout(Duration::from_secs(120), push).await.expect("a push ends")
        });
        drop(store);
        outcome
    };
    std::thread::scope(|scope| {
        let hosts = [(); 2].map(|()| scope.spawn(host));
        hosts.map(|host| host.join().unwrap())
    })
}

#[test]
fn two_hosts_that_give_the_same_do_not_each_send_all_of_it() {
    let attic = Attic::start();
    // Each path takes a tenth of a second, whoever sends it.
    attic.fault(Fault::Slow(1_000_000));
    let mut plants: Vec<Plant> =
        (0..60).map(|at| Plant::new(&format!("point{at}"), 100_000, &[])).collect();
    plants.push(Plant::new("star", 1000, &(0..60).collect::<Vec<_>>()));
    let outcomes = pushed_by_two(&attic, &plants);
    for outcome in &outcomes {
        assert_eq!((outcome.left, cause(outcome)), (0, "(none)"));
        assert!(outcome.sent < 48, "{outcomes:?}");
        // What was there when it asked first is neither.
        assert!((50..=61).contains(&(outcome.sent + outcome.elsewhere)), "{outcomes:?}");
    }
    assert_eq!(attic.stored().len(), 61);
    assert_eq!(attic.holes(), [""; 0]);
    let log = attic.upload_log();
    let twice = log.iter().filter(|upload| upload.outcome == Outcome::Deduplicated).count();
    assert!(twice < 20, "{twice}");
}

//! Paths that are fetched when all goes well.

use super::*;
use crate::support::attic::{Fault, Kind};

#[test]
fn what_another_host_built_is_fetched_and_not_built() {
    let mut pair = Pair::new();
    let (one, system) = pair.push_built("one");
    pair.rig.start();
    pair.rig.wait_in_sync(one);
    assert_eq!(pair.running(), system);
    assert_eq!(pair.rig.version(), "one");
    let closure = pair.builder.run("nix-store", &["-qR", system.as_str()]);
    let closure: Vec<StorePath> = closure.lines().map(|line| line.parse().unwrap()).collect();
    assert!(closure.len() >= 5, "{closure:?}");
    for path in closure {
        // What the commit itself contains needs no cache.
        let source = pair.info(&path).content_address.is_some();
        assert!(source || pair.was_fetched(&path), "{path}");
    }
    pair.rig.store.run("nix-store", &["--verify", "--check-contents"]);
}

#[test]
fn how_much_of_it_is_there_shows_in_the_status() {
    let mut pair = Pair::new();
    let (one, system) = pair.push_built("one");
    // The contents of the system take two seconds.
    let size = info(&pair.builder, &system).nar_size;
    pair.attic.fault_for(Kind::Nar, Fault::Slow(size / 2));
    pair.rig.start();
    let status = pair.rig.wait("the system on its way", |status| {
        let progress = &status["deployment"]["progress"];
        progress["phase"] == "fetching" && progress["current"] == "system-joker"
    });
    assert_eq!(status["state"], "realising");
    let progress = &status["deployment"]["progress"];
    let number = |key: &str| progress[key].as_u64().unwrap();
    // The system and its parts.
    assert_eq!((number("fetched"), number("to_fetch")), (3, 4), "{progress}");
    // Nix counts what it was asked for until it has it.
    assert_eq!((number("built"), number("to_build")), (0, 0), "{progress}");
    assert!(number("bytes_expected") > size, "{progress}");
    assert!(number("bytes") < number("bytes_expected") && number("bytes") > 0, "{progress}");
    // Nix counts a derivation as to be built until it has been fetched.
    assert_eq!(number("built"), 0, "{progress}");
    pair.rig.wait_in_sync(one);
    assert!(pair.was_fetched(&system));
}

#[test]
fn what_was_not_there_for_one_deployment_is_fetched_for_a_later_one() {
    let mut pair = Pair::new();
    let one = pair.push("one");
    pair.rig.start();
    pair.rig.wait_in_sync(one);
    let system = pair.running();
    assert!(!pair.was_fetched(&system));
    // It was asked for and was not there. Given, and lost by the host:
    let asked = pair.attic.counts().narinfo;
    assert!(asked > 4, "{asked}");
    assert_eq!(pair.build("one"), system);
    pair.give(&system);
    let two = pair.push("two");
    pair.rig.wait_in_sync(two);
    pair.rig.stop();
    forget(&pair, &system);
    let back = pair.push("one");
    pair.rig.start();
    pair.rig.wait_in_sync(back);
    assert!(pair.was_fetched(&system));
}

/// Has the agent's store lose a path, its roots included.
fn forget(pair: &Pair, path: &StorePath) {
    for directory in ["roots", "jobs"] {
        let directory = pair.rig.state().join(directory);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir(&directory).unwrap();
    }
    let profiles = pair.rig.root().join("nix/var/nix/profiles");
    for link in fs::read_dir(profiles).unwrap().flatten() {
        if fs::read_link(link.path()).is_ok_and(|target| target.as_os_str() == path.as_str()) {
            fs::remove_file(link.path()).unwrap();
        }
    }
    pair.rig.store.run("nix-store", &["--delete", path.as_str()]);
    assert!(!pair.rig.store.has(path));
}

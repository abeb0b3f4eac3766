//! Pushes that arrive whole, when all goes well.

use super::*;
use crate::store::Shelf;
use crate::support::attic::{Fault, Kind, Outcome};
use crate::support::system::Host;

#[test]
fn a_system_that_was_pushed_is_substituted_whole_by_another_store() {
    let shelf = Shelf::of(&Host { parts: 3, ..Host::new("one") });
    let system = shelf.build().system;
    let bench = Bench::new();
    bench.attic.set_public(true);
    let bench = Bench { store: shelf.store, attic: bench.attic };
    bench.token(&bench.attic.token_rw());
    let outcome = bench.push(std::slice::from_ref(&system));
    assert_eq!((cause(&outcome), outcome.left), ("(none)", 0));
    let closure = bench.store.run("nix-store", &["-qR", system.as_str()]);
    assert_eq!(outcome.sent, closure.lines().count() as u64);
    assert_eq!(bench.attic.stored(), {
        let mut paths: Vec<String> = closure.lines().map(str::to_owned).collect();
        paths.sort();
        paths
    });

    let other = ScratchStore::new();
    let (from, key) = (bench.attic.substituter(), bench.attic.public_key());
    let trusting = [
        ("substituters", from.as_str()),
        ("trusted-public-keys", key.as_str()),
        ("require-sigs", "true"),
    ];
    let nix = other.nix_with(other.store(), &trusting);
    other.run_on(&nix, "nix-store", &["--realise", system.as_str()]);
    assert_eq!(other.run("nix-store", &["-qR", system.as_str()]), closure);
    other.run("nix-store", &["--verify", "--check-contents"]);
}

#[test]
fn what_is_there_is_not_sent_again() {
    let bench = Bench::new();
    let paths = bench.chain(6, 1000);
    let top = std::slice::from_ref(paths.last().unwrap());
    let first = bench.push(top);
    assert_eq!((first.sent, first.left), (6, 0));
    assert!(first.bytes > 6000 && first.bytes < 12_000, "{first:?}");
    let before = bench.attic.counts();
    let second = bench.push(top);
    assert_eq!((second.sent, second.left, cause(&second)), (0, 0, "(none)"));
    let after = bench.attic.counts();
    assert_eq!(after.get_missing - before.get_missing, 1);
    assert_eq!(after.uploads, before.uploads);
}

#[test]
fn references_come_first_and_several_paths_at_a_time() {
    let bench = Bench::new();
    let paths = bench.star(20, 300_000);
    let heard = Heard::default();
    let outcome =
        bench.push_until(&bench.settings(), &paths[20..], heard.listen(), std::future::pending());
    assert_eq!((outcome.sent, cause(&outcome)), (21, "(none)"));
    assert!(bench.has(&paths));
    let log = bench.attic.upload_log();
    let last = log.iter().max_by_key(|upload| upload.ended).unwrap();
    assert!(last.store_path.ends_with("-star"));
    for upload in &log {
        let ended = |reference: &String| {
            let earlier = log.iter().find(|other| other.store_path.ends_with(reference.as_str()));
            earlier.is_some_and(|earlier| earlier.ended.unwrap() <= upload.ended.unwrap())
        };
        assert!(upload.references.iter().all(ended), "{upload:?}");
        assert!(upload.references.is_sorted());
        assert!(matches!(upload.outcome, Outcome::Uploaded), "{upload:?}");
    }
    let most = bench.attic.counts().most_uploads_at_once;
    assert!((2..=4).contains(&most), "{most}");
    let last = heard.0.borrow().last().unwrap().clone();
    assert_eq!((last.sent, last.to_send), (21, 21));
    assert_eq!(last.bytes, last.bytes_expected);
}

/// Of a chain too: else the server would have nothing to do between two links.
#[test]
fn the_next_link_of_a_chain_arrives_but_for_its_end_before_the_last_one_is_confirmed() {
    let bench = Bench::new();
    let paths = bench.chain(5, 300_000);
    let last = paths[4].as_str().to_owned();
    bench.attic.fault_for(Kind::Upload, Fault::AwaitsFollower { last });
    let outcome = bench.push(&paths[4..]);
    assert_eq!((outcome.sent, cause(&outcome)), (5, "(none)"));
    assert!(bench.has(&paths) && bench.is_closed());
    assert_eq!(bench.attic.counts().uploads, 5);
}

#[test]
fn one_job_sends_one_path_at_a_time() {
    let bench = Bench::new();
    let paths = bench.star(5, 200_000);
    let settings = Settings { jobs: 1, ..bench.settings() };
    assert_eq!(bench.push_with(&settings, &paths[5..]).sent, 6);
    assert_eq!(bench.attic.counts().most_uploads_at_once, 1);
}

#[test]
fn what_an_upstream_key_signed_is_left_out() {
    let bench = Bench::new();
    let paths = bench.star(2, 1000);
    let store = bench.store.dir().join("key");
    for name in ["upstream-1", "other-1"] {
        let (secret, public) = (store.join(name), store.join(format!("{name}.pub")));
        fs::create_dir_all(&store).unwrap();
        let files = [secret.to_str().unwrap(), public.to_str().unwrap()];
        bench.store.run("nix-store", &["--generate-binary-cache-key", name, files[0], files[1]]);
        let signed = if name == "other-1" { &paths[1] } else { &paths[0] };
        bench.store.run("nix", &["store", "sign", "-k", files[0], signed.as_str()]);
    }
    bench.attic.set_upstream_keys(&["upstream-1"]);
    let settings = Settings { upstream_keys: vec!["other-1".into()], ..bench.settings() };
    let outcome = bench.push_with(&settings, &paths[2..]);
    assert_eq!((outcome.sent, cause(&outcome)), (1, "(none)"));
    assert_eq!(bench.attic.stored(), [paths[2].as_str()]);
    // Neither the cache nor the host calls that key upstream's any more.
    bench.attic.set_upstream_keys(&[]);
    assert_eq!(bench.push(&paths[2..]).sent, 2);
}

/// Metadata of a path with so many references no longer fits a header.
#[test]
fn a_path_with_eight_thousand_references_arrives() {
    let bench = Bench::new();
    let mut plants: Vec<Plant> =
        (0..8000).map(|at| Plant::new(&format!("p{at}"), 1, &[])).collect();
    plants.push(Plant::new("all", 1000, &(0..=8000).collect::<Vec<_>>()));
    let paths = plant(&bench.store, &plants);
    let there: Vec<&str> = paths[..8000].iter().map(StorePath::as_str).collect();
    bench.attic.pretend(&there);
    let outcome = bench.push(&paths[8000..]);
    assert_eq!((outcome.sent, cause(&outcome)), (1, "(none)"));
    let log = bench.attic.upload_log();
    assert!(log[0].preamble);
    assert_eq!(log[0].references.len(), 8001);
    // Asked in one batch of at most ten thousand.
    assert_eq!(bench.attic.counts().get_missing, 1);
}

/// File names that are no text are packed by the store's daemon.
#[test]
fn a_path_that_we_cannot_read_is_read_by_the_daemon() {
    use std::os::unix::ffi::OsStringExt as _;
    let bench = Bench::new();
    let odd = bench.store.dir().join("odd");
    fs::create_dir(&odd).unwrap();
    fs::write(odd.join(std::ffi::OsString::from_vec(vec![b'a', 0xff])), "x").unwrap();
    let path = bench.store.run("nix-store", &["--add", odd.to_str().unwrap()]).parse().unwrap();
    let outcome = bench.push(&[path]);
    assert_eq!((outcome.sent, cause(&outcome)), (1, "(none)"));
}

//! Without the agent around it: Nix as it is prepared, through a daemon too.

use fort_agent::nix::Nix;
use fort_agent::substitute::{Settings, prepared};

use super::*;

fn settings(pair: &Pair) -> Settings {
    fs::create_dir_all(pair.rig.state()).unwrap();
    Settings {
        endpoint: pair.attic.endpoint(),
        name: CACHE.into(),
        public_keys: vec![pair.attic.public_key()],
        token_file: Some(pair.token_file()),
        netrc: pair.netrc(),
    }
}

/// Whether a store that builds nothing can get it.
fn gets(store: &ScratchStore, nix: &Nix, system: &StorePath) {
    let nothing_built = ["--realise", system.as_str(), "--max-jobs", "0"];
    store.run_on(nix, "nix-store", &nothing_built);
    assert!(!info(store, system).ultimate);
}

#[test]
fn a_daemon_fetches_with_its_clients_cache_keys_and_netrc() {
    let pair = Pair::new();
    let (_, system) = pair.push_built("one");
    let store = ScratchStore::new();
    let daemon = store.daemon();
    let nix = block(prepared(&daemon.nix(), &settings(&pair))).nix.expect("the cache answers");
    gets(&store, &nix, &system);
}

#[test]
fn what_was_not_there_a_moment_ago_is_asked_for_again() {
    let pair = Pair::new();
    let system = pair.build("one");
    let settings = settings(&pair);
    let nix = block(prepared(&pair.rig.store.nix(), &settings)).nix.unwrap();
    let asked = ["build", "--no-link", &pair.attribute()];
    pair.rig.store.run_on(&nix, "nix", &asked);
    assert!(info(&pair.rig.store, &system).ultimate);
    assert!(pair.attic.counts().narinfo > 4, "{:?}", pair.attic.counts());
    pair.give(&system);
    // Another store, and the memory of the same Nix.
    let other = ScratchStore::new();
    let with_memory = fort_agent::nix::Settings {
        bin_dir: None,
        store: other.store(),
        options: ScratchStore::options(),
        home: pair.rig.store.dir().join("home"),
        cache: pair.rig.store.dir().join("cache"),
    };
    let nix = Nix::find(with_memory, &crate::support::nix::search_path()).unwrap();
    gets(&other, &block(prepared(&nix, &settings)).nix.unwrap(), &system);
}

#[test]
fn nix_says_where_its_own_netrc_is() {
    let store = ScratchStore::new();
    let file = block(store.nix().netrc_file()).expect("nix says it");
    assert!(file.is_absolute(), "{}", file.display());
    let nix = store.nix_with(store.store(), &[("netrc-file", "/etc/other")]);
    assert_eq!(block(nix.netrc_file()), Some("/etc/other".into()));
}

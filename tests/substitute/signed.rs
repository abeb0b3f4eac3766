//! Paths that are not signed by a key that the host was told are built, not believed.

use serde_json::json;

use super::*;

#[test]
fn what_another_key_signed_is_built() {
    let mut pair = Pair::new();
    let other = Attic::start().public_key();
    pair.rig.settings.sections = pair.section(&other);
    let (one, system) = pair.push_built("one");
    pair.rig.start();
    pair.rig.wait_in_sync(one);
    assert_eq!(pair.running(), system);
    assert!(!pair.was_fetched(&system));
    assert!(pair.attic.counts().narinfo > 4, "it was asked");
    assert_eq!(pair.attic.counts().nar, 0);
}

#[test]
fn one_of_several_keys_is_enough() {
    let mut pair = Pair::new();
    let other = Attic::start().public_key();
    let (section, ours) = (pair.section("KEYS"), pair.attic.public_key());
    let keys = format!("[\"{}\", \"{ours}\"]", other.replace("fort:", "older:"));
    pair.rig.settings.sections = section.replace("\"KEYS\"", &keys);
    let (one, system) = pair.push_built("one");
    pair.rig.start();
    pair.rig.wait_in_sync(one);
    assert!(pair.was_fetched(&system));
}

#[test]
fn what_was_sent_with_unsorted_references_is_built() {
    let mut pair = Pair::new();
    let (one, system) = pair.push_built("one");
    send_unsorted(&pair, &system);
    pair.rig.start();
    pair.rig.wait_in_sync(one);
    assert_eq!(pair.running(), system);
    assert!(!pair.was_fetched(&system));
    // Its parts were sent as they should be.
    let parts = pair.info(&system).references;
    let part = parts.iter().find(|path| path.as_str().ends_with("-part-0")).unwrap();
    assert!(pair.was_fetched(part));
}

/// Sends a path as a client would that does not know that trap.
fn send_unsorted(pair: &Pair, path: &StorePath) {
    let physical = pair.builder.root().physical(path);
    let nar = std::process::Command::new("nix-store").arg("--dump").arg(physical).output().unwrap();
    let info = info(&pair.builder, path);
    let base_names = info.references.iter().rev().map(StorePath::base_name);
    let told = json!({
        "cache": CACHE,
        "store_path_hash": &path.base_name()[..32],
        "store_path": path.as_str(),
        "references": base_names.collect::<Vec<_>>(),
        "sigs": [],
        "nar_hash": format!("sha256:{}", info.nar_hash),
        "nar_size": info.nar_size,
    });
    let url = format!("{}/_api/v1/upload-path", pair.attic.endpoint());
    let client = fort_http::client(&url).build().unwrap();
    let request = client.put(url).bearer_auth(pair.attic.token_rw()).body(nar.stdout);
    let request = request.header("X-Attic-Nar-Info", told.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(request.send()).unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
}

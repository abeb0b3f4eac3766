//! A real Nix reads what was sent right, and refuses what was not.

use std::process::Command;

use fort_agent::core::types::StorePath;
use serde_json::json;

use super::ask::{Subject, info};
use crate::store::Shelf;
use crate::support::attic::Attic;
use crate::support::nix::ScratchStore;
use crate::support::system::Host;

/// A closure in one store, to be read into another one.
struct Sent {
    shelf: Shelf,
    system: StorePath,
    closure: Vec<StorePath>,
}

impl Sent {
    fn build() -> Self {
        let shelf = Shelf::of(&Host { parts: 3, ..Host::new("one") });
        let system = shelf.build().system;
        let requisites = shelf.store.run("nix-store", &["-qR", system.as_str()]);
        let closure: Vec<_> = requisites.lines().map(|line| line.parse().unwrap()).collect();
        assert!(closure.len() > 4);
        Self { shelf, system, closure }
    }

    /// As `nix-store --dump` writes it.
    fn nar(&self, path: &StorePath) -> Vec<u8> {
        dump(&self.shelf.store, path)
    }

    /// References are sent as this leaves them; they come sorted.
    fn send(&self, subject: &Subject, token: &str, path: &StorePath, order: fn(&mut [String])) {
        let nar = self.nar(path);
        let mut info = info(&subject.cache, &nar);
        let references = self.shelf.store.run("nix-store", &["-q", "--references", path.as_str()]);
        let base_name = |line: &str| line.strip_prefix("/nix/store/").unwrap().to_owned();
        let mut references: Vec<String> = references.lines().map(base_name).collect();
        references.sort();
        order(&mut references);
        info["store_path_hash"] = json!(path.base_name()[..32]);
        info["store_path"] = json!(path.as_str());
        info["references"] = json!(references);
        let answer = subject.upload(&info, &nar).bearer(token).send();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    fn send_all(&self, subject: &Subject) {
        let token = subject.token(&["w"]);
        self.closure.iter().for_each(|path| self.send(subject, &token, path, |_| {}));
    }

    /// Whether the store has all of it, byte for byte.
    #[track_caller]
    fn assert_in(&self, store: &ScratchStore) {
        for path in &self.closure {
            assert!(self.nar(path) == dump(store, path), "{path}");
        }
    }
}

fn dump(store: &ScratchStore, path: &StorePath) -> Vec<u8> {
    let file = store.root().physical(path);
    let dump = Command::new("nix-store").arg("--dump").arg(file).output().unwrap();
    assert!(dump.status.success());
    dump.stdout
}

fn public_key(subject: &Subject) -> String {
    let config = subject.config(&subject.cache).bearer(&subject.token(&["r"])).send().json();
    config["public_key"].as_str().unwrap().to_owned()
}

/// Reads a path and all that it needs from this cache, or says why not.
fn read(
    into: &ScratchStore,
    cache: &str,
    key: &str,
    path: &StorePath,
    more: &[(&str, &str)],
) -> Result<(), String> {
    run(reading(into, cache, key, path)
        .args(more.iter().flat_map(|(name, value)| ["--option", *name, *value])))
}

fn reading(into: &ScratchStore, cache: &str, key: &str, path: &StorePath) -> Command {
    let mut command = Command::new("nix-store");
    command.args(["--realise", path.as_str()]).env_clear().envs(into.nix().environment());
    command.env("no_proxy", "127.0.0.1");
    for (name, value) in [
        ("substituters", cache),
        ("trusted-public-keys", key),
        ("max-jobs", "0"),
        ("download-attempts", "1"),
    ] {
        command.args(["--option", name, value]);
    }
    command
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(said) }
}

#[test]
fn another_store_reads_a_whole_system_by_its_signatures() {
    let sent = Sent::build();
    let subject = Subject::public();
    sent.send_all(&subject);
    let store = ScratchStore::new();
    read(&store, &subject.substituter(), &public_key(&subject), &sent.system, &[]).unwrap();
    sent.assert_in(&store);
}

#[test]
fn a_key_that_is_not_trusted_is_refused() {
    let sent = Sent::build();
    let subject = Subject::public();
    sent.send_all(&subject);
    // Another cache's, by the name of this one.
    let other = public_key(&Subject::public());
    let forged = format!("{}:{}", subject.cache, other.split_once(':').unwrap().1);
    for key in [forged.as_str(), other.as_str(), ""] {
        let store = ScratchStore::new();
        let said = read(&store, &subject.substituter(), key, &sent.system, &[]).unwrap_err();
        assert!(said.contains("not signed by any"), "{said}");
        assert!(!store.has(&sent.system));
    }
}

#[test]
fn references_that_were_not_sorted_are_signed_and_then_refused() {
    let sent = Sent::build();
    let subject = Subject::public();
    sent.send_all(&subject);
    let token = subject.token(&["w"]);
    sent.send(&subject, &token, &sent.system, <[String]>::reverse);
    let store = ScratchStore::new();
    let key = public_key(&subject);
    let said = read(&store, &subject.substituter(), &key, &sent.system, &[]).unwrap_err();
    assert!(said.contains("not signed by any"), "{said}");
    assert!(!store.has(&sent.system));
    // Sent again as it should have been, it is good.
    sent.send(&subject, &token, &sent.system, |_| {});
    let store = ScratchStore::new();
    read(&store, &subject.substituter(), &key, &sent.system, &[]).unwrap();
    sent.assert_in(&store);
}

#[test]
fn a_closure_that_is_not_whole_cannot_be_read() {
    let sent = Sent::build();
    let subject = Subject::public();
    let token = subject.token(&["w"]);
    sent.send(&subject, &token, &sent.system, |_| {});
    let store = ScratchStore::new();
    let key = public_key(&subject);
    read(&store, &subject.substituter(), &key, &sent.system, &[]).unwrap_err();
    assert!(!store.has(&sent.system));
}

#[test]
fn a_private_cache_is_read_by_a_netrc_file() {
    let sent = Sent::build();
    let subject = Subject::new();
    sent.send_all(&subject);
    let key = public_key(&subject);
    let dir = tempfile::tempdir().unwrap();
    let netrc = dir.path().join("netrc");
    // Each in a store of its own: Nix remembers a cache that it could not read.
    let read_with = |token: &str| {
        std::fs::write(&netrc, netrc_of(token)).unwrap();
        let store = ScratchStore::new();
        let option = [("netrc-file", netrc.to_str().unwrap())];
        let done = read(&store, &subject.substituter(), &key, &sent.system, &option);
        (store, done)
    };
    for token in [String::new(), subject.token(&["w"])] {
        let (store, done) = read_with(&token);
        assert!(done.is_err() && !store.has(&sent.system));
    }
    let (store, done) = read_with(&subject.token(&["r"]));
    done.unwrap();
    sent.assert_in(&store);
}

fn netrc_of(token: &str) -> String {
    format!("machine 127.0.0.1\nlogin anybody\npassword {token}\n")
}

#[test]
fn over_https_it_is_read_by_whoever_knows_the_ca() {
    let sent = Sent::build();
    let dir = tempfile::tempdir().unwrap();
    let attic = Attic::start_in(dir.path());
    attic.set_public(true);
    sent.send_all(&Subject::of(attic));
    let attic = Attic::start_at(dir.path(), "127.0.0.1", "127.0.0.1:0", true);
    let (store, key) = (ScratchStore::new(), attic.public_key());
    let said = read(&store, &attic.substituter(), &key, &sent.system, &[]).unwrap_err();
    assert!(said.contains("certificate"), "{said}");
    let ca_file = attic.ca_file();
    let store = ScratchStore::new();
    let mut command = reading(&store, &attic.substituter(), &key, &sent.system);
    run(command.env("NIX_SSL_CERT_FILE", ca_file)).unwrap();
    sent.assert_in(&store);
}

#[test]
fn nix_copies_to_the_plain_cache_and_reads_from_it() {
    let sent = Sent::build();
    let attic = Attic::start();
    let to = format!("{}?compression=none", attic.plain());
    sent.shelf.store.run("nix", &["copy", "--to", &to, sent.system.as_str()]);
    let store = ScratchStore::new();
    let unsigned = [("require-sigs", "false")];
    read(&store, &attic.plain(), "", &sent.system, &unsigned).unwrap();
    sent.assert_in(&store);
}

#[test]
fn what_a_server_kept_the_next_one_in_its_directory_has() {
    let sent = Sent::build();
    let dir = tempfile::tempdir().unwrap();
    let attic = Attic::start_in(dir.path());
    attic.set_public(true);
    let (key, token, stored) = {
        let subject = Subject::of(attic);
        sent.send_all(&subject);
        (public_key(&subject), subject.token(&["r"]), subject.ours().stored())
    };
    assert_eq!(stored.len(), sent.closure.len());
    let attic = Attic::start_in(dir.path());
    assert_eq!((attic.public_key(), attic.stored()), (key.clone(), stored));
    let store = ScratchStore::new();
    read(&store, &attic.substituter(), &key, &sent.system, &[]).unwrap();
    sent.assert_in(&store);
    let subject = Subject::of(attic);
    assert_eq!(subject.config(&subject.cache).bearer(&token).send().status, 200);
}

//! A damaged clone is noticed and replaced, and nobody has to help.

use std::path::Path;

use fort_agent::git::{FetchError, PollError, Relation, Request};

use super::host::{Host, run};
use crate::support::forge::Fault;

/// Damages a clone and fetches: it is replaced, whole, and says why.
fn replaced_after(damage: impl Fn(&Host)) -> Host {
    let host = Host::new();
    host.fetch(&["main"]).unwrap();
    damage(&host);
    let reply = host.fetch(&["main"]).unwrap();
    assert!(reply.recloned);
    println!("{}", reply.note.as_deref().unwrap());
    assert_eq!(reply.heads["main"], host.repo.work.head());
    host.assert_nothing_is_left_behind();
    host.fsck();
    assert!(!host.fetch(&["main"]).unwrap().recloned, "once is enough");
    host
}

#[test]
fn a_truncated_pack_on_disk_is_noticed() {
    replaced_after(|host| {
        let pack = host.pack();
        let bytes = std::fs::read(&pack).unwrap();
        replace(&pack, &bytes[..bytes.len() / 2]);
    });
}

#[test]
fn a_pack_without_its_end_is_noticed() {
    replaced_after(|host| {
        let pack = host.pack();
        let bytes = std::fs::read(&pack).unwrap();
        replace(&pack, &bytes[..bytes.len() - 1]);
    });
}

#[test]
fn an_emptied_pack_is_noticed() {
    replaced_after(|host| replace(&host.pack(), b""));
}

#[test]
fn a_missing_pack_is_noticed() {
    replaced_after(|host| std::fs::remove_file(host.pack()).unwrap());
}

#[test]
fn a_missing_index_is_noticed() {
    replaced_after(|host| std::fs::remove_file(host.pack().with_extension("idx")).unwrap());
}

#[test]
fn a_scrambled_pack_is_noticed() {
    replaced_after(|host| {
        let mut bytes = std::fs::read(host.pack()).unwrap();
        let length = bytes.len();
        for byte in &mut bytes[12..length - 20] {
            *byte ^= 0x55;
        }
        replace(&host.pack(), &bytes);
    });
}

#[test]
fn a_scrambled_index_is_noticed() {
    replaced_after(|host| {
        let index = host.pack().with_extension("idx");
        let mut bytes = std::fs::read(&index).unwrap();
        let length = bytes.len();
        for byte in &mut bytes[8..length - 40] {
            *byte ^= 0x55;
        }
        replace(&index, &bytes);
    });
}

#[test]
fn an_emptied_ref_is_noticed() {
    replaced_after(|host| {
        std::fs::write(host.clone().join("refs/remotes/origin/main"), "").unwrap();
    });
}

#[test]
fn a_ref_to_nothing_is_noticed() {
    replaced_after(|host| {
        let nothing = "1234567890123456789012345678901234567890\n";
        std::fs::write(host.clone().join("refs/remotes/origin/main"), nothing).unwrap();
    });
}

#[test]
fn a_garbage_head_is_noticed() {
    replaced_after(|host| std::fs::write(host.clone().join("HEAD"), "\0\0\0\0").unwrap());
}

#[test]
fn a_garbage_config_is_noticed() {
    replaced_after(|host| std::fs::write(host.clone().join("config"), "[[[\0").unwrap());
}

#[test]
fn a_file_where_the_clone_should_be_is_replaced() {
    replaced_after(|host| {
        std::fs::remove_dir_all(host.clone()).unwrap();
        std::fs::write(host.clone(), "not a clone").unwrap();
    });
}

#[test]
fn an_empty_directory_where_the_clone_should_be_is_replaced() {
    replaced_after(|host| {
        std::fs::remove_dir_all(host.clone()).unwrap();
        std::fs::create_dir(host.clone()).unwrap();
    });
}

#[test]
fn damage_found_elsewhere_is_repaired_on_request() {
    let host = Host::new();
    host.fetch(&["main"]).unwrap();
    let request = Request { reclone: true, ..host.request(&["main"]) };
    assert!(run(&request).unwrap().recloned);
}

#[test]
fn rewritten_history_in_a_new_clone_is_diverged() {
    let host = Host::new();
    let old = host.repo.work.head();
    host.fetch(&["main"]).unwrap();
    host.rewind();
    let new = host.repo.work.write("x", "x").commit("rewritten");
    host.repo.work.force_push("main");
    let request = Request {
        reclone: true,
        keep: vec![old],
        compare: vec![(old, new)],
        ..host.request(&["main"])
    };
    assert_eq!(run(&request).unwrap().relations[0].relation, Relation::Diverged);
}

#[test]
fn a_damaged_clone_stays_until_the_remote_is_back() {
    let host = Host::new();
    host.fetch(&["main"]).unwrap();
    replace(&host.pack(), b"");
    host.forge.fault(Fault::Refused);
    let error = host.fetch(&["main"]).unwrap_err();
    assert!(matches!(error, FetchError::Remote(PollError::Unreachable(_))), "{error:?}");
    let head = host.repo.work.head();
    let error = run(&Request { compare: vec![(head, head)], ..host.request(&[]) }).unwrap_err();
    assert!(matches!(error, FetchError::Damaged(_)), "{error:?}");
    host.forge.fault(Fault::None);
    assert!(host.fetch(&["main"]).unwrap().recloned);
}

#[test]
fn comparing_without_a_clone_says_so_and_asks_nobody() {
    let host = Host::new();
    let error = run(&host.request(&[])).unwrap_err();
    assert!(matches!(error, FetchError::Damaged(_)), "{error:?}");
    assert_eq!(host.forge.counts().requests, 0);
}

/// Packs are read-only; a power cut does not care.
fn replace(file: &Path, bytes: &[u8]) {
    std::fs::remove_file(file).unwrap();
    std::fs::write(file, bytes).unwrap();
}

//! A forge that misbehaves, and the token that opens it.

use std::path::PathBuf;

use crate::support::forge::{Fault, TOKEN};
use crate::support::rig::Rig;
use crate::support::rig::settings::remote;
use crate::support::system::Host;

fn impatient(rig: &mut Rig) {
    rig.settings.remotes = Some(remote("origin", &rig.forge, &rig.repo, "1s"));
}

/// Under this fault the remote's error has these words; without it all is well.
fn says(rig: &Rig, fault: &Fault, words: &str) {
    rig.forge.fault(fault.clone());
    let status = rig.wait(&format!("{fault:?}: {words}"), |status| {
        let remote = &status["remotes"][0];
        remote["reachable"] == false && remote["error"].as_str().is_some_and(|e| e.contains(words))
    });
    assert_eq!(rig.version(), "one");
    assert_eq!(status["running"]["drift"], false);
    rig.forge.fault(Fault::None);
    rig.wait("reachable again", |status| {
        status["state"] == "up-to-date"
            && status["remotes"][0]["reachable"] == true
            && status["remotes"][0]["error"].is_null()
    });
}

#[test]
fn each_fault_of_the_forge_is_told_apart_and_passes() {
    let (rig, _) = Rig::deployed_with(impatient);
    for (fault, words) in [
        (Fault::Status(401), "401"),
        (Fault::Status(403), "403"),
        (Fault::Status(404), "404"),
        (Fault::Status(500), "500"),
        (Fault::Html, "not git"),
        (Fault::Reset, "unreachable"),
        (Fault::Hang, "no answer within"),
        (Fault::Refused, "unreachable"),
        (Fault::Redirect("https://127.0.0.1:1".into()), "redirects"),
    ] {
        says(&rig, &fault, words);
    }
    let two = rig.push("release", &Host::new("two"));
    rig.wait_in_sync(two);
}

#[test]
fn a_pack_that_does_not_arrive_whole_leaves_nothing_and_comes_later() {
    let (rig, _) = Rig::deployed_with(impatient);
    let faults = [Fault::TruncatedPack, Fault::CorruptedPack, Fault::CutPack, Fault::HangInPack];
    for (n, fault) in faults.into_iter().enumerate() {
        rig.forge.fault(fault.clone());
        let version = format!("pack {n}");
        let commit = rig.push("release", &Host::new(&version));
        rig.wait(&format!("an error for {fault:?}"), |status| {
            status["remotes"][0]["error"].is_string()
        });
        assert_ne!(rig.version(), version);
        rig.forge.fault(Fault::None);
        rig.wait_in_sync(commit);
        assert_eq!(rig.verdicts(commit), ["good"]);
    }
}

#[test]
fn three_polls_without_an_answer_are_unreachable() {
    let (rig, one) = Rig::deployed();
    rig.forge.fault(Fault::Refused);
    let status = rig.wait_state("unreachable");
    assert_eq!(status["running"]["commit"], one.to_string());
    assert!(status["reason"].as_str().unwrap().contains("no remote answers"));
    rig.forge.fault(Fault::None);
    let (code, said) = rig.tell(&["poll"]);
    assert_eq!(code, 0, "{said}");
    rig.wait_state("up-to-date");
}

#[test]
fn poll_fails_when_nobody_answers() {
    let (rig, _) = Rig::deployed();
    rig.forge.fault(Fault::Status(500));
    rig.wait("the fault", |status| status["remotes"][0]["reachable"] == false);
    let (code, said) = rig.tell(&["poll"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("500"), "{said}");
}

#[test]
fn a_new_host_waits_for_an_unreachable_forge() {
    let mut rig = Rig::new();
    let one = rig.push("release", &Host::new("one"));
    rig.forge.fault(Fault::Refused);
    rig.start();
    rig.wait_state("unreachable");
    rig.forge.fault(Fault::None);
    rig.wait_in_sync(one);
}

#[test]
fn the_token_may_come_late_and_change() {
    let mut rig = Rig::new();
    let one = rig.push("release", &Host::new("one"));
    let file: PathBuf = rig.forge.token_file();
    std::fs::remove_file(&file).unwrap();
    rig.start();
    let waits = |status: &serde_json::Value| {
        status["remotes"][0]["error"].as_str().is_some_and(|e| e.contains("waiting for a token"))
    };
    rig.wait("no token", waits);
    std::fs::write(&file, "").unwrap();
    rig.wait("an empty token", waits);
    assert_eq!(rig.forge.counts().authorized, 0);
    std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
    rig.wait_in_sync(one);

    rig.forge.accept_token("another-t0ken");
    let status = rig.wait("the old token is refused", |status| {
        status["remotes"][0]["error"].as_str().is_some_and(|e| e.contains("401"))
    });
    assert!(!status.to_string().contains(TOKEN));
    std::fs::write(&file, "another-t0ken").unwrap();
    let two = rig.push("release", &Host::new("two"));
    rig.wait_in_sync(two);
    let log = rig.log();
    assert!(!log.contains(TOKEN) && !log.contains("another-t0ken"));
}

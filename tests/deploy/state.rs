//! State that the agent keeps on disk: damaged, from another version, or in use by another agent.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::builds::downloading;
use crate::support::rig::Rig;
use crate::support::site::Site;
use crate::support::system::Host;

fn packs(rig: &Rig) -> Vec<PathBuf> {
    let packs = std::fs::read_dir(rig.state().join("git/objects/pack")).unwrap().flatten();
    let packs = packs.map(|entry| entry.path());
    packs.filter(|path| path.extension().is_some_and(|e| e == "pack")).collect()
}

/// Other bytes in the same place; packs are read-only, and may be mapped.
fn scramble(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let length = bytes.len();
    bytes[12..length - 20].iter_mut().for_each(|byte| *byte ^= 0x55);
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn an_agent_whose_socket_is_gone_is_not_told_to_be_down() {
    let mut rig = Rig::new();
    rig.start();
    rig.wait_held("branch-missing");
    std::fs::remove_dir_all(rig.store.dir().join("run")).unwrap();
    for command in [&["status"][..], &["history"], &["retry"]] {
        let (code, said) = rig.tell(command);
        assert_eq!(code, 3, "{said}");
        assert!(said.contains("the agent runs (process "), "{said}");
        assert!(said.contains("is gone: systemctl restart fort-agent"), "{said}");
    }
    rig.kill();
    let (_, said) = rig.tell(&["retry"]);
    assert!(said.contains("it is not running; start it"), "{said}");
}

#[test]
fn a_damaged_clone_recovers_by_itself() {
    let (rig, _) = Rig::deployed();
    packs(&rig).iter().for_each(|pack| scramble(pack));
    let two = rig.push("release", &Host::new("two"));
    rig.wait_in_sync(two);
    assert_eq!(rig.version(), "two");
}

#[test]
fn a_clone_that_is_damaged_before_the_export_recovers_by_itself() {
    let (mut rig, _) = Rig::deployed();
    // What the start finds is a head that it knows and a clone without it.
    let two = rig.push("release", &Host::exits("two", "test", 2));
    rig.wait_held("quarantined");
    rig.stop();
    packs(&rig).iter().for_each(|pack| scramble(pack));
    std::fs::remove_file(rig.state().join("journal.json")).unwrap();
    rig.start();
    // With the journal gone the commit is realised once more, from that clone.
    rig.wait_held("quarantined");
    assert!(rig.verdicts(two).contains(&"rolled-back".to_owned()));
    assert_eq!(rig.version(), "one");
}

fn journal(rig: &Rig) -> PathBuf {
    rig.state().join("journal.json")
}

#[test]
fn a_truncated_journal_is_moved_aside_and_force_pushes_stay_refused() {
    let (mut rig, one) = Rig::deployed();
    let two = rig.push("release", &Host::new("two"));
    rig.wait_in_sync(two);
    rig.stop();
    let text = std::fs::read(journal(&rig)).unwrap();
    std::fs::write(journal(&rig), &text[..text.len() / 2]).unwrap();
    rig.start();
    let status = rig.wait_in_sync(two);
    let notes = status["notes"].to_string();
    assert!(notes.contains("the journal could not be used"), "{notes}");
    let aside: Vec<_> = std::fs::read_dir(rig.state())
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("journal.unusable-"))
        .collect();
    assert_eq!(aside.len(), 1);
    assert_eq!(std::fs::read(aside[0].path()).unwrap(), text[..text.len() / 2]);
    // What runs is verified anew, and not activated again.
    assert_eq!(rig.switched()[..4], ["test one", "boot one", "test two", "boot two"]);
    assert!(!rig.switched()[4..].iter().any(|switch| switch.starts_with("test")));

    rig.check_out(one);
    let forced = rig.push("release", &Host::new("forced"));
    let status = rig.wait_held("force-push");
    assert_eq!(status["held"]["evidence"]["head"], forced.to_string());
    assert_eq!(status["held"]["evidence"]["accepted"], two.to_string());
    assert_eq!(rig.version(), "two");
}

#[test]
fn fields_of_a_newer_minor_version_outlive_a_deployment() {
    let (mut rig, _) = Rig::deployed();
    rig.stop();
    let mut value: Value = serde_json::from_slice(&std::fs::read(journal(&rig)).unwrap()).unwrap();
    value["invented_later"] = json!({ "x": [1] });
    std::fs::write(journal(&rig), value.to_string()).unwrap();
    rig.start();
    let two = rig.push("release", &Host::new("two"));
    let status = rig.wait_in_sync(two);
    assert_eq!(status["notes"], json!([]));
    let value: Value = serde_json::from_slice(&std::fs::read(journal(&rig)).unwrap()).unwrap();
    assert_eq!(value["invented_later"], json!({ "x": [1] }));
    assert_eq!(rig.history().len(), 2);
}

#[test]
fn a_journal_of_a_newer_major_version_is_kept_aside() {
    let (mut rig, one) = Rig::deployed();
    rig.stop();
    std::fs::write(journal(&rig), r#"{"version":2,"everything":"else"}"#).unwrap();
    rig.start();
    let status = rig.wait_in_sync(one);
    assert!(status["notes"].to_string().contains("version 2"), "{status:#}");
    assert!(!rig.switched()[1..].iter().any(|switch| switch.starts_with("test")));
    let two = rig.push("release", &Host::new("two"));
    rig.wait_in_sync(two);
}

#[test]
fn a_second_agent_on_the_same_state_is_refused() {
    let (rig, _) = Rig::deployed();
    let (code, said) = rig.tell(&["run"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("another agent uses"), "{said}");
    // The first one goes on.
    let two = rig.push("release", &Host::new("two"));
    rig.wait_in_sync(two);
}

#[test]
fn a_restart_forgets_nothing_and_activates_nothing() {
    let (mut rig, one) = Rig::deployed();
    let before = rig.history();
    rig.stop();
    let (code, said) = rig.tell(&["status", "--json"]);
    assert_eq!(code, 3, "{said}");
    let last: Value = serde_json::from_str(said.lines().next().unwrap()).expect(&said);
    assert_eq!(last["state"], "up-to-date");
    assert_eq!(last["running"]["commit"], one.to_string());
    assert!(last["recorded"].is_string(), "{said}");
    let (code, said) = rig.tell(&["status"]);
    assert_eq!(code, 3, "{said}");
    assert!(said.contains(&one.short()), "{said}");
    for command in [&["history", "--json"][..], &["poll"], &["retry"], &["accept", "0123456"]] {
        assert_eq!(rig.tell(command).0, 3, "{command:?}");
    }
    rig.start();
    rig.wait_in_sync(one);
    assert_eq!(rig.history(), before);
    assert_eq!(rig.switched(), ["test one", "boot one"]);
}

#[test]
fn a_step_that_fails_again_and_again_is_held_and_the_remotes_are_asked() {
    let (rig, _) = Rig::deployed();
    let site = Site::open();
    site.hold();
    rig.push("release", &downloading("two", &site));
    rig.wait_for("the download", || site.visitors() == 1);
    // Its directory cannot be removed: something is where it would be moved to.
    let job = rig.jobs("realise").pop().unwrap();
    let name = job.file_name().unwrap().to_string_lossy().into_owned();
    let in_the_way = job.with_file_name(format!(".gone-{name}"));
    std::fs::write(&in_the_way, "").unwrap();
    site.answer(200, "hello");
    let status = rig.wait_held("state-dir");
    let reason = status["reason"].as_str().unwrap();
    assert!(reason.starts_with(&format!("cannot remove the directory of {name}: ")), "{reason}");
    assert!(reason.contains("Not a directory"), "{reason}");
    let three = rig.push("release", &Host::new("three"));
    rig.wait("the new head, and no other headline", |status| {
        assert_eq!(status["state"], "held", "{status:#}");
        status["remotes"][0]["head"] == three.to_string()
    });
    std::fs::remove_file(&in_the_way).unwrap();
    rig.wait_in_sync(three);
}

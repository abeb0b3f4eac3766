//! Outsiders that accept and never answer: each is cut off and named, the loop
//! turns on, and once they answer all goes on by itself.

use std::os::unix::net::UnixListener;

use serde_json::Value;

use crate::support::forge::Fault;
use crate::support::rig::Rig;
use crate::support::rig::settings::remote;
use crate::support::system::Host;

fn noted(status: &Value, words: &str) -> bool {
    let notes = status["notes"].as_array().unwrap();
    notes.iter().any(|note| note.as_str().unwrap().contains(words))
}

#[test]
fn a_store_that_never_answers_is_named_and_the_loop_turns_on() {
    let (mut rig, _) = Rig::deployed();
    rig.stop();
    // What has no root any more is to get one, which the store is asked for.
    std::fs::remove_dir_all(rig.state().join("roots")).unwrap();
    let socket = rig.store.dir().join("silent");
    let silent = UnixListener::bind(&socket).unwrap();
    rig.settings.patience = Some(500);
    let store = rig.store.dir().join("store");
    rig.settings.store = Some(format!("unix://{}?root={}", socket.display(), store.display()));
    rig.start();
    let named = "keeping systems from the garbage collector does not work since";
    let status = rig.wait("the store named", |status| noted(status, named));
    assert!(noted(&status, "cut off after 0.5 s; it is tried again"), "{status:#}");
    assert!(rig.log().contains("keeping systems from the garbage collector did not work"));
    // The forge is asked all the same.
    let asked = rig.forge.counts().requests;
    rig.wait("more polls", |_| rig.forge.counts().requests > asked + 3);

    rig.stop();
    drop(silent);
    rig.settings.store = None;
    rig.settings.patience = None;
    rig.start();
    rig.wait("roots", |status| {
        !noted(status, named) && rig.state().join("roots/running").is_symlink()
    });
}

#[test]
fn a_bus_that_never_answers_is_named_when_a_job_is_to_be_started() {
    let (mut rig, _) = Rig::deployed();
    rig.stop();
    let socket = rig.store.dir().join("bus");
    let _silent = UnixListener::bind(&socket).unwrap();
    rig.settings.bus = format!("unix:path={}", socket.display());
    rig.settings.runner = "systemd";
    rig.settings.patience = Some(500);
    let two = rig.push("release", &Host::new("two"));
    rig.start();
    let status = rig.wait("systemd named", |status| {
        noted(status, "having systemd start a job does not work since")
    });
    assert!(noted(&status, "cut off after 0.5 s; it is started again"), "{status:#}");
    assert_eq!(rig.version(), "one");
    // Nobody killed it: it never began.
    let ended = rig.wait_verdict(two, "interrupted");
    assert_eq!(ended["fault"], "job-not-begun", "{ended:#}");
    let cause = ended["cause"].as_str().unwrap();
    assert_eq!(cause, "the realise job could not be started: cut off after 0.5 s");

    rig.stop();
    rig.settings.runner = "direct";
    rig.settings.patience = None;
    rig.start();
    rig.wait_in_sync(two);
}

#[test]
fn a_switch_that_a_dead_bus_keeps_from_starting_is_not_told_as_activating() {
    let (mut rig, one) = Rig::deployed();
    rig.stop();
    rig.settings.activation = "confirm = \"manual\"\n".into();
    rig.start();
    let two = rig.push("release", &Host::new("two"));
    rig.wait("two to wait", |status| status["gate"]["commit"] == two.to_string());
    rig.stop();
    rig.settings.runner = "systemd";
    rig.start();
    // Without systemd there is no agent's unit in it either.
    for command in ["accept", "confirm"] {
        let done = || rig.tell(&[command, &two.short()]).0 == 0;
        rig.wait_for(command, done);
    }
    let status = rig.wait("why it does not go on", |status| {
        status["reason"].as_str().is_some_and(|it| it.contains("its switch job cannot be started"))
    });
    assert_eq!(status["state"], "waiting");
    let reason = status["reason"].as_str().unwrap();
    assert!(reason.contains(&format!("{} runs", one.short())), "{reason}");
    assert!(reason.contains("the system bus"), "{reason}");
    assert!(status["lift"].as_str().unwrap().contains("systemctl status dbus"), "{status:#}");
    rig.stop();
    rig.settings.runner = "direct";
    rig.start();
    rig.wait_in_sync(two);
}

#[test]
fn a_first_remote_that_never_answers_does_not_hide_the_second() {
    let silent = crate::support::forge::Forge::start();
    let asleep = silent.repo("nixos");
    silent.fault(Fault::Hang);
    let (rig, _) = Rig::deployed_with(|rig| {
        let first = remote("mirror", &silent, &asleep, "10s");
        let second = remote("origin", &rig.forge, &rig.repo, "3s");
        rig.settings.remotes = Some(format!("{first}{second}"));
    });
    let two = rig.push("release", &Host::new("two"));
    let status = rig.wait_in_sync(two);
    assert_eq!(status["remotes"][0]["reachable"], false);
    assert_eq!(status["remotes"][1]["reachable"], true);
    assert_eq!(rig.verdicts(two), ["good"]);
}

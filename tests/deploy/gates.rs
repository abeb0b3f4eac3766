//! Gates that people control: confirming, suspending, windows, going back.

use serde_json::Value;

use crate::support::rig::Rig;
use crate::support::system::Host;

fn with(activation: &str) -> (Rig, fort_agent::core::types::Commit) {
    Rig::deployed_with(|rig| rig.settings.activation = activation.into())
}

/// Runs a command of the agent. Returns its exit code and its output.
fn say(rig: &Rig, words: &[&str]) -> (i32, String) {
    rig.tell(words)
}

fn gate(kind: &'static str) -> impl Fn(&Value) -> bool {
    move |status| status["gate"]["kind"] == kind && status["state"] == "waiting"
}

/// A host that confirms its commits, and has confirmed its first.
fn confirming() -> (Rig, fort_agent::core::types::Commit) {
    let mut rig = Rig::new();
    rig.settings.activation = "confirm = \"manual\"\n".into();
    let one = rig.push("release", &Host::new("one"));
    rig.start();
    rig.wait("a question", gate("confirm"));
    let (code, said) = say(&rig, &["confirm", &one.to_string()[..7]]);
    assert_eq!(code, 0, "{said}");
    rig.wait_in_sync(one);
    (rig, one)
}

#[test]
fn a_commit_waits_for_who_confirms_it_through_a_restart() {
    let (mut rig, _) = confirming();
    let two = rig.push("release", &Host::new("two"));
    let status = rig.wait("a question", gate("confirm"));
    assert_eq!(status["gate"]["lift"], format!("fort-agent confirm {}", &two.to_string()[..7]));
    rig.wait_polls();
    assert_eq!(rig.version(), "one");
    rig.stop();
    rig.start();
    rig.wait("the question", gate("confirm"));
    let (code, said) = say(&rig, &["confirm", &two.to_string()]);
    assert_eq!(code, 0, "{said}");
    rig.wait_in_sync(two);
    assert_eq!(rig.verdicts(two), ["good"]);
}

#[test]
fn a_confirmation_of_an_older_commit_is_refused_and_names_both() {
    let (rig, _) = confirming();
    let two = rig.push("release", &Host::new("two"));
    rig.wait("a question", gate("confirm"));
    let three = rig.push("release", &Host::new("three"));
    rig.wait("the newer question", |status| {
        gate("confirm")(status) && status["gate"]["commit"] == three.to_string()
    });
    let (code, said) = rig.tell(&["confirm", &two.to_string()[..9]]);
    assert_eq!(code, 4, "{said}");
    assert!(said.contains(&two.to_string()[..9]), "{said}");
    assert!(said.contains(&format!("fort-agent confirm {}", &three.to_string()[..7])), "{said}");
    rig.wait_polls();
    assert_eq!(rig.version(), "one");
    assert_eq!(say(&rig, &["confirm", &three.to_string()[..7]]).0, 0);
    rig.wait_in_sync(three);
    assert_eq!(rig.verdicts(two), ["superseded"]);
}

#[test]
fn a_commit_nobody_objects_to_goes_ahead_by_itself() {
    let (rig, _) = with("confirm = \"3s\"\n");
    let two = rig.push("release", &Host::new("two"));
    let status = rig.wait("a question", gate("confirm"));
    assert!(status["gate"]["until"].is_string(), "{status:#}");
    rig.wait_in_sync(two);
}

#[test]
fn a_suspended_host_builds_and_activates_nothing_until_it_is_resumed() {
    let (mut rig, _) = Rig::deployed();
    let (code, said) = say(&rig, &["suspend", "--reason", "moving house"]);
    assert_eq!(code, 0, "{said}");
    let status = rig.wait("suspended", |status| !status["suspended"].is_null());
    assert_eq!(
        (&status["state"], &status["suspended"]["until"]),
        (&"up-to-date".into(), &Value::Null)
    );
    let two = rig.push("release", &Host::new("two"));
    let status = rig.wait("ready", gate("suspended"));
    assert!(status["desired"]["system"].is_string(), "{status:#}");
    assert!(status["reason"].as_str().unwrap().ends_with("moving house"), "{status:#}");
    // Neither a restart nor a reboot ends it.
    rig.stop();
    rig.boot("boot-2");
    rig.start();
    rig.wait("still", gate("suspended"));
    assert_eq!(rig.version(), "one");
    assert_eq!(say(&rig, &["resume"]).0, 0);
    rig.wait_in_sync(two);
}

#[test]
fn a_suspension_with_an_end_ends_by_itself() {
    let (rig, _) = Rig::deployed();
    assert_eq!(say(&rig, &["suspend", "--for", "4s"]).0, 0);
    let two = rig.push("release", &Host::new("two"));
    let status = rig.wait("ready", gate("suspended"));
    assert!(status["gate"]["until"].is_string(), "{status:#}");
    let status = rig.wait_in_sync(two);
    assert!(status["suspended"].is_null());
}

#[test]
fn outside_its_window_a_system_waits_and_says_until_when() {
    // Some hours away, whatever time it is: and it ends before it begins again.
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    let (from, to) = ((now.hour() + 5) % 24, (now.hour() + 6) % 24);
    let window = format!("windows = [\"{from:02}:00-{to:02}:00\"]\ntime_zone = \"UTC\"\n");
    let mut rig = Rig::new();
    rig.settings.activation = window;
    let one = rig.push("release", &Host::new("one"));
    rig.start();
    let status = rig.wait("a window", gate("window"));
    let until = status["gate"]["until"].as_str().unwrap();
    assert!(until.contains(&format!("T{from:02}:00:00")), "{until}");
    assert_eq!(status["next"]["at"], until);
    assert_eq!(rig.switched(), [""; 0]);
    // Another configuration, another window.
    rig.stop();
    rig.settings.activation = "windows = [\"00:00-24:00\"]\n".into();
    rig.start();
    rig.wait_in_sync(one);
}

#[test]
fn rolling_back_brings_the_system_before_and_leaves_this_one_for_good() {
    let (mut rig, one) = Rig::deployed();
    let two = rig.push("release", &Host::new("two"));
    rig.wait_in_sync(two);
    let generations = rig.generations();
    let (code, said) = say(&rig, &["rollback", "--reason", "too slow"]);
    assert_eq!(code, 0, "{said}");
    let entry = rig.wait_verdict(two, "rolled-back");
    assert_eq!(entry["cause"], "rolled back by a person: too slow");
    let status = rig.wait_held("quarantined");
    assert_eq!(status["running"]["commit"], one.to_string());
    assert_eq!(status["running"]["drift"], false);
    assert_eq!(rig.version(), "one");
    assert_eq!(status["boot"]["default"], status["running"]["system"]);
    assert!(rig.generations() <= generations);
    // A commit that runs is none to go back to.
    let (code, said) = rig.tell(&["rollback", &one.short()]);
    assert!(code == 4 && said.contains("runs already"), "{said}");
    // There is no second step back, and a restart forgets nothing.
    let (code, said) = rig.tell(&["rollback"]);
    assert!(code == 4 && said.contains("no good system before"), "{said}");
    rig.stop();
    rig.start();
    rig.wait_held("quarantined");
    rig.wait_polls();
    assert_eq!(rig.version(), "one");
    assert_eq!(say(&rig, &["retry"]).0, 0);
    rig.wait_in_sync(two);
    assert_eq!(rig.verdicts(two), ["good", "rolled-back", "good"]);
}

#[test]
fn rolling_back_waits_for_no_build_and_no_gate() {
    let (rig, one) = Rig::deployed();
    let two = rig.push("release", &Host::new("two"));
    rig.wait_in_sync(two);
    let mut slow = Host::new("slow");
    slow.build_seconds = 600;
    rig.push("release", &slow);
    rig.wait_state("realising");
    assert_eq!(say(&rig, &["suspend"]).0, 0);
    assert_eq!(say(&rig, &["rollback"]).0, 0);
    rig.wait_verdict(two, "rolled-back");
    assert_eq!(rig.version(), "one");
    let status = rig.wait_state("realising");
    assert_eq!(status["running"]["commit"], one.to_string());
    rig.push("release", &Host::new("three"));
    rig.wait("the next one", gate("suspended"));
}

#[test]
fn drift_is_reverted_where_that_is_wished() {
    let (rig, one) = with("drift = \"revert\"\n");
    let hand = rig.build_by_hand(&Host::new("hand"));
    rig.switch_by_hand(&hand);
    rig.wait_for("the system before", || rig.version() == "one");
    rig.wait_in_sync(one);
    assert_eq!(rig.verdicts(one), ["good", "good"]);
}

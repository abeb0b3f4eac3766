//! Publishing: the cache is given every deployed system, and no deployment is the worse for it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::attic::{Fault, Kind};
use crate::support::rig::{Rig, signal};
use crate::support::system::Host;

fn publishing() -> Rig {
    Rig::deployed_with(Rig::publish).0
}

/// Waits until a publish job is at work, and says which process it is.
fn at_work(rig: &Rig) -> u32 {
    rig.wait("a publish job", |_| rig.job_processes("publish").len() == 1);
    rig.job_processes("publish")[0]
}

fn state(pid: u32) -> Option<String> {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()
}

#[test]
fn what_was_deployed_is_published_once_with_all_that_it_needs() {
    let rig = publishing();
    let status = rig.wait_published();
    assert_eq!(status["publish"]["last_error"], Value::Null);
    assert_eq!(
        (status["state"].as_str(), &status["next"]["action"]),
        (Some("up-to-date"), &"poll".into())
    );
    let system = status["running"]["system"].as_str().unwrap();
    let closure = rig.store.run("nix-store", &["--query", "--requisites", system]);
    let closure: BTreeSet<&str> = closure.lines().collect();
    assert_eq!(rig.cache().stored(), closure.into_iter().collect::<Vec<_>>());
    rig.wait_for("the job's end", || rig.jobs("").is_empty());
    let asked = rig.cache().counts().get_missing;
    rig.wait_polls();
    assert_eq!(rig.cache().counts().get_missing, asked, "it is asked again and again");
    assert_eq!(rig.history().len(), 1);
    // Nothing of it for people to see any more.
    assert!(!rig.tell(&["status"]).1.contains("publish"));
}

#[test]
fn nobody_listens_and_the_deployment_is_as_good_as_ever() {
    let mut rig = Rig::new();
    rig.publish();
    rig.cache().fault(Fault::Refused);
    let one = rig.push("release", &Host::new("one"));
    rig.start();
    rig.wait_in_sync(one);
    let status = rig.wait("an error", |status| !status["publish"]["last_error"].is_null());
    assert_eq!(status["state"], "up-to-date");
    assert!(status["publish"]["backlog"].as_u64().unwrap() > 0, "{status:#}");
    let two = rig.push("release", &Host::new("two"));
    rig.wait_in_sync(two);
    rig.wait("a pause", |status| !status["publish"]["next_attempt"].is_null());
    let said = rig.tell(&["status"]).1;
    assert!(said.starts_with("in sync with ") && said.contains("\n  publish"), "{said}");
    let verdicts: Vec<_> = rig.history().iter().map(|entry| entry["verdict"].clone()).collect();
    assert_eq!(verdicts, ["good", "good"]);
    // It comes back.
    rig.cache().fault(Fault::None);
    rig.tell(&["retry"]);
    rig.wait_published();
}

#[test]
fn a_deployment_interrupts_it_and_nothing_is_sent_twice() {
    let rig = publishing();
    rig.wait_published();
    let mut large = Host::new("two");
    large.parts = 6;
    // It takes a while: so that it is interrupted.
    rig.cache().fault_for(Kind::Upload, Fault::Slow(200));
    let two = rig.push("release", &large);
    rig.wait_in_sync(two);
    rig.wait("some of it sent", |status| status["publish"]["progress"]["sent"].as_u64() > Some(0));
    let three = rig.push("release", &Host::new("three"));
    rig.wait_in_sync(three);
    rig.cache().fault(Fault::None);
    rig.wait_published();
    assert_eq!(rig.cache().sent_again(), Vec::<String>::new());
    let log = rig.log();
    assert!(log.contains("publishing can wait; stopping"), "{log}");
    let verdicts: Vec<_> = rig.history().iter().map(|entry| entry["verdict"].clone()).collect();
    assert_eq!(verdicts, ["good", "good", "good"]);
}

#[test]
fn one_that_does_not_stop_delays_nothing() {
    let mut rig = Rig::new();
    rig.publish();
    rig.cache().fault(Fault::Hang);
    let one = rig.push("release", &Host::new("one"));
    rig.start();
    rig.wait_in_sync(one);
    let job = at_work(&rig);
    signal(job, "STOP");
    let began = Instant::now();
    let two = rig.push("release", &Host::new("two"));
    rig.wait_in_sync(two);
    // It is killed after fifteen seconds; the deployment was over long before.
    assert!(state(job).is_some(), "the deployment took {:?}", began.elapsed());
    rig.cache().fault(Fault::None);
    rig.wait_published();
    assert!(state(job).is_none());
    assert!(began.elapsed() >= Duration::from_secs(10));
}

#[test]
fn one_that_is_killed_is_begun_again_after_a_pause() {
    let mut rig = Rig::new();
    rig.publish();
    rig.settings.retry = "first = \"30s\"\nmax = \"60s\"\n".into();
    rig.cache().fault(Fault::Hang);
    let one = rig.push("release", &Host::new("one"));
    rig.start();
    rig.wait_in_sync(one);
    signal(at_work(&rig), "KILL");
    let killed = "the publish job was killed";
    let status = rig.wait("it is missed", |status| status["publish"]["last_error"] == killed);
    assert!(status["publish"]["next_attempt"].is_string());
    rig.wait_polls();
    assert!(rig.job_processes("publish").is_empty());
    rig.cache().fault(Fault::None);
    rig.tell(&["retry"]);
    rig.wait_published();
    assert_eq!(rig.history().len(), 1);
}

#[test]
fn it_outlives_the_agent_and_gives_way_to_everything_else() {
    let mut rig = Rig::new();
    rig.publish();
    rig.cache().fault(Fault::Hang);
    let one = rig.push("release", &Host::new("one"));
    rig.start();
    rig.wait_in_sync(one);
    let job = at_work(&rig);
    let nice = |pid| {
        let stat = state(pid).unwrap();
        // proc(5): the 17th field after the name in parentheses.
        stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(16)).map(str::to_owned)
    };
    rig.wait_for("it to give way", || nice(job).as_deref() == Some("19"));
    rig.kill();
    rig.start();
    rig.wait_in_sync(one);
    rig.wait_polls();
    assert_eq!(rig.job_processes("publish"), [job]);
    rig.cache().fault(Fault::None);
    rig.cache().disconnect();
    rig.wait_published();
}

#[test]
fn without_a_cache_a_job_at_work_is_stopped() {
    let mut rig = Rig::new();
    rig.publish();
    rig.cache().fault(Fault::Hang);
    let one = rig.push("release", &Host::new("one"));
    rig.start();
    rig.wait_in_sync(one);
    at_work(&rig);
    rig.stop();
    rig.settings.sections.clear();
    rig.start();
    rig.wait_for("its end", || rig.job_processes("publish").is_empty());
    rig.wait_for("it is removed", || rig.jobs("").is_empty());
    assert!(rig.wait_in_sync(one)["publish"].is_null());
}

/// As an agent of another version may have left it.
#[test]
fn a_job_whose_order_cannot_be_read_is_ended_and_holds_up_nothing() {
    let mut rig = Rig::new();
    rig.publish();
    rig.cache().fault(Fault::Hang);
    let one = rig.push("release", &Host::new("one"));
    rig.start();
    rig.wait_in_sync(one);
    let job = at_work(&rig);
    rig.kill();
    std::fs::write(rig.jobs("publish")[0].join("spec.json"), "{}").unwrap();
    // What hangs goes on hanging; the job that comes after it need not.
    rig.cache().fault(Fault::None);
    rig.start();
    let two = rig.push("release", &Host::new("two"));
    rig.wait_in_sync(two);
    rig.wait_for("its end", || state(job).is_none());
    rig.wait_published();
}

#[test]
fn no_order_has_the_token_in_it() {
    let mut rig = Rig::new();
    rig.publish();
    rig.cache().fault(Fault::Hang);
    let one = rig.push("release", &Host::new("one"));
    rig.start();
    rig.wait_in_sync(one);
    at_work(&rig);
    let token = std::fs::read_to_string(rig.push_token()).unwrap();
    let job = rig.jobs("publish")[0].clone();
    for file in std::fs::read_dir(job).unwrap().flatten() {
        let text = std::fs::read_to_string(file.path()).unwrap();
        assert!(!text.contains(token.trim()), "{}", file.path().display());
    }
    assert!(!rig.log().contains(token.trim()));
}

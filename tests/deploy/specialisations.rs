//! Specialisations: variants that a system carries in itself.

use fort_agent::core::types::StorePath;

use crate::support::rig::Rig;
use crate::support::system::Host;

fn with(specialisations: &[&'static str], host: Host) -> Host {
    Host { specialisations: specialisations.into(), ..host }
}

fn specialisation(rig: &Rig, system: &str, name: &str) -> StorePath {
    let link = rig.physical(system).join("specialisation").join(name);
    StorePath::containing(std::fs::read_link(link).unwrap().to_str().unwrap()).unwrap()
}

#[test]
fn a_specialisation_is_its_commits_and_stays_where_the_next_commit_has_it() {
    let mut rig = Rig::new();
    let one = rig.push("release", &with(&["gaming"], Host::new("one")));
    rig.start();
    let status = rig.wait_in_sync(one);
    assert!(status["running"]["specialisation"].is_null(), "{status:#}");
    let system = status["running"]["system"].as_str().unwrap().to_owned();
    rig.switch_by_hand(&specialisation(&rig, &system, "gaming"));
    assert_eq!(rig.version(), "one gaming");
    let special = |status: &serde_json::Value| status["running"]["specialisation"] == "gaming";
    let status = rig.wait("the specialisation", special);
    let running = &status["running"];
    assert_eq!(running["commit"], one.to_string());
    assert_eq!((&running["system"], &running["drift"]), (&system.into(), &false.into()));
    assert_eq!(status["state"], "up-to-date");
    assert!(rig.tell(&["status"]).1.contains(", specialisation gaming"));

    // It boots the system itself, as ever: what else there is stands in the boot menu.
    let two = rig.push("release", &with(&["work", "gaming"], Host::new("two")));
    let status = rig.wait_in_sync(two);
    assert_eq!((rig.version(), special(&status)), ("two gaming".into(), true));
    assert_eq!(rig.boot_default().as_deref(), status["running"]["system"].as_str());

    // What comes back is what ran.
    let bad = rig.push("release", &with(&["gaming"], Host::exits("bad", "test", 2)));
    rig.wait_verdict(bad, "rolled-back");
    assert_eq!(rig.version(), "two gaming");

    let three = rig.push("release", &with(&["work"], Host::new("three")));
    let status = rig.wait_in_sync(three);
    assert_eq!((rig.version(), special(&status)), ("three".into(), false));
    let entry = rig.wait_verdict(three, "good");
    let cause = "without the specialisation gaming: it has none of that name";
    assert_eq!(entry["cause"], cause);
}

#[test]
fn a_specialisation_that_is_configured_is_activated_with_every_commit() {
    let mut rig = Rig::new();
    rig.settings.activation = "specialisation = \"work\"\n".into();
    let one = rig.push("release", &with(&["gaming", "work"], Host::new("one")));
    rig.start();
    let status = rig.wait_in_sync(one);
    assert_eq!(rig.version(), "one work");
    assert_eq!(status["running"]["specialisation"], "work");
}

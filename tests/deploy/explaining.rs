//! `explain` and `diff` of a real agent: they name what the status names.

use serde_json::Value;

use crate::support::rig::Rig;
use crate::support::system::Host;

fn json(rig: &Rig, arguments: &[&str]) -> Value {
    let (code, said) = rig.tell(arguments);
    assert_eq!(code, 0, "{arguments:?}: {said}");
    serde_json::from_str(&said).expect(&said)
}

/// The rules that are not met.
fn broken(explained: &Value) -> Vec<&str> {
    let rules = explained["rules"].as_array().unwrap().iter();
    rules.filter(|rule| rule["holds"] == false).map(|rule| rule["rule"].as_str().unwrap()).collect()
}

#[test]
fn a_force_push_is_explained_by_what_the_status_says() {
    let (rig, one) = Rig::deployed();
    let two = rig.push("release", &Host::new("two"));
    rig.wait_in_sync(two);
    rig.check_out(one);
    let forced = rig.push("release", &Host::new("forced"));
    let held = rig.wait_held("force-push");
    let explained = json(&rig, &["explain", "--json"]);
    assert_eq!(explained["commit"], two.to_string());
    assert_eq!(explained["conclusion"], held["reason"]);
    assert_eq!(explained["cause"], held["held"]["cause"]);
    assert_eq!(explained["lift"], held["held"]["lift"]);
    assert_eq!(broken(&explained), ["release"]);

    let refused = json(&rig, &["explain", &forced.short(), "--json"]);
    assert_eq!(refused["about"], "refused");
    assert_eq!(refused["lift"], held["held"]["lift"]);
    assert!(refused["system"].is_null());
    let (code, said) = rig.tell(&["diff", &forced.short()]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(held["held"]["lift"].as_str().unwrap()), "{said}");

    let past = json(&rig, &["explain", &one.short(), "--json"]);
    assert_eq!((&past["about"], &past["runs"]), (&"past".into(), &false.into()));
    assert!(past["conclusion"].as_str().unwrap().contains("was deployed and found good"), "{past}");
    let (code, said) = rig.tell(&["explain", "0123456"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("no remote has named 0123456"), "{said}");
    assert!(said.contains(&forced.short()), "{said}");
}

#[test]
fn a_system_that_was_rolled_back_is_explained_and_compared() {
    let (rig, one) = Rig::deployed();
    let bad = Host { parts: 2, ..Host::exits("bad", "test", 2) };
    let bad = rig.push("release", &bad);
    rig.wait_verdict(bad, "rolled-back");
    let explained = json(&rig, &["explain", &bad.short(), "--json"]);
    assert!(!broken(&explained).is_empty(), "{explained}");
    assert_eq!(explained["runs"], false);
    let diff = json(&rig, &["diff", &bad.short(), "--json"]);
    assert_eq!(diff["after"]["system"], explained["system"]);
    // Their names are part-0 and part-1.
    let parts = &diff["added"].as_array().unwrap().iter().find(|it| it["name"] == "part");
    assert_eq!(parts.unwrap()["versions"], serde_json::json!(["0", "1"]));
    let sizes = ["before", "after"].map(|side| diff[side]["bytes"].as_u64().unwrap());
    assert!(sizes.iter().all(|size| *size > 100_000), "{diff}");
    assert!(diff["units"].is_null(), "{diff}");
    assert!(diff["units_unknown"].as_str().unwrap().contains("direct"), "{diff}");
    let (code, said) = rig.tell(&["diff", &bad.short()]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("added (") && said.contains("part  0, 1"), "{said}");
    // What runs differs in nothing from itself.
    let (code, said) = rig.tell(&["diff", &one.short()]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("nothing would change"), "{said}");
}

#[test]
fn what_is_not_built_yet_cannot_be_compared_and_says_why() {
    let (rig, _) = Rig::deployed();
    let broken_build = Host { build_fails: "main.c:7: error".into(), ..Host::new("two") };
    let two = rig.push("release", &broken_build);
    rig.wait_state("backing-off");
    let explained = json(&rig, &["explain", "--json"]);
    assert_eq!(broken(&explained), ["realised"]);
    let (code, said) = rig.tell(&["diff"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("main.c:7: error") && said.contains("fort-agent retry"), "{said}");
    assert!(said.contains(&two.short()), "{said}");
}

//! Commits that cannot be realised, for now or for good.

use serde_json::{Value, json};

use crate::support::mounts::{fill, in_own_mounts, mount};
use crate::support::nix::processes_with;
use crate::support::rig::Rig;
use crate::support::site::Site;
use crate::support::system::{Fetch, Host};

/// Of the contents `hello`.
const SHA256: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

/// A system whose build downloads `hello` from a site.
pub(crate) fn downloading(version: &str, site: &Site) -> Host {
    let mut host = Host::new(version);
    host.fetch = Some(Fetch { url: site.url(), sha256: SHA256.into() });
    host
}

#[test]
fn a_transient_build_failure_is_retried_until_it_works() {
    let (rig, _) = Rig::deployed();
    let site = Site::open();
    let two = rig.push("release", &downloading("two", &site));
    let failed = rig.wait_verdict(two, "failed");
    assert!(failed["cause"].as_str().unwrap().contains("404"), "{failed}");
    let status = rig.wait_state("backing-off");
    assert_eq!(status["next"]["action"], "realise");
    assert_eq!(rig.version(), "one");
    site.answer(200, "hello");
    rig.wait_in_sync(two);
    let verdicts = rig.verdicts(two);
    assert!(verdicts.len() >= 2, "{verdicts:?}");
    assert_eq!(verdicts.last().unwrap(), "good");
    assert!(verdicts[..verdicts.len() - 1].iter().all(|verdict| verdict == "failed"));
}

#[test]
fn a_permanent_build_failure_backs_off_and_a_new_commit_is_deployed_at_once() {
    // Longer than any test waits: nothing here comes from a retry.
    let (rig, one) = Rig::deployed_with(|rig| {
        rig.settings.retry = "first = \"10m\"\nmax = \"10m\"\n".into();
    });
    let mut broken = Host::new("broken");
    broken.build_fails = "the compiler has had enough".into();
    let bad = rig.push("release", &broken);
    let status = rig.wait_state("backing-off");
    let reason = status["reason"].as_str().unwrap();
    assert!(reason.contains("the compiler has had enough"), "{reason}");
    assert_eq!(status["running"]["commit"], one.to_string());
    let entry = &rig.history()[0];
    assert_eq!((&entry["commit"], &entry["verdict"]), (&json!(bad.to_string()), &json!("failed")));
    assert!(entry["cause"].as_str().unwrap().contains("the compiler has had enough"));
    let good = rig.push("release", &Host::new("good"));
    rig.wait_in_sync(good);
    assert_eq!(rig.verdicts(bad), ["failed"]);
    assert_eq!(rig.version(), "good");
}

#[test]
fn what_came_of_a_build_on_a_full_disk_is_not_told_as_killed() {
    in_own_mounts(
        "deploy::builds::what_came_of_a_build_on_a_full_disk_is_not_told_as_killed",
        || {
            let (rig, _) = Rig::deployed_with(|rig| mount(&rig.state(), "64M"));
            let site = Site::open();
            site.hold();
            let two = rig.push("release", &downloading("two", &site));
            rig.wait_for("the build to ask", || site.visitors() > 0);
            fill(&rig.state(), 0);
            site.answer(200, "hello");
            rig.wait_held("state-dir");
            std::fs::remove_file(rig.state().join("filler")).unwrap();
            rig.wait_in_sync(two);
            let history = rig.history();
            let of_two = |entry: &&Value| entry["commit"] == two.to_string();
            let first = history.iter().rev().find(of_two).unwrap();
            assert_eq!(
                (&first["verdict"], &first["fault"]),
                (&json!("interrupted"), &json!("state-dir"))
            );
            let cause = first["cause"].as_str().unwrap();
            assert!(cause.contains("could not be written: No space left"), "{cause}");
        },
    );
}

#[test]
fn retry_lifts_the_backoff_of_a_build() {
    let (rig, _) = Rig::deployed_with(|rig| {
        rig.settings.retry = "first = \"10m\"\nmax = \"10m\"\n".into();
    });
    let site = Site::open();
    let two = rig.push("release", &downloading("two", &site));
    rig.wait_state("backing-off");
    site.answer(200, "hello");
    assert_eq!(rig.tell(&["retry", "0123456"]).0, 4);
    assert_eq!(rig.tell(&["retry", &two.short()]).0, 0);
    rig.wait_in_sync(two);
    assert_eq!(rig.verdicts(two), ["failed", "good"]);
}

#[test]
fn an_evaluation_error_is_the_cause() {
    let (rig, one) = Rig::deployed();
    let mut broken = Host::new("broken");
    broken.evaluation_error = Some("there is no such option".into());
    let bad = rig.push("release", &broken);
    let failed = rig.wait_verdict(bad, "failed");
    let cause = failed["cause"].as_str().unwrap();
    assert!(cause.contains("evaluation failed"), "{cause}");
    assert!(cause.contains("there is no such option"), "{cause}");
    let status = rig.wait_state("backing-off");
    assert_eq!(status["running"]["commit"], one.to_string());
    let two = rig.push("release", &Host::new("two"));
    rig.wait_in_sync(two);
}

#[test]
fn a_commit_without_this_host_is_held_and_names_those_it_has() {
    let (rig, one) = Rig::deployed();
    std::fs::remove_file(rig.tree.dir().join("hosts/joker.json")).unwrap();
    rig.tree.host("batman", &Host::new("his")).host("robin", &Host::new("his"));
    let lost = rig.push_tree("release", "Rename");
    let status = rig.wait_held("no-such-host");
    assert_eq!(status["held"]["evidence"]["hosts"], json!(["batman", "robin"]));
    assert_eq!(status["held"]["evidence"]["hostname"], "joker");
    assert_eq!(status["running"]["commit"], one.to_string());
    rig.wait_polls();
    assert_eq!(rig.verdicts(lost), ["failed"]);
    let two = rig.push("release", &Host::new("two"));
    rig.wait_in_sync(two);
}

#[test]
fn a_submodule_and_a_pointer_of_git_lfs_that_nobody_needs_are_no_obstacle() {
    let (rig, one) = Rig::deployed();
    std::fs::create_dir(rig.tree.dir().join("sub")).unwrap();
    let gitlink = format!("160000,{one},sub");
    rig.tree.git(&["update-index", "--add", "--cacheinfo", &gitlink]);
    let oid = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";
    let pointer =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 12345\n");
    rig.tree.write("logo.png", &pointer);
    let two = rig.push_tree("release", "A submodule and a logo");
    rig.wait_in_sync(two);
}

#[test]
fn of_five_pushes_while_a_build_runs_only_the_newest_is_deployed() {
    let (rig, _) = Rig::deployed();
    let mark = format!("FIXTURE_MARK={}", rig.store.dir().display());
    let mut slow = Host::new("slow");
    slow.mark = rig.store.dir().display().to_string();
    slow.build_seconds = 600;
    let first = rig.push("release", &slow);
    rig.wait_for("the builder", || !processes_with(&mark).is_empty());
    for n in 1..=4 {
        slow.version = format!("push {n}");
        rig.push("release", &slow);
    }
    let last = rig.push("release", &Host::new("push 5"));
    rig.wait_in_sync(last);
    assert_eq!(rig.version(), "push 5");
    assert_eq!(rig.verdicts(first), ["superseded"]);
    let switches = rig.switched();
    assert_eq!(switches, ["test one", "boot one", "test push 5", "boot push 5"]);
    rig.wait_for("the builders' end", || processes_with(&mark).is_empty());
    rig.wait_for("the jobs' end", || rig.jobs("").is_empty());
}

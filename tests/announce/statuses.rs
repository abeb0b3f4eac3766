//! Commit statuses on Forgejo.

use std::path::PathBuf;
use std::time::Duration;

use fort_agent::core::types::Commit;
use serde_json::Value;

use crate::support::forgejo::{Fault, Forgejo, READ_ONLY, REPOSITORY, TOKEN};
use crate::support::rig::Rig;
use crate::support::system::Host;

fn token_file(rig: &Rig) -> PathBuf {
    rig.store.dir().join("report-token")
}

fn report(rig: &mut Rig, url: &str, more: &str) {
    let token = token_file(rig);
    std::fs::write(&token, format!("{TOKEN}\n")).unwrap();
    rig.settings.sections = format!(
        "[report]\nforgejo = \"{url}\"\nrepository = \"{REPOSITORY}\"\n\
         token_file = \"{}\"\n{more}",
        token.display()
    );
}

/// A host that reports, and where.
fn reporting() -> (Rig, Forgejo) {
    let mut rig = Rig::new();
    let forgejo = Forgejo::start(&rig.repo.bare);
    report(&mut rig, &forgejo.url(), "");
    rig.settings.retry = "first = \"10m\"\nmax = \"10m\"\n".into();
    (rig, forgejo)
}

fn wait_state(rig: &Rig, forgejo: &Forgejo, commit: Commit, state: &str) -> Value {
    let last = || forgejo.statuses(&commit.to_string()).pop();
    let what = format!("{commit:?} {state}");
    rig.wait_for(&what, || last().is_some_and(|status| status["state"] == state));
    last().unwrap()
}

fn wait_note(rig: &Rig, words: &str) -> String {
    let has = |status: &Value| {
        let notes = status["notes"].as_array().unwrap().iter();
        let mut notes = notes.filter_map(|note| note.as_str());
        notes
            .find(|note| note.starts_with("commit status") && note.contains(words))
            .map(str::to_owned)
    };
    let status = rig.wait(&format!("a note: {words}"), |status| has(status).is_some());
    has(&status).unwrap()
}

#[test]
fn pending_comes_first_and_then_how_it_ended_with_the_cause_in_a_few_words() {
    let (mut rig, forgejo) = reporting();
    let one = rig.push("release", &Host::new("one"));
    rig.start();
    rig.wait_in_sync(one);
    let good = wait_state(&rig, &forgejo, one, "success");
    assert_eq!(good["context"], "fort-agent/joker");
    assert_eq!(good["description"], "runs, and was verified");
    let states = forgejo.states(&one.to_string());
    assert!(states.len() >= 2, "{states:?}");
    let (last, before) = states.split_last().unwrap();
    assert_eq!(last, "success");
    assert!(before.iter().all(|state| state == "pending"), "{states:?}");
    let first = &forgejo.statuses(&one.to_string())[0];
    assert_eq!(first["description"], "building or fetching the system");
    let bad = rig.push("release", &Host::exits("bad", "test", 2));
    let entry = rig.wait_verdict(bad, "rolled-back");
    let failure = wait_state(&rig, &forgejo, bad, "failure");
    let description = failure["description"].as_str().unwrap();
    let cause = entry["cause"].as_str().unwrap().lines().next().unwrap();
    assert!(description.starts_with("put back: "), "{description}");
    assert!(cause.starts_with(&description[10..description.len().min(60)]), "{description}");
    let mut host = Host::new("broken");
    host.build_fails = "the compiler has had enough ".repeat(40);
    let broken = rig.push("release", &host);
    rig.wait_verdict(broken, "failed");
    let failure = wait_state(&rig, &forgejo, broken, "failure");
    let description = failure["description"].as_str().unwrap();
    assert!(description.starts_with("failed: ") && description.chars().count() <= 140);
    // Nothing is said twice, and nothing more once all is said.
    let requests = forgejo.requests();
    rig.wait_polls();
    assert_eq!(forgejo.requests(), requests);
}

#[test]
fn a_server_with_troubles_is_tried_again_and_only_the_newest_is_sent() {
    let (mut rig, forgejo) = reporting();
    // Something before it wants somebody to log in: sent with success, it is none.
    forgejo.fault(Fault::Page(200));
    let one = rig.push("release", &Host::new("one"));
    rig.start();
    rig.wait_in_sync(one);
    assert!(wait_note(&rig, "(200)").contains("is a web page, not Forgejo's"));
    forgejo.fault(Fault::Status(503));
    assert!(wait_note(&rig, "(503)").contains("trouble of its own"));
    rig.wait_for("more tries", || forgejo.requests() >= 3);
    forgejo.fault(Fault::None);
    wait_state(&rig, &forgejo, one, "success");
    // The pending ones were overtaken.
    assert_eq!(forgejo.states(&one.to_string()), ["success"]);
    let pauses = forgejo.pauses();
    assert!(pauses.last().unwrap() >= &Duration::from_secs(3), "{pauses:?}");
    rig.wait("no note", |status| status["notes"].as_array().unwrap().is_empty());
}

#[test]
fn nothing_waits_for_a_server_that_does_not_answer() {
    let (mut rig, forgejo) = reporting();
    forgejo.fault(Fault::Hang);
    let one = rig.push("release", &Host::new("one"));
    rig.start();
    rig.wait_in_sync(one);
    let two = rig.push("release", &Host::new("two"));
    rig.wait_in_sync(two);
    wait_note(&rig, "does not answer within 20 s");
    forgejo.fault(Fault::None);
    wait_state(&rig, &forgejo, one, "success");
    wait_state(&rig, &forgejo, two, "success");
}

#[test]
fn what_was_not_sent_is_sent_after_a_restart() {
    let (mut rig, forgejo) = reporting();
    forgejo.fault(Fault::Status(500));
    let one = rig.push("release", &Host::new("one"));
    rig.start();
    rig.wait_in_sync(one);
    wait_note(&rig, "(500)");
    rig.kill();
    forgejo.fault(Fault::None);
    rig.start();
    wait_state(&rig, &forgejo, one, "success");
    // And what was sent is not.
    rig.stop();
    let requests = forgejo.requests();
    rig.start();
    rig.wait_in_sync(one);
    rig.wait_polls();
    assert_eq!(forgejo.requests(), requests);
}

#[test]
fn what_is_refused_for_good_is_given_up_and_keeps_nothing_else_waiting() {
    let (mut rig, forgejo) = reporting();
    forgejo.fault(Fault::Status(422));
    let one = rig.push("release", &Host::new("one"));
    rig.start();
    rig.wait_in_sync(one);
    wait_note(&rig, "refuses it (422)");
    rig.wait_for("its end", || rig.log().contains("state=Success"));
    forgejo.fault(Fault::None);
    let two = rig.push("release", &Host::new("two"));
    rig.wait_in_sync(two);
    wait_state(&rig, &forgejo, two, "success");
    rig.stop();
    rig.start();
    rig.wait_in_sync(two);
    rig.wait_polls();
    assert!(forgejo.statuses(&one.to_string()).is_empty());
    assert!(rig.log().contains("given up: Forgejo refuses it (422)"), "{}", rig.log());
}

#[test]
fn what_is_wrong_with_the_token_or_the_address_is_said() {
    let (mut rig, forgejo) = reporting();
    let wrong = "ffffffffffffffffffffffffffffffffffffffff";
    std::fs::write(token_file(&rig), wrong).unwrap();
    let one = rig.push("release", &Host::new("one"));
    rig.start();
    rig.wait_in_sync(one);
    assert!(wait_note(&rig, "(401)").contains(token_file(&rig).to_str().unwrap()));
    std::fs::write(token_file(&rig), READ_ONLY).unwrap();
    wait_note(&rig, "write:repository");
    std::fs::write(token_file(&rig), "").unwrap();
    wait_note(&rig, "waiting for a token");
    // It is read anew each time.
    std::fs::write(token_file(&rig), TOKEN).unwrap();
    wait_state(&rig, &forgejo, one, "success");
    rig.stop();
    rig.settings.sections = rig.settings.sections.replace(REPOSITORY, "infra/other");
    let two = rig.push("release", &Host::new("two"));
    rig.start();
    rig.wait_in_sync(two);
    assert!(wait_note(&rig, "(404)").contains("infra/other"));
    assert!(!rig.log().contains(wrong));
}

#[test]
fn the_token_goes_nowhere_else() {
    let (mut rig, forgejo) = reporting();
    let elsewhere = Forgejo::start(&rig.repo.bare);
    forgejo.fault(Fault::Redirect(format!("{}/api", elsewhere.url())));
    let one = rig.push("release", &Host::new("one"));
    rig.start();
    rig.wait_in_sync(one);
    let note = wait_note(&rig, "redirects to");
    assert!(note.contains(&elsewhere.url()), "{note}");
    assert_eq!(elsewhere.requests(), 0);
    forgejo.fault(Fault::Repeats);
    let note = wait_note(&rig, "no upstream");
    assert!(note.contains("***"), "{note}");
    // In no log, status or journal, and on no command line.
    let holds = |text: &str| assert!(!text.contains(TOKEN), "{text}");
    holds(&rig.log());
    holds(&rig.status().unwrap().to_string());
    holds(&rig.tell(&["status"]).1);
    let (mut processes, mut files) = (0, 0);
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        if let Ok(line) = std::fs::read(process.path().join("cmdline")) {
            holds(&String::from_utf8_lossy(&line));
            processes += 1;
        }
    }
    let mut directories = vec![rig.state(), rig.store.dir().join("run")];
    while let Some(directory) = directories.pop() {
        for file in std::fs::read_dir(directory).unwrap().flatten() {
            let kind = file.file_type().unwrap();
            if kind.is_dir() {
                directories.push(file.path());
            } else if kind.is_file() {
                holds(&String::from_utf8_lossy(&std::fs::read(file.path()).unwrap()));
                files += 1;
            }
        }
    }
    assert!(processes > 1 && files > 2, "{processes} {files}");
}

#[test]
fn a_ca_of_ones_own_is_trusted_if_it_is_configured() {
    let mut rig = Rig::new();
    let forgejo = Forgejo::start_tls(&rig.repo.bare);
    report(&mut rig, &forgejo.url(), "");
    let one = rig.push("release", &Host::new("one"));
    rig.start();
    rig.wait_in_sync(one);
    assert!(wait_note(&rig, "TLS").contains("unknown issuer"));
    assert_eq!(forgejo.requests(), 0);
    rig.stop();
    let ca = format!("ca_file = \"{}\"\n", forgejo.ca_file().display());
    report(&mut rig, &forgejo.url(), &ca);
    rig.start();
    wait_state(&rig, &forgejo, one, "success");
}

#[test]
fn one_that_is_left_to_the_next_boot_waits_for_it() {
    let (mut rig, forgejo) = reporting();
    rig.settings.branch = "operation = \"boot\"\n".into();
    let one = rig.push("release", &Host::new("one"));
    rig.start();
    rig.wait_state("reboot-required");
    let last = || forgejo.statuses(&one.to_string()).pop();
    rig.wait_for("what it waits for", || {
        last().is_some_and(|status| status["description"] == "waits for a reboot")
    });
    assert_eq!(last().unwrap()["state"], "pending");
    rig.stop();
    rig.boot("boot-2");
    rig.start();
    wait_state(&rig, &forgejo, one, "success");
}

//! Problems that keep no commit back, and have to be known all the same.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{SystemTime, UNIX_EPOCH};

use fort_agent::core::types::Commit;

use super::play::{SELDOM, Stage, Stall};
use crate::support::attic::Fault;
use crate::support::forgejo::{self, Forgejo, REPOSITORY, TOKEN};
use crate::support::system::Host;

const ASIDE: Stall = Stall { state: "up-to-date", ..Stall::USUAL };

/// A job that was to publish has failed.
fn not_published(stage: &Stage) -> bool {
    stage.journal()["publishing"]["unfinished"]["cause"].is_string()
}

fn publishing(stage: &mut Stage) {
    stage.rig.publish();
    stage.rig.settings.retry = "first = \"2s\"\nmax = \"2s\"\n".into();
}

fn refused(stage: &mut Stage, fault: Fault) {
    stage.rig.wait_published();
    stage.rig.cache().fault(fault);
    stage.head = stage.rig.push("release", &Host::new("two"));
    stage.rig.wait_in_sync(stage.head);
}

fn accepted(stage: &mut Stage) -> Commit {
    stage.rig.cache().fault(Fault::None);
    stage.head
}

pub(super) fn publish_refused() -> Stall {
    Stall {
        settings: publishing,
        cause: |stage| refused(stage, Fault::ExpiredTokens),
        in_effect: not_published,
        every: SELDOM,
        words: &["the cache does not accept the token (401)"],
        lift: &["put a valid one in"],
        undo: accepted,
        ..ASIDE
    }
}

pub(super) fn publish_unreachable() -> Stall {
    Stall {
        settings: publishing,
        cause: |stage| refused(stage, Fault::Refused),
        in_effect: not_published,
        every: SELDOM,
        words: &["cannot be reached"],
        undo: accepted,
        ..ASIDE
    }
}

fn hook(stage: &Stage, script: &str) {
    let path = stage.rig.store.dir().join("hook");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
}

/// Made by a hook as the last that it does.
fn ended(stage: &Stage) -> std::path::PathBuf {
    stage.rig.store.dir().join("hook-ended")
}

pub(super) fn hook_fails() -> Stall {
    Stall {
        settings: |stage| {
            hook(stage, "exit 0");
            let program = stage.rig.store.dir().join("hook");
            let section = format!("[hooks]\non_verdict = [[{program:?}]]\n");
            stage.rig.settings.sections.push_str(&section);
        },
        cause: |stage| {
            let ends = ended(stage);
            hook(stage, &format!(": > {}; exit 3", ends.display()));
            stage.head = stage.rig.push("release", &Host::new("two"));
            stage.rig.wait_in_sync(stage.head);
        },
        in_effect: |stage| ended(stage).exists(),
        every: SELDOM,
        words: &["the hook", "failed for", "exit code 3"],
        lift: &["mend it: it is run again for the next deployment"],
        undo: |stage| {
            hook(stage, "exit 0");
            stage.rig.push("release", &Host::new("three"))
        },
        ..ASIDE
    }
}

pub(super) fn report_fails() -> Stall {
    Stall {
        settings: |stage| {
            let forgejo = Forgejo::start(&stage.rig.repo.bare);
            let token = stage.rig.store.dir().join("report-token");
            std::fs::write(&token, TOKEN).unwrap();
            stage.rig.settings.sections.push_str(&format!(
                "[report]\nforgejo = \"{}\"\nrepository = \"{REPOSITORY}\"\ntoken_file = {token:?}\n",
                forgejo.url(),
            ));
            stage.kept.push(Box::new(forgejo));
        },
        cause: |stage| {
            let forgejo = stage.kept[0].downcast_ref::<Forgejo>().unwrap();
            forgejo.fault(forgejo::Fault::Status(503));
            let asked = forgejo.requests();
            stage.kept.push(Box::new(asked));
            stage.head = stage.rig.push("release", &Host::new("two"));
            stage.rig.wait_in_sync(stage.head);
        },
        // It has been asked since, and has refused.
        in_effect: |stage| {
            let forgejo = stage.kept[0].downcast_ref::<Forgejo>().unwrap();
            forgejo.requests() > *stage.kept[1].downcast_ref::<usize>().unwrap()
        },
        every: SELDOM,
        words: &["commit status", "not sent", "Forgejo has a trouble of its own", "(503)"],
        lift: &["tried again"],
        undo: |stage| {
            let forgejo = stage.kept[0].downcast_ref::<Forgejo>().unwrap();
            forgejo.fault(forgejo::Fault::None);
            stage.head
        },
        ..ASIDE
    }
}

pub(super) fn configuration_wrong() -> Stall {
    Stall {
        cause: |stage| {
            let usual = std::fs::read_to_string(stage.rig.config()).unwrap();
            std::fs::write(stage.rig.config(), format!("{usual}\nperiod = 5\n")).unwrap();
        },
        words: &["has changed and cannot be used", "unknown key `metrics.period`"],
        lift: &["the one before goes on until it is corrected"],
        undo: |stage| {
            stage.rig.write_config();
            stage.one
        },
        ..ASIDE
    }
}

pub(super) fn journal_newer() -> Stall {
    Stall {
        cause: |stage| {
            stage.rig.stop();
            let journal = stage.rig.state().join("journal.json");
            std::fs::write(journal, r#"{"version":2,"everything":"else"}"#).unwrap();
            // Deployments are named by the second, and who has lost the journal does
            // not know which names were given.
            let second = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            let then = second();
            stage.rig.wait_for("another second", || second() > then);
            stage.rig.start();
            // What runs is verified anew.
            stage.rig.wait_in_sync(stage.one);
        },
        words: &["the journal could not be used", "version 2", "and was made anew"],
        lift: &["when nobody needs it"],
        undo: |stage| {
            let entries = std::fs::read_dir(stage.rig.state()).unwrap().flatten();
            let mut kept = entries.map(|entry| entry.path());
            let kept = kept.find(|path| path.to_string_lossy().contains("/journal.unusable-"));
            std::fs::remove_file(kept.unwrap()).unwrap();
            stage.one
        },
        ..ASIDE
    }
}

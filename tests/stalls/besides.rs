//! What keeps no commit back, and has to be known all the same.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use fort_agent::core::types::Commit;

use super::play::{Stage, Stall};
use crate::support::attic::Fault;
use crate::support::forgejo::{self, Forgejo, REPOSITORY, TOKEN};
use crate::support::system::Host;

const ASIDE: Stall = Stall { state: "up-to-date", ..Stall::USUAL };

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

pub(super) fn hook_fails() -> Stall {
    Stall {
        settings: |stage| {
            hook(stage, "exit 0");
            let program = stage.rig.store.dir().join("hook");
            let section = format!("[hooks]\non_verdict = [[{program:?}]]\n");
            stage.rig.settings.sections.push_str(&section);
        },
        cause: |stage| {
            hook(stage, "exit 3");
            stage.head = stage.rig.push("release", &Host::new("two"));
            stage.rig.wait_in_sync(stage.head);
        },
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
            stage.head = stage.rig.push("release", &Host::new("two"));
            stage.rig.wait_in_sync(stage.head);
        },
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

//! Faults are reported with what lifts them, in the manual's words.
//!
//! Faults that can be brought about on a host are compared there (`tests/stalls.rs`).

use crate::job::RefusalCause;
use crate::status::lift::UNSTARTED;
use crate::unseen::{Part, Unseen};

/// As one line, without the marks of code.
fn manual() -> String {
    let manual = include_str!("../../../../docs/operations.md").replace('`', "");
    manual.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_manual_has_what_to_do_about_whatever_cannot_be_looked_at() {
    let manual = manual();
    // EPERM, EIO, EACCES, ENOTDIR, ENFILE, EMFILE, ELOOP.
    for errno in [Some(1), Some(5), Some(13), Some(20), Some(23), Some(24), Some(40), None] {
        let (path, error) = ("/run".into(), "no".into());
        let lift = Unseen { part: Part::Jobs, path, errno, error }.lift();
        assert!(manual.contains(lift), "{errno:?}: {lift}");
    }
}

#[test]
fn the_manual_has_what_to_do_about_a_job_that_is_not_started() {
    assert!(manual().contains(UNSTARTED), "{UNSTARTED}");
}

#[test]
fn the_manual_has_every_refusal() {
    let manual = include_str!("../../../../docs/operations.md");
    let (_, held) = manual.split_once("### held").unwrap();
    let (held, _) = held.split_once("\n### ").unwrap();
    let others =
        ["force-push", "branch-missing", "no-such-host", "machine-id", "state-dir", "quarantined"];
    for cause in RefusalCause::ALL.map(RefusalCause::as_str).into_iter().chain(others) {
        assert!(held.contains(&format!("| `{cause}` |")), "{cause}");
    }
}

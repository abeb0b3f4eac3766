//! Failed units that a system is to blame for.
//!
//! The units are compared with those that were there before the activation, and with
//! those that had failed when a system was last found good. A unit that fails counts if
//! its definition changed, if it is new, or if it was active before. One that is
//! unchanged and was not active is a timer's, path's or socket's job: a backup that
//! always fails must not undo a deployment.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::units::{UnitState, Units};
use crate::core::types::StorePath;
use crate::nix::StoreRoot;

/// State of the units before an activation, to compare with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// States of the units, just before the activation.
    pub before: Units,
    /// Units that had failed when a system was last found good.
    #[serde(default)]
    pub failed_when_good: BTreeSet<String>,
}

/// Verdict on the units after the activation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blame {
    /// Messages on units that count, each with what is wrong with it.
    pub counts: Vec<String>,
    /// Messages on failed units that do not count.
    pub warnings: Vec<String>,
    /// Names of the units that count and have failed, rather than being started again and again.
    pub failed: Vec<String>,
}

/// Time that a service which systemd had to restart must then stay up, in microseconds.
const SETTLED_MICROS: u64 = 10_000_000;

/// Judges the units as they are now.
///
/// `changed` says whether the systems define a unit differently; `now` is the
/// monotonic clock in microseconds.
pub fn blame(
    baseline: &Baseline,
    units: &Units,
    now: u64,
    changed: impl Fn(&str) -> bool,
) -> Blame {
    let mut blame = Blame::default();
    for (name, state) in units {
        let before = baseline.before.get(name);
        let Some(wrong) = wrong(before, state, now) else { continue };
        let had_failed =
            before.is_some_and(UnitState::failed) || baseline.failed_when_good.contains(name);
        // One that was just being started had not been seen to work: it may be a
        // timer's job that fails each time.
        let to_blame = changed(name) || (!had_failed && before.is_some_and(UnitState::up));
        if to_blame {
            blame.counts.push(format!("{name} {wrong}"));
            if state.active == "failed" {
                blame.failed.push(name.clone());
            }
        } else if had_failed {
            blame.warnings.push(format!("{name} {wrong}, as before"));
        } else {
            blame.warnings.push(format!("{name} {wrong}"));
        }
    }
    blame
}

fn wrong(before: Option<&UnitState>, now: &UnitState, clock: u64) -> Option<&'static str> {
    if now.sub.starts_with("auto-restart") {
        return Some("keeps being restarted");
    }
    if now.failed() {
        return Some("has failed");
    }
    // A restart by hand or by a switch sets the count back to nothing.
    let restarted = match before {
        Some(before) if before.restarts <= now.restarts => now.restarts - before.restarts,
        Some(_) | None => now.restarts,
    };
    // One that dies before it is up was active long ago, or never. What a timer
    // started may take its time; it was not active before.
    if now.active == "activating" {
        let settling = restarted > 0 || before.is_some_and(|before| before.active == "active");
        return settling.then_some("is still being started");
    }
    let young = clock.saturating_sub(now.since) < SETTLED_MICROS;
    (restarted > 0 && young).then_some("was restarted a moment ago")
}

/// Whether two systems define a unit differently, drop-ins included.
pub fn definition_changed(
    store: &StoreRoot,
    old: Option<&StorePath>,
    new: &StorePath,
    unit: &str,
) -> bool {
    let Some(old) = old else { return true };
    let definition = |system: &StorePath, name: &str| -> io::Result<Option<Definition>> {
        let units = Path::new(system.as_str()).join("etc/systemd/system");
        let main = store.resolve(&units.join(name)).ok();
        let overrides = store.resolve(&units.join(format!("{name}.d"))).ok();
        if main.is_none() && overrides.is_none() {
            return Ok(None);
        }
        Ok(Some(Definition { main: contents(main)?, overrides: directory(overrides)? }))
    };
    let differs = |name: &str| match (definition(old, name), definition(new, name)) {
        (Ok(a), Ok(b)) => a != b,
        // It cannot be compared: it may have changed.
        (Err(_), _) | (_, Err(_)) => true,
    };
    differs(unit) || template(unit).is_some_and(|template| differs(&template))
}

#[derive(PartialEq, Eq)]
struct Definition {
    main: Option<Vec<u8>>,
    overrides: Vec<(PathBuf, Vec<u8>)>,
}

fn contents(path: Option<PathBuf>) -> io::Result<Option<Vec<u8>>> {
    let Some(path) = path else { return Ok(None) };
    if path.is_dir() { Ok(None) } else { crate::files::read_bounded(&path) }
}

fn directory(path: Option<PathBuf>) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let text = crate::files::read_bounded(&entry.path())?.unwrap_or_default();
        files.push((entry.file_name().into(), text));
    }
    files.sort();
    Ok(files)
}

/// Returns the template of an instance: `a@.service` for `a@b.service`.
fn template(unit: &str) -> Option<String> {
    let (name, rest) = unit.split_once('@')?;
    let kind = rest.rsplit_once('.')?.1;
    Some(format!("{name}@.{kind}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(active: &str, sub: &str, restarts: u32, since: u64) -> UnitState {
        UnitState { active: active.into(), sub: sub.into(), restarts, since }
    }

    fn up() -> UnitState {
        state("active", "running", 0, 0)
    }

    fn down() -> UnitState {
        state("inactive", "dead", 0, 0)
    }

    fn failed() -> UnitState {
        state("failed", "failed", 0, 0)
    }

    /// Returns the numbers of blamed and of other failed units, for one that was `before`
    /// and is `now`.
    fn counts(before: Option<UnitState>, now: UnitState, changed: bool) -> (usize, usize) {
        let before = before.map(|state| ("x.service".to_owned(), state)).into_iter().collect();
        let baseline = Baseline { before, ..Baseline::default() };
        let units = [("x.service".to_owned(), now)].into();
        let blame = blame(&baseline, &units, 60_000_000, |_| changed);
        (blame.counts.len(), blame.warnings.len())
    }

    #[test]
    fn a_unit_that_was_active_or_is_new_or_changed_counts() {
        assert_eq!(counts(Some(up()), failed(), false), (1, 0));
        assert_eq!(counts(None, failed(), true), (1, 0));
        assert_eq!(counts(Some(down()), failed(), true), (1, 0));
        assert_eq!(counts(Some(failed()), failed(), true), (1, 0));
    }

    #[test]
    fn an_unchanged_job_that_fails_is_a_warning() {
        assert_eq!(counts(Some(down()), failed(), false), (0, 1));
        // systemd forgets a unit that is not active.
        assert_eq!(counts(None, failed(), false), (0, 1));
    }

    #[test]
    fn a_job_that_was_at_it_and_then_fails_is_a_warning() {
        let at_it = state("activating", "start", 0, 0);
        assert_eq!(counts(Some(at_it), failed(), false), (0, 1));
    }

    #[test]
    fn a_unit_that_had_failed_before_is_nobodys_fault() {
        assert_eq!(counts(Some(failed()), failed(), false), (0, 1));
        let baseline = Baseline {
            before: [("x.service".to_owned(), up())].into(),
            failed_when_good: ["x.service".to_owned()].into(),
        };
        let units = [("x.service".to_owned(), failed())].into();
        let Blame { counts, warnings, failed } = blame(&baseline, &units, 0, |_| false);
        assert!(counts.is_empty() && failed.is_empty());
        assert_eq!(warnings, ["x.service has failed, as before"]);
    }

    #[test]
    fn a_service_in_a_restart_loop_counts_between_its_deaths_too() {
        let waiting = state("activating", "auto-restart", 3, 0);
        assert_eq!(counts(Some(up()), waiting, false), (1, 0));
        let just_back = state("active", "running", 3, 55_000_000);
        assert_eq!(counts(Some(up()), just_back, false), (1, 0));
        let settled = state("active", "running", 3, 45_000_000);
        assert_eq!(counts(Some(up()), settled, false), (0, 0));
    }

    #[test]
    fn a_service_that_is_being_started_has_not_settled() {
        // It dies before it is up: it was active long ago, or never.
        for since in [0, 1_000_000] {
            let starting = state("activating", "start", 2, since);
            assert_eq!(counts(Some(up()), starting.clone(), false), (1, 0));
            assert_eq!(counts(None, starting, true), (1, 0));
        }
        // It was stopped, and is not up yet.
        let starting = || state("activating", "start-pre", 0, 0);
        assert_eq!(counts(Some(up()), starting(), false), (1, 0));
        // A job that a timer has started, or is still at it.
        assert_eq!(counts(Some(down()), starting(), true), (0, 0));
        assert_eq!(counts(Some(starting()), starting(), false), (0, 0));
        assert_eq!(counts(None, starting(), true), (0, 0));
    }

    #[test]
    fn a_template_is_what_its_instances_are_made_of() {
        assert_eq!(template("a@b.service").as_deref(), Some("a@.service"));
        assert_eq!(template("a.service"), None);
    }
}

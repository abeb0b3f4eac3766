//! Moments of a deployment, by what is on the host's disk while it goes on.

use std::fs;
use std::time::{Duration, Instant};

use fort_agent::core::types::Commit;
use serde_json::Value;

use super::machine::{LONG, Machine};

/// For a system's activation: takes a second and marks its progress, but not
/// while the host boots.
pub(crate) const MARKS: &str = "[ -d /run/systemd/system ] || exit 0\n\
    for n in 1 2 3 4 5 6 7 8 9; do echo \"@version@ $n\" > /var/lib/mark; sleep 0.1; done\n";

/// How far a commit's first attempt is. Each comes after those before it; a
/// deployment that goes well skips those of the way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Moment {
    /// Nothing is there yet.
    Nothing,
    /// The order to realise it is written.
    RealiseOrdered,
    /// The realise job has begun.
    RealiseBegun,
    /// The system is built.
    Built,
    /// The order to switch to it is written.
    Ordered,
    /// The system's activation is about to begin.
    Activating,
    /// The system's activation has come to this mark ([`MARKS`]).
    Mark(u8),
    /// The system is the running one, and its units are not started yet.
    Moved,
    /// The system runs, and is to be judged.
    Activated,
    /// The verdict is written.
    Judged,
    /// The system is about to become the default.
    Committing,
    /// The profile names it.
    ProfileSet,
    /// The boot loader's installation has begun.
    BootBegun,
    /// The boot loader boots it.
    BootWritten,
    /// The old system is about to be put back.
    PuttingBack,
    /// The old system's activation has come to this mark ([`MARKS`]).
    BackMark(u8),
    /// The old system is the running one again.
    Back,
    /// The outcome is written.
    Ended,
    /// Nothing is left of the job.
    Removed,
}

impl Machine {
    /// Waits until a commit's deployment is at least so far: where it is then.
    /// Looks a thousand times a second, from outside.
    #[track_caller]
    pub(crate) fn wait_moment(&self, commit: Commit, version: &str, wanted: Moment) -> Moment {
        let leader = self.leader();
        let deadline = Instant::now() + LONG;
        loop {
            let now = self.moment(commit, version, leader);
            if now >= wanted {
                return now;
            }
            let journal = || self.journal(&["-n", "60"]);
            assert!(Instant::now() < deadline, "{now:?}, never {wanted:?}\n{}", journal());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Where a commit's deployment is; `leader`: while it is on.
    pub(crate) fn moment(&self, commit: Commit, version: &str, leader: Option<u32>) -> Moment {
        let of_commit = format!("-{}-", &commit.to_string()[..8]);
        let jobs = Self::jobs_in(&self.disk("/var/lib/fort-agent/jobs"));
        let job = |kind: &str| {
            let found = jobs.iter().find(|job| job.starts_with(kind) && job.contains(&of_commit));
            found.map(|job| self.disk("/var/lib/fort-agent/jobs").join(job))
        };
        if let Some(switch) = job("switch-") {
            let json = |file: &str| {
                let text = fs::read(switch.join(file)).ok();
                text.and_then(|text| serde_json::from_slice::<Value>(&text).ok())
            };
            if switch.join("outcome.json").exists() {
                return Moment::Ended;
            }
            let spec = json("spec.json").unwrap_or_default();
            let progress = json("progress.json").unwrap_or_default();
            let text = |value: &Value| value.as_str().map(str::to_owned);
            let candidate = text(&spec["candidate"]);
            let running = leader.and_then(|leader| {
                let link = format!("/proc/{leader}/root/run/current-system");
                Some(fs::read_link(link).ok()?.to_string_lossy().into_owned())
            });
            let runs = candidate.is_some() && running == candidate;
            let mark = fs::read_to_string(self.disk("/var/lib/mark")).unwrap_or_default();
            let mark = mark.trim().split_once(' ');
            let mark = mark.and_then(|(of, n)| Some((of == version, n.parse::<u8>().ok()?)));
            return match progress["phase"]["is"].as_str() {
                Some("activating") if runs => Moment::Moved,
                Some("activating") => match mark {
                    Some((true, n)) => Moment::Mark(n),
                    Some((false, _)) | None => Moment::Activating,
                },
                Some("activated") if switch.join("verdict.json").exists() => Moment::Judged,
                Some("activated") => Moment::Activated,
                Some("committing") => self.committing(candidate.as_deref()),
                Some("putting-back") if running.is_some() && running == text(&spec["old"]) => {
                    Moment::Back
                }
                Some("putting-back") => match mark {
                    Some((false, n)) => Moment::BackMark(n),
                    Some((true, _)) | None => Moment::PuttingBack,
                },
                _ => Moment::Ordered,
            };
        }
        if let Some(realise) = job("realise-") {
            return if realise.join("outcome.json").exists() {
                Moment::Built
            } else if realise.join("progress.json").exists() {
                Moment::RealiseBegun
            } else {
                Moment::RealiseOrdered
            };
        }
        let journal = fs::read(self.disk("/var/lib/fort-agent/journal.json")).unwrap_or_default();
        let journal: Value = serde_json::from_slice(&journal).unwrap_or_default();
        let ended = journal["history"].as_array().is_some_and(|history| {
            history.iter().any(|entry| entry["commit"] == commit.to_string())
        });
        if ended { Moment::Removed } else { Moment::Nothing }
    }

    fn committing(&self, candidate: Option<&str>) -> Moment {
        let switches = fs::read_to_string(self.disk("/var/log/switches")).unwrap_or_default();
        let default = fs::read_to_string(self.disk("/boot/default")).unwrap_or_default();
        let profiles = self.disk("/nix/var/nix/profiles");
        let generation = fs::read_link(profiles.join("system")).ok();
        let profile = generation.and_then(|link| fs::read_link(profiles.join(link)).ok());
        let profile = profile.map(|system| system.to_string_lossy().into_owned());
        let Some(candidate) = candidate else { return Moment::Committing };
        if default.trim() == candidate {
            Moment::BootWritten
        } else if switches.trim_end().ends_with(&format!("boot {candidate}")) {
            Moment::BootBegun
        } else if profile.as_deref() == Some(candidate) {
            Moment::ProfileSet
        } else {
            Moment::Committing
        }
    }
}

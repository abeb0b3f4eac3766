//! Conditions that must hold for a host at any moment, and after everything has settled.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use fort_agent::core::types::Commit;
use serde_json::Value;

use super::machine::Machine;

/// The agent's program, in whatever runs.
pub(crate) const AGENT: &str = "/run/current-system/sw/bin/fort-agent";

/// Every verdict there is.
const VERDICTS: [&str; 5] = ["good", "rolled-back", "failed", "interrupted", "superseded"];

impl Machine {
    /// How deployments ended, oldest first, as the journal on its disk says.
    pub(crate) fn history(&self) -> Vec<Value> {
        let text = std::fs::read(self.seen("/var/lib/fort-agent/journal.json")).unwrap();
        let journal: Value = serde_json::from_slice(&text).unwrap();
        journal["history"].as_array().unwrap().clone()
    }

    /// The endings of a commit's attempts, oldest first.
    pub(crate) fn endings(&self, commit: Commit) -> Vec<Value> {
        let mut history = self.history();
        history.retain(|entry| entry["commit"] == commit.to_string());
        history
    }

    /// Verdicts on a commit's attempts, oldest first.
    pub(crate) fn verdicts(&self, commit: Commit) -> Vec<String> {
        let verdict = |entry: &Value| entry["verdict"].as_str().unwrap().to_owned();
        self.endings(commit).iter().map(verdict).collect()
    }

    /// Waits until a commit's system was given up, and nothing else is to do:
    /// the status.
    #[track_caller]
    pub(crate) fn wait_quarantined(&self, commit: Commit) -> Value {
        let commit = commit.to_string();
        self.wait_status(&format!("{commit} to be quarantined"), |status| {
            let quarantine = status["quarantine"].as_array();
            status["state"] == "held"
                && status["held"]["cause"] == "quarantined"
                && status["deployment"].is_null()
                && quarantine.is_some_and(|all| all.iter().any(|one| one["commit"] == commit))
        })
    }

    /// Waits until a commit's system was put back as often as it may be tried,
    /// each time within a limit, and that version stands again: the last cause.
    #[track_caller]
    pub(crate) fn assert_put_back(
        &self,
        commit: Commit,
        version: &str,
        attempts: usize,
        within: Duration,
    ) -> String {
        self.wait_quarantined(commit);
        let endings = self.endings(commit);
        assert_eq!(self.verdicts(commit), vec!["rolled-back"; attempts], "{endings:#?}");
        for ending in &endings {
            let stage = |name: &str| ending["stages"][name].as_u64().unwrap_or(0);
            let took = stage("activate") + stage("verify") + stage("rollback");
            eprintln!("{took} ms: {}", ending["stages"]);
            assert!(Duration::from_millis(took) < within, "{took} ms: {ending:#}");
        }
        self.assert_stands(version);
        self.assert_endings(&[]);
        endings.last().unwrap()["cause"].as_str().unwrap().to_owned()
    }

    /// The version of a system in its store.
    pub(crate) fn version_of(&self, system: &str) -> String {
        std::fs::read_to_string(self.disk(system).join("etc/version")).unwrap().trim().to_owned()
    }

    /// The version that the boot loader boots.
    pub(crate) fn default_version(&self) -> String {
        let default = std::fs::read_to_string(self.disk("/boot/default")).unwrap();
        self.version_of(default.trim())
    }

    /// The deployments whose jobs have a directory.
    pub(crate) fn deployments_at_work(&self) -> Vec<String> {
        let mut ids: Vec<String> = self.jobs().iter().filter_map(|job| id_of(job)).collect();
        ids.sort();
        ids.dedup();
        ids
    }

    /// The names of the jobs' directories.
    pub(crate) fn jobs(&self) -> Vec<String> {
        Self::jobs_in(&self.seen("/var/lib/fort-agent/jobs"))
    }

    /// The same, of a directory of such directories.
    pub(super) fn jobs_in(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory);
        let name = |entry: std::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        entries.into_iter().flatten().flatten().map(name).collect()
    }

    /// Each attempt that was seen has ended, once; none activated a system
    /// that no ending knows of. Call it when all is over.
    #[track_caller]
    pub(crate) fn assert_endings(&self, seen: &[String]) {
        let history = self.history();
        let mut endings: BTreeMap<&str, usize> = BTreeMap::new();
        for entry in &history {
            *endings.entry(entry["id"].as_str().unwrap()).or_default() += 1;
            assert!(VERDICTS.contains(&entry["verdict"].as_str().unwrap()), "{entry}");
        }
        assert!(endings.values().all(|times| *times == 1), "{endings:?}");
        for id in seen {
            assert!(endings.contains_key(id.as_str()), "{id} has no ending in {endings:?}");
        }
        let switches = self.switches();
        for (_, system) in switches.iter().filter(|(action, _)| action == "test") {
            let known = history.iter().any(|entry| entry["system"] == *system);
            // The way back activates what was installed, too.
            let installed = self.version_of(system) == "one";
            assert!(known || installed, "{system} was activated by nobody");
        }
    }

    /// Asserts that a version runs whole and is what boots, and that nothing else is going on.
    #[track_caller]
    pub(crate) fn assert_stands(&self, version: &str) {
        let stands = (self.version(), self.default_version());
        assert_eq!(stands, (version.to_owned(), version.to_owned()));
        assert_eq!(self.unit("web.service", "Description"), format!("The web, {version}"));
        assert!(self.is_active("web.service") && self.is_active("fort-agent.service"));
        self.assert_tidy();
    }

    /// Nothing of any deployment is left over.
    #[track_caller]
    pub(crate) fn assert_tidy(&self) {
        self.wait_until("the jobs' directories to go", || self.jobs().is_empty());
        assert_eq!(self.tell(&["ls", "/run/fort-agent-handover"]), "");
        let units = ["list-units", "--all", "--plain", "--no-legend", "fort-agent-*.service"];
        let units = || self.tell(&[&["systemctl"][..], &units].concat());
        self.wait_until("the jobs' units to go", || units().is_empty());
        assert_eq!(self.failed_units(), "");
        let lists = self.tell(&["ls", "/run/nixos"]);
        assert!(!lists.contains("list"), "{lists}");
    }
}

/// The deployment of a job's directory: `switch-ID`, `realise-ID`.
fn id_of(job: &str) -> Option<String> {
    let (kind, id) = job.split_once('-')?;
    matches!(kind, "switch" | "realise").then(|| id.to_owned())
}

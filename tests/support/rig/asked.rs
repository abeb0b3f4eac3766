//! Reads the agent's status and explanations, and waits until they are as wanted.

use std::time::{Duration, Instant};

use fort_agent::core::types::Commit;
use serde_json::Value;

use super::Rig;

/// Longer than anything here takes, even on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(60);

impl Rig {
    /// The status, if the agent answers.
    pub(crate) fn status(&self) -> Option<Value> {
        self.hear(&["status", "--json"])
    }

    /// Waits until the status is as wanted.
    pub(crate) fn wait(&self, what: &str, mut wanted: impl FnMut(&Value) -> bool) -> Value {
        let began = Instant::now();
        let mut last = None;
        while began.elapsed() < LONG {
            if let Some(status) = self.status() {
                if wanted(&status) {
                    return status;
                }
                last = Some(status);
            }
            std::thread::sleep(Duration::from_millis(30));
        }
        panic!("never came: {what}\nstatus: {last:#?}");
    }

    /// Waits until a commit runs, was verified, and nothing else is to do.
    pub(crate) fn wait_in_sync(&self, commit: Commit) -> Value {
        self.wait(&format!("in sync with {commit:?}"), |status| {
            status["state"] == "up-to-date"
                && status["desired"]["commit"] == commit.to_string()
                && status["running"]["commit"] == commit.to_string()
                && status["deployment"].is_null()
        })
    }

    /// Waits until the state is this.
    pub(crate) fn wait_state(&self, state: &str) -> Value {
        self.wait(&format!("state {state}"), |status| status["state"] == state)
    }

    /// Waits until it is held for this.
    pub(crate) fn wait_held(&self, cause: &str) -> Value {
        self.wait(&format!("held: {cause}"), |status| {
            status["state"] == "held" && status["held"]["cause"] == cause
        })
    }

    /// Waits until the newest deployment of a commit has ended so.
    pub(crate) fn wait_verdict(&self, commit: Commit, verdict: &str) -> Value {
        self.wait(&format!("{commit:?} {verdict}"), |status| {
            let last = &status["last_deployment"];
            last["commit"] == commit.to_string() && last["verdict"] == verdict
        })["last_deployment"]
            .clone()
    }

    /// Waits for something that the agent does not say.
    pub(crate) fn wait_for(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let began = Instant::now();
        while !condition() {
            assert!(began.elapsed() < LONG, "never came: {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the first remote was asked some more times.
    pub(crate) fn wait_polls(&self) {
        let before = self.forge.counts().requests;
        self.wait_for("more polls", || self.forge.counts().requests >= before + 4);
    }

    /// Lets go what hangs in a switch.
    pub(crate) fn go(&self) {
        std::fs::write(self.root().join("run/fixture/go"), "").unwrap();
    }

    /// Deployments that ended, newest first.
    pub(crate) fn history(&self) -> Vec<Value> {
        let (code, said) = self.tell(&["history", "-n", "100", "--json"]);
        assert_eq!(code, 0, "{said}");
        serde_json::from_str(&said).expect(&said)
    }

    /// The verdicts on a commit, oldest first.
    pub(crate) fn verdicts(&self, commit: Commit) -> Vec<String> {
        let of_commit = |entry: &Value| entry["commit"] == commit.to_string();
        let history = self.history();
        let verdicts = history.iter().rev().filter(|entry| of_commit(entry));
        verdicts.map(|entry| entry["verdict"].as_str().unwrap().to_owned()).collect()
    }
}

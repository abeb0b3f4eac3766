//! The units that an activation would touch, whoever tells them.

use serde::{Deserialize, Serialize};

/// Units that would be touched, by what would be done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Units {
    /// Units that are stopped, and not started again.
    pub stop: Vec<String>,
    /// Units that are stopped and started again.
    pub restart: Vec<String>,
    /// Units that are started.
    pub start: Vec<String>,
    /// Units that are reloaded.
    pub reload: Vec<String>,
    /// Units that changed, and are left alone all the same.
    pub left: Vec<String>,
    /// Whether systemd itself is begun anew, with all units going on.
    #[serde(default)]
    pub systemd: bool,
    /// Why it is not known which units run, if so: then all that the old system
    /// has are taken for running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assumed: Option<String>,
}

impl Units {
    /// Returns each kind of which there are any, with the word for what would be done.
    pub fn by_action(&self) -> impl Iterator<Item = (&'static str, &[String])> {
        let all = [
            ("stop", &self.stop),
            ("restart", &self.restart),
            ("start", &self.start),
            ("reload", &self.reload),
            ("leave as they are", &self.left),
        ];
        all.into_iter().map(|(what, list)| (what, list.as_slice())).filter(|(_, it)| !it.is_empty())
    }

    /// Joins units that are stopped and started into those that are restarted; that is
    /// what `switch-to-configuration` does with most of those that changed.
    pub fn joined(mut self) -> Self {
        let again: Vec<String> =
            self.stop.iter().filter(|unit| self.start.contains(unit)).cloned().collect();
        self.stop.retain(|unit| !again.contains(unit));
        self.start.retain(|unit| !again.contains(unit));
        self.restart.extend(again);
        self.reload.retain(|unit| !self.restart.contains(unit));
        let Self { stop, restart, start, reload, left, systemd: _, assumed: _ } = &mut self;
        for list in [stop, restart, start, reload, left] {
            list.sort();
            list.dedup();
        }
        self
    }
}

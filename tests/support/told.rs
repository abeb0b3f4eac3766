//! Channels of the agent that all tell alike what is wrong: each is read as its readers
//! read it, and compared.

use serde_json::Value;

/// Stalls that only a whole host can have: played in vm-tests/stalls.rs.
pub(crate) const ON_WHOLE_HOSTS: &[&str] =
    &["no_agent", "unit_fails", "reboot_inhibited", "pre_switch_check"];

/// Expected content of every channel.
pub(crate) struct Told<'a> {
    /// Name of the stall, as in the manual.
    pub(crate) name: &'a str,
    pub(crate) state: &'a str,
    pub(crate) held: Option<&'a str>,
    /// Words about the cause, its evidence, and what lifts it.
    pub(crate) words: &'a [String],
    /// Lines of the metrics besides those of the state.
    pub(crate) metrics: &'a [&'a str],
}

/// Content of all channels.
pub(crate) struct Channels {
    /// Output of `status --json`.
    pub(crate) status: Value,
    /// Output of `status` for people.
    pub(crate) shown: String,
    /// Output of `explain --json`.
    pub(crate) explanation: Value,
    /// Output of `explain` for people.
    pub(crate) explained: String,
    /// Status page as HTML.
    pub(crate) page: String,
    pub(crate) metrics: String,
    pub(crate) log: String,
}

impl Told<'_> {
    /// Returns the first of the expected words that a text lacks.
    pub(crate) fn lacks(&self, text: &str) -> Option<String> {
        let text = unbroken(text);
        self.words.iter().find(|word| !text.contains(word.as_str())).cloned()
    }

    /// Whether a status says so.
    pub(crate) fn is_in(&self, status: &Value) -> bool {
        status["state"] == self.state && self.lacks(&wrong(status)).is_none()
    }

    /// All of them say the same.
    pub(crate) fn assert_in(&self, said: &Channels) {
        let name = self.name;
        for (channel, text) in [
            ("status --json", wrong(&said.status)),
            ("status", said.shown.clone()),
            ("explain --json", reasons(&said.explanation)),
            ("explain", said.explained.clone()),
            ("the page", readable(&said.page)),
            ("the log", said.log.clone()),
        ] {
            let lacking = self.lacks(&text);
            assert_eq!(lacking, None, "{name}: {channel} lacks it:\n{text}");
        }
        let (status, explanation) = (&said.status, &said.explanation);
        assert_eq!(status["state"], self.state, "{name}");
        assert_eq!(status["held"]["cause"].as_str(), self.held, "{name}: {status:#}");
        assert_eq!(explanation["state"], self.state, "{name}");
        assert_eq!(explanation["cause"], status["held"]["cause"], "{name}");
        assert_eq!(explanation["conclusion"], status["reason"], "{name}");
        self.assert_advised(status);
        let state = format!("fort_agent_state{{state=\"{}\"}} 1", self.state);
        let held: Vec<&str> = said
            .metrics
            .lines()
            .filter(|line| line.starts_with("fort_agent_held{") && line.ends_with(" 1"))
            .collect();
        let cause = self.held.map(|cause| format!("fort_agent_held{{cause=\"{cause}\"}} 1"));
        assert_eq!(held, cause.iter().map(String::as_str).collect::<Vec<_>>(), "{name}");
        for line in self.metrics.iter().copied().chain([state.as_str()]) {
            let metrics = &said.metrics;
            assert!(metrics.lines().any(|have| have == line), "{name}: no {line} in\n{metrics}");
        }
    }

    /// Asserts that the manual advises what the status says to lift the stall.
    fn assert_advised(&self, status: &Value) {
        let Some(lift) = status["lift"].as_str() else {
            // What runs is what should: what is wrong is a note, and the manual has the rest.
            let state = self.state;
            assert_eq!(state, "up-to-date", "{}: nothing is said to lift it", self.name);
            return;
        };
        let lift = quotable(lift);
        let advised = advised(self.name);
        assert!(advised.contains(&lift), "{}: the manual lacks {lift:?}: {advised}", self.name);
        assert!(!lift.contains("nothing to do"), "{}: {lift}", self.name);
    }
}

/// The last column of a row of the manual; `the same` is that of the row before.
fn advised(name: &str) -> String {
    const MANUAL: &str = include_str!("../../docs/operations.md");
    let (_, table) = MANUAL.split_once("## Every cause").unwrap();
    let mut last = String::new();
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches(['|', ' ']).split(" | ").collect();
        let advice = cells.last().unwrap().replace('`', "");
        if advice != "the same" {
            last = advice;
        }
        if cells[0] == format!("`{}`", name.replace('_', "-")) {
            return last;
        }
    }
    panic!("the manual has no row {name}");
}

/// A text with the names that the manual has for commits and branches.
fn quotable(text: &str) -> String {
    let is_commit = |word: &str| word.len() == 7 && word.chars().all(|c| c.is_ascii_hexdigit());
    let words = text.split(' ').map(|word| {
        let bare = word.trim_end_matches([',', ';', '.', ':']);
        match bare {
            "release-joker-test" => word.replacen(bare, "the testing branch", 1),
            commit if is_commit(commit) => word.replacen(bare, "COMMIT", 1),
            _ => word.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Returns what a status says is wrong, and what lifts it; nothing of the past.
pub(crate) fn wrong(status: &Value) -> String {
    let mut told = Vec::new();
    for part in ["reason", "lift", "held", "gate", "suspended", "notes"] {
        told.push(status[part].to_string());
    }
    let remotes = status["remotes"].as_array().unwrap().iter();
    told.extend(remotes.map(|remote| remote["error"].to_string()));
    told.push(status["publish"]["last_error"].to_string());
    told.join("\n")
}

fn reasons(explanation: &Value) -> String {
    let rules = explanation["rules"].as_array().unwrap().iter();
    let rules = rules.filter(|rule| rule["holds"] != true).map(Value::to_string);
    let parts = ["conclusion", "cause", "lift", "notes"].map(|part| explanation[part].to_string());
    parts.into_iter().chain(rules).collect::<Vec<_>>().join("\n")
}

/// As one line: people's lines are broken where they end.
pub(crate) fn unbroken(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Returns the text that a browser shows of a page.
fn readable(page: &str) -> String {
    let page = page.rsplit("</style>").next().unwrap();
    let mut text = String::new();
    let mut inside = false;
    for c in page.chars() {
        match c {
            '<' => inside = true,
            '>' => inside = false,
            _ if !inside => text.push(c),
            _ => {}
        }
    }
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
    unbroken(&text.replace("&amp;", "&"))
}

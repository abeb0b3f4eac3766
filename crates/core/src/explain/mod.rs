//! Why a commit is, or is not, the one that runs: each rule with its evidence.
//!
//! An explanation is read off the decision and the status that were made last, so that
//! it can never say anything else than they do. A rule that was not reached says so:
//! nothing is guessed.

mod branches;
mod gates;
mod past;
mod target;

use serde::{Deserialize, Serialize};

use super::decide::Decision;
use super::memory::Memory;
use super::observed::Seen;
use super::policy::Policy;
use super::request::Prefix;
use super::select::{Standing, Testing};
use super::status::{GateView, State, Status, Viewer};
use super::types::{Commit, Now, StorePath};

/// Explanation of a commit (`fort-agent explain --json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Version of this format, at present 1.
    pub version: u32,
    /// The commit; none if no commit is known that was meant.
    pub commit: Option<Commit>,
    /// Relation of the commit to this host.
    pub about: About,
    /// System of the commit, if that is known.
    pub system: Option<StorePath>,
    /// Whether the system of the commit runs.
    pub runs: bool,
    /// The host's state, as the status has it.
    pub state: State,
    /// Conclusion from the rules, in a sentence.
    pub conclusion: String,
    /// Cause for which the commit is held, in one word, as the status and the metrics have it.
    pub cause: Option<String>,
    /// Remedy for the cause, or else for the first rule that is not met.
    pub lift: Option<String>,
    /// Rules in the order in which they apply.
    pub rules: Vec<Rule>,
    /// Notes on what else is wrong on this host, and keeps no commit back.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Whether a person or the clock keeps the commit back; none in the answer of an
    /// agent that does not know.
    #[serde(default)]
    pub gates: Option<Gates>,
}

/// Whether a person or the clock keeps a commit back, now that it is not yet, or no
/// more, what runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gates {
    /// The gate that is closed, if one is.
    pub closed: Option<GateView>,
}

/// Relation of a commit to this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum About {
    /// Commit that should run.
    Desired,
    /// Head of a branch, from which nothing follows now.
    Head,
    /// Head that is not accepted.
    Refused,
    /// Commit that was deployed, or was to be.
    Past,
    /// Commit of which nothing is known.
    Unknown,
}

/// A rule, and whether it is met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Name of the rule, in kebab case.
    pub rule: String,
    /// Whether the rule is met; none: it was not reached, or is being found out.
    pub holds: Option<bool>,
    /// Evidence for the result, in words.
    pub evidence: String,
    /// Remedy for a rule that is not met.
    pub lift: Option<String>,
}

impl Rule {
    fn new(rule: &str, holds: Option<bool>, evidence: impl Into<String>) -> Self {
        Self { rule: rule.into(), holds, evidence: evidence.into(), lift: None }
    }

    fn met(rule: &str, evidence: impl Into<String>) -> Self {
        Self::new(rule, Some(true), evidence)
    }

    fn open(rule: &str, evidence: impl Into<String>) -> Self {
        Self::new(rule, None, evidence)
    }

    fn broken(rule: &str, evidence: impl Into<String>) -> Self {
        Self::new(rule, Some(false), evidence)
    }

    fn lifted_by(mut self, lift: impl Into<String>) -> Self {
        self.lift = Some(lift.into());
        self
    }
}

/// State of one moment, as the loop last turned.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// Policy that the operator wants.
    pub policy: &'a Policy,
    /// Memory of the agent, as it was folded.
    pub memory: &'a Memory,
    /// Observations of the host and the remotes.
    pub seen: &'a Seen,
    /// Decision that was taken on them.
    pub decision: &'a Decision,
    /// Status that shows the decision.
    pub status: &'a Status,
    /// Time of the observations and of the decision.
    pub now: Now,
}

/// Why the commit that was meant (by default the desired one) is, or is not,
/// the one that runs. Fails when more than one is meant.
pub fn explain(meant: Option<&Prefix>, moment: Moment<'_>) -> Result<Explanation, String> {
    let Moment { policy, memory, seen, decision, status, now } = moment;
    let explainer = Explainer { view: Viewer { policy, memory, seen, decision, now }, status };
    let target = memory.target.as_ref().map(|target| target.commit);
    let Some(meant) = meant else { return Ok(explainer.desired(target)) };
    let mut known = explainer.known();
    known.retain(|commit| meant.matches(*commit));
    known.sort_unstable();
    known.dedup();
    match known[..] {
        [] => Ok(explainer.unknown(meant)),
        [commit] if Some(commit) == target => Ok(explainer.desired(target)),
        [commit] => Ok(explainer.other(commit)),
        [..] => {
            let known: Vec<_> = known.iter().map(|commit| commit.prefix(12)).collect();
            Err(format!("{meant} may be any of {}: give more digits", known.join(", ")))
        }
    }
}

struct Explainer<'a> {
    view: Viewer<'a>,
    status: &'a Status,
}

impl Explainer<'_> {
    /// Every commit that anything is known of.
    fn known(&self) -> Vec<Commit> {
        let memory = self.view.memory;
        let heads = self.view.seen.remotes.iter().filter_map(|remote| remote.heads);
        heads
            .flat_map(|heads| [heads.release, heads.testing])
            .chain([
                memory.target.as_ref().map(|target| target.commit),
                memory.accepted.as_ref().map(|accepted| accepted.commit),
                memory.deployment.as_ref().map(|deployment| deployment.target.commit),
            ])
            .flatten()
            .chain(self.view.seen.remotes.iter().filter_map(|it| Some(it.oversize.as_ref()?.head)))
            .chain(memory.systems.iter().map(|known| known.commit))
            .chain(memory.history.iter().map(|entry| entry.commit))
            .collect()
    }

    /// Explains the desired commit, if there is one yet.
    fn desired(&self, target: Option<Commit>) -> Explanation {
        let held = self.status.held.as_ref();
        let mut rules = self.branches();
        rules.extend(self.target_rules());
        let first = rules.iter().find(|rule| rule.holds == Some(false));
        Explanation {
            version: 1,
            commit: target,
            about: if target.is_some() { About::Desired } else { About::Unknown },
            system: target.and_then(|commit| self.system(commit)),
            runs: target.is_some_and(|commit| self.runs(commit)),
            state: self.status.state,
            conclusion: self.status.reason.clone(),
            cause: held.map(|held| held.cause.word().to_owned()),
            lift: self.status_lift().or_else(|| first.and_then(|rule| rule.lift.clone())),
            rules,
            notes: self.notes(),
            gates: target.map(|commit| self.gates_of(commit)),
        }
    }

    /// Explains another commit: its past or present, and what is in force instead.
    fn other(&self, commit: Commit) -> Explanation {
        if let Some((index, standing)) = self.refused_head(commit) {
            return self.refused(commit, index, standing);
        }
        let (about, rules, what) = match self.entries(commit).next() {
            Some(entry) => (About::Past, self.past(entry), self.ended(entry)),
            None if self.is_head(commit) => (About::Head, Vec::new(), self.head(commit)),
            None => (About::Past, self.realised_once(commit), self.known_only(commit)),
        };
        let mut all = self.named_by(commit);
        all.extend(self.testing_rule().filter(|_| self.testing_head() == Some(commit)));
        all.extend(rules);
        let first = all.iter().find(|rule| rule.holds == Some(false));
        Explanation {
            version: 1,
            commit: Some(commit),
            about,
            system: self.system(commit),
            runs: self.runs(commit),
            state: self.status.state,
            conclusion: format!("{what}; {}", self.in_force()),
            cause: None,
            lift: first.and_then(|rule| rule.lift.clone()),
            rules: all,
            notes: self.notes(),
            gates: Some(self.gates_of(commit)),
        }
    }

    fn status_lift(&self) -> Option<String> {
        self.status.lift.clone().map(Into::into)
    }

    fn refused(&self, commit: Commit, index: usize, standing: Standing) -> Explanation {
        let held = self.view.not_accepted(index, standing);
        let rule = self.refusal(index, standing);
        let conclusion = format!("{}; {}", rule.evidence, self.in_force());
        let mut rules = self.named_by(commit);
        rules.push(rule);
        Explanation {
            version: 1,
            commit: Some(commit),
            about: About::Refused,
            system: self.system(commit),
            runs: self.runs(commit),
            state: self.status.state,
            conclusion,
            cause: Some(held.cause.word().to_owned()),
            lift: Some(held.lift.into()),
            rules,
            notes: self.notes(),
            gates: Some(self.gates_of(commit)),
        }
    }

    fn unknown(&self, meant: &Prefix) -> Explanation {
        let remotes = self.view.policy.remotes.iter().zip(&self.view.seen.remotes);
        let heads: Vec<String> = remotes
            .filter_map(|(name, remote)| {
                let heads = remote.heads?;
                let release = heads.release.map(|head| (&self.view.policy.release, head));
                let testing = self.view.policy.testing.as_ref().zip(heads.testing);
                let named = release.into_iter().chain(testing);
                let named = named.map(|(branch, head)| format!("{} on {branch}", head.short()));
                let named = named.collect::<Vec<_>>().join(" and ");
                (!named.is_empty()).then(|| format!("{named} of {name}"))
            })
            .collect();
        let heads = match &heads[..] {
            [] => "none has named any head yet".into(),
            heads => format!("the heads are {}", heads.join(", ")),
        };
        Explanation {
            version: 1,
            commit: None,
            about: About::Unknown,
            system: None,
            runs: false,
            state: self.status.state,
            conclusion: format!("no remote has named {meant}: {heads}; {}", self.in_force()),
            cause: None,
            lift: None,
            rules: self.remotes(),
            notes: self.notes(),
            gates: None,
        }
    }

    /// Notes of the status, and the last error of the cache.
    fn notes(&self) -> Vec<String> {
        let publish = self.status.publish.as_ref();
        let refused = publish.and_then(|publish| publish.last_error.as_ref());
        let refused = refused.map(|error| format!("not published: {error}"));
        self.status.notes.iter().cloned().chain(refused).collect()
    }

    /// System of a commit, by what was realised or else by the history.
    fn system(&self, commit: Commit) -> Option<StorePath> {
        let known = self.view.memory.system_of(commit, &self.view.policy.recipe);
        known.or_else(|| self.entries(commit).find_map(|entry| entry.system.as_ref())).cloned()
    }

    /// Whether the system of a commit runs.
    fn runs(&self, commit: Commit) -> bool {
        let system = self.system(commit);
        system.is_some() && system == self.view.seen.running
    }

    /// Names the commit that this host is to run, and whether it runs.
    fn in_force(&self) -> String {
        let target = self.view.memory.target.as_ref();
        target.map_or_else(
            || "nothing is wanted yet".into(),
            |target| {
                let runs = if self.runs(target.commit) { ", which runs" } else { "" };
                format!("wanted is {}, on {}{runs}", target.commit.short(), target.branch)
            },
        )
    }

    fn testing_head(&self) -> Option<Commit> {
        match self.view.decision.selection.testing {
            Testing::Followed(head) | Testing::Stale(head) | Testing::UndoneByReboot(head) => {
                Some(head)
            }
            Testing::Absent => None,
        }
    }
}

//! How a commit ended that is not wanted now.

use super::{Explainer, Rule};
use crate::job::{Check, Ending};
use crate::memory::{Entry, Stuck, Subject};
use crate::plain::clean;
use crate::policy::Operation;
use crate::status::reason::times;
use crate::types::{Commit, StorePath};

impl Explainer<'_> {
    /// The deployments of a commit, newest first.
    pub(super) fn entries(&self, commit: Commit) -> impl Iterator<Item = &Entry> {
        self.view.memory.history.iter().rev().filter(move |entry| entry.commit == commit)
    }

    /// Describes in a sentence how a deployment ended.
    pub(super) fn ended(&self, entry: &Entry) -> String {
        let short = entry.commit.short();
        let cause = entry.cause.as_deref().map(|cause| format!(": {}", clean(cause)));
        let cause = cause.unwrap_or_default();
        let at = entry.ended;
        match entry.verdict {
            Ending::Good => format!("{short} was deployed and found good, {at}{cause}"),
            Ending::RolledBack => format!("{short} was rolled back, {at}{cause}"),
            Ending::Failed => format!("{short} could not be deployed, {at}{cause}"),
            Ending::Interrupted => format!("{short} was interrupted, {at}{cause}"),
            Ending::Superseded => {
                format!("something else took the place of {short}, {at}{cause}")
            }
        }
    }

    /// Describes a commit whose system is known, and nothing else.
    pub(super) fn known_only(&self, commit: Commit) -> String {
        let short = commit.short();
        if self.runs(commit) {
            return format!("{short} runs, and no deployment of it is remembered");
        }
        format!("{short} was realised, and no deployment of it is remembered")
    }

    pub(super) fn realised_once(&self, commit: Commit) -> Vec<Rule> {
        let system = self.view.memory.system_of(commit, &self.view.policy.recipe);
        let rule = match system {
            Some(system) => Rule::met("realised", format!("its system is {system}")),
            None => Rule::open("realised", "its system is not known"),
        };
        [Some(rule), system.and_then(|system| self.quarantine(system))]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Returns the outcome of each rule in a past deployment, as far as it got.
    pub(super) fn past(&self, entry: &Entry) -> Vec<Rule> {
        let cause = entry.cause.as_deref().map_or_else(|| "no cause is known".into(), clean);
        let good = entry.verdict == Ending::Good;
        let judged = entry.stages.verify.is_some() || !entry.checks.is_empty();
        let mut rules = vec![match &entry.system {
            Some(system) => Rule::met("realised", format!("its system is {system}")),
            None => Rule::broken("realised", cause.clone()),
        }];
        rules.extend(entry.system.as_ref().and_then(|system| self.quarantine(system)));
        rules.push(match (entry.stages.activate, &entry.system) {
            (Some(took), _) if good || judged => {
                Rule::met("activation", format!("switch-to-configuration took {took} ms"))
            }
            (_, Some(_)) if good => Rule::met("activation", "its system ran already"),
            (_, Some(_)) => Rule::broken("activation", cause.clone()),
            (_, None) => Rule::open("activation", NOT_REACHED),
        });
        rules.push(if good {
            Rule::met("verification", checked(&entry.checks))
        } else if judged {
            let failed = failing(&entry.checks);
            Rule::broken("verification", failed.unwrap_or(cause))
        } else {
            Rule::open("verification", NOT_REACHED)
        });
        rules.push(match entry.operation {
            Operation::Test => Rule::open("default", "not for tests: a reboot undoes them"),
            Operation::Switch | Operation::Boot if good => {
                Rule::met("default", "it was made the boot default")
            }
            Operation::Switch | Operation::Boot => Rule::open("default", NOT_REACHED),
        });
        rules
    }

    /// Rule that is broken by a system that failed too often; `None` if it did not.
    fn quarantine(&self, system: &StorePath) -> Option<Rule> {
        let subject = Subject::System { system: system.clone() };
        let trouble = self.view.memory.trouble_with(&subject)?;
        match trouble.stuck {
            Some(Stuck::Quarantined) => {
                let evidence = format!(
                    "it failed {}, last {}: {}",
                    times(trouble.failures),
                    trouble.at,
                    clean(&trouble.cause)
                );
                let held = self.view.stuck(trouble);
                Some(Rule::broken("quarantine", evidence).lifted_by(held.lift))
            }
            Some(Stuck::NoSuchHost { .. }) | None => None,
        }
    }
}

pub(super) const NOT_REACHED: &str = "not reached";

/// Describes the result of each check.
pub(super) fn checked(checks: &[Check]) -> String {
    if checks.is_empty() {
        return "it was found good".into();
    }
    let found = checks.iter().map(|check| {
        let how = match (check.ok, check.required) {
            (true, _) => "passes",
            (false, true) => "fails",
            (false, false) => "fails, and may",
        };
        format!("{} {how} ({})", check.name, clean(&check.detail))
    });
    found.collect::<Vec<_>>().join(", ")
}

/// Names the required checks that fail; `None` if none does.
pub(super) fn failing(checks: &[Check]) -> Option<String> {
    let failing = checks.iter().filter(|check| check.required && !check.ok);
    let failing: Vec<_> = failing
        .map(|check| format!("check {} fails: {}", check.name, clean(&check.detail)))
        .collect();
    (!failing.is_empty()).then(|| failing.join(", "))
}

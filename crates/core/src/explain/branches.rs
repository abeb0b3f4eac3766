//! Rules about branches: the remotes' answers, and what their heads are worth.

use super::{Explainer, Rule};
use crate::decide::refusals;
use crate::observed::Remote;
use crate::plain::clean;
use crate::policy::ForcePush;
use crate::select::{Standing, Testing};
use crate::status::HeldCause;
use crate::types::Commit;

impl Explainer<'_> {
    /// Returns the outcome of every rule about branches for the target.
    pub(super) fn branches(&self) -> Vec<Rule> {
        let mut rules = self.remotes();
        rules.extend(self.release());
        rules.extend(self.testing_rule());
        rules
    }

    /// Returns a rule for each remote, with its answer as evidence.
    pub(super) fn remotes(&self) -> Vec<Rule> {
        let standings = &self.view.decision.selection.standings;
        let named = self.view.policy.remotes.iter().zip(&self.view.seen.remotes).zip(standings);
        named.map(|((name, remote), standing)| self.remote(name, remote, *standing)).collect()
    }

    fn remote(&self, name: &str, remote: &Remote, standing: Standing) -> Rule {
        let branch = &self.view.policy.release;
        let answered = remote.answered.map(|at| format!(", last answered {at}"));
        let answered = answered.unwrap_or_else(|| ", never answered yet".into());
        match standing {
            Standing::Unknown if remote.busy => {
                Rule::open("remote", format!("{name} is being asked"))
            }
            Standing::Unknown => Rule::open(
                "remote",
                format!("{name} was not asked: only if those before it have nothing to offer"),
            ),
            Standing::Silent => {
                let error = remote.error.as_deref().map_or_else(|| "no answer".into(), clean);
                Rule::broken("remote", format!("{name}: {error}{answered}"))
            }
            Standing::BranchMissing => {
                let rule = Rule::broken("remote", format!("{name} has no branch {branch}"));
                match self
                    .status
                    .held
                    .as_ref()
                    .filter(|held| matches!(held.cause, HeldCause::BranchMissing(_)))
                {
                    Some(held) => rule.lifted_by(held.lift.clone()),
                    None => rule,
                }
            }
            Standing::Behind(head) => Rule::broken(
                "remote",
                format!(
                    "{name} has an old copy: {} on {branch} is older than what was accepted",
                    head.short()
                ),
            )
            .lifted_by("bring that remote up to date"),
            Standing::Usable(head)
            | Standing::Unclear(head)
            | Standing::ForcePush(head)
            | Standing::Rewind(head)
            | Standing::TooLarge(head) => {
                Rule::met("remote", format!("{name} has {} on {branch}{answered}", head.short()))
            }
        }
    }

    /// Whether the release goes on from what was accepted.
    fn release(&self) -> Vec<Rule> {
        let selection = &self.view.decision.selection;
        let refused: Vec<Rule> =
            refusals(selection).map(|(index, standing)| self.refusal(index, standing)).collect();
        if !refused.is_empty() {
            return refused;
        }
        let accepted = self.view.memory.accepted.as_ref();
        let whatever = match self.view.policy.force_push {
            ForcePush::Refuse => "",
            ForcePush::Accept => "; force-pushes are accepted, as configured",
        };
        let first = selection.standings.iter().find(|standing| !standing.needs_another());
        let unclear = first.and_then(|standing| match standing {
            Standing::Unclear(head) => Some(*head),
            Standing::Unknown
            | Standing::Silent
            | Standing::BranchMissing
            | Standing::Usable(_)
            | Standing::Behind(_)
            | Standing::ForcePush(_)
            | Standing::Rewind(_)
            | Standing::TooLarge(_) => None,
        });
        vec![match (unclear, accepted) {
            (Some(head), Some(accepted)) => Rule::open(
                "release",
                format!(
                    "whether {} descends from {} is being looked up",
                    head.short(),
                    accepted.commit.short()
                ),
            ),
            (_, Some(accepted)) => Rule::met(
                "release",
                format!(
                    "{} of {} is the accepted head{whatever}",
                    accepted.commit.short(),
                    accepted.remote
                ),
            ),
            (_, None) => Rule::open("release", "no head was accepted yet"),
        }]
    }

    /// Returns the rule by which a head is not accepted, and what lifts it.
    pub(super) fn refusal(&self, index: usize, standing: Standing) -> Rule {
        let policy = self.view.policy;
        let remote = policy.remotes.get(index).map_or("a remote", |name| name);
        let accepted = self.view.memory.accepted.as_ref();
        let accepted = accepted.map_or_else(|| "what was accepted".into(), |a| a.commit.short());
        let evidence = match standing {
            Standing::Rewind(head) => format!(
                "{} was set back by {remote}: {} is older than {accepted}",
                policy.release,
                head.short()
            ),
            Standing::ForcePush(head) => format!(
                "{} was force-pushed on {remote}: {} does not descend from {accepted}",
                policy.release,
                head.short()
            ),
            Standing::TooLarge(head) => format!(
                "{} on {} of {remote} was not fetched: {}",
                head.short(),
                policy.release,
                self.view.oversize(index).map_or("it is too large", |it| &it.found)
            ),
            Standing::Unknown
            | Standing::Silent
            | Standing::BranchMissing
            | Standing::Usable(_)
            | Standing::Behind(_)
            | Standing::Unclear(_) => format!("{} of {remote} is not accepted", policy.release),
        };
        Rule::broken("release", evidence).lifted_by(self.view.not_accepted(index, standing).lift)
    }

    /// Whether the testing branch has its say; nothing where there is none.
    pub(super) fn testing_rule(&self) -> Option<Rule> {
        let branch = self.view.policy.testing.as_deref()?;
        match self.view.decision.selection.testing {
            // Only what is ahead of a release is looked up after that is clear.
            Testing::Absent => {
                let (release, head) = self.view.decision.selection.compare?;
                let named = self.view.seen.remotes.iter().filter_map(|remote| remote.heads);
                let testing = named.filter_map(|heads| heads.testing).any(|it| it == head);
                let (release, head) = (release.short(), head.short());
                let what = format!("whether {head} on {branch} is ahead of {release} is looked up");
                testing.then(|| Rule::open("testing", what))
            }
            Testing::Followed(head) => Some(Rule::met(
                "testing",
                format!("{} on {branch} is ahead of the release: it is tried", head.short()),
            )),
            Testing::Stale(head) => Some(Rule::met(
                "testing",
                format!("{} on {branch} is not ahead of the release: ignored", head.short()),
            )),
            Testing::UndoneByReboot(head) => Some(
                Rule::broken(
                    "testing",
                    format!(
                        "{} on {branch} was activated in another boot, and undone by a reboot",
                        head.short()
                    ),
                )
                .lifted_by(format!("push to {branch}, or run fort-agent retry {}", head.short())),
            ),
        }
    }

    /// Returns the remote at which the commit is a head that is not accepted, and its standing.
    pub(super) fn refused_head(&self, commit: Commit) -> Option<(usize, Standing)> {
        refusals(&self.view.decision.selection).find(|(_, standing)| match standing {
            Standing::ForcePush(head) | Standing::Rewind(head) | Standing::TooLarge(head) => {
                *head == commit
            }
            Standing::Unknown
            | Standing::Silent
            | Standing::BranchMissing
            | Standing::Usable(_)
            | Standing::Behind(_)
            | Standing::Unclear(_) => false,
        })
    }

    /// Returns a rule for each remote that has the commit as a head; if none does, one
    /// that says so.
    pub(super) fn named_by(&self, commit: Commit) -> Vec<Rule> {
        let policy = self.view.policy;
        let mut rules = Vec::new();
        for (name, remote) in policy.remotes.iter().zip(&self.view.seen.remotes) {
            let heads = remote.heads.unwrap_or_default();
            if heads.release == Some(commit) {
                let branch = &policy.release;
                let what = format!("{name} has {} on {branch}", commit.short());
                rules.push(Rule::met("remote", what));
            }
            if let Some(branch) = policy.testing.as_ref().filter(|_| heads.testing == Some(commit))
            {
                let what = format!("{name} has {} on {branch}", commit.short());
                rules.push(Rule::met("remote", what));
            }
        }
        if rules.is_empty() {
            let what = format!("{} is no remote's head any more", commit.short());
            rules.push(Rule::broken("remote", what));
        }
        rules
    }

    pub(super) fn is_head(&self, commit: Commit) -> bool {
        let heads = self.view.seen.remotes.iter().filter_map(|remote| remote.heads);
        let mut heads = heads.flat_map(|heads| [heads.release, heads.testing]);
        heads.any(|head| head == Some(commit))
            || self.view.memory.accepted.as_ref().is_some_and(|a| a.commit == commit)
    }

    /// Describes a head that is neither desired nor refused, and what follows from it.
    pub(super) fn head(&self, commit: Commit) -> String {
        let short = commit.short();
        let selection = &self.view.decision.selection;
        let accepted = self.view.memory.accepted.as_ref().is_some_and(|a| a.commit == commit);
        match selection.testing {
            Testing::Followed(head) if accepted => {
                format!(
                    "{short} is the accepted release; {} is tried while it is ahead of it",
                    head.short()
                )
            }
            Testing::Stale(head) if head == commit => {
                format!("{short} is not ahead of the release: ignored")
            }
            Testing::UndoneByReboot(head) if head == commit => format!(
                "{short} was activated in another boot, and undone by a reboot; waits for a new \
                 one or `fort-agent retry`"
            ),
            _ if accepted => format!("{short} is the accepted release"),
            _ if selection.standings.contains(&Standing::Behind(commit)) => {
                format!("{short} is older than what was accepted: a remote has an old copy")
            }
            _ if selection.standings.contains(&Standing::Unclear(commit)) => {
                format!("{short} is new; whether it may be followed is being looked up")
            }
            Testing::Absent
            | Testing::Followed(_)
            | Testing::Stale(_)
            | Testing::UndoneByReboot(_) => format!("{short} is a head, and is not followed"),
        }
    }
}

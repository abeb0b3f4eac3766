//! Further views of the status: what comes next, what runs, boots and is under way.

use super::{
    BootView, DeploymentView, Desired, GateView, Next, NextAction, QuarantineView, RemoteView,
    RunningView, Stage, StageProgress, SuspendedView, Viewer,
};
use crate::decide::{Due, LOOK_AGAIN, Outlook};
use crate::gates::Gate;
use crate::guardian::Phase;
use crate::memory::{Subject, Trouble};
use crate::observed::{Oversize, Work};
use crate::select::{Standing, Testing};
use crate::types::{Commit, Mono, StorePath, Wall};

impl Viewer<'_> {
    pub(super) fn next(&self) -> Option<Next> {
        let wall = |at: Mono| {
            let now = self.now;
            now.wall.plus(at.since(now.mono))
        };
        if let Some(opens) = self.reboots_at() {
            return Some(Next { action: NextAction::Reboot, at: opens });
        }
        let (action, at) = match &self.decision.outlook {
            Outlook::BackingOff(trouble) => {
                let action = match trouble.subject {
                    Subject::Commit { .. } => NextAction::Realise,
                    Subject::System { .. } => NextAction::Activate,
                };
                (action, trouble.not_before)
            }
            Outlook::Switching { order, phase: Phase::Activated { at } } => {
                (NextAction::PutBack, wall(at.plus(order.health_timeout)))
            }
            Outlook::Due(due) => {
                let realises = matches!(due, Due::Realise(_));
                let action = if realises { NextAction::Realise } else { NextAction::Activate };
                (action, self.now.wall)
            }
            Outlook::Gated(Gate::Suspended { until: Some(at), .. }) => (NextAction::Resume, *at),
            Outlook::Gated(
                Gate::Unconfirmed { until: Some(at) } | Gate::Window { opens: Some(at) },
            ) => (NextAction::Activate, *at),
            Outlook::Refused { again, .. } => (NextAction::Preflight, wall(*again)),
            Outlook::Preflight(_) => (NextAction::Activate, self.now.wall),
            Outlook::Experiment(_) => (NextAction::Look, self.now.wall),
            Outlook::Blind { .. } => (NextAction::Look, self.now.wall.plus(LOOK_AGAIN)),
            Outlook::Switching { .. }
            | Outlook::NothingKnown
            | Outlook::WrongMachine { .. }
            | Outlook::Realising(_)
            | Outlook::Clearing
            | Outlook::Stuck(_)
            | Outlook::InSync
            | Outlook::Drift
            | Outlook::AwaitsBoot { .. }
            | Outlook::Gated(_)
            | Outlook::AwaitsRemote => {
                let polling = self.seen.remotes.iter().any(|remote| remote.busy);
                match self.decision.next_poll {
                    Some(at) => (NextAction::Poll, wall(at)),
                    None if polling => (NextAction::Poll, self.now.wall),
                    None => return None,
                }
            }
        };
        Some(Next { action, at })
    }

    /// Returns when the agent reboots the host, if a window is waited for.
    fn reboots_at(&self) -> Option<Wall> {
        let needed = self.decision.outlook.needs_reboot(self.seen);
        let window = self.seen.reboot_window;
        window.changes.filter(|_| needed && self.policy.reboots && !window.open)
    }

    pub(super) fn desired(&self) -> Option<Desired> {
        let target = self.memory.target.as_ref()?;
        Some(Desired {
            commit: target.commit,
            source: target.commit,
            branch: target.branch.to_string(),
            remote: target.remote.to_string(),
            operation: target.operation,
            system: self.memory.system_of(target.commit, &self.policy.recipe).cloned(),
            first_seen: target.first_seen,
        })
    }

    pub(super) fn running(&self) -> RunningView {
        let system = self.seen.running.clone();
        let settled = self.memory.settled.as_ref().map(|settled| &settled.system);
        let expected = |system: &StorePath| {
            self.memory.put.as_ref() == Some(system) || settled == Some(system)
        };
        let switching = matches!(self.decision.outlook, Outlook::Switching { .. });
        let drift = !switching && system.as_ref().is_some_and(|system| !expected(system));
        RunningView {
            commit: system.as_ref().filter(|_| !drift).and_then(|s| self.memory.commit_of(s)),
            since: self.memory.running.as_ref().map(|running| running.since),
            revision: system.as_ref().and(self.seen.revision.clone()),
            specialisation: self.seen.specialisation.clone(),
            system,
            drift,
        }
    }

    pub(super) fn boot(&self) -> BootView {
        let awaits = match &self.decision.outlook {
            Outlook::AwaitsBoot { why } => Some(why.clone()),
            Outlook::NothingKnown
            | Outlook::Blind { .. }
            | Outlook::Switching { .. }
            | Outlook::WrongMachine { .. }
            | Outlook::Realising(_)
            | Outlook::Clearing
            | Outlook::BackingOff(_)
            | Outlook::Stuck(_)
            | Outlook::InSync
            | Outlook::Drift
            | Outlook::Gated(_)
            | Outlook::AwaitsRemote
            | Outlook::Experiment(_)
            | Outlook::Preflight(_)
            | Outlook::Refused { .. }
            | Outlook::Due(_) => None,
        };
        let why = awaits.or_else(|| self.seen.reboot_why.clone());
        let default = self.seen.profile.as_ref().map(|generation| generation.system.clone());
        BootView {
            commit: default.as_ref().and_then(|system| self.memory.commit_of(system)),
            default,
            booted: self.seen.booted.clone(),
            reboot_required: why.is_some(),
            why,
        }
    }

    pub(super) fn suspended(&self) -> Option<SuspendedView> {
        let suspended = self.memory.gates.suspended.as_ref()?;
        Some(SuspendedView {
            reason: suspended.reason.clone(),
            since: suspended.since,
            until: suspended.until(self.seen, self.now),
        })
    }

    pub(super) fn gate(&self) -> Option<GateView> {
        let Outlook::Gated(gate) = &self.decision.outlook else { return None };
        let commit = self.memory.target.as_ref()?.commit;
        Some(gate.view(commit))
    }

    pub(super) fn deployment(&self) -> Option<DeploymentView> {
        if let Outlook::Switching { order, phase } = &self.decision.outlook {
            let order = &order.order;
            let stage = match phase {
                Phase::Ready | Phase::Activating { .. } => Stage::Activate,
                Phase::Activated { .. } => Stage::Verify,
                Phase::Committing | Phase::Deferring { .. } | Phase::Returning { .. } => {
                    Stage::Commit
                }
                Phase::PuttingBack(_) => Stage::Rollback,
            };
            let checks =
                self.seen.checks.as_ref().filter(|round| round.job.deployment == order.deployment);
            return Some(DeploymentView {
                id: order.deployment.to_string(),
                commit: order.target.commit,
                stage,
                started: order.started,
                attempt: order.attempt,
                progress: StageProgress::Switch {
                    phase: phase.clone(),
                    checks: checks.map(|round| round.checks.clone()),
                },
            });
        }
        let deployment = self.memory.deployment.as_ref()?;
        let progress = self.seen.jobs.iter().find_map(|job| match &job.work {
            Work::Realise { progress, .. } if Some(&job.id) == deployment.job.as_ref() => {
                progress.as_ref()
            }
            Work::Realise { .. } | Work::Switch { .. } => None,
            Work::Publish { .. } | Work::Unreadable => None,
        });
        Some(DeploymentView {
            id: deployment.id.to_string(),
            commit: deployment.target.commit,
            stage: if deployment.system.is_none() { Stage::Realise } else { Stage::Gate },
            started: deployment.started,
            attempt: deployment.attempt,
            progress: progress.cloned().map(StageProgress::Realise).unwrap_or_default(),
        })
    }

    pub(super) fn remotes(&self) -> Vec<RemoteView> {
        let standings = &self.decision.selection.standings;
        self.policy
            .remotes
            .iter()
            .zip(&self.seen.remotes)
            .zip(standings)
            .map(|((name, remote), standing)| RemoteView {
                name: name.to_string(),
                reachable: remote.answers(),
                last_success: remote.answered,
                head: remote.heads.and_then(|heads| heads.release),
                error: remote
                    .error
                    .clone()
                    .or_else(|| remote.oversize.as_ref().map(|it| self.not_taken(it)))
                    .or_else(|| self.complaint(*standing)),
            })
            .collect()
    }

    /// Says which head a remote has and this host did not take.
    fn not_taken(&self, oversize: &Oversize) -> String {
        let testing = self.policy.testing.as_ref().filter(|_| oversize.testing);
        let branch = testing.unwrap_or(&self.policy.release);
        let Oversize { head, found, lift, .. } = oversize;
        format!("{} on {branch} was not fetched: {found}; {lift}", head.short())
    }

    fn complaint(&self, standing: Standing) -> Option<String> {
        let branch = &self.policy.release;
        match standing {
            Standing::BranchMissing => Some(format!("it has no branch {branch}")),
            Standing::Behind(head) => Some(format!(
                "{branch} is behind: {} is older than what was accepted; bring that remote up to \
                 date",
                head.short()
            )),
            Standing::ForcePush(head) => Some(format!(
                "{branch} was force-pushed: {} does not descend from what was accepted",
                head.short()
            )),
            Standing::Rewind(head) => Some(format!("{branch} was set back to {}", head.short())),
            // That is said already.
            Standing::TooLarge(_) => None,
            Standing::Unknown | Standing::Silent | Standing::Usable(_) | Standing::Unclear(_) => {
                None
            }
        }
    }

    pub(super) fn quarantine(&self) -> Vec<QuarantineView> {
        let quarantined = |trouble: &Trouble| match (&trouble.subject, &trouble.stuck) {
            (Subject::System { system }, Some(_)) => Some(QuarantineView {
                system: system.clone(),
                commit: self.memory.commit_of(system),
                failures: trouble.failures,
                since: trouble.at,
                cause: trouble.cause.clone(),
            }),
            (Subject::System { .. } | Subject::Commit { .. }, _) => None,
        };
        self.memory.troubles.iter().filter_map(quarantined).collect()
    }

    pub(super) fn notes(&self) -> Vec<String> {
        let rebuilt = self.memory.rebuilt.iter().cloned();
        let testing = match self.decision.selection.testing {
            Testing::Stale(head) => {
                let branch = self.policy.testing.as_deref().unwrap_or_default();
                Some(format!(
                    "testing head {} is not ahead of the release: ignored; rebase or delete {branch}",
                    head.short()
                ))
            }
            Testing::UndoneByReboot(head) => {
                Some(format!("testing head {} was undone by a reboot", head.short()))
            }
            Testing::Absent | Testing::Followed(_) => None,
        };
        let oversize = self.seen.remotes.iter().filter_map(|remote| remote.oversize.as_ref());
        let oversize = oversize.filter(|it| it.testing).map(|it| self.not_taken(it)).next();
        let against = self.seen.against.as_ref().map(|against| against.whom.join(", "));
        let needed = self.policy.reboots && self.boot().reboot_required;
        let against = against
            .filter(|whom| needed && !whom.is_empty())
            .map(|whom| format!("not rebooted yet: {whom}"));
        // It is held for that, unless a switch is under way, which goes on.
        let switching = matches!(self.decision.outlook, Outlook::Switching { .. });
        let unwritten = self.seen.unwritten.clone().filter(|_| switching);
        // Where it is what is wrong, the reason says so.
        let odd =
            self.seen.odd_profile.as_ref().filter(|_| {
                !matches!(self.decision.outlook, Outlook::Drift | Outlook::Blind { .. })
            });
        let odd = odd.map(|odd| {
            format!(
                "the system profile is none of nix-env's: {odd}; it counts as none, and the next \
                 system that becomes the boot default sets it anew"
            )
        });
        let is_said = matches!(self.decision.outlook, Outlook::Blind { .. });
        let unseen = self.unseen_notes(is_said);
        let own = rebuilt.chain(unseen).chain(odd);
        let ours = own.chain(testing).chain(oversize).chain(against).chain(unwritten);
        ours.chain(self.ignored()).collect()
    }

    /// Says which settings the target wants of Nix for itself, and does not get.
    fn ignored(&self) -> Option<String> {
        let target = self.memory.target.as_ref()?;
        let ignored = self.memory.ignored.as_ref().filter(|it| it.commit == target.commit)?;
        Some(format!(
            "the nixConfig of {} is not followed ({}): what is to hold on this host belongs into \
             its nix.conf, or [nix] options",
            ignored.commit.short(),
            ignored.names.join(", ")
        ))
    }

    pub(super) fn undone(&self) -> Option<Commit> {
        match self.decision.selection.testing {
            Testing::UndoneByReboot(head) => Some(head),
            Testing::Absent | Testing::Followed(_) | Testing::Stale(_) => None,
        }
    }
}

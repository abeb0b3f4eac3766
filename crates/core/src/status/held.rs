//! Refusals, with what they rest on, and what would lift them.

use super::held_cause::{
    BranchMissing, ForcePush, HeldCause, MachineId, NoSuchHost, Quarantined, StateDir, TooLargeHead,
};
use super::{Held, Lift, Viewer};
use crate::decide::{Outlook, refusals};
use crate::job::{Refusal, RefusalCause};
use crate::memory::{Stuck, Trouble};
use crate::observed::Oversize;
use crate::select::Standing;

/// Remedy for a commit whose tree is too large.
const TAKE_OUT: &str =
    "push a commit without large files, or raise the limit in [git] of the configuration";

impl Viewer<'_> {
    pub(super) fn held(&self) -> Option<Held> {
        if let Some(why) = &self.seen.unwritten {
            // Before all else: nothing new is begun that could not be remembered.
            return Some(Held {
                cause: HeldCause::StateDir(StateDir { found: why.clone() }),
                lift: "make room there, or mend the disk; it is tried again by itself".into(),
            });
        }
        if let Outlook::WrongMachine { .. } = &self.decision.outlook {
            return self.target_held();
        }
        if let Some((index, standing)) = refusals(&self.decision.selection).next() {
            return Some(self.not_accepted(index, standing));
        }
        let standings = &self.decision.selection.standings;
        let missing = standings.contains(&Standing::BranchMissing)
            && !standings
                .iter()
                .any(|standing| matches!(standing, Standing::Usable(_) | Standing::Unclear(_)));
        if missing {
            let remotes: Vec<_> = self
                .policy
                .remotes
                .iter()
                .zip(standings)
                .filter(|(_, standing)| **standing == Standing::BranchMissing)
                .map(|(name, _)| name.clone())
                .collect();
            let branch = self.policy.release.clone();
            return Some(Held {
                cause: HeldCause::BranchMissing(BranchMissing { branch, remotes }),
                lift: format!("push a branch {}", self.policy.release).into(),
            });
        }
        self.target_held()
    }

    /// Returns what keeps the target back, whatever is wrong with the remotes.
    pub(crate) fn target_held(&self) -> Option<Held> {
        let outlook = &self.decision.outlook;
        if let Outlook::WrongMachine { found } = outlook {
            return Some(Held {
                cause: HeldCause::MachineId(MachineId {
                    configured: self.policy.machine_id.clone(),
                    found: found.clone(),
                }),
                lift: "correct machine_id in the configuration, or install the configuration \
                       of this machine"
                    .into(),
            });
        }
        if let Outlook::Stuck(trouble) = outlook {
            return Some(self.stuck(trouble));
        }
        if let Outlook::Refused { refusal, .. } = outlook {
            return Some(self.refused(refusal));
        }
        if let Outlook::BackingOff(Trouble { refusal: Some(refusal), .. }) = outlook {
            return Some(self.refused(refusal));
        }
        None
    }

    fn refused(&self, refusal: &Refusal) -> Held {
        let commit = self.memory.target.as_ref().map(|target| target.commit.short());
        Held {
            cause: HeldCause::Refused(refusal.clone()),
            lift: match refusal.cause {
                RefusalCause::DiskSpace => "make room; it is looked at again by itself".into(),
                RefusalCause::IncompleteClosure => {
                    Lift::from("nix-store --verify --check-contents --repair, or run ").run("retry")
                }
                RefusalCause::NoAgent => Lift::from(
                    "push a commit whose system has the agent and a Nix for it; if they come in \
                     other units, run ",
                )
                .run(format!("accept {}", commit.unwrap_or_default())),
                RefusalCause::TooLarge => TAKE_OUT.into(),
                RefusalCause::LockIncomplete => format!(
                    "{}, commit the flake.lock that it writes, and push",
                    refusal.evidence.get("mend").map_or("run nix flake lock", String::as_str)
                )
                .into(),
            },
        }
    }

    /// Returns the head that one remote has and this host did not take.
    pub(crate) fn oversize(&self, index: usize) -> Option<&Oversize> {
        self.seen.remotes.get(index)?.oversize.as_ref()
    }

    /// Returns why the head of one remote is not accepted.
    pub(crate) fn not_accepted(&self, index: usize, standing: Standing) -> Held {
        if let (Standing::TooLarge(head), Some(oversize)) = (standing, self.oversize(index)) {
            return Held {
                cause: HeldCause::TooLargeHead(TooLargeHead {
                    remote: self.policy.remotes.get(index).cloned(),
                    branch: self.policy.release.clone(),
                    head,
                    found: oversize.found.clone(),
                }),
                lift: oversize.lift.clone().into(),
            };
        }
        let head = match standing {
            Standing::ForcePush(head) | Standing::Rewind(head) => Some(head),
            Standing::Unknown
            | Standing::Silent
            | Standing::BranchMissing
            | Standing::Usable(_)
            | Standing::Behind(_)
            | Standing::Unclear(_)
            | Standing::TooLarge(_) => None,
        };
        let accepted = self.memory.accepted.as_ref().map(|accepted| accepted.commit);
        Held {
            cause: HeldCause::ForcePush(ForcePush {
                remote: self.policy.remotes.get(index).cloned(),
                branch: self.policy.release.clone(),
                head,
                accepted,
                rewind: matches!(standing, Standing::Rewind(_)),
            }),
            lift: Lift::default()
                .run(format!("accept {}", head.map(|h| h.short()).unwrap_or_default())),
        }
    }

    /// Returns why something is not tried again by itself.
    pub(crate) fn stuck(&self, trouble: &Trouble) -> Held {
        if let Some(refusal) = &trouble.refused {
            return self.refused(refusal);
        }
        match &trouble.stuck {
            Some(Stuck::NoSuchHost { hosts }) => Held {
                cause: HeldCause::NoSuchHost(NoSuchHost {
                    hostname: self.policy.hostname.clone(),
                    recipe: self.policy.recipe.clone(),
                    hosts: hosts.clone(),
                }),
                lift: "push a commit that has this host, or correct hostname in the \
                       configuration"
                    .into(),
            },
            Some(Stuck::Quarantined) | None => Held {
                cause: HeldCause::Quarantined(Quarantined {
                    failures: trouble.failures,
                    last: trouble.cause.clone(),
                    at: trouble.at,
                    subject: trouble.subject.clone(),
                }),
                lift: Lift::from("push a commit with another system, or run ").run("retry"),
            },
        }
    }
}

//! How a story has to end.

use super::*;

impl World {
    /// Help that a person would give now, if any is needed.
    pub(super) fn needs_help(&self) -> Option<Help> {
        match self.waits_for_a_person() {
            Some(Gate::Suspended { .. }) => return Some(Help::Resume),
            Some(Gate::Unconfirmed { .. } | Gate::Window { .. }) => return Some(Help::Confirm),
            None => {}
        }
        if matches!(self.outlook(), Some(Outlook::AwaitsBoot { .. })) {
            return Some(Help::Reboot);
        }
        let quarantined = matches!(self.outlook(), Some(Outlook::Stuck(trouble))
            if trouble.stuck == Some(Stuck::Quarantined));
        let works = matches!(self.expected(), Expected::InForce(..));
        (quarantined && works).then_some(Help::Retry)
    }

    /// The newest acceptable commit and what it can come to, from the commits
    /// themselves.
    pub(super) fn expected(&self) -> Expected {
        let head = self.forge.release.map(commit);
        let accepted = self.truth.accepted.as_ref().map(|accepted| accepted.commit);
        let release = match (head, accepted) {
            (None, None) => return Expected::Nothing,
            (None, Some(only)) | (Some(only), None) => only,
            (Some(head), Some(accepted)) => match self.relation(accepted, head) {
                Relation::Same | Relation::Ahead => head,
                Relation::Behind | Relation::Diverged => {
                    let allowed = self.truth.allowed == Some(head);
                    if allowed || self.policy.force_push == ForcePush::Accept {
                        head
                    } else {
                        accepted
                    }
                }
            },
        };
        let testing = self.forge.testing.filter(|_| self.policy.testing.is_some()).map(commit);
        let tested = self.agent.as_ref().and_then(|agent| agent.memory.tested.as_ref());
        let (target, operation) = match testing {
            Some(head)
                if self.relation(release, head) == Relation::Ahead
                    && !tested.is_some_and(|t| t.commit == head && t.boot_id != self.boot_id()) =>
            {
                (head, Operation::Test)
            }
            Some(_) | None => (release, self.policy.operation),
        };
        match self.forge.commits[commit_index(target)].build {
            Build::Broken => return Expected::Unrealised(target, State::BackingOff),
            Build::NoHost => return Expected::Unrealised(target, State::Held),
            Build::Works { .. } | Build::Damaged => {}
        }
        let system = self.forge.system_of(target);
        let reports = self.policy.on_failure == OnFailure::Report;
        let runs = self.host.running.as_ref() == Some(&system.path);
        let activates = match system.activation {
            Activation::Works(_) => true,
            _ if runs && self.truth.verified.contains(&system.path) => true,
            Activation::NeedsReboot => operation != Operation::Test,
            Activation::Refused | Activation::Half(..) | Activation::Broke(_) => {
                // Left to the next boot, it was not activated.
                let defers = self.policy.on_kernel_change == OnKernelChange::Boot;
                let booted = defers && runs && matches!(self.outlook(), Some(Outlook::InSync));
                operation == Operation::Boot || booted
            }
        };
        let healthy = match system.health {
            // So many rounds do not fit into the time for them.
            Health::Good { rounds } => rounds < 8 || reports,
            Health::Bad | Health::Hangs => reports,
            Health::NoNetwork | Health::NoAgent => false,
        };
        // Without a journal nobody knows that it was still to be verified.
        let adopted = runs && self.truth.adopted.contains(&system.path);
        let healthy = healthy || (adopted && matches!(self.outlook(), Some(Outlook::InSync)));
        // One that runs for all that has been booted since.
        let given_up = self.truth.gave_up.contains(&system.path) && !runs;
        // What is the default already needs no boot loader to be written.
        let is_default = runs && self.host.profile_system() == Some(&system.path);
        let written = system.boots || is_default;
        let boots = (written && !given_up) || !operation.sets_default();
        if activates && healthy && boots {
            Expected::InForce(target, operation)
        } else {
            Expected::Bad(target)
        }
    }

    pub(in crate::simulation) fn is_as_expected(&self, shown: &Status) -> Result<bool, Wrong> {
        let host = &self.host;
        let known = [&self.truth.verified, &self.truth.by_hand, &self.truth.adopted];
        // Nothing was ever good enough to go back to.
        let none_good = self.agent.as_ref().is_some_and(|agent| agent.memory.last_good.is_none());
        let legitimate = self.truth.hand
            || self.truth.hand_at.is_some()
            || host.running.as_ref().is_some_and(|s| known.iter().any(|set| set.contains(s)))
            || none_good;
        let whole = !host.half_done || self.truth.verified.is_empty() || none_good;
        if !whole {
            return Ok(false);
        }
        if matches!(self.outlook(), Some(Outlook::Drift)) {
            return Ok(self.truth.hand);
        }
        let refused = self.refuses()
            && shown.state == State::Held
            && shown.held.as_ref().is_some_and(|held| {
                matches!(held.cause, HeldCause::ForcePush(_) | HeldCause::BranchMissing(_))
            });
        let desired =
            |commit: Commit| shown.desired.as_ref().is_some_and(|desired| desired.commit == commit);
        Ok(match self.expected() {
            Expected::Nothing => shown.desired.is_none(),
            Expected::Unrealised(commit, state) => {
                desired(commit) && legitimate && (shown.state == state || refused)
            }
            Expected::Bad(commit) => {
                desired(commit)
                    && legitimate
                    && (shown.held.as_ref().is_some_and(|held| {
                        matches!(
                            &held.cause,
                            HeldCause::Quarantined(_)
                                | HeldCause::Refused(Refusal { cause: RefusalCause::NoAgent, .. })
                        )
                    }) || refused)
                    && match self.outlook() {
                        Some(Outlook::Stuck(_)) => true,
                        Some(Outlook::Refused { refusal, .. }) => {
                            refusal.cause == RefusalCause::NoAgent
                        }
                        _ => false,
                    }
            }
            Expected::InForce(commit, operation) => {
                let system = Some(&self.forge.system_of(commit).path);
                let calm = matches!(shown.state, State::UpToDate | State::RebootRequired)
                    || shown.state == State::Waiting
                        && matches!(self.outlook(), Some(Outlook::InSync));
                desired(commit)
                    && host.running.as_ref() == system
                    && (!operation.sets_default()
                        || host.profile_system() == system && host.boot_loader.as_ref() == system)
                    && (calm || refused)
            }
        })
    }
}

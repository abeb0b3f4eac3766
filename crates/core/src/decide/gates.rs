//! Decisions in which a person has a say: whether a system that is ready is activated,
//! and going back to an earlier one.

use std::time::Duration;

use super::{Decider, Due, Outlook};
use crate::gates::Gate;
use crate::job::{How, Restore, SwitchOrder, Target};
use crate::policy::Operation;
use crate::types::StorePath;

impl Decider<'_> {
    /// Outlook for a system behind a closed gate. Whether it may be activated at all is
    /// found out all the same: whoever opens the gate is to know.
    pub(super) fn gated(
        &self,
        gate: Gate,
        target: &Target,
        system: &StorePath,
        how: &How,
    ) -> Outlook {
        if *how != How::Verify
            && let Some(preflight) = self.before_activation(target, system, Duration::MAX)
        {
            return preflight;
        }
        let commit = target.commit;
        match gate {
            Gate::Unconfirmed { .. } if self.memory.gates.lacks_pending(commit, self.seen) => {
                Outlook::Due(Due::AskToConfirm { commit })
            }
            Gate::Unconfirmed { .. } | Gate::Suspended { .. } | Gate::Window { .. } => {
                Outlook::Gated(gate)
            }
        }
    }

    /// A person wants an earlier system back: put there as if a deployment had
    /// failed, whatever the checks would say of it, and whatever gate is closed.
    pub(super) fn going_back(&self) -> Option<Outlook> {
        let back = self.memory.gates.back.as_ref()?;
        let target = self.memory.target.as_ref()?;
        if self.other_job_lives() {
            return Some(Outlook::Clearing);
        }
        let awaiting = self.memory.awaiting.as_ref();
        let awaiting = awaiting.filter(|it| back.deferral && it.system == back.left);
        let commit = self.memory.commit_of(&back.left).unwrap_or(target.commit);
        let boots = self.seen.profile.as_ref().is_some_and(|named| named.system == back.left);
        let operation = if boots { Operation::Switch } else { Operation::Test };
        let target = Target { commit, operation, ..target.clone() };
        let deferred = awaiting.map(|awaiting| &awaiting.deployment);
        let order = match deferred.filter(|known| !self.memory.has_ended(&known.id)) {
            // It has not ended yet: so it does.
            Some(known) => {
                self.order(known.id.clone(), &known.target, known.attempt, known.started)
            }
            None => self.order(self.fresh_id(commit, 1), &target, 1, self.now.wall),
        };
        let how = How::Restore(Restore::Asked { reason: back.reason.clone() });
        // Its generation and its entry go, whatever is the default.
        let once = awaiting.is_some_and(|awaiting| awaiting.kept.is_some());
        let switch = self.switch(order, &back.left, how, Some(back.to.clone()));
        Some(Outlook::Due(Due::Switch(Box::new(SwitchOrder { once, ..switch }))))
    }
}

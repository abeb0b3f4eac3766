//! What would lift whatever keeps the host from what it should run: in every
//! state in which something does, and in one place for all who tell.

use super::{Held, State, Viewer};
use crate::core::decide::Outlook;

/// Of what waits only for a remote.
pub(in crate::core) const WHEN_IT_ANSWERS: &str =
    "nothing to do here: it goes on when a remote answers, which is asked again by itself";

impl Viewer<'_> {
    /// None while all is well, or what is under way needs nobody.
    pub(super) fn lift(&self, state: State, held: Option<&Held>) -> Option<String> {
        match state {
            State::Blind => self.seen.blind().map(|unseen| unseen.lift().into()),
            State::Held => held.map(|held| held.lift.clone()),
            State::Activating | State::RollingBack => {
                let holder = self.lock_holder()?;
                Some(format!("it goes on when the lock is let go: end {holder} if it hangs"))
            }
            State::RollbackFailed => Some(
                "it is tried again by itself; repair the host by hand, or reboot it into its \
                 boot default"
                    .into(),
            ),
            State::Waiting => self.waiting_lift(),
            State::BackingOff => {
                let commit = self.memory.target.as_ref().map(|target| target.commit.short());
                Some(format!("fort-agent retry {}, or push a commit that mends it", commit?))
            }
            State::RebootRequired => Some(self.reboot_lift().into()),
            State::Unreachable => Some(WHEN_IT_ANSWERS.into()),
            State::Starting => {
                let failed = self.seen.remotes.iter().any(|remote| remote.error.is_some());
                failed.then(|| WHEN_IT_ANSWERS.into())
            }
            State::Verifying | State::Realising | State::UpToDate => None,
        }
    }

    pub(in crate::core) fn reboot_lift(&self) -> &'static str {
        if self.policy.reboots {
            "the agent reboots it in its window, unless somebody is against that; or reboot the \
             host"
        } else {
            "reboot the host"
        }
    }

    fn waiting_lift(&self) -> Option<String> {
        match &self.decision.outlook {
            Outlook::Gated(_) => self.gate().map(|gate| gate.lift),
            Outlook::Drift => {
                Some(format!("push a commit to {}, or switch back by hand", self.policy.release))
            }
            Outlook::AwaitsRemote => Some(WHEN_IT_ANSWERS.into()),
            Outlook::InSync => {
                let (head, branch) = (self.undone()?, self.policy.testing.as_ref()?);
                Some(format!("push to {branch}, or run fort-agent retry {}", head.short()))
            }
            Outlook::NothingKnown
            | Outlook::Blind { .. }
            | Outlook::Switching { .. }
            | Outlook::WrongMachine { .. }
            | Outlook::Realising(_)
            | Outlook::Clearing
            | Outlook::BackingOff(_)
            | Outlook::Stuck(_)
            | Outlook::AwaitsBoot { .. }
            | Outlook::Experiment(_)
            | Outlook::Preflight(_)
            | Outlook::Refused { .. }
            | Outlook::Due(_) => None,
        }
    }
}

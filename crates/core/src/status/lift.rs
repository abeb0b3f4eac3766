//! Remedies for whatever keeps the host from what it should run: in every state in which
//! something does, and in one place for all who tell.

use super::{Held, Lift, State, Viewer};
use crate::decide::Outlook;
use crate::fault::Fault;
use crate::remedy::Remedy;

/// Remedy for a job that systemd does not start.
pub(crate) const UNSTARTED: &str =
    "mend systemd or its bus (systemctl status dbus): it is started again by itself";

impl Viewer<'_> {
    /// Returns what would lift the state; none while all is well, or what is under way needs
    /// nobody.
    pub(super) fn lift(&self, state: State, held: Option<&Held>) -> Option<Lift> {
        match state {
            State::Blind => self.seen.blind().map(|unseen| unseen.lift().into()),
            State::Held => held.map(|held| held.lift.clone()),
            State::Activating | State::RollingBack | State::Verifying
                if self.unstarted().is_some() =>
            {
                Some(UNSTARTED.into())
            }
            State::Activating | State::RollingBack => {
                // Who has it stands in the reason.
                self.lock_holder()?;
                Some("it goes on when the lock is let go: end that process if it hangs".into())
            }
            State::RollbackFailed => Some(
                "it is tried again by itself; repair the host by hand, or reboot it into its \
                 boot default"
                    .into(),
            ),
            State::Waiting => self.waiting_lift(),
            State::BackingOff => {
                let commit = self.memory.target.as_ref().map(|target| target.commit.short());
                let retry = Lift::default().run(format!("retry {}", commit?));
                Some(match self.fault().and_then(Fault::lift) {
                    Some(lift) => Lift::from(lift).and("; then ").then(&retry),
                    None => retry.and(", or push a commit that mends it"),
                })
            }
            State::RebootRequired => Some(self.reboot_lift().into()),
            State::Unreachable => Some(self.remote_lift()),
            State::Starting => {
                let failed = self.seen.remotes.iter().any(|remote| remote.error.is_some());
                failed.then(|| self.remote_lift())
            }
            State::Verifying | State::Realising | State::UpToDate => None,
        }
    }

    /// Returns the remedy for the remote whose error the reason tells; else for one that is only
    /// away.
    pub(crate) fn remote_lift(&self) -> Lift {
        let failed = self.seen.remotes.iter().find(|remote| remote.error.is_some());
        failed.map_or(Remedy::Wait, |remote| remote.remedy).lift().into()
    }

    /// Returns the kind of failure that is waited after.
    fn fault(&self) -> Option<Fault> {
        match &self.decision.outlook {
            Outlook::BackingOff(trouble) => trouble.fault,
            Outlook::NothingKnown
            | Outlook::Blind { .. }
            | Outlook::Switching { .. }
            | Outlook::WrongMachine { .. }
            | Outlook::Realising(_)
            | Outlook::Clearing
            | Outlook::Stuck(_)
            | Outlook::InSync
            | Outlook::Drift
            | Outlook::AwaitsBoot { .. }
            | Outlook::Gated(_)
            | Outlook::AwaitsRemote
            | Outlook::Experiment(_)
            | Outlook::Preflight(_)
            | Outlook::Refused { .. }
            | Outlook::Due(_) => None,
        }
    }

    pub(crate) fn reboot_lift(&self) -> &'static str {
        if self.policy.reboots {
            "the agent reboots it in its window, unless somebody is against that; or reboot the \
             host"
        } else {
            "reboot the host"
        }
    }

    fn waiting_lift(&self) -> Option<Lift> {
        match &self.decision.outlook {
            Outlook::Gated(_) => self.gate().map(|gate| gate.lift),
            Outlook::Drift => {
                let release = &self.policy.release;
                Some(format!("push a commit to {release}, or switch back by hand").into())
            }
            Outlook::AwaitsRemote => Some(self.remote_lift()),
            // Only of one that was not begun is that said in this state.
            Outlook::Switching { .. } => Some(UNSTARTED.into()),
            Outlook::InSync => {
                let (head, branch) = (self.undone()?, self.policy.testing.as_ref()?);
                let push = Lift::from(format!("push to {branch}, or run "));
                Some(push.run(format!("retry {}", head.short())))
            }
            Outlook::NothingKnown
            | Outlook::Blind { .. }
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

//! The one value that tells everyone the same: how things stand, why, and what
//! happens next. Every channel renders it; none looks elsewhere.

mod advice;
mod blind;
mod held;
pub mod held_cause;
pub(super) mod lift;
mod model;
mod progress;
mod publish;
pub(super) mod reason;
mod unconfined;
mod views;

use super::decide::{Decision, Due, Outlook, unreachable};
use super::guardian::{Phase, RUNGS};
use super::memory::Memory;
use super::observed::Seen;
use super::policy::Policy;
use super::types::Now;

pub use self::advice::{Lift, Piece};
pub use self::blind::BlindView;
pub use self::held_cause::HeldCause;
pub use self::model::{
    AgentView, BootView, DeploymentView, Desired, GateView, GoodView, Held, Next, NextAction,
    QuarantineView, RemoteView, RunningView, State, Status, SuspendedView,
};
pub use self::progress::{Stage, StageProgress};
pub use self::publish::{PublishProgressView, PublishView};
pub use self::unconfined::Unconfined;

/// Returns how things stand, why, and what happens next.
pub fn status(
    policy: &Policy,
    memory: &Memory,
    seen: &Seen,
    decision: &Decision,
    agent: &AgentView,
    now: Now,
) -> Status {
    let v = Viewer { policy, memory, seen, decision, now };
    let held = v.held();
    let state = v.state(held.as_ref());
    Status {
        version: 1,
        hostname: policy.hostname.clone(),
        state,
        reason: v.reason(state, held.as_ref()),
        lift: v.lift(state, held.as_ref()),
        next: v.next(),
        desired: v.desired(),
        running: v.running(),
        boot: v.boot(),
        last_good: memory.last_good.as_ref().map(|good| GoodView {
            commit: memory.commit_of(&good.system),
            system: good.system.clone(),
        }),
        deployment: v.deployment(),
        blind: v.blind(),
        held,
        suspended: v.suspended(),
        gate: v.gate(),
        remotes: v.remotes(),
        publish: v.publish(),
        quarantine: v.quarantine(),
        last_deployment: memory.history.last().cloned(),
        notes: v.notes(),
        agent: agent.clone(),
    }
}

/// Everything that is known of one moment.
pub(super) struct Viewer<'a> {
    pub(super) policy: &'a Policy,
    pub(super) memory: &'a Memory,
    pub(super) seen: &'a Seen,
    pub(super) decision: &'a Decision,
    pub(super) now: Now,
}

impl Viewer<'_> {
    fn state(&self, held: Option<&Held>) -> State {
        let outlook = &self.decision.outlook;
        if let Outlook::Switching { phase, .. } = outlook {
            return match phase {
                Phase::PuttingBack(back) if back.tries < RUNGS => State::RollingBack,
                Phase::PuttingBack(_) => State::RollbackFailed,
                // Nothing was touched, and nothing is at work.
                Phase::Ready if self.unstarted().is_some() => State::Waiting,
                Phase::Ready
                | Phase::Activating { .. }
                | Phase::Deferring { .. }
                | Phase::Returning { .. } => State::Activating,
                Phase::Activated { .. } | Phase::Committing => State::Verifying,
            };
        }
        if let Outlook::Blind { .. } = outlook {
            return State::Blind;
        }
        if held.is_some() {
            return State::Held;
        }
        match outlook {
            Outlook::Blind { .. } => State::Blind,
            Outlook::Switching { .. }
            | Outlook::WrongMachine { .. }
            | Outlook::Refused { .. }
            | Outlook::Stuck(_) => State::Held,
            Outlook::Realising(_) => State::Realising,
            Outlook::Due(due) => match due {
                Due::Realise(_) => State::Realising,
                Due::Switch(_) => State::Activating,
                Due::Settle { .. } => State::Verifying,
                Due::AskToConfirm { .. } | Due::GiveUp { .. } => State::Waiting,
            },
            Outlook::Clearing
            | Outlook::Gated(_)
            | Outlook::AwaitsRemote
            | Outlook::Experiment(_)
            | Outlook::Preflight(_)
            | Outlook::Drift => State::Waiting,
            Outlook::InSync if self.undone().is_some() => State::Waiting,
            Outlook::BackingOff(_) => State::BackingOff,
            Outlook::AwaitsBoot { .. } => State::RebootRequired,
            Outlook::InSync if self.seen.reboot_why.is_some() => State::RebootRequired,
            Outlook::InSync | Outlook::NothingKnown if unreachable(self.seen) => State::Unreachable,
            Outlook::InSync => State::UpToDate,
            Outlook::NothingKnown => State::Starting,
        }
    }
}

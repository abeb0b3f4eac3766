//! Requests of people about gates and ways back, and what follows from them.

use super::host::Task;
use super::world::{World, Wrong};
use crate::decide::Outlook;
use crate::gates::Gate;
use crate::job::SwitchOrder;
use crate::memory::{Memory, Stuck, Subject};
use crate::observed::Window;
use crate::policy::Confirm;
use crate::request::{Prefix, Request};
use crate::types::{Commit, StorePath};
use std::collections::BTreeSet;
use std::time::Duration;

/// Requests that people have made, kept apart from what the agent remembers of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    /// Suspended until told otherwise.
    suspended: bool,
    confirmed: BTreeSet<Commit>,
    /// Systems that were to be left.
    pub(super) left: BTreeSet<StorePath>,
}

impl World {
    pub(super) fn suspend(&mut self, millis: u64) {
        let lasts = (millis > 0).then(|| Duration::from_millis(millis));
        let request = Request::Suspend { reason: "it rains".into(), lasts };
        if let Some(Ok(_)) = self.request(&request) {
            self.truth.said.suspended = lasts.is_none();
        }
    }

    pub(super) fn resume(&mut self) {
        if let Some(Ok(_)) = self.request(&Request::Resume) {
            self.truth.said.suspended = false;
        }
    }

    pub(super) fn confirm(&mut self) {
        let agent = self.agent.as_ref();
        let Some(target) = agent.and_then(|agent| agent.memory.target.clone()) else { return };
        let prefix = Prefix::parse(&target.commit.prefix(12)).expect("twelve digits");
        if let Some(Ok(_)) = self.request(&Request::Confirm(prefix)) {
            self.truth.said.confirmed.insert(target.commit);
        }
    }

    pub(super) fn roll_back(&mut self) {
        let request = Request::Rollback { to: None, reason: "it rains".into() };
        if let Some(Ok(_)) = self.request(&request) {
            let back = self.agent.as_ref().and_then(|agent| agent.memory.gates.back.clone());
            self.truth.said.left.extend(back.map(|back| back.left));
        }
    }

    /// Gate that is in the way, if it is for a person to lift.
    pub(super) fn waits_for_a_person(&self) -> Option<Gate> {
        let memory = &self.agent.as_ref()?.memory;
        if memory.gates.suspended.is_some() {
            return Some(Gate::Suspended { until: None, reason: String::new() });
        }
        let decision = self.agent.as_ref()?.decision.as_ref()?;
        let Outlook::Gated(gate @ Gate::Unconfirmed { until: None }) = &decision.outlook else {
            return None;
        };
        Some(gate.clone())
    }

    pub(super) fn deploy_window(&self) -> Window {
        let closed = self.t < self.host.closed_until;
        let left = Duration::from_millis(self.host.closed_until.saturating_sub(self.t));
        Window { open: !closed, changes: closed.then(|| self.now().wall.plus(left)) }
    }

    /// Nobody's word is passed over.
    pub(super) fn check_gates(&self, switch: &SwitchOrder) -> Result<(), Wrong> {
        let commit = switch.order.target.commit;
        let said = &self.truth.said;
        if said.suspended {
            return Err(format!("{commit:?} is switched to while suspended"));
        }
        if self.policy.confirm == Confirm::Manual && !said.confirmed.contains(&commit) {
            return Err(format!("{commit:?} was not confirmed"));
        }
        // It may have closed while the agent looked.
        if self.t + 1_000 < self.host.closed_until && self.t > self.host.closed_at + 2_000 {
            return Err(format!("{commit:?} is switched to outside of its window"));
        }
        Ok(())
    }

    /// Whether a person wanted what this job puts back.
    pub(super) fn check_way_back(&self, switch: &SwitchOrder) -> Result<(), Wrong> {
        let known = [&self.truth.verified, &self.truth.adopted, &self.truth.by_hand];
        let old = switch.old.as_ref();
        let good = old.is_some_and(|old| known.iter().any(|set| set.contains(old)));
        let asked = self.truth.said.left.contains(&switch.candidate);
        // What runs; or what is to be booted, or was and did not come up.
        let candidate = Some(&switch.candidate);
        let boots = [self.host.profile_system(), self.host.oneshot.as_ref()].contains(&candidate);
        let awaits = boots || self.truth.gave_up.contains(&switch.candidate);
        if good && asked && (self.host.running.as_ref() == candidate || awaits) {
            return Ok(());
        }
        Err(format!("{:?} is left for {old:?}, and nobody asked for that", switch.candidate))
    }

    /// Forgets what people have said, but for what is still in a job's directory, or in
    /// the copy that is left.
    pub(super) fn forget_what_was_said(&mut self, left: Option<&Memory>) {
        let said = &mut self.truth.said;
        said.suspended &= left.is_some_and(|memory| memory.gates.suspended.is_some());
        let jobs = &self.host.jobs;
        let remembered = |system: &StorePath| {
            let subject = Subject::System { system: system.clone() };
            let trouble = left.and_then(|memory| memory.trouble_with(&subject));
            let in_a_job = jobs.values().any(|dir| match &dir.task {
                Task::Switch { order, .. } => order.how.restores() && order.candidate == *system,
                Task::Realise { .. } | Task::Publish { .. } => false,
            });
            in_a_job || trouble.is_some_and(|t| t.stuck == Some(Stuck::Quarantined))
        };
        let was_left = &self.truth.said.left;
        self.truth.gave_up.retain(|system| !was_left.contains(system) || remembered(system));
    }
}

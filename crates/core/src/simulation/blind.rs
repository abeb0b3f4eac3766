//! Looks at the host that fail, and the check that nothing is done for want of a look.

use super::world::{World, Wrong};
use crate::decide::{Decision, Step};
use crate::guardian::Sight;
use crate::memory::Memory;
use crate::observed::Seen;
use crate::status::State;
use crate::unseen::{Part, Unseen};

impl World {
    /// Part of the host that cannot be looked at now.
    pub(super) fn unseen(&self) -> Option<Unseen> {
        let (part, _) = self.host.blind.filter(|(_, until)| self.t < *until)?;
        let (path, error) = (format!("/{part:?}"), "Input/output error".to_owned());
        Some(Unseen { part, path, errno: Some(5), error })
    }

    /// The agent's look without what it could not see: as if nothing was there.
    pub(super) fn blinded(&self, mut seen: Seen) -> Seen {
        let Some(unseen) = self.unseen() else { return seen };
        match unseen.part {
            Part::Running => seen.running = None,
            Part::Booted => seen.booted = None,
            Part::Profile => seen.profile = None,
            Part::Store => seen.present.clear(),
            Part::Roots => seen.roots.clear(),
            Part::Jobs | Part::Handover => seen.jobs.clear(),
            Part::Kernel => seen.reboot_why = None,
            Part::BootLoader => seen.gave_up = false,
            Part::MachineId => seen.machine_id = None,
            Part::Boot => seen.boot_id = crate::types::BootId("unknown".into()),
            Part::Descriptors => {
                (seen.running, seen.booted, seen.profile) = (None, None, None);
                seen.present.clear();
                seen.roots.clear();
                seen.jobs.clear();
            }
        }
        seen.unseen.push(unseen);
        seen
    }

    /// The guardian's look without what it could not see. It has descriptors of its
    /// own, and knows its own job.
    pub(super) fn blinded_sight(&self, mut sight: Sight) -> Option<Sight> {
        let unseen = self.unseen()?;
        match unseen.part {
            Part::Running => sight.running = None,
            Part::Booted => sight.booted = None,
            Part::Profile => sight.profile = None,
            Part::Boot
            | Part::Descriptors
            | Part::MachineId
            | Part::Jobs
            | Part::Handover
            | Part::Store
            | Part::Roots
            | Part::BootLoader
            | Part::Kernel => return None,
        }
        sight.unseen = Some((unseen, self.mono()));
        Some(sight)
    }

    /// While the host cannot be looked at nothing is done on it, nothing is learned
    /// of it, and that is what is shown.
    pub(super) fn check_blind(
        &self,
        before: &Memory,
        folded: &Memory,
        seen: &Seen,
        decision: &Decision,
    ) -> Result<(), Wrong> {
        let Some(unseen) = seen.blind() else {
            return match folded.blind_since {
                Some(_) => Err("it remembers that it was blind, and sees".into()),
                None => Ok(()),
            };
        };
        match &decision.step {
            Step::Wait { .. } | Step::Poll { .. } | Step::Compare { .. } => {}
            Step::Follow { .. }
            | Step::KeepRoots(_)
            | Step::StartRealise(_)
            | Step::StartSwitch(_)
            | Step::StartPublish(_)
            | Step::StopJob(_)
            | Step::RemoveJob(_)
            | Step::ResumeSwitch(_)
            | Step::RunChecks(_)
            | Step::Preflight { .. }
            | Step::Look
            | Step::Disarm { .. }
            | Step::LookAgainstReboot
            | Step::Reboot { .. }
            | Step::WriteVerdict { .. }
            | Step::Settle { .. }
            | Step::AskToConfirm { .. }
            | Step::GiveUp { .. } => {
                return Err(format!("it cannot see {unseen}, and does {:?}", decision.step));
            }
        }
        let known = Memory { blind_since: before.blind_since, ..folded.clone() };
        if known != *before {
            return Err(format!("it cannot see {unseen}, and learns something"));
        }
        let shown = self.status(folded, seen, decision);
        let told = shown.blind.as_ref().is_some_and(|blind| blind.unseen == *unseen);
        let first = shown.state <= State::Blind;
        if !told || !first || shown.lift.is_none() && shown.state == State::Blind {
            return Err(format!("it cannot see {unseen}, and shows {:?}", shown.state));
        }
        Ok(())
    }
}

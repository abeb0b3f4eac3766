//! Systems that are kept from the garbage collector.

use std::collections::BTreeMap;

use super::{Decider, Step};
use crate::observed::{Purpose, Work};
use crate::types::StorePath;

impl Decider<'_> {
    /// Whether a system is safe from the garbage collector: by a root, or by
    /// the link that its realise job left.
    pub(super) fn is_kept(&self, system: &StorePath) -> bool {
        self.seen.roots.values().any(|root| root == system)
            || self.seen.jobs.iter().any(|job| job.built() == Some(system))
    }

    pub(super) fn keep_roots(&self) -> Option<Step> {
        let wanted = self.roots_to_keep().filter(|_| !self.seen.rooting)?;
        Some(Step::KeepRoots(wanted))
    }

    /// The systems to keep, if others are kept.
    pub(super) fn roots_to_keep(&self) -> Option<BTreeMap<Purpose, StorePath>> {
        let memory = self.memory;
        let target = memory.target.as_ref();
        let candidate = memory
            .deployment
            .as_ref()
            .and_then(|deployment| deployment.system.clone())
            .or_else(|| memory.system_of(target?.commit, &self.policy.recipe).cloned())
            .filter(|system| self.seen.has(system));
        // While a switch is under way the candidate keeps itself by running;
        // what is put back if it fails does not run any more.
        let old = self.seen.jobs.iter().find_map(|job| match &job.work {
            Work::Switch { order, outcome: None, .. } => order.old.as_ref(),
            Work::Switch { .. } | Work::Realise { .. } => None,
            Work::Publish { .. } | Work::Unreadable => None,
        });
        // Its generation may be cleared away like any other that is not current.
        let once = memory.awaiting.as_ref().filter(|awaiting| awaiting.kept.is_some());
        let wanted: BTreeMap<_, _> = [
            (Purpose::Candidate, candidate.as_ref()),
            (Purpose::Running, old.or(self.seen.running.as_ref())),
            (Purpose::LastGood, memory.last_good.as_ref().map(|good| &good.system)),
            (Purpose::GoodBefore, memory.good_before.as_ref().map(|good| &good.system)),
            (Purpose::Booted, self.seen.booted.as_ref()),
            (Purpose::Awaiting, once.map(|awaiting| &awaiting.system)),
            (Purpose::Default, self.seen.profile.as_ref().map(|generation| &generation.system)),
        ]
        .into_iter()
        .filter_map(|(purpose, system)| {
            // One that is gone cannot be kept.
            let kept = |system: &&StorePath| {
                let rooted = old == Some(*system) && self.seen.roots.values().any(|r| r == *system);
                rooted || self.seen.has(system)
            };
            let system = system.filter(kept)?;
            Some((purpose, system.clone()))
        })
        .collect();
        (wanted != self.seen.roots).then_some(wanted)
    }
}

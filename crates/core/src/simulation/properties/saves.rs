//! Properties of what is remembered and removed.

use super::*;

impl World {
    /// P3 and P5, for what is about to be saved.
    pub(in crate::simulation) fn check_save(
        &mut self,
        before: &Memory,
        after: &Memory,
        seen: &Seen,
    ) -> Result<(), Wrong> {
        if before.accepted != after.accepted {
            self.check_accepted(after)?;
        }
        let key = |memory: &Memory| memory.target.as_ref().map(Target::key);
        let switching = self.host.jobs.values().any(|dir| match &dir.task {
            Task::Switch { outcome, .. } => outcome.is_none(),
            Task::Realise { .. } | Task::Publish { .. } => false,
        });
        if before.target.is_some() && key(before) != key(after) && !switching {
            self.truth.hand = false;
        }
        if let Some(deployment) = &after.deployment {
            self.truth.deployments.entry(deployment.id.clone()).or_default();
        }
        let known = before.history.last().map(|entry| &entry.id);
        let fresh: Vec<_> =
            after.history.iter().rev().take_while(|entry| Some(&entry.id) != known).collect();
        for entry in fresh {
            let job = self.truth.outcomes.get(&entry.id);
            let said =
                job.is_none_or(|outcome| *outcome == Some(entry.verdict) || outcome.is_none());
            let invented = entry.verdict == Ending::RolledBack && job.is_none();
            let began = self.truth.deployments.entry(entry.id.clone()).or_default();
            if !said || invented || began.is_some() {
                return Err(format!(
                    "P5: {} ends as {:?}; it ended as {began:?}, its job as {job:?}",
                    entry.id, entry.verdict
                ));
            }
            *began = Some(entry.verdict);
            if matches!(entry.verdict, Ending::Good | Ending::RolledBack | Ending::Failed) {
                self.truth.finished.insert(entry.commit);
            }
        }
        if let Some(deployment) = &before.deployment {
            let goes_on = after.deployment.as_ref().is_some_and(|d| d.id == deployment.id)
                || after.awaiting.as_ref().is_some_and(|a| a.deployment.id == deployment.id);
            if !goes_on && self.truth.deployments.get(&deployment.id).copied().flatten().is_none() {
                return Err(format!("P5: {} has no ending", deployment.id));
            }
        }
        for trouble in &after.troubles {
            let Subject::System { system } = &trouble.subject else { continue };
            let real = self.truth.failures.get(system).map_or(0, |failures| failures.len());
            let quarantined = trouble.stuck == Some(Stuck::Quarantined);
            let given_up = self.truth.gave_up.contains(system);
            if (quarantined && !given_up && (real as u32) < self.policy.activations)
                || (trouble.failures as usize) > real
            {
                return Err(format!(
                    "P6: {system:?} has {} failures ({quarantined}), but {real} happened",
                    trouble.failures
                ));
            }
        }
        let known = [&self.truth.verified, &self.truth.adopted, &self.truth.by_hand];
        if let Some(good) = &after.last_good
            && !known.iter().any(|set| set.contains(&good.system))
        {
            return Err(format!("P4: {:?} counts as good and was never verified", good.system));
        }
        if before.boot_id.is_some() && before == after {
            return Err("saved without a change".into());
        }
        if before.publishing.done != after.publishing.done {
            let done = after.publishing.done.as_ref();
            self.truth.published = done.map(|done| done.system.clone());
        }
        let _ = seen;
        Ok(())
    }

    pub(in crate::simulation) fn check_accepted(&mut self, after: &Memory) -> Result<(), Wrong> {
        let Some(new) = after.accepted.clone() else {
            return Err("P3: the accepted head is forgotten".into());
        };
        let giver = self.policy.remotes.iter().position(|name| *name == new.remote);
        let shown = giver.is_some_and(|g| self.truth.shown_release.contains(&(g, new.commit)));
        if let Some(old) = &self.truth.accepted {
            let allowed = self.truth.allowed == Some(new.commit);
            let relation = self.relation(old.commit, new.commit);
            let rules = match (relation, self.policy.force_push) {
                (Relation::Same | Relation::Ahead, _) => true,
                (Relation::Behind, ForcePush::Accept) => old.remote == new.remote,
                (Relation::Diverged, ForcePush::Accept) => true,
                (Relation::Behind | Relation::Diverged, ForcePush::Refuse) => false,
            };
            if !(shown || relation == Relation::Same) || !(rules || allowed) {
                return Err(format!("P3: {new:?} is accepted after {old:?}: {relation:?}"));
            }
        } else if !shown {
            return Err(format!("P3: {new:?} is accepted, and nobody gave it"));
        }
        if self.truth.allowed == Some(new.commit) {
            self.truth.allowed = None;
        }
        self.truth.accepted = Some(new);
        Ok(())
    }

    pub(in crate::simulation) fn check_removal(&self, job: &JobId) -> Result<(), Wrong> {
        let dir = self.host.jobs.get(job).ok_or("a job is removed twice")?;
        if dir.process.as_ref().is_some_and(|process| process.locked) {
            return Err(format!("{job} is removed while it lives"));
        }
        let journal = self.host.journal.as_ref();
        if let Task::Realise { outcome: Some(RealiseOutcome { result, .. }), .. } = &dir.task
            && let Realised::Built { system } = result
            && journal.is_some_and(|memory| {
                memory.deployment.as_ref().is_some_and(|d| d.system.as_ref() == Some(system))
            })
            && !self.host.roots.values().any(|kept| kept == system)
        {
            return Err(format!("P4: nothing keeps {system:?} once {job} is removed"));
        }
        let folded = journal.is_some_and(|memory| match &dir.task {
            Task::Switch { outcome, .. } => {
                outcome.is_some()
                    && (memory.has_ended(&job.deployment)
                        || memory
                            .awaiting
                            .as_ref()
                            .is_some_and(|a| a.deployment.id == job.deployment))
            }
            Task::Realise { .. } => {
                memory.deployment.as_ref().is_none_or(|d| d.job.as_ref() != Some(job))
            }
            Task::Publish { .. } => {
                memory.publishing.job.as_ref().is_none_or(|known| known.id != *job)
            }
        });
        if folded { Ok(()) } else { Err(format!("P5: {job} is removed before it was folded in")) }
    }
}

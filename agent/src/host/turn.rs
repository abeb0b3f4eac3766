//! One turn of the loop: look, decide, remember, do.

use super::*;

impl Agent {
    /// Takes steps until there is nothing to do before the moment returned.
    pub(super) fn turn_until_idle(&mut self, woken: Woken) -> Mono {
        let mut last = match woken {
            Woken::ByRemotes if clock::mono().since(self.looked) < HOLDS => self.seen.clone(),
            Woken::ByRemotes | Woken::Otherwise => None,
        };
        for _ in 0..MOST_STEPS {
            let now = clock::now();
            match self.turn(last.take(), now) {
                Ok(Turn::Idle(until)) => return until,
                Ok(Turn::Beside) => last.clone_from(&self.seen),
                Ok(Turn::Done) => {}
                Err(error) => {
                    let said = format!("{error:#}");
                    if is_for_the_disk(&error) && self.unwritten.as_ref() != Some(&said) {
                        // Seen with the next turn, which is now.
                        tracing::error!("{said}");
                        self.unwritten = Some(said);
                        continue;
                    }
                    if self.unwritten.as_ref() != Some(&said) {
                        if self.trouble.as_ref() != Some(&said) {
                            tracing::error!("{said}");
                        }
                        self.trouble = Some(said);
                        self.show_trouble();
                    }
                    return now.mono.plus(PAUSE);
                }
            }
        }
        tracing::error!("{MOST_STEPS} steps in a row: something goes in circles; pausing");
        clock::mono().plus(PAUSE)
    }

    /// Takes one turn: look, decide, remember, do. `last`: a look that still holds for
    /// what is on this host; a poll that finds nothing new is to cost little.
    pub(super) fn turn(&mut self, last: Option<Seen>, now: Now) -> anyhow::Result<Turn> {
        let mut seen = match last {
            Some(last) => self.host.observe_beside(last),
            None => {
                self.looked = now.mono;
                self.host.observe(&self.memory, now)
            }
        };
        seen.unwritten = self.unwritten.clone().or(seen.unwritten);
        if self.journal.aside_is_gone() {
            self.memory.rebuilt = None;
        }
        let before = self.memory.history.last().map(|entry| entry.id.clone());
        let published = self.memory.publishing.clone();
        let under_way = self.memory.deployment.clone();
        let folded = fold(&self.policy, self.memory.clone(), &seen, now);
        let decision = decide(&self.policy, &folded, &seen, now);
        let memory = note(folded, &seen, &decision.step, now);
        // What is to be done must be known before it is done.
        if let Err(error) = self.journal.save(&memory)
            // Then nothing is done that would have to be.
            && seen.blind().is_none()
        {
            return Ok(self.cannot_remember(&memory, &error, seen, decision, now));
        }
        let ended: Vec<Entry> = memory
            .history
            .iter()
            .rev()
            .take_while(|entry| Some(&entry.id) != before.as_ref())
            .cloned()
            .collect();
        self.memory = memory;
        log::realised(under_way.as_ref(), self.memory.deployment.as_ref());
        for entry in ended.iter().rev() {
            log::ended(entry);
            self.metrics.ended(entry);
        }
        for refusal in refusals(&ended, &seen) {
            self.metrics.refused(refusal);
        }
        if let Some(ended) = self.memory.publishing.ended(&published, &seen) {
            log::published(&ended);
            self.metrics.published(ended.outcome);
        }
        // The next turn comes at once. What was decided was so before there was another
        // head: with that it would be said of what does not run yet. And nothing is told
        // of a poll before it is under way.
        let passes = matches!(decision.step, Step::Follow { .. } | Step::Poll { .. });
        if !self.only_clears(&decision, now.mono) && !passes {
            self.show(status(&self.policy, &self.memory, &seen, &decision, &self.view, now));
        }
        self.seen = Some(seen);
        log::step(&decision.step);
        let _passing = crash::step(&decision.step);
        let performed = self
            .host
            .perform(&decision.step, &self.memory)
            .with_context(|| log::failed(&decision.step));
        let turn = match decision.step {
            Step::Wait { until } => Turn::Idle(self.next_turn(until, now.mono)),
            Step::Poll { .. }
            | Step::Compare { .. }
            | Step::KeepRoots(_)
            | Step::RunChecks(_)
            | Step::Preflight { .. }
            | Step::Look
            | Step::Disarm { .. }
            | Step::LookAgainstReboot
            | Step::Reboot { .. } => Turn::Beside,
            Step::Follow { .. }
            | Step::StartRealise(_)
            | Step::StopJob(_)
            | Step::RemoveJob(_)
            | Step::StartSwitch(_)
            | Step::StartPublish(_)
            | Step::ResumeSwitch(_)
            | Step::WriteVerdict { .. }
            | Step::Settle { .. }
            | Step::AskToConfirm { .. }
            | Step::GiveUp { .. } => Turn::Done,
        };
        self.decided = Some((decision, now));
        performed?;
        let asks = matches!(
            self.decided,
            Some((Decision { step: Step::Poll { .. } | Step::Compare { .. }, .. }, _))
        );
        if asks {
            // That writes nothing here: what could not be may still not.
            return Ok(turn);
        }
        self.trouble = None;
        // What was in the way is to be seen no more.
        Ok(if self.unwritten.take().is_some() { Turn::Done } else { turn })
    }

    /// Whether all that is waited for is the last moment of a job that has told
    /// what came of it: that is no state of the host.
    pub(super) fn only_clears(&mut self, decision: &Decision, now: Mono) -> bool {
        if decision.outlook != Outlook::Clearing {
            self.clearing = None;
            return false;
        }
        now.since(*self.clearing.get_or_insert(now)) < CLEARING
    }

    /// Shows that the memory cannot be written: nothing is done that could not be
    /// remembered, and the write is tried again after a pause.
    pub(super) fn cannot_remember(
        &mut self,
        memory: &Memory,
        error: &std::io::Error,
        mut seen: Seen,
        decision: Decision,
        now: Now,
    ) -> Turn {
        let said = format!("cannot write {}: {error}", self.journal.path().display());
        if self.unwritten.as_ref() != Some(&said) {
            tracing::error!("{said}");
        }
        seen.unwritten = Some(said.clone());
        self.unwritten = Some(said);
        self.show(status(&self.policy, memory, &seen, &decision, &self.view, now));
        self.seen = Some(seen);
        self.decided = Some((decision, now));
        Turn::Idle(now.mono.plus(PAUSE))
    }

    pub(super) fn next_turn(&self, until: Option<Mono>, now: Mono) -> Mono {
        let jobs = self.seen.as_ref().is_some_and(|seen| !seen.jobs.is_empty());
        let at_least = now.plus(match (jobs, self.host.is_unwatched()) {
            (true, true) => UNWATCHED,
            (true, false) => TICK,
            (false, _) => TURN,
        });
        until.map_or(at_least, |until| until.min(at_least))
    }
}

/// Returns why realise jobs that have just ended found no room: the preflight's part that
/// cannot wait until there is a system.
fn refusals(ended: &[Entry], seen: &Seen) -> Vec<RefusalCause> {
    let jobs = seen.jobs.iter().filter(|job| ended.iter().any(|e| e.id == job.id.deployment));
    let refused = jobs.filter_map(|job| match &job.work {
        Work::Realise { outcome: Some(outcome), .. } => match &outcome.result {
            Realised::Refused { refusal } => Some(refusal.cause),
            Realised::Built { .. }
            | Realised::NoSuchHost { .. }
            | Realised::Failed { .. }
            | Realised::Damaged { .. }
            | Realised::Cancelled => None,
        },
        Work::Realise { outcome: None, .. }
        | Work::Switch { .. }
        | Work::Publish { .. }
        | Work::Unreadable => None,
    });
    refused.collect()
}

/// Whether something could not be written for want of room or of a sound disk.
fn is_for_the_disk(error: &anyhow::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    if error.downcast_ref::<Unwritten>().is_some() {
        return true;
    }
    let mut errors = error.chain().filter_map(|error| error.downcast_ref::<std::io::Error>());
    errors.any(|error| matches!(error.kind(), QuotaExceeded | ReadOnlyFilesystem | StorageFull))
}

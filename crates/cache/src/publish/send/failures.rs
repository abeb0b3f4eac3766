//! What becomes of a path that could not be sent.

use super::*;

impl<'a> Work<'a> {
    pub(super) fn answered(&mut self, asked: &[usize], lacks: Option<BTreeSet<String>>) {
        self.asking = false;
        // Without an answer each is tried, and fails for its own reason.
        let there: BTreeSet<usize> = match lacks {
            Some(lacks) => {
                let there = |at: &usize| !lacks.contains(self.queue.path(*at).hash());
                asked.iter().copied().filter(there).collect()
            }
            None => BTreeSet::new(),
        };
        let ended: BTreeSet<usize> =
            there.iter().copied().filter(|place| self.left(*place) == 0).collect();
        let (elsewhere, effects) = self.queue.answered(
            asked,
            self.sending.now(),
            |at| !there.contains(&at),
            |at| ended.contains(&at),
        );
        for place in elsewhere {
            self.sending.tally.came_from_elsewhere(self.info(place));
        }
        self.affect(effects);
    }

    pub(super) fn failed(
        &mut self,
        place: usize,
        failed: PathFailed,
        may_pass: bool,
    ) -> Result<(), Failed> {
        let sending = self.sending;
        let cause = match failed {
            PathFailed::Held => {
                let path = self.queue.path(place).as_str();
                tracing::debug!(path, "its end was held back for too long");
                self.over(place);
                let recall = self.queue.held_too_long(place);
                self.recall(recall);
                return Ok(());
            }
            PathFailed::Cache(cause) if may_pass => cause,
            PathFailed::Cache(_) | PathFailed::Packing(_) => return self.give_up(place, failed),
        };
        if self.queue.waits(place) {
            // Sent again in any case, and by then it is known what that was.
            tracing::debug!(path = self.queue.path(place).as_str(), %cause, "sent later");
            self.over(place);
            let recall = self.queue.put_back(place);
            self.recall(recall);
            return Ok(());
        }
        let sent = sending.tally.sent();
        let away = self.away.get_or_insert_with(Instant::now).elapsed();
        let failures = self.failures.entry(place);
        let failures = failures.or_insert(Failures { tries: 0, alone: 0, sent });
        failures.tries += 1;
        failures.alone += u32::from(failures.sent < sent);
        failures.sent = sent;
        let tries = failures.tries;
        let Some(patience) = sending.limits.goes_on(tries, failures.alone, away) else {
            return self.give_up(place, cause.into());
        };
        sending.tally.trouble(&cause, patience);
        let recall = self.queue.pause(place);
        self.recall(recall);
        self.over(place);
        let path = self.queue.path(place).clone();
        let again = async move {
            pause(&sending.limits, tries).await;
            // The answer may have been lost after all was stored; and a refusal
            // that came while sending may have been lost as well.
            let missing = sending.attic.missing(&[path.hash()]).await;
            Event::Paused(place, missing.map(|missing| !missing.is_empty()))
        };
        self.start(place, Arc::default(), Arc::default(), Box::pin(again));
        Ok(())
    }

    /// Leaves a path out, with what refers to it; fails if everything does.
    pub(super) fn give_up(&mut self, place: usize, failed: PathFailed) -> Result<(), Failed> {
        self.over(place);
        let (given_up, recall) = self.queue.give_up(place);
        self.recall(recall);
        self.sending.tally.gave_up(self.queue.path(place), &failed, given_up);
        let PathFailed::Cache(failed) = failed else { return Ok(()) };
        match failed.reach() {
            Reach::ThisPath => Ok(()),
            Reach::ThisMoment if self.hopeless + 1 < HOPELESS => {
                self.hopeless += 1;
                Ok(())
            }
            Reach::ThisMoment | Reach::Everything => Err(failed.into()),
        }
    }
}

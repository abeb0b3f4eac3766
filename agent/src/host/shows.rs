//! What the loop shows to everyone, and what it is told.

use super::*;

impl Agent {
    /// Explains the state from what is shown now, whatever has happened since.
    pub(super) fn explain(&self, commit: Option<&Prefix>) -> Result<String, String> {
        let shown = self.shown.borrow().clone();
        let (Some(shown), Some(seen), Some((decision, now))) = (shown, &self.seen, &self.decided)
        else {
            return Err("the agent is starting".into());
        };
        let (policy, memory, status) = (&self.policy, &self.memory, &shown.status);
        let moment = Moment { policy, memory, seen, decision, status, now: *now };
        serde_json::to_string(&explain(commit, moment)?).map_err(|error| error.to_string())
    }

    pub(super) fn obey(&mut self, command: &Command) -> Result<String, String> {
        match command {
            Command::Poll => {
                self.host.remotes.want();
                Ok("the remotes are asked now".into())
            }
            Command::Explain(commit) => self.explain(commit.as_ref()),
            Command::Ask(asked) => {
                let Some(seen) = &self.seen else { return Err("the agent is starting".into()) };
                let now = clock::now();
                let (memory, said) = request::answer(asked, &self.policy, &self.memory, seen, now)?;
                self.journal
                    .save(&memory)
                    .map_err(|error| format!("cannot write the journal: {error}"))?;
                self.memory = memory;
                if matches!(asked, Request::Retry(_)) {
                    // What was refused is looked at again now.
                    self.host.forget_preflight();
                }
                tracing::info!(?asked, "{said}");
                Ok(said)
            }
        }
    }

    pub(super) fn show(&mut self, mut status: Status) {
        log::asides(self.shown.borrow().as_ref().map(|shown| &shown.status), &status);
        status.notes.extend(self.trouble.clone());
        status.notes.extend(self.host.notes());
        status.notes.extend(self.configuration.wrong.clone());
        status.notes.extend(self.host.beside.notes());
        status.notes.extend(self.notes.all());
        status.agent.unconfined = self.host.unconfined();
        self.publish(status);
    }

    /// Shows the last status again, with the reason why the loop cannot turn.
    pub(super) fn show_trouble(&mut self) {
        let last = self.shown.borrow().clone();
        if let (Some(last), Some(trouble)) = (last, self.trouble.clone()) {
            let mut status = last.status.clone();
            if !status.notes.contains(&trouble) {
                status.notes.push(trouble);
                self.publish(status);
            }
        }
    }

    pub(super) fn publish(&mut self, status: Status) {
        // Most turns change nothing but times, and this is a good part of what one costs.
        match &*self.shown.borrow() {
            Some(shown) if shown.status == status => {}
            Some(shown) if shown.status.differs_in_times_only(&status) => {
                self.metrics.observe_times(&status);
            }
            Some(_) | None => self.metrics.observe(&status),
        }
        let published = |status: &Status| {
            status.publish.as_ref().map(|it| (it.backlog == 0, it.last_error.clone()))
        };
        let written = self.said.last().map(published);
        let changed = self.said.is_news(&status, clock::mono());
        if changed {
            let deployment = status.deployment.as_ref();
            tracing::info!(
                state = status.state.as_str(),
                commit =
                    status.desired.as_ref().map(|desired| tracing::field::display(desired.commit)),
                deployment = deployment.map(|deployment| deployment.id.as_str()),
                stage = deployment.map(|deployment| deployment.stage.as_str()),
                cause = status.held.as_ref().map(|held| held.cause.word()),
                lift = status.lift.as_deref(),
                "{}",
                status.reason
            );
        }
        if changed || written != Some(published(&status)) {
            // For people who ask while the agent is down.
            let written = files::write_json(&self.status_file, &status, Durability::Passing);
            if let Err(error) = written {
                tracing::warn!(%error, "cannot write {}", self.status_file.display());
            }
            self.said.learn(&status);
        }
        self.shown.send_if_modified(|shown| {
            let history = self.memory.history.clone();
            let same = shown
                .as_ref()
                .is_some_and(|shown| shown.status == status && shown.history == history);
            if !same {
                *shown = Some(Arc::new(Shown { status, history }));
            }
            !same
        });
    }
}

//! Queue of commit statuses: which commit gets which, and when it is tried again.
//!
//! Only the newest status of a commit matters: one that is overtaken while it
//! waits is not sent. Commits wait for each other no longer than a request
//! takes: one that the server will not have holds up no other.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::cursor::Mark;
use super::forgejo::{CommitState, CommitStatus, Forgejo};
use super::{Notes, Shows};
use crate::control::Shown;
use crate::core::backoff::pause;
use crate::core::fault::Fault;
use crate::core::job::{DeploymentId, Ending};
use crate::core::memory::Entry;
use crate::core::plain::clean;
use crate::core::plain::one_line;
use crate::core::policy::Operation;
use crate::core::status::{self, Stage};
use crate::core::types::Commit;
use crate::jitter::luck;

/// Longest description, in characters: lists of commits cut longer ones anyway.
const LONGEST: usize = 140;

/// Time limits for sending commit statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryLimits {
    /// Time limit of one request.
    pub request: Duration,
    /// Pause after the first failure; doubles from there.
    pub first: Duration,
    /// Longest pause between two tries.
    pub max: Duration,
    /// Time after which a status is given up.
    pub give_up: Duration,
}

impl Default for RetryLimits {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(20),
            first: Duration::from_secs(2),
            max: Duration::from_secs(5 * 60),
            give_up: Duration::from_secs(24 * 3600),
        }
    }
}

/// A status that is still to be sent.
struct Waiting {
    status: CommitStatus,
    /// Deployment whose end the status tells; `None`: the deployment is pending.
    tells: Option<DeploymentId>,
    failures: u32,
    since: Instant,
    not_before: Instant,
}

/// Statuses that are still to be sent. At most as many commits as the history has, and one more.
struct Queue {
    context: String,
    mark: Mark,
    /// Mark up to where the history was looked at.
    seen: Mark,
    waiting: BTreeMap<Commit, Waiting>,
    /// Entries that were looked at, and perhaps not told yet.
    open: VecDeque<Entry>,
    /// Point of the deployment under way that was last told.
    reached: Option<Reached>,
}

/// How far a deployment is.
#[derive(Clone, PartialEq, Eq)]
struct Reached {
    id: String,
    commit: Commit,
    point: Point,
}

/// Point of a deployment that is told before it ends.
#[derive(Clone, PartialEq, Eq)]
enum Point {
    Stage(Stage),
    /// Nothing is under way: what it brought awaits a reboot.
    AwaitsBoot,
}

/// Sends what is news, for as long as the agent runs.
pub(super) async fn run(
    forgejo: Forgejo,
    context: String,
    limits: RetryLimits,
    mark: Mark,
    mut shows: Shows,
    notes: Notes,
) {
    let seen = mark.clone();
    let (waiting, open) = (BTreeMap::new(), VecDeque::new());
    let mut queue = Queue { context, mark, seen, waiting, open, reached: None };
    loop {
        let shown = shows.borrow_and_update().clone();
        if let Some(shown) = shown {
            queue.look(&shown);
        }
        let Some((commit, due)) = queue.next() else {
            match shows.changed().await {
                Ok(()) => continue,
                Err(_) => return,
            }
        };
        if due > Instant::now() {
            tokio::select! {
                () = sleep_until(due) => {}
                changed = shows.changed() => match changed {
                    Ok(()) => {}
                    Err(_) => return,
                },
            }
            // It may have been overtaken meanwhile.
            continue;
        }
        queue.send(&forgejo, commit, &limits, &notes).await;
    }
}

impl Queue {
    fn look(&mut self, shown: &Shown) {
        for entry in self.seen.news(&shown.history).to_vec() {
            let status = CommitStatus {
                state: state(&entry),
                description: ended(&entry),
                context: self.context.clone(),
            };
            self.put(entry.commit, status, Some(entry.id.clone()));
            self.seen.step_over(&entry);
            self.open.push_back(entry);
        }
        self.look_at_deployment(shown);
        self.advance();
    }

    fn look_at_deployment(&mut self, shown: &Shown) {
        let status = &shown.status;
        let reached = match &status.deployment {
            Some(deployment) => Reached {
                id: deployment.id.clone(),
                commit: deployment.commit,
                point: Point::Stage(deployment.stage.clone()),
            },
            // It has not ended either, if it was left to the next boot.
            None => match &self.reached {
                Some(last)
                    if status.state == status::State::RebootRequired
                        && shown.history.iter().all(|entry| entry.id.as_str() != last.id) =>
                {
                    Reached { point: Point::AwaitsBoot, ..last.clone() }
                }
                Some(_) | None => return,
            },
        };
        if self.reached.as_ref() == Some(&reached) {
            return;
        }
        let description = few_words(under_way(&reached.point, &status.reason));
        let context = self.context.clone();
        let said = CommitStatus { state: CommitState::Pending, description, context };
        self.put(reached.commit, said, None);
        self.reached = Some(reached);
    }

    /// Queues a status. It takes the place of an older one, and its pause:
    /// the server is the same.
    fn put(&mut self, commit: Commit, status: CommitStatus, tells: Option<DeploymentId>) {
        let now = Instant::now();
        let older = self.waiting.remove(&commit);
        let (failures, not_before) = older.map_or((0, now), |old| (old.failures, old.not_before));
        let waiting = Waiting { status, tells, failures, since: now, not_before };
        self.waiting.insert(commit, waiting);
    }

    fn next(&self) -> Option<(Commit, Instant)> {
        let due = self.waiting.iter().map(|(commit, waiting)| (*commit, waiting.not_before));
        due.min_by_key(|(_, not_before)| *not_before)
    }

    async fn send(
        &mut self,
        forgejo: &Forgejo,
        commit: Commit,
        limits: &RetryLimits,
        notes: &Notes,
    ) {
        let Some(waiting) = self.waiting.get_mut(&commit) else { return };
        let state = waiting.status.state;
        match forgejo.send(commit, &waiting.status, limits.request).await {
            Ok(()) => {
                tracing::debug!(%commit, ?state, "the commit status was sent");
                notes.set("report", None);
                self.waiting.remove(&commit);
            }
            Err(failed) => {
                waiting.failures = waiting.failures.saturating_add(1);
                let paused = pause(limits.first, limits.max, waiting.failures, luck());
                waiting.not_before = Instant::now() + paused;
                let given_up = failed.is_final() || waiting.since.elapsed() >= limits.give_up;
                let next = if given_up { "given up" } else { "tried again" };
                let short = commit.short();
                let note = format!("commit status of {short} not sent, {next}: {failed}");
                if given_up || waiting.failures == 1 {
                    tracing::warn!(%commit, ?state, "{note}");
                } else {
                    tracing::debug!(%commit, ?state, "{note}");
                }
                notes.set("report", Some(note));
                if given_up {
                    self.waiting.remove(&commit);
                }
            }
        }
        self.advance();
    }

    /// Remembers up to where nothing waits any more.
    fn advance(&mut self) {
        let mut done = None;
        while let Some(entry) = self.open.front() {
            let waits = self.waiting.get(&entry.commit);
            if waits.is_some_and(|waiting| waiting.tells.as_ref() == Some(&entry.id)) {
                break;
            }
            done = self.open.pop_front();
        }
        if let Some(entry) = done {
            self.mark.told(&entry);
        }
    }
}

fn state(entry: &Entry) -> CommitState {
    let blames_the_commit = entry.fault.is_none_or(Fault::is_of_the_commit);
    match entry.verdict {
        Ending::Good => CommitState::Success,
        Ending::RolledBack => CommitState::Failure,
        Ending::Failed if blames_the_commit => CommitState::Failure,
        Ending::Failed => CommitState::Error,
        Ending::Interrupted => CommitState::Error,
        Ending::Superseded => CommitState::Warning,
    }
}

/// Describes in a few words what a deployment does.
fn under_way<'a>(point: &Point, reason: &'a str) -> &'a str {
    match point {
        Point::Stage(Stage::Realise) => "building or fetching the system",
        Point::Stage(Stage::Activate) => "activating",
        Point::Stage(Stage::Verify) => "activated; checking that it works",
        Point::Stage(Stage::Commit) => "it works; making it the boot default",
        Point::Stage(Stage::Rollback) => "putting the old system back",
        // Nothing was touched yet.
        Point::Stage(Stage::Gate | Stage::Other(_)) => reason,
        Point::AwaitsBoot => "waits for a reboot",
    }
}

fn ended(entry: &Entry) -> String {
    let cause = entry.cause.as_deref().filter(|cause| !cause.is_empty());
    let how = match (entry.verdict, entry.operation) {
        (Ending::Good, Operation::Test) => "verified; runs until the next boot",
        (Ending::Good, Operation::Switch | Operation::Boot) => "runs, and was verified",
        (Ending::RolledBack, _) => "put back",
        (Ending::Failed, _) => "failed",
        (Ending::Interrupted, _) => "interrupted",
        (Ending::Superseded, _) => "superseded",
    };
    few_words(&match cause {
        Some(cause) => format!("{how}: {cause}"),
        None => how.into(),
    })
}

/// Puts a text on one line, without what may be secret in a URL, and not too long.
fn few_words(text: &str) -> String {
    let line = clean(text);
    let mut words: Vec<String> = Vec::new();
    for word in line.split(' ') {
        words.push(match (word.split_once("://"), word.rfind('@')) {
            (Some((scheme, rest)), Some(_)) => match rest.rsplit_once('@') {
                Some((_, host)) => format!("{scheme}://***@{host}"),
                None => word.to_owned(),
            },
            (_, _) => word.to_owned(),
        });
    }
    let line = one_line(&words.join(" "));
    if line.chars().count() <= LONGEST {
        return line;
    }
    line.chars().take(LONGEST - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Report;
    use crate::wording::fixture::{entry, well};
    use std::sync::Arc;

    #[tokio::test]
    async fn what_is_not_taken_for_long_is_given_up_for_good() {
        let dir = tempfile::tempdir().unwrap();
        let token_file = dir.path().join("token");
        std::fs::write(&token_file, "secret").unwrap();
        let forgejo = Forgejo::new(&Report {
            // Nobody listens there.
            forgejo: "http://127.0.0.1:1".into(),
            repository: "infra/nixos".into(),
            token_file,
            ca_file: None,
        });
        let limits = RetryLimits {
            request: Duration::from_secs(5),
            first: Duration::from_millis(20),
            max: Duration::from_millis(20),
            give_up: Duration::from_millis(100),
        };
        let history = vec![entry(1, Ending::Good, None, 20), entry(2, Ending::Failed, None, 10)];
        let shown = Shown { status: well(), history: Arc::new(history.clone()) };
        let (_shows, shown) = tokio::sync::watch::channel(Some(Arc::new(shown)));
        let file = dir.path().join("told.json");
        let open = || Mark::open(file.clone(), &[]).unwrap();
        let notes = Notes::new(|| ());
        let running = run(forgejo, "fort-agent/joker".into(), limits, open(), shown, notes.clone());
        let given_up = async {
            while !open().news(&history).is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            () = running => panic!("it ends"),
            over = tokio::time::timeout(Duration::from_secs(20), given_up) => over.unwrap(),
        }
        let notes = notes.all();
        assert!(notes.len() == 1 && notes[0].contains("cannot be reached"), "{notes:?}");
    }

    #[test]
    fn what_the_host_itself_prevents_is_no_failure_of_the_commit() {
        let state_of = |fault| state(&Entry { fault, ..entry(1, Ending::Failed, None, 0) });
        assert_eq!(state_of(None), CommitState::Failure);
        assert_eq!(state_of(Some(Fault::Build)), CommitState::Failure);
        assert_eq!(state_of(Some(Fault::Memory)), CommitState::Error);
    }

    #[test]
    fn an_end_is_told_in_a_few_words() {
        let told = |verdict, cause| ended(&entry(1, verdict, cause, 0));
        assert_eq!(told(Ending::Good, None), "runs, and was verified");
        assert_eq!(
            told(Ending::RolledBack, Some("check web: 503\nand more")),
            "put back: check web: 503 and more"
        );
        let many = "ä".repeat(300);
        let long = told(Ending::Failed, Some(&many));
        assert_eq!(long.chars().count(), 140);
        assert!(long.starts_with("failed: ä") && long.ends_with('…'));
        assert_eq!(
            told(Ending::Failed, Some("cannot fetch https://me:s3cret@x.org/a@b now")),
            "failed: cannot fetch https://***@b now"
        );
    }
}

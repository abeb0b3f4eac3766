//! The remotes of this host: asks them for their heads, and has what is new
//! fetched. All of it beside the loop, each with its own deadline.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Event;
use super::beside::{Beside, Work};
use crate::chance::luck;
use crate::clock;
use crate::config::Config;
use crate::core::remedy::Remedy;
use crate::core::seen::{self, Heads, Relation, Relations};
use crate::core::types::Commit;
use crate::git::{self, Connection, FetchError, child};
use crate::threads::Lane;

/// A fetch may be large and slow; each silence in it is bounded by the
/// remote's own timeout.
const FETCH: Duration = Duration::from_secs(3600);
/// Looking up relations takes milliseconds.
const COMPARE: Duration = Duration::from_secs(60);
/// Relations kept.
const RELATIONS: usize = 1000;

/// The remotes and what they answered.
pub(super) struct Remotes {
    beside: Beside,
    shared: Arc<Shared>,
    slots: Vec<Slot>,
    relations: Relations,
    comparing: bool,
    reclone: bool,
    /// Why what is new cannot be written down here, if that was tried last.
    unwritten: Option<String>,
    /// The accepted head: the clone must not lose it.
    keep: Vec<Commit>,
}

/// What does not change while the agent runs.
struct Shared {
    agent: PathBuf,
    clone: PathBuf,
    release: String,
    testing: Option<String>,
}

struct Slot {
    remote: git::Remote,
    seen: seen::Remote,
    connection: Option<Connection>,
    /// A listing cannot be cut off: there is one at a time.
    lane: Lane,
    /// The heads that the clone has.
    fetched: Option<Heads>,
}

/// What came of asking a remote.
pub(super) struct Polled {
    index: usize,
    connection: Option<Connection>,
    answer: Result<Answer, Failed>,
}

/// Why a poll came to nothing.
struct Failed {
    said: String,
    /// It is this host's own disk, and not the remote.
    here: bool,
    remedy: Remedy,
}

impl From<String> for Failed {
    fn from(said: String) -> Self {
        Self { said, here: false, remedy: Remedy::Wait }
    }
}

impl From<git::PollError> for Failed {
    fn from(error: git::PollError) -> Self {
        Self { remedy: error.remedy(), ..error.to_string().into() }
    }
}

struct Answer {
    heads: Heads,
    relations: Vec<((Commit, Commit), Relation)>,
    fetched: bool,
    recloned: bool,
}

/// What came of looking up relations.
pub(super) type Compared = Result<Vec<((Commit, Commit), Relation)>, String>;

impl Remotes {
    pub(super) fn new(config: &Config, agent: PathBuf, beside: Beside) -> Self {
        let slots = config.remotes.iter().map(|remote| Slot {
            remote: git_remote(remote),
            seen: seen::Remote { luck: luck(), ..seen::Remote::default() },
            connection: None,
            lane: Lane::new(1),
            fetched: None,
        });
        Self {
            beside,
            slots: slots.collect(),
            shared: Arc::new(Shared {
                agent,
                clone: config.state_dir.join("git"),
                release: config.branch.release.clone(),
                testing: config.branch.testing.clone(),
            }),
            relations: Relations::default(),
            comparing: false,
            reclone: false,
            unwritten: None,
            keep: Vec::new(),
        }
    }

    pub(super) fn seen(&self) -> Vec<seen::Remote> {
        self.slots.iter().map(|slot| slot.seen.clone()).collect()
    }

    pub(super) fn relations(&self) -> Relations {
        self.relations.clone()
    }

    pub(super) fn unwritten(&self) -> Option<String> {
        self.unwritten.clone()
    }

    pub(super) fn comparing(&self) -> bool {
        self.comparing
    }

    /// A person wants all of them asked now.
    pub(super) fn want(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.seen.wanted = true);
    }

    /// The clone was found damaged: it is fetched anew.
    pub(super) fn distrust_clone(&mut self) {
        if !self.reclone {
            self.reclone = true;
            self.slots.iter_mut().for_each(|slot| {
                slot.fetched = None;
                slot.seen.wanted = true;
            });
        }
    }

    /// Starts to ask one; its answer comes as an event.
    pub(super) fn poll(&mut self, index: usize, accepted: Option<Commit>) {
        let Some(slot) = self.slots.get_mut(index).filter(|slot| !slot.seen.busy) else { return };
        slot.seen.busy = true;
        slot.seen.wanted = false;
        let (shared, remote) = (self.shared.clone(), slot.remote.clone());
        self.keep = accepted.into_iter().collect();
        let (connection, fetched) = (slot.connection.take(), slot.fetched);
        let reclone = self.reclone;
        let lane = slot.lane.clone();
        let doing = async move {
            Ok(shared.ask(&lane, remote, connection, fetched, accepted, reclone).await)
        };
        self.beside.run(Work::Poll, doing, move |asked| {
            let (connection, answer) = asked.unwrap_or_else(|error| (None, Err(error.into())));
            Event::Polled(Box::new(Polled { index, connection, answer }))
        });
    }

    /// Takes an answer in. Says which remote gave it.
    pub(super) fn polled(&mut self, polled: Polled) -> (String, Result<(), String>) {
        let Polled { index, connection, answer } = polled;
        let now = clock::now();
        if answer.as_ref().is_ok_and(|answer| answer.recloned) {
            // It has nothing of the others any more.
            self.slots.iter_mut().for_each(|slot| slot.fetched = None);
        }
        let slot = &mut self.slots[index];
        slot.connection = connection;
        slot.seen.busy = false;
        slot.seen.asked = Some(now.mono);
        slot.seen.luck = luck();
        let name = slot.remote.name.clone();
        match answer {
            Ok(answer) => {
                slot.fetched = Some(answer.heads);
                slot.seen.heads = Some(answer.heads);
                slot.seen.answered = Some(now.wall);
                slot.seen.failures = 0;
                slot.seen.error = None;
                self.unwritten = None;
                if answer.fetched {
                    self.reclone = false;
                }
                self.learn(answer.relations);
                (name, Ok(()))
            }
            Err(Failed { said, here, remedy }) => {
                slot.seen.failures = slot.seen.failures.saturating_add(1);
                slot.seen.error = Some(said.clone());
                slot.seen.remedy = remedy;
                if here {
                    self.unwritten = Some(said.clone());
                }
                (name, Err(said))
            }
        }
    }

    /// Starts to look up a relation; it comes as an event.
    pub(super) fn compare(&mut self, older: Commit, newer: Commit) {
        let (shared, keep) = (self.shared.clone(), self.keep.clone());
        let Some(remote) = self.slots.first().map(|slot| slot.remote.clone()) else { return };
        self.comparing = true;
        let doing = async move {
            let request = git::Request {
                branches: Vec::new(),
                ..shared.request(remote, vec![(older, newer)], keep, false)
            };
            let reply = child::run(&shared.agent, &request, COMPARE).await;
            reply.map(related).map_err(|error| error.to_string())
        };
        self.beside.run(Work::Compare, doing, Event::Compared);
    }

    pub(super) fn compared(&mut self, compared: Compared) {
        self.comparing = false;
        match compared {
            Ok(relations) => self.learn(relations),
            // That was said.
            Err(_) => self.distrust_clone(),
        }
    }

    fn learn(&mut self, relations: Vec<((Commit, Commit), Relation)>) {
        if relations.is_empty() {
            return;
        }
        let known = Arc::make_mut(&mut self.relations.0);
        if known.len() > RELATIONS {
            known.clear();
        }
        known.extend(relations);
    }
}

impl Shared {
    async fn ask(
        &self,
        lane: &Lane,
        remote: git::Remote,
        connection: Option<Connection>,
        fetched: Option<Heads>,
        accepted: Option<Commit>,
        reclone: bool,
    ) -> (Option<Connection>, Result<Answer, Failed>) {
        let names = self.names();
        let limit = remote.timeout * 3 + Duration::from_secs(5);
        let asked = {
            let remote = remote.clone();
            lane.run(limit, move || listed(&remote, connection, &names))
        };
        let (connection, listed) = match asked.await {
            Ok(Ok((connection, heads))) => (connection, heads),
            Ok(Err(error)) => return (None, Err(error.into())),
            Err(error) => return (None, Err(error.to_string().into())),
        };
        let heads = self.heads(|branch| listed.get(&reference(branch)).copied());
        if fetched == Some(heads) && !reclone {
            return (
                Some(connection),
                Ok(Answer { heads, relations: Vec::new(), fetched: false, recloned: false }),
            );
        }
        let answer = self.fetch(remote, heads, accepted, reclone).await;
        (Some(connection), answer)
    }

    async fn fetch(
        &self,
        remote: git::Remote,
        heads: Heads,
        accepted: Option<Commit>,
        reclone: bool,
    ) -> Result<Answer, Failed> {
        let pairs =
            [(accepted, heads.release), (accepted, heads.testing), (heads.release, heads.testing)];
        let compare = pairs.into_iter().filter_map(|(older, newer)| Some((older?, newer?)));
        let keep = accepted.into_iter().collect();
        let request = self.request(remote, compare.collect(), keep, reclone);
        let reply = child::run(&self.agent, &request, FETCH).await;
        let reply = reply.map_err(|error| match error {
            FetchError::DiskFull | FetchError::Local(_) => {
                let clone = self.clone.display();
                let said = format!("nothing can be fetched into {clone}: {error}");
                Failed { here: true, ..said.into() }
            }
            FetchError::Remote(error) => error.into(),
            FetchError::Damaged(_)
            | FetchError::Busy
            | FetchError::TimedOut { .. }
            | FetchError::Crashed { .. } => error.to_string().into(),
        })?;
        if let Some(note) = &reply.note {
            tracing::warn!("{note}");
        }
        // What was fetched may be newer than what was listed.
        let heads = self.heads(|branch| reply.heads.get(branch).copied());
        let recloned = reply.recloned;
        Ok(Answer { heads, relations: related(reply), fetched: true, recloned })
    }

    fn request(
        &self,
        remote: git::Remote,
        compare: Vec<(Commit, Commit)>,
        keep: Vec<Commit>,
        reclone: bool,
    ) -> git::Request {
        let branches = self.branches();
        git::Request { clone: self.clone.clone(), remote, branches, compare, keep, reclone }
    }

    fn branches(&self) -> Vec<String> {
        std::iter::once(self.release.clone()).chain(self.testing.clone()).collect()
    }

    fn names(&self) -> Vec<String> {
        self.branches().iter().map(|branch| reference(branch)).collect()
    }

    fn heads(&self, head: impl Fn(&str) -> Option<Commit>) -> Heads {
        Heads { release: head(&self.release), testing: self.testing.as_deref().and_then(head) }
    }
}

/// One listing, on the kept connection; if that has gone stale, on a new one.
fn listed(
    remote: &git::Remote,
    kept: Option<Connection>,
    names: &[String],
) -> Result<(Connection, BTreeMap<String, Commit>), git::PollError> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    if let Some(mut connection) = kept
        && let Ok(heads) = connection.heads(&names)
    {
        return Ok((connection, heads));
    }
    let mut connection = Connection::open(remote)?;
    let heads = connection.heads(&names)?;
    Ok((connection, heads))
}

fn reference(branch: &str) -> String {
    format!("refs/heads/{branch}")
}

fn related(reply: git::Reply) -> Vec<((Commit, Commit), Relation)> {
    reply.relations.into_iter().map(|r| ((r.older, r.newer), r.relation)).collect()
}

/// The remote as git wants it.
pub(super) fn git_remote(remote: &crate::config::Remote) -> git::Remote {
    git::Remote {
        name: remote.name.clone(),
        url: remote.url.clone(),
        username: remote.username.clone(),
        token_file: remote.token_file.clone(),
        ca_file: remote.ca_file.clone(),
        ssh_key_file: remote.ssh_key_file.clone(),
        known_hosts: remote.known_hosts.clone(),
        timeout: remote.timeout,
    }
}

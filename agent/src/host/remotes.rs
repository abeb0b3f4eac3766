//! The remotes of this host: asks them for their heads, and has what is new
//! fetched. All of it beside the loop, each with its own deadline.

mod asking;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use self::asking::related;
use super::Event;
use super::tasks::{Beside, Work};
use crate::clock;
use crate::config::{Config, Retry};
use crate::core::backoff;
use crate::core::observed::{self, Heads, Oversize, Relation, Relations};
use crate::core::remedy::Remedy;
use crate::core::types::{Commit, Mono};
use crate::git::{self, Connection, Exceeded, FetchError, child};
use crate::jitter::luck;
use crate::threads::Lane;

/// Limit of a fetch, which may be large and slow; each silence in it is bounded by the
/// remote's own timeout.
const FETCH: Duration = Duration::from_secs(3600);
/// Limit of a look-up of relations, which takes milliseconds.
const COMPARE: Duration = Duration::from_secs(60);
/// Largest number of relations kept; past it all are forgotten.
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

/// Part of the remotes' state that does not change while the agent runs.
struct Shared {
    agent: PathBuf,
    clone: PathBuf,
    release: String,
    testing: Option<String>,
    limits: git::Limits,
    submodules: bool,
    retry: Retry,
}

struct Slot {
    remote: git::Remote,
    seen: observed::Remote,
    connection: Option<Connection>,
    /// Thread for the listing, which cannot be cut off: there is one at a time.
    lane: Lane,
    /// The heads that the clone has.
    fetched: Option<Heads>,
    /// Heads that the clone does not have, since they are too large.
    refused: Option<Refused>,
}

/// Heads that were listed and not fetched as a whole. They are not asked for again
/// at each poll: that may be a gigabyte, and comes to the same.
#[derive(Clone)]
struct Refused {
    listed: Heads,
    why: Oversize,
    times: u32,
    again: Mono,
}

/// Result of asking a remote, with the connection if it can be used again.
pub(super) struct Polled {
    index: usize,
    connection: Option<Connection>,
    answer: Result<PollAnswer, Failed>,
}

/// Why a poll came to nothing.
struct Failed {
    said: String,
    /// Whether this host's own disk is to blame, and not the remote.
    here: bool,
    remedy: Remedy,
}

/// Why nothing was fetched.
enum Unfetched {
    Failed(Failed),
    Exceeds(Exceeded),
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

struct PollAnswer {
    heads: Heads,
    relations: Vec<((Commit, Commit), Relation)>,
    fetched: bool,
    recloned: bool,
    refused: Option<Refused>,
}

/// State that a poll starts from.
struct Known {
    connection: Option<Connection>,
    fetched: Option<Heads>,
    refused: Option<Refused>,
    accepted: Option<Commit>,
    reclone: bool,
}

/// Relations that were looked up, or the error message.
pub(super) type Compared = Result<Vec<((Commit, Commit), Relation)>, String>;

impl Remotes {
    pub(super) fn new(config: &Config, agent: PathBuf, beside: Beside) -> Self {
        let slots = config.remotes.iter().map(|remote| Slot {
            remote: git_remote(remote),
            seen: observed::Remote { luck: luck(), ..observed::Remote::default() },
            connection: None,
            lane: Lane::new(1),
            fetched: None,
            refused: None,
        });
        Self {
            beside,
            slots: slots.collect(),
            shared: Arc::new(Shared {
                agent,
                clone: config.state_dir.join("git"),
                release: config.branch.release.clone(),
                testing: config.branch.testing.clone(),
                limits: config.git,
                submodules: config.system.submodules,
                retry: config.retry.clone(),
            }),
            relations: Relations::default(),
            comparing: false,
            reclone: false,
            unwritten: None,
            keep: Vec::new(),
        }
    }

    pub(super) fn seen(&self) -> Vec<observed::Remote> {
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

    /// Has all remotes asked now, as a person wants it.
    pub(super) fn want(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.seen.wanted = true);
    }

    /// Has the clone fetched anew, which was found damaged.
    pub(super) fn distrust_clone(&mut self) {
        if !self.reclone {
            self.reclone = true;
            self.slots.iter_mut().for_each(|slot| {
                slot.fetched = None;
                slot.seen.wanted = true;
            });
        }
    }

    /// Starts to ask one remote; its answer comes as an event.
    pub(super) fn poll(&mut self, index: usize, accepted: Option<Commit>) {
        let Some(slot) = self.slots.get_mut(index).filter(|slot| !slot.seen.busy) else { return };
        slot.seen.busy = true;
        // Who asks for it wants to know now.
        let refused = slot.refused.clone().filter(|_| !slot.seen.wanted);
        slot.seen.wanted = false;
        let (shared, remote) = (self.shared.clone(), slot.remote.clone());
        self.keep = accepted.into_iter().collect();
        let (connection, fetched) = (slot.connection.take(), slot.fetched);
        let reclone = self.reclone;
        let lane = slot.lane.clone();
        let known = Known { connection, fetched, refused, accepted, reclone };
        let doing = async move { Ok(shared.ask(&lane, remote, known).await) };
        self.beside.run(Work::Poll, doing, move |asked| {
            let (connection, answer) = asked.unwrap_or_else(|error| (None, Err(error.into())));
            Event::Polled(Box::new(Polled { index, connection, answer }))
        });
    }

    /// Takes in the answer of a remote. Returns the remote's name, and the error message
    /// if it failed.
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
                slot.seen.oversize = answer.refused.as_ref().map(|refused| refused.why.clone());
                slot.refused = answer.refused;
                let whole = slot.seen.oversize.as_ref().is_none_or(|it| it.testing);
                if whole {
                    slot.fetched = Some(answer.heads);
                    slot.seen.heads = Some(answer.heads);
                }
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

    /// Starts to look up a relation; the result comes as an event.
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

/// Returns the remote in the form that the git module wants.
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

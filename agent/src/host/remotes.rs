//! The remotes of this host: asks them for their heads, and has what is new
//! fetched. All of it beside the loop, each with its own deadline.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

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
    answer: Result<Answer, Failed>,
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

struct Answer {
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

impl Shared {
    async fn ask(
        &self,
        lane: &Lane,
        remote: git::Remote,
        known: Known,
    ) -> (Option<Connection>, Result<Answer, Failed>) {
        let Known { connection, fetched, refused, accepted, reclone } = known;
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
        let refused = refused.filter(|refused| refused.listed == heads);
        let paused = refused.as_ref().is_some_and(|refused| clock::mono() < refused.again);
        if paused || (fetched == Some(heads) && !reclone) {
            let heads = if paused { fetched.unwrap_or_default() } else { heads };
            let (fetched, recloned, relations) = (false, false, Vec::new());
            return (Some(connection), Ok(Answer { heads, relations, fetched, recloned, refused }));
        }
        let answer = self.fetch_what_fits(remote, heads, accepted, reclone).await;
        let times = refused.map_or(0, |refused| refused.times);
        let answer = answer.map(|(mut answer, oversize)| {
            answer.refused = oversize.map(|why| self.refuse(heads, why, times + 1));
            answer
        });
        (Some(connection), answer)
    }

    /// Makes a record of heads that are not asked for again at once.
    fn refuse(&self, listed: Heads, why: Oversize, times: u32) -> Refused {
        let pause = backoff::pause(self.retry.first, self.retry.max, times, luck());
        Refused { listed, why, times, again: clock::mono().plus(pause) }
    }

    /// Fetches, and returns which head was too large. A testing branch keeps no release
    /// back: others may push to it.
    async fn fetch_what_fits(
        &self,
        remote: git::Remote,
        heads: Heads,
        accepted: Option<Commit>,
        reclone: bool,
    ) -> Result<(Answer, Option<Oversize>), Failed> {
        let too_large = |head: Commit, testing: bool, limit: Exceeded| Oversize {
            head,
            testing,
            found: limit.to_string(),
            lift: limit.lift().into(),
        };
        let all = self.fetch(remote.clone(), self.branches(), heads, accepted, reclone).await;
        let limit = match all {
            Ok(answer) => return Ok((answer, None)),
            Err(Unfetched::Failed(failed)) => return Err(failed),
            Err(Unfetched::Exceeds(limit)) => limit,
        };
        if let (Some(_), Some(head)) = (heads.release, heads.testing) {
            let release = Heads { testing: None, ..heads };
            let branches = vec![self.release.clone()];
            match self.fetch(remote, branches, release, accepted, reclone).await {
                Ok(answer) => return Ok((answer, Some(too_large(head, true, limit)))),
                Err(Unfetched::Failed(failed)) => return Err(failed),
                Err(Unfetched::Exceeds(_)) => {}
            }
        }
        let (relations, fetched, recloned) = (Vec::new(), false, false);
        let answer = Answer { heads, relations, fetched, recloned, refused: None };
        match (heads.release, heads.testing) {
            (Some(head), _) => Ok((answer, Some(too_large(head, false, limit)))),
            (None, Some(head)) => Ok((answer, Some(too_large(head, true, limit)))),
            // Nothing was asked for; what is too large was there before.
            (None, None) => Err(FetchError::Exceeds(limit).to_string().into()),
        }
    }

    async fn fetch(
        &self,
        remote: git::Remote,
        branches: Vec<String>,
        heads: Heads,
        accepted: Option<Commit>,
        reclone: bool,
    ) -> Result<Answer, Unfetched> {
        let pairs =
            [(accepted, heads.release), (accepted, heads.testing), (heads.release, heads.testing)];
        let compare = pairs.into_iter().filter_map(|(older, newer)| Some((older?, newer?)));
        let keep = accepted.into_iter().collect();
        let request =
            git::Request { branches, ..self.request(remote, compare.collect(), keep, reclone) };
        let reply = child::run(&self.agent, &request, FETCH).await;
        let reply = reply.map_err(|error| match error {
            FetchError::Exceeds(limit) => Unfetched::Exceeds(limit),
            FetchError::DiskFull | FetchError::Local(_) | FetchError::NoRoom(_) => {
                let clone = self.clone.display();
                let said = format!("nothing can be fetched into {clone}: {error}");
                Unfetched::Failed(Failed { here: true, ..said.into() })
            }
            FetchError::Remote(error) => Unfetched::Failed(error.into()),
            FetchError::Unreadable(_)
            | FetchError::Damaged(_)
            | FetchError::Busy
            | FetchError::TimedOut { .. }
            | FetchError::Crashed { .. } => Unfetched::Failed(error.to_string().into()),
        })?;
        if let Some(note) = &reply.note {
            tracing::warn!("{note}");
        }
        // What was fetched may be newer than what was listed.
        let heads = self.heads(|branch| reply.heads.get(branch).copied());
        let recloned = reply.recloned;
        Ok(Answer { heads, relations: related(reply), fetched: true, recloned, refused: None })
    }

    fn request(
        &self,
        remote: git::Remote,
        compare: Vec<(Commit, Commit)>,
        keep: Vec<Commit>,
        reclone: bool,
    ) -> git::Request {
        let branches = self.branches();
        let (clone, limits, submodules) = (self.clone.clone(), self.limits, self.submodules);
        git::Request { clone, remote, branches, compare, keep, reclone, submodules, limits }
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

/// Lists heads on the kept connection; if that has gone stale, on a new one.
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

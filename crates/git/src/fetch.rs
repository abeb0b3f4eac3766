//! Brings chosen branches of a remote into a repository that is sound.
//!
//! Always whole history (ancestry is what heads are judged by), no tags,
//! always forced: whether a head may be followed is decided elsewhere.
//!
//! What surprises: files larger than may be read are left out, where the server
//! can do that (`filter`, gitprotocol-v2). Whoever exports a tree that has one
//! says so; nobody else needs them, and a later commit without them arrives. A first
//! clone comes in steps ([`super::steps`]).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use gix::ObjectId;
use gix::progress::Discard;
use gix::protocol::fetch::{Context, Options, Tags};
use gix::protocol::{Handshake, indicate_end_of_interaction};
use gix::refs::transaction::PreviousValue;
use gix_transport::Protocol;
use gix_transport::client::blocking_io::Transport;

use super::child::FetchError;
use super::clone::local;
use super::failure::PollError;
use super::history::{self, ReadFailed, Reader};
use super::http::{Http, Pace};
use super::limits::{Limits, Meter, Stopped, exhausted};
use super::negotiate::Haves;
use super::ssh::Ssh;
use super::steps::Step;
use super::{Remote, poll, repository, steps};
use fort_core::types::Commit;

/// Fetches `branches` into `refs/remotes/REMOTE/BRANCH` and returns where they
/// are now. One that the remote lacks is absent, and its ref deleted.
pub(super) fn fetch(
    repository: &gix::Repository,
    remote: &Remote,
    branches: &[String],
    limits: Limits,
) -> Result<BTreeMap<String, Commit>, FetchError> {
    let names = names(remote, branches)?;
    in_steps(Wanted {
        repository,
        remote,
        what: What::Branches { branches, names },
        limits,
        received: 0,
    })
}

/// Fetches commits that need not be the heads of branches, and all that they stand
/// on. Those that are here already are not asked for.
pub(super) fn fetch_commits(
    repository: &gix::Repository,
    remote: &Remote,
    mut commits: Vec<ObjectId>,
    limits: Limits,
) -> Result<(), FetchError> {
    commits.retain(|commit| !repository.has_object(commit));
    if commits.is_empty() {
        return Ok(());
    }
    let what = What::Commits(commits);
    in_steps(Wanted { repository, remote, what, limits, received: 0 }).map(drop)
}

/// Takes one step after the other. Each has a connection of its own: git's server
/// forgets, within one, that what lies beyond the last step was not sent.
fn in_steps(mut want: Wanted<'_>) -> Result<BTreeMap<String, Commit>, FetchError> {
    loop {
        if let Some(heads) = connected(&mut want)? {
            return Ok(heads);
        }
    }
}

/// Takes a step, and returns where the branches are if it was the last one.
fn connected(want: &mut Wanted<'_>) -> Result<Option<BTreeMap<String, Commit>>, FetchError> {
    let remote = want.remote;
    let url = poll::parse_url(remote)?;
    if poll::is_file(remote) {
        let connected = gix_transport::client::blocking_io::connect::connect(url, <_>::default());
        let mut transport =
            connected.map_err(|e| PollError::Unreachable(remote.presentable(&e.to_string())))?;
        let received = want.receive(&mut transport, None);
        return received.map_err(|e| e.explained(want, None, None));
    }
    if poll::is_ssh(remote) {
        let (ssh, mut transport) = Ssh::start(remote, &url, Pace::Fetch)?;
        let meter = ssh.meter();
        let received = want.receive(&mut transport, Some(&meter));
        return received.map_err(|e| e.explained(want, Some(&meter), ssh.failure()));
    }
    let http = Http::new(remote, Pace::Fetch)?;
    let mut transport = poll::over_http(remote, http.clone())?;
    let received = want.receive(&mut transport, Some(http.meter()));
    received.map_err(|e| e.explained(want, Some(http.meter()), http.failure()))
}

struct Wanted<'a> {
    repository: &'a gix::Repository,
    remote: &'a Remote,
    what: What<'a>,
    limits: Limits,
    /// Bytes of packs so far.
    received: u64,
}

enum What<'a> {
    Branches {
        branches: &'a [String],
        /// Full names of the branches on the remote.
        names: Vec<String>,
    },
    Commits(Vec<ObjectId>),
}

enum Failed {
    Gix(gix::Error),
    Known(FetchError),
}

impl From<gix::Error> for Failed {
    fn from(error: gix::Error) -> Self {
        Self::Gix(error)
    }
}

impl From<ReadFailed> for Failed {
    fn from(trouble: ReadFailed) -> Self {
        Self::Known(trouble.into())
    }
}

impl Failed {
    /// `below`: what went wrong first in the transport.
    fn explained(
        self,
        want: &Wanted<'_>,
        meter: Option<&Meter>,
        below: Option<PollError>,
    ) -> FetchError {
        match (meter.and_then(Meter::stopped), self) {
            (Some(Stopped::Exceeds(limit)), _) => FetchError::Exceeds(limit),
            (Some(Stopped::NoRoom(no_room)), _) => FetchError::NoRoom(no_room),
            (None, Self::Gix(error)) => failed(want, below, &error),
            (None, Self::Known(error)) => error,
        }
    }
}

impl Wanted<'_> {
    fn receive<T: Transport>(
        &mut self,
        transport: &mut T,
        meter: Option<&Meter>,
    ) -> Result<Option<BTreeMap<String, Commit>>, Failed> {
        // Over http the second version is a must, as it is when polling.
        let mut hands = poll::shake_hands(transport, poll::is_ssh(self.remote))?;
        let (branches, names) = match &self.what {
            What::Branches { branches, names } => (branches, names),
            What::Commits(wanted) => {
                let wanted = wanted.clone();
                let last = self.receive_pack(transport, meter, &mut hands, &wanted)?;
                return Ok(last.then(BTreeMap::new));
            }
        };
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let listed = poll::list(transport, &hands, &names)?;
        let heads: BTreeMap<String, Commit> = listed
            .into_iter()
            .filter_map(|(name, commit)| {
                Some((name.strip_prefix("refs/heads/")?.to_owned(), commit))
            })
            .collect();
        self.make_room(branches, &heads)?;
        let ids = heads.values().map(|&commit| history::id(commit));
        // What an earlier fetch brought has come with all that it stands on, unless that
        // ended between two steps.
        let whole = steps::boundary(self.repository)?.is_empty();
        let wanted: Vec<_> = ids.filter(|id| !(whole && self.repository.has_object(id))).collect();
        if !wanted.is_empty() && !self.receive_pack(transport, meter, &mut hands, &wanted)? {
            return Ok(None);
        }
        let reader = Reader { repository: self.repository, limits: self.limits };
        for (branch, &commit) in &heads {
            let id = history::id(commit);
            reader.is_whole(id)?;
            let name = format!("{}{branch}", self.prefix());
            self.repository.reference(name, id, PreviousValue::Any, "")?;
        }
        Ok(Some(heads))
    }

    /// Receives a pack, and returns whether it was the last one.
    fn receive_pack<T: Transport>(
        &mut self,
        transport: &mut T,
        meter: Option<&Meter>,
        hands: &mut Handshake,
        wanted: &[ObjectId],
    ) -> Result<bool, Failed> {
        let repository = self.repository;
        if let Some(meter) = meter {
            meter.expect_pack(self.limits.pack, self.received, &self.packs());
        }
        let tips = repository::heads(repository).map_err(|d| FetchError::Damaged(d.0));
        let mut tips = tips.map_err(Failed::Known)?;
        let before = steps::boundary(repository)?;
        let second = hands.server_protocol_version == Protocol::V2;
        let step = match (tips.is_empty() || !before.is_empty()) && supports(hands, "shallow") {
            true => Step::due(&before),
            false => Step::Whole,
        };
        tips.extend(wanted.iter().copied().filter(|id| repository.has_object(id)));
        let (bytes, objects) = self.receive_step(transport, hands, wanted, tips, step)?;
        self.received += bytes;
        if second {
            // It has all that was asked for; a session may end as it likes.
            let _ = indicate_end_of_interaction(transport, false);
        }
        Ok(objects == 0 || step.is_last(&before, &steps::boundary(repository)?))
    }

    /// Receives what a step asks for, and returns the pack's bytes and how many objects
    /// it has.
    fn receive_step<T: Transport>(
        &self,
        transport: &mut T,
        hands: &mut Handshake,
        wanted: &[ObjectId],
        tips: impl IntoIterator<Item = ObjectId>,
        step: Step,
    ) -> Result<(u64, u32), Failed> {
        let (limits, repository) = (self.limits, self.repository);
        let here = Reader { repository, limits }.history(tips)?;
        let largest = supports(hands, "filter").then(|| limits.object());
        if let Some(largest) = largest {
            repository::leaves_out(repository, largest)
                .map_err(|e| Failed::Known(local("cannot write", &e)))?;
        }
        let second = hands.server_protocol_version == Protocol::V2;
        let mut haves = Haves::new(wanted.to_vec(), largest, second, here);
        let context = Context {
            handshake: hands,
            transport,
            user_agent: ("agent", Some(poll::AGENT.into())),
            trace_packetlines: false,
        };
        let options = Options {
            shallow_file: repository.shallow_file()?,
            shallow: &step.shallow(),
            tags: Tags::None,
            reject_shallow_remote: false,
        };
        let mut written = None;
        gix::protocol::fetch(
            &mut haves,
            |pack, progress, interrupt| {
                let outcome =
                    repository::write_pack(repository, limits, pack, progress, interrupt)?;
                written = Some(outcome);
                Ok(true)
            },
            Discard,
            &AtomicBool::new(false),
            context,
            options,
        )?;
        let Some(written) = written else { return Ok((0, 0)) };
        // Against a garbage collector, which nobody runs here.
        written.keep_path.map_or(Ok(()), std::fs::remove_file).map_err(gix::Error::from_error)?;
        let length = written.data_path.and_then(|path| Some(path.metadata().ok()?.len()));
        Ok((length.unwrap_or(0), written.index.num_objects))
    }

    fn packs(&self) -> PathBuf {
        self.repository.git_dir().join(Path::new("objects/pack"))
    }

    fn prefix(&self) -> String {
        format!("refs/remotes/{}/", self.remote.name)
    }

    /// Deletes the refs of branches that vanished, and those that are in the
    /// way: `a` when there now is `a/b`, and the reverse.
    fn make_room(&self, branches: &[String], heads: &BTreeMap<String, Commit>) -> gix::Result<()> {
        repository::delete_refs(self.repository, &self.prefix(), |old| {
            let vanished = branches.iter().any(|b| b == old) && !heads.contains_key(old);
            let below = |a: &str, b: &str| a.strip_prefix(b).is_some_and(|r| r.starts_with('/'));
            vanished || heads.keys().any(|new| below(new, old) || below(old, new))
        })
    }
}

/// Whether a server can do more than send what is asked for: leave out files by their
/// size (`filter`), or send history down to a depth (`shallow`).
fn supports(hands: &Handshake, what: &str) -> bool {
    match hands.server_protocol_version {
        Protocol::V2 => {
            let fetch = hands.capabilities.capability("fetch");
            fetch.and_then(|fetch| fetch.supports(what)).unwrap_or(false)
        }
        Protocol::V0 | Protocol::V1 => hands.capabilities.contains(what),
    }
}

/// The branches' full names on the remote. Those that they get here are good too.
fn names(remote: &Remote, branches: &[String]) -> Result<Vec<String>, FetchError> {
    let name = &remote.name;
    let names = branches.iter().map(|branch| {
        let theirs = format!("refs/heads/{branch}");
        let ours = format!("refs/remotes/{name}/{branch}");
        for full in [&theirs, &ours] {
            gix::validate::reference::name(full.as_str().into()).map_err(|_| {
                PollError::Setup(format!("{branch:?} of {name:?} is no branch name"))
            })?;
        }
        Ok(theirs)
    });
    names.collect()
}

fn failed(want: &Wanted<'_>, below: Option<PollError>, error: &gix::Error) -> FetchError {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    let kinds =
        || error.iter_errors().filter_map(|e| Some(e.downcast_ref::<std::io::Error>()?.kind()));
    if kinds().any(|kind| matches!(kind, StorageFull | QuotaExceeded)) {
        return FetchError::DiskFull;
    }
    if kinds().any(|kind| kind == FileTooLarge) {
        return FetchError::Exceeds(super::Exceeded::Pack { limit: want.limits.pack });
    }
    if let Some(limit) = exhausted(error, want.limits) {
        return FetchError::Exceeds(limit);
    }
    below.unwrap_or_else(|| poll::protocol(want.remote, error)).into()
}

//! Brings chosen branches of a remote into a repository that is sound.
//!
//! Always whole history (ancestry is what heads are judged by), no tags,
//! always forced: whether a head may be followed is decided elsewhere.
//!
//! What surprises: files larger than may be read are left out, where the server
//! can do that (`filter`, gitprotocol-v2). Whoever exports a tree that has one
//! says so; nobody else needs them, and a later commit without them arrives.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use gix::ObjectId;
use gix::progress::Discard;
use gix::protocol::fetch::{Context, Options, Shallow, Tags};
use gix::protocol::{Handshake, indicate_end_of_interaction};
use gix::refs::transaction::PreviousValue;
use gix_transport::Protocol;
use gix_transport::client::blocking_io::Transport;

use super::child::FetchError;
use super::clone::local;
use super::failure::PollError;
use super::history::{self, Reader, Trouble};
use super::http::{Http, Pace};
use super::limits::{Limits, Meter, Stopped, exhausted};
use super::negotiate::Haves;
use super::ssh::Ssh;
use super::{Remote, poll, repository};
use crate::core::types::Commit;

/// Fetches `branches` into `refs/remotes/REMOTE/BRANCH` and returns where they
/// are now. One that the remote lacks is absent, and its ref deleted.
pub(super) fn fetch(
    repository: &gix::Repository,
    remote: &Remote,
    branches: &[String],
    limits: Limits,
) -> Result<BTreeMap<String, Commit>, FetchError> {
    let names = names(remote, branches)?;
    connected(&Wanted { repository, remote, what: What::Branches { branches, names }, limits })
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
    connected(&Wanted { repository, remote, what, limits }).map(drop)
}

fn connected(want: &Wanted<'_>) -> Result<BTreeMap<String, Commit>, FetchError> {
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
}

enum What<'a> {
    Branches {
        branches: &'a [String],
        /// The same in full: theirs.
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

impl From<Trouble> for Failed {
    fn from(trouble: Trouble) -> Self {
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
        &self,
        transport: &mut T,
        meter: Option<&Meter>,
    ) -> Result<BTreeMap<String, Commit>, Failed> {
        // Over http the second version is a must, as it is when polling.
        let mut hands = poll::shake_hands(transport, poll::is_ssh(self.remote))?;
        let (branches, names) = match &self.what {
            What::Branches { branches, names } => (branches, names),
            What::Commits(wanted) => {
                self.receive_pack(transport, meter, &mut hands, wanted.clone())?;
                return Ok(BTreeMap::new());
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
        // What an earlier fetch brought has come with all that it stands on.
        let wanted: Vec<_> = ids.filter(|id| !self.repository.has_object(id)).collect();
        if !wanted.is_empty() {
            self.receive_pack(transport, meter, &mut hands, wanted)?;
        }
        let reader = Reader { repository: self.repository, limits: self.limits };
        for (branch, &commit) in &heads {
            let id = history::id(commit);
            reader.is_whole(id)?;
            let name = format!("{}{branch}", self.prefix());
            self.repository.reference(name, id, PreviousValue::Any, "")?;
        }
        Ok(heads)
    }

    fn receive_pack<T: Transport>(
        &self,
        transport: &mut T,
        meter: Option<&Meter>,
        hands: &mut Handshake,
        wanted: Vec<ObjectId>,
    ) -> Result<(), Failed> {
        let (limits, repository) = (self.limits, self.repository);
        if let Some(meter) = meter {
            meter.expect_pack(limits.pack, &self.packs());
        }
        let second = hands.server_protocol_version == Protocol::V2;
        let tips = repository::heads(repository).map_err(|d| FetchError::Damaged(d.0));
        let here = Reader { repository, limits }.history(tips.map_err(Failed::Known)?)?;
        let largest = can_leave_out(hands).then(|| limits.object());
        if let Some(largest) = largest {
            repository::leaves_out(repository, largest)
                .map_err(|e| Failed::Known(local("cannot write", &e)))?;
        }
        let mut haves = Haves::new(wanted, largest, second, here);
        let context = Context {
            handshake: hands,
            transport,
            user_agent: ("agent", Some(poll::AGENT.into())),
            trace_packetlines: false,
        };
        let options = Options {
            shallow_file: repository.shallow_file()?,
            shallow: &Shallow::NoChange,
            tags: Tags::None,
            reject_shallow_remote: false,
        };
        let mut written = None;
        gix::protocol::fetch(
            &mut haves,
            |pack, progress, interrupt| {
                let outcome =
                    repository::write_pack(repository, limits, pack, progress, interrupt)?;
                written = outcome.keep_path;
                Ok(true)
            },
            Discard,
            &AtomicBool::new(false),
            context,
            options,
        )?;
        if second {
            // It has all that was asked for; a session may end as it likes.
            let _ = indicate_end_of_interaction(transport, false);
        }
        // Against a garbage collector, which nobody runs here.
        written.map_or(Ok(()), std::fs::remove_file).map_err(gix::Error::from_error)?;
        Ok(())
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

/// Whether a server can leave out files by their size.
fn can_leave_out(hands: &Handshake) -> bool {
    match hands.server_protocol_version {
        Protocol::V2 => {
            let fetch = hands.capabilities.capability("fetch");
            fetch.and_then(|fetch| fetch.supports("filter")).unwrap_or(false)
        }
        Protocol::V0 | Protocol::V1 => hands.capabilities.contains("filter"),
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

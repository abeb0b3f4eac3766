//! Brings chosen branches of a remote into a repository that is sound.
//!
//! Always whole history (ancestry is what heads are judged by), no tags,
//! always forced: whether a head may be followed is decided elsewhere.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use gix::progress::Discard;
use gix::remote::{Direction, fetch::Tags, ref_map};
use gix_transport::client::blocking_io::Transport;

use super::child::FetchError;
use super::failure::PollError;
use super::http::{Http, Limits};
use super::ssh::Ssh;
use super::{Remote, poll, repository};
use crate::core::types::Commit;

/// Fetches `branches` into `refs/remotes/REMOTE/BRANCH` and returns where they
/// are now. One that the remote lacks is absent, and its ref deleted.
pub(super) fn fetch(
    repository: &gix::Repository,
    remote: &Remote,
    branches: &[String],
) -> Result<BTreeMap<String, Commit>, FetchError> {
    let specs = refspecs(remote, branches)?;
    let url = poll::parse_url(remote)?;
    let local = |e: gix::Error| failed(remote, None, &e);
    let to = repository
        .remote_at(url)
        .and_then(|r| r.with_refspecs(specs.iter().map(String::as_str), Direction::Fetch))
        .map_err(local)?
        .with_fetch_tags(Tags::None);
    let want = Wanted { repository, remote, branches };
    if poll::is_file(remote) {
        let connection = to.connect(Direction::Fetch).map_err(local)?;
        return want.receive(connection).map_err(|e| e.explained(remote, None));
    }
    if poll::is_ssh(remote) {
        let (ssh, transport) = Ssh::start(remote, &poll::parse_url(remote)?, Limits::Fetch)?;
        let received = want.receive(to.to_connection_with_transport(transport));
        return received.map_err(|e| e.explained(remote, ssh.failure()));
    }
    let http = Http::new(remote, Limits::Fetch)?;
    let transport = poll::over_http(remote, http.clone())?;
    let connection = to.to_connection_with_transport(transport);
    want.receive(connection).map_err(|e| e.explained(remote, http.failure()))
}

struct Wanted<'a> {
    repository: &'a gix::Repository,
    remote: &'a Remote,
    branches: &'a [String],
}

enum Trouble {
    Gix(gix::Error),
    Known(FetchError),
}

impl From<gix::Error> for Trouble {
    fn from(error: gix::Error) -> Self {
        Self::Gix(error)
    }
}

impl Trouble {
    /// `below`: what went wrong first in the transport.
    fn explained(self, remote: &Remote, below: Option<PollError>) -> FetchError {
        match self {
            Self::Gix(error) => failed(remote, below, &error),
            Self::Known(error) => error,
        }
    }
}

impl Wanted<'_> {
    fn receive<T: Transport>(
        &self,
        connection: gix::remote::Connection<'_, '_, '_, T>,
    ) -> Result<BTreeMap<String, Commit>, Trouble> {
        let prepared = connection
            // Never a helper: a 401 is reported as such.
            .with_credentials(|_| Ok(None))
            .prepare_fetch(Discard, ref_map::Options::default())?;
        let heads: BTreeMap<String, Commit> = prepared
            .ref_map()
            .remote_refs
            .iter()
            .filter_map(poll::named)
            .filter_map(|(name, commit)| {
                Some((name.strip_prefix("refs/heads/")?.to_owned(), commit))
            })
            .filter(|(name, _)| self.branches.contains(name))
            .collect();
        self.make_room(&heads)?;
        if !heads.is_empty() {
            prepared.receive(Discard, &AtomicBool::new(false))?;
        }
        // What counts is what is there now: a ref that was not updated is
        // reported by gix inside a success.
        for (branch, &commit) in &heads {
            let name = format!("{}{branch}", self.prefix());
            let found = self.repository.try_find_reference(name.as_str())?;
            let id = found.as_ref().and_then(gix::Reference::try_id).map(gix::Id::detach);
            if id != Some(repository::id(commit)) {
                let told = format!("{branch} was not updated to {}", commit.short());
                return Err(Trouble::Known(PollError::Protocol(told).into()));
            }
            repository::head_is_whole(self.repository, repository::id(commit))
                .map_err(|d| Trouble::Known(FetchError::Damaged(d.0)))?;
        }
        Ok(heads)
    }

    fn prefix(&self) -> String {
        format!("refs/remotes/{}/", self.remote.name)
    }

    /// Deletes the refs of branches that vanished, and those that are in the
    /// way: `a` when there now is `a/b`, and the reverse.
    fn make_room(&self, heads: &BTreeMap<String, Commit>) -> gix::Result<()> {
        repository::delete_refs(self.repository, &self.prefix(), |old| {
            let vanished = self.branches.iter().any(|b| b == old) && !heads.contains_key(old);
            let below = |a: &str, b: &str| a.strip_prefix(b).is_some_and(|r| r.starts_with('/'));
            vanished || heads.keys().any(|new| below(new, old) || below(old, new))
        })
    }
}

fn refspecs(remote: &Remote, branches: &[String]) -> Result<Vec<String>, FetchError> {
    let name = &remote.name;
    let specs = branches.iter().map(|branch| {
        let theirs = format!("refs/heads/{branch}");
        let ours = format!("refs/remotes/{name}/{branch}");
        for full in [&theirs, &ours] {
            gix::validate::reference::name(full.as_str().into()).map_err(|_| {
                PollError::Setup(format!("{branch:?} of {name:?} is no branch name"))
            })?;
        }
        Ok(format!("+{theirs}:{ours}"))
    });
    specs.collect()
}

fn failed(remote: &Remote, below: Option<PollError>, error: &gix::Error) -> FetchError {
    use std::io::ErrorKind::{QuotaExceeded, StorageFull};
    let full = error
        .iter_errors()
        .filter_map(|e| e.downcast_ref::<std::io::Error>())
        .any(|e| matches!(e.kind(), StorageFull | QuotaExceeded));
    if full {
        return FetchError::DiskFull;
    }
    below.unwrap_or_else(|| poll::protocol(remote, error)).into()
}

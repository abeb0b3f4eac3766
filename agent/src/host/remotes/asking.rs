//! Asking one remote, and fetching what it has that is new.

use super::*;

impl Shared {
    pub(super) async fn ask(
        &self,
        lane: &Lane,
        remote: git::Remote,
        known: Known,
    ) -> (Option<Connection>, Result<PollAnswer, Failed>) {
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
            return (
                Some(connection),
                Ok(PollAnswer { heads, relations, fetched, recloned, refused }),
            );
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
    pub(super) fn refuse(&self, listed: Heads, why: Oversize, times: u32) -> Refused {
        let pause = backoff::pause(self.retry.first, self.retry.max, times, luck());
        Refused { listed, why, times, again: clock::mono().plus(pause) }
    }

    /// Fetches, and returns which head was too large. A testing branch keeps no release
    /// back: others may push to it.
    pub(super) async fn fetch_what_fits(
        &self,
        remote: git::Remote,
        heads: Heads,
        accepted: Option<Commit>,
        reclone: bool,
    ) -> Result<(PollAnswer, Option<Oversize>), Failed> {
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
        let answer = PollAnswer { heads, relations, fetched, recloned, refused: None };
        match (heads.release, heads.testing) {
            (Some(head), _) => Ok((answer, Some(too_large(head, false, limit)))),
            (None, Some(head)) => Ok((answer, Some(too_large(head, true, limit)))),
            // Nothing was asked for; what is too large was there before.
            (None, None) => Err(FetchError::Exceeds(limit).to_string().into()),
        }
    }

    pub(super) async fn fetch(
        &self,
        remote: git::Remote,
        branches: Vec<String>,
        heads: Heads,
        accepted: Option<Commit>,
        reclone: bool,
    ) -> Result<PollAnswer, Unfetched> {
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
        Ok(PollAnswer { heads, relations: related(reply), fetched: true, recloned, refused: None })
    }

    pub(super) fn request(
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

    pub(super) fn branches(&self) -> Vec<String> {
        std::iter::once(self.release.clone()).chain(self.testing.clone()).collect()
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.branches().iter().map(|branch| reference(branch)).collect()
    }

    pub(super) fn heads(&self, head: impl Fn(&str) -> Option<Commit>) -> Heads {
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

pub(super) fn related(reply: git::Reply) -> Vec<((Commit, Commit), Relation)> {
    reply.relations.into_iter().map(|r| ((r.older, r.newer), r.relation)).collect()
}

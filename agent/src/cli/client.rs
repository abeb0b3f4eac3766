//! Commands that ask the running agent.
//!
//! `status` falls back on what the agent last recorded; the others need it to
//! answer.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::bus::{Client, ClientError};
use crate::config::Places;
use crate::core::explain::Explanation;
use crate::core::memory::Entry;
use crate::core::request::Prefix;
use crate::core::status::{NextAction, RemoteView, Status};
use crate::core::types::Wall;
use crate::flock;

use super::{Exit, Said, explain, history, status};
use crate::wording::text::{Clock, Look, ago, clean};

/// File in `state_dir` where the agent records the last status.
const RECORDED: &str = "status.json";
/// Largest status that is read from a file, in bytes.
const MOST_BYTES: u64 = 8 << 20;
/// Deployments shown to people when they name no number.
const FEW: u32 = 20;
/// How long the remotes have to answer a poll while somebody waits.
const POLL_WAIT: Duration = Duration::from_secs(30);
const POLL_LOOK: Duration = Duration::from_millis(100);

pub(super) fn status(places: &Places, json: bool) -> Said {
    let answer = block_on(async { connect(places).await?.status().await });
    match answer {
        Ok(text) if json => Said::done(format!("{text}\n")),
        Ok(text) => match serde_json::from_str::<Status>(&text) {
            Ok(status) => Said::done(status::render(&status, &Clock::here(), Look::of_stdout())),
            Err(error) => {
                gist(&text).unwrap_or_else(|| Said::not(Exit::Failed, unreadable(&error)))
            }
        },
        Err(trouble @ (ClientError::Silent { .. } | ClientError::Gone { .. })) => {
            recorded(&places.state_dir, json, &trouble)
        }
        Err(trouble) => failed(&trouble),
    }
}

pub(super) fn history(places: &Places, most: Option<u32>, json: bool) -> Said {
    let most = most.unwrap_or(if json { u32::MAX } else { FEW });
    let answer = block_on(async { connect(places).await?.history(most).await });
    match answer {
        Ok(text) if json => Said::done(format!("{text}\n")),
        Ok(text) => match serde_json::from_str::<Vec<Entry>>(&text) {
            Ok(entries) => Said::done(history::render(&entries, &Clock::here(), Look::of_stdout())),
            Err(error) => Said::not(Exit::Failed, unreadable(&error)),
        },
        Err(trouble) => failed(&trouble),
    }
}

pub(super) fn explain(places: &Places, commit: Option<&str>, json: bool) -> Said {
    if let Some(Err(problem)) = commit.map(Prefix::parse) {
        return Said::not(Exit::Usage, problem);
    }
    let answer = block_on(async { connect(places).await?.explain(commit).await });
    match answer {
        Ok(text) if json => Said::done(format!("{text}\n")),
        Ok(text) => match serde_json::from_str::<Explanation>(&text) {
            Ok(said) => Said::done(explain::render(&said, &Clock::here(), Look::of_stdout())),
            Err(error) => Said::not(Exit::Failed, unreadable(&error)),
        },
        Err(trouble) => failed(&trouble),
    }
}

pub(super) fn confirm(places: &Places, commit: &str, json: bool) -> Said {
    if let Err(problem) = Prefix::parse(commit) {
        return Said::not(Exit::Usage, problem);
    }
    answered(block_on(async { connect(places).await?.confirm(commit).await }), json)
}

/// Suspends deployments; after `seconds` the suspension ends by itself, else never.
pub(super) fn suspend(places: &Places, reason: &str, seconds: Option<u64>, json: bool) -> Said {
    let ask = async { connect(places).await?.suspend(reason, seconds).await };
    answered(block_on(ask), json)
}

pub(super) fn resume(places: &Places, json: bool) -> Said {
    answered(block_on(async { connect(places).await?.resume().await }), json)
}

pub(super) fn rollback(places: &Places, to: Option<&str>, reason: &str, json: bool) -> Said {
    if let Some(Err(problem)) = to.map(Prefix::parse) {
        return Said::not(Exit::Usage, problem);
    }
    let ask = async { connect(places).await?.rollback(to, reason).await };
    answered(block_on(ask), json)
}

/// Reads a time as the configuration writes it, in whole seconds, at least one.
pub(super) fn seconds(text: &str) -> Result<u64, String> {
    let duration =
        crate::config::duration::parse(text).map_err(|problem| format!("it must {problem}"))?;
    match duration.as_secs() {
        0 => Err("it must be at least \"1s\"".into()),
        seconds => Ok(seconds),
    }
}

pub(super) fn accept(places: &Places, commit: &str, json: bool) -> Said {
    if let Err(problem) = Prefix::parse(commit) {
        return Said::not(Exit::Usage, problem);
    }
    answered(block_on(async { connect(places).await?.accept(commit).await }), json)
}

pub(super) fn retry(places: &Places, commit: Option<&str>, json: bool) -> Said {
    if let Some(Err(problem)) = commit.map(Prefix::parse) {
        return Said::not(Exit::Usage, problem);
    }
    answered(block_on(async { connect(places).await?.retry(commit).await }), json)
}

/// Polls the remotes, and waits for the first answer. Exit 1 when no remote that was
/// asked gave one.
pub(super) fn poll(places: &Places, json: bool) -> Said {
    let remotes = match block_on(watch_poll(places)) {
        Ok(Ok(remotes)) => remotes,
        Ok(Err(error)) => return Said::not(Exit::Failed, unreadable(&error)),
        Err(trouble) => return failed(&trouble),
    };
    let answered = remotes.iter().any(|remote| remote.reachable);
    let out = if json {
        format!("{}\n", json!({ "remotes": remotes }))
    } else {
        remotes.iter().map(|remote| remote_line(remote, &Clock::here())).collect()
    };
    if answered {
        return Said::done(out);
    }
    let exit = Exit::Failed;
    Said { out, err: "fort-agent: no remote has answered".into(), exit }
}

async fn watch_poll(places: &Places) -> Result<serde_json::Result<Vec<RemoteView>>, ClientError> {
    let client = connect(places).await?;
    // Times in the status are whole seconds.
    let begun = Wall::from_millis(now().as_millis().div_euclid(1000) * 1000);
    let before = client.status().await?;
    let before: Status = match serde_json::from_str(&before) {
        Ok(before) => before,
        Err(error) => return Ok(Err(error)),
    };
    client.poll().await?;
    let deadline = Instant::now() + POLL_WAIT;
    loop {
        let status: Status = match serde_json::from_str(&client.status().await?) {
            Ok(status) => status,
            Err(error) => return Ok(Err(error)),
        };
        if polled(&before, &status, begun, now()) || Instant::now() >= deadline {
            return Ok(Ok(status.remotes));
        }
        sleep(POLL_LOOK).await;
    }
}

/// Whether a poll that was asked for at `begun` is over. A remote is asked only
/// when those before it gave nothing to go on, so not all of them are.
fn polled(before: &Status, after: &Status, begun: Wall, now: Wall) -> bool {
    let fresh = |remote: &RemoteView| remote.last_success.is_some_and(|at| at >= begun);
    let answered = after.remotes.iter().any(|remote| remote.reachable && fresh(remote));
    // One that fails shows only in that the next poll is put off.
    let put_off = after.next != before.next
        && after.next.as_ref().is_some_and(|next| next.action == NextAction::Poll && next.at > now);
    answered || put_off
}

fn remote_line(remote: &RemoteView, clock: &Clock) -> String {
    let head = remote.head.map_or_else(|| "no head".into(), |head| head.short());
    let line = match (&remote.error, remote.last_success) {
        (Some(error), _) => clean(error),
        (None, Some(at)) if remote.reachable => format!("{head}, answered {}", ago(at, clock)),
        (None, Some(at)) => format!("does not answer, last did {}", ago(at, clock)),
        (None, None) => "not asked".into(),
    };
    format!("{}: {line}\n", clean(&remote.name))
}

fn answered(answer: Result<String, ClientError>, json: bool) -> Said {
    match answer {
        Ok(done) if json => Said::done(format!("{}\n", json!({ "done": done }))),
        Ok(done) => Said::done(format!("{}\n", clean(&done))),
        Err(trouble) => failed(&trouble),
    }
}

/// Connects to the agent. One that runs without a socket is told from one that
/// does not run: by the lock that it holds for as long as it lives.
pub(super) async fn connect(places: &Places) -> Result<Client, ClientError> {
    Client::connect(&places.run_dir).await.map_err(|trouble| match trouble {
        ClientError::Silent { socket, why } if !socket.exists() => {
            let holders = flock::holders(&places.state_dir.join("lock")).unwrap_or_default();
            match holders.first() {
                Some(agent) => ClientError::Gone { socket, agent: agent.to_string() },
                None => ClientError::Silent { socket, why },
            }
        }
        other @ (ClientError::Silent { .. }
        | ClientError::Gone { .. }
        | ClientError::Refused(_)) => other,
        other @ (ClientError::Invalid(_) | ClientError::Failed(_)) => other,
    })
}

pub(super) fn failed(trouble: &ClientError) -> Said {
    let exit = match trouble {
        ClientError::Silent { .. } | ClientError::Gone { .. } => Exit::Silent,
        ClientError::Refused(_) => Exit::Refused,
        ClientError::Invalid(_) => Exit::Usage,
        ClientError::Failed(_) => Exit::Failed,
    };
    let text = format!("fort-agent: {}{}", clean(&trouble.to_string()), hint(trouble));
    Said::not(exit, text)
}

fn hint(trouble: &ClientError) -> &'static str {
    match trouble {
        ClientError::Silent { .. } => SILENT_HINT,
        // It says itself what to do.
        ClientError::Gone { .. } | ClientError::Refused(_) => "",
        ClientError::Invalid(_) | ClientError::Failed(_) => "",
    }
}

const SILENT_HINT: &str = "; start it, or see its log (journalctl -u fort-agent)";

pub(super) fn unreadable(error: &serde_json::Error) -> String {
    format!(
        "fort-agent: the agent's answer is not understood, it may be of another version: {error}"
    )
}

/// Renders the state and the reason, which every version says, of a status
/// that is not understood.
pub(super) fn gist(status: &str) -> Option<Said> {
    let status: Value = serde_json::from_str(status).ok()?;
    let (state, reason) = (status["state"].as_str()?, status["reason"].as_str()?);
    let line = format!("{}: {}\n", clean(state), clean(reason));
    let err = "fort-agent: the agent is of another version; --json has all that it says".into();
    Some(Said { out: line, err, exit: Exit::Done })
}

/// Renders the last recorded status of an agent that is down.
fn recorded(state_dir: &Path, json: bool, trouble: &ClientError) -> Said {
    let path = state_dir.join(RECORDED);
    let nothing = |why: &str| {
        let (said, hint) = (clean(&trouble.to_string()), hint(trouble));
        let text = format!("fort-agent: {said}, and nothing is recorded ({why}){hint}");
        Said::not(Exit::Silent, text)
    };
    let (text, at) = match read(&path) {
        Ok(found) => found,
        Err(error) => return nothing(&format!("{}: {error}", path.display())),
    };
    let Ok(status) = serde_json::from_str::<Status>(&text) else {
        return nothing(&format!("{} is damaged", path.display()));
    };
    let err = format!("fort-agent: {}{}", clean(&trouble.to_string()), hint(trouble));
    let out = if json {
        let mut value: Value = serde_json::from_str(&text).unwrap_or_default();
        // Nobody may take this for an answer.
        value["recorded"] = json!(at);
        format!("{value}\n")
    } else {
        let look = Look::of_stdout();
        let clock = Clock::here();
        let told = status::recorded(at, &clock, look);
        format!("{told}{}", status::render(&status, &clock, look))
    };
    Said { out, err, exit: Exit::Silent }
}

fn read(path: &Path) -> std::io::Result<(String, Option<Wall>)> {
    let file = File::open(path)?;
    let at = file.metadata()?.modified().ok().and_then(wall);
    let mut text = String::new();
    file.take(MOST_BYTES).read_to_string(&mut text)?;
    Ok((text, at))
}

fn now() -> Wall {
    wall(SystemTime::now()).unwrap_or(Wall::from_millis(0))
}

fn wall(time: SystemTime) -> Option<Wall> {
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_millis()).ok().map(Wall::from_millis)
}

pub(super) fn block_on<T>(
    ask: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, ClientError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| ClientError::Failed(format!("no runtime: {error}")))?;
    runtime.block_on(ask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::status::Next;
    use crate::wording::fixture::{NOW, before, well};

    #[test]
    fn another_versions_status_still_says_what_matters() {
        let said = gist(r#"{"state":"pondering","reason":"it is\nlate"}"#).unwrap();
        assert_eq!((said.out.as_str(), said.exit), ("pondering: it is late\n", Exit::Done));
        assert!(gist("[]").is_none());
    }

    #[test]
    fn a_poll_is_over_when_a_remote_has_answered_or_is_asked_again_later() {
        let old = well();
        assert!(!polled(&old, &old, NOW, NOW));
        let mut answered = well();
        answered.remotes[0].last_success = Some(NOW);
        assert!(polled(&old, &answered, NOW, NOW));
        let mut asking = well();
        asking.next = Some(Next { action: "poll".into(), at: NOW });
        assert!(!polled(&old, &asking, NOW, NOW));
        let mut failed = well();
        failed.remotes[0].reachable = false;
        failed.next = Some(Next { action: "poll".into(), at: before(-60) });
        assert!(polled(&old, &failed, NOW, NOW));
    }
}

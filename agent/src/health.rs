//! Looks whether an activated system works: one round of checks, all at once,
//! within one limit. What follows from it is decided elsewhere.

use std::ffi::OsString;
use std::future::{Future, pending};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use reqwest::header::LOCATION;
use tokio::time::timeout;

use crate::command::{Command, plain};
use crate::config::{self, Probe};
use crate::core::job::{Check, CheckKind, REMOTE_CHECK, SwitchOrder, UNITS_CHECK};
use crate::core::plain::one_line;
use crate::error_chain;
use crate::nix::StoreRoot;
use crate::systemd::Systemd;
use crate::systemd::baseline::{Baseline, Blame, blame, definition_changed};
use crate::threads::Lane;
use crate::{clock, git};

/// Longest part of a failed command's output that is shown, in characters.
const WORDS: usize = 300;

/// Checks of an activated system that are made on this host.
#[derive(Clone, Debug)]
pub struct Health {
    /// The checks that are configured.
    pub checks: Vec<config::Check>,
    /// Remotes of which one must answer; empty: that is not checked.
    pub remotes: Vec<Lookout>,
    /// Branch that each remote is asked for.
    pub branch: String,
    /// Settings for judging the host's units; `None`: they are not judged.
    pub units: Option<UnitsHealth>,
    /// Limit of a round.
    pub limit: Duration,
}

/// Settings for judging the host's units.
#[derive(Clone, Debug)]
pub struct UnitsHealth {
    /// State of the units before the activation.
    pub baseline: Baseline,
    /// Store in which the systems' definitions are.
    pub store: StoreRoot,
}

/// Result of a round of checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Result of each check.
    pub checks: Vec<Check>,
    /// Place of a required check that cannot pass any more by itself, if there is one.
    pub hopeless: Option<usize>,
}

/// Why a check failed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Failure {
    detail: String,
    /// Whether nothing can be seen that would let it pass later.
    lasting: bool,
}

impl From<String> for Failure {
    fn from(detail: String) -> Self {
        Self { detail, lasting: false }
    }
}

impl Failure {
    fn lasting(detail: String) -> Self {
        Self { detail, lasting: true }
    }
}

/// Result of a check, and whether it failed for good.
type Told = (Check, bool);

impl Health {
    /// Runs all checks of a system that was activated.
    pub async fn round(&self, order: &SwitchOrder, hostname: &str) -> Findings {
        let environment = environment(order, hostname);
        let mut running: Vec<Pin<Box<dyn Future<Output = Told> + Send + '_>>> = Vec::new();
        for check in &self.checks {
            let environment = environment.clone();
            running.push(Box::pin(async move {
                let found = match timeout(self.limit, self.probe(&check.probe, environment)).await {
                    Ok(found) => found,
                    Err(_) => Err(format!("no result within {:?}", self.limit).into()),
                };
                told(CheckKind::Configured, &check.name, check.required, found)
            }));
        }
        if let Some(units) = &self.units {
            running.push(Box::pin(async {
                match timeout(self.limit, units.judge(order)).await {
                    Ok(Ok(judged)) => judged,
                    Ok(Err(why)) => told(CheckKind::Units, UNITS_CHECK, true, Err(why)),
                    Err(_) => {
                        let why = format!("systemd did not answer within {:?}", self.limit);
                        told(CheckKind::Units, UNITS_CHECK, true, Err(why.into()))
                    }
                }
            }));
        }
        if !self.remotes.is_empty() && order.remote_before {
            running.push(Box::pin(async {
                let found = any_remote(&self.remotes, &self.branch, self.limit).await;
                told(CheckKind::Remote, REMOTE_CHECK, true, found.map_err(Failure::from))
            }));
        }
        let told = join_all(running).await;
        let hopeless = told.iter().position(|(check, lasting)| *lasting && check.required);
        Findings { checks: told.into_iter().map(|(check, _)| check).collect(), hopeless }
    }

    async fn probe(
        &self,
        probe: &Probe,
        environment: Vec<(OsString, OsString)>,
    ) -> Result<String, Failure> {
        match probe {
            Probe::Http(url) => Ok(self.http(url).await?),
            Probe::Command(words) => self.command(words, environment).await,
            Probe::Tcp(address) => Ok(tcp(address).await?),
            Probe::Unit(name) => unit(name).await,
        }
    }

    async fn http(&self, url: &str) -> Result<String, String> {
        // Where a redirect leads, something else would be looked at: the page for
        // logging in, say, which is there when nothing else is.
        let client = fort_http::client(url)
            .timeout(self.limit)
            .no_proxy()
            .build()
            .map_err(|error| error_chain::line(&error))?;
        let answer = client.get(url).send().await.map_err(|error| error_chain::line(&error))?;
        let status = answer.status();
        let said = format!("{url} answered {}", status.as_u16());
        let to = answer.headers().get(LOCATION).filter(|_| status.is_redirection());
        if let Some(to) = to {
            let to = one_line(&plain(to.as_bytes()));
            return Err(format!("{said} to {to}, which is not followed"));
        }
        if status.is_success() { Ok(said) } else { Err(said) }
    }

    async fn command(
        &self,
        argv: &[String],
        environment: Vec<(OsString, OsString)>,
    ) -> Result<String, Failure> {
        let Some((program, arguments)) = argv.split_first() else {
            return Err(Failure::lasting("it has no program".into()));
        };
        let gone = || Failure::lasting(format!("there is no program {program}"));
        let program = find(program).ok_or_else(gone)?;
        let command = Command::new(program)
            .args(arguments.iter().map(OsString::from))
            .environment(environment)
            .time_limit(self.limit);
        let finished = command.run(pending()).await.map_err(|error| error_chain::line(&error))?;
        if finished.end.success() {
            return Ok("exit code 0".into());
        }
        let said = plain(finished.stderr.as_bytes());
        let said = said.lines().last().unwrap_or_default();
        let said: String = said.chars().take(WORDS).collect();
        Err(Failure::from(if said.is_empty() {
            finished.end.to_string()
        } else {
            format!("{}: {said}", finished.end)
        }))
    }
}

/// Largest number of looks for a remote that hang at a time: they cannot be cut off, and
/// one that began while the network was down must not stand for the next.
const LOOKS: usize = 3;

/// Remote, with the threads that look for it.
#[derive(Clone, Debug)]
pub struct Lookout {
    remote: git::Remote,
    lane: Lane,
}

impl Lookout {
    /// Makes a lookout for a remote.
    pub fn new(remote: git::Remote) -> Self {
        Self { remote, lane: Lane::new(LOOKS) }
    }

    async fn look(&self, branch: String, limit: Duration) -> Result<String, String> {
        let (name, mut remote) = (&self.remote.name, self.remote.clone());
        // It should end by itself when nobody waits for it any more.
        remote.timeout = remote.timeout.min(limit);
        let asked = self
            .lane
            .run(limit, move || git::Connection::open(&remote)?.heads(&[&branch]).map(|_| ()));
        match asked.await {
            Ok(Ok(())) => Ok(format!("{name} answers")),
            Ok(Err(error)) => Err(format!("{name}: {error}")),
            Err(error) => Err(format!("{name}: {error}")),
        }
    }
}

/// Looks whether one of the remotes answers: on a new connection with a new name lookup,
/// for an established one outlives broken DNS, routes and firewall rules. All at once:
/// one that says nothing must not hide the others.
pub async fn any_remote(
    remotes: &[Lookout],
    branch: &str,
    limit: Duration,
) -> Result<String, String> {
    let looks = remotes.iter().map(|remote| remote.look(branch.to_owned(), limit));
    let mut looks: FuturesUnordered<_> = looks.collect();
    let mut errors = Vec::new();
    while let Some(found) = looks.next().await {
        match found {
            Ok(found) => return Ok(found),
            Err(error) => errors.push(error),
        }
    }
    Err(errors.join("; "))
}

/// Makes the findings of a round that did not end.
pub fn cut_off(error: String) -> Findings {
    let (check, _) = told(CheckKind::Configured, "checks", true, Err(error.into()));
    Findings { checks: vec![check], hopeless: None }
}

impl UnitsHealth {
    /// Judges the host's units. Fails with why systemd could not be asked.
    async fn judge(&self, order: &SwitchOrder) -> Result<Told, Failure> {
        let systemd = Systemd::connect().await.map_err(|error| error_chain::line(&error))?;
        let units = systemd.units().await.map_err(|error| error_chain::line(&error))?;
        let changed = |unit: &str| {
            definition_changed(&self.store, order.old.as_ref(), &order.candidate, unit)
        };
        let Blame { counts, warnings, failed } =
            blame(&self.baseline, &units, clock::monotonic_micros(), changed);
        let mut said = counts.join(", ");
        if !warnings.is_empty() {
            let also = if said.is_empty() { "" } else { "; " };
            said = format!("{said}{also}not counted: {}", warnings.join(", "));
        }
        let found = match (counts.is_empty(), said.is_empty()) {
            (true, true) => Ok("no unit has newly failed".into()),
            (true, false) => Ok(said),
            (false, _) => {
                let lasting = any_stays_failed(&systemd, &failed).await;
                Err(Failure { detail: said, lasting })
            }
        };
        let (check, lasting) = told(CheckKind::Units, UNITS_CHECK, true, found);
        Ok((Check { uncounted: warnings, ..check }, lasting))
    }
}

/// Returns the environment of health commands, which names the system that they check.
fn environment(order: &SwitchOrder, hostname: &str) -> Vec<(OsString, OsString)> {
    let target = &order.order.target;
    let previous = order.old.as_ref().map(ToString::to_string).unwrap_or_default();
    let commit = target.commit.to_string();
    let mut variables: Vec<(OsString, OsString)> = vec![
        ("FORT_AGENT_COMMIT".into(), commit.clone().into()),
        ("FORT_AGENT_SOURCE".into(), commit.into()),
        ("FORT_AGENT_SYSTEM".into(), order.candidate.to_string().into()),
        ("FORT_AGENT_PREVIOUS_SYSTEM".into(), previous.into()),
        ("FORT_AGENT_OPERATION".into(), target.operation.as_str().into()),
        ("FORT_AGENT_HOSTNAME".into(), hostname.into()),
        ("LANG".into(), "C.UTF-8".into()),
    ];
    if let Some(path) = std::env::var_os("PATH") {
        variables.push(("PATH".into(), path));
    }
    variables
}

/// Whether one of these units has failed and nothing is there that would start it again.
async fn any_stays_failed(systemd: &Systemd, failed: &[String]) -> bool {
    for unit in failed {
        // One that cannot be looked at may be started by anything.
        if systemd.stays_failed(unit).await.unwrap_or(false) {
            return true;
        }
    }
    false
}

async fn unit(name: &str) -> Result<String, Failure> {
    let systemd = Systemd::connect().await.map_err(|error| error_chain::line(&error))?;
    match systemd.unit(name).await.map_err(|error| error_chain::line(&error))? {
        // It may still be made.
        None => Err(format!("there is no unit {name}").into()),
        Some(state) if state.active == "active" => Ok(format!("{name} is active")),
        Some(state) => {
            let lasting = any_stays_failed(&systemd, &[name.to_owned()]).await;
            let detail = format!("{name} is {} ({})", state.active, state.sub);
            Err(Failure { detail, lasting })
        }
    }
}

async fn tcp(address: &str) -> Result<String, String> {
    match tokio::net::TcpStream::connect(address).await {
        Ok(_) => Ok(format!("{address} accepts connections")),
        Err(error) => Err(format!("{address}: {error}")),
    }
}

/// Returns where a program is. One that is named by its path is taken for found: it may
/// be put there any time.
fn find(program: &str) -> Option<PathBuf> {
    if program.starts_with('/') {
        return Some(program.into());
    }
    let path = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&path).filter(|dir| dir.is_absolute());
    found.map(|dir| dir.join(program)).find(|path| Path::is_file(path))
}

fn told(kind: CheckKind, name: &str, required: bool, found: Result<String, Failure>) -> Told {
    let ok = found.is_ok();
    let (detail, lasting) = match found {
        Ok(detail) => (detail, false),
        Err(Failure { detail, lasting }) => (detail, lasting),
    };
    (Check { name: name.into(), kind, ok, detail, required, ..Check::default() }, lasting)
}

#[cfg(test)]
mod tests;

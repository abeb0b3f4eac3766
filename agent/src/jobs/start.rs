//! Starts and stops jobs, as processes of their own that outlive the agent's
//! restart, crash and upgrade: detached ones, or transient units of systemd.
//!
//! Whether a job lives is not known here: that is its lock's to say.

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Stdio;

use rustix::process::Signal;
use zbus::Variant;

use super::dir::JobFile;
use crate::config::UnitLimits;
use crate::core::job::{JobId, JobKind};
use crate::environment;
use crate::files::{self, Durability};
use crate::flock;
use crate::nix::evaluator::{Evaluator, Lent};
use crate::systemd::{self, Service, Systemd};

/// Name of the file, in a job's directory, that has the variables of its unit that not
/// everybody may see.
const SECRET_VARIABLES: &str = "environment";

/// Starts the job of a directory as a detached process. Its end calls `ended`.
pub fn detached(
    agent: &Path,
    kind: JobKind,
    directory: &Path,
    ended: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let log =
        OpenOptions::new().append(true).create(true).mode(0o600).open(directory.join("log"))?;
    let mut child = tokio::process::Command::new(agent)
        .arg("job")
        .arg(kind.as_str())
        .arg(directory)
        .env_clear()
        .envs(environment::public_of_job())
        .envs(environment::secret_of_job())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(false)
        .spawn()?;
    tokio::spawn(async move {
        let _ = child.wait().await;
        ended();
    });
    Ok(())
}

/// Why a job's unit was not started.
#[derive(Debug, thiserror::Error)]
pub enum NotStarted {
    /// The file for the variables that only the job may see could not be written.
    #[error("its environment cannot be written")]
    Environment(#[from] io::Error),
    /// systemd did not start it.
    #[error(transparent)]
    Systemd(#[from] systemd::Failed),
}

/// Starts the job of a directory as a transient unit; fine if it runs already. `lent`:
/// what the evaluator is to see elsewhere than it is.
pub async fn unit(
    agent: &Path,
    id: &JobId,
    directory: &Path,
    limits: &UnitLimits,
    lent: Option<&Evaluator>,
) -> Result<(), NotStarted> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let argv = [text(agent), "job".into(), id.kind.as_str().into(), text(directory)];
    let variable = |(name, value): (&str, OsString)| {
        // systemd takes text only.
        value.into_string().ok().map(|value| format!("{name}={value}"))
    };
    let environment: Vec<String> =
        environment::public_of_job().into_iter().filter_map(variable).collect();
    let description = format!("fort-agent: {} {}", id.kind.as_str(), id.deployment);
    let mut properties = properties(id.kind, limits);
    properties.extend(secret_environment(directory)?);
    properties.extend(binds(lent));
    let service = Service {
        name: &unit_name(id),
        description: &description,
        argv: &argv,
        environment: &environment,
        properties,
    };
    Ok(Systemd::connect().await?.start(&service).await?)
}

/// Returns the property that names a file of those variables that everybody could see in
/// a unit's `Environment=`; `None` if there are none.
fn secret_environment(directory: &Path) -> io::Result<Option<(&'static str, Variant<'static>)>> {
    let variables = environment::secret_of_job();
    if variables.is_empty() {
        return Ok(None);
    }
    let file = directory.join(SECRET_VARIABLES);
    let lines = variables.iter().filter_map(|(name, value)| assignment(name, value));
    let written =
        files::write_private(&file, lines.collect::<String>().as_bytes(), Durability::Passing);
    match written {
        // One that goes on in a directory that is not this agent's any more.
        Err(_) if file.exists() => {}
        written => written?,
    }
    // A guardian is started again without it rather than not at all.
    let may_be_missing = true;
    let files = vec![(file.to_string_lossy().into_owned(), may_be_missing)];
    Ok(Some(("EnvironmentFiles", Variant::new(files))))
}

/// Returns a line of an environment file, as systemd.exec(5) reads it; `None` for a
/// variable that it would not take.
fn assignment(name: &str, value: &OsStr) -> Option<String> {
    let value = value.to_str().filter(|value| !value.contains(char::is_control))?;
    let special = |c: char| matches!(c, '"' | '\\' | '$' | '`');
    let quoted: String =
        value.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect();
    Some(format!("{name}=\"{quoted}\"\n"))
}

/// Asks a job's unit to stop: SIGTERM, and SIGKILL ten seconds later.
pub async fn stop_unit(id: &JobId) -> Result<(), systemd::Failed> {
    Systemd::connect().await?.stop(&unit_name(id)).await
}

fn unit_name(id: &JobId) -> String {
    format!("fort-agent-{id}.service")
}

fn properties(kind: JobKind, limits: &UnitLimits) -> Vec<(&'static str, Variant<'static>)> {
    const SECOND: u64 = 1_000_000;
    let mut properties: Vec<(&'static str, Variant<'static>)> =
        vec![("TimeoutStopUSec", (10 * SECOND).into())];
    // There are tokens in its memory, and in that of what it runs.
    properties.extend([("LimitCORE", 0_u64.into()), ("LimitCORESoft", 0_u64.into())]);
    match kind {
        JobKind::Switch => {
            // Without it nobody puts the old system back: it goes last.
            properties.push(("OOMScoreAdjust", (-900_i32).into()));
            properties.push(("Restart", "on-failure".into()));
            properties.push(("RestartUSec", SECOND.into()));
            properties.push(("StartLimitIntervalUSec", 0_u64.into()));
        }
        JobKind::Realise => {
            properties.push(("OOMScoreAdjust", 500_i32.into()));
            // Nix is killed for want of memory, not this job: which is to say so. By
            // default systemd stops a unit when one of its processes is.
            properties.push(("OOMPolicy", "continue".into()));
            let more = [
                ("MemoryHigh", limits.memory_high),
                ("MemoryMax", limits.memory_max),
                ("CPUWeight", limits.cpu_weight.map(u64::from)),
                ("IOWeight", limits.io_weight.map(u64::from)),
            ];
            properties.extend(more.into_iter().filter_map(|(k, v)| Some((k, v?.into()))));
        }
        JobKind::Publish => {
            // It can always be begun anew: it goes first, and waits for all.
            properties.push(("OOMScoreAdjust", 800_i32.into()));
            properties.push(("Nice", 19_i32.into()));
            properties.push(("CPUSchedulingPolicy", SCHED_IDLE.into()));
            properties.push(("IOSchedulingClass", IOPRIO_CLASS_IDLE.into()));
            // What it reads need not push what others read out of memory.
            properties.push(("MemoryHigh", (256_u64 << 20).into()));
        }
    }
    properties
}

/// Returns the bind mounts that show the evaluator what it is lent, where it sees it: the
/// way to the original may be closed to it. The trees cannot be written there.
fn binds(lent: Option<&Evaluator>) -> Vec<(&'static str, Variant<'static>)> {
    let Some(Evaluator { own, exports, .. }) = lent else { return Vec::new() };
    let text = |path: &Path| path.to_string_lossy().into_owned();
    // As systemd.exec(5) has them: source, destination, whether the source may be
    // missing, and mount flags, of which none is 0.
    let bind = |lent: &Lent| Variant::from(vec![(text(&lent.at), text(&lent.seen), false, 0_u64)]);
    vec![("BindPaths", bind(own)), ("BindReadOnlyPaths", bind(exports))]
}

/// Scheduling policy for idle work, from sched(7).
const SCHED_IDLE: i32 = 5;
/// I/O class for idle work, from ioprio_set(2).
const IOPRIO_CLASS_IDLE: i32 = 3;

/// Signals a detached job: the holder of its lock, found anew each time, for a pid
/// that was written down could be another process's by now.
pub fn signal(directory: &Path, signal: Signal) -> io::Result<()> {
    let lock = directory.join(JobFile::Lock.name());
    for holder in flock::holders(&lock)? {
        holder.signal(&lock, signal)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_back_from_a_line_as_it_was() {
        let line = |value: &str| assignment("https_proxy", OsStr::new(value));
        let plain = line("http://user:pass@proxy:8080/").unwrap();
        assert_eq!(plain, "https_proxy=\"http://user:pass@proxy:8080/\"\n");
        let odd = line(r#"a"b\c$d`e'f #g"#).unwrap();
        assert_eq!(odd, "https_proxy=\"a\\\"b\\\\c\\$d\\`e'f #g\"\n");
        assert_eq!(line("a\nLD_PRELOAD=/x"), None);
    }

    #[test]
    fn no_job_leaves_its_memory_behind() {
        for kind in [JobKind::Realise, JobKind::Switch, JobKind::Publish] {
            let properties = properties(kind, &UnitLimits::default());
            for limit in ["LimitCORE", "LimitCORESoft"] {
                let found = properties.iter().find(|(name, _)| *name == limit);
                assert_eq!(found.map(|(_, value)| value), Some(&0_u64.into()), "{kind:?} {limit}");
            }
        }
    }
}

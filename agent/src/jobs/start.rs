//! Starts and stops jobs, as processes of their own that outlive the agent's
//! restart, crash and upgrade: detached ones, or transient units of systemd.
//!
//! Whether a job lives is not known here: that is its lock's to say.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Stdio;

use rustix::process::Signal;
use zbus::Variant;

use crate::config::Limits;
use crate::core::job::{JobId, Kind};
use crate::crash;
use crate::flock;
use crate::systemd::{self, Service, Systemd};

/// What a job gets of the agent's own environment, besides what it makes for
/// the programs that it runs itself.
const HANDED_ON: [&str; 14] = [
    "PATH",
    "LOCALE_ARCHIVE",
    "NIX_SSL_CERT_FILE",
    "SSL_CERT_FILE",
    "FORT_AGENT_LOG",
    "TZDIR",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
];

fn environment() -> impl Iterator<Item = (&'static str, OsString)> {
    let names = HANDED_ON.iter().chain(crash::HANDED_ON);
    names.filter_map(|name| Some((*name, std::env::var_os(name)?)))
}

/// Starts the job of a directory as a detached process. Its end calls `ended`.
pub fn detached(
    agent: &Path,
    kind: Kind,
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
        .envs(environment())
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

/// Starts the job of a directory as a transient unit; fine if it runs already.
pub async fn unit(
    agent: &Path,
    id: &JobId,
    directory: &Path,
    limits: &Limits,
) -> Result<(), systemd::Failed> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let argv = [text(agent), "job".into(), id.kind.as_str().into(), text(directory)];
    let variable = |(name, value): (&str, OsString)| {
        // systemd takes text only.
        value.into_string().ok().map(|value| format!("{name}={value}"))
    };
    let environment: Vec<String> = environment().filter_map(variable).collect();
    let description = format!("fort-agent: {} {}", id.kind.as_str(), id.deployment);
    let service = Service {
        name: &unit_name(id),
        description: &description,
        argv: &argv,
        environment: &environment,
        properties: properties(id.kind, limits),
    };
    Systemd::connect().await?.start(&service).await
}

/// Asks a job's unit to stop: SIGTERM, and SIGKILL ten seconds later.
pub async fn stop_unit(id: &JobId) -> Result<(), systemd::Failed> {
    Systemd::connect().await?.stop(&unit_name(id)).await
}

fn unit_name(id: &JobId) -> String {
    format!("fort-agent-{id}.service")
}

fn properties(kind: Kind, limits: &Limits) -> Vec<(&'static str, Variant<'static>)> {
    const SECOND: u64 = 1_000_000;
    let mut properties: Vec<(&'static str, Variant<'static>)> =
        vec![("TimeoutStopUSec", (10 * SECOND).into())];
    match kind {
        Kind::Switch => {
            // Without it nobody puts the old system back: it goes last.
            properties.push(("OOMScoreAdjust", (-900_i32).into()));
            properties.push(("Restart", "on-failure".into()));
            properties.push(("RestartUSec", SECOND.into()));
            properties.push(("StartLimitIntervalUSec", 0_u64.into()));
        }
        Kind::Realise => {
            properties.push(("OOMScoreAdjust", 500_i32.into()));
            let more = [
                ("MemoryHigh", limits.memory_high),
                ("MemoryMax", limits.memory_max),
                ("CPUWeight", limits.cpu_weight.map(u64::from)),
                ("IOWeight", limits.io_weight.map(u64::from)),
            ];
            properties.extend(more.into_iter().filter_map(|(k, v)| Some((k, v?.into()))));
        }
        Kind::Publish => {
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

/// From sched(7).
const SCHED_IDLE: i32 = 5;
/// From ioprio_set(2).
const IOPRIO_CLASS_IDLE: i32 = 3;

/// Signals a detached job: the holder of its lock, found anew each time, for a pid
/// that was written down could be another process's by now.
pub fn signal(directory: &Path, signal: Signal) -> io::Result<()> {
    let lock = directory.join("lock");
    for holder in flock::holders(&lock)? {
        holder.signal(&lock, signal)?;
    }
    Ok(())
}

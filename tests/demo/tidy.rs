//! The demo's directory, and its end: whatever was started is stopped by pid,
//! and nothing is left.
//!
//! A surprise: processes are known by what their command lines name, not by
//! their environment or working directory, since a person's own shell may well
//! stand in the directory.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Says that a directory is a demo's, and may be removed.
const MARK: &str = ".fort-agent-demo";
/// Longer than anything takes to die.
const LONG: Duration = Duration::from_secs(10);
/// Programs that the demo starts and that name its directory.
const PROGRAMS: [&str; 4] = ["fort-agent", "demo", "nix", "nix-env"];

/// A new one, readable by nobody else.
pub(crate) fn directory() -> std::io::Result<PathBuf> {
    let dir = tempfile::Builder::new()
        .prefix("fort-agent-demo.")
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir()?;
    let dir = dir.keep().canonicalize()?;
    fs::write(dir.join(MARK), "")?;
    Ok(dir)
}

/// Stops everything that runs for the directory, and removes it.
pub(crate) fn remove(dir: &Path) -> Result<(), String> {
    let dir = dir.canonicalize().map_err(|error| format!("{}: {error}", dir.display()))?;
    if !dir.join(MARK).exists() {
        return Err(format!("{} is not a directory of the demo's", dir.display()));
    }
    stop(&dir)?;
    let failed = |error: std::io::Error| format!("cannot remove {}: {error}", dir.display());
    open(&dir).and_then(|()| fs::remove_dir_all(&dir)).map_err(failed)
}

/// The agents' logs, and those of their jobs, in one file that stays; none if
/// there is no log yet.
pub(crate) fn save_logs(dir: &Path) -> Result<Option<PathBuf>, String> {
    let logs: Vec<PathBuf> = ["host", "second"].iter().flat_map(|it| logs(&dir.join(it))).collect();
    if logs.is_empty() {
        return Ok(None);
    }
    let file = tempfile::Builder::new().prefix("fort-agent-demo.").suffix(".log").tempfile();
    let (mut file, path) = file
        .and_then(|file| file.keep().map_err(|error| error.error))
        .map_err(|error| format!("cannot save the agents' logs: {error}"))?;
    for log in logs {
        let _ = writeln!(file, "--- {}", log.display());
        let _ = file.write_all(&fs::read(&log).unwrap_or_default());
    }
    Ok(Some(path))
}

fn logs(host: &Path) -> Vec<PathBuf> {
    let mut logs: Vec<PathBuf> = listed(host)
        .filter(|path| path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"log.")))
        .collect();
    logs.sort();
    logs.extend(listed(&host.join("state/jobs")).map(|job| job.join("log")));
    logs
}

/// Until nothing is left: what is killed may have started something meanwhile.
fn stop(dir: &Path) -> Result<(), String> {
    let began = Instant::now();
    loop {
        let found = processes(dir);
        if found.is_empty() {
            return Ok(());
        }
        if began.elapsed() > LONG {
            return Err(format!("these processes do not end: {found:?}"));
        }
        for pid in found {
            if let Some(pid) = Pid::from_raw(pid) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Processes that name the directory, and all that they started.
fn processes(dir: &Path) -> BTreeSet<i32> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let all: Vec<(i32, i32)> = listed(Path::new("/proc"))
        .filter_map(|path| path.file_name()?.to_str()?.parse().ok())
        .filter(|pid| *pid != own)
        .filter_map(|pid| Some((pid, parent(pid)?)))
        .collect();
    let named = all.iter().map(|(pid, _)| *pid).filter(|pid| is_named(*pid, dir));
    let mut found: BTreeSet<i32> = named.collect();
    loop {
        let children = all.iter().filter(|(_, parent)| found.contains(parent)).map(|(pid, _)| *pid);
        let more: Vec<i32> = children.filter(|pid| !found.contains(pid)).collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// Of one that still lives: zombies are their parents' business.
fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut rest = stat.rsplit_once(") ")?.1.split(' ');
    (rest.next()? != "Z").then_some(())?;
    rest.next()?.parse().ok()
}

fn is_named(pid: i32, dir: &Path) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let program = line.split(|byte| *byte == 0).next().unwrap_or_default();
    let program = Path::new(OsStr::from_bytes(program)).file_name();
    let dir = dir.as_os_str().as_bytes();
    program.is_some_and(|name| PROGRAMS.iter().any(|known| name == *known))
        && line.windows(dir.len()).any(|window| window == dir)
}

/// Nix makes its store read-only, which stops those who are not root.
fn open(dir: &Path) -> std::io::Result<()> {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open(&entry.path())?;
        }
    }
    Ok(())
}

fn listed(dir: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
}

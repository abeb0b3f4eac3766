//! Who holds the lock of `switch-to-configuration`, so that nobody has to guess
//! why a deployment waits.
//!
//! The lock is an flock(2) of a file that stays (nixpkgs,
//! `switch-to-configuration-ng`). Who dies gives it up, but for what he has
//! started: that keeps it by the file descriptor it inherited, and is what a
//! switch that was broken off usually leaves.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::core::types::Wall;

/// A process that has the lock's file open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// What it is called, as proc_pid_comm(5) has it.
    pub name: String,
    /// When it began; none if that cannot be told.
    pub since: Option<Wall>,
    /// The unit that it belongs to.
    pub unit: Option<String>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({})", self.pid, self.name)?;
        if let Some(since) = self.since {
            write!(f, " since {since}")?;
        }
        match &self.unit {
            Some(unit) => write!(f, " of {unit}"),
            None => Ok(()),
        }
    }
}

/// Where the lock is, below a host's root.
pub fn path(root: &Path) -> PathBuf {
    root.join("run/nixos/switch-to-configuration.lock")
}

/// The process that holds the lock; none if nobody does, or he cannot be found.
pub fn holder(root: &Path) -> Option<Holder> {
    let path = path(root);
    let lock = fs::metadata(&path).ok()?;
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let took_it = locks.lines().find_map(|line| taken(line, &lock));
    // Who took it may be dead, and his child alive.
    let pid = took_it.filter(|pid| has_open(*pid, &lock)).or_else(|| anyone(&lock))?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let name = name.trim().chars().filter(|c| !c.is_control()).collect();
    Some(Holder { pid, name, since: began(pid), unit: unit(&cgroup) })
}

/// Who took a lock on this file, from a line of proc_locks(5):
/// `1: FLOCK  ADVISORY  WRITE 708 08:03:1234 0 EOF`. What waits for it has an
/// arrow in front of its kind.
fn taken(line: &str, lock: &fs::Metadata) -> Option<u32> {
    let mut words = line.split_ascii_whitespace().skip(1);
    if words.next() != Some("FLOCK") {
        return None;
    }
    let (pid, file) = (words.nth(2)?, words.next()?);
    let inode = file.rsplit(':').next()?.parse::<u64>().ok()?;
    // The device is written in a way of its own, and some file systems have
    // another one there: who has the file open is looked at afterwards.
    (inode == lock.ino()).then(|| pid.parse().ok()).flatten()
}

fn anyone(lock: &fs::Metadata) -> Option<u32> {
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let own = std::process::id();
    pids.filter(|pid| *pid != own).find(|pid| has_open(*pid, lock))
}

fn has_open(pid: u32, lock: &fs::Metadata) -> bool {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut open = open.filter_map(|entry| fs::metadata(entry.path()).ok());
    open.any(|file| (file.dev(), file.ino()) == (lock.dev(), lock.ino()))
}

/// When a process began: the 22nd field of proc_pid_stat(5), in ticks since the
/// boot. The second, the name, may have spaces and parentheses in it.
fn began(pid: u32) -> Option<Wall> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse::<u64>().ok()?;
    let system = fs::read_to_string("/proc/stat").ok()?;
    let booted = system.lines().find_map(|line| line.strip_prefix("btime "))?;
    let booted = booted.trim().parse::<u64>().ok()?;
    let second = booted.checked_add(ticks / rustix::param::clock_ticks_per_second().max(1))?;
    Some(Wall::from_millis(i64::try_from(second.checked_mul(1000)?).ok()?))
}

/// The innermost unit of a control group.
fn unit(cgroup: &str) -> Option<String> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    let is_unit = |name: &&str| name.ends_with(".service") || name.ends_with(".scope");
    path.rsplit('/').find(is_unit).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    fn locked() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let lock = path(root.path());
        fs::create_dir_all(lock.parent().unwrap()).unwrap();
        (root, lock)
    }

    fn wait_for(root: &Path, wanted: impl Fn(&Option<Holder>) -> bool) -> Option<Holder> {
        let began = Instant::now();
        loop {
            let found = holder(root);
            if wanted(&found) {
                return found;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "{found:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn nobody_holds_a_lock_that_is_not_there_or_not_taken() {
        let (root, lock) = locked();
        assert_eq!(holder(root.path()), None);
        fs::write(lock, "").unwrap();
        assert_eq!(holder(root.path()), None);
    }

    #[test]
    fn who_took_it_is_named() {
        let (root, lock) = locked();
        let mut holds = Command::new("flock").arg(&lock).args(["sleep", "60"]).spawn().unwrap();
        let found = wait_for(root.path(), Option::is_some).unwrap();
        assert_eq!((found.pid, found.name.as_str()), (holds.id(), "flock"));
        let age = crate::clock::now().wall.as_millis() - found.since.unwrap().as_millis();
        assert!((-2_000..60_000).contains(&age), "{age}");
        assert!(found.to_string().starts_with(&format!("process {} (flock) since 2", holds.id())));
        // It is killed; what it started still has the lock.
        holds.kill().unwrap();
        holds.wait().unwrap();
        let left = wait_for(root.path(), |found| found.as_ref().is_some_and(|h| h.name == "sleep"));
        let left = left.unwrap();
        assert_ne!(left.pid, holds.id());
        let pid = rustix::process::Pid::from_raw(left.pid.try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        wait_for(root.path(), Option::is_none);
    }

    #[test]
    fn a_lock_of_another_kind_or_file_is_another_one() {
        let (root, lock) = locked();
        let mut reads = Command::new("tail")
            .arg("-f")
            .arg(root.path().join("other"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        fs::write(&lock, "").unwrap();
        let (inode, own) = (fs::metadata(&lock).unwrap().ino(), std::process::id());
        let metadata = fs::metadata(&lock).unwrap();
        let line = |kind: &str| format!("1: {kind}  ADVISORY  WRITE {own} 08:03:{inode} 0 EOF");
        assert_eq!(taken(&line("FLOCK"), &metadata), Some(own));
        assert_eq!(taken(&line("POSIX"), &metadata), None);
        assert_eq!(taken(&line("-> FLOCK"), &metadata), None);
        assert_eq!(taken("garbage", &metadata), None);
        reads.kill().unwrap();
        reads.wait().unwrap();
    }

    #[test]
    fn the_innermost_unit_is_the_one() {
        let cgroup = "0::/system.slice/nixos-rebuild.service/sub\n";
        assert_eq!(unit(cgroup).as_deref(), Some("nixos-rebuild.service"));
        assert_eq!(unit("0::/user.slice/x.scope\n").as_deref(), Some("x.scope"));
        assert_eq!(unit("0::/\n"), None);
    }
}

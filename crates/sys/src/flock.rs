//! Holders of the lock of a file: finds these processes, and ends them.
//!
//! Locks are those of flock(2). A lock belongs to an open file description, and so to
//! every process that has inherited it: the one that took it may be gone.
//! proc_pid_fdinfo(5) says of each descriptor whether it is one of those. The table in
//! proc_locks(5) only names the process that took it, leaves that out where the process
//! is of another PID namespace or dead, and on some file systems has another device there
//! than stat(2).

use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, geteuid, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use fort_core::plain::clean;
use fort_core::types::Wall;

/// Time that a process may take to be gone after SIGKILL.
const AFTER_KILL: Duration = Duration::from_secs(2);

/// A process that holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Process id of the holder.
    pub pid: u32,
    /// Name of the process, as proc_pid_comm(5) has it.
    pub name: String,
    /// User of the process: the effective one, or the real one where only the effective
    /// one is root.
    pub uid: u32,
    /// Time at which it began; `None` if that cannot be told.
    pub since: Option<Wall>,
    /// Innermost unit that it belongs to, which may be one of a user's or of a container's.
    pub unit: Option<String>,
    /// Unit of the host's own systemd that it belongs to.
    pub system_unit: Option<String>,
}

impl Holder {
    /// Whether the process has root's rights, or at least this process's.
    pub fn is_root(&self) -> bool {
        self.uid == 0 || self.uid == geteuid().as_raw()
    }

    /// Sends the process a signal, if it holds the lock of this file still: its number
    /// may be another process's by now. Returns whether it was sent.
    pub fn signal(&self, file: &Path, signal: Signal) -> io::Result<bool> {
        Ok(self.signalled(file, signal)?.is_some())
    }

    /// Kills the process, if it holds the lock of this file still, and waits a moment for
    /// it to be gone. Returns whether it is.
    pub async fn end(&self, file: &Path) -> io::Result<bool> {
        let Some(process) = self.signalled(file, Signal::KILL)? else { return Ok(true) };
        // Readable when the process has ended (pidfd_open(2)).
        #[expect(deprecated, reason = "sound for an OwnedFd; its successor is unsafe to call")]
        let process = AsyncFd::new(process)?;
        Ok(timeout(AFTER_KILL, process.readable()).await.is_ok())
    }

    fn signalled(&self, file: &Path, signal: Signal) -> io::Result<Option<std::os::fd::OwnedFd>> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let Some(pid) = pid else { return Ok(None) };
        let process = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            process => process?,
        };
        // From here on the descriptor is that process's, whatever becomes of its number.
        if !holds(self.pid, &fs::metadata(file)?)? {
            return Ok(None);
        }
        match pidfd_send_signal(&process, signal) {
            Err(rustix::io::Errno::SRCH) => Ok(None),
            sent => sent.map(|()| Some(process)).map_err(io::Error::from),
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({})", self.pid, self.name)?;
        if !self.is_root() {
            write!(f, " of user {}", self.uid)?;
        }
        if let Some(since) = self.since {
            write!(f, " since {since}")?;
        }
        match &self.unit {
            Some(unit) => write!(f, " of {unit}"),
            None => Ok(()),
        }
    }
}

/// Returns the processes that hold the lock of a file, but for this one. None if there is
/// no such file. Fails where that cannot be told: other users' processes are root's to
/// look at.
pub fn holders(file: &Path) -> io::Result<Vec<Holder>> {
    let wanted = match fs::metadata(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        found => found?,
    };
    let own = std::process::id();
    // One that takes it during the look below can be missed; that hides nothing.
    let was_taken = is_taken(&wanted);
    let (mut found, mut hidden) = (Vec::new(), None);
    for process in fs::read_dir("/proc")? {
        let name = process?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        if pid == own {
            continue;
        }
        match holds(pid, &wanted) {
            Ok(true) => found.extend(holder(pid)),
            Ok(false) => {}
            Err(error) => hidden = Some(error),
        }
    }
    match hidden {
        Some(error) if found.is_empty() && was_taken && is_taken(&wanted) => Err(error),
        Some(_) | None => Ok(found),
    }
}

/// Whether a process holds the lock of a file. One that has ended does not.
fn holds(pid: u32, wanted: &Metadata) -> io::Result<bool> {
    let gone = |error: &io::Error| {
        // ESRCH is what reading below /proc/PID says once the process has ended.
        let ended = Some(rustix::io::Errno::SRCH.raw_os_error());
        error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == ended
    };
    let entries = match fs::read_dir(format!("/proc/{pid}/fdinfo")) {
        Err(error) if gone(&error) => return Ok(false),
        entries => entries?,
    };
    for entry in entries {
        let entry = match entry {
            Err(error) if gone(&error) => return Ok(false),
            entry => entry?,
        };
        // One that is closed meanwhile holds nothing.
        let Ok(info) = fs::read_to_string(entry.path()) else { continue };
        if !info.lines().any(|line| is_lock_of(line, wanted.ino())) {
            continue;
        }
        let file = format!("/proc/{pid}/fd/{}", entry.file_name().to_string_lossy());
        let Ok(file) = fs::metadata(file) else { continue };
        if (file.dev(), file.ino()) == (wanted.dev(), wanted.ino()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a line of fdinfo is of a lock of this inode:
/// `lock:\t1: FLOCK  ADVISORY  WRITE 359 00:13:11691 0 EOF`.
fn is_lock_of(line: &str, inode: u64) -> bool {
    line.strip_prefix("lock:").is_some_and(|lock| flock_of(lock) == Some(inode))
}

/// Returns the inode of a lock as proc_locks(5) writes it, if it is of flock(2) and not
/// waited for: that has an arrow in front of its kind.
fn flock_of(line: &str) -> Option<u64> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let kind = words.next()?;
    let file = words.nth(3)?;
    (kind == "FLOCK").then(|| file.rsplit(':').next()?.parse().ok()).flatten()
}

fn is_taken(wanted: &Metadata) -> bool {
    let table = fs::read_to_string("/proc/locks").unwrap_or_default();
    table.lines().any(|line| flock_of(line) == Some(wanted.ino()))
}

fn holder(pid: u32) -> Option<Holder> {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let name = clean(name.trim());
    let (unit, system_unit) = units(&cgroup);
    Some(Holder { pid, name, uid: user(&status)?, since: began(pid), unit, system_unit })
}

/// Returns the user from the line `Uid:`, with the real, the effective and other users. A
/// program that was given root's rights by its file is still its user's.
fn user(status: &str) -> Option<u32> {
    let users = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    let mut users = users.split_ascii_whitespace().map(|user| user.parse::<u32>().ok());
    let (real, effective) = (users.next()??, users.next()??);
    Some(if effective == 0 { real } else { effective })
}

/// Returns when a process began: the 22nd field of proc_pid_stat(5), in ticks since the
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

/// Returns the innermost unit of a control group, and the outermost: what is below a
/// service or scope of the host's own systemd is a user's, a container's, or no unit of
/// anybody's.
fn units(cgroup: &str) -> (Option<String>, Option<String>) {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
    let is_unit = |name: &&str| name.ends_with(".service") || name.ends_with(".scope");
    // Whoever may make control groups names them at will.
    let mut units = path.split('/').filter(is_unit).map(clean);
    let outermost = units.next();
    (units.next_back().or_else(|| outermost.clone()), outermost)
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::path::PathBuf;
    use std::process::{Command, Stdio};
    use std::time::Instant;

    fn file() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("lock");
        (directory, file)
    }

    fn wait_for(file: &Path, wanted: impl Fn(&[Holder]) -> bool) -> Vec<Holder> {
        let began = Instant::now();
        loop {
            let found = holders(file).unwrap();
            if wanted(&found) {
                return found;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "{found:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn block<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn nobody_holds_a_lock_that_is_not_there_or_not_taken() {
        let (_directory, file) = file();
        assert_eq!(holders(&file).unwrap(), []);
        fs::write(&file, "").unwrap();
        assert_eq!(holders(&file).unwrap(), []);
    }

    #[test]
    fn who_has_the_file_open_or_waits_for_the_lock_does_not_hold_it() {
        let (_directory, file) = file();
        fs::write(&file, "").unwrap();
        let mut reads = Command::new("tail").arg("-f").arg(&file).spawn().unwrap();
        let mut holds = Command::new("flock").arg(&file).args(["sleep", "60"]).spawn().unwrap();
        let of_holder = |found: &[Holder]| found.iter().any(|one| one.pid == holds.id());
        wait_for(&file, of_holder);
        let mut waits = Command::new("flock").arg(&file).args(["sleep", "60"]).spawn().unwrap();
        // `1: -> FLOCK  ADVISORY  WRITE 708 08:03:1234 0 EOF`.
        let inode = format!(":{} ", fs::metadata(&file).unwrap().ino());
        let waiting = |line: &str| line.contains("-> FLOCK") && line.contains(&inode);
        let began = Instant::now();
        while !fs::read_to_string("/proc/locks").unwrap().lines().any(waiting) {
            assert!(began.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(10));
        }
        for found in holders(&file).unwrap() {
            assert!(found.pid != reads.id() && found.pid != waits.id(), "{found:?}");
        }
        for child in [&mut reads, &mut waits, &mut holds] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let left = wait_for(&file, |found| found.len() == 1);
        assert!(block(left[0].end(&file)).unwrap());
    }

    #[test]
    fn all_who_hold_it_are_named_and_ended() {
        let (_directory, file) = file();
        let mut holds = Command::new("flock").arg(&file).args(["sleep", "60"]).spawn().unwrap();
        // What it starts has inherited it.
        let found = wait_for(&file, |found| found.len() == 2);
        let first = found.iter().find(|one| one.pid == holds.id()).unwrap();
        assert_eq!((first.name.as_str(), first.uid), ("flock", geteuid().as_raw()));
        let age = crate::clock::now().wall.as_millis() - first.since.unwrap().as_millis();
        assert!((-2_000..60_000).contains(&age), "{age}");
        let text = first.to_string();
        assert!(text.starts_with(&format!("process {} (flock) since 2", holds.id())), "{text}");
        // It is killed; what it started still has the lock.
        assert!(block(first.end(&file)).unwrap());
        holds.wait().unwrap();
        let left = wait_for(&file, |found| found.len() == 1);
        assert_eq!(left[0].name, "sleep");
        assert!(block(left[0].end(&file)).unwrap());
        assert_eq!(holders(&file).unwrap(), []);
    }

    #[test]
    fn a_process_that_holds_it_no_more_is_left_alone() {
        let (_directory, file) = file();
        fs::write(&file, "").unwrap();
        // As if its number had been given to another one.
        let mut other = Command::new("sleep").arg("60").spawn().unwrap();
        let holder = holder(other.id()).unwrap();
        assert!(!holder.signal(&file, Signal::KILL).unwrap());
        assert!(block(holder.end(&file)).unwrap());
        assert_eq!(other.try_wait().unwrap(), None, "it lives");
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(!holder.signal(&file, Signal::KILL).unwrap(), "it is gone");
    }

    #[test]
    fn only_taken_locks_of_flock_and_of_this_file_count() {
        let line = |kind: &str| format!("lock:\t1: {kind}  ADVISORY  WRITE 0 00:13:11691 0 EOF");
        assert!(is_lock_of(&line("FLOCK"), 11691));
        assert!(!is_lock_of(&line("FLOCK"), 1691));
        assert!(!is_lock_of(&line("POSIX"), 11691));
        assert!(!is_lock_of(&line("-> FLOCK"), 11691));
        assert!(!is_lock_of("ino:\t11691", 11691));
        assert!(!is_lock_of("lock:\tgarbage", 11691));
    }

    #[test]
    fn a_program_that_its_file_gives_roots_rights_is_its_users() {
        let status = |users: &str| format!("Name:\tsu\nUid:\t{users}\nGid:\t0\t0\t0\t0\n");
        assert_eq!(user(&status("1000\t0\t0\t0")), Some(1000));
        assert_eq!(user(&status("0\t65534\t65534\t65534")), Some(65534));
        assert_eq!(user(&status("0\t0\t0\t0")), Some(0));
        assert_eq!(user("Name:\tsu\n"), None);
    }

    #[test]
    fn a_unit_of_the_hosts_systemd_is_told_from_those_in_it() {
        let text = |unit: &str| Some(unit.to_owned());
        let both = |cgroup: &str| units(cgroup);
        let nested = "0::/user.slice/user-7.slice/user@7.service/app.slice/run-u1.scope\n";
        assert_eq!(both(nested), (text("run-u1.scope"), text("user@7.service")));
        let plain = "0::/system.slice/nixos-rebuild.service/sub\n";
        assert_eq!(both(plain), (text("nixos-rebuild.service"), text("nixos-rebuild.service")));
        assert_eq!(both("0::/\n"), (None, None));
    }

    #[test]
    fn another_file_system_may_have_the_same_number() {
        let (_directory, file) = file();
        let (_other_directory, other) = self::file();
        let mut holds = Command::new("flock")
            .arg(&file)
            .args(["sleep", "60"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let found = wait_for(&file, |found| found.len() == 2);
        fs::write(&other, "").unwrap();
        assert_eq!(holders(&other).unwrap(), []);
        for holder in &found {
            assert!(block(holder.end(&file)).unwrap());
        }
        holds.wait().unwrap();
    }
}

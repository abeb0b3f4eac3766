//! Whether something was killed for want of memory, by what the kernel counts.
//!
//! A process that was killed for that dies of the same signal as one that a
//! person kills, and a compiler whose child was says only that it failed. The
//! kernel counts: per control group (`memory.events`, cgroup-v2.rst), and for
//! the host (`oom_kill` in /proc/vmstat). A surprise: systemd-oomd kills without
//! being counted.

use std::fs;
use std::path::{Path, PathBuf};

use super::realise::RealiseOutcome;
use fort_core::fault::Fault;

/// How many processes had been killed for want of memory at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kills {
    /// Of this process's own control group; none where that is not counted.
    own: Count,
    /// Of this host, those of every builder of a daemon's included.
    host: Count,
}

/// A counter, and what it was at.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Count {
    file: PathBuf,
    at: Option<u64>,
}

impl Kills {
    /// Reads the counts of the kernel as they are now.
    pub(super) fn so_far() -> Self {
        let group = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let own = group.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        let own = Path::new("/sys/fs/cgroup").join(own).join("memory.events");
        Self::in_files(own, "/proc/vmstat".into())
    }

    fn in_files(own: PathBuf, host: PathBuf) -> Self {
        Self { own: Count::of(own), host: Count::of(host) }
    }

    /// Outcome of Nix having been killed by this signal, with what it was doing.
    pub(super) fn of_nix(&self, signal: i32, doing: &str) -> RealiseOutcome {
        let killed = format!("nix was killed by signal {signal} while {doing}");
        // What killed a process of ours is in our own group, where that is counted.
        let grown = self.own.has_grown().or_else(|| self.host.has_grown());
        let (cause, fault) = match (signal, grown) {
            (KILL, Some(true)) => (format!("nix, while {doing}"), Fault::Memory),
            (KILL, None) => (format!("{killed}, for want of memory perhaps"), Fault::Nix),
            (KILL, Some(false)) => (format!("{killed}, not for want of memory"), Fault::Nix),
            (_, _) => (killed, Fault::Nix),
        };
        RealiseOutcome::Broken { cause, fault }
    }

    /// A failed build's cause and fault, with what the kernel did meanwhile.
    pub(super) fn blamed_for(&self, cause: String, fault: Fault) -> (String, Fault) {
        let grown = [&self.own, &self.host].map(Count::has_grown);
        if !grown.contains(&Some(true)) {
            return (cause, fault);
        }
        // Words differ between versions and builders; without them it is a hint only.
        let died = ["signal 9", "Killed", "exit code 137"].iter().any(|it| cause.contains(it));
        match died {
            true => (cause, Fault::Memory),
            false => {
                let hint = "meanwhile the kernel killed a process here for want of memory";
                (format!("{cause} ({hint})"), fault)
            }
        }
    }
}

const KILL: i32 = 9;

impl Count {
    fn of(file: PathBuf) -> Self {
        let at = oom_kills(&file);
        Self { file, at }
    }

    /// Whether the count has grown since; `None` where the kernel does not count.
    fn has_grown(&self) -> Option<bool> {
        Some(oom_kills(&self.file)? > self.at?)
    }
}

/// `oom_kill N`, as both files have it.
fn oom_kills(file: &Path) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counters in files, and what they are at later.
    fn kills(
        own: Option<u64>,
        host: Option<u64>,
        later: impl Fn(&Path, &Path),
    ) -> (tempfile::TempDir, Kills) {
        let dir = tempfile::tempdir().unwrap();
        let (group, vmstat) = (dir.path().join("memory.events"), dir.path().join("vmstat"));
        let write = |file: &Path, count: u64| {
            fs::write(file, format!("low 0\noom 7\noom_kill {count}\noom_group_kill 0\n")).unwrap();
        };
        own.into_iter().for_each(|count| write(&group, count));
        host.into_iter().for_each(|count| write(&vmstat, count));
        let kills = Kills::in_files(group.clone(), vmstat.clone());
        later(&group, &vmstat);
        (dir, kills)
    }

    fn grow(file: &Path) {
        fs::write(file, "oom_kill 8\n").unwrap();
    }

    fn fault((_dir, kills): (tempfile::TempDir, Kills), signal: i32) -> (Fault, String) {
        let outcome = kills.of_nix(signal, "evaluating");
        let RealiseOutcome::Broken { cause, fault } = outcome else { panic!("{outcome:?}") };
        (fault, cause)
    }

    #[test]
    fn nix_was_killed_for_want_of_memory_if_its_own_group_says_so() {
        let (told, cause) = fault(kills(Some(1), Some(1), |group, _| grow(group)), 9);
        assert_eq!((told, cause.as_str()), (Fault::Memory, "nix, while evaluating"));
        // Another's, and by something else.
        let (told, cause) = fault(kills(Some(1), Some(1), |_, vmstat| grow(vmstat)), 9);
        assert!(told == Fault::Nix && cause.ends_with("not for want of memory"), "{cause}");
        let (told, _) = fault(kills(Some(1), Some(1), |group, _| grow(group)), 15);
        assert_eq!(told, Fault::Nix);
    }

    #[test]
    fn without_a_group_that_counts_the_host_decides_and_without_that_it_is_left_open() {
        let (told, _) = fault(kills(None, Some(1), |_, vmstat| grow(vmstat)), 9);
        assert_eq!(told, Fault::Memory);
        let (told, cause) = fault(kills(None, None, |_, _| ()), 9);
        assert!(told == Fault::Nix && cause.ends_with("perhaps"), "{cause}");
    }

    #[test]
    fn a_builder_that_died_while_the_kernel_killed_was_killed_for_want_of_memory() {
        let blamed = |cause: &str, grown: bool| {
            let later = |_: &Path, vmstat: &Path| {
                if grown {
                    grow(vmstat);
                }
            };
            let (_dir, kills) = kills(Some(1), Some(1), later);
            kills.blamed_for(cause.into(), Fault::Build)
        };
        let died = "builder for 'x.drv' failed due to signal 9 (Killed)";
        assert_eq!(blamed(died, true), (died.into(), Fault::Memory));
        assert_eq!(blamed(died, false), (died.into(), Fault::Build));
        let (cause, fault) = blamed("builder for 'x.drv' failed with exit code 1", true);
        assert!(fault == Fault::Build && cause.contains("for want of memory"), "{cause}");
    }

    #[test]
    fn this_kernel_counts() {
        let host = Count::of("/proc/vmstat".into());
        assert_eq!(host.has_grown(), Some(false));
    }
}

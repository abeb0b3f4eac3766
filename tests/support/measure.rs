//! Cost of processes, as the kernel counts it.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use fort_agent::git::{Reply, Request};

use super::rig::agent;

/// Memory, threads and files of a process at a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Footprint {
    /// KiB of its own: heap and stacks.
    pub(crate) anon: u64,
    /// KiB with the program's and the libraries' pages.
    pub(crate) rss: u64,
    pub(crate) threads: u64,
    pub(crate) files: u64,
}

/// Reads the footprint of a running process.
pub(crate) fn footprint(pid: u32) -> Footprint {
    let status = PathBuf::from(format!("/proc/{pid}/status"));
    let of = |name| field(&status, name).expect("the process runs");
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    Footprint {
        anon: of("RssAnon"),
        rss: of("VmRSS"),
        threads: of("Threads"),
        files: files.try_into().unwrap(),
    }
}

/// Processor time of a process so far, all threads, in ms: the kernel's exact
/// sum, shown in steps of 10 ms.
pub(crate) fn processor_ms(pid: u32) -> f64 {
    ticks(pid, 2) * 10.0
}

/// The same with that of all its children that ended.
pub(crate) fn with_children_ms(pid: u32) -> f64 {
    ticks(pid, 4) * 10.0
}

/// Fields 14, 15, 16 and 17 of proc_pid_stat(5), or the first of them.
fn ticks(pid: u32, fields: usize) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, behind_the_name) = stat.rsplit_once(") ").unwrap();
    let times = behind_the_name.split(' ').skip(11).take(fields);
    times.map(|n| n.parse::<f64>().unwrap()).sum()
}

/// Fetches and measures: the reply, how long it took, and the most memory.
pub(crate) fn fetched(request: &Request) -> (Reply, Duration, u64) {
    let started = Instant::now();
    let (reply, peak) = tried(request);
    (serde_json::from_str(&reply).unwrap(), started.elapsed(), peak)
}

/// Tries to fetch, and says what was answered, if anything was, and the most
/// memory that took, in KiB.
pub(crate) fn tried(request: &Request) -> (String, u64) {
    let mut child = Command::new(agent())
        .args(["job", "fetch"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = serde_json::to_vec(request).unwrap();
    line.push(b'\n');
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&line).unwrap();
    let (_, peak) = watched(&mut child);
    let mut reply = String::new();
    child.stdout.take().unwrap().read_to_string(&mut reply).unwrap();
    (reply, peak)
}

/// Cost of a program that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) took: Duration,
    /// Of all its threads, in ms: in steps of 10 ms.
    pub(crate) processor: f64,
    /// The most memory it had (VmHWM), in KiB.
    pub(crate) peak: u64,
}

/// Runs a program to its end, which must be a good one. Nothing else may end
/// meanwhile that this process started.
pub(crate) fn ran(command: &mut Command) -> Cost {
    let me = std::process::id();
    let of_children = || with_children_ms(me) - processor_ms(me);
    let (before, started) = (of_children(), Instant::now());
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let (status, peak) = watched(&mut child);
    let took = started.elapsed();
    assert!(status.success(), "{command:?}: {status}");
    Cost { took, processor: of_children() - before, peak }
}

/// Waits for its end, and its most memory: the high-water mark only goes up,
/// so the last one seen is the peak, to within what the last millisecond added.
fn watched(child: &mut Child) -> (ExitStatus, u64) {
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut peak = 0;
    loop {
        if let Some(ended) = child.try_wait().unwrap() {
            return (ended, peak);
        }
        peak = field(&status, "VmHWM").unwrap_or(peak);
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// A line of `/proc/PID/status`, in KiB where it is memory.
fn field(status: &Path, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(status).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

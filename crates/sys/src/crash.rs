//! Where tests kill a program.
//!
//! A *point* is a moment at which the host, or what is on disk, has just become
//! different, or is about to.
//!
//! Only in builds with debug assertions: what is shipped contains none of it.
//! There `FORT_AGENT_CRASH` names a directory. Each point that is passed becomes
//! a line `PROCESS POINT` of its file `passed`; and the process that has written
//! the line for the Nth time that the file `kill` asks for (`N PROCESS POINT`)
//! removes that file and kills itself.

use std::path::Path;

/// Variables of the agent's environment that jobs get for it.
pub const HANDED_ON: &[&str] = if cfg!(debug_assertions) { &["FORT_AGENT_CRASH"] } else { &[] };

/// Something that is being done: one point where it begins, one where it ends.
#[must_use = "it ends where this is dropped"]
#[derive(Debug)]
pub struct Passing {
    kind: &'static str,
    name: &'static str,
}

impl Passing {
    /// Passes the point at its beginning.
    pub fn begin(kind: &'static str, name: &'static str) -> Self {
        pass(|| format!("before {kind} {name}"));
        Self { kind, name }
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        pass(|| format!("after {} {}", self.kind, self.name));
    }
}

/// Passes the point at which a file was written.
pub fn wrote(path: &Path) {
    pass(|| format!("wrote {}", path.file_name().unwrap_or_default().to_string_lossy()));
}

/// Passes a point; in builds without debug assertions that does nothing.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn pass(_point: impl FnOnce() -> String) {}

/// Passes a point: records it, and kills this process where that is asked for.
#[cfg(debug_assertions)]
pub fn pass(point: impl FnOnce() -> String) {
    use std::sync::OnceLock;
    static ASKED: OnceLock<Option<std::path::PathBuf>> = OnceLock::new();
    let asked = ASKED.get_or_init(|| std::env::var_os(HANDED_ON.first()?).map(Into::into));
    if let Some(directory) = asked
        && let Err(error) = pass_in(directory, &format!("{} {}\n", process(), point()))
    {
        tracing::error!("a point could not be recorded: {error}");
    }
}

#[cfg(debug_assertions)]
fn pass_in(directory: &Path, line: &str) -> std::io::Result<()> {
    use std::fs;
    use std::io::Write as _;
    let passed = directory.join("passed");
    let mut file = fs::OpenOptions::new().append(true).create(true).open(&passed)?;
    file.write_all(line.as_bytes())?;
    let kill = directory.join("kill");
    let wanted = fs::read_to_string(&kill).unwrap_or_default();
    let Some((nth, point)) = wanted.split_once(' ') else { return Ok(()) };
    let times = || {
        let passed = fs::read_to_string(&passed).unwrap_or_default();
        passed.lines().filter(|passed| *passed == line.trim_end()).count().to_string()
    };
    if point.trim_end() == line.trim_end() && times() == nth {
        fs::remove_file(&kill)?;
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)?;
    }
    Ok(())
}

/// Returns `agent`, or the kind of job that this process is.
#[cfg(debug_assertions)]
fn process() -> String {
    let mut words = std::env::args().skip_while(|word| word != "job").skip(1);
    words.next().unwrap_or_else(|| "agent".into())
}

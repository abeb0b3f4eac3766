//! Runs other programs: the one place that does.
//!
//! No shell, no stdin (but for a [`Talk`]), no environment but the one given, a
//! process group of its own, and an end to every wait. What a program says is kept only up to
//! a bound. It decides nothing about exit codes: a program that fails is a
//! [`Finished`], only one that could not be started is an error.
//!
//! Surprises: a process in a *session* of its own (a Nix builder) is not
//! reached by the signals sent here; it is up to the program to end those on
//! SIGTERM. And descriptors: everything that the standard library opens is
//! closed in the child; one that this process itself inherited is not ours to
//! close (that takes `unsafe`).

mod credentials;
mod output;
mod pipes;

use std::ffi::OsString;
use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};

pub use self::credentials::Credentials;
use self::output::{Head, Lines};
pub use self::output::{Tail, plain};
pub use self::pipes::Talk;

/// Time between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(10);
/// Time that a program may hold on after SIGKILL (in an uninterruptible wait).
const AFTER_KILL: Duration = Duration::from_secs(10);
/// Time for which its pipes are still read after its end: a process that it left behind
/// may hold them open for ever.
const DRAIN: Duration = Duration::from_secs(1);
/// Stand-in for "no time limit".
const A_YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// A program to run, and within which bounds.
#[derive(Clone)]
pub struct Command {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    directory: PathBuf,
    time_limit: Duration,
    stdout_limit: usize,
    stderr_limit: usize,
    line_limit: usize,
    grace: Duration,
    user: Option<Credentials>,
}

/// End of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// The program ended by itself, with this code.
    Exit(i32),
    /// The program was ended by this signal, which somebody else sent.
    Signal(i32),
    /// The program was stopped here: the time was over.
    TimedOut,
    /// The program was stopped here: it was cancelled.
    Cancelled,
}

/// Result of a program that has ended: its end and its output.
#[derive(Debug, Clone)]
pub struct Finished {
    /// End of the program: exit code, signal, time-out or cancellation.
    pub end: End,
    /// First bytes of its stdout, up to the limit.
    pub stdout: Vec<u8>,
    /// Whether stdout had more than was kept.
    pub stdout_cut: bool,
    /// End of its stderr, as [`plain`] text.
    pub stderr: String,
}

/// Error of a program that could not be started at all.
#[derive(Debug, thiserror::Error)]
#[error("cannot run {}", program.display())]
pub struct CannotStart {
    program: PathBuf,
    source: std::io::Error,
}

/// Stream that a line was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output of the program.
    Stdout,
    /// Standard error of the program.
    Stderr,
}

impl Command {
    /// Makes a command for the program at an absolute path: no search, no arguments, an
    /// empty environment, run in `/`, without a time limit.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            directory: "/".into(),
            time_limit: A_YEAR,
            stdout_limit: 1 << 20,
            stderr_limit: 16 << 10,
            line_limit: 256 << 10,
            grace: GRACE,
            user: None,
        }
    }

    /// Adds an argument. Everybody on the host can read it.
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds several arguments, which everybody on the host can read.
    pub fn args<T: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Adds variables; a later one replaces an earlier one of its name.
    pub fn environment<K: Into<OsString>, V: Into<OsString>>(
        mut self,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        self.environment.extend(variables.into_iter().map(|(k, v)| (k.into(), v.into())));
        self
    }

    /// Runs it in this directory.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = directory.into();
        self
    }

    /// Runs it as this user, and lets it gain nothing more. This process has to
    /// be root.
    pub fn user(mut self, user: Credentials) -> Self {
        self.user = Some(user);
        self
    }

    /// Stops it after this time.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit.min(A_YEAR);
        self
    }

    /// Keeps at most so many bytes of its stdout (1 MiB).
    pub fn stdout_limit(mut self, bytes: usize) -> Self {
        self.stdout_limit = bytes;
        self
    }

    /// Keeps at most so many bytes of the end of its stderr (16 KiB).
    pub fn stderr_limit(mut self, bytes: usize) -> Self {
        self.stderr_limit = bytes;
        self
    }

    /// Hands out at most so many bytes of a line (256 KiB).
    pub fn line_limit(mut self, bytes: usize) -> Self {
        self.line_limit = bytes;
        self
    }

    /// Runs it to its end, or until `cancel` is ready: then it is stopped, and
    /// has ended when this returns. Dropping the future kills it at once.
    pub async fn run(&self, cancel: impl Future<Output = ()>) -> Result<Finished, CannotStart> {
        self.run_with_lines(cancel, |_, _| ()).await
    }

    /// Runs the program as [`Command::run`] does, and hands out each line, without its
    /// end, as it is written. Of a line over the limit only the beginning.
    pub async fn run_with_lines(
        &self,
        cancel: impl Future<Output = ()>,
        mut on_line: impl FnMut(Stream, &[u8]),
    ) -> Result<Finished, CannotStart> {
        let mut child = self.spawn(Stdio::null())?;
        let mut group = Group::of(&child);
        let mut cancel = pin!(cancel);

        let mut stdout = Lines::new(child.stdout.take(), self.line_limit);
        let mut stderr = Lines::new(child.stderr.take(), self.line_limit);
        let mut head = Head::new(self.stdout_limit);
        let mut tail = Tail::new(self.stderr_limit);

        let mut ended: Option<End> = None;
        let mut stopped: Option<End> = None;
        // What happens next if nothing else does: at first the time is over.
        let mut alarm = Instant::now() + self.time_limit;
        let mut killed = false;

        let end = loop {
            if let Some(end) = ended
                && !stdout.open()
                && !stderr.open()
            {
                break end;
            }
            tokio::select! {
                // Reading comes last: one that never stops talking must not
                // keep us from stopping it.
                biased;
                status = child.wait(), if ended.is_none() => {
                    // What it left behind of its group goes with it only when
                    // it was stopped: a daemon that it started may stay.
                    if stopped.is_some() { group.signal(Signal::KILL); }
                    group.gone();
                    ended = Some(stopped.unwrap_or_else(|| end_of(&status)));
                    alarm = Instant::now() + DRAIN;
                }
                () = &mut cancel, if stopped.is_none() && ended.is_none() => {
                    stopped = Some(End::Cancelled);
                    group.signal(Signal::TERM);
                    alarm = Instant::now() + self.grace;
                }
                () = sleep_until(alarm) => match (ended, stopped) {
                    (Some(end), _) => break end,
                    (None, None) => {
                        stopped = Some(End::TimedOut);
                        group.signal(Signal::TERM);
                        alarm = Instant::now() + self.grace;
                    }
                    (None, Some(end)) if killed => break end,
                    (None, Some(_)) => {
                        killed = true;
                        group.signal(Signal::KILL);
                        alarm = Instant::now() + AFTER_KILL;
                    }
                },
                chunk = stdout.read(), if stdout.open() => {
                    head.push(&chunk);
                    stdout.split(&chunk, |line| on_line(Stream::Stdout, line));
                }
                chunk = stderr.read(), if stderr.open() => {
                    tail.push(&chunk);
                    stderr.split(&chunk, |line| on_line(Stream::Stderr, line));
                }
            }
        };
        stdout.last(|line| on_line(Stream::Stdout, line));
        stderr.last(|line| on_line(Stream::Stderr, line));
        Ok(Finished { end, stdout: head.kept, stdout_cut: head.cut, stderr: tail.text() })
    }

    fn spawn(&self, stdin: Stdio) -> Result<tokio::process::Child, CannotStart> {
        let error = |source| CannotStart { program: self.program.clone(), source };
        if !self.program.is_absolute() {
            return Err(error(std::io::Error::other("its path is not absolute")));
        }
        let mut command = tokio::process::Command::new(&self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(k, v)| (k, v)))
            .current_dir(&self.directory)
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let started = match &self.user {
            Some(user) => user.start(&mut command),
            None => command.spawn(),
        };
        started.map_err(error)
    }

    /// Returns the path of the program.
    pub fn program(&self) -> &Path {
        &self.program
    }
}

/// Shows the command without the environment, which may hold a proxy's password.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.program, self.arguments)
    }
}

impl End {
    /// Whether the program ended by itself with code 0.
    pub fn success(self) -> bool {
        self == End::Exit(0)
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Exit(code) => write!(f, "exit code {code}"),
            End::Signal(signal) => write!(f, "killed by signal {signal}"),
            End::TimedOut => f.write_str("timed out"),
            End::Cancelled => f.write_str("cancelled"),
        }
    }
}

/// Process group of a child. Killed when dropped before the child has gone.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &tokio::process::Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.0 {
            // It fails only when nobody is left in the group.
            let _ = kill_process_group(pid, signal);
        }
    }

    fn gone(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

fn end_of(status: &std::io::Result<ExitStatus>) -> End {
    use std::os::unix::process::ExitStatusExt;
    // A child that cannot be waited for was reaped by somebody else: its code
    // is unknown, and must not look like success.
    let Ok(status) = status else { return End::Signal(0) };
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Exit(code),
        (None, signal) => End::Signal(signal.unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests;

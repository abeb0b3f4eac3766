//! git over ssh, by the ssh program: one session for each poll or fetch.
//!
//! The session is a child with an argument vector, an empty environment and no
//! configuration but what is given here: one key, one file of known hosts, and
//! never a question. Reads and writes wait for as long as the remote may be
//! silent; then the child is killed. What it says on stderr is the only place
//! where ssh tells why, so its end is kept and put into words.
//!
//! What surprises: a session cannot be kept for the next poll. `git
//! upload-pack` reads the refs once and would say the same for ever. So a poll
//! here costs a TCP connection, a key exchange and a process on either side.
//!
//! A server that does not take `GIT_PROTOCOL` (sshd's `AcceptEnv`) speaks the
//! first version of the protocol, and lists all of its refs to us each time.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gix_transport::Protocol;
use gix_transport::client::git::ConnectMode;
use gix_transport::client::git::blocking_io::Connection;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::Remote;
use super::failure::PollError;
use super::http::{Pace, lock};
use super::limits::{Meter, Stopped};
use super::ssh_words;
use fort_sys::foreign_file;

/// Timeout of the name lookup, TCP and the key exchange together.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Longest wait for the far side's end and ssh's last words.
const FAREWELL: Duration = Duration::from_secs(1);
const STDERR_TAIL: usize = 4 << 10;

/// gix's transport over a session.
pub(super) type Transport = Connection<Reader, Writer>;

/// A running session. It ends with the last of its readers and writers.
#[derive(Clone)]
pub(super) struct Ssh(Arc<Mutex<Session>>);

/// Reader of what the far side sends.
pub(super) struct Reader(Ssh);
/// Writer of what is sent to the far side.
pub(super) struct Writer(Ssh);

/// Whether ssh takes this path as it is: in its options it expands `~`, `%` and
/// `$`, and splits at spaces and quotes.
pub fn ssh_takes(path: &Path) -> bool {
    let plain = |c: char| c.is_alphanumeric() || "/._-+@:,=".contains(c);
    path.is_absolute() && path.to_str().is_some_and(|path| path.chars().all(plain))
}

impl Ssh {
    /// Starts a session in which the far side serves the remote's repository.
    pub(super) fn start(
        remote: &Remote,
        url: &gix::Url,
        pace: Pace,
    ) -> Result<(Self, Transport), PollError> {
        let mut child = command(remote, url)?
            .spawn()
            .map_err(|e| PollError::Setup(format!("the ssh program cannot be started: {e}")))?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(PollError::Setup("the ssh program has no pipes".into()));
        };
        let session = Session {
            child,
            stdin: Some(stdin),
            stdout,
            stderr: Some(stderr),
            said: Vec::new(),
            ended: false,
            failure: None,
            remote: remote.clone(),
            meter: Meter::list(),
            until: match pace {
                Pace::Poll => Some(Instant::now() + remote.timeout * 2),
                // As long as the process that fetches lives.
                Pace::Fetch => None,
            },
        };
        session.unblock().map_err(|e| PollError::Setup(format!("pipes: {e}")))?;
        let ssh = Self(Arc::new(Mutex::new(session)));
        let (reader, writer) = (Reader(ssh.clone()), Writer(ssh.clone()));
        let path = url.path.clone();
        let host = None::<(&str, _)>;
        let transport =
            Connection::new(reader, writer, Protocol::V2, path, host, ConnectMode::Process, false)
                .custom_url(Some(url.to_bstring()));
        Ok((ssh, transport))
    }

    /// First failure of the session, if it was the session's end or a limit of ours.
    pub(super) fn failure(&self) -> Option<PollError> {
        lock(&self.0).failure()
    }

    /// Meter that counts what comes. It expects a list of refs, until told otherwise.
    pub(super) fn meter(&self) -> Meter {
        lock(&self.0).meter.clone()
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        lock(&self.0.0).read(buffer)
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Session {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    stderr: Option<ChildStderr>,
    /// The end of what came on stderr.
    said: Vec<u8>,
    /// Whether the far side has no more to say.
    ended: bool,
    failure: Option<PollError>,
    remote: Remote,
    meter: Meter,
    until: Option<Instant>,
}

impl Session {
    fn unblock(&self) -> io::Result<()> {
        let pipes =
            [self.stdin.as_ref().map(|p| p.as_fd()), self.stderr.as_ref().map(|p| p.as_fd())];
        for pipe in pipes.into_iter().flatten().chain([self.stdout.as_fd()]) {
            fcntl_setfl(pipe, fcntl_getfl(pipe)? | OFlags::NONBLOCK)?;
        }
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let deadline = self.deadline();
        loop {
            match self.stdout.read(buffer) {
                Ok(read) => {
                    self.ended |= read == 0 && !buffer.is_empty();
                    return match self.meter.take(read) {
                        Ok(()) => Ok(read),
                        Err(error) => {
                            if let Some(Stopped::Exceeds(limit)) = self.meter.stopped() {
                                self.fail(PollError::Exceeds(limit));
                            }
                            Err(error)
                        }
                    };
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.wait(false, deadline)?,
                Err(e) => return Err(e),
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let deadline = self.deadline();
        loop {
            let Some(stdin) = &mut self.stdin else {
                return Err(io::ErrorKind::BrokenPipe.into());
            };
            match stdin.write(bytes) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.wait(true, deadline)?,
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
                    self.ended = true;
                    return Err(e);
                }
                written => return written,
            }
        }
    }

    /// Time from which a wait that begins now is too long.
    fn deadline(&self) -> Instant {
        let silence = Instant::now() + self.remote.timeout;
        self.until.map_or(silence, |until| until.min(silence))
    }

    /// Waits until something moves; says so once the deadline is over.
    fn wait(&mut self, writing: bool, deadline: Instant) -> io::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let after = match self.until {
                Some(until) if until <= deadline => self.remote.timeout * 2,
                _ => self.remote.timeout,
            };
            return Err(self.fail(PollError::Stalled { after }));
        }
        let mut pipes = Vec::with_capacity(2);
        match &self.stdin {
            Some(stdin) if writing => pipes.push(PollFd::new(stdin, PollFlags::OUT)),
            _ => pipes.push(PollFd::new(&self.stdout, PollFlags::IN)),
        }
        if let Some(stderr) = &self.stderr {
            pipes.push(PollFd::new(stderr, PollFlags::IN));
        }
        let limit = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
        match poll(&mut pipes, Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        self.listen();
        Ok(())
    }

    /// Takes in what has come on stderr.
    fn listen(&mut self) {
        let mut buffer = [0; 1024];
        while let Some(stderr) = &mut self.stderr {
            match stderr.read(&mut buffer) {
                Ok(read @ 1..) => {
                    self.said.extend_from_slice(&buffer[..read]);
                    let surplus = self.said.len().saturating_sub(STDERR_TAIL);
                    self.said.drain(..surplus);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => self.stderr = None,
            }
        }
    }

    fn fail(&mut self, error: PollError) -> io::Error {
        let told = io::Error::other(error.to_string());
        self.failure.get_or_insert(error);
        told
    }

    fn failure(&mut self) -> Option<PollError> {
        if self.failure.is_none() && self.ended {
            let gone = self.farewell();
            // 255 is ssh's own; anything else is the far side's program.
            let own = !gone || self.status() == Some(255);
            let said = String::from_utf8_lossy(&self.said);
            self.failure = Some(ssh_words::in_words(&said, own, &self.remote));
        }
        self.failure.clone()
    }

    /// Lets both sides end by themselves. False: they had to be ended.
    fn farewell(&mut self) -> bool {
        self.stdin = None;
        let deadline = Instant::now() + FAREWELL;
        let mut rest = [0; 4096];
        while self.stderr.is_some() {
            let left = deadline.saturating_duration_since(Instant::now());
            // What still comes is of no use, but would keep the other side.
            let quiet = matches!(self.stdout.read(&mut rest), Ok(0));
            let Ok(limit) = Timespec::try_from(left) else { break };
            let mut pipes: Vec<_> =
                self.stderr.iter().map(|p| PollFd::new(p, PollFlags::IN)).collect();
            if !quiet {
                pipes.push(PollFd::new(&self.stdout, PollFlags::IN));
            }
            if left.is_zero() || poll(&mut pipes, Some(&limit)).is_err() {
                break;
            }
            self.listen();
        }
        let gone = self.stderr.is_none();
        if !gone {
            let _ = self.child.kill();
        }
        gone
    }

    fn status(&mut self) -> Option<i32> {
        self.child.wait().ok()?.code()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.failure.is_none() {
            self.farewell();
        }
        // Nothing is left to do if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(remote: &Remote, url: &gix::Url) -> Result<Command, PollError> {
    let setup = |what: &str| PollError::Setup(format!("the url of {}: {what}", remote.name));
    let host = url.host_argument_safe().ok_or_else(|| setup("names no host"))?;
    let key = file("ssh_key_file", remote.ssh_key_file.as_deref())?;
    let known_hosts = file("known_hosts", remote.known_hosts.as_deref())?;
    // ssh opens both by itself. Should they be others by then, they still only let us
    // in where the configuration says, or out of it.
    match foreign_file::look(&key) {
        Ok(1..) => {}
        Ok(0) => return Err(PollError::NoKey { file: key }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(PollError::NoKey { file: key });
        }
        Err(e) => {
            let what = format!("the key {} cannot be read: {e}", key.display());
            return Err(PollError::Setup(what));
        }
    }
    foreign_file::look(&known_hosts).map_err(|e| {
        PollError::Setup(format!("known_hosts {} cannot be read: {e}", known_hosts.display()))
    })?;
    let connect = remote.timeout.min(CONNECT_LIMIT).as_secs().max(1);
    // Only for a session that nobody waits for any more.
    let alive = remote.timeout.as_secs().max(1);
    let mut command = Command::new(program()?);
    command.env_clear().env("LC_ALL", "C").args(["-T", "-F", "/dev/null"]);
    let mut option = |name: &str, value: &str| {
        command.arg("-o").arg(format!("{name}={value}"));
    };
    option("BatchMode", "yes");
    option("StrictHostKeyChecking", "yes");
    option("UpdateHostKeys", "no");
    option("UserKnownHostsFile", &known_hosts.to_string_lossy());
    option("GlobalKnownHostsFile", "/dev/null");
    option("IdentityFile", &key.to_string_lossy());
    option("IdentitiesOnly", "yes");
    option("IdentityAgent", "none");
    option("PreferredAuthentications", "publickey");
    option("ClearAllForwardings", "yes");
    option("ConnectTimeout", &connect.to_string());
    option("ServerAliveInterval", &alive.to_string());
    option("ServerAliveCountMax", "2");
    option("SetEnv", "GIT_PROTOCOL=version=2");
    option("LogLevel", "ERROR");
    if let Some(user) = url.user() {
        command.arg("-l").arg(user);
    }
    if let Some(port) = url.port {
        command.arg("-p").arg(port.to_string());
    }
    command.arg("--").arg(host).arg(far_command(url).ok_or_else(|| setup("its path"))?);
    command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

/// Command that the far side's shell is to run: the path is one word of it.
fn far_command(url: &gix::Url) -> Option<String> {
    let path = gix::url::expand_path::for_shell(url.path.clone());
    let path = std::str::from_utf8(&path).ok()?;
    let fit = !path.is_empty() && !path.starts_with('-') && !path.chars().any(char::is_control);
    // `!` is history in csh, even between quotes: as git does it.
    let quoted = path.replace('\'', r"'\''").replace('!', r"'\!'");
    fit.then(|| format!("git-upload-pack '{quoted}'"))
}

fn file(name: &str, path: Option<&Path>) -> Result<PathBuf, PollError> {
    match path {
        Some(path) if ssh_takes(path) => Ok(path.to_owned()),
        Some(_) => Err(PollError::Setup(format!("{name} is not a path that ssh takes as it is"))),
        None => Err(PollError::Setup(format!("ssh:// needs {name}"))),
    }
}

/// The ssh program, by its whole path.
fn program() -> Result<PathBuf, PollError> {
    let path: OsString = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join("ssh"))
        .find(|program| program.is_file())
        .ok_or_else(|| PollError::Setup("there is no ssh program in PATH".into()))
}

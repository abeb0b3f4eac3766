//! Runs a part of this program as a process of its own, whose memory, a hang or a
//! crash goes with it.
//!
//! Protocol: one line of JSON on stdin, one on stdout, and exit code 0 whenever
//! there is an answer, be it an error; 2 for who was not asked properly. **The
//! child ends as soon as its stdin is closed**: nobody is left who wants the
//! answer, and an orphan would hold the lock on the clone, or fill the disk.

use std::io::{BufRead as _, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitCode, ExitStatus, Stdio};

use rustix::process::Signal;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::limits::{Exceeded, Limits, confine};
use fort_core::plain::one_line;
use fort_sys::environment;

const REQUEST_LIMIT: u64 = 1 << 20;
const REPLY_LIMIT: u64 = 4 << 20;
const STDERR_TAIL: usize = 4 << 10;

/// The end of a child that gave no answer.
#[derive(Debug)]
pub(super) struct Died {
    /// End of the child in words, such as its exit status.
    pub(super) how: String,
    signal: Option<i32>,
    /// End of the child's stderr, as one line.
    pub(super) stderr: String,
}

impl Died {
    /// Limit that the child met, if it was one: there is no answer then, as a program
    /// whose memory is at an end cannot go on.
    pub(super) fn exceeded(&self, limits: Limits) -> Option<Exceeded> {
        let signal = self.signal?;
        if signal == Signal::ABORT.as_raw() && self.stderr.contains("memory allocation of") {
            return Some(Exceeded::Memory { limit: limits.memory });
        }
        (signal == Signal::XFSZ.as_raw()).then_some(Exceeded::Pack { limit: limits.pack })
    }

    fn before_it_began(what: &str, error: &dyn std::fmt::Display) -> Self {
        Self { how: format!("{what}: {error}"), signal: None, stderr: String::new() }
    }

    fn of(status: std::io::Result<ExitStatus>, stderr: String) -> Self {
        let signal = status.as_ref().ok().and_then(ExitStatusExt::signal);
        let how = match status {
            Ok(_) if signal == Some(Signal::KILL.as_raw()) => {
                "was killed, as by the kernel when memory is short".into()
            }
            Ok(status) => format!("ended with {status}"),
            Err(error) => error.to_string(),
        };
        Self { how, signal, stderr }
    }
}

/// The child's side: reads what it is asked, limits itself, and answers.
pub(super) fn serve<Q: DeserializeOwned, A: Serialize>(
    what: &str,
    limits: impl FnOnce(&Q) -> Limits,
    answer: impl FnOnce(&Q) -> A,
) -> ExitCode {
    let mut line = String::new();
    let read = std::io::stdin().lock().take(REQUEST_LIMIT).read_line(&mut line);
    let question = match read.map(|_| serde_json::from_str::<Q>(&line)) {
        Ok(Ok(question)) => question,
        Ok(Err(error)) => return refuse(what, &error),
        Err(error) => return refuse(what, &error),
    };
    if let Err(error) = confine(limits(&question)) {
        return refuse(what, &format!("it cannot limit itself: {error}"));
    }
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        // What is half-done is swept by the next child.
        std::process::exit(3);
    });
    let answer = answer(&question);
    let written = serde_json::to_writer(std::io::stdout(), &answer)
        .map_err(std::io::Error::from)
        .and_then(|()| writeln!(std::io::stdout()));
    written.map_or_else(|e| refuse(what, &e), |()| ExitCode::SUCCESS)
}

fn refuse(what: &str, error: &dyn std::fmt::Display) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "fort-agent job {what}: {error}");
    ExitCode::from(2)
}

/// Asks a child (`exe job WHAT`) and waits for its answer. Dropping the future
/// kills the child.
pub(super) async fn ask<Q: Serialize, A: DeserializeOwned>(
    exe: &Path,
    what: &str,
    question: &Q,
) -> Result<A, Died> {
    let mut line =
        serde_json::to_vec(question).map_err(|e| Died::before_it_began("cannot be asked", &e))?;
    line.push(b'\n');
    let mut child = tokio::process::Command::new(exe)
        .args(["job", what])
        .env_clear()
        .envs(environment::of_fetch())
        .env("LANG", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| Died::before_it_began("cannot be started", &e))?;
    // Kept open until the end: closing it ends the child.
    let mut stdin = child.stdin.take();
    if let Some(stdin) = &mut stdin {
        // A child that is gone says why on stderr.
        let _ = stdin.write_all(&line).await;
    }
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    let (output, errors, status) = tokio::join!(
        async {
            let mut bytes = Vec::new();
            if let Some(pipe) = stdout {
                let _ = pipe.take(REPLY_LIMIT).read_to_end(&mut bytes).await;
            }
            bytes
        },
        async {
            match stderr {
                Some(pipe) => tail(pipe).await,
                None => String::new(),
            }
        },
        child.wait(),
    );
    drop(stdin);
    serde_json::from_slice::<A>(&output).map_err(|_| Died::of(status, errors))
}

/// Reads to the end and keeps the last of it, as one line.
async fn tail(mut pipe: impl tokio::io::AsyncRead + Unpin) -> String {
    let mut kept = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
        kept.extend_from_slice(&buffer[..read]);
        let surplus = kept.len().saturating_sub(STDERR_TAIL);
        kept.drain(..surplus);
    }
    one_line(&String::from_utf8_lossy(&kept))
}

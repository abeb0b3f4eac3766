//! `make demo`: a forge, two hosts with the real agent, a cache, and what happens
//! between them, told step by step and checked at each.
//!
//! Three faces of one program. Without arguments it makes a directory, has
//! itself tell the story there (`tell DIR`), and removes everything at the end,
//! however that comes: the one that tells may fail or be killed at any moment.
//! `remove DIR` removes what `KEEP=1` left running.
#![allow(unreachable_pub, dead_code, missing_docs, clippy::unwrap_used, clippy::panic)]
#![allow(clippy::wildcard_enum_match_arm)]

use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};

use tokio::signal::unix::{SignalKind, signal};

mod cache;
mod keep;
mod needs;
mod stage;
mod story;
#[path = "../support/mod.rs"]
mod support;
mod tidy;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => play(),
        ["tell", dir] => story::tell(Path::new(dir)),
        ["remove", dir] => tidy::remove(Path::new(dir)),
        _ => Err("usage: demo [remove DIR]; KEEP=1 leaves it running".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("demo: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// How the story ended.
enum End {
    Told(ExitStatus),
    Kept,
    Interrupted,
}

fn play() -> Result<(), String> {
    needs::check()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
    // From here on nothing but the end ends this process.
    let end = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let mut kept = signal(SignalKind::user_defined1())?;
        let dir = tidy::directory()?;
        let mut teller = tokio::process::Command::new(std::env::current_exe()?)
            .arg("tell")
            .arg(&dir)
            // What fails says why; where in here is nobody's concern.
            .env("RUST_BACKTRACE", "0")
            // Ctrl-C is for this process; it sees to the others.
            .process_group(0)
            .stdin(std::process::Stdio::null())
            .spawn()?;
        let end = tokio::select! {
            status = teller.wait() => End::Told(status?),
            _ = kept.recv() => End::Kept,
            _ = interrupt.recv() => End::Interrupted,
            _ = terminate.recv() => End::Interrupted,
            _ = hang_up.recv() => End::Interrupted,
        };
        Ok((dir, end))
    });
    let (dir, end): (PathBuf, End) = end.map_err(|error: std::io::Error| error.to_string())?;
    let saved = match end {
        End::Kept => return Ok(()),
        End::Told(status) if status.success() => None,
        End::Told(_) => Some(tidy::save_logs(&dir)),
        End::Interrupted => {
            eprintln!("\ninterrupted: stopping and removing everything");
            None
        }
    };
    let removed = tidy::remove(&dir);
    match (saved, end) {
        (Some(log), _) => Err(match log? {
            Some(log) => format!("it failed; the agent's log is {}", log.display()),
            None => "it failed before the agent was started".into(),
        }),
        (None, End::Interrupted) => removed.and(Err("interrupted".into())),
        (None, End::Told(_) | End::Kept) => removed,
    }
}

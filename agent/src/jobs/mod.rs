//! Long work, each piece a process of its own (`fort-agent job ...`): it
//! survives the agent's restart, crash and upgrade.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::fs::Mode;
use tokio::signal::unix::{SignalKind, signal};

pub mod dir;
mod free_lock;
pub mod handover;
pub mod publish;
pub mod realise;
pub mod recovery;
pub mod spec;
pub mod start;
pub mod switch;
mod traces;

/// Runs `fort-agent job KIND ...`, which is for the agent itself, not for people.
pub fn main(args: &[OsString]) -> ExitCode {
    let words: Vec<&str> = args.iter().map(|arg| arg.to_str().unwrap_or_default()).collect();
    match (words.as_slice(), args) {
        (["fetch"], _) => crate::git::child::main(),
        (["export"], _) => crate::git::export::main(),
        (["exec", parent, ..], [_, _, program, rest @ ..]) => exec(parent, program, rest),
        (["realise", _], [_, directory]) => {
            let agent = itself();
            finish(run(async |stop| realise::run(&agent, Path::new(directory), stop).await))
        }
        (["publish", _], [_, directory]) => {
            finish(run(async |cancelled| publish::run(Path::new(directory), cancelled).await))
        }
        (["switch", _], [_, directory]) => {
            finish(run(async |_| switch::run(Path::new(directory)).await))
        }
        _ => {
            eprintln!("fort-agent job is for the agent itself");
            ExitCode::from(2)
        }
    }
}

/// Returns the path of this program, even if another system has taken its file away.
pub fn itself() -> PathBuf {
    let running = PathBuf::from("/proc/self/exe");
    std::env::current_exe().ok().filter(|path| path.exists()).unwrap_or(running)
}

/// Becomes a program that is killed when the process that asked for it dies.
fn exec(parent: &str, program: &OsString, args: &[OsString]) -> ExitCode {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    let tied = set_parent_process_death_signal(Some(Signal::KILL));
    let still_there = getppid().is_some_and(|pid| pid.as_raw_nonzero().to_string() == parent);
    if tied.is_err() || !still_there {
        eprintln!("whoever asked for {} is gone", program.to_string_lossy());
        return ExitCode::FAILURE;
    }
    let error = std::process::Command::new(program).args(args).exec();
    eprintln!("cannot run {}: {error}", program.to_string_lossy());
    // As a shell says it: 127 is not one of switch-to-configuration's codes.
    ExitCode::from(127)
}

fn run(
    work: impl AsyncFnOnce(std::pin::Pin<Box<dyn Future<Output = ()>>>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    // A terminal's or a service manager's signals to the agent are not ours.
    let _ = rustix::process::setsid();
    // Nor is its umask, where this was not started by systemd: what a system's
    // activation makes is for everybody unless it says otherwise.
    rustix::process::umask(Mode::from(0o022));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut stop = signal(SignalKind::terminate())?;
        work(Box::pin(async move {
            stop.recv().await;
        }))
        .await
    })
}

fn finish(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

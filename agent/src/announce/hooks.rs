//! Runs the operator's programs when a deployment has ended: one after the
//! other, each with a deadline. What comes of them is only reported.
//!
//! What they say may hold secrets of theirs, so it goes to the log, and not into
//! the status, which everybody can read.

use std::ffi::OsString;
use std::future::pending;

use super::cursor::Mark;
use super::{Notes, Shows};
use crate::command::{Command, Tail, plain};
use crate::config::Config;
use crate::core::memory::Entry;

/// Most tries of the hooks for one deployment, should they end the agent.
const MOST_TRIES: u32 = 3;
/// Bytes that are kept of a hook's output.
const OUTPUT: usize = 4 << 10;
/// Bytes of a cause that a hook is told; an environment has its limits.
const CAUSE: usize = 4 << 10;

/// Runs the hooks for each deployment that ends, for as long as the agent runs.
pub(super) async fn run(config: Config, mut mark: Mark, mut shows: Shows, notes: Notes) {
    loop {
        let shown = shows.borrow_and_update().clone();
        let next = shown.and_then(|shown| mark.news(&shown.history).first().cloned());
        let Some(entry) = next else {
            match shows.changed().await {
                Ok(()) => continue,
                Err(_) => return,
            }
        };
        let tries = mark.begin(&entry);
        if tries > MOST_TRIES {
            let said = format!(
                "the hooks for {} ended the agent {MOST_TRIES} times: not run again",
                entry.id
            );
            tracing::error!(deployment = %entry.id, "{said}");
            notes.set("hooks", Some(said));
        } else {
            if tries > 1 {
                // They may have done all of it; only they can know.
                tracing::warn!(deployment = %entry.id, tries,
                    "the hooks are run once more: the agent ended while they ran");
            }
            notes.set("hooks", tell(&config, &entry, tries).await);
        }
        mark.told(&entry);
    }
}

/// Runs all hooks; returns what is wrong with the last that failed.
async fn tell(config: &Config, entry: &Entry, tries: u32) -> Option<String> {
    let mut environment = environment(entry, &config.hostname);
    environment.push(("FORT_AGENT_TRY", tries.to_string().into()));
    let mut failed = None;
    for words in &config.hooks.on_verdict {
        let Some((program, arguments)) = words.split_first() else { continue };
        let command = Command::new(program)
            .args(arguments)
            .environment(environment.clone())
            .time_limit(config.hooks.timeout)
            .stdout_limit(0)
            .line_limit(OUTPUT);
        let mut said = Tail::new(OUTPUT);
        let end = command
            .run_with_lines(pending(), |_, line| {
                said.push(line);
                said.push(b"\n");
            })
            .await;
        let why = match end {
            Ok(finished) if finished.end.success() => {
                tracing::debug!(deployment = %entry.id, hook = program, "the hook was run");
                continue;
            }
            Ok(finished) => finished.end.to_string(),
            Err(error) => {
                let why = std::error::Error::source(&error).map(ToString::to_string);
                format!("it cannot be run: {}", why.unwrap_or_default())
            }
        };
        let output = said.text();
        let note = format!(
            "the hook {program} failed for {}: {why}; mend it: it is run again for the next \
             deployment",
            entry.id
        );
        tracing::warn!(deployment = %entry.id, hook = program, output, "{note}");
        failed = Some(note);
    }
    failed
}

/// Returns the environment of hooks, which describes the deployment that ended.
fn environment(entry: &Entry, hostname: &str) -> Vec<(&'static str, OsString)> {
    let text = |value: Option<String>| OsString::from(value.unwrap_or_default());
    let commit = entry.commit.to_string();
    let cause = entry.cause.as_deref().map(|cause| {
        // Nor can a variable hold a zero.
        let cause = plain(cause.as_bytes());
        cause[..cause.floor_char_boundary(CAUSE)].to_owned()
    });
    let mut variables = vec![
        ("FORT_AGENT_DEPLOYMENT", entry.id.to_string().into()),
        ("FORT_AGENT_COMMIT", commit.clone().into()),
        ("FORT_AGENT_SOURCE", commit.into()),
        ("FORT_AGENT_SYSTEM", text(entry.system.as_ref().map(ToString::to_string))),
        ("FORT_AGENT_PREVIOUS_SYSTEM", text(entry.previous.as_ref().map(ToString::to_string))),
        ("FORT_AGENT_OPERATION", entry.operation.as_str().into()),
        ("FORT_AGENT_HOSTNAME", hostname.into()),
        ("FORT_AGENT_VERDICT", entry.verdict.as_str().into()),
        ("FORT_AGENT_CAUSE", text(cause)),
        ("LANG", "C.UTF-8".into()),
    ];
    if let Some(path) = std::env::var_os("PATH") {
        variables.push(("PATH", path));
    }
    variables
}

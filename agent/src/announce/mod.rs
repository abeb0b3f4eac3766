//! Tells outsiders how deployments end: the operator's own programs (`[hooks]`)
//! and a Forgejo (`[report]`).
//!
//! Beside the loop and never in its way: both read what the loop shows, as everybody
//! does, and the queue is the history itself, which is bounded. How far each has come
//! is remembered in a file of its own (`cursor.rs`), so that an end is told at least
//! once, whatever restarts in between: the agent itself is restarted by many a
//! deployment, just before its verdict.

mod cursor;
mod failure;
mod forgejo;
mod hooks;
mod report;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

pub use self::failure::ReportFailed;
pub use self::forgejo::{CommitState, CommitStatus, Forgejo};
pub use self::report::RetryLimits;

use self::cursor::Mark;
use crate::config::Config;
use crate::control::Shown;
use crate::core::memory::Entry;

/// State that the loop published last; `None` before its first turn.
pub type Shows = watch::Receiver<Option<Arc<Shown>>>;

/// Notes for the status about what could not be told lately.
#[derive(Clone)]
pub struct Notes {
    notes: Arc<Mutex<BTreeMap<&'static str, String>>>,
    changed: Arc<dyn Fn() + Send + Sync>,
}

impl Notes {
    /// Creates an empty set of notes. `changed` is called whenever there are others.
    pub fn new(changed: impl Fn() + Send + Sync + 'static) -> Self {
        Self { notes: Arc::default(), changed: Arc::new(changed) }
    }

    /// Returns the notes in words: none, if all went well the last time.
    pub fn all(&self) -> Vec<String> {
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.values().cloned().collect()
    }

    /// Sets the note of one of those who tell: the last trouble, if there is one now.
    pub(crate) fn set(&self, who: &'static str, note: Option<String>) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let same = notes.get(who) == note.as_ref();
        match note {
            Some(note) => drop(notes.insert(who, note)),
            None => drop(notes.remove(who)),
        }
        drop(notes);
        if !same {
            (self.changed)();
        }
    }
}

/// Begins to tell what `shows` will say, for as long as the agent runs.
/// `history` is as it was when the agent stopped: what has ended since, or was
/// not told yet, is told. On a first start nothing in it is news.
///
/// Fails when it cannot be remembered how far this has come.
pub fn begin(config: &Config, history: &[Entry], shows: &Shows, notes: &Notes) -> io::Result<()> {
    let file = config.state_dir.join("told-hooks.json");
    if config.hooks.on_verdict.is_empty() {
        forget(&file)?;
    } else {
        let mark = Mark::open(file, history)?;
        tokio::spawn(hooks::run(config.clone(), mark, shows.clone(), notes.clone()));
    }
    let file = config.state_dir.join("told-forgejo.json");
    match &config.report {
        None => forget(&file)?,
        Some(report) => {
            let mark = Mark::open(file, history)?;
            let forgejo = Forgejo::new(report);
            let context = format!("fort-agent/{}", config.hostname);
            let (shows, notes) = (shows.clone(), notes.clone());
            tokio::spawn(report::run(forgejo, context, RetryLimits::default(), mark, shows, notes));
        }
    }
    Ok(())
}

/// Removes a mark: should telling be switched on again, what ended in between is no news.
fn forget(file: &Path) -> io::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

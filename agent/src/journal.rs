//! The journal: what the agent remembers, on disk.
//!
//! One small file, written only when it changed. One that cannot be read is
//! moved aside, never overwritten, and made anew from what runs; the last
//! accepted head is kept in a second file, so that a lost journal does not
//! reopen the past to a force-push.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::core::memory::{Accepted, Memory, VERSION};
use crate::core::types::Wall;
use crate::files::{self, Durability};
use crate::jobs::dir::{self, JobFile};

/// Prefix of the name of a journal that was moved aside; the time follows.
const ASIDE: &str = "journal.unusable-";

/// The journal of one state directory, which no other agent can open.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    high_water: PathBuf,
    jobs: PathBuf,
    saved: Option<Memory>,
    /// Path of the journal that was moved aside, as long as the memory speaks of it.
    aside: Option<PathBuf>,
    _lock: File,
}

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// Another agent uses the directory.
    #[error("another agent uses {}", .0.display())]
    Taken(PathBuf),
    /// The operating system refuses the use of the directory.
    #[error("the state directory {} cannot be used", path.display())]
    Refused {
        /// Path that was refused.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
}

#[derive(Serialize, Deserialize)]
struct HighWater {
    accepted: Option<Accepted>,
}

/// The beginning of every journal, whatever else its version has in it.
#[derive(Deserialize)]
struct Head {
    version: u32,
}

impl Journal {
    /// Takes a state directory, making it if it is not there.
    pub fn open(state_dir: &Path) -> Result<Self, Unusable> {
        let refused = |source| Unusable::Refused { path: state_dir.to_owned(), source };
        files::private_directory(state_dir).map_err(refused)?;
        let lock = files::lock(&state_dir.join("lock"))
            .map_err(refused)?
            .ok_or_else(|| Unusable::Taken(state_dir.to_owned()))?;
        Ok(Self {
            path: state_dir.join("journal.json"),
            high_water: state_dir.join("accepted.json"),
            jobs: dir::all(state_dir),
            saved: None,
            aside: None,
            _lock: lock,
        })
    }

    /// Loads the memory. A journal that cannot be used is moved aside, and the memory says so.
    pub fn load(&mut self, now: Wall) -> anyhow::Result<Memory> {
        let (mut memory, problem) = match read(&self.path) {
            Ok(Some(mut memory)) => {
                self.saved = Some(memory.clone());
                self.aside = memory.rebuilt.as_ref().and_then(|_| self.last_aside());
                if self.aside.is_none() {
                    memory.rebuilt = None;
                }
                return Ok(memory);
            }
            Ok(None) => (Memory::new(), None),
            Err(why) => {
                let name = format!("{ASIDE}{}.json", now.compact());
                let aside = self.path.with_file_name(name);
                std::fs::rename(&self.path, &aside)
                    .context("cannot move the unusable journal aside")?;
                let kept = aside.display().to_string();
                self.aside = Some(aside);
                let (memory, made) = match self.copy() {
                    Some(copy) => (copy, "taken from the last switch's copy"),
                    None => (Memory::new(), "made anew"),
                };
                // Short: what lifts it comes last, and may not be cut off.
                let said = format!(
                    "the journal could not be used ({why}) and was {made}; remove {kept} when \
                     nobody needs it"
                );
                (memory, Some(said))
            }
        };
        let high_water = files::read_json::<HighWater>(&self.high_water).ok().flatten();
        memory.accepted = high_water.and_then(|high_water| high_water.accepted).or(memory.accepted);
        memory.rebuilt = problem.or_else(|| {
            let lost = memory.accepted.is_some();
            lost.then(|| "the journal was gone, and was made anew".to_owned())
        });
        Ok(memory)
    }

    /// Returns the path of the journal's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the journal that was moved aside has been taken away: whoever had to know
    /// of it does.
    pub fn aside_is_gone(&self) -> bool {
        self.aside.as_ref().is_some_and(|aside| matches!(aside.try_exists(), Ok(false)))
    }

    fn last_aside(&self) -> Option<PathBuf> {
        let entries = std::fs::read_dir(self.path.parent()?).ok()?;
        let is_one = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(ASIDE))
        };
        entries.flatten().map(|entry| entry.path()).filter(is_one).max()
    }

    /// Returns the memory as it was when the last switch was ordered, if that is not over.
    fn copy(&self) -> Option<Memory> {
        let jobs = std::fs::read_dir(&self.jobs).ok()?;
        let mut copies: Vec<PathBuf> = jobs
            .flatten()
            .map(|job| job.path().join(JobFile::Memory.name()))
            .filter(|copy| copy.exists())
            .collect();
        // Names begin with the kind and then the time.
        copies.sort();
        copies.iter().rev().find_map(|copy| read(copy).ok().flatten())
    }

    /// Makes the memory durable, if it changed.
    pub fn save(&mut self, memory: &Memory) -> io::Result<()> {
        if self.saved.as_ref() == Some(memory) {
            return Ok(());
        }
        // The high-water mark goes first: it may be ahead, never behind.
        let accepted = |memory: &Memory| memory.accepted.clone();
        if self.saved.as_ref().map(accepted) != Some(accepted(memory)) {
            let high_water = HighWater { accepted: accepted(memory) };
            files::write_json(&self.high_water, &high_water, Durability::Durable)?;
        }
        files::write_json(&self.path, memory, Durability::Durable)?;
        self.saved = Some(memory.clone());
        Ok(())
    }
}

fn read(path: &Path) -> Result<Option<Memory>, String> {
    let bytes = files::read_bounded(path).map_err(|error| error.to_string())?;
    let Some(bytes) = bytes else { return Ok(None) };
    let head: Head = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    if head.version != VERSION {
        return Err(format!("it is of version {}, this agent reads {VERSION}", head.version));
    }
    serde_json::from_slice(&bytes).map(Some).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Wall = Wall::from_millis(0);

    fn accepted() -> Option<Accepted> {
        let commit = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
        Some(Accepted { commit, remote: "origin".into() })
    }

    #[test]
    fn a_second_agent_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let first = Journal::open(dir.path()).unwrap();
        assert!(matches!(Journal::open(dir.path()), Err(Unusable::Taken(_))));
        drop(first);
        assert!(Journal::open(dir.path()).is_ok());
    }

    #[test]
    fn a_truncated_journal_is_moved_aside_and_the_accepted_head_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        let memory = Memory { accepted: accepted(), ..Memory::new() };
        journal.save(&memory).unwrap();
        let path = dir.path().join("journal.json");
        let text = std::fs::read(&path).unwrap();
        std::fs::write(&path, &text[..text.len() / 2]).unwrap();
        let read = journal.load(NOW).unwrap();
        assert_eq!(read.accepted, accepted());
        assert!(read.rebuilt.unwrap().contains("could not be used"));
        let aside = dir.path().join("journal.unusable-19700101T000000Z.json");
        assert_eq!(std::fs::read(aside).unwrap(), text[..text.len() / 2]);
    }

    #[test]
    fn fields_of_a_newer_minor_version_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.json");
        std::fs::write(&path, r#"{"version":1,"invented_later":{"x":[1]}}"#).unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        let mut memory = journal.load(NOW).unwrap();
        assert_eq!(memory.rebuilt, None);
        memory.accepted = accepted();
        journal.save(&memory).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(r#""invented_later":{"x":[1]}"#), "{text}");
    }

    #[test]
    fn a_newer_major_version_is_kept_for_the_agent_that_wrote_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.json");
        std::fs::write(&path, r#"{"version":2,"everything":"else"}"#).unwrap();
        let memory = Journal::open(dir.path()).unwrap().load(NOW).unwrap();
        assert!(memory.rebuilt.unwrap().contains("version 2"));
        assert!(dir.path().join("journal.unusable-19700101T000000Z.json").exists());
    }

    #[test]
    fn a_journal_that_was_lost_is_told_until_what_is_kept_of_it_is_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("journal.json"), "{").unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        let memory = journal.load(NOW).unwrap();
        journal.save(&memory).unwrap();
        drop(journal);
        let mut journal = Journal::open(dir.path()).unwrap();
        assert_eq!(journal.load(NOW).unwrap().rebuilt, memory.rebuilt);
        assert!(!journal.aside_is_gone());
        std::fs::remove_file(dir.path().join("journal.unusable-19700101T000000Z.json")).unwrap();
        assert!(journal.aside_is_gone());
        drop(journal);
        assert_eq!(Journal::open(dir.path()).unwrap().load(NOW).unwrap().rebuilt, None);
    }

    #[test]
    fn nothing_is_written_when_nothing_changed() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path()).unwrap();
        journal.save(&Memory::new()).unwrap();
        std::fs::remove_file(dir.path().join("journal.json")).unwrap();
        journal.save(&Memory::new()).unwrap();
        assert!(!dir.path().join("journal.json").exists());
    }
}

//! Mark up to where the history was told, in a small file that outlives the agent.
//!
//! The file is written after something was told: an end is told at least once, and
//! again if the agent dies in between. A hook that itself ends the agent would be run
//! for ever like that, so tries are counted, before each.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::core::job::DeploymentId;
use crate::core::memory::Entry;
use crate::core::types::Wall;
use crate::files::{self, Durability};

/// Version of the file's format.
const VERSION: u32 = 1;

/// Mark up to where the history was told, and its file.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    file: PathBuf,
    kept: Kept,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Kept {
    version: u32,
    /// Entry that was told last; `None`: nothing had ended when this began.
    last: Option<Told>,
    /// Entry that is being told, and how often that was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trying: Option<(DeploymentId, u32)>,
}

/// Entry that was told last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    id: DeploymentId,
    /// End of that entry, should the history have lost it: later ones are news.
    ended: Wall,
}

impl Told {
    fn of(entry: &Entry) -> Self {
        Self { id: entry.id.clone(), ended: entry.ended }
    }
}

impl Mark {
    /// Reads the mark as it was left. Without one, all of the history is old.
    pub(super) fn open(file: PathBuf, history: &[Entry]) -> io::Result<Self> {
        match files::read_json::<Kept>(&file) {
            Ok(Some(kept)) if kept.version == VERSION => return Ok(Self { file, kept }),
            Ok(None) => {}
            Ok(Some(_)) => tracing::warn!("{} is of another version", file.display()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::warn!("{} is damaged: {error}", file.display());
            }
            Err(error) => return Err(error),
        }
        let kept = Kept { version: VERSION, last: history.last().map(Told::of), trying: None };
        let mark = Self { file, kept };
        mark.save()?;
        Ok(mark)
    }

    /// Returns the entries that were not told yet, oldest first.
    pub(super) fn news<'a>(&self, history: &'a [Entry]) -> &'a [Entry] {
        let Some(last) = &self.kept.last else { return history };
        let told = history.iter().rposition(|entry| entry.id == last.id).map(|at| at + 1);
        let later = || history.iter().position(|entry| entry.ended > last.ended);
        let from = told.or_else(later).unwrap_or(history.len());
        history.get(from..).unwrap_or_default()
    }

    /// Notes that an entry is about to be told; returns how often that was begun by now.
    pub(super) fn begin(&mut self, entry: &Entry) -> u32 {
        let before = self.kept.trying.take().filter(|(id, _)| *id == entry.id);
        let times = before.map_or(0, |(_, times)| times).saturating_add(1);
        self.kept.trying = Some((entry.id.clone(), times));
        self.keep();
        times
    }

    /// Notes that all up to this entry were told, or never will be.
    pub(super) fn told(&mut self, entry: &Entry) {
        self.step_over(entry);
        self.keep();
    }

    /// Notes the same as [`Mark::told`], for this life of the agent only.
    pub(super) fn step_over(&mut self, entry: &Entry) {
        self.kept.last = Some(Told::of(entry));
        self.kept.trying = None;
    }

    /// Saves the mark, if that is possible. Going on matters more than remembering it:
    /// at worst something is told again.
    fn keep(&self) {
        if let Err(error) = self.save() {
            tracing::warn!("cannot write {}: {error}", self.file.display());
        }
    }

    fn save(&self) -> io::Result<()> {
        files::write_json(&self.file, &self.kept, Durability::Durable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::job::Ending;
    use crate::wording::fixture::entry;

    fn news(mark: &Mark, history: &[Entry]) -> Vec<u8> {
        let at = |entry: &Entry| history.iter().position(|other| other.id == entry.id);
        let news = mark.news(history).iter().filter_map(at);
        news.map(|at| u8::try_from(at).unwrap()).collect()
    }

    fn ended(n: u8) -> Entry {
        entry(n, Ending::Good, None, 1000 - i64::from(n))
    }

    #[test]
    fn what_ended_before_the_first_start_is_no_news() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("told.json");
        let history: Vec<_> = (1..=4).map(ended).collect();
        let mut mark = Mark::open(file.clone(), &history[..2]).unwrap();
        assert!(news(&mark, &history[..2]).is_empty());
        assert_eq!(news(&mark, &history), [2, 3]);
        mark.told(&history[2]);
        // A restart, and the oldest are forgotten by now.
        let mark = Mark::open(file, &history).unwrap();
        assert_eq!(news(&mark, &history[1..]), [2]);
    }

    #[test]
    fn with_nothing_before_it_all_is_news() {
        let dir = tempfile::tempdir().unwrap();
        let mark = Mark::open(dir.path().join("told.json"), &[]).unwrap();
        assert_eq!(news(&mark, &[ended(1), ended(2)]), [0, 1]);
        let mark = Mark::open(dir.path().join("told.json"), &[ended(1)]).unwrap();
        assert_eq!(news(&mark, &[ended(1)]), [0]);
    }

    #[test]
    fn a_history_that_was_lost_has_only_later_ones_as_news() {
        let dir = tempfile::tempdir().unwrap();
        let mark = Mark::open(dir.path().join("told.json"), &[ended(2)]).unwrap();
        assert_eq!(news(&mark, &[ended(1), ended(3)]), [1]);
        assert!(news(&mark, &[]).is_empty());
    }

    #[test]
    fn tries_are_counted_across_restarts_and_for_one_entry() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("told.json");
        let open = || Mark::open(file.clone(), &[]).unwrap();
        assert_eq!(open().begin(&ended(1)), 1);
        assert_eq!(open().begin(&ended(1)), 2);
        assert_eq!(open().begin(&ended(2)), 1);
        let mut mark = open();
        mark.told(&ended(2));
        assert_eq!(open().begin(&ended(2)), 1);
    }

    #[test]
    fn a_damaged_file_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("told.json");
        std::fs::write(&file, "{\"version\":1").unwrap();
        let mark = Mark::open(file.clone(), &[ended(1)]).unwrap();
        assert_eq!(news(&mark, &[ended(1), ended(2)]), [1]);
        assert!(files::read_json::<Kept>(&file).unwrap().is_some());
    }
}

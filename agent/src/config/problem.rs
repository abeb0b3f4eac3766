//! Problems of a configuration, and where in the file they are.
//!
//! A message never repeats a value that may be a secret: somebody may have put
//! the token where its file should be named.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::Path;

use serde::Serialize;

/// One mistake in a configuration. Serialises as `{"file","line","column","key","message"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The configuration file, as it was named to us.
    pub file: String,
    /// Line of the mistake, counted from 1; `None` where the file could not be read at all.
    pub line: Option<usize>,
    /// Column of the mistake in characters, counted from 1; `None` where the line is.
    pub column: Option<usize>,
    /// The full name of the key (`poll.interval`), as it is or should be.
    pub key: Option<String>,
    /// Explanation of what is wrong and what would be right, on one line.
    pub message: String,
}

/// Writes `FILE:LINE:COL: message`, which editors and terminals can follow.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Everything that is wrong with a configuration, in the order of the file.
/// Never empty. Serialises as a list; displays one per line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Returns the one problem of a file that could not be used at all.
    pub(super) fn of_file(file: &Path, message: String) -> Self {
        let file = file.display().to_string();
        Self(vec![Problem { file, line: None, column: None, key: None, message }])
    }

    /// Gives the mistakes that were found their lines, and sorts them by these.
    pub(super) fn located(mut found: Vec<Found>, text: &str, file: &Path) -> Self {
        found.sort_by_key(|f| f.span.start);
        let starts: BTreeMap<usize, usize> = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .zip(1..)
            .collect();
        let located = found.into_iter().map(|Found { span, key, message }| {
            let (start, line) =
                starts.range(..=span.start).next_back().map_or((0, 1), |(s, l)| (*s, *l));
            let before = text.get(start..span.start.min(text.len())).unwrap_or_default();
            let column = before.chars().count() + 1;
            let file = file.display().to_string();
            Problem { file, line: Some(line), column: Some(column), key, message }
        });
        Self(located.collect())
    }

    /// Returns the problems, in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(n, problem)| {
            f.write_str(if n == 0 { "" } else { "\n" })?;
            problem.fmt(f)
        })
    }
}

impl std::error::Error for Problems {}

/// A mistake before its place was turned into a line.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) span: Range<usize>,
    pub(super) key: Option<String>,
    pub(super) message: String,
}

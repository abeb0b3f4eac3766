//! One reading of a configuration: which keys there are, and what was wrong.
//!
//! There is no list of keys besides the code that reads them: the keys that
//! exist are those that a first reading, of nothing, asked for.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;

use toml::de::DeTable;

use super::problem::Found;
use super::section::Section;
use super::unbuilt;

/// Most problems that are recorded: a file with more is not a configuration.
pub(super) const MOST_PROBLEMS: usize = 100;

/// Every key and section there is, by its full name.
pub(super) type Schema = BTreeSet<String>;

/// One reading of one configuration.
pub(super) struct Document {
    schema: Schema,
    /// End of the text that was read as it was written, in bytes;
    /// `usize::MAX` if that is all of it.
    intact: usize,
    asked: RefCell<Schema>,
    problems: RefCell<Vec<Found>>,
}

impl Document {
    /// Returns the keys that `read` asks for, and those that are not built yet.
    pub(super) fn schema(read: impl FnOnce(Section<'_>)) -> Schema {
        let empty = Self::new(Schema::new(), 0);
        read(empty.root(None));
        let asked = empty.asked.into_inner();
        asked.into_iter().chain(unbuilt::keys().map(str::to_owned)).collect()
    }

    /// Creates a document of a schema, whose text is good up to the byte `intact`.
    pub(super) fn new(schema: Schema, intact: usize) -> Self {
        Self { schema, intact, asked: RefCell::default(), problems: RefCell::default() }
    }

    /// Returns the section that holds all others; without a table, one that is empty.
    pub(super) fn root<'a>(&'a self, table: Option<&'a DeTable<'a>>) -> Section<'a> {
        Section::new(self, String::new(), table, 0..0)
    }

    /// Returns all problems that were recorded.
    pub(super) fn into_problems(self) -> Vec<Found> {
        self.problems.into_inner()
    }

    /// Records a mistake, if it can be relied on to be one.
    pub(super) fn report(&self, span: Range<usize>, key: &str, message: String) {
        let mut problems = self.problems.borrow_mut();
        // Behind a mistake in the syntax nothing can be relied on.
        if problems.len() < MOST_PROBLEMS && span.end <= self.intact {
            problems.push(Found { span, key: Some(key.to_owned()), message });
        }
    }

    /// Returns the names of the keys and sections directly in a section.
    pub(super) fn names_in<'s>(&'s self, section: &'s str) -> impl Iterator<Item = &'s str> {
        let names = self.schema.iter().filter_map(move |path| match section {
            "" => Some(path.as_str()),
            _ => path.strip_prefix(section)?.strip_prefix('.'),
        });
        names.filter(|name| !name.contains('.'))
    }

    /// Whether there is such a key or section.
    pub(super) fn knows(&self, path: &str) -> bool {
        self.schema.contains(path)
    }

    /// Returns every key and section there is.
    pub(super) fn paths(&self) -> &Schema {
        &self.schema
    }

    /// Notes that a key exists.
    pub(super) fn ask(&self, path: String) {
        self.asked.borrow_mut().insert(path);
    }

    /// Whether this is the reading that learns which keys there are.
    pub(super) fn is_gathering(&self) -> bool {
        self.schema.is_empty()
    }

    /// Whether all of it is TOML, so that what is not found is not there.
    pub(super) fn is_whole(&self) -> bool {
        self.intact == usize::MAX
    }
}

//! Reads a TOML tree so that every mistake in it is found, not only the first.
//!
//! A value that is wrong is recorded, and its type's default stands in for it;
//! nobody sees that, because a recorded problem keeps the whole from being used.
//!
//! A misspelt key is reported once and read as the key that was meant, so that
//! its value is checked too and it is not missed as well.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::document::{Document, MOST_PROBLEMS};
use super::{unbuilt, wording};

/// One table of the file, or one that was left out: its defaults then apply.
pub(super) struct Section<'a> {
    document: &'a Document,
    path: String,
    span: Range<usize>,
    entries: BTreeMap<String, &'a Spanned<DeValue<'a>>>,
}

impl<'a> Section<'a> {
    pub(super) fn new(
        document: &'a Document,
        path: String,
        table: Option<&'a DeTable<'a>>,
        span: Range<usize>,
    ) -> Self {
        let mut section = Self { document, path, span, entries: BTreeMap::new() };
        let Some(table) = table else { return section };
        let mut unknown = Vec::new();
        for (name, value) in table {
            let path = section.path_of(name.get_ref());
            // A quoted key may hold a dot, and is then not the key it looks like.
            if name.get_ref().contains('.') || !document.knows(&path) {
                unknown.push((name, value));
                continue;
            }
            if unbuilt::key(&path) {
                let message = format!("`{path}` is not supported by this version");
                document.report(name.span(), &path, message);
            }
            section.entries.insert(name.get_ref().to_string(), value);
        }
        for (name, value) in unknown.into_iter().take(MOST_PROBLEMS) {
            section.unknown(name.get_ref(), name.span(), value);
        }
        section
    }

    /// Reads a key that may be absent; a wrong value is recorded, and gives `None` as well.
    pub(super) fn optional<T>(
        &self,
        key: &str,
        decode: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.find(key)?;
        match decode(value.get_ref()) {
            Ok(good) => Some(good),
            Err(must) => {
                self.wrong(key, &must);
                None
            }
        }
    }

    /// Reads a key that has a default, which is given as it would be written in the file.
    pub(super) fn or<T: Default>(
        &self,
        key: &str,
        decode: impl Fn(&DeValue<'_>) -> Result<T, String>,
        default: &'static str,
    ) -> T {
        if self.find(key).is_some() {
            return self.optional(key, decode).unwrap_or_default();
        }
        let default = DeValue::parse(default).map_err(|e| e.message().to_owned());
        default.and_then(|default| decode(default.get_ref())).unwrap_or_else(|must| {
            self.problem(key, &format!("is missing, and its default must {must}"));
            T::default()
        })
    }

    /// Reads a key that must be there.
    pub(super) fn required<T: Default>(
        &self,
        key: &str,
        decode: impl FnOnce(&DeValue<'_>) -> Result<T, String>,
    ) -> T {
        if self.find(key).is_none() {
            self.missing(key, "is missing");
        }
        self.optional(key, decode).unwrap_or_default()
    }

    /// Reads a key that takes one of some names; without it, `default` is taken.
    pub(super) fn choice<T: Copy + Default>(
        &self,
        key: &str,
        choices: &[(&'static str, T)],
        default: &'static str,
    ) -> T {
        let path = self.path_of(key);
        let value = self.find(key);
        let name = match value.map(Spanned::get_ref) {
            Some(DeValue::String(name)) => name.as_ref(),
            Some(other) => {
                self.wrong(key, &wording::names_not(choices.iter().map(|c| c.0), other));
                return T::default();
            }
            None => default,
        };
        if let Some((_, choice)) = choices.iter().find(|(n, _)| *n == name) {
            return *choice;
        }
        let names = choices.iter().map(|c| c.0);
        match (unbuilt::value(&path, name), value) {
            (true, Some(_)) => self.problem(
                key,
                &format!(
                    "= {name:?} is not supported by this version; the value must be {}",
                    wording::quoted(names)
                ),
            ),
            (true, None) => self.missing(
                key,
                &format!(
                    "must be set to {}: its default, {name:?}, is not supported by this version",
                    wording::quoted(names)
                ),
            ),
            (false, Some(value)) => {
                let must = wording::names_not(names, value.get_ref());
                self.wrong(key, &must);
            }
            (false, None) => self.problem(key, &format!("has an impossible default, {name:?}")),
        }
        T::default()
    }

    /// Returns the section of that name; an absent one is empty.
    pub(super) fn section(&self, key: &str) -> Section<'a> {
        let path = self.path_of(key);
        let value = self.find(key);
        let table = value.and_then(|v| v.get_ref().as_table());
        if let (Some(value), None) = (value, table) {
            self.wrong(key, &wording::instead(&format!("a section, `[{path}]`"), value.get_ref()));
        }
        let span = value.map_or(self.span.clone(), Spanned::span);
        Section::new(self.document, path, table, span)
    }

    /// Returns a table whose keys are not ours to know.
    pub(super) fn table(&self, key: &str) -> Option<&'a DeTable<'a>> {
        let value = self.find(key)?.get_ref();
        if value.as_table().is_none() {
            self.wrong(key, &wording::instead("a table", value));
        }
        value.as_table()
    }

    /// Returns the sections of that name, each written as `[[name]]`.
    pub(super) fn sections(&self, key: &str) -> Vec<Section<'a>> {
        let path = self.path_of(key);
        let one = |table, span| Section::new(self.document, path.clone(), table, span);
        let Some(value) = self.find(key) else {
            // The first reading must learn what would be asked.
            let gathering = self.document.is_gathering();
            return gathering.then(|| one(None, 0..0)).into_iter().collect();
        };
        let must = format!("be written as `[[{path}]]`");
        match value.get_ref() {
            DeValue::Array(list) => {
                let tables = list.iter().filter_map(|item| {
                    let table = item.get_ref().as_table();
                    if table.is_none() {
                        self.wrong(key, &must);
                    }
                    Some(one(Some(table?), item.span()))
                });
                tables.collect()
            }
            DeValue::Table(table) => {
                self.wrong(key, &must);
                vec![one(Some(table), value.span())]
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {
                self.wrong(key, &must);
                Vec::new()
            }
        }
    }

    /// Whether the key was given, rightly or wrongly.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Records that a key "must ...".
    pub(super) fn wrong(&self, key: &str, must: &str) {
        self.problem(key, &format!("must {must}"));
    }

    /// Records what is wrong with a key, in words that follow its name.
    pub(super) fn problem(&self, key: &str, what: &str) {
        let path = self.path_of(key);
        let span = self.entries.get(key).map_or(self.span.clone(), |value| value.span());
        self.document.report(span, &path, format!("`{path}` {what}"));
    }

    /// Records what is wrong with a key that is not ours to know.
    pub(super) fn problem_at(&self, path: &str, span: Range<usize>, what: &str) {
        let path = self.path_of(path);
        self.document.report(span, &path, format!("`{}` {what}", wording::printable(&path)));
    }

    /// Records what is wrong with a key that is not there.
    pub(super) fn missing(&self, key: &str, what: &str) {
        // Behind a mistake in the syntax it may well be there.
        if self.document.is_whole() {
            self.problem(key, what);
        }
    }

    /// Records what is wrong with the section itself.
    pub(super) fn problem_here(&self, what: &str) {
        if self.document.is_whole() {
            let message = format!("`[[{}]]` {what}", self.path);
            self.document.report(self.span.clone(), &self.path, message);
        }
    }

    fn find(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.document.ask(self.path_of(key));
        self.entries.get(key).copied()
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn unknown(&mut self, name: &str, span: Range<usize>, value: &'a Spanned<DeValue<'a>>) {
        let document = self.document;
        let path = self.path_of(name);
        let mut written = wording::printable(&path);
        let (meant, right): (Option<String>, _);
        if name.contains('.') {
            written = wording::shown(name);
            meant = None;
            right = document.knows(&path).then(|| path.clone());
        } else {
            let missing = document.names_in(&self.path).filter(|n| !self.has(n));
            meant = wording::nearest(name, missing).map(str::to_owned);
            right = meant.as_ref().map(|name| self.path_of(name)).or_else(|| self.elsewhere(name));
        }
        let kind = if value.get_ref().is_table() { "section" } else { "key" };
        let mut message = format!("unknown {kind} `{written}`");
        if let Some(right) = &right {
            message += &format!("; did you mean `{right}`?");
        }
        document.report(span, right.as_deref().unwrap_or(&path), message);
        if let Some(meant) = meant {
            self.entries.insert(meant, value);
        }
    }

    /// Returns the full name of a key of another section that was likely meant.
    fn elsewhere(&self, name: &str) -> Option<String> {
        let paths = self.document.paths();
        let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
        let names: BTreeSet<_> = paths.iter().map(|path| last(path)).collect();
        let nearest = wording::nearest(name, names.iter().map(String::as_str))?;
        let wrong = self.path_of(name);
        let same_name = paths.iter().filter(|path| last(path) == nearest);
        same_name.min_by_key(|path| strsim::damerau_levenshtein(&wrong, path)).cloned()
    }
}

//! The configuration: one TOML file, strict, every mistake named at once.
//!
//! Reads and checks; opens nothing that the file names (a token file may not be
//! there yet, a directory is made later). What comes out was checked once and
//! needs no second look. The one thing that is looked up is a time zone's name,
//! in the tz database. Keys whose feature is not built yet are mistakes too
//! (`unbuilt.rs`): an operator must not believe in what is not there.
//!
//! A surprise: where two values must fit each other (`health.grace` and
//! `health.timeout`, `retry.first` and `retry.max`) and one was left out, its
//! default gives way to the one that was written.

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeTable;

use crate::core::policy::{Confirm, Drift, OnKernelChange, OnRollbackFailure, Specialisation};
use crate::foreign_file;
use crate::git;
use crate::windows::{TimeZone, Windows};

mod announce;
mod brackets;
mod cache;
mod document;
pub mod duration;
mod nix_options;
mod places;
mod problem;
mod section;
mod sections;
mod settings;
mod unbuilt;
mod url;
mod value;
mod warnings;
mod wording;

pub use self::model::{
    Activation, Branch, Check, Config, Evaluate, FailedUnits, ForcePush, Health, Metrics, Nix,
    OnBusChange, OnFailure, Operation, Poll, Probe, Reboot, Remote, Retry, Runner, System,
    SystemKind, UnitLimits,
};
pub use announce::{Hooks, Report};
pub use cache::Cache;
pub use places::{Places, places};
pub use problem::{Problem, Problems};

/// Largest configuration file, in bytes: more is no configuration, and would only cost memory.
const MOST_BYTES: usize = 1 << 20;

/// Reads the configuration of this host from a file of at most 1 MiB.
pub fn load(path: &Path) -> Result<Config, Problems> {
    let kernel = rustix::system::uname();
    parse(&read(path)?, path, &kernel.nodename().to_string_lossy())
}

/// Checks the text of a configuration. `file` is only named in problems.
pub fn parse(text: &str, file: &Path, kernel_hostname: &str) -> Result<Config, Problems> {
    let Understood { config, problems, .. } = understand(text, file, kernel_hostname);
    problems.map_or(Ok(config), Err)
}

fn read(path: &Path) -> Result<String, Problems> {
    let unusable = |message: String| Problems::of_file(path, message);
    let unreadable = |e: std::io::Error| unusable(format!("cannot be read: {e}"));
    let mut bytes = Vec::new();
    let file = foreign_file::open(path).map_err(unreadable)?;
    file.take(MOST_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > MOST_BYTES {
        return Err(unusable("is larger than 1 MiB".to_owned()));
    }
    String::from_utf8(bytes).map_err(|e| {
        let good = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        unusable(format!("line {line} is not UTF-8"))
    })
}

/// Configuration as far as a text could be understood.
struct Understood {
    /// Configuration that was read; where there are problems, defaults of the types stand in.
    config: Config,
    problems: Option<Problems>,
    /// End of the text that was read as it was written, in bytes;
    /// `usize::MAX` if that is all of it.
    intact: usize,
}

fn understand(text: &str, file: &Path, kernel_hostname: &str) -> Understood {
    let schema = document::Document::schema(|root| {
        let _ = sections::config(&root, kernel_hostname);
    });
    let (tree, errors) = DeTable::parse_recoverable(text);
    let mistakes = syntax_problems(&errors, text);
    // What comes before the line of the first mistake was read as written.
    let first = mistakes.iter().map(|mistake| mistake.span.start).min();
    let intact = first.map_or(usize::MAX, |at| {
        text.get(..at).and_then(|before| before.rfind('\n')).unwrap_or_default()
    });
    let document = document::Document::new(schema, intact);
    let config = sections::config(&document.root(Some(tree.get_ref())), kernel_hostname);
    let mut found = document.into_problems();
    found.extend(mistakes.into_iter().take(document::MOST_PROBLEMS));
    let problems = (!found.is_empty()).then(|| Problems::located(found, text, file));
    Understood { config, problems, intact }
}

/// Returns the mistakes in the syntax. What follows a bracket that is never closed is
/// none of its own: only the bracket is told.
fn syntax_problems(errors: &[toml::de::Error], text: &str) -> Vec<problem::Found> {
    let mut mistakes: Vec<_> = errors.iter().map(|error| syntax_problem(error, text)).collect();
    if !errors.is_empty()
        && let Some(at) = brackets::never_closed(text)
    {
        mistakes.retain(|mistake| mistake.span.start < at);
        let bracket = text.get(at..=at).unwrap_or_default();
        let message = format!("not TOML: this `{bracket}` is never closed");
        mistakes.push(problem::Found { span: at..at + 1, key: None, message });
    }
    mistakes
}

fn syntax_problem(error: &toml::de::Error, text: &str) -> problem::Found {
    let span = error.span().unwrap_or(text.len()..text.len());
    let message = format!("not TOML: {}", error.message().replace('\n', " "));
    problem::Found { span, key: None, message }
}

mod model;
#[cfg(test)]
mod module_tests;
#[cfg(test)]
mod tests;

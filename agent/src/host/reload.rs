//! The configuration's file: whether it says something else than when it was
//! read, as it does after another hand has switched the host.
//!
//! An agent whose unit changes is started anew by whoever switches; one whose
//! file alone changes would go on under a configuration that nobody sees any
//! more. It takes up the new one by becoming itself again. One with mistakes in
//! it changes nothing, and is told.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::config::{self, Config};

/// Mark that tells one file from another without reading it: device, inode, size and the
/// moment of its last change, in seconds and nanoseconds.
type Mark = (u64, u64, u64, i64, i64);

/// The file that was read.
#[derive(Debug)]
pub(super) struct Configuration {
    path: PathBuf,
    read: Config,
    mark: Option<Mark>,
    /// Message on why the file as it is now cannot be used; `None` if it can.
    pub(super) wrong: Option<String>,
}

impl Configuration {
    pub(super) fn new(path: &Path, read: &Config) -> Self {
        // A change between reading and now is found at the first look.
        Self { path: path.to_owned(), read: read.clone(), mark: None, wrong: None }
    }

    /// Whether the file holds another configuration now, and one that can be used.
    pub(super) fn has_changed(&mut self) -> bool {
        // Gone for a moment, while a switch puts another one there; or for
        // good: then the next start says so.
        let Some(mark) = mark(&self.path) else { return false };
        if self.mark == Some(mark) {
            return false;
        }
        self.mark = Some(mark);
        match config::load(&self.path) {
            Ok(now) => {
                self.wrong = None;
                now != self.read
            }
            Err(problems) => {
                let first = problems.iter().next().map(ToString::to_string).unwrap_or_default();
                let path = self.path.display();
                let wrong = format!(
                    "{path} has changed and cannot be used, the one before goes on \
                     until it is corrected: {first}"
                );
                tracing::error!("{wrong}");
                self.wrong = Some(wrong);
                false
            }
        }
    }
}

fn mark(path: &Path) -> Option<Mark> {
    let file = fs::metadata(path).ok()?;
    Some((file.dev(), file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
}

//! Reads what Nix says with `--log-format internal-json`: how far it is, what
//! went wrong, and in which part of its work.
//!
//! Each line is `@nix ` and an object; the numbers are those of Nix's
//! `libutil/logging.hh`, unchanged from 2.8 to 2.34. Texts are for people
//! only: they differ between versions. Whether evaluating or building failed is
//! told by what was going on; only where that leaves something open (which
//! machine may build a thing, which settings were ignored) are words looked for,
//! loosely, and what is not found is told as it was said. What cannot be read is
//! kept as text and otherwise ignored.

mod failure;
mod messages;
mod progress;

pub(crate) use self::failure::Failure;
use self::failure::without_trace;
pub use self::progress::{Phase, Progress};
use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use fort_core::fault::Fault;
use fort_sys::command::{Tail, plain};

// Kinds of activity.
const COPY_PATH: u64 = 100;
const FILE_TRANSFER: u64 = 101;
const REALISE: u64 = 102;
const COPY_PATHS: u64 = 103;
const BUILDS: u64 = 104;
const BUILD: u64 = 105;
const SUBSTITUTE: u64 = 108;
const POST_BUILD_HOOK: u64 = 110;
/// Ours: the transfer of a file that is a path's contents.
const CONTENTS: u64 = u64::MAX;

// Kinds of result.
const LOG_LINE: u64 = 101;
const PROGRESS: u64 = 105;
const EXPECTED: u64 = 106;
const HOOK_LINE: u64 = 107;

/// Prefix of logical store paths, wherever the store really is.
const STORE: &str = "/nix/store/";
/// Activities beyond this many are not followed: a bound, not a real number.
const MOST_ACTIVITIES: usize = 4096;
/// Most builds that have ended and are remembered.
const MOST_ENDED: usize = 64;
/// Most lines of a builder's log that are kept.
const LOG_LINES: usize = 10;
/// Longest part of a line of a builder's log that is kept, in characters.
const LOG_LINE_CHARS: usize = 400;
/// Longest part of an error message that is kept, in characters.
const CAUSE_CHARS: usize = 700;
/// Most ignored settings whose names are kept; [`SETTING_CHARS`] bounds each name.
const MOST_IGNORED: usize = 30;
const SETTING_CHARS: usize = 60;
/// Largest end of Nix's whole output that is kept, in bytes.
const TAIL_BYTES: usize = 16 << 10;

/// How Nix begins what is no error, where it comes from a daemon. It only keeps
/// what is shown as the cause from being one of these.
const ASIDES: [&str; 2] = ["warning:", "error (ignored):"];

/// State of Nix's log as read so far.
pub(super) struct Log {
    activities: BTreeMap<u64, Activity>,
    started: u64,
    /// Amounts done by activities that have ended, by kind.
    done: BTreeMap<u64, u64>,
    /// Builds that have ended, the newest last: the error may come after.
    ended: VecDeque<Activity>,
    error: Option<FirstError>,
    failed: bool,
    /// Whether something that was to be realised was neither got nor given up.
    cut: bool,
    /// The same, unless the counters were just about to be right (as in 2.34).
    almost: bool,
    /// Builds and downloads that were begun.
    begun: u64,
    /// Whether Nix has spoken in its format: it has read its settings by then.
    spoke: bool,
    announced: Announced,
    hook: Option<Hook>,
    ignored: Vec<String>,
    /// The first error before Nix spoke in its format.
    plain_error: Option<String>,
    last_text: Option<String>,
    tail: Tail,
    /// Whether the evaluation is over: whatever Nix does from then on, it does for the build.
    evaluated: bool,
}

/// Amount of work that Nix announces, a path a line: versions from 2.9 on.
///
/// Its counters are no such promise: what may be fetched is counted as to be
/// built until it was looked for.
#[derive(Default)]
struct Announced {
    /// Number of builds that had been done before, for the evaluation.
    built: u64,
    fetched: u64,
    builds: u64,
    fetches: u64,
}

/// The program that the host has run after each build.
struct Hook {
    /// Derivation that was built.
    drv: Option<String>,
    /// How many builds had been done when it began: one more, and it went well.
    done: u64,
    last_line: Option<String>,
}

struct Activity {
    kind: u64,
    order: u64,
    /// The first field: of a build and of a download, the store path.
    subject: Option<String>,
    done: u64,
    expected: u64,
    running: u64,
    /// Number of bytes announced to be downloaded.
    bytes: u64,
    log: VecDeque<String>,
}

/// The first error: those after it are what followed from it.
struct FirstError {
    text: String,
    /// Whether something was being realised at that time.
    realising: bool,
}

#[derive(Deserialize)]
#[serde(tag = "action", rename_all = "lowercase")]
enum Line {
    Start {
        id: u64,
        #[serde(rename = "type")]
        kind: u64,
        #[serde(default)]
        fields: Vec<serde_json::Value>,
    },
    Stop {
        id: u64,
    },
    Result {
        id: u64,
        #[serde(rename = "type")]
        kind: u64,
        #[serde(default)]
        fields: Vec<serde_json::Value>,
    },
    Msg {
        #[serde(default)]
        level: u64,
        #[serde(default)]
        msg: String,
        raw_msg: Option<String>,
    },
}

impl Log {
    pub(super) fn new() -> Self {
        Self {
            activities: BTreeMap::new(),
            started: 0,
            done: BTreeMap::new(),
            ended: VecDeque::new(),
            error: None,
            failed: false,
            cut: false,
            almost: false,
            begun: 0,
            spoke: false,
            announced: Announced::default(),
            hook: None,
            ignored: Vec::new(),
            plain_error: None,
            last_text: None,
            tail: Tail::new(TAIL_BYTES),
            evaluated: false,
        }
    }

    /// Marks the evaluation as over: from now on another program, the build, is read.
    /// The amounts done so far still count.
    pub(super) fn evaluated(&mut self) {
        self.evaluated = true;
        // One that has ended does nothing any more, whatever it did not say.
        let running: Vec<u64> = self.activities.keys().copied().collect();
        running.into_iter().for_each(|id| self.stop(id));
        (self.error, self.failed, self.last_text) = (None, false, None);
        (self.cut, self.almost, self.begun) = (false, false, 0);
        (self.spoke, self.plain_error, self.hook) = (false, None, None);
    }

    /// Takes in one line of stderr.
    pub(super) fn read(&mut self, line: &[u8]) {
        let Some(json) = line.strip_prefix(b"@nix ") else {
            let text = plain(line);
            if !text.trim().is_empty() {
                self.say(&text);
                if let Some(error) = text.trim_start().strip_prefix("error:")
                    && self.plain_error.is_none()
                {
                    self.plain_error = Some(error.trim().to_owned());
                }
                self.last_text = Some(text);
            }
            return;
        };
        // Lines of newer kinds are not worth a word.
        let line = serde_json::from_slice::<Line>(json).ok().or_else(|| cut_off(json));
        let Some(line) = line else { return };
        self.spoke = true;
        match line {
            Line::Start { id, kind, fields } => self.start(id, kind, &fields),
            Line::Stop { id } => self.stop(id),
            Line::Result { id, kind, fields } => self.result(id, kind, &fields),
            Line::Msg { level, msg, raw_msg } => self.message(level, &msg, raw_msg),
        }
    }

    fn start(&mut self, id: u64, kind: u64, fields: &[serde_json::Value]) {
        if self.activities.len() >= MOST_ACTIVITIES {
            return;
        }
        let subject = fields.first().and_then(|field| field.as_str()).map(str::to_owned);
        let contents = kind == FILE_TRANSFER && subject.as_deref().is_some_and(is_contents);
        let kind = if contents { CONTENTS } else { kind };
        match kind {
            POST_BUILD_HOOK => {
                let done = self.sum(BUILDS).0;
                self.hook = Some(Hook { drv: subject.clone(), done, last_line: None });
            }
            BUILD | COPY_PATH | SUBSTITUTE | CONTENTS => self.begun += 1,
            // Those of the evaluation come before anything is realised.
            FILE_TRANSFER if self.activities.values().any(|a| a.kind == BUILDS) => self.begun += 1,
            _ => {}
        }
        // Ids grow within a process, but those of a daemon are its own.
        self.started += 1;
        let activity = Activity {
            kind,
            order: self.started,
            subject,
            done: 0,
            expected: 0,
            running: 0,
            bytes: 0,
            log: VecDeque::new(),
        };
        self.activities.insert(id, activity);
    }

    fn stop(&mut self, id: u64) {
        let Some(activity) = self.activities.remove(&id) else { return };
        if matches!(activity.kind, BUILDS | COPY_PATHS) {
            let Activity { done, expected, running, .. } = activity;
            self.cut |= running > 0 || (done == 0 && expected > 0) || expected > done + 1;
            self.almost |= expected > done;
        }
        if matches!(activity.kind, BUILDS | COPY_PATHS | COPY_PATH | CONTENTS) {
            let done = self.done.entry(activity.kind).or_default();
            *done = done.saturating_add(activity.done);
        }
        if activity.kind == BUILD {
            self.ended.push_back(activity);
            if self.ended.len() > MOST_ENDED {
                self.ended.pop_front();
            }
        }
    }

    fn result(&mut self, id: u64, kind: u64, fields: &[serde_json::Value]) {
        let number = |n: usize| fields.get(n).and_then(serde_json::Value::as_u64).unwrap_or(0);
        let Some(activity) = self.activities.get_mut(&id) else { return };
        match kind {
            PROGRESS => {
                (activity.done, activity.expected) = (number(0), number(1));
                activity.running = number(2);
                // done, expected, running, failed
                let counts = matches!(activity.kind, BUILDS | COPY_PATHS);
                self.failed |= counts && number(3) > 0;
            }
            EXPECTED if number(0) == COPY_PATH => activity.bytes = number(1),
            LOG_LINE => {
                let text = fields.first().and_then(|field| field.as_str()).unwrap_or_default();
                let line: String = plain(text.as_bytes()).chars().take(LOG_LINE_CHARS).collect();
                let builder = activity.subject.as_deref().map(name).unwrap_or_default();
                if !line.trim().is_empty() {
                    activity.log.push_back(line.clone());
                    if activity.log.len() > LOG_LINES {
                        activity.log.pop_front();
                    }
                }
                self.say(&format!("{builder}> {line}"));
            }
            HOOK_LINE => {
                let text = fields.first().and_then(|field| field.as_str()).unwrap_or_default();
                let line: String = plain(text.as_bytes()).chars().take(LOG_LINE_CHARS).collect();
                self.say(&format!("post-build-hook> {line}"));
                if let Some(hook) = self.hook.as_mut().filter(|_| !line.trim().is_empty()) {
                    hook.last_line = Some(line);
                }
            }
            _ => {}
        }
    }
}

/// An error whose line was cut off, as far as it goes: one may have hundreds of
/// kilobytes, and is told twice in its line.
fn cut_off(json: &[u8]) -> Option<Line> {
    let text = String::from_utf8_lossy(json);
    let (head, rest) = text.strip_prefix(r#"{"action":"msg","#)?.split_once(r#""msg":""#)?;
    let level = head.split_once(r#""level":"#)?.1.split(',').next()?.parse().ok()?;
    let mut escaped = false;
    let end = rest.find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    let msg = match end {
        Some(end) => serde_json::from_str(&format!("\"{}\"", &rest[..end])).ok()?,
        // The end may be the middle of an escape: of two halves of a character, at most.
        None => (0..=12).find_map(|short| {
            let kept = rest.get(..rest.len().checked_sub(short)?)?;
            serde_json::from_str::<String>(&format!("\"{kept}\"")).ok()
        })?,
    };
    Some(Line::Msg { level, msg, raw_msg: None })
}

/// Where binary caches have the contents of paths.
fn is_contents(url: &str) -> bool {
    url.contains("/nar/")
}

/// The name in a store path, without hash and `.drv`; or the end of an URL.
fn name(subject: &str) -> String {
    let base = subject.rsplit('/').next().unwrap_or_default();
    let base = match base.split_at_checked(33) {
        Some((hash, name)) if subject.starts_with(STORE) && hash.ends_with('-') => name,
        Some(_) | None => base,
    };
    plain(base.strip_suffix(".drv").unwrap_or(base).as_bytes()).chars().take(120).collect()
}

/// An error's first lines: what comes later is where it happened.
fn short(text: &str) -> String {
    let text = text.trim();
    let text = text.strip_prefix("error:").unwrap_or(text).trim_start();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let joined = lines.join("\n");
    match joined.char_indices().nth(CAUSE_CHARS) {
        Some((end, _)) => format!("{}...", &joined[..end]),
        None => joined,
    }
}

#[cfg(test)]
mod tests;

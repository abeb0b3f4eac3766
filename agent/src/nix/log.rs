//! Reads what Nix says with `--log-format internal-json`: how far it is, what
//! went wrong, and in which part of its work.
//!
//! Each line is `@nix ` and an object; the numbers are those of Nix's
//! `libutil/logging.hh`, unchanged from 2.8 to 2.34. Texts are for people
//! only: they differ between versions and nothing is decided by them. What
//! cannot be read is kept as text and otherwise ignored.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::command::{Tail, plain};

// Kinds of activity.
const COPY_PATH: u64 = 100;
const FILE_TRANSFER: u64 = 101;
const REALISE: u64 = 102;
const COPY_PATHS: u64 = 103;
const BUILDS: u64 = 104;
const BUILD: u64 = 105;
const SUBSTITUTE: u64 = 108;
/// Ours: the transfer of a file that is a path's contents.
const CONTENTS: u64 = u64::MAX;

// Kinds of result.
const LOG_LINE: u64 = 101;
const PROGRESS: u64 = 105;
const EXPECTED: u64 = 106;

/// Activities beyond this many are not followed: a bound, not a real number.
const MOST_ACTIVITIES: usize = 4096;
/// So many builds that have ended are remembered.
const MOST_ENDED: usize = 64;
/// Of a builder's log, this much is kept.
const LOG_LINES: usize = 10;
/// Of a line of it, this much.
const LOG_LINE_CHARS: usize = 400;
/// Of an error, this much.
const CAUSE_CHARS: usize = 700;
/// Of everything that it said, this much.
const TAIL_BYTES: usize = 16 << 10;

/// How Nix begins what is no error, where it comes from a daemon. It only keeps
/// what is shown as the cause from being one of these.
const ASIDES: [&str; 2] = ["warning:", "error (ignored):"];

/// What Nix is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Working out what the system is.
    #[default]
    Evaluating,
    /// Downloading, and nothing else.
    Fetching,
    /// Building, perhaps downloading as well.
    Building,
}

/// How far Nix is. The numbers to come grow while it finds out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// What it is doing.
    pub phase: Phase,
    /// Derivations built.
    pub built: u64,
    /// Derivations to build, with those built.
    pub to_build: u64,
    /// Store paths downloaded.
    pub fetched: u64,
    /// Store paths to download, with those downloaded.
    pub to_fetch: u64,
    /// Bytes downloaded, unpacked.
    pub bytes_done: u64,
    /// Bytes to download, unpacked.
    pub bytes_expected: u64,
    /// The name of what was begun last and still runs.
    pub current: Option<String>,
}

/// What has been read so far.
pub(super) struct Log {
    activities: BTreeMap<u64, Activity>,
    started: u64,
    /// What activities that have ended had done, by kind.
    done: BTreeMap<u64, u64>,
    /// Builds that have ended, the newest last: the error may come after.
    ended: VecDeque<Activity>,
    error: Option<FirstError>,
    failed: bool,
    last_text: Option<String>,
    tail: Tail,
    /// What is to be built is known: whatever Nix does, it does for that.
    evaluated: bool,
}

struct Activity {
    kind: u64,
    order: u64,
    /// The first field: of a build and of a download, the store path.
    subject: Option<String>,
    done: u64,
    expected: u64,
    /// Announced to be downloaded.
    bytes: u64,
    log: VecDeque<String>,
}

/// The first error: those after it are what followed from it.
struct FirstError {
    text: String,
    /// Whether something was being realised at that time.
    realising: bool,
}

/// What went wrong, once Nix has failed.
pub(super) struct Failure {
    /// Short, for people.
    pub(super) cause: String,
    /// The end of what was said, builders' logs included.
    pub(super) tail: String,
    /// It failed while realising, not while evaluating.
    pub(super) realising: bool,
    /// Whose builder failed, if it was one.
    pub(super) drv: Option<String>,
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
            last_text: None,
            tail: Tail::new(TAIL_BYTES),
            evaluated: false,
        }
    }

    /// What is to be built is known: what is read from now on is of another
    /// program, that builds it. What was done counts on.
    pub(super) fn evaluated(&mut self) {
        self.evaluated = true;
        // One that has ended does nothing any more, whatever it did not say.
        let running: Vec<u64> = self.activities.keys().copied().collect();
        running.into_iter().for_each(|id| self.stop(id));
        (self.error, self.failed, self.last_text) = (None, false, None);
    }

    /// Takes in one line of stderr.
    pub(super) fn read(&mut self, line: &[u8]) {
        let Some(json) = line.strip_prefix(b"@nix ") else {
            let text = plain(line);
            if !text.trim().is_empty() {
                self.say(&text);
                self.last_text = Some(text);
            }
            return;
        };
        // Lines of newer kinds, and those cut off: not worth a word.
        let Ok(line) = serde_json::from_slice::<Line>(json) else { return };
        match line {
            Line::Start { id, kind, fields } => self.start(id, kind, &fields),
            Line::Stop { id } => self.stop(id),
            Line::Result { id, kind, fields } => self.result(id, kind, &fields),
            Line::Msg { level, msg, raw_msg } => self.message(level, &msg, raw_msg),
        }
    }

    /// How far it is.
    pub(super) fn progress(&self) -> Progress {
        let (built, to_build) = self.sum(BUILDS);
        let (fetched, to_fetch) = self.sum(COPY_PATHS);
        let (copied, bytes_known) = self.sum(COPY_PATH);
        let announced = self.activities.values().map(|a| a.bytes);
        let bytes_expected = announced.fold(0, u64::saturating_add).max(bytes_known);
        // Before 2.34 Nix says nothing of the last piece of a path, which is all
        // of a small one; what came over the wire is packed, or is as much.
        let (transferred, _) = self.sum(CONTENTS);
        let bytes_done = copied.max(transferred.min(bytes_expected));
        let newest = |kinds: &[u64]| {
            let running = self.activities.values().filter(|a| kinds.contains(&a.kind));
            running.max_by_key(|a| a.order)
        };
        let build = newest(&[BUILD]);
        // A path is fetched by a transfer of a file, whose name says less.
        let fetch = newest(&[COPY_PATH, SUBSTITUTE]).or_else(|| newest(&[FILE_TRANSFER, CONTENTS]));
        let phase = match (build, fetch) {
            (None, Some(_)) => Phase::Fetching,
            (None, None) if !self.evaluated && newest(&[REALISE, BUILDS]).is_none() => {
                Phase::Evaluating
            }
            (None, None) | (Some(_), _) => Phase::Building,
        };
        let current = build.or(fetch).and_then(|a| a.subject.as_deref()).map(name);
        Progress { phase, built, to_build, fetched, to_fetch, bytes_done, bytes_expected, current }
    }

    /// What went wrong, knowing that something did.
    pub(super) fn failure(self) -> Failure {
        let tail = self.tail.text();
        let Some(error) = self.error else {
            let cause = self.last_text.unwrap_or_else(|| "nix failed without a word".into());
            return Failure { cause: short(&cause), tail, realising: self.failed, drv: None };
        };
        let mut cause = short(&error.text);
        let mut drv = None;
        let mut builds = self.activities.values().chain(&self.ended).filter(|a| a.kind == BUILD);
        if let Some(build) =
            builds.find(|a| a.subject.as_deref().is_some_and(|drv| error.text.contains(drv)))
        {
            // What the builder said last says more than that it failed. Some
            // versions repeat its log in the error, which belongs in the tail.
            if let Some(last) = build.log.back() {
                let first = cause.lines().next().unwrap_or_default();
                cause = format!("{}: {last}", first.trim_end_matches([';', '.', ':']));
            }
            drv.clone_from(&build.subject);
        }
        Failure { cause, tail, realising: error.realising || self.failed, drv }
    }

    fn start(&mut self, id: u64, kind: u64, fields: &[serde_json::Value]) {
        if self.activities.len() >= MOST_ACTIVITIES {
            return;
        }
        let subject = fields.first().and_then(|field| field.as_str()).map(str::to_owned);
        let contents = kind == FILE_TRANSFER && subject.as_deref().is_some_and(is_contents);
        let kind = if contents { CONTENTS } else { kind };
        // Ids grow within a process, but those of a daemon are its own.
        self.started += 1;
        let activity = Activity {
            kind,
            order: self.started,
            subject,
            done: 0,
            expected: 0,
            bytes: 0,
            log: VecDeque::new(),
        };
        self.activities.insert(id, activity);
    }

    fn stop(&mut self, id: u64) {
        let Some(activity) = self.activities.remove(&id) else { return };
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
            _ => {}
        }
    }

    fn message(&mut self, level: u64, msg: &str, raw_msg: Option<String>) {
        // 0 is an error, 1 a warning.
        if level > 1 {
            return;
        }
        let said = plain(msg.as_bytes());
        self.say(&said);
        if level > 0 || self.error.is_some() {
            return;
        }
        // A daemon's asides come as errors, but as nothing else than text.
        if raw_msg.is_none() && ASIDES.iter().any(|aside| said.starts_with(aside)) {
            return;
        }
        let text = raw_msg.map(|raw| plain(raw.as_bytes())).unwrap_or(said);
        let running = |kind: u64| self.activities.values().any(|a| a.kind == kind);
        let realising = running(REALISE) || running(BUILDS);
        self.error = Some(FirstError { text, realising });
    }

    fn say(&mut self, text: &str) {
        self.tail.push(text.as_bytes());
        self.tail.push(b"\n");
    }

    fn sum(&self, kind: u64) -> (u64, u64) {
        let ended = self.done.get(&kind).copied().unwrap_or(0);
        let running = self.activities.values().filter(|a| a.kind == kind);
        running.fold((ended, ended), |(done, expected), a| {
            (done.saturating_add(a.done), expected.saturating_add(a.expected))
        })
    }
}

/// Where binary caches have the contents of paths.
fn is_contents(url: &str) -> bool {
    url.contains("/nar/")
}

/// The name in a store path, without hash and `.drv`; or the end of an URL.
fn name(subject: &str) -> String {
    let base = subject.rsplit('/').next().unwrap_or_default();
    let base = match base.split_at_checked(33) {
        Some((hash, name)) if subject.starts_with("/nix/store/") && hash.ends_with('-') => name,
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
mod tests {
    use super::*;

    const DRV: &str = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-tool-1.2.drv";

    fn read(lines: &[&str]) -> Log {
        let mut log = Log::new();
        lines.iter().for_each(|line| log.read(line.as_bytes()));
        log
    }

    fn build_of_a_tool() -> String {
        format!(r#"@nix {{"action":"start","id":9,"type":105,"fields":["{DRV}","",1,1]}}"#)
    }

    #[test]
    fn what_is_copied_is_counted_in_paths_and_bytes() {
        let log = read(&[
            r#"@nix {"action":"start","id":1,"type":102}"#,
            r#"@nix {"action":"start","id":2,"type":103}"#,
            r#"@nix {"action":"result","id":2,"type":105,"fields":[1,3,1,0]}"#,
            r#"@nix {"action":"result","id":1,"type":106,"fields":[100,5000]}"#,
            r#"@nix {"action":"start","id":3,"type":100,"fields":["/nix/store/0123456789abcdfghijklmnpqrsvwxyz-a","https://c","auto"]}"#,
            r#"@nix {"action":"result","id":3,"type":105,"fields":[700,700,0,0]}"#,
            r#"@nix {"action":"stop","id":3}"#,
            r#"@nix {"action":"start","id":4,"type":100,"fields":["/nix/store/0123456789abcdfghijklmnpqrsvwxyz-b","https://c","auto"]}"#,
            r#"@nix {"action":"result","id":4,"type":105,"fields":[20,300,0,0]}"#,
        ]);
        let expected = Progress {
            phase: Phase::Fetching,
            fetched: 1,
            to_fetch: 3,
            bytes_done: 720,
            bytes_expected: 5000,
            current: Some("b".into()),
            ..Progress::default()
        };
        assert_eq!(log.progress(), expected);
    }

    #[test]
    fn what_came_over_the_wire_counts_where_nix_says_nothing_of_the_path() {
        let mut lines = vec![
            r#"@nix {"action":"start","id":1,"type":102}"#,
            r#"@nix {"action":"result","id":1,"type":106,"fields":[100,500]}"#,
            r#"@nix {"action":"start","id":2,"type":101,"fields":["https://c/abc.narinfo"]}"#,
            r#"@nix {"action":"result","id":2,"type":105,"fields":[90,90,0,0]}"#,
            r#"@nix {"action":"start","id":3,"type":101,"fields":["https://c/nar/abc.nar"]}"#,
            r#"@nix {"action":"result","id":3,"type":105,"fields":[300,300,0,0]}"#,
            r#"@nix {"action":"stop","id":3}"#,
        ];
        let bytes = |lines: &[&str]| {
            let Progress { bytes_done, bytes_expected, .. } = read(lines).progress();
            (bytes_done, bytes_expected)
        };
        assert_eq!(bytes(&lines), (300, 500));
        // Tried again: it is not more than there is.
        lines.extend([
            r#"@nix {"action":"start","id":4,"type":101,"fields":["https://c/nar/abc.nar"]}"#,
            r#"@nix {"action":"result","id":4,"type":105,"fields":[300,300,0,0]}"#,
        ]);
        assert_eq!(bytes(&lines), (500, 500));
    }

    #[test]
    fn a_path_is_shown_by_its_name_and_not_by_that_of_the_file_it_comes_in() {
        let mut lines =
            vec![r#"@nix {"action":"start","id":1,"type":101,"fields":["https://c/abc.narinfo"]}"#];
        assert_eq!(read(&lines).progress().current.as_deref(), Some("abc.narinfo"));
        lines.extend([
            r#"@nix {"action":"start","id":2,"type":100,"fields":["/nix/store/0123456789abcdfghijklmnpqrsvwxyz-a","https://c","auto"]}"#,
            r#"@nix {"action":"start","id":3,"type":101,"fields":["https://c/nar/abc.nar"]}"#,
        ]);
        assert_eq!(read(&lines).progress().current.as_deref(), Some("a"));
    }

    #[test]
    fn a_build_is_what_is_shown_while_there_is_one() {
        let log = read(&[&build_of_a_tool(), r#"@nix {"action":"start","id":10,"type":101}"#]);
        let Progress { phase, current, .. } = log.progress();
        assert_eq!((phase, current.as_deref()), (Phase::Building, Some("tool-1.2")));
    }

    #[test]
    fn the_cause_is_the_first_error_with_the_builders_last_words() {
        let error = format!(
            r#"@nix {{"action":"msg","level":0,"msg":"\u001b[31merror:\u001b[0m x","raw_msg":"builder for '{DRV}' failed"}}"#
        );
        let log = read(&[
            &build_of_a_tool(),
            r#"@nix {"action":"result","id":9,"type":101,"fields":["no space left"]}"#,
            r#"@nix {"action":"result","id":9,"type":101,"fields":[" "]}"#,
            r#"@nix {"action":"stop","id":9}"#,
            &error,
            r#"@nix {"action":"msg","level":0,"msg":"error: dependencies failed"}"#,
        ]);
        let failure = log.failure();
        assert_eq!(failure.cause, format!("builder for '{DRV}' failed: no space left"));
        assert_eq!(failure.drv.as_deref(), Some(DRV));
        assert_eq!(
            failure.tail,
            "tool-1.2> no space left\ntool-1.2>  \nerror: x\nerror: dependencies failed"
        );
    }

    #[test]
    fn a_failure_is_told_by_what_was_going_on() {
        let error = r#"@nix {"action":"msg","level":0,"msg":"error: x"}"#;
        let (start, stop) =
            (r#"@nix {"action":"start","id":1,"type":104}"#, r#"@nix {"action":"stop","id":1}"#);
        let count = r#"@nix {"action":"result","id":1,"type":105,"fields":[0,1,0,1]}"#;
        assert!(!read(&[error]).failure().realising);
        assert!(!read(&[start, stop, error]).failure().realising);
        assert!(read(&[start, error]).failure().realising);
        assert!(read(&[start, count, stop, error]).failure().realising);
        assert_eq!(read(&[]).failure().cause, "nix failed without a word");
    }

    #[test]
    fn nothing_that_is_read_grows_without_bound() {
        let mut log = Log::new();
        let long = "x".repeat(100_000);
        for id in 0..20_000 {
            let start =
                format!(r#"@nix {{"action":"start","id":{id},"type":{id},"fields":["{id}"]}}"#);
            log.read(start.as_bytes());
        }
        for id in 0..20_000 {
            log.read(format!(r#"@nix {{"action":"stop","id":{id}}}"#).as_bytes());
        }
        log.read(format!(r#"@nix {{"action":"msg","level":0,"msg":"{long}"}}"#).as_bytes());
        assert!(log.activities.is_empty() && log.done.len() <= 3);
        let Failure { cause, tail, .. } = log.failure();
        assert!(cause.len() < 1000 && tail.len() <= TAIL_BYTES);
    }

    #[test]
    fn what_is_no_line_of_nix_is_kept_as_text() {
        let failure = read(&["", "warning: \u{1b}[1mdirty\u{1b}[0m", "@nix", "@nix {"]).failure();
        assert_eq!(
            (failure.cause.as_str(), failure.tail.as_str()),
            ("@nix", "warning: dirty\n@nix")
        );
    }
}

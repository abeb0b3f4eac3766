//! Words, times and widths for what people read.
//!
//! Pure: the clock and the terminal come in as arguments. A surprise: nearly
//! every text shown was written elsewhere (a remote's error, a build's output),
//! so none of it reaches a terminal with control characters in it.

use std::io::IsTerminal as _;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

pub(crate) use crate::core::plain::clean;
use crate::core::types::Wall;
use crate::windows::TimeZone;

/// Current time, and the time zone of the reader.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    /// Current time of the wall clock.
    pub now: Wall,
    /// Time zone of the reader, in which times are shown.
    pub zone: TimeZone,
}

impl Clock {
    /// Reads the clock of this process; the zone is that of its environment, or else the host's.
    pub(crate) fn here() -> Self {
        Self { now: crate::clock::now().wall, zone: TimeZone::system() }
    }

    /// Returns the day of a time, and the hour and minute, in the reader's zone.
    fn local(&self, time: Wall) -> (String, String) {
        let limit = jiff::Timestamp::MAX.as_millisecond();
        let millis = time.as_millis().clamp(-limit, limit);
        let moment = jiff::Timestamp::from_millisecond(millis).unwrap_or_default();
        let local = moment.to_zoned(self.zone.clone());
        (local.strftime("%Y-%m-%d").to_string(), local.strftime("%H:%M").to_string())
    }

    /// Formats a time as `14:02`, or `2026-01-01 14:02` on another day.
    pub(crate) fn at(&self, time: Wall) -> String {
        let ((day, minute), (today, _)) = (self.local(time), self.local(self.now));
        if day == today { minute } else { format!("{day} {minute}") }
    }

    /// Formats the current time as `14:02:31`.
    pub(crate) fn second(&self) -> String {
        let moment = jiff::Timestamp::from_millisecond(self.now.as_millis()).unwrap_or_default();
        moment.to_zoned(self.zone.clone()).strftime("%H:%M:%S").to_string()
    }

    /// Rewrites the times in a text by the agent, which are in UTC, as [`Clock::at`] does.
    pub(crate) fn localise(&self, text: &str) -> String {
        let word = |word: &str| {
            let bare = word.trim_end_matches([',', ';', ':', '.', ')']);
            match bare.parse::<Wall>() {
                Ok(time) => format!("{}{}", self.at(time), &word[bare.len()..]),
                Err(_) => word.to_owned(),
            }
        };
        text.split(' ').map(word).collect::<Vec<_>>().join(" ")
    }
}

/// Returns the columns that a text takes on a terminal.
pub(crate) fn columns(text: &str) -> usize {
    text.width()
}

/// How wide lines may be, and whether they may have colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// Longest line, in columns of a terminal.
    pub width: usize,
    /// Whether colours are understood, and wanted.
    pub colour: bool,
}

impl Look {
    /// Returns the look of stdout; 80 columns and no colours when that is not a
    /// terminal. `COLUMNS` comes before the width of the terminal.
    pub(crate) fn of_stdout() -> Self {
        let stdout = std::io::stdout();
        let terminal = stdout.is_terminal();
        let told = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        let asked = || {
            let size = terminal.then(|| rustix::termios::tcgetwinsize(&stdout).ok()).flatten();
            size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0)
        };
        let width = told.filter(|columns| *columns > 0).or_else(asked).unwrap_or(80);
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        // Narrower than this nothing can be said at all.
        Self { width: width.max(20), colour: terminal && !unwanted && !dumb }
    }

    /// Returns a text in a tone: with escape codes, if colours are wanted.
    pub(crate) fn paint(self, tone: Tone, text: &str) -> String {
        match (self.colour, tone) {
            (false, _) => text.to_owned(),
            (true, Tone::Plain) => text.to_owned(),
            (true, Tone::Good) => format!("\x1b[32m{text}\x1b[0m"),
            (true, Tone::Busy) => format!("\x1b[33m{text}\x1b[0m"),
            (true, Tone::Bad) => format!("\x1b[1;31m{text}\x1b[0m"),
            (true, Tone::Faint) => format!("\x1b[2m{text}\x1b[0m"),
        }
    }
}

/// Meaning of a text, which a colour shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// Text that says that all is well.
    Good,
    /// Something is under way.
    Busy,
    /// A person should look.
    Bad,
    /// Less important than the rest.
    Faint,
    /// Text without a colour of its own.
    Plain,
}

/// Shortens store paths to the digits that tell two apart, as everywhere here: whole,
/// two of them fill a line and hide what is said of them.
pub(crate) fn shorten_paths(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, hash, after)) = next_hash(rest) {
        out.push_str(before.strip_suffix("/nix/store/").unwrap_or(before));
        out.push_str(&hash[..SHOWN_DIGITS]);
        out.push('…');
        rest = after;
    }
    out + rest
}

/// Returns the text before the first hash of a store path, that hash, and the text after it.
fn next_hash(text: &str) -> Option<(&str, &str, &str)> {
    let digit = |byte: &u8| b"0123456789abcdfghijklmnpqrsvwxyz".contains(byte);
    let bytes = text.as_bytes();
    let end = (HASH_DIGITS..bytes.len()).find(|end| {
        let start = end - HASH_DIGITS;
        bytes[*end] == b'-'
            && bytes[start..*end].iter().all(digit)
            && (start == 0 || !bytes[start - 1].is_ascii_alphanumeric())
    })?;
    // Those bytes are ASCII, so both ends are between characters.
    let start = end - HASH_DIGITS;
    Some((text.get(..start)?, text.get(start..end)?, text.get(end..)?))
}

/// Length of a store path's hash, in characters.
const HASH_DIGITS: usize = 32;
const SHOWN_DIGITS: usize = 7;

/// Cuts a text to a width in columns, and marks the cut with an ellipsis.
pub(crate) fn fit(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let mut room = width.saturating_sub(1);
    let kept: String = text
        .chars()
        .take_while(|c| {
            let takes = c.width().unwrap_or(0);
            let fits = takes <= room;
            room = room.saturating_sub(takes);
            fits
        })
        .collect();
    format!("{}…", kept.trim_end())
}

/// Pads a text with blanks to a width in columns.
pub(crate) fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(columns(text))))
}

/// Breaks a text at blanks into at most `lines` lines; the first may be `width` wide,
/// the others are indented by two.
pub(crate) fn wrap(text: &str, width: usize, lines: usize) -> Vec<String> {
    let mut done: Vec<String> = Vec::new();
    let mut line = String::new();
    let mut words = text.split(' ').peekable();
    while let Some(word) = words.next() {
        let room = width.saturating_sub(columns(&line) + 1);
        if line.trim().is_empty() {
            line.push_str(word);
        } else if columns(word) <= room {
            line.push(' ');
            line.push_str(word);
        } else if done.len() + 1 >= lines {
            line.push(' ');
            line.push_str(word);
            line.extend(words.by_ref().flat_map(|word| [" ", word]));
        } else {
            done.push(fit(&line, width));
            line = format!("  {word}");
        }
    }
    done.push(fit(&line, width));
    done
}

/// Tells how long ago a time was, or when it was if that is far away.
pub(crate) fn ago(then: Wall, clock: &Clock) -> String {
    let seconds = then.until(clock.now).as_secs();
    if then > clock.now.plus(std::time::Duration::from_secs(5)) || seconds >= FAR {
        clock.at(then)
    } else if seconds < 2 {
        "just now".into()
    } else {
        format!("{} ago", coarse(seconds))
    }
}

/// Tells in how long a time comes, or when it comes if that is far away.
pub(crate) fn ahead(then: Wall, clock: &Clock) -> String {
    match clock.now.until(then).as_secs() {
        0 => "now".into(),
        seconds if seconds >= FAR => clock.at(then),
        seconds => format!("in {}", coarse(seconds)),
    }
}

/// Tells since when something lasts, to follow a statement.
pub(crate) fn lasting(then: Wall, clock: &Clock) -> String {
    let seconds = then.until(clock.now).as_secs();
    if then > clock.now || seconds >= FAR {
        format!("since {}", clock.at(then))
    } else if seconds < 2 {
        "since just now".into()
    } else {
        format!("for {}", coarse(seconds))
    }
}

/// Formats how long something took, in milliseconds, for people.
pub(crate) fn took(millis: u64) -> String {
    match millis / 1000 {
        0..10 if !millis.is_multiple_of(1000) => {
            format!("{}.{} s", millis / 1000, millis % 1000 / 100)
        }
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => two(seconds / 60, "min", seconds % 60, "s"),
        seconds => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
    }
}

/// Distance in seconds from which on a date says more.
const FAR: u64 = 48 * 3600;

fn two(large: u64, unit: &str, small: u64, small_unit: &str) -> String {
    match small {
        0 => format!("{large} {unit}"),
        small => format!("{large} {unit} {small} {small_unit}"),
    }
}

fn coarse(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn store_paths_are_shortened_and_nothing_else() {
        let hash = "ig216jry381qbh527pd6f8cgwki7f4z3";
        let text =
            format!("builder for '/nix/store/{hash}-a.drv' failed; {hash}-b é {hash} x{hash}-");
        let shown = format!("builder for 'ig216jr…-a.drv' failed; ig216jr…-b é {hash} x{hash}-");
        assert_eq!(shorten_paths(&text), shown);
        assert_eq!(shorten_paths("no path, é"), "no path, é");
        assert_eq!(shorten_paths(&format!("{hash}-")), "ig216jr…-");
    }

    #[test]
    fn nothing_is_wider_than_it_may_be() {
        let text = "a rather long sentence with averyveryverylongwordinthemiddleofit and an end";
        let wide = "システムの設定が壊れています";
        assert_eq!((columns(wide), fit(wide, 10)), (28, "システム…".into()));
        for width in 20..90 {
            for lines in 1..5 {
                let wrapped = wrap(text, width, lines);
                assert!(wrapped.len() <= lines);
                assert!(wrapped.iter().all(|line| columns(line) <= width), "{wrapped:?}");
            }
            assert!(columns(&fit(text, width)) <= width);
        }
        assert_eq!(wrap(text, 200, 3), [text]);
    }

    #[test]
    fn times_are_distances_until_a_date_says_more() {
        let then = Wall::from_millis(1_767_276_120_000);
        let after = |seconds| then.plus(std::time::Duration::from_secs(seconds));
        let at = |now| Clock { now, zone: TimeZone::UTC };
        let told: Vec<_> = [0, 34, 200, 9000, 400_000].map(|s| ago(then, &at(after(s)))).into();
        assert_eq!(told, ["just now", "34 s ago", "3 min ago", "2 h ago", "2026-01-01 14:02"]);
        // The clock was set back.
        assert_eq!(ago(after(60), &at(then)), "14:03");
        assert_eq!(ahead(after(200), &at(then)), "in 3 min");
        assert_eq!(ahead(then, &at(after(1))), "now");
        assert_eq!(took(61_250), "61 s");
        assert_eq!(took(350), "0.3 s");
        assert_eq!(took(2000), "2 s");
        assert_eq!(took(200_000), "3 min 20 s");
    }

    #[test]
    fn times_are_those_of_the_reader() {
        let now = Wall::from_millis(1_767_276_120_000);
        let clock = Clock { now, zone: crate::windows::zone("Asia/Tokyo").unwrap() };
        assert_eq!(clock.at(now), "23:02");
        assert_eq!(clock.at(now.plus(std::time::Duration::from_secs(3600))), "2026-01-02 00:02");
        assert_eq!(
            clock.localise("failed 2026-01-01T14:00:00Z: x; again 2026-01-01T14:02:00Z"),
            "failed 23:00: x; again 23:02"
        );
    }
}

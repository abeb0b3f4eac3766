//! Windows of time: `"Mon..Fri 02:00-05:00"`, on the clock of a time zone.
//!
//! A window is open for as long as the clock on the wall shows a time in it.
//! So when summer begins, the part of it that the clock leaps over is not
//! there; when summer ends, the hour that comes twice is in it twice. It is
//! never open at a time that nobody wrote down.
//!
//! One over midnight, `"Fri 22:00-04:00"`, belongs to the day it begins on.

use std::fmt;
use std::path::{Path, PathBuf};

use jiff::civil::{DateTime, Time, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZoneDatabase};
use jiff::{Span, Timestamp};

pub use jiff::tz::TimeZone;

use crate::core::types::Wall;

/// Example of a window, for messages.
pub const EXAMPLE: &str = "\"Mon..Fri 02:00-05:00\"";

/// Days that are looked ahead. The longest that windows can stay as they are is two
/// weeks: one of an hour a week, in the hour that the clock leaps over. And a week to
/// spare.
const HORIZON: i64 = 21;
/// Largest number of windows; more are not what a person wrote.
const MOST: usize = 64;
const DAY: u16 = 24 * 60;
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// Windows that were checked. Empty: always open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Windows(Vec<Window>);

/// One window, as it was written and as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Window {
    written: String,
    /// Days on which the window begins, from Monday.
    days: [bool; 7],
    /// Start of the window, in minutes since midnight.
    start: u16,
    /// First minute after the window. Over midnight it is more than a day.
    end: u16,
}

/// State of the windows at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowState {
    /// Whether one is open.
    pub open: bool,
    /// When that changes; none if it never does.
    pub changes: Option<Wall>,
}

/// Description of what is wrong with a window.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} {why}")]
pub struct Malformed {
    /// Text of the window, as it was written.
    text: String,
    /// Reason why it is no window.
    why: String,
}

impl Windows {
    /// Reads windows as `[DAYS ]HH:MM-HH:MM`, with days as in `Mon`,
    /// `Mon..Fri` and `Mon,Wed,Sat..Sun`; without them every day.
    pub fn parse<S: AsRef<str>>(written: &[S]) -> Result<Self, Malformed> {
        if let Some(one_more) = written.get(MOST) {
            let text = one_more.as_ref().chars().take(80).collect();
            return Err(Malformed { text, why: format!("is one more than {MOST}") });
        }
        let read = |text: &S| {
            let text = text.as_ref();
            let short = || text.chars().take(80).collect();
            window(text).map_err(|why| Malformed { text: short(), why })
        };
        written.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Whether there are no windows, so that it is always open.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns each window as it was written.
    pub fn written(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|window| window.written.as_str())
    }

    /// Returns how the windows stand, and when that changes.
    pub fn at(&self, now: Wall, zone: &TimeZone) -> WindowState {
        if self.0.is_empty() {
            return WindowState { open: true, changes: None };
        }
        // A clock beyond all years tells no time: nothing is open.
        let Ok(now) = Timestamp::from_millisecond(now.as_millis()) else {
            return WindowState { open: false, changes: None };
        };
        let open = self.open(now, zone);
        let mut moments = self.moments(now, zone);
        moments.sort_unstable();
        let change = moments.into_iter().find(|moment| self.open(*moment, zone) != open);
        let changes = change.map(|moment| Wall::from_millis(moment.as_millisecond()));
        WindowState { open, changes }
    }

    fn open(&self, moment: Timestamp, zone: &TimeZone) -> bool {
        let clock = zone.to_datetime(moment);
        let minute = minutes(clock.time());
        let (today, yesterday) = (clock.weekday(), clock.weekday().previous());
        self.0.iter().any(|window| {
            let in_it = |minute: u16| (window.start..window.end).contains(&minute);
            (window.is_on(today) && in_it(minute))
                || (window.is_on(yesterday) && in_it(minute + DAY))
        })
    }

    /// Returns every moment at which the state may change, and some others: where a
    /// window begins or ends, and where the clock leaps.
    fn moments(&self, now: Timestamp, zone: &TimeZone) -> Vec<Timestamp> {
        let horizon = Timestamp::from_millisecond(now.as_millisecond() + HORIZON * 86_400_000)
            .unwrap_or(Timestamp::MAX);
        let leaps = zone.following(now).map(|leap| leap.timestamp());
        let mut moments: Vec<_> = leaps.take_while(|leap| *leap <= horizon).collect();
        let today = zone.to_datetime(now).date();
        for day in -1..=HORIZON {
            let Ok(date) = today.checked_add(Span::new().days(day)) else { continue };
            for window in self.0.iter().filter(|window| window.is_on(date.weekday())) {
                for minute in [window.start, window.end] {
                    let midnight = date.to_datetime(Time::midnight());
                    let span = Span::new().minutes(i64::from(minute));
                    let Ok(clock) = midnight.checked_add(span) else { continue };
                    moments.extend(shown(clock, zone).into_iter().flatten());
                }
            }
        }
        moments.retain(|moment| *moment > now);
        moments
    }
}

/// Shows the windows as they were written.
impl fmt::Display for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(n, window)| {
            f.write_str(if n == 0 { "" } else { ", " })?;
            f.write_str(&window.written)
        })
    }
}

impl Window {
    fn is_on(&self, day: Weekday) -> bool {
        let day = usize::try_from(day.to_monday_zero_offset()).unwrap_or_default();
        self.days.get(day).copied().unwrap_or_default()
    }
}

/// Returns when the clock shows that: once, twice, or never, where it leaps over it.
fn shown(clock: DateTime, zone: &TimeZone) -> [Option<Timestamp>; 2] {
    match zone.to_ambiguous_timestamp(clock).offset() {
        AmbiguousOffset::Unambiguous { offset } => [offset.to_timestamp(clock).ok(), None],
        // The leap itself is one of the moments.
        AmbiguousOffset::Gap { .. } => [None, None],
        AmbiguousOffset::Fold { before, after } => {
            [before.to_timestamp(clock).ok(), after.to_timestamp(clock).ok()]
        }
    }
}

fn minutes(time: Time) -> u16 {
    u16::try_from(i32::from(time.hour()) * 60 + i32::from(time.minute())).unwrap_or_default()
}

fn window(text: &str) -> Result<Window, String> {
    let words: Vec<&str> = text.split(' ').collect();
    let (on, times) = match words[..] {
        [times] => ([true; 7], times),
        [on, times] => (days(on)?, times),
        _ => return Err(format!("is no window such as {EXAMPLE}")),
    };
    let Some((start, end)) = times.split_once('-') else {
        if days(text).is_ok() {
            return Err(format!("has no times: a whole day is \"{text} 00:00-24:00\""));
        }
        return Err(format!("is no window such as {EXAMPLE}"));
    };
    let (start, end) = (time(start)?, time(end)?);
    let end = match end {
        _ if start == DAY => return Err("begins at 24:00: that is 00:00 of the next day".into()),
        _ if start == end => return Err("is empty: a whole day is 00:00-24:00".into()),
        over_midnight if over_midnight < start => over_midnight + DAY,
        end => end,
    };
    Ok(Window { written: text.to_owned(), days: on, start, end })
}

fn days(text: &str) -> Result<[bool; 7], String> {
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once("..").unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        // `Sat..Mon` goes on over the end of the week.
        let length = (last + 7 - first) % 7;
        for (n, on) in days.iter_mut().enumerate() {
            *on |= (n + 7 - first) % 7 <= length;
        }
    }
    Ok(days)
}

fn day(text: &str) -> Result<usize, String> {
    DAYS.iter().position(|day| *day == text).ok_or_else(|| {
        let start: String = text.chars().take(3).collect();
        let meant = DAYS.iter().find(|day| day.eq_ignore_ascii_case(&start));
        let meant = meant.map(|day| format!("; did you mean {day:?}?")).unwrap_or_default();
        let text: String = text.chars().take(20).collect();
        format!("names {text:?}, which is none of the days {}{meant}", DAYS.join(", "))
    })
}

/// Parses a time of day, in minutes since midnight.
fn time(text: &str) -> Result<u16, String> {
    let number = |text: &str| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<u16>().ok()).flatten()
    };
    let parts = text.split_once(':').map(|(hour, minute)| (number(hour), number(minute)));
    match parts {
        Some((Some(24), Some(0))) => Ok(DAY),
        Some((Some(hour @ 0..24), Some(minute @ 0..60))) => Ok(hour * 60 + minute),
        Some(_) | None => {
            let text: String = text.chars().take(20).collect();
            Err(format!("names {text:?}, which is no time from 00:00 to 24:00"))
        }
    }
}

/// Returns a time zone by its name in the tz database, as in `Europe/Berlin`: the host's
/// copy of it, or else the one that this program brings.
pub fn zone(name: &str) -> Option<TimeZone> {
    let known = |database: &TimeZoneDatabase| database.get(name).ok();
    // `Etc/Unknown` has a name, and no time.
    known(jiff::tz::db())
        .or_else(|| known(&TimeZoneDatabase::bundled()))
        .filter(|zone| !zone.is_unknown())
}

/// Returns the names there are, for a person who mistyped one.
pub fn zone_names() -> Vec<String> {
    jiff::tz::db().available().map(|name| name.to_string()).collect()
}

/// Returns the time zone of a host, as `/etc/localtime` has it below its `root`; UTC
/// where that is not there, as everywhere.
pub fn host_zone(root: &Path) -> TimeZone {
    let mut path = root.join("etc/localtime");
    // The name is the most that can be known: a host's own copy may be in a
    // store that is elsewhere.
    for _ in 0..8 {
        let Ok(target) = std::fs::read_link(&path) else { break };
        let named = target.to_str().and_then(|target| target.split_once("zoneinfo/"));
        if let Some(zone) = named.and_then(|(_, name)| zone(name)) {
            return zone;
        }
        path = match target.strip_prefix("/") {
            Ok(below) => root.join(below),
            Err(_) => path.parent().map_or_else(PathBuf::new, Path::to_owned).join(target),
        };
    }
    let bytes = crate::files::read_bounded(&path).ok().flatten();
    bytes.and_then(|bytes| TimeZone::tzif("localtime", &bytes).ok()).unwrap_or(TimeZone::UTC)
}

#[cfg(test)]
mod tests;

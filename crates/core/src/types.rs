//! The words that everything else is said in: commit, store path, times.
//!
//! Each is checked where it enters, so the inside never checks again.

use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A git commit, by its SHA-1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Commit([u8; 20]);

impl Commit {
    /// Makes a commit from the twenty bytes of its id.
    pub const fn from_bytes(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    /// Returns the twenty bytes of its id.
    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }

    /// Returns the first `n` hexadecimal digits.
    pub fn prefix(&self, n: usize) -> String {
        let mut hex = self.to_string();
        hex.truncate(n);
        hex
    }

    /// Returns the seven digits that people read.
    pub fn short(&self) -> String {
        self.prefix(7)
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.0.iter().try_for_each(|byte| {
            f.write_char(char::from(DIGITS[usize::from(byte >> 4)]))?;
            f.write_char(char::from(DIGITS[usize::from(byte & 15)]))
        })
    }
}

impl fmt::Debug for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

/// Error of a text that is not what its type requires.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not {expected}")]
pub struct Malformed {
    value: String,
    expected: &'static str,
}

impl Malformed {
    pub(super) fn new(value: &str, expected: &'static str) -> Self {
        let value = value.chars().take(120).collect();
        Self { value, expected }
    }
}

impl FromStr for Commit {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let malformed = || Malformed::new(text, "a commit id of 40 hexadecimal digits");
        if text.len() != 40 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(malformed());
        }
        let mut bytes = [0; 20];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| malformed())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| malformed())?;
        }
        Ok(Self(bytes))
    }
}

/// A path in the Nix store, as the store names it: `/nix/store/HASH-NAME`,
/// wherever the store really is, and nothing below it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorePath(Arc<str>);

impl StorePath {
    const STORE: &'static str = "/nix/store/";

    /// Returns the whole path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the hash and the name, without the store's directory.
    pub fn base_name(&self) -> &str {
        &self.0[Self::STORE.len()..]
    }

    /// Returns the hash in the path's name: 32 digits of Nix's base 32.
    pub fn hash(&self) -> &str {
        self.base_name().split_at_checked(32).map_or("", |(hash, _)| hash)
    }

    /// Returns the store path of any path at or below it.
    pub fn containing(text: &str) -> Result<Self, Malformed> {
        let rest = text.strip_prefix(Self::STORE).unwrap_or_default();
        let base = rest.split('/').next().unwrap_or_default();
        format!("{}{base}", Self::STORE)
            .parse()
            .map_err(|_| Malformed::new(text, "a path in /nix/store"))
    }
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.base_name())
    }
}

impl FromStr for StorePath {
    type Err = Malformed;

    /// Follows Nix's own rules (`store/path.cc`): 32 digits of its base 32, a dash, then at most
    /// 211 of the characters below; never a leading dot.
    fn from_str(text: &str) -> Result<Self, Malformed> {
        let hash_digit = |b: u8| b"0123456789abcdfghijklmnpqrsvwxyz".contains(&b);
        let name_char = |b: u8| b.is_ascii_alphanumeric() || b"+-._?=".contains(&b);
        let good = text
            .strip_prefix(Self::STORE)
            .and_then(|base| base.split_at_checked(32))
            .and_then(|(hash, rest)| Some((hash, rest.strip_prefix('-')?)))
            .is_some_and(|(hash, name)| {
                hash.bytes().all(hash_digit)
                    && (1..=211).contains(&name.len())
                    && !name.starts_with('.')
                    && name.bytes().all(name_char)
            });
        if good {
            Ok(Self(text.into()))
        } else {
            Err(Malformed::new(text, "a store path (/nix/store/HASH-NAME)"))
        }
    }
}

/// Serialises a type through its `Display` and `FromStr`.
macro_rules! as_text {
    ($($name:ty),*) => {$(
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
pub(super) use as_text;
as_text!(Commit, StorePath, Wall);

/// A moment by the wall clock, in milliseconds since 1970 UTC. The clock may
/// be wrong or jump: what is compared with it is bounded by [`Wall::reached`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(i64);

impl Wall {
    /// Makes a moment from milliseconds since 1970 UTC.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Returns the milliseconds since 1970 UTC.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Returns the moment that is later by a duration.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// Returns how long it is until the later moment; zero if that is over.
    pub fn until(self, later: Wall) -> Duration {
        Duration::from_millis(later.0.saturating_sub(self.0).max(0).unsigned_abs())
    }

    /// Whether a stored "not before" is over. One further ahead than its own
    /// maximum was stored under another clock and counts as over: a host
    /// without a battery starts in 1970 or 2099.
    pub fn reached(self, not_before: Wall, maximum: Duration) -> bool {
        self >= not_before || self.until(not_before) > maximum
    }

    /// Returns the moment as `YYYYMMDDTHHMMSSZ`, the first part of an id.
    pub fn compact(self) -> String {
        self.to_string().chars().filter(|c| !matches!(c, '-' | ':')).collect()
    }

    fn timestamp(self) -> jiff::Timestamp {
        // A clock beyond the year 9999 is shown as its last second.
        let limit = jiff::Timestamp::MAX.as_millisecond();
        jiff::Timestamp::from_millisecond(self.0.clamp(-limit, limit))
            .unwrap_or(jiff::Timestamp::MAX)
    }
}

/// Shows the moment as RFC 3339 has it, in UTC and whole seconds.
impl fmt::Display for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0}", self.timestamp())
    }
}

impl fmt::Debug for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Wall {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        text.parse::<jiff::Timestamp>()
            .map(|t| Self(t.as_millisecond()))
            .map_err(|_| Malformed::new(text, "a time as in 2026-01-01T00:00:00Z"))
    }
}

/// A moment of this boot, in milliseconds since it began (`CLOCK_BOOTTIME`):
/// the same for every process, never jumps, means nothing in another boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mono(u64);

impl Mono {
    /// Makes a moment from milliseconds since the boot.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Returns the milliseconds since the boot.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Returns the moment that is later by a duration.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration).unsigned_abs()))
    }

    /// Returns how long ago `earlier` was; zero if it is still to come.
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Both clocks, read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Wall clock, for what outlives a boot, and for people.
    pub wall: Wall,
    /// Clock of the boot, for everything that is measured.
    pub mono: Mono,
}

/// Id of a boot: the kernel's `boot_id`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(pub Arc<str>);

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-system";

    #[test]
    fn only_whole_store_paths_are_store_paths() {
        assert!(PATH.parse::<StorePath>().is_ok());
        let long = format!("{PATH}{}", "x".repeat(206));
        for bad in [
            "",
            "/nix/store",
            "/nix/store/",
            "/nix/store/..",
            "/nix/store/0123456789abcdfghijklmnpqrsvwxyz",
            "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-",
            "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-.x",
            "/nix/store/e123456789abcdfghijklmnpqrsvwxyz-x",
            "/nix/store/0123456789abcdfghijklmnpqrsvwxyz-x/bin",
            "/gnu/store/0123456789abcdfghijklmnpqrsvwxyz-x",
            "/nix/store/0123456789abcdfghijklmnpqrsvwxyé-x",
            &long,
        ] {
            assert!(bad.parse::<StorePath>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_path_below_a_store_path_is_found_in_it() {
        let found = StorePath::containing(&format!("{PATH}/specialisation/x"));
        assert_eq!(found, PATH.parse());
        assert!(StorePath::containing("/etc/passwd").is_err());
    }

    #[test]
    fn a_commit_is_forty_digits() {
        let hex = "0123456789abcdef0123456789abcdef01234567";
        let commit: Commit = hex.parse().unwrap();
        assert_eq!(commit.to_string(), hex);
        assert_eq!(commit.short(), "0123456");
        assert!(hex[1..].parse::<Commit>().is_err());
        assert!("+123456789abcdef0123456789abcdef01234567".parse::<Commit>().is_err());
    }

    #[test]
    fn a_not_before_from_another_clock_is_over() {
        let hour = Duration::from_secs(3600);
        let now = Wall::from_millis(1_000_000_000);
        assert!(now.reached(now, hour));
        assert!(!now.reached(now.plus(hour), hour));
        assert!(now.reached(now.plus(hour * 2), hour));
    }

    #[test]
    fn times_read_as_people_write_them() {
        let time: Wall = "2026-01-01T00:00:30Z".parse().unwrap();
        assert_eq!(time.to_string(), "2026-01-01T00:00:30Z");
        assert_eq!(time.compact(), "20260101T000030Z");
        assert_eq!(Wall::from_millis(1_999).to_string(), "1970-01-01T00:00:01Z");
    }
}

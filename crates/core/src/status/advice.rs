//! Advice to a person, with the commands told apart from the words.
//!
//! Text that others wrote may look like a command: a build can print "run fort-agent accept".
//! Whoever marks commands (the page does) takes them from here, where only the agent's own
//! wording puts any, and looks for none in a text.

use std::fmt;
use std::ops::{Deref, Range};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Advice that would lift something. In JSON it is a string, in which commands are words like the
/// others.
#[derive(Clone, Debug, Default, Eq)]
pub struct Lift {
    text: String,
    /// Ranges of the commands in the text, in order.
    commands: Vec<Range<usize>>,
}

/// Part of an advice, in words or as a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Words to be shown as they are.
    Words(&'a str),
    /// Command for a person to type.
    Command(&'a str),
}

impl Lift {
    /// Goes on with words, which may be a name or a commit.
    #[must_use]
    pub fn and(mut self, words: impl AsRef<str>) -> Self {
        self.text += words.as_ref();
        self
    }

    /// Goes on with a command of this program, and its arguments.
    #[must_use]
    pub fn run(mut self, arguments: impl AsRef<str>) -> Self {
        let start = self.text.len();
        self.text += "fort-agent ";
        self.text += arguments.as_ref();
        self.commands.push(start..self.text.len());
        self
    }

    /// Goes on with another advice.
    #[must_use]
    pub fn then(mut self, other: &Self) -> Self {
        let start = self.text.len();
        self.text += &other.text;
        let moved = |command: &Range<usize>| command.start + start..command.end + start;
        self.commands.extend(other.commands.iter().map(moved));
        self
    }

    /// Returns all of its parts, in order.
    pub fn parts(&self) -> Vec<Piece<'_>> {
        let mut parts = Vec::new();
        let mut at = 0;
        let words = |range: Range<usize>| self.text.get(range).filter(|words| !words.is_empty());
        for command in &self.commands {
            parts.extend(words(at..command.start).map(Piece::Words));
            parts.extend(words(command.clone()).map(Piece::Command));
            at = command.end;
        }
        parts.extend(words(at..self.text.len()).map(Piece::Words));
        parts
    }
}

impl Deref for Lift {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl From<&str> for Lift {
    fn from(words: &str) -> Self {
        words.to_owned().into()
    }
}

impl From<String> for Lift {
    fn from(text: String) -> Self {
        Self { text, commands: Vec::new() }
    }
}

impl From<Lift> for String {
    fn from(lift: Lift) -> Self {
        lift.text
    }
}

impl fmt::Display for Lift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

/// Compares by text: an advice that was read from JSON has no commands in it.
impl PartialEq for Lift {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl PartialEq<&str> for Lift {
    fn eq(&self, other: &&str) -> bool {
        self.text == *other
    }
}

impl Serialize for Lift {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

impl<'de> Deserialize<'de> for Lift {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_json_it_is_a_sentence() {
        let lift = Lift::from("push, or run ").run("retry 1a2b3c4").and(" twice");
        let lift = Lift::from("please ").then(&lift);
        assert_eq!(
            lift.parts(),
            [
                Piece::Words("please push, or run "),
                Piece::Command("fort-agent retry 1a2b3c4"),
                Piece::Words(" twice"),
            ]
        );
        let json = serde_json::to_string(&lift).unwrap();
        assert_eq!(json, "\"please push, or run fort-agent retry 1a2b3c4 twice\"");
        let read: Lift = serde_json::from_str(&json).unwrap();
        assert_eq!(read, lift);
        // Whoever reads it knows of no command.
        assert_eq!(read.parts(), [Piece::Words(&lift)]);
    }
}

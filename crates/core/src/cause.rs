//! Why a switch did not end with the candidate verified and in place.
//!
//! The guardian and whoever judges say it as a [`SwitchCause`]; its `Display` is the one
//! place that words it. In the files of jobs it is written beside the words, so that
//! nobody has to read it out of them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::types::StorePath;

/// The program, or its mode, that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Program {
    /// `switch-to-configuration test` of a system.
    Test,
    /// `switch-to-configuration boot` of a system.
    Boot,
    /// The `activate` script of a system, without `switch-to-configuration`.
    Activate,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Test => "switch-to-configuration test",
            Self::Boot => "switch-to-configuration boot",
            Self::Activate => "activate",
        })
    }
}

/// End of a program that left no exit code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// Whether the time of the program was over.
    pub timed_out: bool,
    /// How the program ended, in words.
    pub words: String,
}

impl Broken {
    /// A program that was killed or could not be started.
    pub fn off(words: impl Into<String>) -> Self {
        Self { timed_out: false, words: words.into() }
    }

    /// A program whose time was over.
    pub fn late(words: impl Into<String>) -> Self {
        Self { timed_out: true, words: words.into() }
    }
}

/// Moment at which the host was rebooted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RebootedBefore {
    /// Before anything was done.
    Beginning,
    /// Before the candidate was judged.
    Verdict,
    /// Before the candidate was the boot default.
    Commit,
}

/// Cause of a switch that did not end with the candidate verified and in place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum SwitchCause {
    /// A check of the configuration, or that of the units, failed.
    Check {
        /// Name of the check.
        name: String,
        /// Finding of the check, in words.
        detail: String,
    },
    /// No remote answers any more, and nothing else is wrong.
    RemotesLost {
        /// Name of the check.
        name: String,
        /// Finding of the check instead of an answer.
        detail: String,
    },
    /// The time for checks was over before each had been made.
    ChecksUnfinished,
    /// Nobody judged in time.
    NoVerdict,
    /// The verdict of an agent that does not say why.
    JudgedBad {
        /// Words of the verdict, if it has any.
        words: Option<String>,
    },
    /// A program ended with a code that means failure.
    Exit {
        /// Program that ended with the code.
        program: Program,
        /// Exit code of the program.
        code: i32,
        /// Whether the program ended before it had started the units that it had stopped.
        early: bool,
    },
    /// A program was killed, ran out of time or could not be started.
    Broke {
        /// Program that broke off.
        program: Program,
        /// How the program ended.
        how: Broken,
        /// The units that systemd was starting meanwhile.
        starting: Vec<String>,
    },
    /// The time of an activation was over while units did not stop; they were killed.
    UnitsHung {
        /// Units that did not stop and were killed.
        units: Vec<String>,
    },
    /// A check before the switch, or a switch inhibitor, refused it.
    Refused,
    /// Only a reboot activates the candidate.
    NeedsReboot {
        /// Whether the candidate is of a testing branch, which a reboot undoes.
        testing: bool,
    },
    /// Another switch held the lock for all of the time.
    Locked {
        /// Process that held the lock, in words; none where that is not known.
        holder: Option<String>,
    },
    /// The candidate was activated and is not the running system.
    NotRunning,
    /// The profile could not be set.
    Profile {
        /// Error of setting it; none: it was set, and names something else.
        error: Option<String>,
    },
    /// Another hand has switched the host.
    OtherHand {
        /// System that runs now; none: nothing runs.
        running: Option<StorePath>,
    },
    /// The host was rebooted.
    Rebooted {
        /// Step that the switch had not reached before the reboot.
        before: RebootedBefore,
    },
    /// The switch job was killed while it activated.
    Killed,
    /// The last action does not belong to the phase.
    Lost,
    /// A person rolled the candidate back.
    Asked {
        /// The person's reason; may be empty.
        reason: String,
    },
    /// The candidate was to be booted once, and another system came up.
    DidNotComeUp,
    /// The boot loader counted its tries down, and booted something else.
    BootGaveUp,
    /// The candidate cannot be booted just once, and has failed before.
    Suspect {
        /// Why the candidate was to be booted.
        why: String,
    },
    /// The host could not be looked at.
    Unseen {
        /// Path that could not be read, and the error, in words.
        what: String,
    },
}

impl fmt::Display for SwitchCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Check { name, detail } | Self::RemotesLost { name, detail } => {
                write!(f, "check {name}: {detail}")
            }
            Self::ChecksUnfinished => f.write_str("the checks did not finish in time"),
            Self::NoVerdict => f.write_str("no verdict in time: the agent did not come back"),
            Self::JudgedBad { words } => f.write_str(words.as_deref().unwrap_or("judged bad")),
            Self::Exit { program, code, early } => {
                write!(f, "{program}: exit code {code}{}", if *early { EARLY } else { "" })
            }
            Self::Broke { program, how, starting } => {
                write!(f, "{program}: {}", how.words)?;
                match starting.is_empty() {
                    true => Ok(()),
                    false => write!(f, ", while systemd was starting {}", starting.join(", ")),
                }
            }
            Self::UnitsHung { units } => {
                write!(f, "{}: timed out{}", Program::Test, killed(units))
            }
            Self::Refused => f.write_str("switch-to-configuration refused (exit code 1)"),
            Self::NeedsReboot { testing } => {
                f.write_str("it cannot be activated without a reboot (exit code 100)")?;
                f.write_str(if *testing { ", and a testing branch is undone by one" } else { "" })
            }
            Self::Locked { holder } => {
                f.write_str("another switch holds the lock (exit code 11)")?;
                holder.as_ref().map_or(Ok(()), |holder| write!(f, ": {holder}"))
            }
            Self::NotRunning => f.write_str("activated, but it is not the running system"),
            Self::Profile { error: Some(why) } => write!(f, "the profile could not be set: {why}"),
            Self::Profile { error: None } => {
                f.write_str("the profile was set and does not name it")
            }
            Self::OtherHand { running } => {
                let found = running.as_ref().map_or("nothing", StorePath::as_str);
                write!(f, "another hand has switched this host: {found} runs")
            }
            Self::Rebooted { before } => f.write_str(match before {
                RebootedBefore::Beginning => "the host was rebooted before it began",
                RebootedBefore::Verdict => "the host was rebooted before a verdict",
                RebootedBefore::Commit => "the host was rebooted before the commit",
            }),
            Self::Killed => f.write_str("killed while activating"),
            Self::Lost => f.write_str("lost its way while activating"),
            Self::Asked { reason } if reason.is_empty() => f.write_str("rolled back by a person"),
            Self::Asked { reason } => write!(f, "rolled back by a person: {reason}"),
            Self::DidNotComeUp => f.write_str("it was to be booted once, and did not come up"),
            Self::BootGaveUp => {
                f.write_str("the boot loader gave it up, and has booted another system")
            }
            Self::Suspect { why } => {
                write!(f, "{why}, and it has failed before: it cannot be booted just once")
            }
            Self::Unseen { what } => write!(f, "this host cannot be looked at: {what}"),
        }
    }
}

/// Words for a program that left its list of units to start behind.
pub(crate) const EARLY: &str = ", before the units were started that it had stopped";

/// Returns the words for units that could not be stopped and were killed.
pub(crate) fn killed(units: &[String]) -> String {
    let (units, were) = (units.join(", "), if units.len() == 1 { "was" } else { "were" });
    format!(", while systemd was stopping {units}, which {were} killed")
}

/// Cause of a switch's end in words, and as a value where that is known.
///
/// More may be appended to the words than the cause itself says: who had to be ended for
/// the way back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Words of the cause, and of what was added to it.
    #[serde(rename = "cause")]
    pub words: String,
    /// Cause as a value; none in what an earlier version wrote, or a later one.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "if_known")]
    pub why: Option<Box<SwitchCause>>,
}

impl Cause {
    /// The cause with other words, which go on from its own.
    #[must_use]
    pub fn worded(&self, words: String) -> Self {
        Self { words, why: self.why.clone() }
    }
}

impl From<SwitchCause> for Cause {
    fn from(why: SwitchCause) -> Self {
        Self { words: why.to_string(), why: Some(Box::new(why)) }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

/// Reads a cause as a value; none for one that only a newer version knows: its words are still
/// there.
pub(crate) fn if_known<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Box<SwitchCause>>, D::Error> {
    let value = Option::<serde_json::Value>::deserialize(deserializer)?;
    Ok(value.and_then(|value| serde_json::from_value(value).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_read_as_it_was_written_and_one_of_a_newer_version_by_its_words() {
        let why = SwitchCause::UnitsHung { units: vec!["a.service".into(), "b.service".into()] };
        let cause = Cause::from(why);
        let text = serde_json::to_string(&cause).unwrap();
        assert_eq!(
            text,
            r#"{"cause":"switch-to-configuration test: timed out, while systemd was stopping a.service, b.service, which were killed","why":{"is":"units-hung","units":["a.service","b.service"]}}"#
        );
        assert_eq!(serde_json::from_str::<Cause>(&text).unwrap(), cause);
        for other in [r#"{"cause":"x"}"#, r#"{"cause":"x","why":{"is":"new","y":[1]}}"#] {
            let read: Cause = serde_json::from_str(other).unwrap();
            assert_eq!((read.words.as_str(), read.why), ("x", None));
        }
    }
}

/// Causes and ends of which only the words matter to a test.
#[cfg(test)]
mod in_words {
    use super::{Broken, Cause};

    impl From<&str> for Broken {
        fn from(words: &str) -> Self {
            Self::off(words)
        }
    }

    impl From<&str> for Cause {
        fn from(words: &str) -> Self {
            Self { words: words.into(), why: None }
        }
    }

    impl PartialEq<&str> for Cause {
        fn eq(&self, words: &&str) -> bool {
            self.words == *words
        }
    }
}

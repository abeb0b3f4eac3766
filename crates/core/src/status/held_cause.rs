//! Causes for which something is held, with what they rest on.
//!
//! Inside the agent a cause is a value with fields; only here does it become the word
//! and the object that outsiders read, and come back from them.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Held, Lift};
use crate::job::{Refusal, RefusalCause};
use crate::memory::Subject;
use crate::types::{Commit, Wall};

/// Cause for which something is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeldCause {
    /// The state directory cannot be written: nothing could be remembered.
    StateDir(StateDir),
    /// The configuration is of another machine.
    MachineId(MachineId),
    /// No remote has the branch that is followed.
    BranchMissing(BranchMissing),
    /// A head does not descend from the one that was accepted.
    ForcePush(ForcePush),
    /// A head was not fetched, for it is larger than this host takes.
    TooLargeHead(TooLargeHead),
    /// The commit has no system of this host's name.
    NoSuchHost(NoSuchHost),
    /// The system failed too often.
    Quarantined(Quarantined),
    /// The system was refused before anything was touched.
    Refused(Refusal),
    /// A cause that only a newer agent knows.
    Other {
        /// The cause in one word.
        cause: String,
        /// Evidence that the cause rests on.
        evidence: Value,
    },
}

/// Evidence that the state directory cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateDir {
    /// The error, with the path.
    pub found: String,
}

/// Evidence that the configuration is of another machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineId {
    /// The id that the configuration names.
    pub configured: Option<String>,
    /// The id of this machine, if it has one.
    pub found: Option<String>,
}

/// Evidence that no remote has the branch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BranchMissing {
    /// The branch that is followed.
    pub branch: Arc<str>,
    /// The remotes that were asked and lack it.
    pub remotes: Vec<Arc<str>>,
}

/// Evidence of a head that does not descend from the accepted one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ForcePush {
    /// The remote whose head it is.
    pub remote: Option<Arc<str>>,
    /// The branch that is followed.
    pub branch: Arc<str>,
    /// The head that is not accepted.
    pub head: Option<Commit>,
    /// The commit that was accepted last.
    pub accepted: Option<Commit>,
    /// Whether the head is an ancestor of the accepted commit.
    pub rewind: bool,
}

/// Evidence of a head that was not fetched for its size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TooLargeHead {
    /// The remote whose head it is.
    pub remote: Option<Arc<str>>,
    /// The branch that is followed.
    pub branch: Arc<str>,
    /// The head that was not fetched.
    pub head: Commit,
    /// The limit that it exceeds, in a sentence.
    pub found: String,
}

/// Evidence that a commit lacks this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoSuchHost {
    /// The name that was looked for.
    pub hostname: String,
    /// The recipe that was evaluated.
    pub recipe: Arc<str>,
    /// The hosts that the commit has.
    pub hosts: Vec<String>,
}

/// Evidence of a system that failed too often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// Number of failures in a row.
    pub failures: u32,
    /// Why it failed the last time.
    pub last: String,
    /// When it failed the last time.
    pub at: Wall,
    /// The commit or system that failed.
    pub subject: Subject,
}

impl HeldCause {
    /// Returns the cause in one word, as outsiders read it.
    pub fn word(&self) -> &str {
        match self {
            Self::StateDir(_) => "state-dir",
            Self::MachineId(_) => "machine-id",
            Self::BranchMissing(_) => "branch-missing",
            Self::ForcePush(_) => "force-push",
            Self::TooLargeHead(_) => RefusalCause::TooLarge.as_str(),
            Self::NoSuchHost(_) => "no-such-host",
            Self::Quarantined(_) => "quarantined",
            Self::Refused(refusal) => refusal.cause.as_str(),
            Self::Other { cause, .. } => cause,
        }
    }

    /// Returns every word that this version says.
    pub fn words() -> impl Iterator<Item = &'static str> {
        let own = [
            "branch-missing",
            "force-push",
            "machine-id",
            "no-such-host",
            "quarantined",
            "state-dir",
        ];
        own.into_iter().chain(RefusalCause::ALL.map(RefusalCause::as_str))
    }

    /// Returns the evidence that the cause rests on, as outsiders read it.
    pub fn evidence(&self) -> Value {
        match self {
            Self::StateDir(it) => json!(it),
            Self::MachineId(it) => json!(it),
            Self::BranchMissing(it) => json!(it),
            Self::ForcePush(it) => json!(it),
            Self::TooLargeHead(it) => json!(it),
            Self::NoSuchHost(it) => json!(it),
            Self::Quarantined(it) => json!(it),
            Self::Refused(refusal) => {
                let mut evidence = json!(refusal.evidence);
                evidence["found"] = json!(refusal.detail);
                evidence
            }
            Self::Other { evidence, .. } => evidence.clone(),
        }
    }

    /// Reads the cause from the word and the evidence that an agent says.
    pub fn read(cause: &str, evidence: Value) -> Self {
        fn of<T: DeserializeOwned>(
            evidence: &Value,
            into: fn(T) -> HeldCause,
        ) -> Option<HeldCause> {
            T::deserialize(evidence).ok().map(into)
        }
        let known = match cause {
            "state-dir" => of(&evidence, Self::StateDir),
            "machine-id" => of(&evidence, Self::MachineId),
            "branch-missing" => of(&evidence, Self::BranchMissing),
            "force-push" => of(&evidence, Self::ForcePush),
            "no-such-host" => of(&evidence, Self::NoSuchHost),
            "quarantined" => of(&evidence, Self::Quarantined),
            "too-large" if evidence.get("head").is_some() => of(&evidence, Self::TooLargeHead),
            _ => refusal(cause, &evidence).map(Self::Refused),
        };
        known.unwrap_or_else(|| Self::Other { cause: cause.into(), evidence })
    }
}

fn refusal(cause: &str, evidence: &Value) -> Option<Refusal> {
    let cause = RefusalCause::ALL.into_iter().find(|it| it.as_str() == cause)?;
    let mut evidence: std::collections::BTreeMap<String, String> =
        Deserialize::deserialize(evidence).ok()?;
    let detail = evidence.remove("found")?;
    Some(Refusal { cause, detail, evidence })
}

/// [`Held`] as outsiders read it.
#[derive(Serialize, Deserialize)]
pub(super) struct Wire {
    cause: String,
    evidence: Value,
    lift: Lift,
}

impl From<Held> for Wire {
    fn from(Held { cause, lift }: Held) -> Self {
        Self { cause: cause.word().to_owned(), evidence: cause.evidence(), lift }
    }
}

impl From<Wire> for Held {
    fn from(Wire { cause, evidence, lift }: Wire) -> Self {
        Self { cause: HeldCause::read(&cause, evidence), lift }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(cause: &HeldCause) {
        let held = Held { cause: cause.clone(), lift: "push".into() };
        let text = serde_json::to_string(&held).unwrap();
        assert_eq!(serde_json::from_str::<Held>(&text).unwrap(), held, "{text}");
        let said = matches!(cause, HeldCause::Other { .. });
        assert_eq!(HeldCause::words().any(|word| word == cause.word()), !said, "{text}");
    }

    #[test]
    fn every_cause_is_read_as_it_was_said() {
        let head: Commit = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
        let (remote, branch): (Option<Arc<str>>, Arc<str>) =
            (Some("origin".into()), "release".into());
        let found = "x".to_owned();
        let subject = Subject::Commit { commit: head, recipe: "flake".into() };
        there_and_back(&HeldCause::StateDir(StateDir { found: found.clone() }));
        there_and_back(&HeldCause::MachineId(MachineId {
            configured: None,
            found: Some(found.clone()),
        }));
        there_and_back(&HeldCause::BranchMissing(BranchMissing {
            branch: branch.clone(),
            remotes: vec!["origin".into()],
        }));
        there_and_back(&HeldCause::ForcePush(ForcePush {
            remote: remote.clone(),
            branch: branch.clone(),
            head: Some(head),
            accepted: Some(head),
            rewind: true,
        }));
        there_and_back(&HeldCause::TooLargeHead(TooLargeHead {
            remote,
            branch,
            head,
            found: found.clone(),
        }));
        there_and_back(&HeldCause::NoSuchHost(NoSuchHost {
            hostname: "joker".into(),
            recipe: "flake".into(),
            hosts: vec![],
        }));
        there_and_back(&HeldCause::Quarantined(Quarantined {
            failures: 3,
            last: found.clone(),
            at: Wall::from_millis(0),
            subject,
        }));
        for cause in RefusalCause::ALL {
            let evidence = [("free".to_owned(), "1".to_owned())].into();
            there_and_back(&HeldCause::Refused(Refusal { cause, detail: found.clone(), evidence }));
        }
        there_and_back(&HeldCause::Other { cause: "new".into(), evidence: json!({"a": [1]}) });
    }
}

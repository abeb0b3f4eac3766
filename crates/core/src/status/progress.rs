//! Progress of a deployment: its stage, and what is known of that.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use crate::guardian::Phase;
use crate::job::{Check, RealiseProgress};
use crate::open_words::open_words;

open_words! {
    /// The stage that a deployment is in.
    pub enum Stage {
        /// The system is being evaluated, fetched or built.
        Realise = "realise",
        /// The system is ready, and waits for the preflight or a gate.
        Gate = "gate",
        /// The system is being activated.
        Activate = "activate",
        /// The system runs and is being checked.
        Verify = "verify",
        /// The system is becoming the boot default.
        Commit = "commit",
        /// The system before it is being put back.
        Rollback = "rollback",
    }
}

/// Details of a deployment's stage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StageProgress {
    /// Nothing is known of the stage yet; `{}` in JSON.
    #[default]
    Unknown,
    /// The counts of a realise job.
    Realise(RealiseProgress),
    /// The phase of a switch job.
    Switch {
        /// Phase that the switch is in.
        phase: Phase,
        /// The last round of checks, if there was one.
        checks: Option<Vec<Check>>,
    },
    /// Details that only a newer version knows.
    Other(Value),
}

impl StageProgress {
    /// The checks of the system that runs now, if they were made.
    pub fn checks(&self) -> Option<&[Check]> {
        match self {
            Self::Switch { checks, .. } => checks.as_deref(),
            Self::Unknown | Self::Realise(_) | Self::Other(_) => None,
        }
    }

    fn read(value: Value) -> Self {
        let known = match value.get("phase") {
            Some(Value::String(_)) => Deserialize::deserialize(&value).ok().map(Self::Realise),
            Some(phase) => {
                let checks = value.get("checks").map(Deserialize::deserialize).transpose();
                Deserialize::deserialize(phase)
                    .ok()
                    .zip(checks.ok())
                    .map(|(phase, checks)| Self::Switch { phase, checks: checks.flatten() })
            }
            None => {
                value.as_object().is_some_and(serde_json::Map::is_empty).then_some(Self::Unknown)
            }
        };
        known.unwrap_or(Self::Other(value))
    }
}

impl Serialize for StageProgress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // By way of a value, which has its keys in alphabetical order.
        let value = match self {
            Self::Unknown => json!({}),
            Self::Realise(progress) => json!(progress),
            Self::Switch { phase, checks } => json!({ "phase": phase, "checks": checks }),
            Self::Other(value) => return value.serialize(serializer),
        };
        value.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for StageProgress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(Self::read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Mono;

    #[test]
    fn progress_is_read_as_it_was_written() {
        let check = Check {
            name: "web".into(),
            ok: true,
            required: true,
            detail: "200".into(),
            ..Check::default()
        };
        let at = Mono::from_millis(1);
        for progress in [
            StageProgress::Unknown,
            StageProgress::Realise(RealiseProgress {
                phase: "building".into(),
                built: 3,
                ..RealiseProgress::default()
            }),
            StageProgress::Switch { phase: Phase::Ready, checks: None },
            StageProgress::Switch { phase: Phase::Activated { at }, checks: Some(vec![check]) },
            StageProgress::Other(json!({"phase": {"is": "new"}})),
        ] {
            let text = serde_json::to_string(&progress).unwrap();
            assert_eq!(serde_json::from_str::<StageProgress>(&text).unwrap(), progress, "{text}");
        }
    }
}

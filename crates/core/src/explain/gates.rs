//! What a person or the clock holds back, read off the status as it is shown.

use serde_json::{Value, json};

use super::{Explainer, Gates, Rule};
use crate::status::GateView;
use crate::types::Commit;

/// What keeps a deployment waiting that is ready otherwise.
pub(super) struct Gate {
    pub(super) evidence: String,
    pub(super) lift: Option<String>,
}

impl Explainer<'_> {
    /// The gate that is closed for what is pending.
    pub(super) fn closed_gate(&self) -> Option<Gate> {
        closed(&json!(self.status)["gate"])
    }

    /// The gate that would keep a commit from being activated, whether it is what
    /// waits now or not.
    pub(super) fn gates_of(&self, commit: Commit) -> Gates {
        let view = &self.view;
        let closed = view.memory.gates.closed(view.policy, view.seen, commit, view.now);
        Gates {
            closed: closed.map(|gate| GateView {
                kind: gate.as_str().into(),
                commit,
                until: gate.opens(),
                lift: gate.lift(commit),
            }),
        }
    }

    /// That no gate is closed; a suspension stays, even if nothing waits for it.
    pub(super) fn gates(&self) -> Rule {
        gates(&json!(self.status))
    }
}

fn closed(gate: &Value) -> Option<Gate> {
    let kind = gate["kind"].as_str()?;
    let what = gate["commit"].as_str().map_or("it", |commit| commit.get(..7).unwrap_or(commit));
    let until = gate["until"].as_str().map(|until| format!(" until {until}"));
    let until = until.unwrap_or_default();
    let evidence = match kind {
        "confirm" => format!("{what} waits for a confirmation{until}"),
        "window" => format!("{what} waits for a window{until}"),
        "suspended" => format!("{what} waits: deployments are suspended{until}"),
        other => format!("{what} waits for {other}{until}"),
    };
    Some(Gate { evidence, lift: gate["lift"].as_str().map(str::to_owned) })
}

fn gates(status: &Value) -> Rule {
    if let Some(Gate { evidence, lift }) = closed(&status["gate"]) {
        return Rule { lift, ..Rule::broken("gates", evidence) };
    }
    let suspended = &status["suspended"];
    if suspended.is_object() {
        let reason = suspended["reason"].as_str().filter(|reason| !reason.is_empty());
        let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        let until = suspended["until"].as_str().map(|until| format!(" until {until}"));
        let until = until.unwrap_or_default();
        let evidence = format!("deployments are suspended{until}{reason}; none waits for that");
        return Rule::met("gates", evidence);
    }
    Rule::met("gates", "none is closed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_gate_says_until_when_and_what_opens_it() {
        let gate = json!({"gate": {"kind": "confirm", "commit": "1a2b3c4d5e", "until": null,
            "lift": "fort-agent confirm 1a2b3c4"}});
        let rule = gates(&gate);
        assert_eq!(rule.holds, Some(false));
        assert_eq!(rule.evidence, "1a2b3c4 waits for a confirmation");
        assert_eq!(rule.lift.as_deref(), Some("fort-agent confirm 1a2b3c4"));
        let window = json!({"kind": "window", "until": "2026-01-01T02:00:00Z"});
        let closed = closed(&window).unwrap();
        assert_eq!(closed.evidence, "it waits for a window until 2026-01-01T02:00:00Z");
        let suspended = json!({"suspended": {"reason": "release party", "until": null}});
        let rule = gates(&suspended);
        assert_eq!(rule.holds, Some(true));
        assert_eq!(rule.evidence, "deployments are suspended: release party; none waits for that");
        assert_eq!(gates(&json!({"gate": null, "suspended": null})).evidence, "none is closed");
    }
}

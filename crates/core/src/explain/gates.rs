//! Deployments that a person or the clock holds back, read off the status as it is shown.

use super::{Explainer, Gates, Rule};
use crate::gates::GateKind;
use crate::status::{GateView, SuspendedView};
use crate::types::Commit;

/// Closed gate, by which a deployment waits that is ready otherwise.
pub(super) struct Gate {
    pub(super) evidence: String,
    pub(super) lift: Option<String>,
}

impl Explainer<'_> {
    /// The gate that is closed for what is pending.
    pub(super) fn closed_gate(&self) -> Option<Gate> {
        self.status.gate.as_ref().map(closed)
    }

    /// The gate that would keep a commit from being activated, whether it is what
    /// waits now or not.
    pub(super) fn gates_of(&self, commit: Commit) -> Gates {
        let view = &self.view;
        let closed = view.memory.gates.closed(view.policy, view.seen, commit, view.now);
        Gates { closed: closed.map(|gate| gate.view(commit)) }
    }

    /// Returns the rule of the gates, met if none is closed; a suspension is named even
    /// if nothing waits for it.
    pub(super) fn gates(&self) -> Rule {
        gates(self.status.gate.as_ref(), self.status.suspended.as_ref())
    }
}

fn closed(gate: &GateView) -> Gate {
    let what = gate.commit.short();
    let until = gate.until.map(|until| format!(" until {until}")).unwrap_or_default();
    let evidence = match &gate.kind {
        GateKind::Confirm => format!("{what} waits for a confirmation{until}"),
        GateKind::Window => format!("{what} waits for a window{until}"),
        GateKind::Suspended => format!("{what} waits: deployments are suspended{until}"),
        GateKind::Other(other) => format!("{what} waits for {other}{until}"),
    };
    Gate { evidence, lift: Some(gate.lift.to_string()) }
}

fn gates(gate: Option<&GateView>, suspended: Option<&SuspendedView>) -> Rule {
    if let Some(Gate { evidence, lift }) = gate.map(closed) {
        return Rule { lift, ..Rule::broken("gates", evidence) };
    }
    let Some(SuspendedView { reason, until, .. }) = suspended else {
        return Rule::met("gates", "none is closed");
    };
    let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let until = until.map(|until| format!(" until {until}")).unwrap_or_default();
    Rule::met("gates", format!("deployments are suspended{until}{reason}; none waits for that"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Wall;

    #[test]
    fn a_closed_gate_says_until_when_and_what_opens_it() {
        let commit: Commit = "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d".parse().unwrap();
        let until: Wall = "2026-01-01T02:00:00Z".parse().unwrap();
        let gate = |kind, until| GateView {
            kind,
            commit,
            until,
            lift: "fort-agent confirm 1a2b3c4".into(),
        };
        let rule = gates(Some(&gate(GateKind::Confirm, None)), None);
        assert_eq!(rule.holds, Some(false));
        assert_eq!(rule.evidence, "1a2b3c4 waits for a confirmation");
        assert_eq!(rule.lift.as_deref(), Some("fort-agent confirm 1a2b3c4"));
        let window = closed(&gate(GateKind::Window, Some(until)));
        assert_eq!(window.evidence, "1a2b3c4 waits for a window until 2026-01-01T02:00:00Z");
        let suspended = SuspendedView { reason: "release party".into(), since: until, until: None };
        let rule = gates(None, Some(&suspended));
        assert_eq!(rule.holds, Some(true));
        assert_eq!(rule.evidence, "deployments are suspended: release party; none waits for that");
        assert_eq!(gates(None, None).evidence, "none is closed");
    }
}

use super::*;
use crate::core::status::PublishView;
use crate::wording::fixture::{NOW, blind, commit, entry, well};

fn value(text: &str, series: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(str::to_owned)
}

/// Sorts the series of each metric: their order is random.
fn sorted(text: &str) -> String {
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    for series in lines.split_mut(|line| line.starts_with('#')) {
        series.sort();
    }
    lines.join("\n")
}

#[test]
fn the_metrics_of_a_well_host() {
    let metrics = Metrics::new();
    metrics.observe(&well());
    metrics.polled("origin", "ok");
    metrics.ended(&entry(1, Ending::Good, None, 200));
    insta::assert_snapshot!(sorted(&metrics.encode()));
}

#[test]
fn what_was_published_is_counted_and_what_lacks_is_known_or_absent() {
    let metrics = Metrics::new();
    metrics.observe(&well());
    assert_eq!(value(&metrics.encode(), "fort_agent_publish_backlog_paths"), None);
    let mut status = well();
    status.publish = Some(PublishView {
        backlog: 57,
        last_error: None,
        system: None,
        progress: None,
        next_attempt: None,
    });
    metrics.observe(&status);
    metrics.published(Some(&PublishOutcome { sent: 3, bytes: 70, ..Default::default() }));
    metrics.published(Some(&PublishOutcome { sent: 2, bytes: 5, ..Default::default() }));
    metrics.published(None);
    let text = metrics.encode();
    let value = |name: &str| value(&text, &format!("fort_agent_{name}"));
    assert_eq!(value("publish_backlog_paths").as_deref(), Some("57"));
    assert_eq!(value("published_paths_total").as_deref(), Some("5"));
    assert_eq!(value("published_bytes_total").as_deref(), Some("75"));
}

#[test]
fn what_cannot_be_looked_at_has_no_value() {
    let metrics = Metrics::new();
    metrics.observe(&well());
    assert_eq!(value(&metrics.encode(), "fort_agent_in_sync").as_deref(), Some("1"));
    metrics.observe(&blind());
    let text = metrics.encode();
    let is = |state: &str| value(&text, &format!("fort_agent_state{{state=\"{state}\"}}"));
    assert_eq!((is("blind").as_deref(), is("up-to-date").as_deref()), (Some("1"), Some("0")));
    for unknown in ["in_sync", "drift"] {
        assert_eq!(value(&text, &format!("fort_agent_{unknown}")), None);
    }
    assert_eq!(value(&text, "fort_agent_reboot_required").as_deref(), Some("0"));
}

#[test]
fn what_is_not_so_any_more_is_gone() {
    let metrics = Metrics::new();
    metrics.observe(&well());
    let mut status = well();
    let desired = status.desired.as_mut().unwrap();
    desired.commit = commit(2);
    desired.system = None;
    status.next = None;
    status.state = State::Realising;
    metrics.observe(&status);
    let text = metrics.encode();
    assert_eq!(text.matches("fort_agent_desired_info{").count(), 1);
    assert_eq!(value(&text, "fort_agent_in_sync").as_deref(), Some("0"));
    assert_eq!(value(&text, "fort_agent_next_action_timestamp_seconds"), None);
    let state = |name| value(&text, &format!("fort_agent_state{{state=\"{name}\"}}"));
    assert_eq!(state("realising").as_deref(), Some("1"));
    assert_eq!(state("up-to-date").as_deref(), Some("0"));
}

#[test]
fn what_ended_before_is_told_and_not_counted_again() {
    let metrics = Metrics::new();
    metrics.recall(&[
        entry(1, Ending::RolledBack, Some("check web: 503"), 900),
        entry(2, Ending::RolledBack, Some("check web: 503"), 600),
        entry(3, Ending::Good, None, 300),
    ]);
    metrics.ended(&entry(4, Ending::Good, None, 0));
    let text = metrics.encode();
    let last = |verdict| {
        value(
            &text,
            &format!("fort_agent_last_deployment_timestamp_seconds{{verdict=\"{verdict}\"}}"),
        )
    };
    let at = |ago: i64| Some((NOW.as_millis() / 1000 - ago).to_string());
    assert_eq!((last("rolled-back"), last("good")), (at(600), at(0)));
    assert_eq!(last("failed"), None);
    let counted = |verdict| {
        let labels = format!("operation=\"switch\",verdict=\"{verdict}\"");
        value(&text, &format!("fort_agent_deployments_total{{{labels}}}"))
    };
    assert_eq!((counted("rolled-back"), counted("good")), (Some("0".into()), Some("1".into())));
}

#[test]
fn refusals_and_suspension_are_told() {
    let metrics = Metrics::new();
    metrics.refused(RefusalCause::NoAgent);
    let mut status = well();
    status.suspended = serde_json::from_value(serde_json::json!({
        "reason": "a migration", "until": null, "since": "2026-01-01T00:00:00Z"
    }))
    .ok();
    metrics.observe(&status);
    let text = metrics.encode();
    let refused =
        |check| value(&text, &format!("fort_agent_preflight_failures_total{{check=\"{check}\"}}"));
    assert_eq!(refused("no-agent").as_deref(), Some("1"));
    assert_eq!(refused("disk-space").as_deref(), Some("0"));
    assert_eq!(value(&text, "fort_agent_suspended").as_deref(), Some("1"));
    metrics.observe(&well());
    assert_eq!(value(&metrics.encode(), "fort_agent_suspended").as_deref(), Some("0"));
}

#[test]
fn what_is_waited_for_is_one_of_the_gates_or_none() {
    let metrics = Metrics::new();
    let gates = || {
        let text = metrics.encode();
        let of = |kind| value(&text, &format!("fort_agent_gate{{kind=\"{kind}\"}}"));
        ["suspended", "confirm", "window"].map(|kind| of(kind).unwrap())
    };
    let mut status = well();
    metrics.observe(&status);
    assert_eq!(gates(), ["0", "0", "0"]);
    let at = |kind: &str| {
        let gate = serde_json::json!({
            "kind": kind, "commit": commit(2), "until": null, "lift": "fort-agent confirm"
        });
        Some(serde_json::from_value(gate).unwrap())
    };
    status.gate = at("confirm");
    metrics.observe(&status);
    assert_eq!(gates(), ["0", "1", "0"]);
    status.gate = at("window");
    metrics.observe(&status);
    assert_eq!(gates(), ["0", "0", "1"]);
}

#[test]
fn a_cause_is_one_of_a_few_words() {
    let (name, detail) = ("web".to_owned(), "connection timed out".to_owned());
    let exit = |program, code| SwitchCause::Exit { program, code, early: false };
    let broke = |program, how| SwitchCause::Broke { program, how, starting: vec![] };
    for (cause, word) in [
        (SwitchCause::Check { name, detail }, "check"),
        (exit(Program::Test, 2), "exit-code"),
        (exit(Program::Boot, 1), "boot-loader"),
        (broke(Program::Test, Broken::late("timed out after 15 min")), "timeout"),
        (broke(Program::Boot, Broken::late("timed out after 15 min")), "boot-loader"),
        (broke(Program::Test, Broken::off("killed by signal 9")), "other"),
        (SwitchCause::NoVerdict, "no-verdict"),
        (SwitchCause::Profile { error: None }, "profile"),
        (SwitchCause::Lost, "other"),
    ] {
        assert_eq!(class(Some(&cause)), word, "{cause}");
        assert!(CAUSES.contains(&word));
    }
    assert_eq!(class(None), "other");
}

#[test]
fn a_label_cannot_end_its_line() {
    let metrics = Metrics::new();
    let mut status = well();
    status.desired.as_mut().unwrap().branch = "a\"} 1\nfort_agent_in_sync 0".into();
    metrics.observe(&status);
    let text = metrics.encode();
    let mut lines = text.lines().filter(|line| line.starts_with("fort_agent_in_sync"));
    assert_eq!(lines.next(), Some("fort_agent_in_sync 1"));
    assert_eq!(lines.next(), None);
}

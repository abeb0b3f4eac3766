use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::core::guardian::Phase;
use crate::core::job::{Check, Ending, RealisePhase, RealiseProgress};
use crate::core::memory::Entry;
use crate::core::status::{
    DeploymentView, Held, HeldCause, PublishProgressView, PublishView, QuarantineView, RemoteView,
    Stage, StageProgress,
};
use crate::core::types::Mono;
use crate::wording::fixture::{NOW, before, commit, entry, system, well};

/// Largest page that the interface allows, in bytes.
const MOST: usize = 50_000;
const NASTY: &str = "</p><script>alert(\"1\")</script><img src=x onerror='y'>&amp;\u{202e}\x1b[2J";

fn shown(status: Status, history: Vec<Entry>) -> Shown {
    Shown { status, history: Arc::new(history) }
}

/// A line for each thing that begins a line on the screen.
fn lines(html: &str) -> String {
    let (head, rest) = html.split_once("<style>").unwrap();
    let (_, body) = rest.split_once("</style>").unwrap();
    let mut text = format!("{head}<style></style>{body}");
    let begin = ["h1", "h2", "p", "li", "dt", "dd", "div", "section", "main", "header", "footer"];
    for name in begin {
        for end in [">", " "] {
            let tag = format!("<{name}{end}");
            text = text.replace(&tag, &format!("\n{tag}"));
        }
    }
    text
}

fn check(name: &str, ok: bool, required: bool, detail: &str) -> Check {
    Check { name: name.into(), ok, detail: detail.into(), required, ..Check::default() }
}

fn history() -> Vec<Entry> {
    let mut test = entry(4, Ending::Superseded, Some("release moved on"), 900);
    test.operation = crate::core::policy::Operation::Test;
    vec![
        entry(3, Ending::Failed, Some("evaluation: attribute 'joker' missing"), 400_000),
        test,
        entry(2, Ending::RolledBack, Some("check web: 503\nService Unavailable"), 600),
        entry(1, Ending::Good, None, 200),
    ]
}

fn held() -> Status {
    let mut status = well();
    status.state = State::Held;
    status.reason = "release was force-pushed: 3636363 does not descend from 1b1b1b1".into();
    status.held = Some(Held {
        cause: HeldCause::read("force-push", json!({"remote": "origin"})),
        lift: Lift::default().run("accept 3636363"),
    });
    status.remotes[0].error = Some("release was force-pushed".into());
    status.notes.push("testing head 5151515 was undone by a reboot; `fort-agent retry`".into());
    status
}

fn building() -> Status {
    let mut status = well();
    status.state = State::Realising;
    status.reason = "building 3636363: 3 of 12 built".into();
    status.deployment = Some(DeploymentView {
        id: "20260101T140000Z-36363636-2".into(),
        commit: commit(2),
        stage: Stage::Realise,
        started: before(90),
        attempt: 2,
        progress: StageProgress::Realise(RealiseProgress {
            phase: RealisePhase::Building,
            built: 3,
            to_build: 12,
            fetched: 40,
            to_fetch: 40,
            bytes: 81_000_000,
            bytes_expected: 81_000_000,
            current: Some("linux-6.12.9".into()),
            ..RealiseProgress::default()
        }),
    });
    status.publish = Some(PublishView {
        backlog: 7,
        last_error: None,
        system: Some(system(1)),
        progress: Some(PublishProgressView {
            sent: 3,
            to_send: 10,
            bytes: 5_000_000,
            bytes_expected: 70_000_000,
            current: Some("glibc-2.40".into()),
        }),
        next_attempt: None,
    });
    status
}

fn verifying() -> Status {
    let mut status = building();
    status.state = State::Verifying;
    status.reason = "3636363 runs, but check web fails: 503".into();
    let deployment = status.deployment.as_mut().unwrap();
    deployment.stage = Stage::Verify;
    deployment.progress = StageProgress::Switch {
        phase: Phase::Activated { at: Mono::from_millis(0) },
        checks: Some(vec![
            check("remote", true, true, "origin answers"),
            check("web", false, true, "http://[::1]/ answered 503"),
            check("nicety", false, false, "missing"),
        ]),
    };
    status
}

#[test]
fn the_page_as_a_browser_gets_it() {
    let mut pages = Vec::new();
    for (name, status) in
        [("well", well()), ("held", held()), ("building", building()), ("verifying", verifying())]
    {
        let html = page(&shown(status, history()), true, NOW).into_string();
        pages.push(format!("=== {name}\n{}", lines(&html)));
    }
    insta::assert_snapshot!(pages.join("\n\n"));
}

#[test]
fn before_the_first_turn_it_says_so() {
    let html = starting().into_string();
    assert!(html.contains("has only just been started") && html.contains("http-equiv=\"refresh\""));
    assert!(page(&shown(well(), Vec::new()), true, NOW).into_string().contains("None has ended"));
}

#[test]
fn a_loop_that_does_not_turn_is_said_above_what_is_old() {
    let html = page(&shown(well(), history()), false, NOW).into_string();
    let (stuck, old) = (html.find("does not turn").unwrap(), html.find("In sync").unwrap());
    // The title has the state, too.
    assert!(html[stuck..].contains("In sync") && old < stuck);
    assert!(!page(&shown(well(), history()), true, NOW).into_string().contains("does not turn"));
}

#[test]
fn gates_say_until_when_and_what_lifts_them() {
    let told = |gate: Option<GateView>, suspended: Option<SuspendedView>| {
        let status = Status { gate, suspended, ..well() };
        let text = lines(&page(&shown(status, Vec::new()), true, NOW).into_string());
        let gates = text.lines().filter(|line| line.starts_with("<p class=\"gate\">"));
        gates.map(plain).collect::<Vec<_>>()
    };
    let gate = |kind: &str, until: Option<Wall>, lift: &str| {
        let typed = lift.strip_prefix("fort-agent ");
        let lift = typed.map_or_else(|| lift.into(), |typed| Lift::default().run(typed));
        Some(GateView { kind: kind.into(), commit: commit(2), until, lift })
    };
    let (confirm, soon) = ("fort-agent confirm 3636363", Some(before(-540)));
    let open_never = "correct activation.windows in the configuration: none of them ever opens";
    for (gate, text) in [
        (gate("confirm", None, confirm), "run fort-agent confirm 3636363"),
        (
            gate("confirm", soon, confirm),
            "run fort-agent confirm 3636363, or it goes ahead by itself in 9 min",
        ),
        (gate("window", soon, "it goes ahead when the window opens"), "the window opens in 9 min"),
        (gate("window", None, open_never), open_never),
    ] {
        assert_eq!(told(gate, None), [text]);
    }
    let suspended = SuspendedView {
        reason: "a <migration>".into(),
        since: before(60),
        until: Some(before(-7200)),
    };
    assert_eq!(
        told(gate("suspended", soon, "fort-agent resume"), Some(suspended)),
        ["Suspended since 14:01: a &lt;migration&gt;; ends in 2 h, or by \
          fort-agent resume"]
    );
    assert!(told(None, None).is_empty());
}

/// Returns the text of HTML without its tags.
fn plain(html: &str) -> String {
    let parts = html.split('<').map(|part| part.split_once('>').map_or(part, |(_, text)| text));
    parts.collect()
}

#[test]
fn commands_stand_out_and_nothing_else() {
    let shown = |lift: Lift| told(&lift).into_string();
    assert_eq!(
        shown(Lift::from("run ").run("accept 1a2b3c4").and(" if that was meant")),
        "run <code>fort-agent accept 1a2b3c4</code> if that was meant"
    );
    assert_eq!(
        shown(Lift::from("<b>, or ").run("retry").and(", or push")),
        "&lt;b&gt;, or <code>fort-agent retry</code>, or push"
    );
    assert_eq!(shown("run fort-agent retry".into()), "run fort-agent retry");
}

#[test]
fn no_command_that_others_wrote_stands_out() {
    let planted = "to mend this run `fort-agent accept deadbeefcafe` as root";
    let html = page(&hostile(planted), true, NOW).into_string();
    assert!(html.contains("run `fort-agent accept deadbeefcafe` as root"), "{html}");
    for tag in ["<code>fort-agent accept", "<code>fort-agent deadbeef", "<code>deadbeef"] {
        assert!(!html.contains(tag), "{tag}");
    }
    let mut status = held();
    status.reason = planted.into();
    let html = page(&shown(status, Vec::new()), true, NOW).into_string();
    // Its own are still told from that.
    assert!(html.contains("run <code>fort-agent accept 3636363</code> if that"), "{html}");
    assert_eq!(html.matches("<code>fort-agent").count(), 1, "{html}");
}

/// Everything that others can write, at its worst and at great length.
fn hostile(nasty: &str) -> Shown {
    let mut status = verifying();
    status.hostname = nasty.into();
    status.state = State::Held;
    status.reason = nasty.into();
    status.held =
        Some(Held { cause: HeldCause::read(nasty, json!({"x": nasty})), lift: nasty.into() });
    let desired = status.desired.as_mut().unwrap();
    (desired.branch, desired.remote) = (nasty.into(), nasty.into());
    status.boot.reboot_required = true;
    status.boot.why = Some(nasty.into());
    let deployment = status.deployment.as_mut().unwrap();
    deployment.stage = nasty.into();
    let checks: Vec<_> = (0..99).map(|n| check(nasty, n % 2 == 0, true, nasty)).collect();
    let phase = Phase::Ready;
    deployment.progress = StageProgress::Switch { phase, checks: Some(checks.clone()) };
    let remote = RemoteView {
        name: nasty.into(),
        reachable: false,
        last_success: Some(NOW),
        head: Some(commit(1)),
        error: Some(nasty.into()),
    };
    status.remotes = vec![remote; 99];
    let quarantined = QuarantineView {
        system: system(1),
        commit: None,
        failures: 3,
        since: NOW,
        cause: nasty.into(),
    };
    status.quarantine = vec![quarantined; 99];
    let publish = status.publish.as_mut().unwrap();
    publish.last_error = Some(nasty.into());
    publish.progress.as_mut().unwrap().current = Some(nasty.into());
    status.notes = vec![nasty.into(); 99];
    status.next.as_mut().unwrap().action = nasty.into();
    let (kind, lift) = (nasty.into(), nasty.into());
    status.gate = Some(GateView { kind, commit: commit(2), until: None, lift });
    let reason = nasty.into();
    status.suspended = Some(SuspendedView { reason, since: NOW, until: None });
    let mut last = entry(1, Ending::RolledBack, Some(nasty), 10);
    last.checks = checks;
    status.last_deployment = Some(last.clone());
    shown(status, vec![last; 50])
}

#[test]
fn nothing_that_others_wrote_is_markup() {
    let well = page(&hostile("x"), true, NOW).into_string();
    let html = page(&hostile(NASTY), true, NOW).into_string();
    for tag in ["<script", "<img", "\u{202e}", "\x1b"] {
        assert!(!html.contains(tag), "{tag:?}");
    }
    assert!(html.contains("&lt;script&gt;"));
    assert_eq!(html.matches('<').count(), well.matches('<').count());
}

#[test]
fn the_page_stays_small() {
    let long = "a cause of many words that goes on for longer than anybody would read ".repeat(60);
    let entries = vec![entry(1, Ending::Failed, Some(&long), 10); 50];
    let usual = page(&shown(verifying(), entries), true, NOW).into_string().len();
    assert!(usual < MOST / 2, "{usual}");
    for text in ["x", "<", "\"<", "\u{1f980}", "word ", "fort-agent retry "] {
        let size = page(&hostile(&text.repeat(3000)), true, NOW).into_string().len();
        assert!(size < MOST, "{size} bytes of {text:?}");
    }
}

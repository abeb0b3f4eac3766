//! Why a commit is, or is not, the one that runs, as people read it: the
//! conclusion first, then each rule, those that are not met in colour.

use crate::core::explain::{About, Explanation, Rule};
use crate::core::status::State;

use crate::wording::text::{Clock, Look, Tone, clean, pad, shorten_paths, wrap};

/// Lines that the conclusion, a rule's evidence and what lifts it may take.
const LINES: usize = 4;
/// Width of the marks `yes`, `NO` and `-`, in columns.
const MARK: usize = 3;
/// Width of the longest rule's name, in columns.
const NAME: usize = 12;

/// Renders the explanation, ending in a newline.
pub(super) fn render(said: &Explanation, clock: &Clock, look: Look) -> String {
    let words = |text: &str| shorten_paths(&clock.localise(&clean(text)));
    let mut out = String::new();
    for line in wrap(&words(&said.conclusion), look.width, LINES) {
        out.push_str(&format!("{}\n", look.paint(tone(said), &line)));
    }
    // One that no rule has below.
    let known = |lift: &String| said.rules.iter().any(|rule| rule.lift.as_ref() == Some(lift));
    let lift = said.lift.as_ref().filter(|lift| said.cause.is_some() || !known(lift));
    let lift = lift.map(|lift| words(lift));
    let if_meant =
        if said.cause.as_deref() == Some("force-push") { " if that was meant" } else { "" };
    let lift = lift.map(|lift| format!("{}{if_meant}", todo(&lift)));
    for line in lift.iter().flat_map(|lift| wrap(lift, look.width.saturating_sub(2), LINES)) {
        out.push_str(&format!("  {}\n", look.paint(tone(said), &line)));
    }
    let room = look.width.saturating_sub(2 + MARK + 2 + NAME + 2);
    for Rule { rule, holds, evidence, lift } in &said.rules {
        let (mark, tone) = match holds {
            Some(true) => ("yes", Tone::Good),
            Some(false) => ("NO", Tone::Bad),
            None => ("-", Tone::Faint),
        };
        let mut mark = look.paint(tone, &pad(mark, MARK));
        let mut name = pad(&clean(rule), NAME);
        let evidence = wrap(&words(evidence), room, LINES);
        let lift = lift.iter().flat_map(|lift| wrap(&format!("-> {}", words(lift)), room, LINES));
        for line in evidence.into_iter().chain(lift) {
            let line = if holds.is_none() { look.paint(Tone::Faint, &line) } else { line };
            out.push_str(&format!("  {mark}  {name}  {line}\n"));
            (mark, name) = (" ".repeat(MARK), " ".repeat(NAME));
        }
    }
    for note in &said.notes {
        let (mut mark, mut name) = (pad("", MARK), pad("note", NAME));
        for line in wrap(&words(note), room, LINES) {
            out.push_str(&format!("  {mark}  {name}  {line}\n"));
            (mark, name) = (" ".repeat(MARK), " ".repeat(NAME));
        }
    }
    out
}

/// Says of a command that it is to be run; anything else is said as it is.
fn todo(lift: &str) -> String {
    if lift.starts_with("fort-agent ") { format!("run {lift}") } else { lift.to_owned() }
}

fn tone(said: &Explanation) -> Tone {
    match said.about {
        About::Refused => Tone::Bad,
        About::Head | About::Past | About::Unknown => Tone::Busy,
        About::Desired => match said.state {
            State::UpToDate => Tone::Good,
            State::Realising
            | State::Activating
            | State::Verifying
            | State::Waiting
            | State::Starting => Tone::Busy,
            State::RollingBack
            | State::RollbackFailed
            | State::Blind
            | State::Held
            | State::BackingOff
            | State::RebootRequired
            | State::Unreachable => Tone::Bad,
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::wording::fixture::{at, commit, system};
    use crate::wording::text::columns;

    fn held() -> Explanation {
        serde_json::from_value(json!({
            "version": 1, "commit": commit(1), "about": "desired", "runs": true, "state": "held",
            "system": system(1),
            "conclusion": "release was force-pushed: 3636363 does not descend from 1b1b1b1",
            "cause": "force-push", "lift": "fort-agent accept 3636363",
            "rules": [
                {"rule": "remote", "holds": true, "lift": null,
                    "evidence": "origin has 3636363 on release, last answered 2026-01-01T14:01:50Z"},
                {"rule": "release", "holds": false, "lift": "fort-agent accept 3636363",
                    "evidence": "release was force-pushed on origin: 3636363 does not descend from 1b1b1b1"},
                {"rule": "realised", "holds": true, "lift": null,
                    "evidence": format!("its system is {}", system(1))},
                {"rule": "verification", "holds": null, "lift": null, "evidence": "not reached"},
            ],
        }))
        .unwrap()
    }

    #[test]
    fn an_explanation_begins_with_its_conclusion_and_fits() {
        for width in [40, 80] {
            let shown = render(&held(), &at(), Look { width, colour: false });
            assert!(shown.lines().all(|line| columns(line) <= width), "{shown}");
        }
        insta::assert_snapshot!(render(&held(), &at(), Look { width: 80, colour: false }));
    }

    #[test]
    fn what_is_not_met_has_a_colour() {
        let shown = render(&held(), &at(), Look { width: 80, colour: true });
        assert!(shown.contains("\x1b[1;31mNO \x1b[0m  release"), "{shown:?}");
        assert!(!render(&held(), &at(), Look { width: 80, colour: false }).contains('\x1b'));
    }
}

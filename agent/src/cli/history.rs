//! How deployments ended, as a table that people read.

use crate::core::memory::Entry;

use crate::wording::history::lasted;
use crate::wording::text::{Clock, Look, Tone, ago, clean, columns, fit, pad, shorten_paths, wrap};

const HEADS: [&str; 6] = ["ended", "commit", "operation", "verdict", "took", "cause"];
/// Lines that a cause may take: why it failed is what the table is read for.
const CAUSE_LINES: usize = 3;
/// Indentation of a cause below its row, in columns.
const INDENT: usize = 10;

/// Renders the entries in the order in which they are given, ending in a newline.
pub(super) fn render(entries: &[Entry], clock: &Clock, look: Look) -> String {
    if entries.is_empty() {
        return "no deployment has ended yet\n".into();
    }
    let rows: Vec<[String; 6]> = entries.iter().map(|entry| row(entry, clock)).collect();
    let widths: Vec<usize> = HEADS
        .iter()
        .enumerate()
        .map(|(column, head)| {
            let cells = rows.iter().map(|row| columns(&row[column]));
            cells.max().unwrap_or(0).max(head.len())
        })
        .collect();
    let line = |cells: [&str; 6]| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| pad(cell, *width));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut out = look.paint(Tone::Faint, &fit(&line(HEADS), look.width));
    out.push('\n');
    for row in &rows {
        let [ended, commit, operation, verdict, took, cause] = row.each_ref().map(String::as_str);
        let whole = line([ended, commit, operation, verdict, took, cause]);
        if columns(&whole) <= look.width {
            out.push_str(&format!("{whole}\n"));
            continue;
        }
        let facts = line([ended, commit, operation, verdict, took, ""]);
        out.push_str(&format!("{}\n", fit(&facts, look.width)));
        for line in wrap(cause, look.width.saturating_sub(INDENT), CAUSE_LINES) {
            out.push_str(&format!("{:INDENT$}{line}\n", ""));
        }
    }
    out
}

fn row(entry: &Entry, clock: &Clock) -> [String; 6] {
    [
        ago(entry.ended, clock),
        entry.commit.short(),
        entry.operation.as_str().into(),
        entry.verdict.as_str().into(),
        lasted(entry),
        shorten_paths(&clean(entry.cause.as_deref().unwrap_or_default())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::job::Ending;
    use crate::wording::fixture::{at, entry};

    #[test]
    fn history_is_a_table() {
        let entries = [
            entry(3, Ending::Good, None, 60),
            entry(
                2,
                Ending::RolledBack,
                Some("check web: 503 Service\nUnavailable, and a good deal more than fits"),
                4000,
            ),
            entry(1, Ending::Failed, Some("evaluation failed"), 1_000_000),
        ];
        let shown = render(&entries, &at(), Look { width: 80, colour: false });
        assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
        insta::assert_snapshot!(shown);
    }

    #[test]
    fn no_history_is_said() {
        assert_eq!(
            render(&[], &at(), Look { width: 80, colour: false }),
            "no deployment has ended yet\n"
        );
    }
}

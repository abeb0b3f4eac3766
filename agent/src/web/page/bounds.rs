//! Bounds that keep the page small, whatever others wrote.
//!
//! Nearly every text shown was written elsewhere: a remote's error, a build's
//! output, the name of a branch. Each has a budget of bytes as they are sent,
//! so that none can push the rest off the page.

use crate::wording::text::{clean, shorten_paths};

/// Bytes of a cause in the timeline, of which there are many.
pub(super) const CAUSE: usize = 400;
/// Bytes of what a row says.
pub(super) const FACT: usize = 450;
/// Bytes of a name: of a host, branch, remote or check.
pub(super) const NAME: usize = 120;
/// Bytes of the answer: why it is so, and what to do.
pub(super) const ANSWER: usize = 1000;
/// Bytes of what a check found.
pub(super) const DETAIL: usize = 200;
/// Most items of a list that are shown.
pub(super) const ITEMS: usize = 6;
/// Most checks that are shown.
pub(super) const CHECKS: usize = 10;
/// Most deployments that the timeline shows.
pub(super) const DEPLOYMENTS: usize = 15;

/// Puts a text on one line, with store paths shortened, and no longer than its budget
/// once it is escaped; what is cut off is marked.
pub(super) fn bounded(text: &str, budget: usize) -> String {
    // What is far beyond any budget need not be looked at.
    let most = text.char_indices().nth(budget * 4).map_or(text.len(), |(at, _)| at);
    let whole = shorten_paths(&clean(text.get(..most).unwrap_or_default()));
    let mut left = budget;
    for (at, c) in whole.char_indices() {
        let Some(rest) = left.checked_sub(cost(c)) else {
            return format!("{}…", whole.get(..at).unwrap_or_default().trim_end());
        };
        left = rest;
    }
    if most < text.len() { whole + "…" } else { whole }
}

/// Returns the bytes that a character takes as maud escapes it.
fn cost(c: char) -> usize {
    match c {
        '&' => "&amp;".len(),
        '<' | '>' => "&lt;".len(),
        '"' => "&quot;".len(),
        c => c.len_utf8(),
    }
}

/// Returns the first `most` items, and how many are left out.
pub(super) fn first<T>(items: &[T], most: usize) -> (&[T], usize) {
    let shown = items.get(..most).unwrap_or(items);
    (shown, items.len() - shown.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_costs_no_more_than_its_budget() {
        assert_eq!(bounded("short\n enough", 20), "short enough");
        for text in ["x", "<", "\"", "é", "\u{1f980}", "& ", "a\n\n"].map(|part| part.repeat(999))
        {
            let shown = bounded(&text, 100);
            let sent: usize = shown.chars().map(cost).sum();
            assert!(shown.ends_with('…') && sent <= 103, "{sent}: {shown}");
        }
        let path = format!("/nix/store/{}-x ", "0".repeat(32));
        assert_eq!(bounded(&path.repeat(2), 100), "0000000…-x 0000000…-x");
    }
}

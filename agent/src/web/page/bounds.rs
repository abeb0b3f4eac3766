//! What keeps the page small, whatever others wrote.
//!
//! Nearly every text shown was written elsewhere: a remote's error, a build's
//! output, the name of a branch. Each has a budget of bytes as they are sent,
//! so that none can push the rest off the page.

use crate::wording::text::{clean, shorten_paths};

/// For a cause in the timeline, of which there are many.
pub(super) const CAUSE: usize = 400;
/// For what a row says.
pub(super) const FACT: usize = 450;
/// For names: of hosts, branches, remotes, checks.
pub(super) const NAME: usize = 120;
/// For the answer: why it is so, and what to do.
pub(super) const ANSWER: usize = 1000;
/// For what a check found.
pub(super) const DETAIL: usize = 200;
/// Items of a list.
pub(super) const ITEMS: usize = 6;
/// Checks.
pub(super) const CHECKS: usize = 10;
/// Deployments.
pub(super) const DEPLOYMENTS: usize = 15;

/// On one line, store paths shortened, and no longer than its budget once it is
/// escaped; what is cut off is marked.
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

/// In bytes, as maud escapes it.
fn cost(c: char) -> usize {
    match c {
        '&' => "&amp;".len(),
        '<' | '>' => "&lt;".len(),
        '"' => "&quot;".len(),
        c => c.len_utf8(),
    }
}

/// The first of them, and how many are left out.
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

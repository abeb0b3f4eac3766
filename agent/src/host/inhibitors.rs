//! Switch inhibitors, across which a system does not want to be switched: the file
//! `switch-inhibitors` of nixpkgs (26.05 and later), a JSON object of strings.
//!
//! As nixpkgs' pre-switch check has it, only what both systems name and value
//! differently counts; one that comes new, or goes, inhibits nothing.

use std::collections::BTreeMap;
use std::path::Path;

use crate::core::plain::clean;
use crate::core::types::StorePath;
use crate::files;
use crate::nix::StoreRoot;

/// Largest number of inhibitors that are named; the rest is counted.
const NAMED: usize = 3;
/// Longest name or value that is shown, in characters.
const SHOWN: usize = 80;

/// Returns why a system can only be left to the next boot. Files that cannot be read are
/// left to the check itself, which says more about them.
pub(super) fn inhibited(
    store: &StoreRoot,
    running: Option<&StorePath>,
    candidate: &StorePath,
) -> Option<String> {
    differing(&inhibitors(store, running?)?, &inhibitors(store, candidate)?)
}

fn inhibitors(store: &StoreRoot, system: &StorePath) -> Option<BTreeMap<String, String>> {
    let file = store.resolve(&Path::new(system.as_str()).join("switch-inhibitors")).ok()?;
    match files::read_bounded(&file).ok()? {
        Some(bytes) => serde_json::from_slice(&bytes).ok(),
        None => Some(BTreeMap::new()),
    }
}

fn differing(now: &BTreeMap<String, String>, then: &BTreeMap<String, String>) -> Option<String> {
    let changed: Vec<_> = now
        .iter()
        .filter_map(|(name, old)| Some((name, old, then.get(name)?)))
        .filter(|(_, old, new)| old != new)
        .map(|(name, old, new)| format!("{} ({} -> {})", shown(name), shown(old), shown(new)))
        .collect();
    let named = changed.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let rest = match changed.len() {
        0 => return None,
        1..=NAMED => String::new(),
        many => format!(" and {} more", many - NAMED),
    };
    Some(format!("its switch inhibitors differ from what runs: {named}{rest}"))
}

/// Returns a text made fit to be shown: the commit chose its words.
pub(super) fn shown(text: &str) -> String {
    let line = clean(text);
    let short: String = line.chars().take(SHOWN).collect();
    if short.len() < line.len() { short + "..." } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn only_what_both_name_and_value_differently_inhibits() {
        let now = map(&[("dbus", "1"), ("init", "systemd"), ("gone", "x")]);
        assert_eq!(differing(&now, &now), None);
        assert_eq!(differing(&now, &map(&[("dbus", "1"), ("new", "y")])), None);
        assert_eq!(differing(&BTreeMap::new(), &now), None);
        assert_eq!(
            differing(&now, &map(&[("dbus", "2"), ("init", "systemd")])).as_deref(),
            Some("its switch inhibitors differ from what runs: dbus (1 -> 2)")
        );
    }

    #[test]
    fn what_a_commit_wrote_is_one_short_line() {
        let (now, then) =
            (map(&[("a\u{202e}b", "1\n2")]), map(&[("a\u{202e}b", &"é".repeat(999))]));
        let why = differing(&now, &then).unwrap();
        let expected = format!("a b (1 2 -> {}...)", "é".repeat(SHOWN));
        assert!(why.ends_with(&expected), "{why}");
    }

    #[test]
    fn a_great_many_are_counted() {
        let all = |value| (0..5).map(|n| (format!("n{n}"), String::from(value))).collect();
        let why = differing(&all("a"), &all("b")).unwrap();
        assert!(why.ends_with("n2 (a -> b) and 2 more"), "{why}");
    }
}

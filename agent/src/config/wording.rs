//! The words for a mistake: what was wanted, what was found, what was meant.

use toml::de::DeValue;

/// Says what was wanted instead of a value of another type.
pub(super) fn instead(wanted: &str, value: &DeValue<'_>) -> String {
    let is = match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    format!("be {wanted}, not {is}")
}

/// Says which names were possible instead of a value, and which was meant.
pub(super) fn names_not(
    names: impl Iterator<Item = &'static str> + Clone,
    value: &DeValue<'_>,
) -> String {
    let Some(text) = value.as_str() else { return instead(&quoted(names), value) };
    let mut must = format!("be {}, not {}", quoted(names.clone()), shown(text));
    if let Some(meant) = nearest(text, names) {
        must += &format!("; did you mean {meant:?}?");
    }
    must
}

/// Renders names as they are offered: `"switch" or "boot"`.
pub(super) fn quoted(names: impl Iterator<Item = &'static str>) -> String {
    names.map(|name| format!("{name:?}")).collect::<Vec<_>>().join(" or ")
}

/// Returns the name that was likely meant, if any is near enough.
pub(super) fn nearest<'n>(wrong: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let plain = |name: &str| name.to_lowercase().replace('-', "_");
    let length = wrong.chars().count();
    if length > 64 {
        return None;
    }
    let wrong = plain(wrong);
    let distance = |name: &str| {
        let name = plain(name);
        let (short, long) =
            if name.len() < wrong.len() { (&name, &wrong) } else { (&wrong, &name) };
        // Who writes `token` for `token_file` is near, however much is missing.
        let begins = short.len() >= 4 && long.starts_with(short.as_str());
        if begins { 1 } else { strsim::damerau_levenshtein(&wrong, &name) }
    };
    let near = names.map(|name| (distance(name), name)).min()?;
    (near.0 <= (length / 3).max(1) && near.0 < length).then_some(near.1)
}

/// Renders text in quotes, on one line and not too long.
pub(super) fn shown(text: &str) -> String {
    format!("\"{}\"", printable(text))
}

/// Renders text on one line and not too long.
pub(super) fn printable(text: &str) -> String {
    let short: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().nth(80).is_some() { short + "..." } else { short }
}

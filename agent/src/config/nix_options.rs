//! `[nix] options`: what is handed to nix as `--option NAME VALUE`.
//!
//! Refused are options that give the repository power over this host, or that
//! would show a secret in the list of processes.

use toml::de::{DeTable, DeValue};

use super::section::Section;
use super::wording;

/// An option, the one value it may have if any, and why.
const REFUSED: &[(&str, Option<&str>, &str)] = &[
    (
        "accept-flake-config",
        Some("false"),
        "would let the repository choose substituters and the keys to trust",
    ),
    (
        "allow-unsafe-native-code-during-evaluation",
        Some("false"),
        "would let the repository run its code as root",
    ),
    (
        "pure-eval",
        Some("true"),
        "would let the repository read this host's files, and depend on more than its commit",
    ),
    (
        "access-tokens",
        None,
        "would show a secret in the list of processes; put it in nix.conf, or use `netrc-file`",
    ),
    ("store", None, "is what `nix.store` is for"),
];

/// Reads the section, in the order of the names.
pub(super) fn read(nix: &Section<'_>, table: &DeTable<'_>) -> Vec<(String, String)> {
    let mut read = Vec::new();
    for (key, entry) in table {
        let name = key.get_ref().as_ref();
        match option(name, entry.get_ref()) {
            Ok(value) => read.push((name.to_owned(), value)),
            Err(what) => nix.problem_at(&format!("options.{name}"), key.span(), &what),
        }
    }
    read
}

fn option(name: &str, value: &DeValue<'_>) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.chars().all(allowed) {
        return Err("is not the name of a nix option".to_owned());
    }
    let rendered = match value {
        DeValue::Array(list) => {
            let words: Result<Vec<_>, _> = list.iter().map(|word| scalar(word.get_ref())).collect();
            let words = words?;
            // nix splits at white space, and one name would become two.
            if words.iter().any(|word| word.is_empty() || word.contains(char::is_whitespace)) {
                return Err("must be a list of words: none empty, none with spaces".to_owned());
            }
            words.join(" ")
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Table(_) => scalar(value)?,
    };
    let plain = name.strip_prefix("extra-").unwrap_or(name);
    match REFUSED.iter().find(|(refused, _, _)| *refused == plain) {
        Some((_, safe, why)) if *safe != Some(&rendered) => Err(format!("is refused: it {why}")),
        _ => Ok(rendered),
    }
}

/// One value as nix writes it.
fn scalar(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) if text.contains(char::is_control) => {
            Err("must not contain control characters".to_owned())
        }
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(|number| number.to_string())
            .map_err(|_| "must be a smaller number".to_owned()),
        DeValue::Boolean(flag) => Ok(flag.to_string()),
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            let wanted = "a string, an integer, a boolean or a list of these";
            Err(format!("must {}", wording::instead(wanted, value)))
        }
    }
}

//! Keys and values that the contract names and this version does not support yet.
//!
//! Accepting such a key and ignoring it would let an operator believe in a
//! protection that is not there. Whoever builds a feature deletes its line
//! here, and reads the key in `sections.rs`.

/// Keys, by their full name; that of a section stands for all of it.
const KEYS: &[&str] = &["branch.allowed_signers", "secrets"];

/// Values of keys that are supported otherwise.
const VALUES: &[(&str, &[&str])] = &[("system.evaluate", &["never"])];

/// Whether this key, or all of this section, is not built yet.
pub(super) fn key(path: &str) -> bool {
    KEYS.contains(&path)
}

/// Returns the keys that are not built yet.
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    KEYS.iter().copied()
}

/// Whether this value of a key is not built yet.
pub(super) fn value(path: &str, value: &str) -> bool {
    VALUES.iter().any(|(key, values)| *key == path && values.contains(&value))
}

//! The names and hashes that Attic checks when it reads a request, in its own
//! words where they are wrong.

use serde::Deserialize;

/// The name of a cache.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct CacheName(pub(super) String);

/// The hash in a store path's name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct PathHash(pub(super) String);

/// A SHA-256 as it was sent, kept in hex.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct NarHash(pub(super) String);

impl TryFrom<String> for CacheName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let mut letters = name.chars();
        let good = letters.next().is_some_and(|c| c.is_ascii_alphanumeric())
            && letters.all(|c| c.is_ascii_alphanumeric() || "-_+".contains(c))
            && name.len() <= 50;
        if good { Ok(Self(name)) } else { Err(format!("Invalid cache name \"{name}\"")) }
    }
}

impl TryFrom<String> for PathHash {
    type Error = String;

    fn try_from(hash: String) -> Result<Self, String> {
        let wrong = |why| Err(format!("Invalid store path hash \"{hash}\": {why}"));
        if hash.len() != 32 {
            return wrong("Hash is of invalid length");
        }
        if !hash.chars().all(|c| "0123456789abcdfghijklmnpqrsvwxyz".contains(c)) {
            return wrong("Hash is of invalid format");
        }
        Ok(Self(hash))
    }
}

impl TryFrom<String> for NarHash {
    type Error = String;

    fn try_from(typed: String) -> Result<Self, String> {
        let wrong = |why: String| Err(format!("Hashing error: {why}"));
        let Some((kind, hash)) = typed.split_once(':') else {
            return wrong("The string lacks a colon separator.".into());
        };
        if kind != "sha256" {
            return wrong(format!("Hash algorithm {kind} is not supported."));
        }
        match hash.len() {
            64 if hash.chars().all(|c| c.is_ascii_hexdigit()) => Ok(Self(hash.to_lowercase())),
            64 => wrong("Invalid base16 hash".into()),
            52 => match nix_base32::from_nix_base32(hash) {
                Some(bytes) => Ok(Self(super::storage::hex(&bytes))),
                None => wrong("Invalid base32 hash.".into()),
            },
            actual => wrong(format!(
                "Invalid length for SHA-256 string: Must be either 64 (hexadecimal) or 52 \
                 (base32), got {actual}."
            )),
        }
    }
}

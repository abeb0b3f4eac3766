//! `[cache]`: the cluster's binary cache, an Attic server.

use std::path::PathBuf;

use toml::de::DeValue;

use super::section::Section;
use super::url::endpoint;
use super::value::{self, absolute, count, flag, text};
use super::wording::{instead, shown};
use fort_http::in_clear;

/// Largest value of `jobs`: more at a time would only wait for each other, and for one server.
const MOST_JOBS: u32 = 32;

/// The cluster's binary cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// Base URL of the server, without a `/` at its end. `https://`, or `http://` on
    /// this very host or without a token.
    pub endpoint: String,
    /// Name of the cache on that server.
    pub name: String,
    /// File with the token; read at every use, may be absent or empty for now.
    pub token_file: Option<PathBuf>,
    /// Keys, each as `NAME:BASE64`, of those who must have signed what is fetched from
    /// the cache. Never empty with `substitute`.
    pub public_keys: Vec<String>,
    /// Whether systems are fetched from the cache. Default true.
    pub substitute: bool,
    /// Names of keys whose paths the cache need not have, besides those that it lists itself.
    pub upstream_keys: Vec<String>,
    /// Number of paths that are sent at the same time. Default 4.
    pub jobs: u32,
    /// Whether the cache is given what it lacks of a system that was found good. Default true.
    pub publish: bool,
}

/// Reads `[cache]`, if it is there.
pub(super) fn cache(s: &Section<'_>) -> Option<Cache> {
    let section = s.section("cache");
    let cache = read(&section);
    s.has("cache").then(|| {
        complete(&section, &cache);
        cache
    })
}

fn read(s: &Section<'_>) -> Cache {
    let cache = Cache {
        endpoint: s.optional("endpoint", endpoint).unwrap_or_default(),
        name: s.optional("name", value::name).unwrap_or_default(),
        token_file: s.optional("token_file", absolute),
        public_keys: s.or("public_key", public_keys, "[]"),
        substitute: s.or("substitute", flag, "true"),
        upstream_keys: s.or("upstream_keys", key_names, "[]"),
        jobs: s.or("jobs", jobs, "4"),
        publish: s.choice("publish", &[("after-success", true), ("off", false)], "after-success"),
    };
    // Without a token it does no harm: what is fetched was signed.
    if in_clear(&cache.endpoint) && s.has("token_file") {
        s.problem("token_file", "would be sent in clear: give the cache an https:// `endpoint`");
    }
    cache
}

/// Reports the keys that are missing, and what each is needed for.
fn complete(s: &Section<'_>, cache: &Cache) {
    for key in ["endpoint", "name"].into_iter().filter(|key| !s.has(key)) {
        s.missing(key, "is missing");
    }
    if cache.substitute && !s.has("public_key") {
        let what = "is missing: without it nothing is fetched (or set `substitute = false`)";
        s.missing("public_key", what);
    }
    if cache.publish && !s.has("token_file") {
        let what = "is missing: without it nothing is published (or set `publish = \"off\"`)";
        s.missing("token_file", what);
    }
}

/// Reads one public key, or a list of them.
fn public_keys(value: &DeValue<'_>) -> Result<Vec<String>, String> {
    words(value, "a public key as in \"fort:...\", or a list of them", |key| {
        // An Ed25519 key has 32 bytes.
        let good = key.split_once(':').is_some_and(|(name, key)| {
            let base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/');
            is_key_name(name)
                && key.len() == 44
                && key.strip_suffix('=').is_some_and(|key| key.chars().all(base64))
        });
        good.then_some(()).ok_or_else(|| {
            let must = "be a public key, its name and 44 characters of Base64 after a colon";
            format!("{must}, not {}", shown(key))
        })
    })
}

fn key_names(value: &DeValue<'_>) -> Result<Vec<String>, String> {
    words(value, "a list of names of keys", |name| {
        let must = "be a list of names of keys, as in \"cache.nixos.org-1\" (no colon)";
        is_key_name(name).then_some(()).ok_or_else(|| format!("{must}, not {}", shown(name)))
    })
}

fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c == ':' || c.is_whitespace() || c.is_control())
}

/// Reads one string, or a list of them, and checks each.
fn words(
    value: &DeValue<'_>,
    must: &str,
    check: impl Fn(&str) -> Result<(), String>,
) -> Result<Vec<String>, String> {
    let words = match value {
        DeValue::Array(list) => {
            let words = list.iter().map(|word| text(word.get_ref()));
            words.collect::<Result<Vec<_>, _>>()?
        }
        DeValue::String(_) => vec![text(value)?],
        DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Table(_) => return Err(instead(must, value)),
    };
    words.iter().try_for_each(|word| check(word))?;
    Ok(words)
}

fn jobs(value: &DeValue<'_>) -> Result<u32, String> {
    match count(value) {
        Ok(jobs @ 1..=MOST_JOBS) => Ok(jobs),
        Ok(_) | Err(_) => Err(format!("be a whole number from 1 to {MOST_JOBS}")),
    }
}

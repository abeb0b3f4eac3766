//! `[nix] options`: what is handed to nix as `--option NAME VALUE`.
//!
//! Taken is what is known to be harmless. Nix gains options with each version, and a
//! list of those to refuse would lag behind: what gives the repository, a cache or a
//! builder power over this host, shows a secret in the list of processes, or is not
//! known here, belongs in nix.conf, where root says it for all of Nix.

use reqwest::Url;
use toml::de::{DeTable, DeValue};

use super::section::Section;
use super::wording::{self, shown};

/// Options that are allowed with any value, by their names of today.
const HARMLESS: &[&str] = &[
    "abort-on-warn",
    "allow-dirty",
    "allow-dirty-locks",
    "allow-import-from-derivation",
    "allowed-uris",
    "always-allow-substitutes",
    "auto-allocate-uids",
    "auto-optimise-store",
    "build-dir",
    "build-poll-interval",
    "builders-use-substitutes",
    "compress-build-log",
    "connect-timeout",
    "cores",
    "download-attempts",
    "download-buffer-size",
    "download-speed",
    "enforce-determinism",
    "eval-cache",
    "eval-cores",
    "eval-system",
    "experimental-features",
    "extra-platforms",
    "fallback",
    "flake-registry",
    "fsync-metadata",
    "fsync-store-paths",
    "gc-reserved-space",
    "hashed-mirrors",
    "http-connections",
    "http2",
    "ignored-acls",
    "impersonate-linux-26",
    "keep-build-log",
    "keep-derivations",
    "keep-env-derivations",
    "keep-failed",
    "keep-going",
    "keep-outputs",
    "lazy-trees",
    "log-lines",
    "max-build-log-size",
    "max-call-depth",
    "max-free",
    "max-jobs",
    "max-silent-time",
    "max-substitution-jobs",
    "min-free",
    "min-free-check-interval",
    "nar-buffer-size",
    "narinfo-cache-meta-ttl",
    "narinfo-cache-negative-ttl",
    "narinfo-cache-positive-ttl",
    "netrc-file",
    "preallocate-contents",
    "print-missing",
    "repeat",
    "restrict-eval",
    "sandbox-build-dir",
    "sandbox-dev-shm-size",
    "show-trace",
    "ssl-cert-file",
    "stalled-download-timeout",
    "substitute",
    "sync-before-registering",
    "system",
    "system-features",
    "tarball-ttl",
    "timeout",
    "trace-function-calls",
    "trace-import-from-derivation",
    "trace-verbose",
    "trust-tarballs-from-git-forges",
    "use-cgroups",
    "use-registries",
    "use-sqlite-wal",
    "user-agent-suffix",
    "warn-dirty",
];

/// Options that are refused: the name, the one value that is allowed if any, and why no other is.
const REFUSED: &[(&str, Option<&str>, &str)] = &[
    ("accept-flake-config", Some("false"), "would let the repository choose substituters and keys"),
    ("access-tokens", None, SECRET),
    ("allow-new-privileges", Some("false"), "would let a builder gain privileges"),
    ("allow-unsafe-native-code-during-evaluation", Some("false"), RUNS),
    ("allowed-impure-host-deps", Some(""), READS),
    ("build-hook", None, RUNS),
    ("builders", Some(""), "would have other machines build what runs here; name them in nix.conf"),
    ("diff-hook", None, RUNS),
    ("external-builders", None, RUNS),
    ("filter-syscalls", Some("true"), "would let a builder make programs that run as root"),
    ("impure-env", None, SECRET),
    ("nix-path", None, "would have a system depend on more than its commit"),
    ("plugin-files", None, RUNS),
    ("post-build-hook", None, RUNS),
    ("pre-build-hook", None, RUNS),
    ("pure-eval", Some("true"), READS),
    ("require-drop-supplementary-groups", Some("true"), "would let a builder keep groups of root"),
    ("require-sigs", Some("true"), "would have a cache believed whatever it sends"),
    ("run-diff-hook", Some("false"), RUNS),
    ("sandbox", Some("true"), READS),
    ("sandbox-fallback", Some("false"), READS),
    ("sandbox-paths", Some(""), "would let the repository read this host's files; see nix.conf"),
    ("store", None, "is what `nix.store` is for"),
    (
        "trusted-public-keys",
        None,
        "would have others believed: name a key in `cache.public_key` or nix.conf",
    ),
];

const RUNS: &str = "would run programs as root at the repository's bidding";
const READS: &str = "would let the repository read this host's files";
const SECRET: &str = "would show a secret in the list of processes (`netrc-file` does not)";
const NIX_CONF: &str = "for all of Nix it is said in nix.conf";

/// Option that can have root's own builders: for a store in which no users were made for them.
const BUILD_USERS: &str = "build-users-group";
/// Option that names the caches that systems are fetched from, if a trusted key signed them.
const SUBSTITUTERS: &str = "substituters";
/// Parameter of a cache's URL that does not touch signatures.
const SAFE_PARAMETER: &str = "priority";

/// Former names of options, each with the name of today.
const ALIASES: &[(&str, &str)] = &[
    ("binary-cache-public-keys", "trusted-public-keys"),
    ("binary-caches", SUBSTITUTERS),
    ("binary-caches-parallel-connections", "http-connections"),
    ("build-chroot-dirs", "sandbox-paths"),
    ("build-compress-log", "compress-build-log"),
    ("build-cores", "cores"),
    ("build-fallback", "fallback"),
    ("build-impersonate-linux-26", "impersonate-linux-26"),
    ("build-keep-log", "keep-build-log"),
    ("build-max-jobs", "max-jobs"),
    ("build-max-log-size", "max-build-log-size"),
    ("build-max-silent-time", "max-silent-time"),
    ("build-repeat", "repeat"),
    ("build-sandbox-paths", "sandbox-paths"),
    ("build-timeout", "timeout"),
    ("build-use-chroot", "sandbox"),
    ("build-use-sandbox", "sandbox"),
    ("build-use-substitutes", "substitute"),
    ("env-keep-derivations", "keep-env-derivations"),
    ("gc-keep-derivations", "keep-derivations"),
    ("gc-keep-outputs", "keep-outputs"),
    ("substitution-max-jobs", "max-substitution-jobs"),
];

/// Reads `[nix] options`, in the order of the names. `direct`: for a test's store, in
/// which builders may be root's.
pub(super) fn read(nix: &Section<'_>, table: &DeTable<'_>, direct: bool) -> Vec<(String, String)> {
    let mut read = Vec::new();
    for (key, entry) in table {
        let name = key.get_ref().as_ref();
        match option(name, entry.get_ref(), direct) {
            Ok(value) => read.push((name.to_owned(), value)),
            Err(what) => nix.problem_at(&format!("options.{name}"), key.span(), &what),
        }
    }
    read
}

/// Reads a store as `--store` takes it. Its parameters must not set what an option must not.
pub(super) fn store(value: &DeValue<'_>) -> Result<String, String> {
    let text = super::value::text(value)?;
    let unsigned = |(name, value): (String, String)| name == "require-sigs" && value != "true";
    if parameters(&text).into_iter().any(unsigned) {
        return Err(
            "not switch off `require-sigs`: a cache would be believed whatever it sends".to_owned()
        );
    }
    Ok(text)
}

fn option(name: &str, value: &DeValue<'_>, direct: bool) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.chars().all(allowed) {
        return Err("is not the name of a nix option".to_owned());
    }
    let rendered = rendered(value)?;
    judge(name, &rendered, direct)?;
    Ok(rendered)
}

fn judge(name: &str, value: &str, direct: bool) -> Result<(), String> {
    let plain = name.strip_prefix("extra-").unwrap_or(name);
    let alias = ALIASES.iter().find(|(old, _)| *old == plain);
    let plain = alias.map_or(plain, |(_, new)| new);
    if let Some((_, safe, why)) = REFUSED.iter().find(|(refused, _, _)| *refused == plain) {
        let fine = *safe == Some(value);
        return if fine { Ok(()) } else { Err(format!("is refused: it {why}")) };
    }
    match plain {
        SUBSTITUTERS => value.split_whitespace().try_for_each(substituter),
        BUILD_USERS if direct => Ok(()),
        BUILD_USERS => {
            let what = "is refused: it would have builders run as root";
            Err(format!("{what}, which is for tests (`activation.runner` = \"direct\")"))
        }
        _ if HARMLESS.contains(&plain) => Ok(()),
        _ => {
            let known = HARMLESS.iter().chain([&SUBSTITUTERS]).copied();
            let meant = wording::nearest(plain, known);
            let meant = meant.map(|name| format!("did you mean `{name}`? If not, "));
            let meant = meant.unwrap_or_default();
            Err(format!("is not known to be harmless: {meant}{NIX_CONF}"))
        }
    }
}

/// Checks the URL of a cache, as Nix has it: it can say that the cache is to be
/// believed without a signature.
fn substituter(url: &str) -> Result<(), String> {
    let secret = Url::parse(url).is_ok_and(|parsed| {
        let user = matches!(parsed.scheme(), "http" | "https") && !parsed.username().is_empty();
        user || parsed.password().is_some()
    });
    if secret {
        return Err(format!("is refused: it {SECRET}"));
    }
    match parameters(url).into_iter().find(|(name, _)| name != SAFE_PARAMETER) {
        Some((name, _)) => Err(format!(
            "must not set {} of a cache: only `{SAFE_PARAMETER}` is known to be harmless",
            shown(&name)
        )),
        None => Ok(()),
    }
}

/// Returns the parameters of a store's URL, or of what Nix takes for one, decoded.
fn parameters(store: &str) -> Vec<(String, String)> {
    let Some((_, query)) = store.split_once('?') else { return Vec::new() };
    // Any URL does, to have it decoded.
    let url = Url::parse(&format!("x:?{}", query.replace('#', "%23")));
    url.map(|url| url.query_pairs().into_owned().collect()).unwrap_or_default()
}

/// Renders a value as nix takes it.
fn rendered(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::Array(list) => {
            let words: Result<Vec<_>, _> = list.iter().map(|word| scalar(word.get_ref())).collect();
            let words = words?;
            // nix splits at white space, and one name would become two.
            if words.iter().any(|word| word.is_empty() || word.contains(char::is_whitespace)) {
                return Err("must be a list of words: none empty, none with spaces".to_owned());
            }
            Ok(words.join(" "))
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Table(_) => scalar(value),
    }
}

/// Renders one value as nix writes it.
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

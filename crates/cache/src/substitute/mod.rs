//! Has Nix fetch from the cluster's cache what is there, and build the rest.
//!
//! A cache that is down costs seconds, not the deployment. Nix's own options do
//! not reach that everywhere, so the cache is asked first, and left out of a
//! realisation if it does not answer. What each costs without that, with the
//! options below (measured with Nix 2.8, a system of four paths that takes 0.4 s
//! to fetch and 0.5 s to build; where it is silent, from two tries of three):
//!
//! | the cache | takes | |
//! |---|---|---|
//! | refuses the connection | 1.7 s | as Nix tries three times |
//! | answers 500 | 1.4 s | |
//! | 401, 404, or a web page | 0.5 - 0.7 s | |
//! | takes no connection (a black hole) | 16 s | 3 x `connect-timeout` |
//! | takes it and is silent | 31 s | 3 x `stalled-download-timeout` |
//! | has a path, and its contents are 404, 401 or a page | 0.8 s | |
//! | the same with 500 | 1.5 s | |
//! | the same, and is silent | 31 s | |
//! | has answered an earlier time, and now fails | | Nix before 2.18 aborts |
//!
//! And a daemon before 2.34 takes the time limits from its own nix.conf only,
//! whatever its client says: 300 s and five times each.
//! The first question here costs a few milliseconds, and five seconds at most.

mod netrc;

use std::io;
use std::path::{Path, PathBuf};

use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::attic::{self, AtticFailed};
use fort_http::token::{self, NoToken};
use fort_nix::Nix;

/// File in which Nix looks for names and passwords if nothing else is said.
const NETRC: &str = "/etc/nix/netrc";

/// Options of Nix that `[nix] options` may override.
const DEFAULTS: [(&str, &str); 6] = [
    // What cannot be fetched is built, and a cache that fails is not asked again
    // for a minute.
    ("fallback", "true"),
    ("connect-timeout", "5"),
    ("stalled-download-timeout", "10"),
    ("download-attempts", "3"),
    // What was not there for the last deployment may be there for this one.
    ("narinfo-cache-negative-ttl", "0"),
    // NixOS marks its systems as quicker built than fetched; but what they are
    // built from would have to be fetched first. Before 2.19 Nix does not know
    // it, and warns.
    ("always-allow-substitutes", "true"),
];

/// Cache that Nix fetches from, and how. Nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Address of the server, without a `/` at its end.
    pub endpoint: String,
    /// Name of the cache on the server.
    pub name: String,
    /// Public keys, `NAME:BASE64` each, by which what is fetched must have been signed.
    pub public_keys: Vec<String>,
    /// File that holds the token; read at every use, may be absent or empty.
    pub token_file: Option<PathBuf>,
    /// File in which Nix is given the token: made anew at every use, for root alone.
    pub netrc: PathBuf,
}

impl Settings {
    /// Whether Nix could read from the cache at this moment, in time.
    pub async fn answers(&self) -> bool {
        match self.ask().await {
            Ok(()) => true,
            Err(failed) => left_to_nix(&failed),
        }
    }

    async fn ask(&self) -> Result<(), AtticFailed> {
        attic::readable(&self.endpoint, &self.name, self.token_file.as_deref()).await
    }

    fn options(&self) -> Vec<(String, String)> {
        let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let url = format!("{}/{}", self.endpoint, self.name);
        let keys = self.public_keys.join(" ");
        let cache = [("extra-substituters", &*url), ("extra-trusted-public-keys", &*keys)];
        DEFAULTS.into_iter().chain(cache).map(own).collect()
    }
}

/// Result of asking the cache whether it is of use.
#[derive(Debug, Default)]
pub struct Prepared {
    /// Nix with the cache; none if it is of no use at the moment.
    pub nix: Option<Nix>,
    /// Reason for which the cache is of no use, or may be of none.
    pub trouble: Option<String>,
}

/// Returns this Nix with the cache, if the cache is of any use. Takes a few seconds at most.
pub async fn prepared(nix: &Nix, settings: &Settings) -> Prepared {
    let given = give_token(nix, settings).await;
    let failed = settings.ask().await.err();
    let useful = failed.as_ref().is_none_or(left_to_nix);
    let trouble = failed.map(|failed| failed.to_string());
    if let Some(why) = &trouble {
        let what = if useful { "the cache may be of no use" } else { "nothing is fetched" };
        tracing::warn!("{what}: {why}");
    }
    let netrc = given.then_some(settings.netrc.as_path());
    Prepared { nix: useful.then(|| nix.with(settings.options(), netrc)), trouble }
}

/// Whether Nix gets over a failure at once, and may see it otherwise: it has names and
/// passwords of its own, and certificates.
fn left_to_nix(failed: &AtticFailed) -> bool {
    match failed {
        AtticFailed::NoToken(_)
        | AtticFailed::Unauthorized { .. }
        | AtticFailed::Forbidden { .. }
        | AtticFailed::Tls { .. } => true,
        AtticFailed::Rejected { status, .. } => *status == 401,
        AtticFailed::NoSuchCache { .. }
        | AtticFailed::NotAttic { .. }
        | AtticFailed::Redirected { .. }
        | AtticFailed::TooLarge
        | AtticFailed::OtherStore { .. }
        | AtticFailed::Server { .. }
        | AtticFailed::Unreachable { .. }
        | AtticFailed::Late { .. }
        | AtticFailed::Malformed { .. } => false,
    }
}

/// Whether Nix is to read the token from our file. If not, what it reads by
/// itself is left as it is, and nothing of an earlier token stays behind.
async fn give_token(nix: &Nix, settings: &Settings) -> bool {
    let token = match settings.token_file.as_deref().map(token::read) {
        Some(Ok(token)) => Some(token),
        // The cache may be public.
        None | Some(Err(NoToken::Absent { .. })) => None,
        Some(Err(unusable)) => {
            tracing::warn!("{unusable}");
            None
        }
    };
    let given = match (token, machine(&settings.endpoint)) {
        (Some(token), Some(machine)) => {
            let own = nix.netrc_file().await.unwrap_or_else(|| NETRC.into());
            netrc::write(&settings.netrc, &own, &machine, &token)
                .map_err(anyhow::Error::from)
                .inspect_err(|error| tracing::warn!("{error:#}"))
                .is_ok()
        }
        (None, _) | (_, None) => false,
    };
    if !given {
        forget(&settings.netrc);
    }
    given
}

/// Removes the file that Nix was given the token in.
pub fn forget(file: &Path) {
    match std::fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!("an old {} stays: {error}", file.display());
        }
        Ok(()) | Err(_) => {}
    }
}

/// The server's name as curl looks it up.
fn machine(endpoint: &str) -> Option<String> {
    let url = Url::parse(endpoint).ok()?;
    Some(url.host_str()?.trim_matches(['[', ']']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_no_port_and_no_brackets() {
        let of = |endpoint: &str| machine(endpoint).unwrap();
        assert_eq!(of("https://Cache.example.org:8443"), "cache.example.org");
        assert_eq!(of("http://[::1]:8080/below"), "::1");
        assert_eq!(of("http://127.0.0.1:8080"), "127.0.0.1");
    }
}

//! `[hooks]` and `[report]`: who is told when a deployment ends.

use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::section::Section;
use super::url::endpoint;
use super::value::{self, absolute, positive, text};
use super::wording::shown;
use fort_http::in_clear;

/// Programs that are run when a deployment ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hooks {
    /// Programs by their absolute paths, each with its arguments: one after the
    /// other, without a shell. Default: none.
    pub on_verdict: Vec<Vec<String>>,
    /// Time limit of each program. Default 60 s.
    pub timeout: Duration,
}

/// Forgejo or Gitea that shows results as commit statuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Base URL of the server, without a `/` at its end. `https://`, or `http://` on
    /// this very host.
    pub forgejo: String,
    /// Repository on that server, as `OWNER/NAME`.
    pub repository: String,
    /// File with the token; read at every use, may be absent or empty for now.
    pub token_file: PathBuf,
    /// File with the certificate authorities to trust for the server, in PEM.
    pub ca_file: Option<PathBuf>,
}

/// Reads the section `[hooks]`, or its defaults.
pub(super) fn hooks(s: &Section<'_>) -> Hooks {
    Hooks {
        on_verdict: s.or("on_verdict", value::programs, "[]"),
        timeout: s.or("timeout", positive, "'60s'"),
    }
}

/// Reads `[report]`, if it is there.
pub(super) fn report(s: &Section<'_>) -> Option<Report> {
    let section = s.section("report");
    let report = Report {
        forgejo: section.optional("forgejo", endpoint).unwrap_or_default(),
        repository: section.optional("repository", repository).unwrap_or_default(),
        token_file: section.optional("token_file", absolute).unwrap_or_default(),
        ca_file: section.optional("ca_file", absolute),
    };
    if !s.has("report") {
        return None;
    }
    for key in ["forgejo", "repository", "token_file"].into_iter().filter(|key| !section.has(key)) {
        section.missing(key, "is missing");
    }
    if in_clear(&report.forgejo) {
        let what = "must be an https:// URL: the token would be sent in clear";
        section.problem("forgejo", what);
    }
    Some(report)
}

/// Reads a repository's owner and name, as they are in its web address.
fn repository(value: &DeValue<'_>) -> Result<String, String> {
    let text = text(value)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name = |name: &str| {
        !name.is_empty() && name.len() <= 100 && name.chars().all(plain) && !name.starts_with("..")
    };
    let good = text.split_once('/').is_some_and(|(owner, repository)| {
        name(owner) && name(repository) && owner != "." && repository != "."
    });
    let must = "be a repository's owner and name, as in \"infra/nixos\"";
    if good { Ok(text) } else { Err(format!("{must}, not {}", shown(&text))) }
}

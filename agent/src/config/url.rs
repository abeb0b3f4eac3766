//! URLs, each read once: from here on in one spelling, with the scheme in lower
//! case, and the same URL to whoever is told of it.
//!
//! Others compare how a URL begins. What a parser forgives (`HTTPS://`,
//! `https:host`, a backslash, a space) would pass here, and then never be asked,
//! or be asked without the care that its scheme takes.

use reqwest::Url;
use toml::de::DeValue;

use super::value::{Read, no_placeholder, text};
use crate::git;

/// Reads the URL of something that is asked over HTTP.
pub(super) fn http_url(value: &DeValue<'_>) -> Read<String> {
    let (written, url) = read(value)?;
    match url.scheme() {
        "http" | "https" => Ok(written),
        scheme => Err(format!("be an http:// or https:// URL; {} is not supported", named(scheme))),
    }
}

/// Reads the URL of a server all of whose paths begin at the top, without a `/` at its end.
pub(super) fn endpoint(value: &DeValue<'_>) -> Read<String> {
    let written = http_url(value)?;
    let url = parsed(&written)?;
    if !url.username().is_empty() {
        return Err("not name a user: the token comes from `token_file`".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("end with the server's address: no `?` and no `#`".to_owned());
    }
    Ok(written.trim_end_matches('/').to_owned())
}

/// Reads the URL of a git repository.
pub(super) fn git_url(value: &DeValue<'_>) -> Read<String> {
    let as_written = text(value)?;
    no_placeholder(&as_written)?;
    if as_written.starts_with('/') {
        return Err("be a URL: https://..., or for tests file:///...".to_owned());
    }
    // git's short form, USER@HOST:PATH, is no URL.
    if as_written.split_once(':').is_some_and(|(host, path)| {
        !path.starts_with("//") && (host.contains('@') || host.contains('.'))
    }) {
        return Err("be a URL: for ssh, ssh://USER@HOST/PATH".to_owned());
    }
    let (written, url) = read(value)?;
    match url.scheme() {
        "https" | "http" => repository(&url)?,
        "file" if url.path() == "/" => {
            return Err("name a directory of this host: file:///...".to_owned());
        }
        "file" => {}
        "ssh" => ssh(&url)?,
        "git+ssh" | "ssh+git" => return Err("be written with ssh://".to_owned()),
        scheme => {
            return Err(format!(
                "be an https:// or ssh:// URL; {} is not supported",
                named(scheme)
            ));
        }
    }
    // What git makes of it is what will be asked.
    if !git::reads_as(&written, &url) {
        return Err("be a URL that git reads in the same way: https://HOST/PATH, with the host's \
                    name or address as it is usually written"
            .to_owned());
    }
    Ok(written)
}

fn repository(url: &Url) -> Read<()> {
    if !url.username().is_empty() {
        return Err("not name a user: set `username`, and `token_file` for the secret".to_owned());
    }
    if url.path() == "/" {
        return Err("name a repository".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("end with the repository's path: no `?` and no `#`".to_owned());
    }
    Ok(())
}

fn ssh(url: &Url) -> Read<()> {
    let user = url.username();
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let host = url.host_str().unwrap_or_default();
    if !user.chars().all(plain) || user.starts_with('-') {
        return Err("have a user of letters, digits, `.`, `_` and `-`".to_owned());
    }
    let bracketed = |c: char| plain(c) || "[:]".contains(c);
    if host.is_empty() || host.starts_with('-') || !host.chars().all(bracketed) {
        return Err("name a host: ssh://USER@HOST/PATH".to_owned());
    }
    if url.port() == Some(0) || url.path().len() < 2 {
        return Err("name a repository: ssh://USER@HOST/PATH".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("end with the repository's path: no `?` and no `#`".to_owned());
    }
    Ok(())
}

/// Reads a URL: its text with the scheme in lower case and all else as it was written,
/// and what it means.
fn read(value: &DeValue<'_>) -> Read<(String, Url)> {
    let text = text(value)?;
    let url = parsed(&text)?;
    // A parser drops the one and turns the other into a slash.
    if text.contains(|c: char| c.is_whitespace() || c == '\\') {
        return Err("have no spaces and no backslashes".to_owned());
    }
    let whole = || "be a whole URL, as in https://HOST/PATH".to_owned();
    let (_, rest) = text.split_once(':').ok_or_else(whole)?;
    let after = rest.strip_prefix("//").ok_or_else(whole)?;
    match (url.scheme(), after.starts_with('/')) {
        ("file", false) => return Err("name a directory of this host: file:///...".to_owned()),
        ("file", true) | (_, false) => {}
        (_, true) => return Err("name a host".to_owned()),
    }
    Ok((format!("{}://{after}", url.scheme()), url))
}

fn parsed(text: &str) -> Read<Url> {
    let url = Url::parse(text).map_err(|e| format!("be a URL ({e})"))?;
    if url.password().is_some() {
        return Err("not contain a password".to_owned());
    }
    Ok(url)
}

/// Returns a scheme as it is named in a refusal: short, whatever it is.
fn named(scheme: &str) -> String {
    format!("{}://", scheme.chars().take(20).collect::<String>())
}

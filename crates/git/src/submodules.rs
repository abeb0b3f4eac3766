//! Brings what a tree's submodules name into the same clone: each by its commit.
//!
//! From the remote's own host only, with its own token: a commit that could name any
//! address would have this host ask there, and a token is for one host. What is not
//! brought is no error here: whoever exports the tree says which path lacks it.

use std::collections::{BTreeSet, VecDeque};

use gix::ObjectId;
use gix::objs::tree::EntryKind;
use gix::objs::{Kind, TreeRefIter};
use gix::refs::transaction::PreviousValue;

use super::child::FetchError;
use super::clone::local;
use super::fetch::fetch_commits;
use super::history::{ReadFailed, Reader};
use super::{Remote, repository};

/// Deepest level of submodules of submodules, and so on.
const MAX_DEPTH: u32 = 8;
/// Most submodules that are fetched in all.
const MOST: usize = 100;
/// Prefix of the refs that keep submodules' commits.
const REFS: &str = "refs/fort/sub/";

/// A submodule, as a tree and its `.gitmodules` have it.
struct Submodule {
    commit: ObjectId,
    url: String,
}

/// Fetches the submodules of some commits of a remote, and theirs.
pub(super) fn fetch(
    reader: Reader<'_>,
    remote: &Remote,
    commits: impl IntoIterator<Item = ObjectId>,
) -> Result<(), FetchError> {
    let mut left: VecDeque<_> =
        commits.into_iter().map(|commit| (commit, remote.url.clone(), 0)).collect();
    let mut known = BTreeSet::new();
    while let Some((commit, url, depth)) = left.pop_front() {
        for Submodule { commit, url } in submodules(reader, commit, &url)? {
            let ours = place(&url) == place(&remote.url);
            if depth >= MAX_DEPTH || known.len() >= MOST || !ours || !known.insert(commit) {
                continue;
            }
            let from = Remote { url: url.clone(), ..remote.clone() };
            fetch_commits(reader.repository, &from, vec![commit], reader.limits)?;
            let name = format!("{REFS}{commit}");
            let kept = reader.repository.reference(name, commit, PreviousValue::Any, "");
            kept.map_err(|e| local("cannot write refs", &e))?;
            left.push_back((commit, url, depth + 1));
        }
    }
    let kept: Vec<String> = known.iter().map(ToString::to_string).collect();
    let gone = |hex: &str| !kept.iter().any(|commit| commit == hex);
    repository::delete_refs(reader.repository, REFS, gone)
        .map_err(|e| local("cannot delete refs", &e))
}

/// The submodules in a commit's tree that say where they are.
fn submodules(
    reader: Reader<'_>,
    commit: ObjectId,
    base: &str,
) -> Result<Vec<Submodule>, ReadFailed> {
    let mut buffer = Vec::new();
    let tree = reader.links(commit, &mut buffer)?.tree;
    let Some((EntryKind::Blob, declared)) = at(reader, tree, ".gitmodules", &mut buffer)? else {
        return Ok(Vec::new());
    };
    reader.object(declared, Kind::Blob, &mut buffer)?;
    let text = String::from_utf8_lossy(&buffer).into_owned();
    let mut found = Vec::new();
    for (path, url) in declared_in(&text) {
        let Some(url) = resolved(base, &url) else { continue };
        if let Some((EntryKind::Commit, commit)) = at(reader, tree, &path, &mut buffer)? {
            found.push(Submodule { commit, url });
        }
    }
    Ok(found)
}

/// Kind and id of what a tree has at a path; `None` if nothing is there.
fn at(
    reader: Reader<'_>,
    mut tree: ObjectId,
    path: &str,
    buffer: &mut Vec<u8>,
) -> Result<Option<(EntryKind, ObjectId)>, ReadFailed> {
    let mut parts = path.split('/').peekable();
    while let Some(part) = parts.next() {
        reader.object(tree, Kind::Tree, buffer)?;
        let entries = TreeRefIter::from_bytes(buffer, gix::hash::Kind::Sha1);
        let found = entries.filter_map(Result::ok).find(|it| it.filename == part);
        let Some((kind, id)) = found.map(|it| (it.mode.kind(), it.oid.to_owned())) else {
            return Ok(None);
        };
        match (parts.peek(), kind) {
            (None, kind) => return Ok(Some((kind, id))),
            (Some(_), EntryKind::Tree) => tree = id,
            (Some(_), _) => return Ok(None),
        }
    }
    Ok(None)
}

/// The paths and addresses in a `.gitmodules` (gitmodules(5)).
fn declared_in(text: &str) -> Vec<(String, String)> {
    let mut found: Vec<(Option<String>, Option<String>)> = Vec::new();
    let mut of_submodule = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            of_submodule = line.starts_with("[submodule ");
            found.push((None, None));
        } else if let (Some((key, value)), Some(last)) = (line.split_once('='), found.last_mut())
            && of_submodule
        {
            let value = value.trim().trim_matches('"').to_owned();
            match key.trim() {
                "path" => last.0 = Some(value),
                "url" => last.1 = Some(value),
                _ => {}
            }
        }
    }
    found.into_iter().filter_map(|(path, url)| Some((path?, url?))).collect()
}

/// An address as git understands it in a repository of another address: relative
/// where it begins with a dot.
fn resolved(base: &str, url: &str) -> Option<String> {
    if !url.starts_with("./") && !url.starts_with("../") {
        return place(url).map(|_| url.to_owned());
    }
    let (scheme, rest) = base.split_once("://")?;
    let (host, path) = rest.split_once('/')?;
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    for part in url.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(format!("{scheme}://{host}/{}", parts.join("/")))
}

/// Scheme, user, host and port of an address.
fn place(url: &str) -> Option<(String, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let (host, _) = rest.split_once('/')?;
    // A user is taken as it is written; no host has a name that `@` ends.
    let (user, host) = host.rsplit_once('@').map_or(("", host), |(user, host)| (user, host));
    Some((format!("{scheme}://{host}").to_ascii_lowercase(), user))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_resolved_as_git_does() {
        for (base, url, to) in [
            ("https://g/a/b.git", "../c.git", Some("https://g/a/c.git")),
            ("https://g/a/b.git", "../../c/d", Some("https://g/c/d")),
            ("https://g/a/b.git/", "./c", Some("https://g/a/b.git/c")),
            ("https://g/a/b.git", "../../../c", None),
            ("https://g/a/b.git", "https://h/x", Some("https://h/x")),
            ("ssh://u@g:22/a/b", "../c", Some("ssh://u@g:22/a/c")),
            ("https://g/a/b.git", "git@h:x/y", None),
            ("https://g/a/b.git", "/etc", None),
        ] {
            assert_eq!(resolved(base, url).as_deref(), to, "{base} {url}");
        }
        assert_eq!(place("https://G/a"), place("HTTPS://g/b"));
        for other in ["http://g/a", "https://g:444/a", "https://u@g/a", "https://g.evil/a"] {
            assert_ne!(place("https://g/a"), place(other), "{other}");
        }
    }

    #[test]
    fn what_is_declared_is_read() {
        let text = "[submodule \"lib/a\"]\n\tpath = lib/a\n\turl = ../a.git\n[other]\n\tpath = x\n\
                    \turl = y\n[submodule \"b\"]\npath = \"b\"\nbranch = main\nurl = https://g/b\n\
                    [submodule \"c\"]\n\tpath = c\n";
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(declared_in(text), [pair("lib/a", "../a.git"), pair("b", "https://g/b")]);
    }
}

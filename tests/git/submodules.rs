//! Submodules: brought by their commits where that is asked for, from the remote's
//! own host and nowhere else.

use std::path::Path;

use fort_agent::core::types::Commit;
use fort_agent::git::{Export, ExportError, Exported, Limits, Request, Unfit, export};

use super::host::{Host, run};
use crate::support::forge::{Forge, Repo};
use crate::support::work::git;

/// Commits, on the host's repository, submodules at these paths and addresses.
fn with_submodules(host: &Host, submodules: &[(&str, &str, Commit)]) -> Commit {
    commit_with(&host.repo, submodules)
}

fn commit_with(repo: &Repo, submodules: &[(&str, &str, Commit)]) -> Commit {
    repo.work.git(&["add", "--all"]);
    let mut declared = String::new();
    for (path, url, commit) in submodules {
        declared += &format!("[submodule \"{path}\"]\n\tpath = {path}\n\turl = {url}\n");
        let entry = format!("160000,{commit},{path}");
        repo.work.git(&["update-index", "--add", "--cacheinfo", &entry]);
    }
    repo.work.write(".gitmodules", declared).git(&["add", ".gitmodules"]);
    repo.work.git(&["commit", "-q", "-m", "submodules"]);
    repo.work.force_push("main");
    repo.work.head()
}

fn exported(
    host: &Host,
    commit: Commit,
    to: &str,
    submodules: bool,
) -> Result<Exported, ExportError> {
    export(&Export {
        clone: host.clone(),
        commit,
        dest: host.dir.path().join(to),
        previous: None,
        submodules,
        limits: Limits::default(),
    })
}

fn fetched(host: &Host) {
    let request = Request { submodules: true, ..host.request(&["main"]) };
    run(&request).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn submodules_of_the_same_host_are_fetched_by_their_commits_and_written_out() {
    let host = Host::new();
    let (lib, deep) = (host.forge.repo("lib"), host.forge.repo("deep"));
    let inner = deep.work.write("deepest", "here").commit("deepest");
    deep.work.push("main");
    lib.work.write("lib.nix", "{ }");
    let of_lib = commit_with(&lib, &[("deep", "../deep.git", inner)]);
    // The branch has moved on: what counts is the commit.
    lib.work.write("lib.nix", "newer").commit("newer");
    lib.work.push("main");
    let absolute = format!("{}/lib.git", host.forge.url());
    let commit =
        with_submodules(&host, &[("libs/one", "../lib.git", of_lib), ("two", &absolute, of_lib)]);
    fetched(&host);
    let done = exported(&host, commit, "out", true).unwrap();
    assert!(done.elsewhere.is_empty());
    let read = |path: &str| std::fs::read_to_string(done.dir.join(path)).unwrap();
    for place in ["libs/one", "two"] {
        assert_eq!(read(&format!("{place}/lib.nix")), "{ }");
        assert_eq!(read(&format!("{place}/deep/deepest")), "here");
    }
    // Nothing is asked for twice, and what is not named any more is let go.
    let before = host.forge.counts().sent;
    fetched(&host);
    assert!(host.forge.counts().sent - before < 4_000);
    let refs = || git(&host.clone(), 0, &["for-each-ref", "--format=%(refname)", "refs/fort/sub"]);
    assert_eq!(refs().lines().count(), 2);
    host.repo.work.git(&["rm", "-q", "--cached", "two", "libs/one"]);
    host.repo.work.git(&["commit", "-q", "-m", "without"]);
    host.repo.work.push("main");
    fetched(&host);
    assert_eq!(refs(), "");
    // Whoever does not ask for them gets none.
    assert!(exported(&host, commit, "without", false).unwrap().dir.join("two").is_dir());
}

#[test]
fn a_submodule_of_another_host_is_refused_by_its_path_and_nobody_is_asked() {
    let host = Host::new();
    let other = Forge::start();
    let lib = other.repo("lib");
    let of_lib = lib.work.write("x", "x").commit("x");
    lib.work.push("main");
    let url = format!("{}/lib.git", other.url());
    for (url, path) in [(url.as_str(), "a"), ("file:///etc", "b"), ("-oProxy=x", "c")] {
        let commit = with_submodules(&host, &[(path, url, of_lib)]);
        fetched(&host);
        assert_eq!(other.counts().requests, 0, "{url}");
        let refused = exported(&host, commit, "out", true).unwrap_err();
        let expected = ExportError::Refused { path: path.into(), why: Unfit::Submodule };
        assert_eq!(refused, expected);
        assert!(!Path::new(&host.dir.path().join("out")).exists());
        host.repo.work.git(&["reset", "-q", "--hard", "HEAD~1"]);
    }
}

//! Commits that git reads, however they were made: in somebody's history they are,
//! and every later commit stands on them.

use fort_agent::core::types::Commit;
use fort_agent::git::{Export, Limits, Relation, Request, export};

use super::evil;
use super::host::{Host, run};
use crate::support::work::{git, hermetic};

/// Odd commits: each with the oddity, and the commit's text but for its tree and parent.
const ODD: [(&str, &str); 6] = [
    ("two authors", "author A <a@b> 5 +0000\nauthor B <b@c> 6 +0000\ncommitter C <c@d> 7 +0000\n"),
    ("a line break in an address", "author A <a\n@b> 5 +0000\ncommitter C <c@d> 7 +0000\n"),
    ("headers in another order", "committer C <c@d> 7 +0000\nauthor A <a@b> 5 +0000\n"),
    ("no author", "committer C <c@d> 7 +0000\n"),
    ("an address without its end", "author A <a@b 5 +0000\ncommitter C <c@d> 7 +0000\n"),
    ("no time", "author A <a@b>\ncommitter C <c@d>\n"),
];

/// Puts an odd commit on top of `main`.
fn odd(host: &Host, text: &str) -> Commit {
    let bare = &host.repo.bare;
    let tree = git(bare, 0, &["rev-parse", "main^{tree}"]);
    let parent = git(bare, 0, &["rev-parse", "main"]);
    let whole = format!("tree {tree}\nparent {parent}\n{text}\nodd\n");
    let commit = evil::object(bare, "commit", whole.as_bytes());
    git(bare, 0, &["update-ref", "refs/heads/main", &commit]);
    commit.parse().unwrap()
}

/// An ordinary one on top of it.
fn next(host: &Host) -> Commit {
    let tree = git(&host.repo.bare, 0, &["rev-parse", "main^{tree}"]);
    evil::commit(&host.repo.bare, "main", &tree)
}

#[test]
fn a_commit_that_git_reads_is_in_nobodys_way() {
    let host = Host::new();
    let first = host.repo.work.head();
    for (what, text) in ODD {
        // As the head, deep in the history of a first clone, and between two heads.
        let before = Request { reclone: true, ..host.request(&["main"]) };
        let before = run(&before).unwrap_or_else(|e| panic!("before {what}: {e}")).heads["main"];
        let odd = odd(&host, text);
        for step in 0..3 {
            let head = if step == 0 { odd } else { next(&host) };
            let compare = vec![(before, head), (odd, head), (head, first)];
            let reply = run(&Request { compare, ..host.request(&["main"]) });
            let reply = reply.unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(!reply.recloned, "{what}: {:?}", reply.note);
            let same = if head == odd { Relation::Same } else { Relation::Ahead };
            let relations: Vec<_> = reply.relations.iter().map(|it| it.relation).collect();
            assert_eq!(relations, [Relation::Ahead, same, Relation::Behind], "{what}");
        }
        let dest = host.dir.path().join(what.replace(' ', "-"));
        let (clone, limits) = (host.clone(), Limits::default());
        let (previous, submodules) = (None, false);
        let order = Export { clone, commit: odd, dest, previous, submodules, limits };
        let done = export(&order).unwrap_or_else(|error| panic!("{what}: {error}"));
        let count = git(&host.repo.bare, 0, &["rev-list", "--count", &odd.to_string()]);
        assert_eq!(done.rev_count.to_string(), count, "{what}");
        assert_eq!(done.last_modified, if what == "no time" { 0 } else { 7 }, "{what}");
    }
}

#[test]
fn little_is_sent_on_top_of_a_commit_that_only_git_reads() {
    let host = Host::new();
    odd(&host, ODD[0].1);
    run(&host.request(&["main"])).unwrap();
    let before = host.forge.counts().sent;
    next(&host);
    assert!(!run(&host.request(&["main"])).unwrap().recloned);
    let sent = host.forge.counts().sent - before;
    assert!(sent < 4_000, "{sent}");
}

#[test]
fn relations_are_those_that_git_tells_whatever_the_clocks_said() {
    let host = Host::new();
    let bare = &host.repo.bare;
    let tree = git(bare, 0, &["rev-parse", "main^{tree}"]);
    let mut state = 7_u64;
    let mut chance = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below
    };
    let mut commits: Vec<Commit> = Vec::new();
    for n in 0..60 {
        let mut text = format!("tree {tree}\n");
        // A few beginnings, much that is in a line, and merges.
        let parents = if n < 2 { 0 } else { [1, 1, 1, 2, 3][chance(5)] };
        for _ in 0..parents {
            let near = commits.len() - 1 - chance(commits.len().min(6));
            text.push_str(&format!("parent {}\n", commits[near]));
        }
        let time = 1_000 * n + chance(20_000);
        text.push_str(&format!("author A <a> {time} +0000\ncommitter C <c> {time} +0000\n\n{n}\n"));
        commits.push(evil::object(bare, "commit", text.as_bytes()).parse().unwrap());
    }
    let pairs: Vec<(Commit, Commit)> =
        (0..120).map(|_| (commits[chance(60)], commits[chance(60)])).collect();
    let request = Request { clone: bare.clone(), compare: pairs.clone(), ..host.request(&[]) };
    let reply = run(&request).unwrap();
    let is_ancestor = |a: Commit, b: Commit| {
        let arguments = ["merge-base", "--is-ancestor", &a.to_string(), &b.to_string()];
        hermetic(bare, 0).args(arguments).status().unwrap().success()
    };
    let mut kinds = std::collections::BTreeSet::new();
    for ((older, newer), told) in pairs.into_iter().zip(reply.relations) {
        let relation = match (older == newer, is_ancestor(older, newer), is_ancestor(newer, older))
        {
            (true, ..) => Relation::Same,
            (false, true, _) => Relation::Ahead,
            (false, false, true) => Relation::Behind,
            (false, false, false) => Relation::Diverged,
        };
        assert_eq!(told.relation, relation, "{older} and {newer}");
        kinds.insert(relation);
    }
    assert!(kinds.len() >= 3, "{kinds:?}: it shows something");
}

//! A first clone of a long history comes in steps.

use std::io::Write as _;
use std::process::Stdio;

use fort_agent::git::{Exceeded, FetchError, Limits, Relation, Request};

use super::host::{Host, run};
use crate::support::work::{EPOCH, git, hermetic};

/// More than two steps have.
const COMMITS: usize = 9_000;

/// Imports commits into the remote's `main`, each of which changes one file, some of
/// which are merges.
fn long_history(host: &Host) {
    let mut stream = String::new();
    for n in 1..=COMMITS {
        stream.push_str(&format!(
            "commit refs/heads/main\nmark :{n}\ncommitter a <a@example.org> {} +0000\n\
             data 1\n.\n",
            EPOCH + i64::try_from(n).unwrap(),
        ));
        if n > 2 && n % 50 == 0 {
            stream.push_str(&format!("merge :{}\n", n - 2));
        }
        let text = format!("{:0>64}", n * 7919);
        stream.push_str(&format!("M 100644 inline f{}\ndata 64\n{text}\n", n % 20));
    }
    let mut import = hermetic(&host.repo.bare, EPOCH)
        .args(["fast-import", "--quiet", "--force"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    import.stdin.take().unwrap().write_all(stream.as_bytes()).unwrap();
    assert!(import.wait().unwrap().success());
}

fn packs(host: &Host) -> usize {
    let entries = std::fs::read_dir(host.clone().join("objects/pack")).unwrap();
    entries
        .filter(|it| it.as_ref().unwrap().path().extension().is_some_and(|e| e == "pack"))
        .count()
}

#[test]
fn a_long_history_comes_in_steps_and_is_whole_in_the_end() {
    let host = Host::new();
    long_history(&host);
    let commit = |name: &str| git(&host.repo.bare, 0, &["rev-parse", name]).parse().unwrap();
    let (first, head) = (commit("main~8999"), commit("main"));
    let request = Request { compare: vec![(first, head)], ..host.request(&["main"]) };
    let reply = run(&request).unwrap();
    assert_eq!((reply.heads["main"], reply.relations[0].relation), (head, Relation::Ahead));
    assert_eq!(packs(&host), 3);
    let count =
        |at: &std::path::Path, what| git(at, 0, &["rev-list", "--objects", "--count", what]);
    assert_eq!(count(&host.clone(), "refs/remotes/origin/main"), count(&host.repo.bare, "main"));
    assert!(!host.clone().join("shallow").exists());
    host.fsck();
}

#[test]
fn a_clone_that_ended_between_two_steps_is_gone_on_with() {
    let host = Host::new();
    long_history(&host);
    let url = format!("file://{}", host.repo.bare.display());
    let clone = host.clone();
    let depth = ["clone", "--quiet", "--bare", "--depth=4096", &url, clone.to_str().unwrap()];
    git(host.dir.path(), 0, &depth);
    git(&clone, 0, &["update-ref", "-d", "refs/heads/main"]);
    let reply = host.fetch(&["main"]).unwrap();
    assert!(!reply.recloned, "{reply:?}");
    assert_eq!(git(&clone, 0, &["rev-list", "--count", "refs/remotes/origin/main"]), "9000");
    assert!(!clone.join("shallow").exists());
    host.fsck();
}

#[test]
fn what_may_be_sent_is_counted_over_all_steps() {
    let host = Host::new();
    long_history(&host);
    run(&host.request(&["main"])).unwrap();
    let entries = std::fs::read_dir(host.clone().join("objects/pack")).unwrap();
    let sizes = entries.map(|it| it.unwrap()).filter(|it| it.path().extension().unwrap() == "pack");
    let sizes: Vec<u64> = sizes.map(|it| it.metadata().unwrap().len()).collect();
    let pack = sizes.iter().max().unwrap() + sizes.iter().min().unwrap();
    assert!(pack < sizes.iter().sum(), "{sizes:?}");
    std::fs::remove_dir_all(host.clone()).unwrap();
    let request =
        Request { limits: Limits { pack, ..Limits::default() }, ..host.request(&["main"]) };
    let refused = run(&request).unwrap_err();
    assert_eq!(refused, FetchError::Exceeds(Exceeded::Pack { limit: pack }));
    host.assert_nothing_is_left_behind();
}

//! Fetching in a child process: what it brings, and what it leaves behind.

mod broken;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use fort_agent::git::{FetchError, PollError, Relation, Remote, Reply, Request, child};

use super::host::{EXE, Host, bulk, ends, files, run};
use crate::support::forge::{Fault, TOKEN, wait_for};
use crate::support::work::{git, hermetic};

#[test]
fn only_the_branches_asked_for_are_fetched() {
    let host = Host::new();
    let main = host.repo.work.head();
    let other = host.repo.work.write("x", "x").commit("other");
    host.repo.work.push("other");
    let reply = host.fetch(&["main"]).unwrap();
    assert_eq!(reply.heads.into_iter().collect::<Vec<_>>(), [("main".to_owned(), main)]);
    assert!(!reply.recloned && reply.note.is_none());
    let refs = git(&host.clone(), 0, &["for-each-ref", "--format=%(refname)"]);
    assert_eq!(refs, "refs/remotes/origin/main");
    assert_eq!(host.relation(main, other), Relation::Diverged, "its commit is not here");
    host.fsck();
}

#[test]
fn what_was_fetched_before_is_not_sent_again() {
    let host = Host::new();
    host.fetch(&["main"]).unwrap();
    let before = host.forge.counts().sent;
    let next = host.repo.work.write("x", "x").commit("small");
    host.repo.work.push("main");
    assert_eq!(host.fetch(&["main"]).unwrap().heads["main"], next);
    let sent = host.forge.counts().sent - before;
    assert!(sent < 3_000, "{sent}");
    host.assert_nothing_is_left_behind();
}

#[test]
fn a_force_push_is_followed_and_the_kept_commit_stays() {
    let host = Host::new();
    let old = host.repo.work.head();
    host.fetch(&["main"]).unwrap();
    let base = host.rewind();
    let new = host.repo.work.write("x", "x").commit("rewritten");
    host.repo.work.force_push("main");
    let request = Request {
        keep: vec![old],
        compare: vec![(old, new), (base, new), (new, base), (old, base), (new, new)],
        ..host.request(&["main"])
    };
    let reply = run(&request).unwrap();
    assert_eq!(reply.heads["main"], new);
    let relations: Vec<_> = reply.relations.iter().map(|r| r.relation).collect();
    use Relation::{Ahead, Behind, Diverged, Same};
    assert_eq!(relations, [Diverged, Ahead, Behind, Behind, Same]);
    let kept = format!("refs/fort/keep/{old}");
    assert_eq!(git(&host.clone(), 0, &["rev-parse", &kept]), old.to_string());

    host.fetch(&["main"]).unwrap();
    assert_eq!(git(&host.clone(), 0, &["for-each-ref", "refs/fort"]), "", "let go");
}

#[test]
fn a_vanished_branch_is_absent_and_its_ref_goes() {
    let host = Host::new();
    host.repo.work.push("testing");
    assert_eq!(host.fetch(&["main", "testing"]).unwrap().heads.len(), 2);
    host.repo.work.delete_branch("testing");
    let reply = host.fetch(&["main", "testing"]).unwrap();
    assert_eq!(reply.heads.keys().collect::<Vec<_>>(), ["main"]);
    let refs = git(&host.clone(), 0, &["for-each-ref", "--format=%(refname)"]);
    assert_eq!(refs, "refs/remotes/origin/main");
}

#[test]
fn a_remote_without_any_of_the_branches_gives_none() {
    let host = Host::new();
    assert!(host.fetch(&["absent"]).unwrap().heads.is_empty());
    let empty = host.forge.repo("empty");
    let request = Request { remote: host.forge.remote(&empty), ..host.request(&["main"]) };
    assert!(run(&request).unwrap().heads.is_empty());
}

#[test]
fn a_branch_takes_the_place_of_one_that_is_now_its_directory() {
    let host = Host::new();
    host.repo.work.push("a");
    host.fetch(&["a"]).unwrap();
    host.repo.work.delete_branch("a");
    host.repo.work.push("a/b");
    assert_eq!(host.fetch(&["a/b"]).unwrap().heads.len(), 1);
    host.repo.work.delete_branch("a/b");
    host.repo.work.push("a");
    assert_eq!(host.fetch(&["a"]).unwrap().heads.len(), 1);
}

#[test]
fn two_remotes_share_the_clone() {
    let host = Host::new();
    let first = host.repo.work.head();
    host.fetch(&["main"]).unwrap();
    let other = host.forge.repo("other");
    let second = other.work.write("y", "y").commit("unrelated");
    other.work.push("main");
    let mut request = host.request(&["main"]);
    request.remote = host.forge.remote(&other);
    request.remote.name = "backup".into();
    request.compare = vec![(first, second)];
    let reply = run(&request).unwrap();
    assert_eq!((reply.heads["main"], reply.recloned), (second, false));
    assert_eq!(reply.relations[0].relation, Relation::Diverged);
    assert_eq!(git(&host.clone(), 0, &["cat-file", "-t", &first.to_string()]), "commit");
    host.fsck();
}

#[test]
fn names_that_are_no_branches_are_refused() {
    let host = Host::new();
    for bad in ["*", "", "a..b", "-x:y", "a b", "x.lock"] {
        let error = host.fetch(&[bad]).unwrap_err();
        assert!(matches!(error, FetchError::Remote(PollError::Setup(_))), "{bad}: {error:?}");
    }
    assert_eq!(host.forge.counts().requests, 0);
}

#[test]
fn a_whole_run_has_a_deadline() {
    let host = Host::new();
    host.forge.fault(Fault::Hang);
    let request = host.request(&["main"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let limit = Duration::from_millis(300);
    let run = child::run(Path::new(EXE), &request, limit);
    assert_eq!(runtime.block_on(run), Err(FetchError::TimedOut { after: limit }));
}

#[test]
fn a_child_killed_in_mid_fetch_leaves_a_clone_that_the_next_one_uses() {
    let host = Host::new();
    host.fetch(&["main"]).unwrap();
    let next = host.repo.work.write("more", bulk(9)).commit("more");
    host.repo.work.push("main");
    host.forge.fault(Fault::HangInPack);
    let mut child = Command::new(EXE)
        .args(["job", "fetch"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = serde_json::to_vec(&host.request(&["main"])).unwrap();
    line.push(b'\n');
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&line).unwrap();
    let packs = host.clone().join("objects/pack");
    wait_for("a half-received pack", || host.forge.counts().held > 0 && files(&packs).len() > 2);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(files(&packs).len() > 2, "the kill left something: this tests the sweeping");

    host.forge.fault(Fault::None);
    let reply = host.fetch(&["main"]).unwrap();
    assert_eq!((reply.heads["main"], reply.recloned), (next, false));
    host.assert_nothing_is_left_behind();
    host.fsck();
}

#[test]
fn a_child_whose_parent_is_gone_ends() {
    let host = Host::new();
    host.forge.fault(Fault::Hang);
    let mut child = Command::new(EXE)
        .args(["job", "fetch"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = serde_json::to_vec(&host.request(&["main"])).unwrap();
    line.push(b'\n');
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&line).unwrap();
    wait_for("the request to hang", || host.forge.counts().held > 0);
    drop(stdin);
    wait_for("the child to end", || child.try_wait().unwrap().is_some());
}

#[test]
fn the_proxy_of_the_environment_is_used() {
    let host = Host::new();
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = proxy.local_addr().unwrap();
    let tunnel = std::thread::spawn(move || tunnel_once(&proxy));
    let mut child = Command::new(EXE)
        .args(["job", "fetch"])
        .env("HTTPS_PROXY", format!("http://{address}"))
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = serde_json::to_vec(&host.request(&["main"])).unwrap();
    line.push(b'\n');
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&line).unwrap();
    let output = child.wait_with_output().unwrap();
    let reply: Reply = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(reply.heads["main"], host.repo.work.head());
    drop(stdin);
    let request = tunnel.join().unwrap();
    let forge = host.forge.url().replace("https://", "");
    assert!(request.starts_with(&format!("CONNECT {forge} ")), "{request}");
    assert!(!request.to_lowercase().contains("authorization"), "{request}");
}

#[test]
fn what_stays_on_this_host_in_clear_goes_through_no_proxy() {
    let host = Host::new();
    // Neither answers.
    let [here, proxy] = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let mut request = host.request(&["main"]);
    request.remote = Remote {
        url: format!("http://{}/infra.git", here.local_addr().unwrap()),
        token_file: None,
        ca_file: None,
        timeout: Duration::from_millis(300),
        ..request.remote
    };
    let through = format!("http://{}", proxy.local_addr().unwrap());
    let mut child = Command::new(EXE)
        .args(["job", "fetch"])
        .envs(["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"].map(|name| (name, &through)))
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = serde_json::to_vec(&request).unwrap();
    line.push(b'\n');
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&line).unwrap();
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    assert!(String::from_utf8_lossy(&output.stdout).contains("error"), "{output:?}");
    let was_asked = |listener: &std::net::TcpListener| {
        listener.set_nonblocking(true).unwrap();
        listener.accept().is_ok()
    };
    assert!(was_asked(&here) && !was_asked(&proxy));
}

/// Serves one CONNECT and returns what was asked.
fn tunnel_once(proxy: &std::net::TcpListener) -> String {
    let (client, _) = proxy.accept().unwrap();
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut request).unwrap(), 0, "{request}");
    }
    let target = request.split(' ').nth(1).unwrap();
    let server = std::net::TcpStream::connect(target).unwrap();
    (&client).write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    let (mut up, mut down) = (server.try_clone().unwrap(), client);
    let back = std::thread::spawn(move || std::io::copy(&mut &server, &mut down));
    let _ = std::io::copy(&mut reader, &mut up);
    let _ = up.shutdown(std::net::Shutdown::Both);
    let _ = back.join();
    request
}

#[test]
fn a_child_that_is_not_asked_properly_says_so() {
    for nonsense in ["", "{}\n", "nonsense\n"] {
        let mut child = Command::new(EXE)
            .args(["job", "fetch"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(nonsense.as_bytes()).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(2), "{nonsense:?}");
    }
}

#[test]
fn a_program_that_is_no_child_of_ours_is_reported_as_crashed() {
    let host = Host::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for exe in ["/bin/false", "/bin/cat", "/nonexistent"] {
        let request = host.request(&["main"]);
        let run = child::run(Path::new(exe), &request, Duration::from_secs(20));
        let error = runtime.block_on(run).unwrap_err();
        assert!(matches!(error, FetchError::Crashed { .. }), "{exe}: {error:?}");
    }
}

#[test]
fn a_clone_of_many_packs_is_made_anew() {
    let host = Host::new();
    host.fetch(&["main"]).unwrap();
    let packs = host.clone().join("objects/pack");
    let mut n = 0;
    while files(&packs).iter().filter(|f| ends(f, "pack")).count() <= 64 {
        assert!(!host.fetch(&[]).unwrap().recloned, "comparing never asks the network");
        n += 1;
        let blob = format!("blob\ndata {}\n{n}\n", n.to_string().len());
        let mut import = hermetic(&host.clone(), 0)
            .args(["-c", "fastimport.unpackLimit=0", "fast-import", "--quiet"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        import.stdin.take().unwrap().write_all(blob.as_bytes()).unwrap();
        assert!(import.wait().unwrap().success() && n < 100);
    }
    let reply = host.fetch(&["main"]).unwrap();
    assert!(reply.recloned && reply.note.unwrap().contains("65 packs"));
    assert_eq!(files(&packs).len(), 2);
}

#[test]
fn many_small_packs_become_one_and_nothing_is_fetched_anew() {
    let host = Host::new();
    host.fetch(&["main"]).unwrap();
    let (clone, packs) = (host.clone(), host.clone().join("objects/pack"));
    let count = || files(&packs).iter().filter(|f| ends(f, "pack")).count();
    // As they come: with deltas on what an earlier one brought.
    for n in 3..6 {
        host.repo.work.write("file", bulk(n)).commit(&format!("commit {n}"));
        host.repo.work.push("main");
        host.fetch(&["main"]).unwrap();
    }
    for n in count()..33 {
        let blob = format!("blob\ndata 2\n{n:2}\n");
        let mut import = hermetic(&clone, 0)
            .args(["-c", "fastimport.unpackLimit=0", "fast-import", "--quiet"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        import.stdin.take().unwrap().write_all(blob.as_bytes()).unwrap();
        assert!(import.wait().unwrap().success());
    }
    let objects = || {
        let all = ["cat-file", "--batch-all-objects", "--batch-check"];
        git(&clone, 0, &all).lines().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let (before, sent) = (objects(), host.forge.counts().sent);
    assert_eq!(count(), 33);
    let reply = host.fetch(&["main"]).unwrap();
    assert_eq!((reply.recloned, reply.note), (false, None));
    assert!(count() <= 17, "{} packs", count());
    assert_eq!(objects(), before);
    git(&clone, 0, &["fsck", "--full", "--strict"]);
    assert!(host.forge.counts().sent - sent < 4_000, "nothing was sent again");
    // It is whole by our own reckoning as well, and goes on.
    host.repo.work.write("file", bulk(7)).commit("commit 7");
    host.repo.work.push("main");
    let reply = host.fetch(&["main"]).unwrap();
    assert_eq!((reply.recloned, reply.heads["main"]), (false, host.repo.work.head()));
}

#[test]
fn a_file_remote_is_fetched_too() {
    let host = Host::new();
    let mut request = host.request(&["main"]);
    request.remote.url = format!("file://{}", host.repo.bare.display());
    assert_eq!(run(&request).unwrap().heads["main"], host.repo.work.head());
}

//! Cost of git to a host: bounds that hold in any build, and the figures.
//! `FORT_AGENT_BENCH` names another `fort-agent` to measure, such as one that was built
//! for release.

use std::time::{Duration, Instant};

use fort_agent::git::{Connection, Export, Limits, Request, export};

use crate::support::big_repo::{COMMITS, FILES, grow};
use crate::support::forge::Forge;
use crate::support::measure::fetched as measured;
use crate::support::work::git;

/// Processor time of this thread and those it had work done by, in ms.
fn processor_ms() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten().filter_map(|task| {
        let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
        let stat = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        let spent = stat.split(' ').next()?.parse::<f64>().ok()?;
        name.starts_with("reqwest").then_some(spent)
    });
    let mine = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let mine: f64 = mine.split(' ').next().unwrap().parse().unwrap();
    (tasks.sum::<f64>() + mine) / 1e6
}

#[test]
fn a_clone_and_an_export_are_quick_and_small() {
    let forge = Forge::start();
    let repo = forge.repo("infra");
    let head = grow(&repo.bare);
    let dir = tempfile::tempdir().unwrap();
    let mut request = Request {
        clone: dir.path().join("clone"),
        remote: forge.remote(&repo),
        branches: vec!["main".into()],
        compare: vec![],
        keep: vec![],
        reclone: false,
        submodules: false,
        limits: Limits::default(),
    };
    let (reply, took, peak) = measured(&request);
    assert_eq!(reply.heads["main"], head);
    println!("clone of {COMMITS} commits: {took:?}, peak {peak} KiB");
    assert!(took < Duration::from_secs(20) && peak < 64 << 10);

    let (_, took, peak) = measured(&request);
    println!("fetch of nothing new: {took:?}, peak {peak} KiB");
    request.branches.clear();
    request.compare =
        vec![(git(&repo.bare, 0, &["rev-parse", "main~1399"]).parse().unwrap(), head)];
    let (_, took, peak) = measured(&request);
    println!("comparing the first and the last: {took:?}, peak {peak} KiB");

    let first = dir.path().join("first");
    let started = Instant::now();
    let order = |commit, name: &str, previous| Export {
        clone: request.clone.clone(),
        commit,
        dest: dir.path().join(name),
        previous,
        submodules: false,
        limits: Limits::default(),
    };
    let exported = export(&order(head, "first", None)).unwrap();
    println!("export of {FILES} files: {:?}", started.elapsed());
    assert_eq!(exported.rev_count, COMMITS);
    let started = Instant::now();
    let before = git(&repo.bare, 0, &["rev-parse", "main~1"]).parse().unwrap();
    export(&order(before, "second", Some(first))).unwrap();
    println!("export beside another: {:?}", started.elapsed());
}

#[test]
fn a_poll_takes_little_of_the_processor() {
    let forge = Forge::start();
    let repo = forge.repo("infra");
    repo.work.commit("first");
    repo.work.push("main");
    let mut connection = Connection::open(&forge.remote(&repo)).unwrap();
    connection.heads(&["refs/heads/main"]).unwrap();
    let before = processor_ms();
    for _ in 0..50 {
        connection.heads(&["refs/heads/main"]).unwrap();
    }
    let each = (processor_ms() - before) / 50.0;
    println!("a poll: {each:.3} ms of processor time");
    assert!(each < 20.0, "{each}");
}

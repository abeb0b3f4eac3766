//! Limits: too large a commit is refused by name, within the memory and the room that
//! there is, and what comes after it arrives.

use std::io::Write as _;
use std::process::{Command, Stdio};

use fort_agent::git::{
    Exceeded, Export, ExportError, FetchError, Limits, PollError, Request, Unfit, export,
};

use super::evil::{self, noise};
use super::host::{Host, files, run};
use crate::support::forge::{Fault, wait_for};
use crate::support::measure::tried;
use crate::support::mounts::{fill, free, in_own_mounts, mount};
use crate::support::rig::agent;
use crate::support::work::git;

const MIB: u64 = 1 << 20;

/// Half of the least that a configuration may grant: enough, for so little.
const SMALL: u64 = 32 * MIB;

fn small() -> Limits {
    Limits { memory: SMALL, ..Limits::default() }
}

fn request(host: &Host, limits: Limits) -> Request {
    Request { limits, ..host.request(&["main"]) }
}

/// Fetches; says the most memory that took as well, in bytes.
fn fetched(request: &Request) -> (Result<(), FetchError>, u64) {
    let (_, peak) = tried(request);
    (run(request).map(drop), peak * 1024)
}

#[test]
fn a_chain_of_deltas_takes_no_more_memory_than_is_granted() {
    let host = Host::new();
    let good = host.repo.work.head();
    let (links, size) = (12, 6 << 20);
    let (pack, blobs) = evil::chain(&host.repo.bare, links, size);
    assert!(pack < 100_000, "{pack} bytes become {} MiB", ((3 * links + 1) * size) >> 20);
    let tree = evil::tree_of_blobs(&host.repo.bare, &blobs);
    evil::commit(&host.repo.bare, "main", &tree);
    let (refused, peak) = fetched(&request(&host, small()));
    assert_eq!(refused, Err(FetchError::Exceeds(Exceeded::Memory { limit: SMALL })));
    // Besides the data there are the program itself and the pack, which are mapped.
    assert!(peak < SMALL + 48 * MIB, "{} MiB", peak / MIB);
    let told = refused.unwrap_err().to_string();
    assert!(told.contains("32.0 MiB of memory") && told.contains("[git]"), "{told}");
    assert!(files(host.dir.path()).iter().all(|file| file.ends_with("clone.lock")), "swept");

    git(&host.repo.bare, 0, &["update-ref", "refs/heads/main", &good.to_string()]);
    assert_eq!(run(&request(&host, small())).unwrap().heads["main"], good);
    let next = host.repo.work.write("x", "x").commit("later");
    host.repo.work.push("main");
    assert_eq!(run(&request(&host, small())).unwrap().heads["main"], next);
    host.fsck();
}

#[test]
fn one_object_that_is_too_large_is_refused_before_it_is_unpacked() {
    let host = Host::new();
    let mut pack = evil::Pack::new();
    let base = pack.zeros(1000);
    pack.zeros(300 << 20);
    // Of a thousand bytes, it says; the result is another matter.
    pack.like(base, 1000, b"x");
    let (_, blobs) = pack.put(&host.repo.bare);
    let tree = evil::tree_of_blobs(&host.repo.bare, &blobs);
    evil::commit(&host.repo.bare, "main", &tree);
    let (refused, peak) = fetched(&request(&host, Limits::default()));
    let limit = Limits::default().object();
    assert_eq!(refused, Err(FetchError::Exceeds(Exceeded::Object { limit })));
    assert!(peak < 80 * MIB, "{} MiB", peak / MIB);
}

#[test]
fn memory_that_is_at_its_end_in_the_middle_is_told_as_that_and_not_as_a_crash() {
    let host = Host::new();
    // Kept as it comes until it is whole.
    host.repo.work.write("noise", noise(32 << 20, 1)).commit("noise");
    host.repo.work.push("main");
    let (refused, peak) = fetched(&request(&host, small()));
    assert_eq!(refused, Err(FetchError::Exceeds(Exceeded::Memory { limit: SMALL })));
    // The pack is mapped, and so is the program.
    assert!(peak < SMALL + (32 + 40) * MIB, "{} MiB", peak / MIB);
    assert!(files(host.dir.path()).iter().all(|file| file.ends_with("clone.lock")), "swept");
}

#[test]
fn a_clone_may_be_larger_than_the_memory_that_reading_it_takes() {
    let host = Host::new();
    // Noise does not become smaller, and trying takes longer than a fetch may be silent.
    for (name, value) in [("core.compression", "0"), ("pack.window", "0")] {
        git(&host.repo.bare, 0, &["config", name, value]);
        host.repo.work.git(&["config", name, value]);
    }
    for seed in 0..6 {
        host.repo.work.write(&format!("noise-{seed}"), noise(7 << 20, seed));
    }
    let head = host.repo.work.commit("forty-two");
    host.repo.work.push("main");
    let limits = small();
    assert_eq!(run(&request(&host, limits)).unwrap().heads["main"], head);
    let first = git(&host.repo.bare, 0, &["rev-parse", "main~3"]).parse().unwrap();
    let compare =
        Request { compare: vec![(first, head)], branches: vec![], ..request(&host, limits) };
    assert_eq!(run(&compare).unwrap().relations.len(), 1);
    let next = host.repo.work.write("x", "x").commit("later");
    host.repo.work.push("main");
    assert_eq!(run(&request(&host, limits)).unwrap().heads["main"], next);
}

#[test]
fn a_pack_above_the_limit_is_refused_and_what_comes_after_it_arrives() {
    let host = Host::new();
    let limits = Limits { pack: 2 * MIB, ..Limits::default() };
    let good = host.repo.work.head();
    run(&request(&host, limits)).unwrap();
    host.repo.work.write("noise", noise(3 << 20, 1)).commit("noise");
    host.repo.work.push("main");
    let refused = run(&request(&host, limits)).unwrap_err();
    assert_eq!(refused, FetchError::Exceeds(Exceeded::Pack { limit: 2 * MIB }));
    assert!(refused.to_string().contains("raise pack in [git]"), "{refused}");
    host.assert_nothing_is_left_behind();

    host.repo.work.reset(good);
    let next = host.repo.work.write("x", "x").commit("instead");
    host.repo.work.force_push("main");
    let reply = run(&request(&host, limits)).unwrap();
    assert_eq!((reply.heads["main"], reply.recloned), (next, false));
    host.fsck();
}

#[test]
fn a_list_of_branches_without_end_is_not_taken() {
    let host = Host::new();
    host.forge.fault(Fault::EndlessRefs);
    let (refused, peak) = fetched(&request(&host, Limits::default()));
    let limit = 2 * MIB;
    assert_eq!(refused, Err(FetchError::Exceeds(Exceeded::List { limit })));
    assert!(peak < 64 * MIB, "{} MiB", peak / MIB);
    let mut connection = fort_agent::git::Connection::open(&host.forge.remote(&host.repo)).unwrap();
    let refused = connection.heads(&["refs/heads/main"]).unwrap_err();
    assert_eq!(refused, PollError::Exceeds(Exceeded::List { limit }));
}

/// A host whose forge leaves out what is too large, as those do that people use.
fn with_filter() -> Host {
    let host = Host::new();
    git(&host.repo.bare, 0, &["config", "uploadpack.allowFilter", "true"]);
    host
}

#[test]
fn a_file_that_is_too_large_keeps_no_later_commit_back() {
    let host = with_filter();
    let limits = small();
    host.repo.work.write("big", noise(10 << 20, 1)).write("dir/small", "small");
    let with = host.repo.work.commit("with a large file");
    host.repo.work.push("main");
    let order = |commit, name: &str, limits| Export {
        clone: host.clone(),
        commit,
        dest: host.dir.path().join(name),
        previous: None,
        submodules: false,
        limits,
    };
    assert_eq!(run(&request(&host, limits)).unwrap().heads["main"], with);
    let limit = limits.object();
    let refused = export(&order(with, "with", limits)).unwrap_err();
    let big = ExportError::Refused { path: "big".into(), why: Unfit::TooLarge { limit } };
    assert_eq!(refused, big);

    let without = host.repo.work.remove("big").commit("without it");
    host.repo.work.push("main");
    let reply = run(&request(&host, limits)).unwrap();
    assert_eq!((reply.heads["main"], reply.recloned), (without, false));
    let done = export(&order(without, "without", limits)).unwrap();
    assert_eq!(done.rev_count, 5, "history is whole");
    assert!(done.dir.join("dir/small").exists());
    // To see a clone that lacks something as damaged would be to fetch it anew.
    assert!(!run(&request(&host, limits)).unwrap().recloned);

    // Once more is granted it is there.
    let reply = run(&request(&host, Limits::default())).unwrap();
    assert!(reply.recloned && reply.note.unwrap().contains("left out"));
    let done = export(&order(with, "with", Limits::default())).unwrap();
    assert_eq!(done.dir.join("big").metadata().unwrap().len(), 10 << 20);
}

#[test]
fn the_process_that_reads_what_was_pushed_is_limited_before_it_reads() {
    let host = Host::new();
    host.forge.fault(Fault::Hang);
    let mut child = Command::new(agent())
        .args(["job", "fetch"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut line = serde_json::to_vec(&request(&host, small())).unwrap();
    line.push(b'\n');
    stdin.write_all(&line).unwrap();
    wait_for("the request to hang", || host.forge.counts().held > 0);
    let proc =
        |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", child.id())).unwrap();
    let (limits, adjusted) = (proc("limits"), proc("oom_score_adj"));
    child.kill().unwrap();
    child.wait().unwrap();
    let limit = |name: &str| -> Vec<String> {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().take(2).map(str::to_owned).collect()
    };
    let bytes = SMALL.to_string();
    assert_eq!(limit("Max data size"), [bytes.clone(), bytes]);
    assert_eq!(limit("Max core file size"), ["0", "0"]);
    assert_eq!(adjusted.trim(), "1000");
}

#[test]
fn a_disk_without_room_is_told_and_stays_as_it_was() {
    in_own_mounts("git::limits::a_disk_without_room_is_told_and_stays_as_it_was", || {
        let host = Host::new();
        host.repo.work.write("noise", noise(12 << 20, 1)).commit("noise");
        host.repo.work.push("main");
        let disk = host.dir.path().join("disk");
        mount(&disk, "16M");
        let request = Request { clone: disk.join("clone"), ..host.request(&["main"]) };
        fill(&disk, 6 << 20);
        let refused = run(&request).unwrap_err();
        let FetchError::NoRoom(no_room) = &refused else { panic!("{refused:?}") };
        assert!(
            no_room.free < no_room.keep + no_room.need && no_room.free > 4 * MIB,
            "{no_room:?}"
        );
        assert!(refused.to_string().contains("are to stay free"), "{refused}");
        assert!(free(&disk) > 5 * MIB, "what was begun is gone");
    });
}

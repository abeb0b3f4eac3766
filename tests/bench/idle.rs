//! Cost of an agent that has nothing to do: its polls, and its memory.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use crate::clone::mebibytes;
use crate::support::forge::wait_for;
use crate::support::measure::{footprint, processor_ms};
use crate::support::memory_use;
use crate::support::rig::settings::TRIES;
use crate::support::rig::{HOST, Rig};
use crate::support::sshd::free_port;
use crate::support::work::{EPOCH, git, hermetic};
use crate::table::Row;

/// Polls in each of five samples.
const POLLS: u64 = 200;
const SAMPLES: usize = 5;
const REFS: u32 = 5_000;
/// Polls over which nothing may grow.
const MANY: u64 = 100_000;

/// From a rig that has deployed: started once more, without its clone.
pub(crate) fn rows(rig: &mut Rig) -> Vec<Row> {
    let head = git(&rig.repo.bare, 0, &["rev-parse", "release"]);
    rig.settings.branch = TRIES.into();
    rig.settings.poll = "interval = \"10ms\"\njitter = \"0s\"\n".into();
    // The fetching of a whole clone is to be seen in its memory, if it is.
    std::fs::remove_dir_all(rig.state().join("git")).unwrap();
    let pages = free_port();
    rig.settings.sections += &format!("[metrics]\nlisten = \"{pages}\"\n");
    rig.start();
    rig.wait_in_sync(head.parse().unwrap());
    let mut rows = polls(rig, pages, "poll without news", 0.8, 1.45);
    let after = footprint(rig.pid());
    name_refs(rig, &head);
    rows.extend(polls(rig, pages, &format!("  at {REFS} refs"), 324.0, 8.6));
    let behind = git(&rig.repo.bare, 0, &["rev-parse", "release~3"]);
    let testing = format!("refs/heads/release-{HOST}-test");
    rig.forge.look_for(&testing);
    git(&rig.repo.bare, 0, &["update-ref", &testing, &behind]);
    wait_for("the testing branch to be told", || rig.forge.moments().told.is_some());
    rows.extend(polls(rig, pages, "  and a testing branch left behind", f64::NAN, 38.6));
    let later = footprint(rig.pid());
    let polled = POLLS * u64::try_from(SAMPLES).unwrap();
    for (words, print) in [(polled, after), (polled * 3, later)] {
        let words = format!("after a clone and {words} polls");
        rows.push(
            Row::new(&format!("RssAnon {words}"), "MiB", vec![mebibytes(print.anon)]).target(10.0),
        );
        rows.push(
            Row::new(&format!("VmRSS {words}"), "MiB", vec![mebibytes(print.rss)])
                .target(20.0)
                .comin(73.0),
        );
    }
    let few = |n: u64| vec![f64::from(u32::try_from(n).unwrap())];
    rows.push(Row::new("threads", "", few(later.threads)));
    rows.push(Row::new("open files", "", few(later.files)));
    rig.stop();
    rows
}

/// Nothing may grow, however often it polls. The rig has deployed, and is not
/// started.
pub(crate) fn flat_rows(rig: &mut Rig) -> Vec<Row> {
    let flat = memory_use::polled(rig, MANY, Duration::from_secs(1800));
    assert_eq!(flat.polls / MANY, 1, "too slow: {flat:?}");
    let grown = |after: u64, before: u64| vec![count(after) - count(before)];
    let (before, after) = (flat.before, flat.after);
    let row = |what: &str, unit, after, before| {
        Row::new(&format!("{what} more after {MANY} polls"), unit, grown(after, before))
    };
    vec![
        row("RssAnon", "KiB", after.anon, before.anon).target(256.0),
        row("VmRSS", "KiB", after.rss, before.rss).target(256.0),
        row("threads", "", after.threads, before.threads).target(2.0),
        row("open files", "", after.files, before.files).target(2.0),
    ]
}

/// Polls for a while, and what each of them took. comin's: kB, and ms.
fn polls(
    rig: &Rig,
    pages: SocketAddr,
    what: &str,
    comin_kilobytes: f64,
    comin_ms: f64,
) -> Vec<Row> {
    let (mut requests, mut bytes, mut times) = (Vec::new(), Vec::new(), Vec::new());
    // What the last change brought about is not part of it.
    let settled = rig.forge.counts().requests + 20;
    wait_for("polls", || rig.forge.counts().requests > settled);
    for _ in 0..SAMPLES {
        let (polled, before) = (polled(pages), rig.forge.counts());
        let spent = processor_ms(rig.pid());
        wait_for("polls", || rig.forge.counts().requests >= before.requests + POLLS);
        let (after, spent) = (rig.forge.counts(), processor_ms(rig.pid()) - spent);
        let polls = self::polled(pages) - polled;
        let asked = count(after.requests - before.requests);
        let both = after.received + after.sent - before.received - before.sent;
        bytes.push(count(both) / asked / 1e3);
        times.push(spent / asked);
        requests.push(asked / polls);
    }
    let mut size = Row::new(&format!("{what}: HTTP both ways"), "kB", bytes).target(1.0);
    if !comin_kilobytes.is_nan() {
        size = size.comin(comin_kilobytes);
    }
    vec![
        Row::new(&format!("{what}: processor"), "ms", times).target(1.0).comin(comin_ms),
        size,
        Row::new(&format!("{what}: asked"), "requests", requests).target(1.0),
    ]
}

/// The polls that the agent counted.
fn polled(pages: SocketAddr) -> f64 {
    let mut page = String::new();
    let mut stream = TcpStream::connect(pages).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .unwrap();
    stream.read_to_string(&mut page).unwrap();
    let mut lines = page.lines().filter(|line| line.contains("_polls_total{"));
    let line = lines.find(|line| line.contains("ok")).expect("it counts its polls");
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

/// Branches, tags and pull requests as a busy forge has them.
fn name_refs(rig: &Rig, head: &str) {
    let mut named = String::new();
    for n in 0..REFS {
        let kind = ["heads/topic", "tags/v", "pull"][(n % 3) as usize];
        named.push_str(&format!("create refs/{kind}-{n} {head}\n"));
    }
    let mut update = hermetic(&rig.repo.bare, EPOCH)
        .args(["update-ref", "--stdin"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    update.stdin.take().unwrap().write_all(named.as_bytes()).unwrap();
    assert!(update.wait().unwrap().success());
    git(&rig.repo.bare, 0, &["pack-refs", "--all"]);
}

fn count(n: u64) -> f64 {
    f64::from(u32::try_from(n).unwrap())
}

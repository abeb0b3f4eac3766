//! From exec to the first poll, and from a head that was told to its
//! switch-to-configuration.
//!
//! The store is served by a daemon, as on a host.
//!
//! When a switch began is the time of modification of a file that it writes
//! first: as exact as the kernel's clock of its file systems, some 4 ms.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::clone::milliseconds;
use crate::support::big_repo::grow;
use crate::support::forge::wait_for;
use crate::support::measure::with_children_ms;
use crate::support::rig::Rig;
use crate::support::system::Host;
use crate::table::Row;

const STARTS: usize = 7;
const PUSHES: u32 = 11;

/// A rig whose agent has deployed, and is stopped.
pub(crate) fn deployed() -> Rig {
    let mut rig = ready();
    let first = rig.push("release", &Host::new("0"));
    rig.start();
    rig.wait_in_sync(first);
    rig.stop();
    rig
}

/// The file that a host's only check looks for.
fn well(rig: &Rig) -> PathBuf {
    rig.root().join("well")
}

/// A rig with a repository of some age, and nothing of this host's in it yet.
fn ready() -> Rig {
    let mut rig = Rig::new();
    rig.daemon = Some(rig.store.daemon());
    rig.settings.log = "info".into();
    let well = well(&rig);
    std::fs::create_dir_all(rig.root()).unwrap();
    std::fs::write(&well, "").unwrap();
    rig.settings.sections += &format!(
        "[[health.check]]\nname = \"well\"\ncommand = [\"test\", \"-e\", \"{}\"]\n",
        well.display()
    );
    grow(&rig.tree.dir().join(".git"));
    // The fixture's files are not in that history; they come with the next.
    rig.tree.git(&["reset", "--quiet", "--hard", "main"]);
    rig
}

/// The rows, and a rig whose agent has deployed, and is stopped.
pub(crate) fn rows() -> (Rig, Vec<Row>) {
    let mut rig = ready();
    let well = well(&rig);
    let first = rig.push("release", &Host::new("0"));
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        rig.stop();
        rig.forge.look_for("");
        let began = SystemTime::now();
        rig.start();
        wait_for("a first request", || rig.forge.moments().asked.is_some());
        starts.push(since(began, rig.forge.moments().asked.unwrap()));
    }
    rig.wait_in_sync(first);
    let began_file = rig.root().join("var/log/began-test");
    let mut spent = Vec::new();
    let mut push = |n| {
        let before = processor(&rig);
        let took = push_to_switch(&rig, &began_file, n);
        spent.push(processor(&rig) - before);
        took
    };
    let switched: Vec<f64> = (1..=PUSHES).map(&mut push).collect();
    eprintln!("the last deployments, as the agent logged them:\n{}", last_words(&rig));
    let stages = |entry: &Value, names: &[&str]| -> f64 {
        names.iter().filter_map(|name| entry["stages"][name].as_f64()).sum()
    };
    let good = rig.history().into_iter().take(PUSHES as usize);
    let phases: Vec<f64> = good.map(|entry| stages(&entry, &["verify", "commit"])).collect();
    std::fs::remove_file(&well).unwrap();
    rig.tree.host(crate::support::rig::HOST, &Host::new("ill"));
    let ill = rig.tree.commit("It does not work");
    rig.push_head("release");
    rig.wait_held("quarantined");
    let of_ill = |entry: &Value| entry["commit"] == ill.to_string();
    let back = rig.history().into_iter().filter(of_ill);
    let back: Vec<f64> = back.map(|entry| stages(&entry, &["rollback"])).collect();
    std::fs::write(&well, "").unwrap();
    rig.tree.host(crate::support::rig::HOST, &Host::new("well"));
    let well_again = rig.tree.commit("It works");
    rig.push_head("release");
    rig.wait_in_sync(well_again);
    rig.stop();
    let rows = vec![
        Row::new("poll noticed to switch started", "ms", switched).target(250.0).comin(633.0),
        Row::new("  processor: agent, jobs, nix and its daemon, to its end", "ms", spent),
        Row::new("end of activation to the end, without grace", "ms", phases).target(300.0),
        Row::new("bad verdict to the old system restored", "ms", back).target(5000.0),
        Row::new("start to first poll", "ms", starts).target(200.0),
    ];
    (rig, rows)
}

/// Of the agent and its children, and of those that build for it.
fn processor(rig: &Rig) -> f64 {
    let daemon = rig.daemon.as_ref().map_or(0.0, |daemon| with_children_ms(daemon.pid()));
    with_children_ms(rig.pid()) + daemon
}

fn push_to_switch(rig: &Rig, began_file: &Path, n: u32) -> f64 {
    rig.tree.host(crate::support::rig::HOST, &Host::new(&n.to_string()));
    let commit = rig.tree.commit("another");
    rig.forge.look_for(&commit.to_string());
    let before = modified(began_file);
    rig.push_head("release");
    wait_for("a switch", || modified(began_file) != before);
    let began = modified(began_file).unwrap();
    let told = rig.forge.moments().told.expect("it was told before it was switched to");
    rig.wait_in_sync(commit);
    since(told, began)
}

/// The agent's log from the last push on.
fn last_words(rig: &Rig) -> String {
    let log = rig.log();
    let start = log.rfind("following a new head").unwrap_or(0);
    log[start..].split("---").next().unwrap_or_default().to_owned()
}

fn modified(file: &Path) -> Option<SystemTime> {
    file.metadata().and_then(|data| data.modified()).ok()
}

fn since(earlier: SystemTime, later: SystemTime) -> f64 {
    milliseconds(later.duration_since(earlier).unwrap_or(Duration::ZERO))
}

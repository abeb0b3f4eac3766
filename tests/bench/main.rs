//! `make bench`: what the agent costs a host, in one table from one run. The
//! agent that is measured is the one that `FORT_AGENT_BENCH` or the argument
//! names. Nothing is asserted here; the bounds that must hold are tests.
//! `BENCH_ONLY=` one of [`PARTS`] measures that alone.
#![allow(unreachable_pub, dead_code, missing_docs, clippy::unwrap_used, clippy::panic)]
#![allow(clippy::wildcard_enum_match_arm)]

use std::path::PathBuf;
use std::process::Command;

mod clone;
mod deploy;
mod face;
mod idle;
mod push;
#[path = "../support/mod.rs"]
mod support;
mod table;

use support::big_repo::grow;
use support::forge::Forge;
use support::rig::agent;
use table::{Row, print};

/// Parts that can be measured alone, in the order of the table: deployments and starts;
/// a first clone; polls; many polls, about ten minutes of them; publishing; showing the
/// status.
const PARTS: [&str; 6] = ["deploy", "clone", "idle", "flat", "push", "face"];

fn main() {
    let named: Option<PathBuf> = std::env::args_os().nth(1).map(PathBuf::from);
    if let Some(named) = named {
        // Jobs and the harness find the agent by this alone.
        let again = Command::new(std::env::current_exe().unwrap())
            .env("FORT_AGENT_BENCH", named)
            .status()
            .unwrap();
        std::process::exit(again.code().unwrap_or(1));
    }
    eprintln!("measuring {}", agent().display());
    let only = std::env::var("BENCH_ONLY").ok();
    let wanted = |part: &str| only.as_deref().is_none_or(|only| only == part);
    if let Some(only) = only.as_deref().filter(|only| !PARTS.contains(only)) {
        eprintln!("BENCH_ONLY={only} is none of {}", PARTS.join(", "));
        std::process::exit(2);
    }
    let mut rows = Vec::new();
    // The polls are those of an agent that has deployed.
    let mut rig = None;
    if wanted("deploy") {
        eprintln!("deployments");
        let (deployed, deployments) = deploy::rows();
        rows.extend(deployments);
        rig = Some(deployed);
    }
    if wanted("clone") {
        eprintln!("clones");
        let forge = Forge::start();
        let repo = forge.repo("infra");
        grow(&repo.bare);
        rows.extend(clone::rows(&forge, &repo));
    }
    if wanted("idle") || wanted("flat") {
        let mut rig = rig.unwrap_or_else(deploy::deployed);
        if wanted("idle") {
            eprintln!("polls");
            rows.extend(idle::rows(&mut rig));
        }
        if wanted("flat") {
            eprintln!("many polls");
            rows.extend(idle::flat_rows(&mut rig));
        }
    }
    if wanted("push") {
        eprintln!("pushes");
        rows.extend(push::rows());
    }
    if wanted("face") {
        eprintln!("status and pages");
        rows.extend(face::rows());
    }
    rows.push(size());
    print(&rows);
    println!("\ncomin: {}. HTTP bytes are counted above TLS.\nmachine: {}", peer(), machine());
}

fn size() -> Row {
    let bytes = std::fs::metadata(agent()).map_or(0, |data| data.len());
    #[allow(clippy::cast_precision_loss, reason = "a handful of megabytes")]
    let megabytes = bytes as f64 / 1e6;
    Row::new("program, stripped", "MB", vec![megabytes]).target(15.0).comin(20.6)
}

fn peer() -> &'static str {
    match std::env::var_os("COMIN") {
        Some(_) => "as recorded elsewhere; COMIN names one, but this cannot run it yet",
        None => "as recorded elsewhere; nothing of it was run here",
    }
}

fn machine() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').take(3).collect::<Vec<_>>().join(" ");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} cores, load {load} at the end of the run (the run's own included)")
}

//! Cost of publishing, beside `nix copy` to the same server.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use fort_agent::core::types::StorePath;

use crate::clone::{mebibytes, milliseconds};
use crate::support::attic::Attic;
use crate::support::measure::{Cost, ran};
use crate::support::nix::ScratchStore;
use crate::support::rig::agent;
use crate::support::store_paths::{Plant, plant};
use crate::table::Row;

const RUNS: usize = 5;

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = a_system();
    rows.extend(a_chain());
    rows.extend(a_large_path());
    rows.extend(nothing_new());
    rows
}

fn size(at: usize) -> u64 {
    match at {
        0..20 => 15_000_000,
        20..80 => 2_500_000,
        _ => 330_000,
    }
}

/// 201 paths of about 490 MB in all.
fn a_system() -> Vec<Row> {
    let store = ScratchStore::new();
    let mut plants: Vec<Plant> = (0..200)
        .map(|at| {
            // Each leans on two that came long before it: some eight deep.
            let below = if at == 0 { vec![] } else { vec![at / 2, at / 3] };
            Plant::new(&format!("part{at}"), size(at), &below)
        })
        .collect();
    plants.push(Plant::new("system", 10_000, &(0..200).collect::<Vec<_>>()));
    let paths = plant(&store, &plants);
    let (mut ours, mut nixs) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        // Each has a server of its own, with nothing in it; by turns.
        let attic = Attic::start();
        ours.push(ran(&mut push(&store, &attic, &paths[200])));
        assert_eq!(attic.stored().len(), 201);
        drop(attic);
        let attic = Attic::start();
        nixs.push(ran(&mut nix_copy(&store, &attic, &paths[200])));
        assert!(attic.counts().plain >= 402, "nix copy sent too little");
    }
    let nix_took = median(nixs.iter().map(took));
    vec![
        Row::new("push of 201 paths, 490 MB", "ms", ours.iter().map(took).collect())
            .target(nix_took),
        Row::new("  nix copy of the same, uncompressed", "ms", nixs.iter().map(took).collect()),
        Row::new("  processor", "ms", ours.iter().map(|cost| cost.processor).collect())
            .target(2200.0),
        Row::new("  processor of nix copy", "ms", nixs.iter().map(|cost| cost.processor).collect()),
        Row::new("  most memory (VmHWM), 4 jobs", "MiB", ours.iter().map(peak).collect())
            .target(40.0),
        Row::new("  most memory of nix copy", "MiB", nixs.iter().map(peak).collect()),
    ]
}

/// The same in a row, each of which refers to the one before it; large and
/// small ones by turns.
fn a_chain() -> Vec<Row> {
    let store = ScratchStore::new();
    let plants: Vec<Plant> = (0..201_usize)
        .map(|at| {
            let before: Vec<usize> = at.checked_sub(1).into_iter().collect();
            Plant::new(&format!("link{at}"), size(at * 7 % 201), &before)
        })
        .collect();
    let paths = plant(&store, &plants);
    let costs: Vec<Cost> = (0..RUNS)
        .map(|_| {
            let attic = Attic::start();
            let cost = ran(&mut push(&store, &attic, &paths[200]));
            assert_eq!((attic.stored().len(), attic.holes().len()), (201, 0));
            cost
        })
        .collect();
    vec![
        Row::new("push of 201 paths in a chain, 490 MB", "ms", costs.iter().map(took).collect()),
        Row::new("  most memory (VmHWM), 4 jobs", "MiB", costs.iter().map(peak).collect())
            .target(40.0),
    ]
}

/// One path of 2 GB.
fn a_large_path() -> Vec<Row> {
    let store = ScratchStore::new();
    let paths = plant(&store, &[Plant::new("large", 2_000_000_000, &[])]);
    let costs: Vec<Cost> = (0..2)
        .map(|_| {
            let attic = Attic::start();
            ran(&mut push(&store, &attic, &paths[0]))
        })
        .collect();
    vec![
        Row::new("push of one path of 2 GB", "ms", costs.iter().map(took).collect()),
        Row::new("  most memory (VmHWM)", "MiB", costs.iter().map(peak).collect()).target(40.0),
    ]
}

/// 2,000 paths that are all there.
fn nothing_new() -> Vec<Row> {
    let store = ScratchStore::new();
    let mut plants: Vec<Plant> =
        (0..1999).map(|at| Plant::new(&format!("part{at}"), 100, &[at / 2])).collect();
    plants.push(Plant::new("system", 100, &(0..1999).collect::<Vec<_>>()));
    let paths = plant(&store, &plants);
    // As hosts have one.
    let daemon = store.daemon();
    let attic = Attic::start();
    attic.pretend(&paths.iter().map(StorePath::as_str).collect::<Vec<_>>());
    let (mut costs, mut asked) = (Vec::new(), Vec::new());
    for _ in 0..7 {
        let before = attic.counts().get_missing;
        let mut command = push_to(&store, daemon.nix().store(), &attic, &paths[1999]);
        costs.push(ran(&mut command));
        #[allow(clippy::cast_precision_loss, reason = "a handful")]
        asked.push((attic.counts().get_missing - before) as f64);
        assert_eq!(attic.counts().uploads, 0);
    }
    vec![
        Row::new("push of nothing, 2,000 paths", "ms", costs.iter().map(took).collect())
            .target(200.0),
        Row::new("  questions what is missing", "requests", asked).target(1.0),
    ]
}

fn push(store: &ScratchStore, attic: &Attic, path: &StorePath) -> Command {
    push_to(store, &store.store(), attic, path)
}

fn push_to(store: &ScratchStore, name: &str, attic: &Attic, path: &StorePath) -> Command {
    let dir = store.dir();
    let (config, token) = (dir.join("config.toml"), dir.join("token"));
    fs::write(&token, attic.token_rw()).unwrap();
    let text = format!(
        "state_dir = '{0}/state'\nrun_dir = '{0}/run'\n[activation]\nrunner = 'direct'\n\
         [[remote]]\nname = 'origin'\nurl = 'https://git.example.org/infra/nixos.git'\n\
         [nix]\nstore = '{name}'\noptions = {{ substituters = '' }}\n\
         [cache]\nendpoint = '{1}'\nname = 'fort'\ntoken_file = '{2}'\nsubstitute = false\n",
        dir.display(),
        attic.endpoint(),
        token.display(),
    );
    fs::write(&config, text).unwrap();
    let mut command = Command::new(agent());
    command.arg("--config").arg(config).arg("push").arg(path.as_str());
    command
}

fn nix_copy(store: &ScratchStore, attic: &Attic, path: &StorePath) -> Command {
    let nix = store.nix();
    // Of its own each time: it remembers what a cache of that name has.
    let cache: PathBuf = tempfile::tempdir_in(store.dir()).unwrap().keep();
    let mut command = Command::new("nix");
    command.args(["copy", "--no-check-sigs", "--to"]);
    command.arg(format!("{}?compression=none", attic.plain())).arg(path.as_str());
    command.args(["--extra-experimental-features", "nix-command"]);
    command.env_clear().envs(nix.environment()).env("XDG_CACHE_HOME", cache);
    // It names each path.
    command.stderr(Stdio::null());
    command
}

fn took(cost: &Cost) -> f64 {
    milliseconds(cost.took)
}

fn peak(cost: &Cost) -> f64 {
    mebibytes(cost.peak)
}

fn median(of: impl Iterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = of.collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

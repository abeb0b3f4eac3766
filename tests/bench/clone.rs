//! Cost of a first clone, and of a fetch of nothing new.

use std::time::Duration;

use fort_agent::git::{Limits, Request};

use crate::support::big_repo::COMMITS;
use crate::support::forge::{Forge, Repo};
use crate::support::measure::fetched;
use crate::table::Row;

const RUNS: usize = 7;

pub(crate) fn rows(forge: &Forge, repo: &Repo) -> Vec<Row> {
    let dir = tempfile::tempdir().unwrap();
    let request = |n: usize| Request {
        clone: dir.path().join(format!("clone-{n}")),
        remote: forge.remote(repo),
        branches: vec!["main".into()],
        compare: vec![],
        keep: vec![],
        reclone: false,
        submodules: false,
        limits: Limits::default(),
    };
    let all = |of: &dyn Fn(usize) -> usize| {
        let runs = (0..RUNS).map(|n| fetched(&request(of(n))));
        let costs = runs.map(|(_, took, peak)| (milliseconds(took), mebibytes(peak)));
        costs.unzip::<f64, f64, Vec<_>, Vec<_>>()
    };
    let (took, peak) = all(&|n| n);
    let (again, _) = all(&|_| 0);
    vec![
        Row::new(&format!("clone of {COMMITS} commits"), "ms", took).target(400.0).comin(747.0),
        Row::new("  its most memory (VmHWM)", "MiB", peak).target(30.0).comin(66.0),
        Row::new("fetch of nothing new", "ms", again),
    ]
}

pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(crate) fn mebibytes(kibibytes: u64) -> f64 {
    kibibytes as f64 / 1024.0
}

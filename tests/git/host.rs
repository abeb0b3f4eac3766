//! A host with a clone, and the forge that it fetches from.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fort_agent::core::types::Commit;
use fort_agent::git::{FetchError, Limits, Relation, Reply, Request, child};

use crate::support::forge::{Forge, Repo};
use crate::support::work::git;

pub(super) const EXE: &str = env!("CARGO_BIN_EXE_fort-agent");

pub(super) struct Host {
    pub(super) forge: Forge,
    pub(super) repo: Repo,
    pub(super) dir: tempfile::TempDir,
}

impl Host {
    /// A forge with three commits on `main`, and a host without a clone.
    pub(super) fn new() -> Self {
        let forge = Forge::start();
        let repo = forge.repo("infra");
        for n in 0..3 {
            repo.work.write("file", bulk(n)).commit(&format!("commit {n}"));
        }
        repo.work.push("main");
        Self { forge, repo, dir: tempfile::tempdir().unwrap() }
    }

    pub(super) fn clone(&self) -> PathBuf {
        self.dir.path().join("clone")
    }

    pub(super) fn request(&self, branches: &[&str]) -> Request {
        Request {
            clone: self.clone(),
            remote: self.forge.remote(&self.repo),
            branches: branches.iter().map(|b| (*b).to_owned()).collect(),
            compare: vec![],
            keep: vec![],
            reclone: false,
            submodules: false,
            limits: Limits::default(),
        }
    }

    pub(super) fn fetch(&self, branches: &[&str]) -> Result<Reply, FetchError> {
        run(&self.request(branches))
    }

    pub(super) fn relation(&self, older: Commit, newer: Commit) -> Relation {
        let request = Request { compare: vec![(older, newer)], ..self.request(&[]) };
        run(&request).unwrap().relations[0].relation
    }

    /// Back by two commits, here and not yet on the forge.
    pub(super) fn rewind(&self) -> Commit {
        let base = self.repo.work.git(&["rev-parse", "HEAD~2"]).parse().unwrap();
        self.repo.work.reset(base);
        base
    }

    pub(super) fn pack(&self) -> PathBuf {
        files(&self.clone().join("objects/pack")).into_iter().find(|f| ends(f, "pack")).unwrap()
    }

    /// Only whole packs, and nothing beside the clone but its lock.
    pub(super) fn assert_nothing_is_left_behind(&self) {
        for file in files(&self.clone().join("objects/pack")) {
            assert!(ends(&file, "pack") || ends(&file, "idx"), "{}", file.display());
        }
        for file in files(self.dir.path()) {
            assert!(file == self.clone() || ends(&file, "lock"), "{}", file.display());
        }
    }

    /// Checks the clone with `git fsck`.
    pub(super) fn fsck(&self) {
        git(&self.clone(), 0, &["fsck", "--strict"]);
    }
}

/// Text that does not compress to nothing: its pack is several packets long.
pub(super) fn bulk(seed: u64) -> String {
    (0..30_000).map(|i| format!("{}\n", (i + seed) * 104_729 % 1_299_709)).collect()
}

pub(super) fn run(request: &Request) -> Result<Reply, FetchError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(child::run(Path::new(EXE), request, Duration::from_secs(30)))
}

pub(super) fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(listed) = std::fs::read_dir(directory) else { return vec![] };
    listed.map(|entry| entry.unwrap().path()).collect()
}

pub(super) fn ends(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|e| e == extension)
}

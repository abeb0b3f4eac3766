//! Publishing to a cache: the real store at one end, a faithful Attic server at
//! the other.

use std::cell::RefCell;
use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use fort_agent::core::job::{PublishOutcome, PublishProgress};
use fort_agent::core::types::StorePath;
use fort_agent::publish::{PublishLimits, Settings, publish};

use crate::support::attic::{Attic, CACHE};
use crate::support::nix::ScratchStore;
use crate::support::store_paths::{Plant, plant};

mod command;
mod faults;
mod interrupted;
mod refused;
mod shared;
mod whole;

/// A store, a server, and a token between them.
struct Bench {
    store: ScratchStore,
    attic: Attic,
}

impl Bench {
    fn new() -> Self {
        Self::with(Attic::start())
    }

    fn with(attic: Attic) -> Self {
        let bench = Self { store: ScratchStore::new(), attic };
        bench.token(&bench.attic.token_rw());
        bench
    }

    fn token_file(&self) -> PathBuf {
        self.store.dir().join("token")
    }

    fn token(&self, token: &str) {
        fs::write(self.token_file(), format!("{token}\n")).unwrap();
    }

    fn settings(&self) -> Settings {
        Settings {
            endpoint: self.attic.endpoint(),
            name: CACHE.into(),
            token_file: self.token_file(),
            upstream_keys: Vec::new(),
            jobs: 4,
        }
    }

    fn push(&self, paths: &[StorePath]) -> PublishOutcome {
        self.push_with(&self.settings(), paths)
    }

    fn push_with(&self, settings: &Settings, paths: &[StorePath]) -> PublishOutcome {
        self.push_until(settings, paths, |_| {}, std::future::pending())
    }

    fn push_until(
        &self,
        settings: &Settings,
        paths: &[StorePath],
        progress: impl FnMut(&PublishProgress),
        cancel: impl Future<Output = ()>,
    ) -> PublishOutcome {
        self.push_within(&PublishLimits::JOB, settings, paths, progress, cancel)
    }

    fn push_within(
        &self,
        limits: &PublishLimits,
        settings: &Settings,
        paths: &[StorePath],
        progress: impl FnMut(&PublishProgress),
        cancel: impl Future<Output = ()>,
    ) -> PublishOutcome {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let within = Duration::from_secs(120);
        let nix = self.store.nix();
        runtime.block_on(async {
            let push = publish(&nix, settings, limits, paths, progress, cancel);
            tokio::time::timeout(within, push).await.expect("a push ends")
        })
    }

    /// Paths in a row, each of which refers to the one before it.
    fn chain(&self, length: usize, size: u64) -> Vec<StorePath> {
        let plants: Vec<Plant> = (0..length)
            .map(|at| {
                Plant::new(
                    &format!("link{at}"),
                    size,
                    &at.checked_sub(1).into_iter().collect::<Vec<_>>(),
                )
            })
            .collect();
        plant(&self.store, &plants)
    }

    /// Paths that one more refers to, which is the last.
    fn star(&self, points: usize, size: u64) -> Vec<StorePath> {
        let point = |at| Plant::new(&format!("point{at}"), size, &[]);
        let mut plants: Vec<Plant> = (0..points).map(point).collect();
        plants.push(Plant::new("star", size, &(0..points).collect::<Vec<_>>()));
        plant(&self.store, &plants)
    }

    /// The server holds all of these.
    fn has(&self, paths: &[StorePath]) -> bool {
        let stored = self.attic.stored();
        paths.iter().all(|path| stored.iter().any(|stored| stored == path.as_str()))
    }

    /// The server holds nothing that it lacks the references of, and never did.
    fn is_closed(&self) -> bool {
        let stored = self.attic.stored();
        let uploads = self.attic.upload_log();
        let mut there = uploads.iter().filter(|upload| stored.contains(&upload.store_path));
        self.attic.holes().is_empty()
            && there.all(|upload| {
                let there = |reference: &String| {
                    stored.iter().any(|path| path.ends_with(&format!("/{reference}")))
                };
                upload.references.iter().all(there)
            })
    }
}

fn cause(outcome: &PublishOutcome) -> &str {
    outcome.cause.as_deref().unwrap_or("(none)")
}

/// Progress reports in the order in which they came.
#[derive(Default)]
struct Heard(RefCell<Vec<PublishProgress>>);

impl Heard {
    fn listen(&self) -> impl FnMut(&PublishProgress) {
        |progress| self.0.borrow_mut().push(progress.clone())
    }
}

//! Gives the cluster's cache what it lacks of a system: what `fort-agent push`
//! and the publish job do.
//!
//! What the cache has confirmed is never sent again, for it is asked each time
//! what it lacks, and again while it is sent to. What fails for a moment is
//! tried again; a path that keeps failing is left out, with all that refers to
//! it; and a cache that fails for every path ends the whole.

mod limits;
mod plan;
mod send;
mod tally;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::pin::pin;
use std::time::Instant;

use serde::{Deserialize, Serialize};

pub use self::limits::PublishLimits;
use self::plan::Queue;
use self::send::Sending;
use self::tally::Tally;
use crate::attic::{Attic, AtticFailed};
use fort_core::job::{PublishOutcome, PublishPhase, PublishProgress};
use fort_core::types::StorePath;
use fort_nix::Nix;
use fort_nix::store::{Closure, Store, StoreFailed};
use fort_sys::jitter;

/// Cache that is published to, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Address of the server, without a `/` at its end.
    pub endpoint: String,
    /// Name of the cache on the server.
    pub name: String,
    /// File that holds the token; read at every use.
    pub token_file: PathBuf,
    /// Names of keys whose paths the cache need not have, besides those that it lists itself.
    pub upstream_keys: Vec<String>,
    /// Number of paths that are sent at the same time.
    pub jobs: u32,
}

/// Reason for which nothing could be published, or nothing more.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Cache(#[from] AtticFailed),
    #[error("the Nix store cannot be asked: {0}")]
    Store(#[from] StoreFailed),
    #[error("{} is not in the store", .0.base_name())]
    NotThere(StorePath),
}

/// Publishes what these paths refer to, directly or not, themselves included.
/// Calls `progress` whenever something changed, a few times a second at most.
/// When `cancel` becomes ready it ends at once: what the cache has confirmed is
/// there, the rest is left.
pub async fn publish(
    nix: &Nix,
    settings: &Settings,
    limits: &PublishLimits,
    paths: &[StorePath],
    mut progress: impl FnMut(&PublishProgress),
    cancel: impl Future<Output = ()>,
) -> PublishOutcome {
    let began = Instant::now();
    let tally = Tally::default();
    let ended = {
        let mut work = pin!(work(nix, settings, limits, paths, &tally));
        let mut cancel = pin!(cancel);
        let mut ticks = tokio::time::interval(send::PACE);
        let mut told = None;
        loop {
            tokio::select! {
                ended = &mut work => break Some(ended),
                () = &mut cancel => break None,
                _ = ticks.tick() => {
                    let now = tally.progress();
                    if told.as_ref() != Some(&now) {
                        progress(told.insert(now));
                    }
                }
            }
        }
    };
    progress(&tally.progress());
    let cause = match &ended {
        None => None,
        Some(Ok(())) => tally.cause(),
        Some(Err(failed)) => Some(failed.to_string()),
    };
    let took = began.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
    tally.outcome(cause, ended.is_none(), took)
}

async fn work(
    nix: &Nix,
    settings: &Settings,
    limits: &PublishLimits,
    paths: &[StorePath],
    tally: &Tally,
) -> Result<(), Failed> {
    let attic = Attic::new(&settings.endpoint, &settings.name, settings.token_file.clone())?;
    // While this is connected nothing of it is collected as garbage.
    let mut store = Store::of(nix);
    for path in paths {
        store.keep(path).await?;
    }
    let closure = store.closure(paths).await?;
    if let Some(missing) = closure.missing.first() {
        return Err(Failed::NotThere(missing.clone()));
    }
    let missing = missing(&attic, settings, limits, &closure, tally).await?;
    tally.will_send(missing.iter().filter_map(|path| closure.paths.get(*path)));
    let began = Instant::now();
    let seed = jitter::seed();
    let queue = Queue::new(&missing, &closure.paths, *limits, seed, began.elapsed());
    let sending = Sending {
        attic: &attic,
        nix,
        store: nix.store_root(),
        infos: &closure.paths,
        jobs: settings.jobs.try_into().unwrap_or(1),
        limits: *limits,
        tally,
        began,
    };
    sending.all(queue).await?;
    drop(store);
    Ok(())
}

/// Returns the paths of the closure that the cache is to have, and lacks.
async fn missing<'a>(
    attic: &Attic,
    settings: &Settings,
    limits: &PublishLimits,
    closure: &'a Closure,
    tally: &Tally,
) -> Result<BTreeSet<&'a StorePath>, Failed> {
    tally.phase(PublishPhase::Asking);
    let config = send::persistently(attic, limits, tally, || attic.config()).await?;
    if config.store_dir != "/nix/store" {
        return Err(AtticFailed::OtherStore { theirs: config.store_dir }.into());
    }
    let upstream = config.upstream_cache_key_names.into_iter();
    let upstream: BTreeSet<String> = upstream.chain(settings.upstream_keys.clone()).collect();
    let own = plan::own(&closure.paths, &upstream);
    let hashes: Vec<&str> = own.iter().map(|path| path.hash()).collect();
    if hashes.is_empty() {
        return Ok(BTreeSet::new());
    }
    let missing = send::persistently(attic, limits, tally, || attic.missing(&hashes)).await?;
    Ok(own.into_iter().filter(|path| missing.contains(path.hash())).collect())
}

//! Builds a derivation, or fetches what it would build: the second half of
//! realising. It knows no commit: a derivation's name is all that it gets.
//!
//! `nix-store --realise` is what Nix from 2.8 to 2.34 has in common; `nix build`
//! names the outputs of a derivation otherwise in each.

use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::Instant;

use super::course::{Course, broken};
use super::log::Failure;
use super::realise::RealiseOutcome;
use super::{Nix, Progress, executable, roots};
use crate::store::{Store, StoreFailed};
use fort_core::types::StorePath;
use fort_sys::error_chain;

/// Time limit of a request to the store about what it has.
const QUICK: Duration = Duration::from_secs(60);

/// Result of building a derivation.
pub(super) enum Build {
    /// The build ended with an outcome that says something of the system.
    Ended(RealiseOutcome),
    /// The derivation is not in the store any more: it has to be evaluated again.
    Lost,
}

/// Builds the system of a derivation, as this Nix fetches and builds, and makes
/// `out_link` its root.
pub(super) async fn build(
    nix: &Nix,
    drv: &StorePath,
    out_link: &Path,
    deadline: Instant,
    course: &mut Course<impl FnMut(Progress)>,
    cancel: Pin<&mut impl Future<Output = ()>>,
) -> Build {
    course.evaluated();
    let command = nix
        .realising()
        .arg(format!("{drv}!out"))
        .arg("--add-root")
        .arg(out_link)
        .args(["--log-format", "internal-json"])
        .time_limit(deadline.saturating_duration_since(Instant::now()));
    let done = match course.run(&command, cancel).await {
        Ok(done) => done,
        Err(outcome) => return Build::Ended(outcome),
    };
    if done.end.success() {
        return Build::Ended(built(nix, drv, out_link));
    }
    let failure = course.failure();
    if failure.drv.is_none() {
        // No builder has failed: the derivation may be gone, or the store.
        match Store::of(nix).with_limit(QUICK).is_valid(drv).await {
            Ok(true) => {}
            Ok(false) => return Build::Lost,
            Err(_) => {
                let Failure { cause, .. } = failure;
                return Build::Ended(broken(format!("the store cannot be reached: {cause}")));
            }
        }
    }
    Build::Ended(course.not_built(failure))
}

/// Keeps a derivation in the store for as long as the value lives, where a daemon
/// listens. One that has to be started costs more than it is worth: there nothing
/// but [`Build::Lost`] is left, for the moment until Nix itself keeps it.
/// `None`: it is gone already.
pub(super) async fn hold(nix: &Nix, drv: &StorePath) -> Result<Option<Store>, StoreFailed> {
    let mut store = Store::of(nix).with_limit(QUICK);
    let there = !store.listens() || store.hold(drv).await?;
    Ok(there.then_some(store))
}

fn built(nix: &Nix, drv: &StorePath, out_link: &Path) -> RealiseOutcome {
    let system = match roots::kept(out_link) {
        Ok(Some(system)) => system,
        Ok(None) => return broken(format!("nix made no link {}", out_link.display())),
        Err(error) => return broken(error_chain::line(&error)),
    };
    let switch = Path::new(system.as_str()).join("bin/switch-to-configuration");
    if !nix.store_root().resolve(&switch).is_ok_and(|file| executable(&file)) {
        let cause = format!("{system} is not a system: no bin/switch-to-configuration");
        return RealiseOutcome::EvaluationFailed { cause, tail: String::new() };
    }
    RealiseOutcome::Built { system, drv: drv.clone() }
}

//! Frees the lock of `switch-to-configuration` for the guardian: finds the processes that
//! hold it, and does to them what `core::guardian::lock` says.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::recovery;
use crate::core::guardian::lock::{About, Claim, Lock, Whom};
use crate::flock::{self, Holder};
use crate::switch_lock;

/// Largest number of processes that are named.
const MOST_NAMED: usize = 4;
/// Limit for all that are killed together: a process that is left is passed by, or waited for.
const ALL_KILLED: Duration = Duration::from_secs(10);

/// Result of freeing the lock.
#[derive(Debug, Default)]
pub(super) struct Freed {
    /// Processes that held the lock and were ended or passed by, each in words.
    pub(super) told: Vec<String>,
    /// Process that holds the lock still, if one does.
    pub(super) left: Lock,
    /// Former file of the lock, to be kept: see [`switch_lock::renew`].
    pub(super) before: Option<File>,
}

/// A process that holds the lock.
struct Found {
    holder: Holder,
    /// Whether its unit is over, as far as systemd knows.
    over: bool,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let over = if self.over { ", which is over" } else { "" };
        write!(f, "{}{over}", self.holder)
    }
}

/// Takes the lock from processes that may lose it. Best effort: one that holds it still
/// is met by the program that needs it. `units`: whether systemd is asked about their
/// units.
pub(super) async fn free(root: &Path, whom: Whom, units: bool) -> Freed {
    let mut freed = Freed::default();
    let mut found = match find(root, units).await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(%error, "who holds the lock of switch-to-configuration is not known");
            freed.left = Lock::Unknown;
            return freed;
        }
    };
    let mut about = whom.about(&claims(&found));
    if about == About::End {
        end(root, &found, &mut freed.told).await;
        found = find(root, units).await.unwrap_or(found);
        // Who holds it in spite of that is not killed a second time.
        about = Whom::Strangers.about(&claims(&found));
    }
    let done = match about {
        About::Leave | About::End => {
            freed.left = held(&found);
            return freed;
        }
        About::Renew => switch_lock::renew(root).map(|before| freed.before = before),
        About::PassBy => {
            for found in found.iter().take(MOST_NAMED) {
                tracing::warn!("{found} holds the lock of switch-to-configuration: passed by");
                freed.told.push(format!("{found} held the lock and was passed by"));
            }
            switch_lock::pass_by(root)
        }
    };
    if let Err(error) = done {
        tracing::warn!(%error, "the lock of switch-to-configuration could not be made private");
    }
    freed
}

/// Returns which process holds the lock at this moment.
pub(super) async fn look(root: &Path, units: bool) -> Lock {
    match find(root, units).await {
        Ok(found) => held(&found),
        Err(_) => Lock::Unknown,
    }
}

/// Names the first of the holders; as a rule the others have inherited the lock.
fn held(found: &[Found]) -> Lock {
    found.first().map_or(Lock::Free, |found| Lock::Held(found.to_string()))
}

fn claims(found: &[Found]) -> Vec<Claim> {
    found.iter().map(|found| Claim { root: found.holder.is_root(), over: found.over }).collect()
}

async fn find(root: &Path, units: bool) -> io::Result<Vec<Found>> {
    let mut over: BTreeMap<String, bool> = BTreeMap::new();
    let mut found = Vec::new();
    for holder in flock::holders(&switch_lock::path(root))? {
        // Whoever has no rights has no claim either, whatever systemd says.
        let unit = holder.system_unit.as_ref().filter(|_| units && holder.is_root());
        let over = match unit {
            Some(unit) => match over.get(unit) {
                Some(known) => *known,
                None => {
                    let is_over = recovery::is_over(unit).await;
                    over.insert(unit.clone(), is_over);
                    is_over
                }
            },
            None => false,
        };
        found.push(Found { holder, over });
    }
    Ok(found)
}

async fn end(root: &Path, found: &[Found], told: &mut Vec<String>) {
    let deadline = Instant::now() + ALL_KILLED;
    for found in found {
        tracing::warn!("{found} holds the lock of switch-to-configuration: killing it");
        match timeout_at(deadline, found.holder.end(&switch_lock::path(root))).await {
            Ok(Ok(true)) if told.len() < MOST_NAMED => {
                told.push(format!("{found} held the lock and was killed"));
            }
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => tracing::error!("{found} does not die"),
            Ok(Err(error)) => tracing::error!(%error, "{found} could not be killed"),
            Err(_) => return,
        }
    }
}

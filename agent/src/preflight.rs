//! Whether a system may be built and activated on this host: looked at before
//! anything is touched.
//!
//! A refusal rests on something that was found. What cannot be found out, such
//! as what a daemon that is away would say, refuses nothing: it is an error
//! here and a warning in the log, and the build or the switch itself will say
//! what is wrong.

mod boot;
mod room;

use std::collections::BTreeMap;
use std::io::ErrorKind::{NotADirectory, NotFound};
use std::path::Path;

use anyhow::Context as _;

pub use self::room::{Need, no_room, room};
use crate::core::job::{Refusal, RefusalCause};
use crate::core::types::StorePath;
use crate::nix::{Nix, StoreRoot};
use crate::store::Store;

/// The unit without which nothing would follow the branch any more.
const AGENT: &str = "etc/systemd/system/fort-agent.service";
/// The units without which there would be no other system any more.
const NIX: [&str; 2] =
    ["etc/systemd/system/nix-daemon.socket", "etc/systemd/system/nix-daemon.service"];
/// Largest number of missing paths that are named.
const MOST_NAMED: usize = 10;

/// System that is to be activated, with the host to activate it on.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Prefix of the host's own paths.
    pub root: &'a Path,
    /// Root below which the store's paths really are.
    pub store: &'a StoreRoot,
    /// How Nix is run.
    pub nix: &'a Nix,
    /// System that is to be activated.
    pub system: &'a StorePath,
    /// The system that runs now.
    pub running: Option<&'a StorePath>,
    /// The system that boots now.
    pub default: Option<&'a StorePath>,
    /// Whether the system must have an agent, and the Nix that this one has.
    pub needs_agent: bool,
    /// Whether the system is to become the boot default: what is only tried takes no room
    /// on /boot.
    pub writes_boot: bool,
}

/// Checks whether a system may be activated, and returns why not.
pub async fn before_switch(candidate: &Candidate<'_>) -> anyhow::Result<Result<(), Refusal>> {
    let looks = [
        // First: what is not there at all has neither unit nor kernel.
        closure_complete(candidate).await,
        if candidate.needs_agent { has_agent(candidate) } else { Ok(Ok(())) },
        if candidate.needs_agent { keeps_nix(candidate) } else { Ok(Ok(())) },
        if candidate.writes_boot { boot_room(candidate) } else { Ok(Ok(())) },
    ];
    // One look that fails hides nothing that the others found.
    let mut unknown = None;
    for look in looks {
        match look {
            Ok(Ok(())) => {}
            Ok(Err(refusal)) => return Ok(Err(refusal)),
            Err(error) => unknown = Some(unknown.unwrap_or(error)),
        }
    }
    unknown.map_or(Ok(Ok(())), Err)
}

/// Whether there is room for the kernel and initrd where the boot loader reads
/// them. Fine where that is no file system of its own.
pub fn boot_room(candidate: &Candidate<'_>) -> anyhow::Result<Result<(), Refusal>> {
    boot::room(candidate).context("cannot look for room where the boot loader reads")
}

/// Whether the system has the agent's unit, enabled.
pub fn has_agent(candidate: &Candidate<'_>) -> anyhow::Result<Result<(), Refusal>> {
    let system = candidate.system;
    if has_unit(candidate, system, AGENT)? {
        return Ok(Ok(()));
    }
    Ok(Err(Refusal {
        cause: RefusalCause::NoAgent,
        detail: format!(
            "{} has no enabled fort-agent.service: nothing would follow the branch any more",
            system.base_name()
        ),
        evidence: evidence([("system", system.to_string()), ("unit", AGENT.into())]),
    }))
}

/// Whether the system has a Nix daemon, if the one that runs has one: NixOS leaves it
/// away with `nix.enable = false`, and its agent would have nothing to build with.
pub fn keeps_nix(candidate: &Candidate<'_>) -> anyhow::Result<Result<(), Refusal>> {
    let Some(running) = candidate.running else { return Ok(Ok(())) };
    let has_one = |system| -> anyhow::Result<bool> {
        Ok(has_unit(candidate, system, NIX[0])? || has_unit(candidate, system, NIX[1])?)
    };
    let system = candidate.system;
    if !has_one(running)? || has_one(system)? {
        return Ok(Ok(()));
    }
    Ok(Err(Refusal {
        cause: RefusalCause::NoAgent,
        detail: format!(
            "{} has no nix-daemon.service, which the running system has: its agent could get no \
             other system any more (nix.enable = false?)",
            system.base_name()
        ),
        evidence: evidence([("system", system.to_string()), ("unit", NIX[1].into())]),
    }))
}

/// Whether a system has this unit, enabled.
fn has_unit(candidate: &Candidate<'_>, system: &StorePath, unit: &str) -> anyhow::Result<bool> {
    let unit = Path::new(system.as_str()).join(unit);
    let found = match candidate.store.resolve(&unit) {
        // NixOS links a unit that is not enabled to /dev/null.
        Ok(file) => file.metadata().map(|data| data.is_file()),
        Err(error) => Err(error),
    };
    match found {
        Ok(enabled) => Ok(enabled),
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot look for {}", unit.display())),
    }
}

/// Whether everything that the system refers to is there: in the store's own
/// books, and on disk.
///
/// Of each path only the top is looked for. What was deleted or lost by hand
/// is found so, and by nobody else: the store believes its books.
pub async fn closure_complete(candidate: &Candidate<'_>) -> anyhow::Result<Result<(), Refusal>> {
    let system = candidate.system;
    let asked = Store::of(candidate.nix).closure(std::slice::from_ref(system)).await;
    let closure = asked.with_context(|| format!("cannot ask what {system} refers to"))?;
    let many = closure.paths.len() + closure.missing.len();
    let root = candidate.store.clone();
    // Some thousand looks at a disk that may be slow, or asleep.
    let look = tokio::task::spawn_blocking(move || -> anyhow::Result<Vec<StorePath>> {
        let mut lost: Vec<StorePath> = closure.missing.into_iter().collect();
        for path in closure.paths.into_keys() {
            match root.physical(&path).symlink_metadata() {
                Ok(_) => {}
                Err(error) if matches!(error.kind(), NotFound | NotADirectory) => lost.push(path),
                Err(error) => return Err(error).with_context(|| format!("cannot look for {path}")),
            }
        }
        Ok(lost)
    });
    let lost = look.await.context("the look was broken off")??;
    if lost.is_empty() {
        return Ok(Ok(()));
    }
    let named: Vec<&str> = lost.iter().take(MOST_NAMED).map(StorePath::as_str).collect();
    Ok(Err(Refusal {
        cause: RefusalCause::IncompleteClosure,
        detail: format!(
            "{} of the {many} store paths that {} consists of are not there, such as {}",
            lost.len(),
            system.base_name(),
            lost[0].base_name()
        ),
        evidence: evidence([
            ("system", system.to_string()),
            ("paths", many.to_string()),
            ("lost", lost.len().to_string()),
            ("such_as", named.join(" ")),
        ]),
    }))
}

fn evidence<const N: usize>(pairs: [(&str, String); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

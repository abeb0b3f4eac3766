//! Requests of a person about when something is activated, and about going back.

use std::time::Duration;

use super::{Answered, Prefix};
use crate::gates::{Back, Suspended, WentBack};
use crate::job::JobKind;
use crate::memory::Memory;
use crate::observed::Seen;
use crate::plain::clean;
use crate::policy::{Confirm, Policy};
use crate::types::{Now, StorePath};

/// Longest suspension that ends by itself. A longer one is a slip of the pen.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
/// Largest part of a person's reason that is kept, in characters.
const REASON: usize = 200;

/// Lets exactly this commit be activated.
pub(super) fn confirm(prefix: &Prefix, policy: &Policy, memory: &Memory) -> Answered {
    if policy.confirm == Confirm::No {
        return Err("no commit has to be confirmed: activation.confirm is \"no\"".into());
    }
    let Some(target) = &memory.target else {
        return Err(format!("{prefix} is not pending; nothing is"));
    };
    let commit = target.commit.short();
    // In force, and another hand has switched away from it: it may be pending.
    let asks = memory.gates.pending.as_ref().is_some_and(|p| p.commit == target.commit);
    let in_force = memory.has_settled(target) && !asks;
    if !prefix.matches(target.commit) {
        return Err(match in_force {
            true => format!("{prefix} is not pending; {commit} is in force, and nothing is"),
            false => format!(
                "{prefix} is not what is pending now; {commit} is: fort-agent confirm {commit}"
            ),
        });
    }
    if in_force {
        return Err(format!("{commit} is in force already"));
    }
    let mut memory = memory.clone();
    memory.gates.confirm(target.commit);
    Ok((memory, format!("{commit} is confirmed")))
}

/// Suspends deployments: nothing is activated until that is over.
pub(super) fn suspend(
    reason: &str,
    lasts: Option<Duration>,
    memory: &Memory,
    seen: &Seen,
    now: Now,
) -> Answered {
    let lasts = match lasts {
        Some(Duration::ZERO) => return Err("a suspension has to last for some time".into()),
        Some(lasts) if lasts > LONGEST => {
            return Err("a suspension that ends by itself lasts at most 365 days".into());
        }
        Some(lasts) => Some(u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX)),
        None => None,
    };
    let suspended = Suspended {
        reason: words(reason),
        since: now.wall,
        lasts,
        boot_id: seen.boot_id.clone(),
        at: now.mono,
    };
    let until = suspended.until(seen, now);
    let mut memory = memory.clone();
    memory.gates.suspended = Some(suspended);
    let said = match until {
        Some(until) => format!("suspended until {until}; fort-agent resume ends it before"),
        None => "suspended until fort-agent resume".into(),
    };
    Ok((memory, said))
}

/// Ends a suspension: a system that is ready is activated again.
pub(super) fn resume(memory: &Memory) -> Answered {
    let mut memory = memory.clone();
    let said = match memory.gates.suspended.take() {
        Some(_) => "resumed",
        None => "nothing was suspended",
    };
    Ok((memory, said.into()))
}

/// Goes back to an earlier good system; the one that is left is not activated again.
pub(super) fn rollback(
    to: Option<&Prefix>,
    reason: &str,
    memory: &Memory,
    seen: &Seen,
    now: Now,
) -> Answered {
    let way = way_back(to, memory, seen)?;
    let named = |system| match memory.commit_of(system) {
        Some(commit) => commit.short(),
        None => system.to_string(),
    };
    let (left, goal) = (named(way.left), named(way.to));
    // Whoever types it twice means it once.
    let lately =
        memory.gates.went_back.as_ref().is_some_and(|last| {
            last.boot_id == seen.boot_id && now.mono.since(last.at) < ONCE_MORE
        });
    if to.is_none() && lately {
        return Err(format!(
            "it was rolled back less than a minute ago; to go on to {goal}, name it: fort-agent \
             rollback {goal}"
        ));
    }
    let what = if way.deferral { "the default goes back" } else { "going back" };
    let said = format!(
        "{what} from {left} to {goal}; the former stays quarantined until fort-agent retry"
    );
    let (left, to, deferral) = (way.left.clone(), way.to.clone(), way.deferral);
    let back = Back { left, to, reason: words(reason), deferral };
    let mut memory = memory.clone();
    memory.gates.back = Some(back);
    memory.gates.went_back = Some(WentBack { boot_id: seen.boot_id.clone(), at: now.mono });
    Ok((memory, said))
}

/// Time within which a rollback without a commit is not repeated.
const ONCE_MORE: Duration = Duration::from_secs(60);

/// System that is left, and the one that is gone back to.
struct WayBack<'a> {
    left: &'a StorePath,
    to: &'a StorePath,
    /// Whether the system that is left only awaits its boot.
    deferral: bool,
}

fn way_back<'a>(
    wanted: Option<&Prefix>,
    memory: &'a Memory,
    seen: &'a Seen,
) -> Result<WayBack<'a>, String> {
    if let Some(unseen) = seen.blind() {
        return Err(format!("this host cannot be looked at: {unseen}"));
    }
    if seen.jobs.iter().any(|job| job.id.kind == JobKind::Switch) {
        return Err("a deployment is being activated, which puts back by itself what does not \
                    work: wait for its verdict"
            .into());
    }
    let good = [&memory.last_good, &memory.good_before].into_iter().flatten();
    let good = good.map(|good| &good.system);
    if let Some(awaiting) = &memory.awaiting {
        if awaiting.boot_id != seen.boot_id {
            return Err("a system has had its first boot and is being judged: wait for its \
                        verdict"
                .into());
        }
        // Where it is booted once the default is another one already.
        let before = awaiting.kept.iter().chain(good).chain(&seen.running);
        let to = chosen(wanted, before.filter(|it| **it != awaiting.system), memory)?;
        let (left, deferral) = (&awaiting.system, true);
        return there(WayBack { left, to, deferral }, seen);
    }
    let running = seen.running.as_ref().ok_or("nothing runs")?;
    let settled = memory.settled.as_ref().map(|settled| &settled.system);
    if memory.put.as_ref() != Some(running) && settled != Some(running) {
        return Err(format!(
            "{running} was put there by another hand, which has to undo it: this agent can only \
             leave what it has put there itself"
        ));
    }
    if let Some(prefix) = wanted.filter(|prefix| is_of(running, prefix, memory)) {
        return Err(format!("{prefix} runs already"));
    }
    let to = chosen(wanted, good.filter(|good| *good != running), memory)?;
    there(WayBack { left: running, to, deferral: false }, seen)
}

fn there<'a>(way: WayBack<'a>, seen: &Seen) -> Result<WayBack<'a>, String> {
    match seen.has(way.to) {
        true => Ok(way),
        false => Err(format!("{} is no longer in the store", way.to)),
    }
}

/// Returns the first of the systems, or the one that is of the commit that was named.
fn chosen<'a>(
    wanted: Option<&Prefix>,
    systems: impl Iterator<Item = &'a StorePath>,
    memory: &Memory,
) -> Result<&'a StorePath, String> {
    let systems: Vec<&StorePath> = systems.collect();
    let Some(first) = systems.first() else {
        return Err("no good system before this one is known".into());
    };
    let Some(prefix) = wanted else { return Ok(first) };
    let of_it = systems.iter().find(|system| is_of(system, prefix, memory));
    of_it.copied().ok_or_else(|| {
        let mut known: Vec<String> = Vec::new();
        for commit in systems.iter().filter_map(|system| memory.commit_of(system)) {
            if !known.contains(&commit.short()) {
                known.push(commit.short());
            }
        }
        match &known[..] {
            [] => format!("{prefix} is no good system that is known"),
            known => {
                format!("{prefix} is no good system that is known; there is {}", known.join(", "))
            }
        }
    })
}

fn is_of(system: &StorePath, prefix: &Prefix, memory: &Memory) -> bool {
    let mut known = memory.systems.iter().filter(|known| known.system == *system);
    known.any(|known| prefix.matches(known.commit))
}

/// Returns one line of a person's words.
fn words(reason: &str) -> String {
    clean(reason).chars().take(REASON).collect::<String>().trim().to_owned()
}

//! What a person can say about when something is activated, and about going back.

use std::time::Duration;

use super::{Answered, Prefix};
use crate::core::gates::{Back, Suspended};
use crate::core::job::Kind;
use crate::core::memory::Memory;
use crate::core::plain::clean;
use crate::core::policy::{Confirm, Policy};
use crate::core::seen::Seen;
use crate::core::types::{Now, StorePath};

/// The longest suspension that ends by itself. Longer is a slip of the pen.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
/// What is kept of a person's reason, in characters.
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

/// Nothing is activated until that is over.
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

/// What is ready is activated again.
pub(super) fn resume(memory: &Memory) -> Answered {
    let mut memory = memory.clone();
    let said = match memory.gates.suspended.take() {
        Some(_) => "resumed",
        None => "nothing was suspended",
    };
    Ok((memory, said.into()))
}

/// Back to the last good system before this one, which is not activated again.
pub(super) fn rollback(reason: &str, memory: &Memory, seen: &Seen) -> Answered {
    let (left, to) = way_back(memory, seen)?;
    let commit = |system| match memory.commit_of(system) {
        Some(commit) => commit.short(),
        None => system.to_string(),
    };
    let said = format!(
        "going back from {} to {}; the former stays quarantined until fort-agent retry",
        commit(left),
        commit(to)
    );
    let back = Back { left: left.clone(), to: to.clone(), reason: words(reason) };
    let mut memory = memory.clone();
    memory.gates.back = Some(back);
    Ok((memory, said))
}

/// What is left, and what is gone back to.
fn way_back<'a>(
    memory: &'a Memory,
    seen: &'a Seen,
) -> Result<(&'a StorePath, &'a StorePath), String> {
    if let Some(unseen) = seen.blind() {
        return Err(format!("this host cannot be looked at: {unseen}"));
    }
    if seen.jobs.iter().any(|job| job.id.kind == Kind::Switch) {
        return Err("a deployment is being activated, which puts back by itself what does not \
                    work: wait for its verdict"
            .into());
    }
    if memory.awaiting.is_some() {
        return Err(
            "a system awaits its first boot: reboot into it first, or push another commit".into()
        );
    }
    let running = seen.running.as_ref().ok_or("nothing runs")?;
    let settled = memory.settled.as_ref().map(|settled| &settled.system);
    if memory.put.as_ref() != Some(running) && settled != Some(running) {
        return Err(format!(
            "{running} was put there by another hand, which has to undo it: this agent can only \
             leave what it has put there itself"
        ));
    }
    let good = [&memory.last_good, &memory.good_before].into_iter().flatten();
    let to = good.map(|good| &good.system).find(|good| *good != running);
    let to = to.ok_or("no good system before this one is known")?;
    if !seen.has(to) {
        return Err(format!("{to} is no longer in the store"));
    }
    Ok((running, to))
}

/// One line of a person's words.
fn words(reason: &str) -> String {
    clean(reason).chars().take(REASON).collect::<String>().trim().to_owned()
}

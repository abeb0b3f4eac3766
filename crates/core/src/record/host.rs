//! Changes of the host that no job made: boots, and the hands of others.

use super::endings::{end, learn_ended, learn_failure};
use crate::job::{Ending, JobKind};
use crate::memory::{Awaiting, Memory, Settled, Subject, Unproven};
use crate::observed::{Seen, Work};
use crate::policy::Policy;
use crate::types::Now;

/// On a first start the running system is adopted as the last good one; while a
/// switch is under way, the one that it puts back if it has to.
pub(super) fn adopt_running(memory: &mut Memory, seen: &Seen) {
    let switching = seen.jobs.iter().find_map(|job| match &job.work {
        Work::Switch { order, outcome: None, .. } => Some(&order.old),
        Work::Switch { .. } | Work::Realise { .. } | Work::Publish { .. } => None,
        Work::Unreadable => None,
    });
    if let Some(good) = switching.unwrap_or(&seen.running) {
        memory.learn_good(good, false);
        memory.put = Some(good.clone());
    }
}

/// Records a boot. The system that runs after it was not switched to by hand if it is
/// the default, the last good one, or was to be booted once.
pub(super) fn fold_boot(memory: &mut Memory, seen: &Seen) {
    memory.boot_id = Some(seen.boot_id.clone());
    let running = seen.running.as_ref();
    let profile = seen.profile.as_ref().map(|generation| &generation.system);
    let last_good = memory.last_good.as_ref().map(|good| &good.system);
    let once = memory.booted_once(seen);
    if running.is_some() && (running == profile || running == last_good || once) {
        memory.put = running.cloned();
    }
    // It was to be booted once, and in the meantime something else came: that
    // is brought about again.
    if once && memory.awaiting.as_ref().is_none_or(|a| Some(&a.system) != running) {
        memory.settled.take_if(|settled| !settled.left && Some(&settled.system) != running);
    }
}

/// Remembers a system in force that needs a reboot, and forgets it when another one runs.
pub(super) fn fold_unproven(memory: &mut Memory, seen: &Seen) {
    let gone = |unproven: &mut Unproven| seen.running.as_ref() != Some(&unproven.system);
    memory.unproven.take_if(gone);
    let (Some(target), Some(_)) = (&memory.target, &seen.reboot_why) else { return };
    let Some(good) = memory.last_good.as_ref().map(|good| &good.system) else { return };
    let default = seen.profile.as_ref().map(|generation| &generation.system);
    let in_force = seen.running.as_ref() == Some(good) && default == Some(good);
    let settled = memory.settled.as_ref().is_some_and(|s| s.system == *good && !s.left);
    let lasts = target.operation.sets_default() && settled && memory.has_settled(target);
    if in_force && lasts && memory.unproven.is_none() {
        memory.unproven = Some(Unproven {
            system: good.clone(),
            target: target.clone(),
            boot_id: seen.boot_id.clone(),
        });
    }
}

/// Another hand has switched the host while a commit was on its way: it came
/// later than the commit, which is left alone as one that is in force would be.
pub(super) fn fold_hand(policy: &Policy, memory: &mut Memory, seen: &Seen, now: Now) {
    let before = memory.running.as_ref().map(|running| &running.system);
    let (Some(before), Some(running)) = (before.cloned(), &seen.running) else { return };
    let ours = seen.jobs.iter().any(|job| job.id.kind == JobKind::Switch);
    let (Some(target), false) = (memory.target.clone(), ours || before == *running) else { return };
    let system = memory.system_of(target.commit, &policy.recipe).cloned();
    if system.as_ref() == Some(running) || memory.has_settled(&target) {
        return;
    }
    end(memory, Ending::Superseded, "another hand has switched this host", now);
    memory.settled = Some(Settled {
        commit: target.commit,
        operation: target.operation,
        // Of one that is not known yet: what that hand switched away from.
        system: system.unwrap_or(before),
        left: true,
    });
}

/// Another hand has made another system the default, or another one was booted
/// or activated: the one that awaited its boot has nothing to wait for.
pub(super) fn fold_awaiting(policy: &Policy, memory: &mut Memory, seen: &Seen, now: Now) {
    if seen.gave_up {
        // It is ended together with putting the default back.
        return;
    }
    if let Some(missed) = memory.missed_its_boot(seen) {
        // Never seen to run, it is ended together with what was made for it.
        if missed.came_up || memory.has_ended(&missed.deployment.id) {
            end_cut_off(policy, memory, seen, now);
        }
        return;
    }
    let (default, running) =
        (seen.profile.as_ref().map(|generation| &generation.system), seen.running.as_ref());
    if let Some(awaiting) = &mut memory.awaiting
        && awaiting.kept.is_some()
        && awaiting.boot_id != seen.boot_id
        && running == Some(&awaiting.system)
    {
        awaiting.came_up = true;
    }
    let elsewhere = |a: &mut Awaiting| {
        let (system, kept) = (Some(&a.system), a.kept.as_ref());
        if a.boot_id == seen.boot_id {
            default != kept.or(system)
        } else {
            running != system || (kept.is_some() && default != kept && default != system)
        }
    };
    if let Some(Awaiting { deployment, system, .. }) = memory.awaiting.take_if(elsewhere) {
        let (commit, operation) = (deployment.target.commit, deployment.target.operation);
        let cause = "another system was booted, activated or made the boot default";
        learn_ended(memory, deployment, Ending::Superseded, cause, now);
        // Unless it was no hand, but what was to be booted once before.
        if !memory.booted_once(seen) {
            memory.settled = Some(Settled { commit, operation, system, left: true });
        }
    }
}

/// Ends the deployment of a system that was booted once and came up, when the host went
/// down before the system was judged.
pub(super) fn end_cut_off(policy: &Policy, memory: &mut Memory, seen: &Seen, now: Now) {
    let Some(Awaiting { deployment, system, .. }) = memory.awaiting.take() else { return };
    if memory.has_ended(&deployment.id) {
        return;
    }
    let cause = "the host was rebooted before a verdict";
    learn_ended(memory, deployment, Ending::Interrupted, cause, now);
    // It may be what brought the host down.
    learn_failure(policy, memory, seen, Subject::System { system }, cause, now);
}

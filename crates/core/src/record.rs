//! Folds what was seen into the memory, and notes what is about to be done.
//!
//! `fold` is idempotent: outcomes are folded in by id, once. A job's directory
//! may go only after the memory that holds its outcome has been saved.

mod endings;
mod experiment;
mod host;
mod jobs;

use self::endings::{end, settle};
use self::experiment::fold_experiment;
use self::host::{adopt_running, fold_awaiting, fold_boot, fold_hand, fold_unproven};
use self::jobs::{adopt, end_lost_deployment, fold_realise, fold_switch, learn_tested};
use super::decide::Step;
use super::gates::Pending;
use super::job::{DeploymentId, Ending, JobKind, Target};
use super::memory::{Accepted, Deployment, Entry, Memory, Rebooted, Running, Settled, Tested};
use super::observed::{Seen, Work};
use super::policy::{Operation, Policy};
use super::publishing;
use super::types::Now;

/// Returns the memory with what was seen in it.
pub fn fold(policy: &Policy, mut memory: Memory, seen: &Seen, now: Now) -> Memory {
    if seen.blind().is_some() {
        // What was not seen did not happen, as far as anybody knows.
        memory.blind_since.get_or_insert(now.wall);
        return memory;
    }
    memory.blind_since = None;
    let first = memory.boot_id.is_none();
    let booted = memory.boot_id.as_ref() != Some(&seen.boot_id);
    if first {
        adopt_running(&mut memory, seen);
    }
    for job in &seen.jobs {
        match &job.work {
            Work::Realise { outcome, .. } => {
                fold_realise(policy, &mut memory, seen, job, outcome.as_ref(), now);
            }
            Work::Switch { order, outcome, .. } => match outcome {
                Some(outcome) => fold_switch(policy, &mut memory, seen, order, outcome, now),
                None => adopt(&mut memory, job, order),
            },
            Work::Publish { .. } | Work::Unreadable => {}
        }
    }
    publishing::fold(policy, &mut memory, seen, now);
    end_lost_deployment(policy, &mut memory, seen, now);
    if booted {
        fold_boot(&mut memory, seen);
    } else {
        fold_hand(policy, &mut memory, seen, now);
    }
    fold_experiment(policy, &mut memory, seen, now);
    memory.armed.retain(|armed| match armed.boot_id == seen.boot_id {
        true => seen
            .disarmed
            .as_ref()
            .is_none_or(|(system, at)| *system != armed.system || *at < armed.since),
        // While it runs it says how it came to.
        false => seen.running.as_ref() == Some(&armed.system),
    });
    if seen.jobs.iter().all(|job| job.id.kind != JobKind::Switch) {
        fold_awaiting(policy, &mut memory, seen, now);
        fold_unproven(&mut memory, seen);
    }
    let wanted = memory.target.as_ref().map(|target| target.commit);
    let awaiting = memory.awaiting.as_ref().map(|awaiting| &awaiting.system);
    memory.gates.fold(wanted, awaiting, seen, now);
    let since = match &memory.running {
        Some(running) if Some(&running.system) == seen.running.as_ref() => running.since,
        Some(_) | None => now.wall,
    };
    memory.running = seen.running.as_ref().map(|system| Running { system: system.clone(), since });
    memory
}

/// Returns the memory with the step that is about to be taken in it.
pub fn note(mut memory: Memory, seen: &Seen, step: &Step, now: Now) -> Memory {
    match step {
        Step::Wait { .. }
        | Step::Poll { .. }
        | Step::Compare { .. }
        | Step::KeepRoots(_)
        | Step::StopJob(_)
        | Step::RemoveJob(_)
        | Step::ResumeSwitch(_)
        | Step::RunChecks(_)
        | Step::Preflight { .. }
        | Step::Look
        | Step::Disarm { .. }
        | Step::LookAgainstReboot
        | Step::WriteVerdict { .. } => {}
        Step::AskToConfirm { commit } => {
            let (commit, boot_id) = (*commit, seen.boot_id.clone());
            memory.gates.pending = Some(Pending { commit, boot_id, since: now.mono });
        }
        Step::Reboot { system } => {
            let (system, boot_id) = (system.clone(), seen.boot_id.clone());
            memory.rebooted = Some(Rebooted { system, boot_id, at: now.mono });
        }
        Step::Follow { target, release } => {
            if let Some((commit, remote)) = release {
                memory.accepted = Some(Accepted { commit: *commit, remote: remote.clone() });
                memory.allowed = memory.allowed.filter(|allowed| allowed != commit);
            }
            if !memory.target.as_ref().is_some_and(|old| old.same_as(target)) {
                supersede(&mut memory, target, now);
                // Left alone until the next commit: this is it, even if it was
                // brought about once before.
                memory.settled.take_if(|settled| !is_in_force(settled, seen));
            }
            memory.target = Some(target.clone());
        }
        Step::StartRealise(order) => {
            end_other(&mut memory, &order.deployment, now);
            memory.deployment = Some(Deployment {
                id: order.deployment.clone(),
                target: order.target.clone(),
                attempt: order.attempt,
                started: order.started,
                system: None,
                job: Some(order.job(JobKind::Realise)),
                stages: Default::default(),
            });
        }
        Step::StartPublish(order) => memory.publishing.begin(order),
        Step::StartSwitch(switch) => {
            end_other(&mut memory, &switch.order.deployment, now);
            let stages = memory
                .deployment
                .as_ref()
                .filter(|deployment| deployment.id == switch.order.deployment)
                .map(|deployment| deployment.stages)
                .unwrap_or_default();
            memory.deployment = Some(Deployment {
                id: switch.order.deployment.clone(),
                target: switch.order.target.clone(),
                attempt: switch.order.attempt,
                started: switch.order.started,
                system: Some(switch.candidate.clone()),
                job: Some(switch.job()),
                stages,
            });
            learn_tested(&mut memory, switch);
        }
        Step::Settle { target, system, id } => {
            end_other(&mut memory, id, now);
            settle(&mut memory, target, system, false, now);
            let deployment = memory.deployment.take();
            let started = deployment.as_ref().map_or(now.wall, |deployment| deployment.started);
            memory.learn_ending(Entry {
                id: id.clone(),
                commit: target.commit,
                system: Some(system.clone()),
                previous: seen.running.clone(),
                operation: target.operation,
                verdict: Ending::Good,
                cause: Some("the same system as before: nothing to activate".into()),
                why: None,
                fault: None,
                started,
                ended: now.wall,
                stages: deployment.map(|deployment| deployment.stages).unwrap_or_default(),
                checks: Vec::new(),
            });
            if target.operation == Operation::Test {
                let (commit, boot_id) = (target.commit, seen.boot_id.clone());
                memory.tested = Some(Tested { commit, boot_id });
            }
        }
        Step::GiveUp { cause } => end(&mut memory, Ending::Failed, cause, now),
    }
    memory
}

/// Ends the deployment that is under way, where another one begins: what that one had brought
/// about is gone.
fn end_other(memory: &mut Memory, id: &DeploymentId, now: Now) {
    if memory.deployment.as_ref().is_some_and(|deployment| deployment.id != *id) {
        let cause = match memory.gates.back {
            Some(_) => WAY_BACK,
            None => "its system is no longer in the store",
        };
        end(memory, Ending::Interrupted, cause, now);
    }
}

const WAY_BACK: &str = "a person wants an earlier system back";

fn is_in_force(settled: &Settled, seen: &Seen) -> bool {
    let default = seen.profile.as_ref().map(|generation| &generation.system);
    seen.running.as_ref() == Some(&settled.system)
        && (!settled.operation.sets_default() || default == Some(&settled.system))
}

/// Ends the deployment that is not yet activated, since something else is wanted.
fn supersede(memory: &mut Memory, target: &Target, now: Now) {
    let switching = |d: &Deployment| {
        d.job.as_ref().is_some_and(|job| match job.kind {
            JobKind::Switch => true,
            JobKind::Realise | JobKind::Publish => false,
        })
    };
    if memory.deployment.as_ref().is_some_and(|deployment| !switching(deployment)) {
        let cause = format!("{} came", target.commit.short());
        end(memory, Ending::Superseded, &cause, now);
    }
    // One that awaits its boot stays the default, and so goes on awaiting it,
    // until the newer one has taken its place.
}

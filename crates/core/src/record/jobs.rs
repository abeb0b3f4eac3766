//! Outcomes of jobs, as they enter the memory.

use super::WAY_BACK;
use super::endings::{
    REPLACED, end, end_awaiting, learn_failure, learn_fault, pause_uncounted, settle,
};
use super::experiment::lost_the_remotes;
use crate::fault::Fault;
use crate::gates::WentBack;
use crate::job::{Ending, RealiseOutcome, Realised, SwitchOrder, SwitchOutcome};
use crate::memory::{
    Armed, Awaiting, Deployment, Entry, Experiment, IgnoredSettings, KnownSystem, Memory, Settled,
    Stuck, Subject, Tested, Trouble,
};
use crate::observed::{Job, Life, Remains, Seen, Work};
use crate::policy::{Operation, Policy};
use crate::types::Now;

pub(super) fn fold_realise(
    policy: &Policy,
    memory: &mut Memory,
    seen: &Seen,
    job: &Job,
    outcome: Option<&RealiseOutcome>,
    now: Now,
) {
    let Some(deployment) = memory.deployment.as_mut().filter(|d| d.job.as_ref() == Some(&job.id))
    else {
        return;
    };
    let Work::Realise { order, .. } = &job.work else { return };
    let subject =
        Subject::Commit { commit: deployment.target.commit, recipe: order.recipe.clone() };
    let Some(outcome) = outcome else {
        if job.life == Life::Ended {
            deployment.job = None;
            let cause = job.cut_short(&order.boot_id, &seen.boot_id);
            end(memory, Ending::Interrupted, &cause, now);
            // Of another boot: the host went down, which blames nobody.
            if order.boot_id == seen.boot_id {
                learn_failure(policy, memory, seen, subject.clone(), &cause, now);
                learn_fault(memory, &subject, Some(of_cut_short(&job.remains)));
            }
        }
        return;
    };
    deployment.stages.realise = Some(outcome.took);
    deployment.job = None;
    let ignored = IgnoredSettings { commit: order.target.commit, names: outcome.ignored.clone() };
    memory.ignored = Some(ignored).filter(|ignored| !ignored.names.is_empty());
    match &outcome.result {
        Realised::Built { system } => {
            deployment.system = Some(system.clone());
            memory.forget_trouble(&subject);
            memory.learn_system(KnownSystem {
                commit: order.target.commit,
                recipe: order.recipe.clone(),
                system: system.clone(),
            });
        }
        Realised::NoSuchHost { hosts } => {
            let cause = format!("the commit has no host {}", policy.hostname);
            end(memory, Ending::Failed, &cause, now);
            memory.learn_trouble(Trouble {
                subject,
                failures: order.attempt,
                at: now.wall,
                not_before: now.wall,
                stuck: Some(Stuck::NoSuchHost { hosts: hosts.clone() }),
                cause,
                refusal: None,
                fault: None,
                refused: None,
                excused: 0,
                found_bad: false,
            });
        }
        Realised::Failed { cause, fault, tail: _ } => {
            end(memory, Ending::Failed, cause, now);
            learn_failure(policy, memory, seen, subject.clone(), cause, now);
            learn_fault(memory, &subject, *fault);
        }
        Realised::Damaged { cause } => {
            end(memory, Ending::Failed, cause, now);
            learn_failure(policy, memory, seen, subject, cause, now);
        }
        Realised::Refused { refusal } if refusal.cause.is_of_the_commit() => {
            end(memory, Ending::Failed, &refusal.detail, now);
            memory.learn_trouble(Trouble {
                subject,
                failures: order.attempt,
                at: now.wall,
                not_before: now.wall,
                stuck: Some(Stuck::Quarantined),
                cause: refusal.detail.clone(),
                refusal: None,
                fault: None,
                refused: Some(refusal.clone()),
                excused: 0,
                found_bad: false,
            });
        }
        Realised::Refused { refusal } => {
            end(memory, Ending::Failed, &refusal.detail, now);
            learn_failure(policy, memory, seen, subject.clone(), &refusal.detail, now);
            if let Some(trouble) = memory.trouble_mut(&subject) {
                trouble.refusal = Some(refusal.clone());
            }
        }
        Realised::Cancelled => {
            // By this agent only for a person who wants an earlier system back.
            let cause = match memory.gates.back {
                Some(_) => WAY_BACK,
                None => "the realise job was stopped",
            };
            end(memory, Ending::Interrupted, cause, now);
            pause_uncounted(policy, memory, subject, cause, now);
        }
    }
}

/// Kind of failure of a realise job that ended without an outcome, by what it left behind.
fn of_cut_short(remains: &Remains) -> Fault {
    match remains {
        Remains::NotBegun => Fault::JobNotBegun,
        Remains::Begun => Fault::JobKilled,
        Remains::Unwritten(_) => Fault::StateDir,
    }
}

pub(super) fn fold_switch(
    policy: &Policy,
    memory: &mut Memory,
    seen: &Seen,
    order: &SwitchOrder,
    outcome: &SwitchOutcome,
    now: Now,
) {
    let id = &order.order.deployment;
    let awaited = memory.awaiting.as_ref().is_some_and(|a| a.deployment.id == *id);
    if memory.has_ended(id) || (outcome.ending.is_none() && awaited) {
        return;
    }
    let mut stages = outcome.stages;
    if let Some(deployment) = memory.deployment.take_if(|deployment| deployment.id == *id) {
        stages.realise = deployment.stages.realise;
    }
    learn_order(memory, order);
    if order.how.asked().is_some() {
        let (boot_id, at) = (seen.boot_id.clone(), now.mono);
        memory.gates.went_back = Some(WentBack { boot_id, at });
    }
    if memory.tested.is_none() {
        learn_tested(memory, order);
    }
    if outcome.deferred {
        let (system, boot_id) = (order.candidate.clone(), order.order.boot_id.clone());
        memory.learn_armed(Armed { system, boot_id, since: now.mono });
    }
    let target = &order.order.target;
    let subject = Subject::System { system: order.candidate.clone() };
    let Some(ending) = outcome.ending else {
        end_awaiting(memory, REPLACED, now);
        // What was brought about before is no longer the default.
        memory.settled = None;
        memory.awaiting = Some(Awaiting {
            deployment: Deployment {
                id: id.clone(),
                target: target.clone(),
                attempt: order.order.attempt,
                started: order.order.started,
                system: Some(order.candidate.clone()),
                job: None,
                stages,
            },
            system: order.candidate.clone(),
            boot_id: order.order.boot_id.clone(),
            why: outcome.cause.clone().unwrap_or_default(),
            kept: outcome.kept.clone(),
            came_up: false,
        });
        return;
    };
    memory.learn_ending(Entry {
        id: id.clone(),
        commit: target.commit,
        system: Some(order.candidate.clone()),
        previous: order.old.clone(),
        operation: target.operation,
        verdict: ending,
        cause: outcome.cause.clone(),
        why: outcome.why.clone(),
        fault: None,
        started: order.order.started,
        ended: now.wall,
        stages,
        checks: outcome.checks.clone(),
    });
    match ending {
        Ending::Good => {
            memory.forget_trouble(&subject);
            memory.unproven.take_if(|unproven| unproven.system == order.candidate);
            memory.put = Some(order.candidate.clone());
            // What the host was rebooted for has come about: should the same
            // ever need a reboot again, that is another one.
            if seen.booted.as_ref() == Some(&order.candidate) {
                memory.rebooted.take_if(|asked| {
                    asked.system == order.candidate && asked.boot_id != seen.boot_id
                });
            }
            settle(memory, target, &order.candidate, true, now);
        }
        Ending::Superseded => {
            // Left alone until the next commit.
            memory.gates.back.take_if(|back| back.left == order.candidate);
            memory.awaiting.take_if(|awaiting| awaiting.system == order.candidate);
            memory.settled = Some(Settled {
                commit: target.commit,
                operation: target.operation,
                system: order.candidate.clone(),
                left: true,
            });
        }
        Ending::RolledBack | Ending::Failed | Ending::Interrupted => {
            if ending != Ending::Interrupted {
                memory.unproven.take_if(|unproven| unproven.system == order.candidate);
                memory.unlearn_good(&order.candidate, order.old.as_ref());
            }
            if seen.running.is_some() && seen.running == order.old {
                memory.put = order.old.clone();
            }
            if ending != Ending::Interrupted {
                memory.awaiting = memory.awaiting.take().filter(|a| a.system != order.candidate);
            }
            let cause = outcome.cause.as_deref().unwrap_or("no cause was given");
            if order.how.restores() && ending == Ending::RolledBack {
                // One boot after the other has shown it.
                memory.lose_default(&order.candidate, order.old.as_ref());
                learn_failure(policy, memory, seen, subject.clone(), cause, now);
                if let Some(trouble) = memory.trouble_mut(&subject) {
                    trouble.stuck = Some(Stuck::Quarantined);
                }
                return;
            }
            if ending == Ending::RolledBack && outcome.counts && lost_the_remotes(outcome) {
                memory.experiment = Some(Experiment {
                    system: order.candidate.clone(),
                    cause: cause.to_owned(),
                    boot_id: seen.boot_id.clone(),
                    since: now.mono,
                });
            } else if outcome.counts {
                learn_failure(policy, memory, seen, subject.clone(), cause, now);
                if ending == Ending::RolledBack
                    && let Some(trouble) = memory.trouble_mut(&subject)
                {
                    trouble.found_bad = true;
                }
            } else {
                pause_uncounted(policy, memory, subject, cause, now);
            }
        }
    }
}

/// A testing head is activated in at most one boot.
pub(super) fn learn_tested(memory: &mut Memory, order: &SwitchOrder) {
    // What is left is not what is tested.
    if order.order.target.operation == Operation::Test && !order.how.restores() {
        let (commit, boot_id) = (order.order.target.commit, order.order.boot_id.clone());
        memory.tested = Some(Tested { commit, boot_id });
    }
}

/// Remembers from an order which system the commit describes, should the memory of it be lost.
pub(super) fn learn_order(memory: &mut Memory, order: &SwitchOrder) {
    // What is left may have been put there by another hand, and be of no commit.
    if order.how.restores() {
        return;
    }
    let (commit, recipe) = (order.order.target.commit, order.order.recipe.clone());
    if memory.system_of(commit, &recipe).is_none() {
        memory.learn_system(KnownSystem { commit, recipe, system: order.candidate.clone() });
    }
}

/// A running switch that the memory does not know was started by an agent
/// whose memory was lost: it is the deployment under way.
pub(super) fn adopt(memory: &mut Memory, job: &Job, order: &SwitchOrder) {
    if memory.has_ended(&order.order.deployment) {
        return;
    }
    if memory.deployment.as_ref().is_some_and(|d| d.job.as_ref() == Some(&job.id)) {
        return;
    }
    learn_order(memory, order);
    learn_tested(memory, order);
    memory.deployment = Some(Deployment {
        id: order.order.deployment.clone(),
        target: order.order.target.clone(),
        attempt: order.order.attempt,
        started: order.order.started,
        system: Some(order.candidate.clone()),
        job: Some(job.id.clone()),
        stages: Default::default(),
    });
}

/// A deployment whose job has no directory was killed before it began.
pub(super) fn end_lost_deployment(policy: &Policy, memory: &mut Memory, seen: &Seen, now: Now) {
    let Some(deployment) = &memory.deployment else { return };
    let Some(job) = &deployment.job else { return };
    if seen.jobs.iter().any(|seen| seen.id == *job) {
        return;
    }
    // What could not be made for want of room was said, and is seen here.
    let (cause, fault) = match &seen.unwritten {
        Some(why) => (format!("the job could not be started: {why}"), Fault::StateDir),
        None => ("the job could not be started".into(), Fault::JobNotBegun),
    };
    let subject = match &deployment.system {
        Some(system) => Subject::System { system: system.clone() },
        None => {
            let (commit, recipe) = (deployment.target.commit, policy.recipe.clone());
            Subject::Commit { commit, recipe }
        }
    };
    end(memory, Ending::Interrupted, &cause, now);
    pause_uncounted(policy, memory, subject.clone(), &cause, now);
    learn_fault(memory, &subject, Some(fault));
}

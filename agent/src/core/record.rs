//! Folds what was seen into the memory, and notes what is about to be done.
//!
//! `fold` is idempotent: outcomes are folded in by id, once. A job's directory
//! may go only after the memory that holds its outcome has been saved.

use super::backoff;
use super::decide::Step;
use super::gates::Pending;
use super::job::{
    DeploymentId, Ending, How, Kind, RealiseOutcome, Realised, SwitchOrder, SwitchOutcome, Target,
};
use super::memory::{
    Accepted, Armed, Awaiting, Deployment, Entry, Experiment, KnownSystem, Memory, Rebooted,
    Running, Settled, Stuck, Subject, Tested, Trouble, Unproven,
};
use super::policy::{Operation, Policy};
use super::publishing;
use super::seen::{Job, Life, Seen, Work};
use super::types::{Now, StorePath};

/// The memory with what was seen in it.
pub fn fold(policy: &Policy, mut memory: Memory, seen: &Seen, now: Now) -> Memory {
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
    if seen.jobs.iter().all(|job| job.id.kind != Kind::Switch) {
        fold_awaiting(policy, &mut memory, seen, now);
        fold_unproven(&mut memory, seen);
    }
    let wanted = memory.target.as_ref().map(|target| target.commit);
    memory.gates.fold(wanted, seen, now);
    let since = match &memory.running {
        Some(running) if Some(&running.system) == seen.running.as_ref() => running.since,
        Some(_) | None => now.wall,
    };
    memory.running = seen.running.as_ref().map(|system| Running { system: system.clone(), since });
    memory
}

/// The memory with the step that is about to be taken in it.
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
                job: Some(step_job(step)),
                stages: Default::default(),
            });
        }
        Step::StartPublish(order) => memory.publishing.begin(order, step_job(step)),
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
                job: Some(step_job(step)),
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

/// Another deployment begins although one is under way: what that one had
/// brought about is gone.
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

fn step_job(step: &Step) -> super::job::JobId {
    step.starts().expect("only steps that start a job are asked for it")
}

fn fold_realise(
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
            end(memory, Ending::Interrupted, "the realise job was killed", now);
            // Of another boot: the host went down, which blames nobody.
            if order.boot_id == seen.boot_id {
                learn_failure(policy, memory, seen, subject, "the realise job was killed", now);
            }
        }
        return;
    };
    deployment.stages.realise = Some(outcome.took);
    deployment.job = None;
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
                excused: 0,
            });
        }
        Realised::Failed { cause, .. } | Realised::Damaged { cause } => {
            end(memory, Ending::Failed, cause, now);
            learn_failure(policy, memory, seen, subject, cause, now);
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

fn fold_switch(
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
            if order.how == How::Restore && ending == Ending::RolledBack {
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
                learn_failure(policy, memory, seen, subject, cause, now);
            } else {
                pause_uncounted(policy, memory, subject, cause, now);
            }
        }
    }
}

/// Whether nothing else was wrong with the system.
fn lost_the_remotes(outcome: &SwitchOutcome) -> bool {
    let mut failed = outcome.checks.iter().filter(|check| check.required && !check.ok).peekable();
    failed.peek().is_some() && failed.all(|check| check.name == REMOTE)
}

/// The third look is over: whether the system is to blame for having lost the
/// remotes.
fn fold_experiment(policy: &Policy, memory: &mut Memory, seen: &Seen, now: Now) {
    let Some(experiment) = &memory.experiment else { return };
    let here = experiment.boot_id == seen.boot_id;
    let look = seen.look.as_ref().filter(|look| here && look.began >= experiment.since);
    let reached = look.is_some_and(|look| look.reached);
    // The old system's network may take its time to come back.
    let over = now.mono.since(experiment.since) >= settling(policy);
    if here && !reached && !(over && look.is_some()) {
        return;
    }
    let network = look.and_then(|look| look.network);
    let Some(Experiment { system, cause, .. }) = memory.experiment.take() else { return };
    let subject = Subject::System { system };
    let excused = memory.trouble_with(&subject).map_or(0, |trouble| trouble.excused);
    let away = look.map_or("the host was rebooted", |look| look.detail.as_str());
    let (blamed, cause) = match (reached, network) {
        (true, _) => (true, format!("{cause}; from the old system a remote answers")),
        (false, Some(true)) => {
            (excused >= MOST_EXCUSED, format!("{cause}; nor from the old system: {away}"))
        }
        (false, Some(false) | None) => {
            (excused >= 1, format!("{cause}; whether that is its fault is not known: {away}"))
        }
    };
    if blamed {
        learn_failure(policy, memory, seen, subject, &cause, now);
    } else {
        pause_uncounted(policy, memory, subject.clone(), &cause, now);
        if let Some(trouble) = memory.trouble_mut(&subject) {
            trouble.excused = excused.saturating_add(1);
        }
    }
}

/// How long the old system may take until it reaches the remotes again.
fn settling(policy: &Policy) -> std::time::Duration {
    policy.health_timeout.min(SETTLING)
}

const SETTLING: std::time::Duration = std::time::Duration::from_secs(60);
/// A forge that is away each time a system is verified is not away.
const MOST_EXCUSED: u32 = 5;

/// Whether what needs a reboot has had it.
fn fold_unproven(memory: &mut Memory, seen: &Seen) {
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

/// A testing head is activated in at most one boot.
fn learn_tested(memory: &mut Memory, order: &SwitchOrder) {
    // What is left is not what is tested.
    if order.order.target.operation == Operation::Test && order.how != How::Restore {
        let (commit, boot_id) = (order.order.target.commit, order.order.boot_id.clone());
        memory.tested = Some(Tested { commit, boot_id });
    }
}

/// Which system the commit describes, should the memory of it be lost.
fn learn_order(memory: &mut Memory, order: &SwitchOrder) {
    // What is left may have been put there by another hand, and be of no commit.
    if order.how == How::Restore {
        return;
    }
    let (commit, recipe) = (order.order.target.commit, order.order.recipe.clone());
    if memory.system_of(commit, &recipe).is_none() {
        memory.learn_system(KnownSystem { commit, recipe, system: order.candidate.clone() });
    }
}

/// A running switch that the memory does not know was started by an agent
/// whose memory was lost: it is the deployment under way.
fn adopt(memory: &mut Memory, job: &Job, order: &SwitchOrder) {
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
fn end_lost_deployment(policy: &Policy, memory: &mut Memory, seen: &Seen, now: Now) {
    let Some(deployment) = &memory.deployment else { return };
    let Some(job) = &deployment.job else { return };
    if seen.jobs.iter().any(|seen| seen.id == *job) {
        return;
    }
    let cause = "the job could not be started";
    let subject = match &deployment.system {
        Some(system) => Subject::System { system: system.clone() },
        None => {
            let (commit, recipe) = (deployment.target.commit, policy.recipe.clone());
            Subject::Commit { commit, recipe }
        }
    };
    end(memory, Ending::Interrupted, cause, now);
    pause_uncounted(policy, memory, subject, cause, now);
}

/// On a first start the running system is adopted as the last good one; while a
/// switch is under way, the one that it puts back if it has to.
fn adopt_running(memory: &mut Memory, seen: &Seen) {
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

/// What runs after a boot was not switched to by hand if it is the default.
fn fold_boot(memory: &mut Memory, seen: &Seen) {
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

/// Another hand has switched the host while a commit was on its way: it came
/// later than the commit, which is left alone as one that is in force would be.
fn fold_hand(policy: &Policy, memory: &mut Memory, seen: &Seen, now: Now) {
    let before = memory.running.as_ref().map(|running| &running.system);
    let (Some(before), Some(running)) = (before.cloned(), &seen.running) else { return };
    let ours = seen.jobs.iter().any(|job| job.id.kind == Kind::Switch);
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
fn fold_awaiting(policy: &Policy, memory: &mut Memory, seen: &Seen, now: Now) {
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

/// What was booted once came up, and before it was judged the host went down.
fn end_cut_off(policy: &Policy, memory: &mut Memory, seen: &Seen, now: Now) {
    let Some(Awaiting { deployment, system, .. }) = memory.awaiting.take() else { return };
    if memory.has_ended(&deployment.id) {
        return;
    }
    let cause = "the host was rebooted before a verdict";
    learn_ended(memory, deployment, Ending::Interrupted, cause, now);
    // It may be what brought the host down.
    learn_failure(policy, memory, seen, Subject::System { system }, cause, now);
}

fn settle(memory: &mut Memory, target: &Target, system: &StorePath, verified: bool, now: Now) {
    memory.settled = Some(Settled {
        commit: target.commit,
        operation: target.operation,
        system: system.clone(),
        left: false,
    });
    if target.operation.sets_default() {
        memory.learn_good(system, verified);
        end_awaiting(memory, REPLACED, now);
    }
}

/// Something else is wanted: what was not yet activated ends here.
fn supersede(memory: &mut Memory, target: &Target, now: Now) {
    let switching = |d: &Deployment| {
        d.job.as_ref().is_some_and(|job| match job.kind {
            Kind::Switch => true,
            Kind::Realise | Kind::Publish => false,
        })
    };
    if memory.deployment.as_ref().is_some_and(|deployment| !switching(deployment)) {
        let cause = format!("{} came", target.commit.short());
        end(memory, Ending::Superseded, &cause, now);
    }
    // One that awaits its boot stays the default, and so goes on awaiting it,
    // until the newer one has taken its place.
}

/// It no longer awaits its first boot; what that means for it, if nothing has
/// said so yet.
fn end_awaiting(memory: &mut Memory, cause: &str, now: Now) {
    if let Some(awaiting) = memory.awaiting.take() {
        learn_ended(memory, awaiting.deployment, Ending::Superseded, cause, now);
    }
}

/// The name of the check that a remote answers.
pub const REMOTE: &str = "remote";

const REPLACED: &str = "another system became the default before the boot";

fn end(memory: &mut Memory, verdict: Ending, cause: &str, now: Now) {
    if let Some(deployment) = memory.deployment.take() {
        learn_ended(memory, deployment, verdict, cause, now);
    }
}

fn learn_ended(
    memory: &mut Memory,
    deployment: Deployment,
    verdict: Ending,
    cause: &str,
    now: Now,
) {
    // None of those that end so was activated in this boot.
    let previous = memory.running.as_ref().map(|running| running.system.clone());
    memory.learn_ending(Entry {
        id: deployment.id,
        commit: deployment.target.commit,
        system: deployment.system,
        previous,
        operation: deployment.target.operation,
        verdict,
        cause: Some(cause.to_owned()),
        started: deployment.started,
        ended: now.wall,
        stages: deployment.stages,
        checks: Vec::new(),
    });
}

fn learn_failure(
    policy: &Policy,
    memory: &mut Memory,
    seen: &Seen,
    subject: Subject,
    cause: &str,
    now: Now,
) {
    let before = memory.trouble_with(&subject);
    let failures = before.map_or(0, |trouble| trouble.failures).saturating_add(1);
    let excused = before.map_or(0, |trouble| trouble.excused);
    let pause = backoff::pause(policy.retry_first, policy.retry_max, failures, seen.luck);
    let stuck = match &subject {
        Subject::System { .. } if failures >= policy.activations => Some(Stuck::Quarantined),
        Subject::System { .. } | Subject::Commit { .. } => None,
    };
    memory.learn_trouble(Trouble {
        subject,
        failures,
        at: now.wall,
        not_before: now.wall.plus(pause),
        stuck,
        cause: cause.to_owned(),
        refusal: None,
        excused,
    });
}

/// Not the subject's fault; but not at once, lest it spin.
fn pause_uncounted(policy: &Policy, memory: &mut Memory, subject: Subject, cause: &str, now: Now) {
    let before = memory.trouble_with(&subject);
    let failures = before.map_or(0, |trouble| trouble.failures);
    let stuck = before.and_then(|trouble| trouble.stuck.clone());
    let excused = before.map_or(0, |trouble| trouble.excused);
    memory.learn_trouble(Trouble {
        subject,
        failures,
        at: now.wall,
        not_before: now.wall.plus(policy.retry_first.min(SHORT_PAUSE)),
        stuck,
        cause: cause.to_owned(),
        refusal: None,
        excused,
    });
}

/// After what was nobody's fault.
const SHORT_PAUSE: std::time::Duration = std::time::Duration::from_secs(5);

//! Reason for the state of the host, in a sentence.

use super::held_cause::{ForcePush, HeldCause};
use super::{Held, State, Viewer};
use crate::decide::{Due, Outlook};
use crate::gates::Gate;
use crate::guardian::{Phase, RUNGS};
use crate::job::{JobKind, RealisePhase, RealiseProgress, RefusalCause, Target};
use crate::memory::Subject;
use crate::observed::{Life, Work};
use crate::plain::clean;
use crate::types::{Commit, StorePath};

impl Viewer<'_> {
    pub(super) fn reason(&self, state: State, held: Option<&Held>) -> String {
        let commit = self.memory.target.as_ref().map_or("nothing".into(), |t| t.commit.short());
        if let (State::Held, Some(held)) = (state, held) {
            return self.held_reason(held, &commit);
        }
        match &self.decision.outlook {
            Outlook::Blind { unseen, since } => format!(
                "this host cannot be looked at: {unseen}, since {since}; the remotes are asked, \
                 nothing else is done"
            ),
            Outlook::Switching { order, phase: Phase::Activated { .. } } => {
                let commit = order.order.target.commit.short();
                let checks =
                    self.seen.checks.iter().filter(|c| c.job.deployment == order.order.deployment);
                let mut checks = checks.flat_map(|round| &round.checks);
                match checks.find(|check| check.required && !check.ok) {
                    Some(check) => format!(
                        "{commit} runs, but check {} fails: {}",
                        check.name,
                        clean(&check.detail)
                    ),
                    None => format!("{commit} runs and is being checked"),
                }
            }
            Outlook::Switching { order, phase: Phase::Ready } if self.unstarted().is_some() => {
                format!(
                    "{} is ready{}, but its switch job cannot be started: {}",
                    order.order.target.commit.short(),
                    self.still_running(),
                    clean(self.unstarted().unwrap_or_default())
                )
            }
            Outlook::Switching { order, phase } => {
                let reason = switching_reason(&order.order.target, phase);
                if let Some(why) = self.unstarted() {
                    let why = clean(why);
                    return format!("{reason}; its job is gone and cannot be started again: {why}");
                }
                match self.lock_holder() {
                    Some(holder) => format!("{reason}; it waits for the lock of {holder}"),
                    None => reason,
                }
            }
            Outlook::WrongMachine { .. } | Outlook::Refused { .. } | Outlook::Stuck(_) => {
                "held".into()
            }
            Outlook::Preflight(_) => format!("{commit} is next, if it may be activated"),
            Outlook::Experiment(experiment) => format!(
                "a system was put back because no remote answered; whether one does now, from \
                 the old system, tells whose fault that was: {}",
                clean(&experiment.cause)
            ),
            Outlook::NothingKnown if state == State::Unreachable => self.unreachable_reason(),
            Outlook::NothingKnown => self.starting_reason(),
            Outlook::Realising(job) => self.realising_reason(&commit, job.kind),
            Outlook::Clearing => "waits for an earlier job to end".into(),
            Outlook::BackingOff(trouble) => {
                let what = match trouble.subject {
                    Subject::Commit { .. } => "could not be realised",
                    Subject::System { .. } => "could not be deployed",
                };
                format!(
                    "{commit} {what} ({} so far){}: {}",
                    times(trouble.failures),
                    self.still_running(),
                    clean(&trouble.cause)
                )
            }
            Outlook::Drift => {
                let name = |system: Option<&StorePath>| {
                    system.map_or("nothing", StorePath::as_str).to_owned()
                };
                let settled = self.memory.settled.as_ref().map(|settled| &settled.system);
                let running = self.seen.running.as_ref();
                if let (true, Some(odd)) = (running == settled, &self.seen.odd_profile) {
                    return format!(
                        "the system profile is none of nix-env's: {odd}; left alone until the \
                         next commit, which sets it anew"
                    );
                }
                let what = if running == settled {
                    let default = self.seen.profile.as_ref().map(|generation| &generation.system);
                    format!("{} was made the boot default", name(default))
                } else {
                    format!("{} was put there", name(running))
                };
                format!("{what} by another hand; left alone until the next commit")
            }
            Outlook::AwaitsBoot { why } => {
                let awaiting = self.memory.awaiting.as_ref();
                match awaiting.and_then(|awaiting| awaiting.kept.as_ref()) {
                    Some(_) => format!("{commit} {why}; it boots once, and stays if it works"),
                    None => format!("{commit} is the default, but {why}"),
                }
            }
            Outlook::Gated(Gate::Suspended { reason, .. }) if reason.is_empty() => {
                format!("{commit} is ready, but deployments are suspended{}", self.still_running())
            }
            Outlook::Gated(Gate::Suspended { reason, .. }) => format!(
                "{commit} is ready, but deployments are suspended{}: {}",
                self.still_running(),
                clean(reason)
            ),
            Outlook::Gated(Gate::Unconfirmed { .. }) => {
                format!("{commit} is ready and waits to be confirmed{}", self.still_running())
            }
            Outlook::Gated(Gate::Window { opens: Some(_) }) => {
                format!("{commit} is ready and waits for a window{}", self.still_running())
            }
            Outlook::Gated(Gate::Window { opens: None }) => {
                format!("{commit} is ready, and no window ever opens{}", self.still_running())
            }
            Outlook::AwaitsRemote => {
                format!("{commit} is ready; no remote answers, so it could not be verified")
            }
            Outlook::Due(Due::Switch(switch)) => {
                // What awaited this boot comes before what is wanted since.
                let next = switch.order.target.commit.short();
                match switch.how.asked() {
                    Some(_) => format!("a person wants the system before that of {next} back"),
                    None => format!("{next} is next"),
                }
            }
            Outlook::Due(_) => format!("{commit} is next"),
            Outlook::InSync => match (self.undone(), state) {
                (Some(head), State::Waiting) => format!(
                    "testing head {} was undone by a reboot; waits for a new one or \
                     `fort-agent retry`",
                    head.short()
                ),
                (_, State::RebootRequired) => format!(
                    "{commit} runs, but needs a reboot: {}",
                    self.seen.reboot_why.as_deref().unwrap_or("unknown")
                ),
                (_, State::Unreachable) => {
                    format!("{commit} runs; {}", self.unreachable_reason())
                }
                (_, _) if self.memory.gates.suspended.is_some() => {
                    format!("{commit} runs and was verified; deployments are suspended")
                }
                (_, _) => format!("{commit} runs and was verified"),
            },
        }
    }

    /// Returns why a switch has no job that works for it: none could be started.
    pub(super) fn unstarted(&self) -> Option<&str> {
        let idle = self.seen.jobs.iter().filter(|job| job.life != Life::Running);
        idle.filter_map(|job| match &job.work {
            Work::Switch { outcome: None, .. } => job.unstarted.as_deref(),
            Work::Switch { outcome: Some(_), .. } | Work::Realise { .. } => None,
            Work::Publish { .. } | Work::Unreadable => None,
        })
        .next()
    }

    /// Returns the process that keeps a switch from going on, in words.
    pub(super) fn lock_holder(&self) -> Option<&str> {
        self.seen.jobs.iter().find_map(|job| match &job.work {
            Work::Switch { progress: Some(progress), outcome: None, .. } => {
                progress.lock.as_deref()
            }
            Work::Switch { .. } | Work::Realise { .. } => None,
            Work::Publish { .. } | Work::Unreadable => None,
        })
    }

    /// Names the commit that runs while the target does not: that is the first question.
    fn still_running(&self) -> String {
        let running = self.seen.running.as_ref().and_then(|system| self.memory.commit_of(system));
        let target = self.memory.target.as_ref().map(|target| target.commit);
        let running = running.filter(|running| Some(*running) != target);
        running.map(|running| format!(", {} runs", running.short())).unwrap_or_default()
    }

    fn held_reason(&self, held: &Held, commit: &str) -> String {
        let short =
            |commit: Option<Commit>| commit.map(|commit| commit.short()).unwrap_or_default();
        match &held.cause {
            HeldCause::ForcePush(ForcePush { head, accepted, rewind, .. }) => {
                let (head, accepted) = (short(*head), short(*accepted));
                let release = &self.policy.release;
                if *rewind {
                    format!("{release} was set back: {head} is older than {accepted}")
                } else {
                    format!("{release} was force-pushed: {head} does not descend from {accepted}")
                }
            }
            HeldCause::StateDir(it) => clean(&it.found),
            HeldCause::BranchMissing(_) => {
                format!("no remote has a branch {}", self.policy.release)
            }
            HeldCause::MachineId(it) => format!(
                "the configuration is for {}, and this is {}",
                it.configured.as_deref().unwrap_or("another machine"),
                it.found.as_deref().unwrap_or("a machine without an id")
            ),
            HeldCause::NoSuchHost(it) => {
                let only = if it.hosts.is_empty() { "" } else { ", only " };
                let hosts = it.hosts.join(" ");
                format!("the commit has no host {}{only}{hosts}", self.policy.hostname)
            }
            HeldCause::TooLargeHead(it) => format!(
                "{} on {} was not fetched{}: {}",
                it.head.short(),
                self.policy.release,
                self.still_running(),
                it.found
            ),
            HeldCause::Refused(refusal) => {
                let what = match refusal.cause {
                    RefusalCause::LockIncomplete => "evaluated",
                    RefusalCause::DiskSpace
                    | RefusalCause::IncompleteClosure
                    | RefusalCause::NoAgent
                    | RefusalCause::TooLarge => "activated",
                };
                format!(
                    "{commit} is not {what}{}: {}",
                    self.still_running(),
                    clean(&refusal.detail)
                )
            }
            HeldCause::Quarantined(it) => format!(
                "the system of {commit} failed {} and is quarantined{}: {}",
                times(it.failures),
                self.still_running(),
                clean(&it.last)
            ),
            HeldCause::Other { cause, .. } => format!("{commit} is held: {}", clean(cause)),
        }
    }

    fn realising_reason(&self, commit: &str, _kind: JobKind) -> String {
        let progress = self.seen.jobs.iter().find_map(|job| match &job.work {
            Work::Realise { progress, .. } => progress.as_ref(),
            Work::Switch { .. } | Work::Publish { .. } | Work::Unreadable => None,
        });
        match progress {
            Some(progress) if progress.to_build > 0 => format!(
                "{} {commit}: {} of {} built",
                progress.phase, progress.built, progress.to_build
            ),
            None | Some(RealiseProgress { phase: RealisePhase::Begun, .. }) => {
                format!("realising {commit}")
            }
            Some(progress) => format!("{} {commit}", progress.phase),
        }
    }

    fn starting_reason(&self) -> String {
        let errors = self.seen.remotes.iter().filter_map(|remote| remote.error.as_deref());
        errors.map(clean).next().map_or_else(
            || "no remote has answered yet".into(),
            |error| format!("no remote has answered yet: {error}"),
        )
    }

    fn unreachable_reason(&self) -> String {
        let error = self.seen.remotes.iter().find_map(|remote| remote.error.as_deref());
        format!("no remote answers: {}", clean(error.unwrap_or("no error is known")))
    }
}

fn switching_reason(target: &Target, phase: &Phase) -> String {
    let commit = target.commit.short();
    match phase {
        Phase::Ready | Phase::Activating { .. } => format!("activating {commit}"),
        Phase::Activated { .. } => format!("{commit} runs and is being checked"),
        Phase::Committing => format!("{commit} works and is becoming the boot default"),
        Phase::Deferring { why, stays: _ } => {
            format!("{commit} is becoming the default of the next boot: {why}")
        }
        Phase::Returning { why } => format!("{commit} is booted once, next: {why}"),
        Phase::PuttingBack(back) if back.tries < RUNGS => {
            format!("the system before {commit} is being put back: {}", clean(&back.cause.words))
        }
        Phase::PuttingBack(back) => format!(
            "the system before {commit} could not be put back ({} so far): {}; {commit} had \
             failed: {}",
            times(back.tries),
            clean(back.error.as_deref().unwrap_or("the last try was cut off")),
            clean(&back.cause.words)
        ),
    }
}

pub(crate) fn times(count: u32) -> String {
    match count {
        1 => "once".into(),
        2 => "twice".into(),
        n => format!("{n} times"),
    }
}

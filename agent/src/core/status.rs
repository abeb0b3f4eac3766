//! The one value that tells everyone the same: how things stand, why, and what
//! happens next. Every channel renders it; none looks elsewhere.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::decide::{Decision, Outlook, Step, refusals, unreachable};
use super::guardian::{Phase, RUNGS};
use super::job::{Kind, Refusal, RefusalCause, Target};
use super::memory::{Memory, Stuck, Subject, Trouble};
use super::policy::{Operation, Policy};
use super::seen::{Seen, Work};
use super::select::{Standing, Testing};
use super::types::{Commit, Mono, Now, StorePath, Wall};

/// In one word: the first of these that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The old system is being put back.
    RollingBack,
    /// That failed, and is tried again.
    RollbackFailed,
    /// A system is being activated.
    Activating,
    /// It is being checked, or made the boot default.
    Verifying,
    /// Something is refused, and says what would lift that.
    Held,
    /// A system is being got.
    Realising,
    /// Something is to be done, but not now.
    Waiting,
    /// Something failed and is tried again later.
    BackingOff,
    /// The boot default needs a reboot to run.
    RebootRequired,
    /// No remote answered three polls running.
    Unreachable,
    /// What should run runs.
    UpToDate,
    /// Before the first observation.
    Starting,
}

impl State {
    /// All of them, in order.
    pub const ALL: [Self; 12] = [
        Self::RollingBack,
        Self::RollbackFailed,
        Self::Activating,
        Self::Verifying,
        Self::Held,
        Self::Realising,
        Self::Waiting,
        Self::BackingOff,
        Self::RebootRequired,
        Self::Unreachable,
        Self::UpToDate,
        Self::Starting,
    ];

    /// As in status and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RollingBack => "rolling-back",
            Self::RollbackFailed => "rollback-failed",
            Self::Activating => "activating",
            Self::Verifying => "verifying",
            Self::Held => "held",
            Self::Realising => "realising",
            Self::Waiting => "waiting",
            Self::BackingOff => "backing-off",
            Self::RebootRequired => "reboot-required",
            Self::Unreachable => "unreachable",
            Self::UpToDate => "up-to-date",
            Self::Starting => "starting",
        }
    }
}

/// Everything that is shown (`fort-agent status --json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Of this format.
    pub version: u32,
    /// This host.
    pub hostname: String,
    /// In one word.
    pub state: State,
    /// In a sentence.
    pub reason: String,
    /// What happens next by itself, and when.
    pub next: Option<Next>,
    /// What should run.
    pub desired: Option<Desired>,
    /// What runs.
    pub running: RunningView,
    /// What boots.
    pub boot: BootView,
    /// What was last verified and made the default.
    pub last_good: Option<GoodView>,
    /// The deployment under way.
    pub deployment: Option<DeploymentView>,
    /// What is refused, and what lifts that.
    pub held: Option<Held>,
    /// Whether a person has suspended deployments.
    pub suspended: Option<Value>,
    /// The remotes, in order.
    pub remotes: Vec<RemoteView>,
    /// What the cache still lacks.
    pub publish: Option<Value>,
    /// Systems that failed too often.
    pub quarantine: Vec<QuarantineView>,
    /// The last deployment that ended.
    pub last_deployment: Option<Value>,
    /// What else a person should know.
    pub notes: Vec<String>,
    /// This program.
    pub agent: AgentView,
}

/// What happens next by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Next {
    /// What.
    pub action: String,
    /// When, at the latest.
    pub at: Wall,
}

/// What should run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// The commit.
    pub commit: Commit,
    /// The commit on the authors' branch that it was made from; without a
    /// manifest the commit itself.
    pub source: Commit,
    /// The branch whose head it was.
    pub branch: String,
    /// The remote that said so.
    pub remote: String,
    /// What is done with it.
    pub operation: Operation,
    /// Its system, if that is known.
    pub system: Option<StorePath>,
    /// When it was first seen.
    pub first_seen: Wall,
}

/// What runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningView {
    /// The newest accepted commit whose system it is.
    pub commit: Option<Commit>,
    /// The system.
    pub system: Option<StorePath>,
    /// Since when.
    pub since: Option<Wall>,
    /// Whether another hand put it there.
    pub drift: bool,
}

/// What boots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootView {
    /// What the system profile names.
    pub default: Option<StorePath>,
    /// What was booted.
    pub booted: Option<StorePath>,
    /// Whether the default needs a reboot to run.
    pub reboot_required: bool,
    /// Why.
    pub why: Option<String>,
}

/// A verified system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoodView {
    /// The newest accepted commit whose system it is.
    pub commit: Option<Commit>,
    /// The system.
    pub system: StorePath,
}

/// A deployment under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentView {
    /// Its name.
    pub id: String,
    /// Its commit.
    pub commit: Commit,
    /// How far it is.
    pub stage: String,
    /// When it began.
    pub started: Wall,
    /// Counted from 1.
    pub attempt: u32,
    /// Details of the stage.
    pub progress: Value,
}

/// What is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// In one word.
    pub cause: String,
    /// What that rests on.
    pub evidence: Value,
    /// What would lift it.
    pub lift: String,
}

/// What is known of a remote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteView {
    /// Its name.
    pub name: String,
    /// Whether it answered the last time.
    pub reachable: bool,
    /// When it last answered.
    pub last_success: Option<Wall>,
    /// Its release head, as far as is known.
    pub head: Option<Commit>,
    /// What is wrong with it.
    pub error: Option<String>,
}

/// A system that failed too often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineView {
    /// The system.
    pub system: StorePath,
    /// The newest accepted commit whose system it is.
    pub commit: Option<Commit>,
    /// How often it failed.
    pub failures: u32,
    /// Since when it is not tried again.
    pub since: Wall,
    /// Why it failed.
    pub cause: String,
}

/// This program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentView {
    /// Its version.
    pub version: String,
    /// When it was started.
    pub started: Wall,
}

impl Status {
    /// Whether what should run does.
    pub fn in_sync(&self) -> bool {
        let desired = self.desired.as_ref();
        desired.is_some_and(|desired| {
            desired.system.is_some() && desired.system == self.running.system
        }) && !self.running.drift
    }
}

/// How things stand.
pub fn status(
    policy: &Policy,
    memory: &Memory,
    seen: &Seen,
    decision: &Decision,
    agent: &AgentView,
    now: Now,
) -> Status {
    let v = Viewer { policy, memory, seen, decision, now };
    let held = v.held();
    let state = v.state(held.as_ref());
    Status {
        version: 1,
        hostname: policy.hostname.clone(),
        state,
        reason: v.reason(state, held.as_ref()),
        next: v.next(),
        desired: v.desired(),
        running: v.running(),
        boot: v.boot(),
        last_good: memory.last_good.as_ref().map(|good| GoodView {
            commit: memory.commit_of(&good.system),
            system: good.system.clone(),
        }),
        deployment: v.deployment(),
        held,
        suspended: None,
        remotes: v.remotes(),
        publish: None,
        quarantine: v.quarantine(),
        last_deployment: memory.history.last().map(|entry| json!(entry)),
        notes: v.notes(),
        agent: agent.clone(),
    }
}

struct Viewer<'a> {
    policy: &'a Policy,
    memory: &'a Memory,
    seen: &'a Seen,
    decision: &'a Decision,
    now: Now,
}

impl Viewer<'_> {
    fn state(&self, held: Option<&Held>) -> State {
        let outlook = &self.decision.outlook;
        if let Outlook::Switching { phase, .. } = outlook {
            return match phase {
                Phase::PuttingBack { tries, .. } if *tries < RUNGS => State::RollingBack,
                Phase::PuttingBack { .. } => State::RollbackFailed,
                Phase::Ready | Phase::Activating { .. } | Phase::Deferring { .. } => {
                    State::Activating
                }
                Phase::Activated { .. } | Phase::Committing => State::Verifying,
            };
        }
        if held.is_some() {
            return State::Held;
        }
        match outlook {
            Outlook::Switching { .. }
            | Outlook::WrongMachine { .. }
            | Outlook::Refused { .. }
            | Outlook::Stuck(_) => State::Held,
            Outlook::Realising(_) => State::Realising,
            Outlook::Due(step) => match **step {
                Step::StartRealise(_) => State::Realising,
                Step::StartSwitch(_) => State::Activating,
                Step::Settle { .. } => State::Verifying,
                Step::Wait { .. }
                | Step::Poll { .. }
                | Step::Compare { .. }
                | Step::Follow { .. }
                | Step::KeepRoots(_)
                | Step::StopJob(_)
                | Step::RemoveJob(_)
                | Step::ResumeSwitch(_)
                | Step::RunChecks(_)
                | Step::Preflight { .. }
                | Step::Look
                | Step::LookAgainstReboot
                | Step::Reboot { .. }
                | Step::WriteVerdict { .. }
                | Step::GiveUp { .. } => State::Waiting,
            },
            Outlook::Clearing
            | Outlook::AwaitsRemote
            | Outlook::Experiment(_)
            | Outlook::Preflight(_)
            | Outlook::Drift => State::Waiting,
            Outlook::InSync if self.undone().is_some() => State::Waiting,
            Outlook::BackingOff(_) => State::BackingOff,
            Outlook::AwaitsBoot { .. } => State::RebootRequired,
            Outlook::InSync if self.seen.reboot_why.is_some() => State::RebootRequired,
            Outlook::InSync | Outlook::NothingKnown if unreachable(self.seen) => State::Unreachable,
            Outlook::InSync => State::UpToDate,
            Outlook::NothingKnown => State::Starting,
        }
    }

    fn reason(&self, state: State, held: Option<&Held>) -> String {
        let commit = self.memory.target.as_ref().map_or("nothing".into(), |t| t.commit.short());
        if let (State::Held, Some(held)) = (state, held) {
            return self.held_reason(held, &commit);
        }
        match &self.decision.outlook {
            Outlook::Switching { order, phase: Phase::Activated { .. } } => {
                let commit = order.order.target.commit.short();
                let checks =
                    self.seen.checks.iter().filter(|c| c.job.deployment == order.order.deployment);
                let mut checks = checks.flat_map(|round| &round.checks);
                match checks.find(|check| check.required && !check.ok) {
                    Some(check) => format!(
                        "{commit} runs, but check {} fails: {}",
                        check.name,
                        first_line(&check.detail)
                    ),
                    None => format!("{commit} runs and is being checked"),
                }
            }
            Outlook::Switching { order, phase } => switching_reason(&order.order.target, phase),
            Outlook::WrongMachine { .. } | Outlook::Refused { .. } | Outlook::Stuck(_) => {
                "held".into()
            }
            Outlook::Preflight(_) => format!("{commit} is next, if it may be activated"),
            Outlook::Experiment(experiment) => format!(
                "a system was put back because no remote answered; whether one does now, from \
                 the old system, tells whose fault that was: {}",
                first_line(&experiment.cause)
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
                    first_line(&trouble.cause)
                )
            }
            Outlook::Drift => {
                let name = |system: Option<&StorePath>| {
                    system.map_or("nothing", StorePath::as_str).to_owned()
                };
                let settled = self.memory.settled.as_ref().map(|settled| &settled.system);
                let running = self.seen.running.as_ref();
                let what = if running == settled {
                    let default = self.seen.profile.as_ref().map(|generation| &generation.system);
                    format!("{} was made the boot default", name(default))
                } else {
                    format!("{} was put there", name(running))
                };
                format!("{what} by another hand; left alone until the next commit")
            }
            Outlook::AwaitsBoot { why } => format!("{commit} is the default, but {why}"),
            Outlook::AwaitsRemote => {
                format!("{commit} is ready; no remote answers, so it could not be verified")
            }
            Outlook::Due(step) => {
                // What awaited this boot comes before what is wanted since.
                let switch =
                    if let Step::StartSwitch(switch) = &**step { Some(switch) } else { None };
                let next = switch.map_or(commit, |switch| switch.order.target.commit.short());
                format!("{next} is next")
            }
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
                (_, _) => format!("{commit} runs and was verified"),
            },
        }
    }

    /// While the target does not run, what does is the first question.
    fn still_running(&self) -> String {
        let running = self.seen.running.as_ref().and_then(|system| self.memory.commit_of(system));
        let target = self.memory.target.as_ref().map(|target| target.commit);
        let running = running.filter(|running| Some(*running) != target);
        running.map(|running| format!(", {} runs", running.short())).unwrap_or_default()
    }

    fn held_reason(&self, held: &Held, commit: &str) -> String {
        match held.cause.as_str() {
            "force-push" => {
                let head = held.evidence["head"].as_str().unwrap_or_default();
                let accepted = held.evidence["accepted"].as_str().unwrap_or_default();
                format!(
                    "{} was force-pushed: {} does not descend from {}",
                    self.policy.release,
                    head.get(..7).unwrap_or(head),
                    accepted.get(..7).unwrap_or(accepted),
                )
            }
            "branch-missing" => format!("no remote has a branch {}", self.policy.release),
            "machine-id" => "the configuration is for another machine".into(),
            "no-such-host" => {
                format!("the commit has no host {}", self.policy.hostname)
            }
            "disk-space" | "incomplete-closure" | "no-agent" => format!(
                "{commit} is not activated{}: {}",
                self.still_running(),
                held.evidence["found"].as_str().map_or("", first_line)
            ),
            _ => format!(
                "the system of {commit} failed {} and is quarantined{}: {}",
                times(held.evidence["failures"].as_u64().unwrap_or(0).try_into().unwrap_or(0)),
                self.still_running(),
                held.evidence["last"].as_str().map_or("", first_line)
            ),
        }
    }

    fn realising_reason(&self, commit: &str, _kind: Kind) -> String {
        let progress = self.seen.jobs.iter().find_map(|job| match &job.work {
            Work::Realise { progress, .. } => progress.as_ref(),
            Work::Switch { .. } | Work::Unreadable => None,
        });
        match progress {
            Some(progress) if progress.to_build > 0 => format!(
                "{} {commit}: {} of {} built",
                progress.phase, progress.built, progress.to_build
            ),
            Some(progress) if !progress.phase.is_empty() => {
                format!("{} {commit}", progress.phase)
            }
            Some(_) | None => format!("realising {commit}"),
        }
    }

    fn starting_reason(&self) -> String {
        let errors = self.seen.remotes.iter().filter_map(|remote| remote.error.as_deref());
        errors.map(first_line).next().map_or_else(
            || "no remote has answered yet".into(),
            |error| format!("no remote has answered yet: {error}"),
        )
    }

    fn unreachable_reason(&self) -> String {
        let error = self.seen.remotes.iter().find_map(|remote| remote.error.as_deref());
        format!("no remote answers: {}", first_line(error.unwrap_or("no error is known")))
    }

    fn held(&self) -> Option<Held> {
        if let Outlook::WrongMachine { found } = &self.decision.outlook {
            return Some(Held {
                cause: "machine-id".into(),
                evidence: json!({ "configured": self.policy.machine_id, "found": found }),
                lift: "correct machine_id in the configuration, or install the configuration \
                       of this machine"
                    .into(),
            });
        }
        if let Some((index, standing)) = refusals(&self.decision.selection).next() {
            return Some(self.force_push(index, standing));
        }
        let standings = &self.decision.selection.standings;
        let missing = standings.contains(&Standing::BranchMissing)
            && !standings
                .iter()
                .any(|standing| matches!(standing, Standing::Usable(_) | Standing::Unclear(_)));
        if missing {
            let remotes: Vec<_> = self
                .policy
                .remotes
                .iter()
                .zip(standings)
                .filter(|(_, standing)| **standing == Standing::BranchMissing)
                .map(|(name, _)| name)
                .collect();
            return Some(Held {
                cause: "branch-missing".into(),
                evidence: json!({ "branch": self.policy.release, "remotes": remotes }),
                lift: format!("push a branch {}", self.policy.release),
            });
        }
        let outlook = &self.decision.outlook;
        if let Outlook::Stuck(trouble) = outlook {
            return Some(self.stuck(trouble));
        }
        if let Outlook::Refused { refusal, .. } = outlook {
            return Some(self.refused(refusal));
        }
        if let Outlook::BackingOff(Trouble { refusal: Some(refusal), .. }) = outlook {
            return Some(self.refused(refusal));
        }
        None
    }

    fn refused(&self, refusal: &Refusal) -> Held {
        let commit = self.memory.target.as_ref().map(|target| target.commit.short());
        let mut evidence = json!(refusal.evidence);
        evidence["found"] = json!(refusal.detail);
        Held {
            cause: refusal.cause.as_str().into(),
            evidence,
            lift: match refusal.cause {
                RefusalCause::DiskSpace => "make room; it is looked at again by itself".into(),
                RefusalCause::IncompleteClosure => {
                    "nix-store --verify --check-contents --repair, or run fort-agent retry".into()
                }
                RefusalCause::NoAgent => format!(
                    "push a commit whose system has the agent, or run fort-agent accept {}",
                    commit.unwrap_or_default()
                ),
            },
        }
    }

    fn force_push(&self, index: usize, standing: Standing) -> Held {
        let head = match standing {
            Standing::ForcePush(head) | Standing::Rewind(head) => Some(head),
            Standing::Unknown
            | Standing::Silent
            | Standing::BranchMissing
            | Standing::Usable(_)
            | Standing::Behind(_)
            | Standing::Unclear(_) => None,
        };
        let accepted = self.memory.accepted.as_ref().map(|accepted| accepted.commit);
        Held {
            cause: "force-push".into(),
            evidence: json!({
                "remote": self.policy.remotes.get(index),
                "branch": self.policy.release,
                "head": head,
                "accepted": accepted,
                "rewind": matches!(standing, Standing::Rewind(_)),
            }),
            lift: format!("fort-agent accept {}", head.map(|h| h.short()).unwrap_or_default()),
        }
    }

    fn stuck(&self, trouble: &Trouble) -> Held {
        match &trouble.stuck {
            Some(Stuck::NoSuchHost { hosts }) => Held {
                cause: "no-such-host".into(),
                evidence: json!({
                    "hostname": self.policy.hostname,
                    "recipe": self.policy.recipe,
                    "hosts": hosts,
                }),
                lift: "push a commit that has this host, or correct hostname in the \
                       configuration"
                    .into(),
            },
            Some(Stuck::Quarantined) | None => Held {
                cause: "quarantined".into(),
                evidence: json!({
                    "failures": trouble.failures,
                    "last": trouble.cause,
                    "at": trouble.at,
                    "subject": trouble.subject,
                }),
                lift: "push a commit with another system, or run fort-agent retry".into(),
            },
        }
    }

    fn next(&self) -> Option<Next> {
        let wall = |at: Mono| {
            let now = self.now;
            now.wall.plus(at.since(now.mono))
        };
        if let Some(opens) = self.reboots_at() {
            return Some(Next { action: "reboot".into(), at: opens });
        }
        let (action, at) = match &self.decision.outlook {
            Outlook::BackingOff(trouble) => {
                let action = match trouble.subject {
                    Subject::Commit { .. } => "realise",
                    Subject::System { .. } => "activate",
                };
                (action, trouble.not_before)
            }
            Outlook::Switching { order, phase: Phase::Activated { at } } => {
                ("put-back", wall(at.plus(order.health_timeout)))
            }
            Outlook::Due(step) => {
                let realises = matches!(**step, Step::StartRealise(_));
                let action = if realises { "realise" } else { "activate" };
                (action, self.now.wall)
            }
            Outlook::Refused { again, .. } => ("preflight", wall(*again)),
            Outlook::Preflight(_) => ("activate", self.now.wall),
            Outlook::Experiment(_) => ("look", self.now.wall),
            Outlook::Switching { .. }
            | Outlook::NothingKnown
            | Outlook::WrongMachine { .. }
            | Outlook::Realising(_)
            | Outlook::Clearing
            | Outlook::Stuck(_)
            | Outlook::InSync
            | Outlook::Drift
            | Outlook::AwaitsBoot { .. }
            | Outlook::AwaitsRemote => {
                let polling = self.seen.remotes.iter().any(|remote| remote.busy);
                match self.decision.next_poll {
                    Some(at) => ("poll", wall(at)),
                    None if polling => ("poll", self.now.wall),
                    None => return None,
                }
            }
        };
        Some(Next { action: action.into(), at })
    }

    /// When the agent reboots the host, if a window is waited for.
    fn reboots_at(&self) -> Option<Wall> {
        let needed = self.decision.outlook.needs_reboot(self.seen);
        let window = self.seen.reboot_window;
        window.changes.filter(|_| needed && self.policy.reboots && !window.open)
    }

    fn desired(&self) -> Option<Desired> {
        let target = self.memory.target.as_ref()?;
        Some(Desired {
            commit: target.commit,
            source: target.commit,
            branch: target.branch.to_string(),
            remote: target.remote.to_string(),
            operation: target.operation,
            system: self.memory.system_of(target.commit, &self.policy.recipe).cloned(),
            first_seen: target.first_seen,
        })
    }

    fn running(&self) -> RunningView {
        let system = self.seen.running.clone();
        let settled = self.memory.settled.as_ref().map(|settled| &settled.system);
        let expected = |system: &StorePath| {
            self.memory.put.as_ref() == Some(system) || settled == Some(system)
        };
        let switching = matches!(self.decision.outlook, Outlook::Switching { .. });
        let drift = !switching && system.as_ref().is_some_and(|system| !expected(system));
        RunningView {
            commit: system.as_ref().filter(|_| !drift).and_then(|s| self.memory.commit_of(s)),
            since: self.memory.running.as_ref().map(|running| running.since),
            system,
            drift,
        }
    }

    fn boot(&self) -> BootView {
        let awaits = match &self.decision.outlook {
            Outlook::AwaitsBoot { why } => Some(why.clone()),
            Outlook::NothingKnown
            | Outlook::Switching { .. }
            | Outlook::WrongMachine { .. }
            | Outlook::Realising(_)
            | Outlook::Clearing
            | Outlook::BackingOff(_)
            | Outlook::Stuck(_)
            | Outlook::InSync
            | Outlook::Drift
            | Outlook::AwaitsRemote
            | Outlook::Experiment(_)
            | Outlook::Preflight(_)
            | Outlook::Refused { .. }
            | Outlook::Due(_) => None,
        };
        let why = awaits.or_else(|| self.seen.reboot_why.clone());
        BootView {
            default: self.seen.profile.as_ref().map(|generation| generation.system.clone()),
            booted: self.seen.booted.clone(),
            reboot_required: why.is_some(),
            why,
        }
    }

    fn deployment(&self) -> Option<DeploymentView> {
        if let Outlook::Switching { order, phase } = &self.decision.outlook {
            let order = &order.order;
            let stage = match phase {
                Phase::Ready | Phase::Activating { .. } => "activate",
                Phase::Activated { .. } => "verify",
                Phase::Committing | Phase::Deferring { .. } => "commit",
                Phase::PuttingBack { .. } => "rollback",
            };
            let checks =
                self.seen.checks.as_ref().filter(|round| round.job.deployment == order.deployment);
            return Some(DeploymentView {
                id: order.deployment.to_string(),
                commit: order.target.commit,
                stage: stage.into(),
                started: order.started,
                attempt: order.attempt,
                progress: json!({ "phase": phase, "checks": checks.map(|round| &round.checks) }),
            });
        }
        let deployment = self.memory.deployment.as_ref()?;
        let progress = self.seen.jobs.iter().find_map(|job| match &job.work {
            Work::Realise { progress, .. } if Some(&job.id) == deployment.job.as_ref() => {
                progress.as_ref()
            }
            Work::Realise { .. } | Work::Switch { .. } | Work::Unreadable => None,
        });
        Some(DeploymentView {
            id: deployment.id.to_string(),
            commit: deployment.target.commit,
            stage: if deployment.system.is_none() { "realise" } else { "gate" }.into(),
            started: deployment.started,
            attempt: deployment.attempt,
            progress: progress.map_or_else(|| json!({}), |progress| json!(progress)),
        })
    }

    fn remotes(&self) -> Vec<RemoteView> {
        let standings = &self.decision.selection.standings;
        self.policy
            .remotes
            .iter()
            .zip(&self.seen.remotes)
            .zip(standings)
            .map(|((name, remote), standing)| RemoteView {
                name: name.to_string(),
                reachable: remote.answers(),
                last_success: remote.answered,
                head: remote.heads.and_then(|heads| heads.release),
                error: remote.error.clone().or_else(|| self.complaint(*standing)),
            })
            .collect()
    }

    fn complaint(&self, standing: Standing) -> Option<String> {
        let branch = &self.policy.release;
        match standing {
            Standing::BranchMissing => Some(format!("it has no branch {branch}")),
            Standing::Behind(head) => Some(format!(
                "{branch} is behind: {} is older than what was accepted",
                head.short()
            )),
            Standing::ForcePush(head) => Some(format!(
                "{branch} was force-pushed: {} does not descend from what was accepted",
                head.short()
            )),
            Standing::Rewind(head) => Some(format!("{branch} was set back to {}", head.short())),
            Standing::Unknown | Standing::Silent | Standing::Usable(_) | Standing::Unclear(_) => {
                None
            }
        }
    }

    fn quarantine(&self) -> Vec<QuarantineView> {
        let quarantined = |trouble: &Trouble| match (&trouble.subject, &trouble.stuck) {
            (Subject::System { system }, Some(_)) => Some(QuarantineView {
                system: system.clone(),
                commit: self.memory.commit_of(system),
                failures: trouble.failures,
                since: trouble.at,
                cause: trouble.cause.clone(),
            }),
            (Subject::System { .. } | Subject::Commit { .. }, _) => None,
        };
        self.memory.troubles.iter().filter_map(quarantined).collect()
    }

    fn notes(&self) -> Vec<String> {
        let rebuilt = self.memory.rebuilt.iter().cloned();
        let testing = match self.decision.selection.testing {
            Testing::Stale(head) => {
                Some(format!("testing head {} is not ahead of the release: ignored", head.short()))
            }
            Testing::UndoneByReboot(head) => {
                Some(format!("testing head {} was undone by a reboot", head.short()))
            }
            Testing::Absent | Testing::Followed(_) => None,
        };
        let against = self.seen.against.as_ref().map(|against| against.whom.join(", "));
        let needed = self.policy.reboots && self.boot().reboot_required;
        let against = against
            .filter(|whom| needed && !whom.is_empty())
            .map(|whom| format!("not rebooted yet: {whom}"));
        rebuilt.chain(testing).chain(against).collect()
    }

    fn undone(&self) -> Option<Commit> {
        match self.decision.selection.testing {
            Testing::UndoneByReboot(head) => Some(head),
            Testing::Absent | Testing::Followed(_) | Testing::Stale(_) => None,
        }
    }
}

fn switching_reason(target: &Target, phase: &Phase) -> String {
    let commit = target.commit.short();
    match phase {
        Phase::Ready | Phase::Activating { .. } => format!("activating {commit}"),
        Phase::Activated { .. } => format!("{commit} runs and is being checked"),
        Phase::Committing => format!("{commit} works and is becoming the boot default"),
        Phase::Deferring { why } => {
            format!("{commit} is becoming the default of the next boot: {why}")
        }
        Phase::PuttingBack { cause, tries, .. } if *tries < RUNGS => {
            format!("the system before {commit} is being put back: {}", first_line(cause))
        }
        Phase::PuttingBack { cause, error, tries, .. } => format!(
            "the system before {commit} could not be put back ({} so far): {}; {commit} had \
             failed: {}",
            times(*tries),
            first_line(error.as_deref().unwrap_or("the last try was cut off")),
            first_line(cause)
        ),
    }
}

fn times(count: u32) -> String {
    match count {
        1 => "once".into(),
        2 => "twice".into(),
        n => format!("{n} times"),
    }
}

fn first_line(text: &str) -> &str {
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim()
}

//! Way from the commit that should run to its running: the rules in the order in which
//! they are applied, and the one at which the target stands now.

use super::past::{NOT_REACHED, checked, failing};
use super::{Explainer, Rule};
use crate::decide::{Due, Outlook};
use crate::guardian::{Phase, RUNGS};
use crate::job::{Ending, How, RealisePhase, RealiseProgress, SwitchOrder};
use crate::memory::{Stuck, Subject, Trouble};
use crate::observed::Work;
use crate::plain::clean;
use crate::policy::Operation;
use crate::status::reason::times;
use crate::status::{Held, NextAction};
use crate::types::StorePath;

/// A rule's place in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Look,
    Machine,
    OtherJobs,
    Realised,
    Quarantine,
    Pause,
    Preflight,
    Reachable,
    Gates,
    Activation,
    Verification,
    Default,
    Reboot,
    Drift,
}

/// Rule at which the target waits or fails.
struct Stop {
    place: Place,
    /// Result of the rule; not none: the target fails there.
    holds: Option<bool>,
    evidence: String,
    lift: Option<String>,
}

impl Stop {
    fn at(place: Place, evidence: impl Into<String>) -> Self {
        Self { place, holds: None, evidence: evidence.into(), lift: None }
    }

    fn failed(place: Place, evidence: impl Into<String>, lift: Option<String>) -> Self {
        Self { place, holds: Some(false), evidence: evidence.into(), lift }
    }
}

impl Place {
    const ALL: [Self; 14] = [
        Self::Look,
        Self::Machine,
        Self::OtherJobs,
        Self::Realised,
        Self::Quarantine,
        Self::Pause,
        Self::Preflight,
        Self::Reachable,
        Self::Gates,
        Self::Activation,
        Self::Verification,
        Self::Default,
        Self::Reboot,
        Self::Drift,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::Machine => "machine",
            Self::OtherJobs => "other-jobs",
            Self::Realised => "realised",
            Self::Quarantine => "quarantine",
            Self::Pause => "pause",
            Self::Preflight => "preflight",
            Self::Reachable => "reachable",
            Self::Gates => "gates",
            Self::Activation => "activation",
            Self::Verification => "verification",
            Self::Default => "default",
            Self::Reboot => "reboot",
            Self::Drift => "drift",
        }
    }
}

impl Explainer<'_> {
    /// Rules from the commit to the system that runs.
    pub(super) fn target_rules(&self) -> Vec<Rule> {
        let stop = self.stop();
        let at = stop.as_ref().map(|stop| stop.place);
        Place::ALL
            .into_iter()
            .filter_map(|place| match (&stop, at) {
                (Some(stop), Some(at)) if at == place => Some(Rule {
                    rule: place.as_str().into(),
                    holds: stop.holds,
                    evidence: stop.evidence.clone(),
                    lift: stop.lift.clone(),
                }),
                (Some(_), Some(at)) if at < place => self.unreached(place),
                (_, _) => self.passed(place),
            })
            .collect()
    }

    fn unreached(&self, place: Place) -> Option<Rule> {
        match place {
            // Whatever else is the case.
            Place::Look | Place::Machine | Place::OtherJobs => self.passed(place),
            Place::Realised
            | Place::Quarantine
            | Place::Pause
            | Place::Preflight
            | Place::Reachable
            | Place::Gates
            | Place::Activation
            | Place::Verification
            | Place::Default
            | Place::Reboot
            | Place::Drift => Some(Rule::open(place.as_str(), NOT_REACHED)),
        }
    }

    /// Why a rule is met; nothing for one that says nothing then.
    fn passed(&self, place: Place) -> Option<Rule> {
        let (policy, memory) = (self.view.policy, self.view.memory);
        let target = memory.target.as_ref()?;
        let system = memory.system_of(target.commit, &policy.recipe);
        let evidence: String = match place {
            Place::Machine => format!("this is {}", policy.machine_id.as_ref()?),
            Place::Look | Place::OtherJobs => return None,
            Place::Realised => format!("its system is {}", system?),
            Place::Quarantine => "its system is not quarantined".into(),
            Place::Pause => "no failure is waited out".into(),
            Place::Preflight => return Some(self.preflight_passed()),
            Place::Reachable => return Some(self.reachable()),
            Place::Gates => return Some(self.gates()),
            Place::Activation => return Some(self.activated()),
            Place::Verification => return Some(self.verified(system?)),
            Place::Default => return Some(self.boots(target.operation, system?)),
            Place::Reboot => match &self.view.seen.reboot_why {
                Some(why) => return Some(Rule::open(place.as_str(), why)),
                None => "none is needed".into(),
            },
            Place::Drift => "no other hand has changed what runs or boots".into(),
        };
        Some(Rule::met(place.as_str(), evidence))
    }

    /// Rule of a preflight that passed, with its result as far as that is still known.
    fn preflight_passed(&self) -> Rule {
        let rule = Place::Preflight.as_str();
        let Some(activated) = self.activation() else { return Rule::open(rule, NOT_NEEDED) };
        let system = activated.system.as_ref();
        let found = self.view.seen.preflight.as_ref();
        let found = found.filter(|found| Some(&found.system) == system);
        match found.filter(|found| found.refusal.is_none()) {
            Some(found) => {
                let agent = if found.needs_agent { ", and has an agent" } else { "" };
                Rule::met(rule, format!("there is room for it, it is whole{agent}"))
            }
            None if activated.begun => Rule::met(rule, "it might be activated when it was"),
            None => Rule::open(rule, "is looked at before it is activated"),
        }
    }

    fn reachable(&self) -> Rule {
        let rule = Place::Reachable.as_str();
        if !self.view.policy.health_remote {
            return Rule::met(rule, "not asked for: [health] remote = false");
        }
        let look = self.view.seen.look.as_ref().filter(|look| look.reached);
        match (self.activation(), look) {
            (None, _) => Rule::open(rule, NOT_NEEDED),
            (Some(_), Some(look)) => Rule::met(rule, clean(&look.detail)),
            (Some(Activation { begun: true, .. }), None) => {
                Rule::met(rule, "a remote answered when it was activated")
            }
            (Some(_), None) => Rule::open(rule, "is looked for before it is activated"),
        }
    }

    fn activated(&self) -> Rule {
        let rule = Place::Activation.as_str();
        match (self.deferred(), self.activation()) {
            (Some(why), _) => Rule::open(rule, format!("left to the next boot: {why}")),
            (None, None) => Rule::met(rule, "its system ran already"),
            (None, Some(Activation { took: Some(took), .. })) => {
                Rule::met(rule, format!("switch-to-configuration took {took} ms"))
            }
            (None, Some(Activation { took: None, .. })) => Rule::met(rule, "it is activated"),
        }
    }

    fn verified(&self, system: &StorePath) -> Rule {
        let rule = Place::Verification.as_str();
        if self.deferred().is_some() {
            return Rule::open(rule, "comes after its boot");
        }
        let target = self.view.memory.target.as_ref();
        let last = target.and_then(|target| self.entries(target.commit).next());
        let last = last.filter(|entry| entry.verdict == Ending::Good);
        match last {
            Some(entry) => Rule::met(rule, checked(&entry.checks)),
            None if self.view.memory.has_verified(system) => Rule::met(rule, "it was found good"),
            None => Rule::met(rule, "it passed"),
        }
    }

    fn boots(&self, operation: Operation, system: &StorePath) -> Rule {
        let rule = Place::Default.as_str();
        let default = self.view.seen.profile.as_ref().map(|generation| &generation.system);
        match operation {
            Operation::Test => Rule::met(rule, "not for tests: a reboot undoes them"),
            Operation::Switch | Operation::Boot if default == Some(system) => {
                Rule::met(rule, "it is the boot default")
            }
            Operation::Switch | Operation::Boot => match default {
                Some(default) => Rule::open(rule, format!("the boot default is {default}")),
                None => Rule::open(rule, "there is no boot default"),
            },
        }
    }

    /// How the target's system came to run: by the job at work, or else the
    /// last one that is remembered. None: it ran already, or it is not known.
    fn activation(&self) -> Option<Activation> {
        let target = self.view.memory.target.as_ref()?;
        let at_work = self.view.seen.jobs.iter().find_map(|job| match &job.work {
            Work::Switch { order, progress, .. } if order.order.target.same_as(target) => {
                Some((order, progress.as_ref()))
            }
            Work::Switch { .. } | Work::Realise { .. } => None,
            Work::Publish { .. } | Work::Unreadable => None,
        });
        if let Some((order, progress)) = at_work {
            let took = progress.and_then(|progress| progress.stages.activate);
            let system = Some(order.candidate.clone());
            return (order.how != How::Verify).then_some(Activation { system, took, begun: true });
        }
        let system = self.view.memory.system_of(target.commit, &self.view.policy.recipe).cloned();
        let last = self.entries(target.commit).next();
        let took = last.filter(|entry| entry.system == system);
        let took = took.and_then(|entry| entry.stages.activate);
        let settled = self.view.memory.has_settled(target);
        let begun = took.is_some();
        (begun || !settled).then_some(Activation { system, took, begun })
    }

    /// Reason for which the target was left to the next boot, if it was.
    fn deferred(&self) -> Option<&str> {
        let target = self.view.memory.target.as_ref()?;
        let awaiting = self.view.memory.awaiting.as_ref()?;
        let system = self.view.memory.system_of(target.commit, &self.view.policy.recipe);
        let same = system == Some(&awaiting.system) && awaiting.boot_id == self.view.seen.boot_id;
        same.then_some(awaiting.why.as_str())
    }

    /// Rule at which the target stands; `None` when it is in force.
    fn stop(&self) -> Option<Stop> {
        if let Some(gate) = self.closed_gate() {
            return Some(Stop::failed(Place::Gates, gate.evidence, gate.lift));
        }
        let held = self.view.target_held();
        let lift = |held: &Option<Held>| held.as_ref().map(|held| held.lift.clone().into());
        let reason = &self.status.reason;
        let next_poll = self.status.next.as_ref().map(|next| next.at);
        Some(match &self.view.decision.outlook {
            Outlook::NothingKnown => Stop::at(Place::Realised, "no commit is known yet"),
            Outlook::Blind { unseen, since } => Stop::failed(
                Place::Look,
                format!("this host cannot be looked at: {unseen}, since {since}"),
                Some(unseen.lift().into()),
            ),
            Outlook::WrongMachine { found } => Stop::failed(
                Place::Machine,
                format!(
                    "the configuration is for {}, and this is {}",
                    self.view.policy.machine_id.as_deref().unwrap_or("another machine"),
                    found.as_deref().unwrap_or("a machine without an id")
                ),
                lift(&held),
            ),
            Outlook::Switching { order, phase } => self.switching(order, phase),
            Outlook::Clearing => Stop::at(Place::OtherJobs, "an earlier one comes to its end"),
            Outlook::Realising(_) => Stop::at(Place::Realised, self.realising()),
            Outlook::BackingOff(trouble) => self.backing_off(trouble, lift(&held)),
            Outlook::Stuck(trouble) => {
                let place = match (&trouble.stuck, &trouble.subject) {
                    (Some(Stuck::NoSuchHost { .. }), _) | (_, Subject::Commit { .. }) => {
                        Place::Realised
                    }
                    (Some(Stuck::Quarantined) | None, Subject::System { .. }) => Place::Quarantine,
                };
                let evidence = match (&trouble.refused, &trouble.stuck) {
                    (Some(refusal), _) => clean(&refusal.detail),
                    (None, Some(Stuck::NoSuchHost { hosts })) if hosts.is_empty() => {
                        format!("the commit has no host {}", self.view.policy.hostname)
                    }
                    (None, Some(Stuck::NoSuchHost { hosts })) => format!(
                        "the commit has no host {}, only {}",
                        self.view.policy.hostname,
                        hosts.join(" ")
                    ),
                    (None, Some(Stuck::Quarantined) | None) => failures(trouble),
                };
                Stop::failed(place, evidence, lift(&held))
            }
            Outlook::InSync => return self.in_sync(),
            Outlook::Drift => Stop::failed(Place::Drift, reason.clone(), self.status_lift()),
            Outlook::AwaitsBoot { why } => {
                let (evidence, lift) = self.reboot(why);
                Stop::failed(Place::Reboot, evidence, lift)
            }
            Outlook::AwaitsRemote => {
                let seen = self.view.seen;
                let look = seen.look.as_ref().filter(|look| !look.reached);
                let found = look.map_or_else(String::new, |look| clean(&look.detail));
                let found = if found.is_empty() { String::new() } else { format!(": {found}") };
                let again = next_poll.map(|at| format!("; looked again {at}"));
                let evidence = format!(
                    "no remote answers, so it could not be verified{found}{}",
                    again.unwrap_or_default()
                );
                Stop::failed(Place::Reachable, evidence, Some(self.view.remote_lift().into()))
            }
            Outlook::Experiment(_) => Stop::at(Place::Reachable, reason.clone()),
            Outlook::Preflight(_) => Stop::at(Place::Preflight, "is being found out"),
            Outlook::Refused { refusal, .. } => {
                Stop::failed(Place::Preflight, clean(&refusal.detail), lift(&held))
            }
            // Said above, in the words of the status.
            Outlook::Gated(_) => Stop::at(Place::Gates, reason.clone()),
            Outlook::Due(due) => self.due(due),
        })
    }

    fn in_sync(&self) -> Option<Stop> {
        let why = self.view.seen.reboot_why.as_deref()?;
        let (evidence, lift) = self.reboot(why);
        Some(Stop::failed(Place::Reboot, evidence, lift))
    }

    /// Reason for a reboot, with who brings it about or is against it; and its remedy.
    fn reboot(&self, why: &str) -> (String, Option<String>) {
        let seen = self.view.seen;
        if !self.view.policy.reboots {
            return (why.into(), Some(self.view.reboot_lift().into()));
        }
        let against = seen.against.as_ref().map(|against| against.whom.join(", "));
        let against = against.filter(|whom| !whom.is_empty());
        let evidence = match (against, seen.reboot_window.open, seen.reboot_window.changes) {
            (Some(whom), true, _) => format!("{why}; not rebooted yet: {whom}"),
            (_, false, Some(opens)) => format!("{why}; the agent reboots it {opens}"),
            (_, _, _) => format!("{why}; the agent reboots it"),
        };
        (evidence, Some(self.view.reboot_lift().into()))
    }

    fn backing_off(&self, trouble: &Trouble, lift: Option<String>) -> Stop {
        let evidence = match &trouble.refusal {
            Some(refusal) => {
                format!("{}; tried again {}", clean(&refusal.detail), trouble.not_before)
            }
            None => format!("{}; tried again {}", failures(trouble), trouble.not_before),
        };
        let lift = lift.or_else(|| self.status_lift());
        match trouble.subject {
            Subject::Commit { .. } => Stop::failed(Place::Realised, evidence, lift),
            Subject::System { .. } => Stop::failed(Place::Pause, evidence, lift),
        }
    }

    fn realising(&self) -> String {
        let progress = self.view.seen.jobs.iter().find_map(|job| match &job.work {
            Work::Realise { progress, .. } => progress.as_ref(),
            Work::Switch { .. } | Work::Publish { .. } | Work::Unreadable => None,
        });
        match progress {
            Some(progress) if progress.to_build > 0 => {
                format!("{}: {} of {} built", progress.phase, progress.built, progress.to_build)
            }
            None | Some(RealiseProgress { phase: RealisePhase::Begun, .. }) => {
                "is being got".into()
            }
            Some(progress) => progress.phase.to_string(),
        }
    }

    fn switching(&self, order: &SwitchOrder, phase: &Phase) -> Stop {
        let commit = order.order.target.commit;
        let ours = self.view.memory.target.as_ref().is_some_and(|it| it.commit == commit);
        if !ours {
            return Stop::at(Place::OtherJobs, self.status.reason.clone());
        }
        let rounds = self.view.seen.checks.iter();
        let mut rounds = rounds.filter(|round| round.job.deployment == order.order.deployment);
        let checks = rounds.next().map(|round| round.checks.as_slice()).unwrap_or_default();
        match phase {
            Phase::Ready | Phase::Activating { .. } => {
                Stop::at(Place::Activation, "switch-to-configuration is at work")
            }
            Phase::Activated { .. } => match failing(checks) {
                Some(failing) => {
                    let put_back =
                        self.status.next.as_ref().filter(|it| it.action == NextAction::PutBack);
                    let put_back = put_back.map(|next| format!("; put back {}", next.at));
                    let evidence = format!("{failing}{}", put_back.unwrap_or_default());
                    Stop::failed(Place::Verification, evidence, None)
                }
                None if checks.is_empty() => Stop::at(Place::Verification, "is being checked"),
                None => {
                    let found = format!("is being checked: {}", checked(checks));
                    Stop::at(Place::Verification, found)
                }
            },
            Phase::Committing => Stop::at(Place::Default, "is becoming the boot default"),
            Phase::Deferring { why, .. } | Phase::Returning { why } => {
                Stop::at(Place::Default, format!("is left to the next boot: {why}"))
            }
            Phase::PuttingBack(back) if back.tries < RUNGS => Stop::failed(
                Place::Verification,
                format!("{}; the old system is being put back", clean(&back.cause.words)),
                None,
            ),
            Phase::PuttingBack(_) => {
                Stop::failed(Place::Verification, self.status.reason.clone(), None)
            }
        }
    }

    fn due(&self, due: &Due) -> Stop {
        let ours = |order: &SwitchOrder| {
            let target = self.view.memory.target.as_ref();
            target.is_some_and(|target| target.commit == order.order.target.commit)
        };
        match due {
            Due::Switch(order) if !ours(order) => {
                Stop::at(Place::OtherJobs, self.status.reason.clone())
            }
            Due::Switch(order) => match &order.how {
                How::Activate => Stop::at(Place::Activation, "is next"),
                How::Verify => Stop::at(Place::Verification, "is next"),
                How::Boot { .. } => {
                    Stop::at(Place::Default, "is next: it is left to the next boot")
                }
                How::Restore(_) => {
                    Stop::at(Place::Default, "is next: the boot loader gave a default up")
                }
            },
            Due::Settle { .. } => Stop::at(Place::Activation, "its system runs already"),
            Due::GiveUp { cause } => Stop::failed(Place::Quarantine, clean(cause), None),
            Due::Realise(_) | Due::AskToConfirm { .. } => Stop::at(Place::Realised, "is next"),
        }
    }
}

/// How a system came to run.
struct Activation {
    system: Option<StorePath>,
    /// Duration of the activation in milliseconds, if that is known.
    took: Option<u64>,
    /// Whether the activation has begun.
    begun: bool,
}

const NOT_NEEDED: &str = "not needed: its system ran already";

fn failures(trouble: &Trouble) -> String {
    let (often, at) = (times(trouble.failures), trouble.at);
    format!("failed {often}, last {at}: {}", clean(&trouble.cause))
}

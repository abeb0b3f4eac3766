//! Way from the commit that should run to its running: the rules in the order in which
//! they are applied, and the one at which the target stands now.

mod stops;

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
enum RulePlace {
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
    place: RulePlace,
    /// Result of the rule; not none: the target fails there.
    holds: Option<bool>,
    evidence: String,
    lift: Option<String>,
}

impl Stop {
    fn at(place: RulePlace, evidence: impl Into<String>) -> Self {
        Self { place, holds: None, evidence: evidence.into(), lift: None }
    }

    fn failed(place: RulePlace, evidence: impl Into<String>, lift: Option<String>) -> Self {
        Self { place, holds: Some(false), evidence: evidence.into(), lift }
    }
}

impl RulePlace {
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
        RulePlace::ALL
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

    fn unreached(&self, place: RulePlace) -> Option<Rule> {
        match place {
            // Whatever else is the case.
            RulePlace::Look | RulePlace::Machine | RulePlace::OtherJobs => self.passed(place),
            RulePlace::Realised
            | RulePlace::Quarantine
            | RulePlace::Pause
            | RulePlace::Preflight
            | RulePlace::Reachable
            | RulePlace::Gates
            | RulePlace::Activation
            | RulePlace::Verification
            | RulePlace::Default
            | RulePlace::Reboot
            | RulePlace::Drift => Some(Rule::open(place.as_str(), NOT_REACHED)),
        }
    }

    /// Why a rule is met; nothing for one that says nothing then.
    fn passed(&self, place: RulePlace) -> Option<Rule> {
        let (policy, memory) = (self.view.policy, self.view.memory);
        let target = memory.target.as_ref()?;
        let system = memory.system_of(target.commit, &policy.recipe);
        let evidence: String = match place {
            RulePlace::Machine => format!("this is {}", policy.machine_id.as_ref()?),
            RulePlace::Look | RulePlace::OtherJobs => return None,
            RulePlace::Realised => format!("its system is {}", system?),
            RulePlace::Quarantine => "its system is not quarantined".into(),
            RulePlace::Pause => "no failure is waited out".into(),
            RulePlace::Preflight => return Some(self.preflight_passed()),
            RulePlace::Reachable => return Some(self.reachable()),
            RulePlace::Gates => return Some(self.gates()),
            RulePlace::Activation => return Some(self.activated()),
            RulePlace::Verification => return Some(self.verified(system?)),
            RulePlace::Default => return Some(self.boots(target.operation, system?)),
            RulePlace::Reboot => match &self.view.seen.reboot_why {
                Some(why) => return Some(Rule::open(place.as_str(), why)),
                None => "none is needed".into(),
            },
            RulePlace::Drift => "no other hand has changed what runs or boots".into(),
        };
        Some(Rule::met(place.as_str(), evidence))
    }

    /// Rule of a preflight that passed, with its result as far as that is still known.
    fn preflight_passed(&self) -> Rule {
        let rule = RulePlace::Preflight.as_str();
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
        let rule = RulePlace::Reachable.as_str();
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
        let rule = RulePlace::Activation.as_str();
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
        let rule = RulePlace::Verification.as_str();
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
        let rule = RulePlace::Default.as_str();
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

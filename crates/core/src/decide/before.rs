//! Checks before an activation: whether the system may be activated on this host, and
//! whether a remote answers, so that it can be lost.

use std::time::Duration;

use super::{Decider, Outlook, Step, Wake};
use crate::job::{JobId, Target};
use crate::observed::Work;
use crate::types::StorePath;

/// Age from which a preflight or a look says nothing about now.
pub(super) const FRESH: Duration = Duration::from_secs(60);
/// The pause before a system that was refused is looked at again.
const PREFLIGHT_PAUSE: Duration = Duration::from_secs(60);
/// The pause between two looks for a remote.
const LOOK_PAUSE: Duration = Duration::from_secs(5);
/// Age up to which a realise job has only just begun, so that the first look is taken
/// meanwhile: usually it does not take long.
const SOON: Duration = Duration::from_secs(5);

impl Decider<'_> {
    pub(super) fn preflight(&self, outlook: &Outlook, wake: &mut Wake) -> Option<Step> {
        if self.seen.preflighting {
            return None;
        }
        let target = self.memory.target.as_ref()?;
        let system = if let Outlook::Preflight(system) = outlook {
            // It may be the look that is wanted.
            let passed = self.before_activation(target, system, FRESH).is_none();
            (!passed).then_some(system)
        } else if let Outlook::Refused { again, .. } = outlook {
            let due = *again <= self.now.mono;
            if !due {
                wake.at(*again);
            }
            self.seen.preflight.as_ref().map(|found| &found.system).filter(|_| due)
        } else {
            None
        }?;
        Some(Step::Preflight {
            system: system.clone(),
            default: self.seen.profile.as_ref().map(|generation| generation.system.clone()),
            needs_agent: self.needs_agent(target),
            writes_boot: target.operation.sets_default(),
        })
    }

    /// Starts the looks before and after an activation. The one in between is a check.
    pub(super) fn look(&self, outlook: &Outlook, wake: &mut Wake) -> Option<Step> {
        let last = self.seen.look.as_ref();
        let remote = self.policy.health_remote;
        let older_than = |age| last.is_none_or(|look| self.now.mono.since(look.ended) >= age);
        let wanted = if let Outlook::Realising(job) = outlook {
            remote && self.began_just_now(job) && older_than(FRESH / 2)
        } else if let Outlook::Preflight(_) = outlook {
            remote && (older_than(FRESH) || last.is_some_and(|look| !look.reached))
        } else if let Outlook::AwaitsRemote = outlook {
            // While polls fail, they tell when one answers.
            self.remote_answers()
        } else {
            matches!(outlook, Outlook::Experiment(_))
        };
        if !wanted || self.seen.looking {
            return None;
        }
        let again = last.filter(|look| !look.reached).map(|look| look.ended.plus(LOOK_PAUSE));
        match again {
            Some(again) if again > self.now.mono => {
                wake.at(again);
                None
            }
            Some(_) | None => Some(Step::Look),
        }
    }

    pub(super) fn began_just_now(&self, job: &JobId) -> bool {
        self.seen.jobs.iter().any(|seen| match &seen.work {
            Work::Realise { order, .. } => {
                seen.id == *job && self.now.mono.since(order.ordered) < SOON
            }
            Work::Switch { .. } | Work::Publish { .. } | Work::Unreadable => false,
        })
    }

    /// Outlook if the preflight of a system is missing or outdated, or has refused it.
    /// `None` if the system passed less than `lasts` ago; an older preflight says
    /// nothing.
    pub(super) fn before_activation(
        &self,
        target: &Target,
        system: &StorePath,
        lasts: Duration,
    ) -> Option<Outlook> {
        let needs_agent = self.needs_agent(target);
        let found = self.seen.preflight.as_ref().filter(|found| {
            found.system == *system
                && found.needs_agent == needs_agent
                && (found.writes_boot || !target.operation.sets_default())
        });
        let Some(found) = found else { return Some(Outlook::Preflight(system.clone())) };
        match &found.refusal {
            Some(refusal) => {
                let again = found.ended.plus(PREFLIGHT_PAUSE);
                Some(Outlook::Refused { refusal: refusal.clone(), again })
            }
            None if self.now.mono.since(found.ended) >= lasts => {
                Some(Outlook::Preflight(system.clone()))
            }
            None => None,
        }
    }

    /// The first of three looks: a remote that does not answer before cannot
    /// be lost.
    pub(super) fn before_losing_remotes(&self, system: &StorePath) -> Option<Outlook> {
        match &self.seen.look {
            Some(look) if look.reached && self.now.mono.since(look.ended) < FRESH => None,
            Some(look) if !look.reached => Some(Outlook::AwaitsRemote),
            Some(_) | None => Some(Outlook::Preflight(system.clone())),
        }
    }

    /// Reason, found by the preflight, for which a system can only be booted; `None` if
    /// there is none.
    pub(super) fn deferral(&self, system: &StorePath) -> Option<String> {
        let found = self.seen.preflight.as_ref().filter(|found| found.system == *system)?;
        found.deferral.clone()
    }

    pub(super) fn needs_agent(&self, target: &Target) -> bool {
        self.policy.units && self.memory.without_agent != Some(target.commit)
    }
}

//! Where the target stands still, and why.

use super::*;

impl Explainer<'_> {
    /// Rule at which the target stands; `None` when it is in force.
    pub(super) fn stop(&self) -> Option<Stop> {
        if let Some(gate) = self.closed_gate() {
            return Some(Stop::failed(RulePlace::Gates, gate.evidence, gate.lift));
        }
        let held = self.view.target_held();
        let lift = |held: &Option<Held>| held.as_ref().map(|held| held.lift.clone().into());
        let reason = &self.status.reason;
        let next_poll = self.status.next.as_ref().map(|next| next.at);
        Some(match &self.view.decision.outlook {
            Outlook::NothingKnown => Stop::at(RulePlace::Realised, "no commit is known yet"),
            Outlook::Blind { unseen, since } => Stop::failed(
                RulePlace::Look,
                format!("this host cannot be looked at: {unseen}, since {since}"),
                Some(unseen.lift().into()),
            ),
            Outlook::WrongMachine { found } => Stop::failed(
                RulePlace::Machine,
                format!(
                    "the configuration is for {}, and this is {}",
                    self.view.policy.machine_id.as_deref().unwrap_or("another machine"),
                    found.as_deref().unwrap_or("a machine without an id")
                ),
                lift(&held),
            ),
            Outlook::Switching { order, phase } => self.switching(order, phase),
            Outlook::Clearing => Stop::at(RulePlace::OtherJobs, "an earlier one comes to its end"),
            Outlook::Realising(_) => Stop::at(RulePlace::Realised, self.realising()),
            Outlook::BackingOff(trouble) => self.backing_off(trouble, lift(&held)),
            Outlook::Stuck(trouble) => {
                let place = match (&trouble.stuck, &trouble.subject) {
                    (Some(Stuck::NoSuchHost { .. }), _) | (_, Subject::Commit { .. }) => {
                        RulePlace::Realised
                    }
                    (Some(Stuck::Quarantined) | None, Subject::System { .. }) => {
                        RulePlace::Quarantine
                    }
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
            Outlook::Drift => Stop::failed(RulePlace::Drift, reason.clone(), self.status_lift()),
            Outlook::AwaitsBoot { why } => {
                let (evidence, lift) = self.reboot(why);
                Stop::failed(RulePlace::Reboot, evidence, lift)
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
                Stop::failed(RulePlace::Reachable, evidence, Some(self.view.remote_lift().into()))
            }
            Outlook::Experiment(_) => Stop::at(RulePlace::Reachable, reason.clone()),
            Outlook::Preflight(_) => Stop::at(RulePlace::Preflight, "is being found out"),
            Outlook::Refused { refusal, .. } => {
                Stop::failed(RulePlace::Preflight, clean(&refusal.detail), lift(&held))
            }
            // Said above, in the words of the status.
            Outlook::Gated(_) => Stop::at(RulePlace::Gates, reason.clone()),
            Outlook::Due(due) => self.due(due),
        })
    }

    pub(super) fn in_sync(&self) -> Option<Stop> {
        let why = self.view.seen.reboot_why.as_deref()?;
        let (evidence, lift) = self.reboot(why);
        Some(Stop::failed(RulePlace::Reboot, evidence, lift))
    }

    /// Reason for a reboot, with who brings it about or is against it; and its remedy.
    pub(super) fn reboot(&self, why: &str) -> (String, Option<String>) {
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

    pub(super) fn backing_off(&self, trouble: &Trouble, lift: Option<String>) -> Stop {
        let evidence = match &trouble.refusal {
            Some(refusal) => {
                format!("{}; tried again {}", clean(&refusal.detail), trouble.not_before)
            }
            None => format!("{}; tried again {}", failures(trouble), trouble.not_before),
        };
        let lift = lift.or_else(|| self.status_lift());
        match trouble.subject {
            Subject::Commit { .. } => Stop::failed(RulePlace::Realised, evidence, lift),
            Subject::System { .. } => Stop::failed(RulePlace::Pause, evidence, lift),
        }
    }

    pub(super) fn realising(&self) -> String {
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

    pub(super) fn switching(&self, order: &SwitchOrder, phase: &Phase) -> Stop {
        let commit = order.order.target.commit;
        let ours = self.view.memory.target.as_ref().is_some_and(|it| it.commit == commit);
        if !ours {
            return Stop::at(RulePlace::OtherJobs, self.status.reason.clone());
        }
        let rounds = self.view.seen.checks.iter();
        let mut rounds = rounds.filter(|round| round.job.deployment == order.order.deployment);
        let checks = rounds.next().map(|round| round.checks.as_slice()).unwrap_or_default();
        match phase {
            Phase::Ready | Phase::Activating { .. } => {
                Stop::at(RulePlace::Activation, "switch-to-configuration is at work")
            }
            Phase::Activated { .. } => match failing(checks) {
                Some(failing) => {
                    let put_back =
                        self.status.next.as_ref().filter(|it| it.action == NextAction::PutBack);
                    let put_back = put_back.map(|next| format!("; put back {}", next.at));
                    let evidence = format!("{failing}{}", put_back.unwrap_or_default());
                    Stop::failed(RulePlace::Verification, evidence, None)
                }
                None if checks.is_empty() => Stop::at(RulePlace::Verification, "is being checked"),
                None => {
                    let found = format!("is being checked: {}", checked(checks));
                    Stop::at(RulePlace::Verification, found)
                }
            },
            Phase::Committing => Stop::at(RulePlace::Default, "is becoming the boot default"),
            Phase::Deferring { why, .. } | Phase::Returning { why } => {
                Stop::at(RulePlace::Default, format!("is left to the next boot: {why}"))
            }
            Phase::PuttingBack(back) if back.tries < RUNGS => Stop::failed(
                RulePlace::Verification,
                format!("{}; the old system is being put back", clean(&back.cause.words)),
                None,
            ),
            Phase::PuttingBack(_) => {
                Stop::failed(RulePlace::Verification, self.status.reason.clone(), None)
            }
        }
    }

    pub(super) fn due(&self, due: &Due) -> Stop {
        let ours = |order: &SwitchOrder| {
            let target = self.view.memory.target.as_ref();
            target.is_some_and(|target| target.commit == order.order.target.commit)
        };
        match due {
            Due::Switch(order) if !ours(order) => {
                Stop::at(RulePlace::OtherJobs, self.status.reason.clone())
            }
            Due::Switch(order) => match &order.how {
                How::Activate => Stop::at(RulePlace::Activation, "is next"),
                How::Verify => Stop::at(RulePlace::Verification, "is next"),
                How::Boot { .. } => {
                    Stop::at(RulePlace::Default, "is next: it is left to the next boot")
                }
                How::Restore(_) => {
                    Stop::at(RulePlace::Default, "is next: the boot loader gave a default up")
                }
            },
            Due::Settle { .. } => Stop::at(RulePlace::Activation, "its system runs already"),
            Due::GiveUp { cause } => Stop::failed(RulePlace::Quarantine, clean(cause), None),
            Due::Realise(_) | Due::AskToConfirm { .. } => Stop::at(RulePlace::Realised, "is next"),
        }
    }
}

//! From exit code to verdict, and what the guardian does with a system.

use super::fixture::{Scene, boot, system};
use crate::guardian::lock::Lock;
use crate::guardian::{Act, Done, Phase, Progress, Sight, Traces, WayBack, act};
use crate::job::{
    Ending, Generation, How, JobId, JobKind, Order, SwitchOrder, SwitchOutcome, Verdict,
};
use crate::observed::{Job, Life, Remains, Work};
use crate::policy::Operation;
use crate::types::Mono;

pub(super) fn job(order: &SwitchOrder, outcome: Option<SwitchOutcome>) -> Job {
    Job {
        id: JobId { kind: JobKind::Switch, deployment: order.order.deployment.clone() },
        life: Life::Running,
        stopping: false,
        resumed: None,
        unstarted: None,
        remains: Remains::Begun,
        work: Work::Switch { order: order.clone(), progress: None, verdict: None, outcome },
    }
}

pub(super) fn realise_job(order: &Order) -> Job {
    Job {
        id: JobId { kind: JobKind::Realise, deployment: order.deployment.clone() },
        life: Life::Ended,
        stopping: false,
        resumed: None,
        unstarted: None,
        remains: Remains::Begun,
        work: Work::Realise { order: order.clone(), progress: None, outcome: None },
    }
}

pub(super) fn at(seconds: u64) -> Mono {
    Mono::from_millis(seconds * 1000)
}

/// System 2 is activated on a host that runs system 1.
#[derive(Clone)]
pub(super) struct Switch {
    pub(super) order: SwitchOrder,
    pub(super) progress: Progress,
    pub(super) sight: Sight,
}

impl Switch {
    pub(super) fn new(operation: Operation, phase: Phase) -> Self {
        let scene = Scene::at_rest();
        let mut order = scene.switch_order(2, 2, How::Activate);
        order.order.target.operation = operation;
        let mut progress = Progress::ready(at(0));
        progress.phase = phase;
        let sight = Sight {
            unseen: None,
            boot_id: boot(1),
            running: Some(system(1)),
            booted: Some(system(1)),
            profile: scene.seen.profile,
            verdict: None,
            own: true,
            last: None,
            traces: Traces::default(),
            lock: Lock::Free,
        };
        Self { order, progress, sight }
    }

    pub(super) fn activating() -> Self {
        Self::new(Operation::Switch, Phase::Activating { since: at(0) })
    }

    /// How far its way back is.
    pub(super) fn back(&mut self) -> &mut WayBack {
        let Phase::PuttingBack(back) = &mut self.progress.phase else {
            panic!("it is not on its way back")
        };
        back
    }

    fn activated() -> Self {
        let mut switch = Self::new(Operation::Switch, Phase::Activated { at: at(0) });
        switch.sight.running = Some(system(2));
        switch
    }

    pub(super) fn putting_back() -> Self {
        let mut switch = Self::new(
            Operation::Switch,
            Phase::PuttingBack(WayBack::begun("check web: no answer", Ending::RolledBack, false)),
        );
        switch.sight.running = Some(system(2));
        switch
    }

    pub(super) fn act(&self) -> Act {
        act(&self.order, &self.progress, &self.sight, at(1))
    }

    /// Goes through what is written down until something is done. Nobody holds the lock.
    pub(super) fn next(&mut self) -> Act {
        self.next_at(at(1))
    }

    /// The same, at this time.
    pub(super) fn next_at(&mut self, now: Mono) -> Act {
        for _ in 0..9 {
            let next = act(&self.order, &self.progress, &self.sight, now);
            if let Act::Note(progress) = next {
                self.progress = progress;
                self.sight.own = true;
                self.sight.last = None;
            } else if let Act::FreeLock(_) = next {
                self.sight.last = Some(Done::Lock(Vec::new()));
            } else {
                return next;
            }
        }
        panic!("it only writes things down")
    }

    pub(super) fn last(mut self, done: Done) -> Self {
        self.sight.last = Some(done);
        self
    }

    /// A program ended with 11, and said that it was for the lock. Who holds it was written down.
    pub(super) fn locked_out(self, lock: Lock) -> Self {
        let traces = Traces { locked_out: true, ..Traces::default() };
        self.last(Done::Exit(11)).with(traces, lock)
    }

    /// Adds what is seen besides: traces of the program, and the lock.
    pub(super) fn with(mut self, traces: Traces, lock: Lock) -> Self {
        self.progress.lock = match &lock {
            Lock::Held(holder) => Some(holder.clone()),
            Lock::Free | Lock::Unknown => None,
        };
        (self.sight.traces, self.sight.lock) = (traces, lock);
        self
    }
}

pub(super) fn words(act: Act) -> String {
    match act {
        Act::FreeLock(whom) => format!("free the lock of {whom:?}"),
        Act::Activate => "activate".into(),
        Act::AwaitVerdict(_) => "await the verdict".into(),
        Act::Pause(pause) => format!("again in {} s", pause.as_secs()),
        Act::LookAgain(pause) => format!("look again in {} s", pause.as_secs()),
        Act::SetProfile => "make it the default of the next boot".into(),
        Act::WriteBoot => "write the boot loader".into(),
        Act::ActivateOld(_) => "put back".into(),
        Act::RestartBus => "restart the bus".into(),
        Act::ReviveOld(_) => "put back by hand".into(),
        Act::StartUnits => "start what ran before".into(),
        Act::EndUnits(units) => format!("kill {}", units.join(", ")),
        Act::Reboot => "reboot".into(),
        Act::RestoreProfile(_) => "put the profile back".into(),
        Act::SetOneshot { .. } => "boot it once".into(),
        Act::ReturnProfile(_) => "give the profile back".into(),
        Act::WriteOldBoot(_) => "write the old boot loader".into(),
        Act::Note(progress) => format!("note {:?}", progress.phase),
        Act::Finish(outcome) => format!(
            "{}, {}",
            outcome.ending.map_or("awaits the boot", Ending::as_str),
            if outcome.counts { "counted" } else { "not counted" }
        ),
    }
}

#[test]
fn a_good_verdict_sets_profile_then_boot_loader_then_ends() {
    let mut switch = Switch::activated();
    switch.sight.verdict = Some(Verdict::good(None));
    assert_eq!(switch.next(), Act::SetProfile);
    switch.sight.last = Some(Done::Profile(Ok(())));
    switch.sight.profile = Some(Generation { number: 2, system: system(2) });
    assert_eq!(switch.next(), Act::WriteBoot);
    switch.sight.last = Some(Done::Exit(0));
    let Act::Finish(outcome) = switch.next() else { panic!("not over") };
    assert_eq!(outcome.ending, Some(Ending::Good));
}

#[test]
fn a_good_test_touches_neither_profile_nor_boot_loader() {
    let mut switch = Switch::activated();
    switch.order.order.target.operation = Operation::Test;
    switch.sight.verdict = Some(Verdict::good(None));
    let Act::Finish(outcome) = switch.act() else { panic!("not over") };
    assert_eq!(outcome.ending, Some(Ending::Good));
}

#[test]
fn no_verdict_in_time_puts_back() {
    let switch = Switch::activated();
    let limit = Mono::from_millis(180_000);
    assert_eq!(switch.act(), Act::AwaitVerdict(limit));
    let Act::Note(progress) = act(&switch.order, &switch.progress, &switch.sight, limit) else {
        panic!("it still waits")
    };
    assert!(matches!(progress.phase, Phase::PuttingBack(_)));
}

#[test]
fn a_guardian_killed_while_activating_puts_back_when_it_is_started_again() {
    let mut switch = Switch::activating();
    switch.sight.own = false;
    assert_eq!(switch.next(), Act::ActivateOld(system(1)));
}

#[test]
fn another_hand_ends_a_switch_without_a_further_write() {
    for mut switch in [Switch::activating(), Switch::activated(), Switch::putting_back()] {
        switch.sight.running = Some(system(7));
        switch.sight.last = Some(Done::Exit(0));
        let Act::Finish(outcome) = switch.act() else { panic!("it goes on") };
        assert_eq!((outcome.ending, outcome.counts), (Some(Ending::Superseded), false));
    }
    let mut switch = Switch::activated();
    switch.progress.phase = Phase::Committing;
    switch.sight.profile = Some(Generation { number: 9, system: system(7) });
    assert!(matches!(switch.act(), Act::Finish(_)));
}

#[test]
fn the_default_is_put_back_to_what_it_was_and_not_to_what_ran() {
    // System 1 runs by another hand; system 3 is the default.
    let mut switch = Switch::putting_back();
    switch.order.profile = Some(Generation { number: 1, system: system(3) });
    switch.progress.default_touched = true;
    switch.sight.profile = Some(Generation { number: 2, system: system(2) });
    assert_eq!(switch.next(), Act::ActivateOld(system(1)));
    switch.sight.running = Some(system(1));
    switch.sight.last = Some(Done::Exit(0));
    assert_eq!(switch.next(), Act::RestoreProfile(system(3)));
    switch.sight.profile = switch.order.profile.clone();
    switch.sight.last = Some(Done::Profile(Ok(())));
    assert_eq!(switch.next(), Act::WriteOldBoot(system(3)));
}

#[test]
fn a_deferred_system_judged_bad_leaves_profile_and_boot_loader_even_if_killed_between() {
    let mut switch = Switch::putting_back();
    switch.order.how = How::Verify;
    let candidates = Generation { number: 2, system: system(2) };
    switch.order.profile = Some(candidates.clone());
    switch.sight.profile = Some(candidates);
    assert_eq!(switch.next(), Act::ActivateOld(system(1)));
    switch.sight.running = Some(system(1));
    switch.sight.last = Some(Done::Exit(0));
    assert_eq!(switch.next(), Act::RestoreProfile(system(1)));
    // Killed once the profile was put back.
    switch.sight.profile = Some(Generation { number: 1, system: system(1) });
    (switch.sight.own, switch.sight.last) = (false, None);
    assert_eq!(switch.next(), Act::WriteOldBoot(system(1)));
}

#[test]
fn an_old_system_that_was_not_activated_to_its_end_is_tried_again() {
    for (done, again) in [
        (Done::Exit(0), false),
        (Done::Exit(2), false),
        (Done::Exit(4), false),
        (Done::Exit(1), true),
        (Done::Exit(5), true),
        (Done::Exit(100), true),
        (Done::Broke("killed".into()), true),
    ] {
        let mut switch = Switch::putting_back();
        switch.sight.running = Some(system(1));
        let mut switch = switch.last(done.clone());
        assert_eq!(matches!(switch.next(), Act::ActivateOld(_)), again, "{done:?}");
    }
}

#[test]
fn after_a_reboot_only_a_candidate_that_booted_is_put_back() {
    for (booted, expected) in
        [(2, Act::ActivateOld(system(1))), (1, Act::RestoreProfile(system(1)))]
    {
        let mut switch = Switch::putting_back();
        switch.progress.default_touched = true;
        switch.sight.profile = Some(Generation { number: 2, system: system(2) });
        switch.sight.boot_id = boot(2);
        switch.sight.running = Some(system(booted));
        assert_eq!(switch.next(), expected);
    }
}

#[test]
fn after_a_reboot_into_the_candidate_its_default_goes_as_well() {
    let mut switch = Switch::putting_back();
    switch.progress.default_touched = true;
    switch.sight.profile = Some(Generation { number: 2, system: system(2) });
    switch.sight.boot_id = boot(2);
    assert_eq!(switch.next(), Act::ActivateOld(system(1)));
    switch.sight.running = Some(system(1));
    switch.sight.last = Some(Done::Exit(0));
    assert_eq!(switch.next(), Act::RestoreProfile(system(1)));
    switch.sight.profile = Some(Generation { number: 1, system: system(1) });
    switch.sight.last = Some(Done::Profile(Ok(())));
    assert_eq!(switch.next(), Act::WriteOldBoot(system(1)));
    switch.sight.last = Some(Done::Exit(0));
    assert!(matches!(switch.next(), Act::Finish(_)));
}

#[test]
fn a_candidate_that_boots_while_its_default_is_put_back_goes_again() {
    let mut switch = Switch::putting_back();
    switch.progress.default_touched = true;
    switch.back().activated = true;
    switch.sight.boot_id = boot(2);
    (switch.sight.own, switch.sight.last) = (false, None);
    assert_eq!(switch.next(), Act::ActivateOld(system(1)));
    switch.sight.running = Some(system(1));
    switch.sight.last = Some(Done::Exit(0));
    assert_eq!(switch.next(), Act::WriteOldBoot(system(1)));
}

#[test]
fn with_nothing_to_put_back_a_bad_system_is_left() {
    let mut switch = Switch::putting_back();
    switch.order.old = None;
    let Act::Finish(outcome) = switch.act() else { panic!("it goes on") };
    assert_eq!((outcome.ending, outcome.counts), (Some(Ending::Failed), true));
}

#[test]
fn a_reboot_before_the_verdict_ends_it_and_counts() {
    for mut switch in [Switch::activating(), Switch::activated()] {
        switch.sight.boot_id = boot(2);
        switch.sight.running = Some(system(1));
        let Act::Finish(outcome) = switch.act() else { panic!("it goes on") };
        assert_eq!((outcome.ending, outcome.counts), (Some(Ending::Interrupted), true));
    }
}

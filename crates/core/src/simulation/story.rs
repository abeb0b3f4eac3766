//! Events that happen to a host from outside: a list, which can be random, is played,
//! and shortened.

use std::sync::Arc;
use std::time::Duration;

use super::chance::Chance;
use super::forge::{Activation, Build, Change, ERRNOS, Health};
use super::host::Who;
use super::world::{AgentPoint, JobPoint};
use crate::policy::{
    Confirm, Drift, ForcePush, OnFailure, OnKernelChange, OnRollbackFailure, Operation, Policy,
    Specialisation,
};
use crate::unseen::Part;

/// Everything that a course of events depends on.
#[derive(Clone, Debug)]
pub(super) struct Story {
    pub(super) seed: u64,
    pub(super) policy: Policy,
    /// Whether the host runs nothing at first.
    pub(super) bare: bool,
    /// After how many milliseconds what happens.
    pub(super) events: Vec<(u64, Event)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Push(Change),
    ForcePush(u64, Change),
    Rewind(u64),
    DeleteRelease,
    RestoreRelease,
    /// On top of what was accepted, as if no force-push had been.
    Mend(Change),
    Test {
        change: Change,
        on_release: bool,
    },
    MergeTest,
    DeleteTest,
    Down(usize),
    Up(usize),
    Stale(usize),
    Fresh(usize),
    /// New commits at a remote are larger than the host takes.
    Large(usize),
    Small(usize),
    CrashAgent(AgentPoint, u32),
    KillAgent,
    KillGuardian(JobPoint, u32),
    KillJob,
    PowerCut,
    Clock(i64),
    Hand(Hand),
    Gc,
    LoseJournal,
    ForeignJournal,
    Full(u64),
    Against(u64),
    Accept,
    Retry,
    StartsFail(u32),
    Stillborn(u32),
    RootsFail(u32),
    /// Somebody holds the lock of `switch-to-configuration` for so long.
    Locked(Who, u64),
    OldFails(u32),
    ProfileFails(u32),
    Publishing(Publishes, u32),
    /// For so long; 0: until told otherwise.
    Suspend(u64),
    Resume,
    Confirm,
    RollBack,
    /// No window is open for so long.
    Closed(u64),
    /// A part of the host cannot be looked at for so long.
    Blind(Part, u64),
    /// Faults stop until all is as it should be.
    Rest,
}

/// How a publish job goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Publishes {
    All,
    Nothing,
    /// Some of it, or nothing.
    Part,
    Dies,
    /// The job hangs, and does not stop when it is told to.
    Never,
    /// All of it, but it does not stop when it is told to.
    Deaf,
}

/// System that another hand switches: the one that runs, the default, or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hand {
    Running,
    RunningAndDefault,
    Default,
}

/// The parts that somebody fails to see.
const PARTS: [Part; 9] = [
    Part::Descriptors,
    Part::Running,
    Part::Running,
    Part::Booted,
    Part::Profile,
    Part::Profile,
    Part::Jobs,
    Part::Store,
    Part::Roots,
];

const YEAR: i64 = 365 * 24 * 3600 * 1000;
const HOUR: i64 = 3600 * 1000;
/// Until the faults stop.
pub(super) const FOR_EVER: u64 = 10 * 365 * 24 * 3600 * 1000;

impl Story {
    /// Returns a random story.
    pub(super) fn by_chance(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let policy = policy(&mut chance);
        let bare = chance.one_in(25);
        let mut events = Vec::new();
        let calm = chance.pick(&[1, 2, 4, 8]);
        for _ in 0..chance.between(1, 5) {
            for _ in 0..chance.between(1, 16) {
                let after = match chance.weighted(&[(3, 0), (4, 1), (3, 2), (1, 3)]) {
                    0 => chance.below(2_000),
                    1 => chance.between(2_000, 30_000),
                    2 => chance.between(30_000, 120_000),
                    _ => chance.between(120_000, 900_000),
                };
                events.push((after, event(&mut chance, &policy, calm)));
            }
            events.push((chance.below(60_000), Event::Rest));
        }
        if bare {
            // With nothing to put back these would be the end of it.
            events.retain(|(_, event)| !event.is_final());
        }
        Self { seed, policy, bare, events }
    }
}

impl Event {
    fn is_final(self) -> bool {
        let (Self::Push(change)
        | Self::Mend(change)
        | Self::ForcePush(_, change)
        | Self::Test { change, .. }) = self
        else {
            return false;
        };
        matches!(
            change,
            Change::New { health: Health::NoAgent | Health::NoNetwork, .. }
                | Change::New { boots: false, .. }
        )
    }
}

fn policy(chance: &mut Chance) -> Policy {
    let seconds = Duration::from_secs;
    let remotes: Vec<Arc<str>> = if chance.one_in(3) {
        vec!["origin".into(), "mirror".into()]
    } else {
        vec!["origin".into()]
    };
    Policy {
        hostname: "joker".into(),
        machine_id: None,
        remotes,
        release: "release".into(),
        testing: (!chance.one_in(3)).then(|| "release-joker-test".into()),
        operation: if chance.one_in(6) { Operation::Boot } else { Operation::Switch },
        force_push: if chance.one_in(3) { ForcePush::Accept } else { ForcePush::Refuse },
        recipe: "flake".into(),
        poll_interval: seconds(chance.pick(&[30, 60, 300])),
        poll_jitter: seconds(chance.pick(&[0, 5])),
        retry_first: seconds(chance.pick(&[5, 60])),
        retry_max: seconds(chance.pick(&[60, 240, 1920])),
        activations: chance.pick(&[1, 2, 3, 3]) as u32,
        activation_timeout: seconds(chance.pick(&[60, 900])),
        grace: seconds(chance.pick(&[0, 10])),
        health_timeout: seconds(chance.pick(&[20, 20, 60])),
        health_remote: !chance.one_in(5),
        on_failure: if chance.one_in(6) { OnFailure::Report } else { OnFailure::Rollback },
        units: chance.one_in(2),
        on_rollback_failure: chance.pick(&[OnRollbackFailure::Report, OnRollbackFailure::Reboot]),
        specialisation: Specialisation::Keep,
        on_kernel_change: chance.pick(&[OnKernelChange::Switch, OnKernelChange::Boot]),
        reboots: chance.one_in(3),
        publish: (!chance.one_in(3)).then(|| "https://cache/fort".into()),
        confirm: match chance.below(8) {
            0 => Confirm::Manual,
            1 => Confirm::After(seconds(chance.pick(&[1, 60, 600]))),
            _ => Confirm::No,
        },
        drift: if chance.one_in(4) { Drift::Revert } else { Drift::Report },
    }
}

fn change(chance: &mut Chance, policy: &Policy) -> Change {
    // What nobody can judge once it has booted, or nobody wants judged.
    let judged =
        policy.operation == Operation::Switch && policy.on_kernel_change == OnKernelChange::Switch;
    let network = judged && policy.health_remote && policy.on_failure == OnFailure::Rollback;
    let good = Health::Good { rounds: 0 };
    let new = |activation, flaky, health, boots, kernel| Change::New {
        activation,
        flaky,
        health,
        boots,
        kernel,
    };
    let works = Activation::Works(chance.pick(&[0, 0, 0, 4]));
    match chance.below(34) {
        0..=11 => new(works, 0, good, true, chance.one_in(5)),
        12..=14 => Change::Docs,
        15..=16 => Change::Revert,
        17..=18 => Change::Built(Build::Works { failures: chance.between(1, 4) as u32 }),
        19 => Change::Built(Build::Broken),
        20 => Change::Built(Build::NoHost),
        21 => Change::Built(Build::Damaged),
        22 => new(Activation::Refused, 0, good, true, false),
        23 => new(Activation::Half(chance.pick(&ERRNOS), chance.one_in(2)), 0, good, true, false),
        24 => new(Activation::Broke(chance.one_in(2)), 0, good, true, false),
        25 => new(works, chance.between(1, 3) as u32, good, true, false),
        26..=27 => new(Activation::NeedsReboot, 0, good, true, true),
        28 => new(Activation::NeedsReboot, 0, Health::Bad, true, true),
        29 => new(works, 0, Health::Bad, true, false),
        30 => new(works, 0, Health::Hangs, true, false),
        31 if network => new(works, 0, Health::NoNetwork, true, false),
        32 if judged => new(works, 0, Health::NoAgent, true, false),
        33 => new(works, 0, good, false, false),
        _ => new(works, 0, Health::Good { rounds: chance.between(1, 40) as u32 }, true, false),
    }
}

fn event(chance: &mut Chance, policy: &Policy, calm: u64) -> Event {
    let remote = chance.index(policy.remotes.len());
    let point =
        chance.pick(&[AgentPoint::BeforeSave, AgentPoint::AfterSave, AgentPoint::AfterStep]);
    let act = chance.pick(&[
        JobPoint::BeforeAct,
        JobPoint::MidAct,
        JobPoint::AfterEffect,
        JobPoint::AfterNote,
    ]);
    if chance.below(24 * calm) >= 23 {
        return match (chance.below(12), &policy.testing) {
            (0..=1, Some(_)) => {
                Event::Test { change: change(chance, policy), on_release: chance.one_in(2) }
            }
            (2, Some(_)) => Event::MergeTest,
            (3, Some(_)) if chance.one_in(2) => Event::DeleteTest,
            _ => Event::Push(change(chance, policy)),
        };
    }
    let few = chance.between(1, 3) as u32;
    let publishes = chance.pick(&[
        Publishes::Nothing,
        Publishes::Part,
        Publishes::Dies,
        Publishes::Never,
        Publishes::Deaf,
        Publishes::Deaf,
    ]);
    match chance.below(44) {
        42..=43 => Event::Blind(chance.pick(&PARTS), chance.between(1_000, 200_000)),
        35 => Event::Suspend(chance.pick(&[0, 0, 30_000, 600_000])),
        36 => Event::Resume,
        37 => Event::Confirm,
        38 => Event::RollBack,
        39 => Event::Closed(chance.between(1_000, 600_000)),
        40 => Event::Large(remote),
        41 => Event::Small(remote),
        0 => Event::ForcePush(chance.between(1, 3), change(chance, policy)),
        1 => Event::Rewind(chance.between(1, 2)),
        2 => Event::DeleteRelease,
        3 if chance.one_in(2) => Event::Mend(change(chance, policy)),
        3 => Event::RestoreRelease,
        4 => Event::Down(remote),
        5 => Event::Up(remote),
        6 => Event::Stale(remote),
        7 => Event::Fresh(remote),
        8..=10 => Event::CrashAgent(point, chance.below(8) as u32),
        11 => Event::KillAgent,
        12..=14 => Event::KillGuardian(act, chance.below(8) as u32),
        15 => Event::KillJob,
        16..=17 => Event::PowerCut,
        18 => Event::Clock(chance.pick(&[0, -56 * YEAR, 73 * YEAR, 3 * HOUR, -3 * HOUR])),
        19 => Event::Hand(chance.pick(&[Hand::Running, Hand::RunningAndDefault, Hand::Default])),
        20..=21 => Event::Gc,
        22 => Event::LoseJournal,
        23 => Event::Accept,
        24 => Event::Retry,
        25 => Event::StartsFail(few),
        26 => Event::Stillborn(1),
        27 => Event::RootsFail(few),
        28 => {
            let who = chance.pick(&[Who::Root, Who::Root, Who::Stranger, Who::LeftBehind]);
            let long = if chance.one_in(4) { FOR_EVER } else { chance.between(1_000, 300_000) };
            Event::Locked(who, long)
        }
        29 => Event::Full(chance.between(1_000, 300_000)),
        30 => Event::ForeignJournal,
        31 => Event::Against(chance.between(1_000, 600_000)),
        32..=33 => Event::Publishing(publishes, few),
        _ if chance.one_in(2) => Event::OldFails(chance.between(1, 7) as u32),
        _ => Event::ProfileFails(few),
    }
}

//! A host at rest, from which each test departs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::backoff::Luck;
use crate::decide::{Decision, decide};
use crate::job::{
    DeploymentId, Ending, Generation, How, JobId, JobKind, Order, RealiseOutcome, Realised,
    SwitchOrder, SwitchOutcome, Target,
};
use crate::memory::{Accepted, KnownSystem, Memory};
use crate::observed::{
    Heads, Job, Life, Look, Preflight, Relation, Relations, Remains, Remote, Seen, Window, Work,
};
use crate::policy::{
    Confirm, Drift, ForcePush, OnFailure, OnKernelChange, OnRollbackFailure, Operation, Policy,
    Specialisation,
};
use crate::record::{fold, note};
use crate::status::{AgentView, Status, status};
use crate::types::{BootId, Commit, Mono, Now, StorePath, Wall};

/// The commit with this digit all over.
pub(super) fn commit(digit: u8) -> Commit {
    Commit::from_bytes([digit << 4 | digit; 20])
}

pub(super) fn system(digit: u8) -> StorePath {
    format!("/nix/store/{}-{digit}", digit.to_string().repeat(32)).parse().unwrap()
}

pub(super) fn now(seconds: u64) -> Now {
    let millis = seconds * 1000;
    Now {
        wall: Wall::from_millis(1_767_225_600_000 + i64::try_from(millis).unwrap()),
        mono: Mono::from_millis(millis),
    }
}

pub(super) fn boot(number: u8) -> BootId {
    BootId(format!("boot-{number}").into())
}

pub(super) fn policy() -> Policy {
    let seconds = Duration::from_secs;
    Policy {
        units: false,
        on_rollback_failure: OnRollbackFailure::Report,
        on_kernel_change: OnKernelChange::Switch,
        specialisation: Specialisation::Keep,
        reboots: false,
        publish: None,
        confirm: Confirm::No,
        drift: Drift::Report,
        hostname: "joker".into(),
        machine_id: None,
        remotes: vec!["origin".into(), "mirror".into()],
        release: "release".into(),
        testing: Some("release-joker-test".into()),
        operation: Operation::Switch,
        force_push: ForcePush::Refuse,
        recipe: "flake".into(),
        poll_interval: seconds(30),
        poll_jitter: seconds(0),
        retry_first: seconds(60),
        retry_max: seconds(1920),
        activations: 3,
        activation_timeout: seconds(900),
        grace: seconds(10),
        health_timeout: seconds(180),
        health_remote: true,
        on_failure: OnFailure::Rollback,
    }
}

pub(super) fn target(digit: u8, operation: Operation) -> Target {
    Target {
        commit: commit(digit),
        branch: match operation {
            Operation::Test => "release-joker-test".into(),
            Operation::Switch | Operation::Boot => "release".into(),
        },
        remote: "origin".into(),
        operation,
        first_seen: now(0).wall,
    }
}

/// A host and its agent, all at one moment.
#[derive(Clone)]
pub(super) struct Scene {
    pub(super) policy: Policy,
    pub(super) memory: Memory,
    pub(super) seen: Seen,
    pub(super) now: Now,
}

impl Scene {
    /// Commit 1 with system 1 runs, was verified, and is what the first remote
    /// said ten seconds ago.
    pub(super) fn at_rest() -> Self {
        let mut memory = Memory::new();
        memory.boot_id = Some(boot(1));
        memory.accepted = Some(Accepted { commit: commit(1), remote: "origin".into() });
        memory.target = Some(target(1, Operation::Switch));
        let mut scene = Self {
            policy: policy(),
            memory,
            seen: Seen {
                specialisation: None,
                unseen: Vec::new(),
                boot_id: boot(1),
                machine_id: None,
                running: Some(system(1)),
                revision: None,
                booted: Some(system(1)),
                profile: Some(Generation { number: 1, system: system(1) }),
                odd_profile: None,
                reboot_why: None,
                present: (0..=9).map(system).collect::<BTreeSet<_>>(),
                roots: BTreeMap::new(),
                rooting: true,
                unwritten: None,
                remotes: vec![Remote::default(); 2],
                relations: Relations::default(),
                comparing: false,
                jobs: Vec::new(),
                checks: None,
                checking: false,
                preflight: None,
                preflighting: false,
                look: None,
                looking: false,
                gave_up: false,
                disarmed: None,
                disarming: false,
                against: None,
                rebooting: false,
                deploy_window: Window::ALWAYS,
                reboot_window: Window::ALWAYS,
                luck: Luck(0),
            },
            now: now(100),
        };
        scene.describes(1, 1);
        let memory = &mut scene.memory;
        memory.learn_good(&system(1), true);
        memory.put = Some(system(1));
        memory.settled = Some(crate::memory::Settled {
            commit: commit(1),
            operation: Operation::Switch,
            system: system(1),
            left: false,
        });
        scene.gives(0, Some(1), None);
        scene
    }

    /// Commit 2, which describes system 2, is what the first remote says and what is to run.
    pub(super) fn wants_two(&mut self) {
        self.describes(2, 2);
        self.memory.target = Some(target(2, Operation::Switch));
        self.memory.accepted.as_mut().unwrap().commit = commit(2);
        self.gives(0, Some(2), None);
    }

    /// The commit is known to describe the system.
    pub(super) fn describes(&mut self, digit: u8, which: u8) {
        let recipe = self.policy.recipe.clone();
        let known = KnownSystem { commit: commit(digit), recipe, system: system(which) };
        self.memory.learn_system(known);
    }

    /// The remote answered with these heads ten seconds ago.
    pub(super) fn gives(&mut self, remote: usize, release: Option<u8>, testing: Option<u8>) {
        let heads = Heads { release: release.map(commit), testing: testing.map(commit) };
        self.seen.remotes[remote] = Remote {
            asked: Some(Mono::from_millis(self.now.mono.as_millis() - 10_000)),
            answered: Some(self.now.wall),
            heads: Some(heads),
            ..Remote::default()
        };
    }

    /// The remote did not answer ten seconds ago.
    pub(super) fn fails(&mut self, remote: usize) {
        let known = &mut self.seen.remotes[remote];
        known.asked = Some(Mono::from_millis(self.now.mono.as_millis() - 10_000));
        known.failures = 3;
        known.error = Some("no route to host".into());
    }

    pub(super) fn relates(&mut self, older: u8, newer: u8, relation: Relation) {
        let known = Arc::make_mut(&mut self.seen.relations.0);
        known.insert((commit(older), commit(newer)), relation);
    }

    pub(super) fn later(&mut self, seconds: u64) {
        self.now = now(self.now.mono.as_millis() / 1000 + seconds);
        for remote in &mut self.seen.remotes {
            if remote.asked.is_some() {
                remote.asked = Some(self.now.mono);
            }
        }
    }

    pub(super) fn fold(&mut self) {
        self.memory = fold(&self.policy, self.memory.clone(), &self.seen, self.now);
    }

    pub(super) fn decide(&self) -> Decision {
        decide(&self.policy, &self.memory, &self.seen, self.now)
    }

    /// The system may be activated here, and a remote answers.
    pub(super) fn passes(&mut self, which: u8) {
        let (system, needs_agent) = (system(which), self.policy.units);
        let ended = self.now.mono;
        self.seen.preflight = Some(Preflight {
            system,
            needs_agent,
            writes_boot: true,
            ended,
            refusal: None,
            deferral: None,
        });
        let (reached, network, detail) = (true, None, "origin answers".into());
        self.seen.look = Some(Look { began: ended, ended, reached, network, detail });
    }

    /// One turn of the loop, in which nothing is performed.
    pub(super) fn turn(&mut self) -> Decision {
        self.fold();
        let decision = self.decide();
        self.memory = note(self.memory.clone(), &self.seen, &decision.step, self.now);
        decision
    }

    pub(super) fn status(&self) -> Status {
        let decision = self.decide();
        let agent = AgentView { version: "0".into(), started: now(0).wall, unconfined: None };
        status(&self.policy, &self.memory, &self.seen, &decision, &agent, self.now)
    }

    pub(super) fn order(&self, digit: u8, operation: Operation) -> Order {
        Order {
            deployment: DeploymentId::new(self.now.wall, commit(digit), 1),
            target: target(digit, operation),
            attempt: 1,
            started: self.now.wall,
            recipe: self.policy.recipe.clone(),
            boot_id: self.seen.boot_id.clone(),
            ordered: self.now.mono,
        }
    }

    pub(super) fn switch_order(&self, digit: u8, candidate: u8, how: How) -> SwitchOrder {
        SwitchOrder {
            suspect: false,
            specialisation: None,
            old_specialisation: None,
            order: self.order(digit, Operation::Switch),
            candidate: system(candidate),
            old: self.seen.running.clone(),
            how,
            running: self.seen.running.clone(),
            profile: self.seen.profile.clone(),
            activation_timeout: self.policy.activation_timeout,
            health_timeout: self.policy.health_timeout,
            remote_before: true,
            units: false,
            reboot_if_stuck: false,
            default_instead: None,
            once: false,
        }
    }

    /// A realise job for the deployment under way has come to this.
    pub(super) fn realised(&mut self, result: Realised) {
        let deployment = self.memory.deployment.clone().unwrap();
        let mut order = self.order(1, Operation::Switch);
        order.deployment = deployment.id.clone();
        order.target = deployment.target.clone();
        let outcome = Some(RealiseOutcome { result, took: 1000, ignored: Vec::new() });
        self.seen.jobs = vec![Job {
            id: JobId { kind: JobKind::Realise, deployment: deployment.id },
            life: Life::Ended,
            stopping: false,
            resumed: None,
            unstarted: None,
            remains: Remains::Begun,
            work: Work::Realise { order, progress: None, outcome },
        }];
        self.fold();
        self.seen.jobs.clear();
    }

    /// A switch job has left its system to the next boot, which is its only one
    /// if a default was kept.
    pub(super) fn deferred(&mut self, order: &SwitchOrder, kept: Option<u8>) {
        self.ended(
            order.clone(),
            SwitchOutcome {
                ending: None,
                cause: Some("awaits the next boot: kernel changed".into()),
                why: None,
                counts: false,
                stages: Default::default(),
                checks: Vec::new(),
                deferred: true,
                kept: kept.map(system),
            },
        );
    }

    /// A switch job to that system has come to this.
    pub(super) fn switched(&mut self, order: SwitchOrder, ending: Option<Ending>, counts: bool) {
        self.ended(
            order,
            SwitchOutcome {
                ending,
                cause: Some("check web: no answer".into()),
                why: None,
                counts,
                stages: Default::default(),
                checks: Vec::new(),
                deferred: false,
                kept: None,
            },
        );
    }

    fn ended(&mut self, order: SwitchOrder, outcome: SwitchOutcome) {
        self.seen.jobs = vec![Job {
            id: JobId { kind: JobKind::Switch, deployment: order.order.deployment.clone() },
            life: Life::Ended,
            stopping: false,
            resumed: None,
            unstarted: None,
            remains: Remains::Begun,
            work: Work::Switch { order, progress: None, verdict: None, outcome: Some(outcome) },
        }];
        self.fold();
        self.seen.jobs.clear();
    }
}

//! Metrics that Prometheus scrapes: numbers of the same status that everyone sees.
//!
//! Gauges say what the last status said, and are absent for what is not known:
//! a zero would be a lie. Counters begin anew with the process. Label values
//! come from the configuration or from closed lists, never from what a build or
//! a remote printed.
//!
//! The format is OpenMetrics 1.0. `promtool` rejects its `info` type, so what
//! identifies something is a gauge of 1 with labels.

use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::core::cause::{Broken, Program, SwitchCause};
use crate::core::gates::GateKind;
use crate::core::job::{Ending, PublishOutcome, RefusalCause, Stages};
use crate::core::memory::Entry;
use crate::core::policy::Operation;
use crate::core::status::{HeldCause, State, Status};
use crate::core::types::Wall;
use crate::core::unseen::Part;

mod optional_gauge;
use families::*;
use optional_gauge::Known;

/// Content type of the text that [`Metrics::encode`] returns.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Buckets of durations in seconds: from a switch that only restarts a unit
/// to a build of an hour.
const BUCKETS: [f64; 12] = [0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0];

/// Causes of `held` that later versions say: each has a series before it first happens.
const RESERVED: [&str; 4] = ["contents", "secrets", "serial", "signature"];

/// All metrics that the agent exports, behind one lock.
#[derive(Debug)]
pub struct Metrics(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    state: Gauges,
    held: Gauges,
    desired_info: Gauges,
    running_info: Gauges,
    in_sync: Known,
    desired_first_seen: Known,
    last_poll_success: Gauges,
    polls: Counters,
    deployments: Counters,
    rollbacks: Counters,
    last_deployment: Gauges,
    preflight_failures: Counters,
    stage_duration: Family<Labels, Histogram, fn() -> Histogram>,
    attempts: Known,
    next_action: Known,
    health_check_ok: Gauges,
    reboot_required: Known,
    gate: Gauges,
    suspended: Known,
    drift: Known,
    quarantined: Known,
    publish_backlog: Known,
    published_paths: Counter,
    published_bytes: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers all metrics. No gauge but `build_info` has a value yet.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("fort_agent");
        let r = &mut registry;
        let build = gauges(r, "build_info", "This program");
        set(&build, [("version", env!("CARGO_PKG_VERSION").into())], 1);
        let stage_duration = Family::new_with_constructor(buckets as fn() -> Histogram);
        let help = "How long the stages of deployments took";
        r.register_with_unit("stage_duration", help, Unit::Seconds, stage_duration.clone());
        let inner = Inner {
            state: gauges(r, "state", "In one word: 1 for the state that it is in"),
            held: gauges(r, "held", "Whether something is refused, by cause"),
            desired_info: gauges(r, "desired_info", "What should run"),
            running_info: gauges(r, "running_info", "What runs"),
            in_sync: known(r, "in_sync", "Whether what should run does"),
            desired_first_seen: timestamp(
                r,
                "desired_first_seen_timestamp",
                "When the commit that should run was first seen",
            ),
            last_poll_success: timestamps(
                r,
                "last_poll_success_timestamp",
                "When the remote last answered",
            ),
            polls: counters(r, "polls", "Looks at the remotes"),
            deployments: counters(r, "deployments", "Deployments that ended"),
            rollbacks: counters(r, "rollbacks", "Systems that were put back"),
            last_deployment: timestamps(
                r,
                "last_deployment_timestamp",
                "When a deployment last ended with this verdict",
            ),
            preflight_failures: counters(
                r,
                "preflight_failures",
                "Looks at a system before its activation that refused it",
            ),
            attempts: known(r, "attempts", "Which attempt the deployment under way is"),
            next_action: timestamp(r, "next_action_timestamp", "When something happens next"),
            health_check_ok: gauges(r, "health_check_ok", "Whether the check passed last time"),
            reboot_required: known(
                r,
                "reboot_required",
                "Whether the boot default needs a reboot to run",
            ),
            gate: gauges(r, "gate", "What a ready system waits for that a person has a say in"),
            suspended: known(r, "suspended", "Whether a person has suspended deployments"),
            drift: known(r, "drift", "Whether another hand put the running system there"),
            quarantined: known(r, "quarantined", "Systems that failed too often"),
            publish_backlog: known(
                r,
                "publish_backlog_paths",
                "Paths of the last good system that the cache lacks",
            ),
            published_paths: counter(r, "published_paths", "Paths that were given to the cache"),
            published_bytes: counter(
                r,
                "published_bytes",
                "Bytes of the paths that were given to the cache, uncompressed",
            ),
            stage_duration,
            registry,
        };
        inner.begin();
        Self(Mutex::new(inner))
    }

    /// Updates the gauges from the current status.
    pub fn observe(&self, status: &Status) {
        self.inner().observe(status);
    }

    /// Takes in a status that differs from the last one in times only.
    pub fn observe_times(&self, status: &Status) {
        self.inner().observe_times(status);
    }

    /// Counts a poll of a remote: by its name in the configuration, and the result in a
    /// word of a closed list (`ok`, `error`).
    pub fn polled(&self, remote: &str, result: &str) {
        let labels = vec![("remote", remote.into()), ("result", result.into())];
        self.inner().polls.get_or_create(&labels).inc();
    }

    /// Counts a deployment that ended and was not counted before.
    pub fn ended(&self, entry: &Entry) {
        self.inner().ended(entry);
    }

    /// Sets the times of the last deployments from those that ended before this process
    /// began, oldest first. They are not counted again.
    pub fn recall(&self, history: &[Entry]) {
        let inner = self.inner();
        history.iter().for_each(|entry| inner.last(entry));
    }

    /// Counts a system that was refused before its activation.
    pub fn refused(&self, cause: RefusalCause) {
        let labels = vec![("check", cause.as_str().into())];
        self.inner().preflight_failures.get_or_create(&labels).inc();
    }

    /// Counts what a publish job sent; `outcome` is `None` if the job was killed.
    pub fn published(&self, outcome: Option<&PublishOutcome>) {
        if let Some(outcome) = outcome {
            let inner = self.inner();
            inner.published_paths.inc_by(outcome.sent);
            inner.published_bytes.inc_by(outcome.bytes);
        }
    }

    /// Renders all metrics in the format of [`CONTENT_TYPE`].
    pub fn encode(&self) -> String {
        let mut text = String::new();
        if encode(&mut text, &self.inner().registry).is_err() {
            // Only a metric that cannot write itself could cause it: rather
            // none than half of them, which would read as the whole.
            tracing::error!("the metrics could not be written");
            return "# EOF\n".into();
        }
        text
    }

    /// Locks the metrics, so that no scrape sees half of an observation. A panic cannot
    /// leave numbers half changed.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Creates the counters at zero: one that begins with its first event hides that
    /// event from `increase()`.
    fn begin(&self) {
        for operation in [Operation::Switch, Operation::Boot, Operation::Test] {
            for verdict in ENDINGS {
                drop(self.deployments.get_or_create(&deployment(operation, verdict)));
            }
        }
        for cause in CAUSES {
            drop(self.rollbacks.get_or_create(&vec![("cause", cause.into())]));
        }
        for cause in RefusalCause::ALL {
            let labels = vec![("check", cause.as_str().into())];
            drop(self.preflight_failures.get_or_create(&labels));
        }
    }

    fn observe(&self, status: &Status) {
        for state in State::ALL {
            let is = i64::from(state == status.state);
            set(&self.state, [("state", state.as_str().into())], is);
        }
        self.held.clear();
        for known in HeldCause::words().chain(RESERVED) {
            set(&self.held, [("cause", known.into())], 0);
        }
        if let Some(held) = &status.held {
            set(&self.held, [("cause", held.cause.word().into())], 1);
        }
        self.desired_info.clear();
        let desired = status.desired.as_ref();
        self.desired_first_seen.set(desired.map(|desired| seconds(desired.first_seen)));
        if let Some(desired) = desired {
            let labels =
                [("commit", desired.commit.to_string()), ("branch", desired.branch.clone())];
            set(&self.desired_info, labels, 1);
        }
        self.running_info.clear();
        let running = &status.running;
        if let Some(system) = &running.system {
            let commit = running.commit.map(|commit| commit.to_string()).unwrap_or_default();
            set(&self.running_info, [("commit", commit), ("system", system.to_string())], 1);
        }
        let seen = |parts: &[Part], is: bool| {
            (!parts.iter().any(|part| status.hides(*part))).then_some(i64::from(is))
        };
        self.in_sync.set(seen(&[Part::Running], status.in_sync()));
        for remote in &status.remotes {
            for result in POLLED {
                let labels = vec![("remote", remote.name.clone()), ("result", result.into())];
                drop(self.polls.get_or_create(&labels));
            }
        }
        self.observe_times(status);
        let attempt = status.deployment.as_ref().map_or(0, |deployment| deployment.attempt);
        self.attempts.set(i64::from(attempt));
        self.observe_checks(status);
        let boots = [Part::Booted, Part::Profile, Part::Kernel];
        self.reboot_required.set(seen(&boots, status.boot.reboot_required));
        let waits = status.gate.as_ref().map(|gate| &gate.kind);
        for kind in GateKind::ALL {
            set(&self.gate, [("kind", kind.to_string())], i64::from(waits == Some(kind)));
        }
        self.suspended.set(i64::from(status.suspended.is_some()));
        self.drift.set(seen(&[Part::Running], running.drift));
        let quarantined = i64::try_from(status.quarantine.len()).unwrap_or(i64::MAX);
        self.quarantined.set(quarantined);
        let backlog = status.publish.as_ref().map(|publish| publish.backlog);
        self.publish_backlog.set(backlog.map(|paths| i64::try_from(paths).unwrap_or(i64::MAX)));
    }

    fn observe_times(&self, status: &Status) {
        for remote in &status.remotes {
            if let Some(at) = remote.last_success {
                let labels = [("remote", remote.name.clone())];
                set(&self.last_poll_success, labels, seconds(at));
            }
        }
        self.next_action.set(status.next.as_ref().map(|next| seconds(next.at)));
    }

    /// Sets the health checks: those of the deployment under way, or else of the last one.
    fn observe_checks(&self, status: &Status) {
        let under_way = status.deployment.as_ref().and_then(|it| it.progress.checks());
        let last = status.last_deployment.as_ref().map(|entry| entry.checks.as_slice());
        self.health_check_ok.clear();
        for check in under_way.or(last).unwrap_or_default() {
            set(&self.health_check_ok, [("check", check.name.clone())], i64::from(check.ok));
        }
    }

    /// Sets when a deployment last ended. A gauge, since the agent is often restarted
    /// by the very deployment whose end a counter would tell: that counter begins with
    /// it, at one.
    fn last(&self, entry: &Entry) {
        set(
            &self.last_deployment,
            [("verdict", entry.verdict.as_str().into())],
            seconds(entry.ended),
        );
    }

    fn ended(&self, entry: &Entry) {
        self.last(entry);
        self.deployments.get_or_create(&deployment(entry.operation, entry.verdict)).inc();
        if entry.verdict == Ending::RolledBack {
            let cause = class(entry.why.as_deref());
            self.rollbacks.get_or_create(&vec![("cause", cause.into())]).inc();
        }
        let Stages { realise, activate, verify, commit, rollback } = entry.stages;
        let stages = [
            ("realise", realise),
            ("activate", activate),
            ("verify", verify),
            ("commit", commit),
            ("rollback", rollback),
        ];
        for (stage, millis) in stages {
            if let Some(millis) = millis {
                let seconds = std::time::Duration::from_millis(millis).as_secs_f64();
                self.stage_duration.get_or_create(&vec![("stage", stage.into())]).observe(seconds);
            }
        }
    }
}

/// Results of a poll, as values of a label.
const POLLED: [&str; 2] = ["ok", "error"];

const ENDINGS: [Ending; 5] =
    [Ending::Good, Ending::RolledBack, Ending::Failed, Ending::Interrupted, Ending::Superseded];

/// Causes of a rollback that [`class`] can return.
const CAUSES: [&str; 7] =
    ["check", "exit-code", "timeout", "no-verdict", "profile", "boot-loader", "other"];

/// Returns the cause of a rollback as a word of [`CAUSES`].
fn class(cause: Option<&SwitchCause>) -> &'static str {
    let Some(cause) = cause else { return "other" };
    match cause {
        SwitchCause::Check { .. }
        | SwitchCause::RemotesLost { .. }
        | SwitchCause::JudgedBad { .. } => "check",
        SwitchCause::ChecksUnfinished | SwitchCause::NoVerdict => "no-verdict",
        SwitchCause::Profile { .. } => "profile",
        SwitchCause::Exit { program: Program::Boot, .. }
        | SwitchCause::Broke { program: Program::Boot, .. } => "boot-loader",
        SwitchCause::Broke { how: Broken { timed_out: true, .. }, .. }
        | SwitchCause::UnitsHung { .. } => "timeout",
        SwitchCause::Exit { program: Program::Test | Program::Activate, .. }
        | SwitchCause::Refused
        | SwitchCause::NeedsReboot { .. }
        | SwitchCause::Locked { .. } => "exit-code",
        SwitchCause::Broke { how: Broken { timed_out: false, .. }, .. }
        | SwitchCause::NotRunning
        | SwitchCause::OtherHand { .. }
        | SwitchCause::Rebooted { .. }
        | SwitchCause::Killed
        | SwitchCause::Lost
        | SwitchCause::Asked { .. }
        | SwitchCause::DidNotComeUp
        | SwitchCause::BootGaveUp
        | SwitchCause::Suspect { .. }
        | SwitchCause::Unseen { .. } => "other",
    }
}

mod families;
#[cfg(test)]
mod tests;

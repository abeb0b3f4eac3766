//! Recovery by the guardian of a host whose D-Bus or systemd the candidate broke: the
//! further rungs of rolling back to the old system.
//!
//! All over systemd's private socket, which needs no bus. Everything here is
//! best effort with an end to every wait: what came of it is judged by what runs
//! afterwards.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use crate::core::guardian::Hanging;
use crate::error_chain;
use crate::systemd::Systemd;
use crate::systemd::baseline::Baseline;
use crate::systemd::jobs::Job;
use crate::systemd::units::{UnitState, Units};

/// Units that `switch-to-configuration` cannot do without.
const BUS: [&str; 3] = ["dbus.socket", "dbus.service", "systemd-logind.service"];
/// Limit for one unit to start.
const START: Duration = Duration::from_secs(30);
/// Limit for all units together.
const ALL: Duration = Duration::from_secs(120);
/// Largest number of units that are named as hanging, each in a cause.
const MOST_HANGING: usize = 8;
/// Time in which a unit that has just been started may still fail.
const SETTLE: Duration = Duration::from_secs(1);

/// Starts D-Bus and logind anew.
pub(super) async fn restart_bus() {
    let Some(systemd) = connect().await else { return };
    restart_bus_units(&systemd).await;
}

async fn restart_bus_units(systemd: &Systemd) {
    for unit in BUS {
        if let Err(error) = systemd.restart_unit(unit, START).await {
            tracing::warn!(unit, "could not be restarted: {}", error_chain::line(&error));
        }
    }
}

/// Revives the units after the old system's `activate`: systemd reads its units and
/// starts what it wants, and what ran before.
pub(super) async fn revive(baseline: Option<&Baseline>) {
    let Some(systemd) = connect().await else { return };
    if let Err(error) = systemd.reload().await {
        tracing::warn!("systemd could not read its units: {}", error_chain::line(&error));
    }
    restart_bus_units(&systemd).await;
    if let Err(error) = systemd.start_unit("default.target", START).await {
        tracing::warn!("default.target could not be started: {}", error_chain::line(&error));
    }
    start_again(&systemd, baseline).await;
}

/// Starts what ran before and does not now. Returns what is newly failed.
pub(super) async fn start_units(baseline: Option<&Baseline>) -> Vec<String> {
    let Some(baseline) = baseline else { return Vec::new() };
    let Some(systemd) = connect().await else {
        return vec!["systemd does not answer".into()];
    };
    start_again(&systemd, Some(baseline)).await;
    tokio::time::sleep(SETTLE).await;
    match systemd.units().await {
        Ok(units) => newly_failed(baseline, &units),
        Err(error) => vec![format!("systemd: {}", error_chain::line(&error))],
    }
}

/// Whether a unit is not at work, as far as systemd knows: what is left of it was
/// forgotten. Of any unit, people's sessions among them.
pub(super) async fn is_over(unit: &str) -> bool {
    let Some(systemd) = connect().await else { return false };
    match systemd.unit(unit).await {
        Ok(Some(state)) => matches!(state.active.as_str(), "inactive" | "failed"),
        Ok(None) => true,
        Err(error) => {
            tracing::warn!(unit, "could not be looked at: {}", error_chain::line(&error));
            false
        }
    }
}

/// Returns the numbers of the jobs that systemd has now.
pub(super) async fn jobs() -> BTreeSet<u32> {
    let Some(systemd) = connect().await else { return BTreeSet::new() };
    systemd.jobs().await.unwrap_or_default().into_iter().map(|job| job.number).collect()
}

/// Returns the units that systemd is stopping or starting, and was not `before`.
pub(super) async fn hanging(before: &BTreeSet<u32>) -> Vec<Hanging> {
    let Some(systemd) = connect().await else { return Vec::new() };
    let jobs = systemd.jobs().await.unwrap_or_else(|error| {
        tracing::warn!("systemd's jobs could not be looked at: {}", error_chain::line(&error));
        Vec::new()
    });
    hang(jobs, before)
}

fn hang(jobs: Vec<Job>, before: &BTreeSet<u32>) -> Vec<Hanging> {
    let ours = jobs.into_iter().filter(|job| job.runs && !before.contains(&job.number));
    let hanging = ours.filter_map(|job| match job.kind.as_str() {
        // One that restarts is a start by the time that it has stopped.
        "stop" | "restart" | "try-restart" => Some(Hanging { unit: job.unit, stopping: true }),
        "start" => Some(Hanging { unit: job.unit, stopping: false }),
        _ => None,
    });
    hanging.take(MOST_HANGING).collect()
}

/// Kills all processes of units that could not be stopped: they are stopped then.
pub(super) async fn end_units(units: &[String]) {
    let Some(systemd) = connect().await else { return };
    for unit in units {
        tracing::warn!(unit, "could not be stopped: killing it");
        if let Err(error) = systemd.kill_unit(unit).await {
            tracing::warn!(unit, "could not be killed: {}", error_chain::line(&error));
        }
    }
}

/// Reboots: the boot loader still has the last good system.
pub(super) async fn reboot() {
    let Some(systemd) = connect().await else { return };
    if let Err(error) = systemd.begin("reboot.target").await {
        tracing::error!("the host could not be rebooted: {}", error_chain::line(&error));
    }
}

/// Ends what the candidate's activation left running in this job's own control
/// group: it may hold the lock of `switch-to-configuration`. Only where the
/// group is the job's alone.
pub(super) fn end_leftovers() {
    let Ok(own) = std::fs::read_to_string("/proc/self/cgroup") else { return };
    let Some(group) = own.lines().find_map(|line| line.strip_prefix("0::")) else { return };
    let name = group.rsplit('/').next().unwrap_or_default();
    if !(name.starts_with("fort-agent-switch-") && name.ends_with(".service")) {
        return;
    }
    let members = Path::new("/sys/fs/cgroup").join(group.trim_start_matches('/'));
    let Ok(members) = std::fs::read_to_string(members.join("cgroup.procs")) else { return };
    let here = std::process::id();
    for pid in members.lines().filter_map(|line| line.parse::<i32>().ok()) {
        if u32::try_from(pid).is_ok_and(|pid| pid != here)
            && let Some(process) = rustix::process::Pid::from_raw(pid)
        {
            tracing::info!(pid, "ending what the activation left");
            let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
        }
    }
}

async fn connect() -> Option<Systemd> {
    match Systemd::connect_private(Path::new("/")).await {
        Ok(systemd) => Some(systemd),
        Err(error) => {
            tracing::error!("systemd does not answer: {}", error_chain::line(&error));
            None
        }
    }
}

async fn start_again(systemd: &Systemd, baseline: Option<&Baseline>) {
    let Some(baseline) = baseline else { return };
    let units = match systemd.units().await {
        Ok(units) => units,
        Err(error) => {
            tracing::warn!("the units could not be looked at: {}", error_chain::line(&error));
            return;
        }
    };
    let missing = missing(baseline, &units);
    let start = async {
        for unit in &missing {
            tracing::info!(unit, "starting what ran before");
            if let Err(error) = systemd.start_unit(unit, START).await {
                tracing::warn!(unit, "could not be started: {}", error_chain::line(&error));
            }
        }
    };
    if tokio::time::timeout(ALL, start).await.is_err() {
        tracing::warn!("not all units could be started in time");
    }
}

/// Returns services and sockets that ran before and do not now. Others come and go by
/// themselves; so do services that the bus starts, which is harmless.
fn missing(baseline: &Baseline, units: &Units) -> BTreeSet<String> {
    let ran = baseline.before.iter().filter(|(name, state)| {
        let lasting = name.ends_with(".service") && state.sub == "running"
            || name.ends_with(".socket") && state.active();
        lasting && !name.contains('@')
    });
    let gone = |name: &String| units.get(name).is_none_or(|now: &UnitState| !now.active());
    ran.map(|(name, _)| name).filter(|name| gone(name)).cloned().collect()
}

/// Returns which of the units that worked before have failed.
fn newly_failed(baseline: &Baseline, units: &Units) -> Vec<String> {
    let worked = |name: &String| baseline.before.get(name).is_some_and(UnitState::active);
    let failed = units.iter().filter(|(name, now)| now.failed() && worked(name));
    failed.map(|(name, _)| name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(active: &str, sub: &str) -> UnitState {
        UnitState { active: active.into(), sub: sub.into(), restarts: 0, since: 0 }
    }

    #[test]
    fn what_ran_and_does_not_is_started_and_what_failed_anew_is_told() {
        let before: Units = [
            ("web.service", state("active", "running")),
            ("db.service", state("active", "running")),
            ("once.service", state("active", "exited")),
            ("backup.service", state("failed", "failed")),
            ("api.socket", state("active", "listening")),
            ("getty@tty1.service", state("active", "running")),
        ]
        .map(|(name, state)| (name.to_owned(), state))
        .into();
        let baseline = Baseline { before, ..Baseline::default() };
        let now: Units = [
            ("db.service", state("failed", "failed")),
            ("backup.service", state("failed", "failed")),
            ("new.service", state("failed", "failed")),
        ]
        .map(|(name, state)| (name.to_owned(), state))
        .into();
        let missing: Vec<String> = missing(&baseline, &now).into_iter().collect();
        assert_eq!(missing, ["api.socket", "db.service", "web.service"]);
        assert_eq!(newly_failed(&baseline, &now), ["db.service"]);
    }

    #[test]
    fn units_hang_whose_job_runs_and_did_not_before() {
        let job = |number, unit: &str, kind: &str, runs| {
            let (unit, kind) = (unit.to_owned(), kind.to_owned());
            Job { number, unit, kind, runs }
        };
        let jobs = vec![
            job(1, "backup.service", "start", true),
            job(2, "stuck.service", "stop", true),
            job(3, "web.service", "restart", true),
            job(4, "slow.service", "start", true),
            job(5, "multi-user.target", "start", false),
            job(6, "db.service", "reload", true),
        ];
        let hanging = |unit: &str, stopping| Hanging { unit: unit.into(), stopping };
        assert_eq!(
            hang(jobs, &[1].into()),
            [
                hanging("stuck.service", true),
                hanging("web.service", true),
                hanging("slow.service", false)
            ]
        );
    }
}

//! Summary of a configuration that was understood, and what it makes the agent do: for
//! people in a few lines, and as JSON.
//!
//! Named are files of tokens, never opened; of a hook only the program, since
//! its arguments may be nobody else's business.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::config::{Cache, Config, FailedUnits, ForcePush, OnFailure, Operation, Runner};
use crate::core::policy::{Confirm, Drift};
use crate::core::status::Unconfined;
use crate::windows::Windows;

use crate::wording::text::{clean, took};

/// Renders the summary for people, with what shows that one thing was mistaken for another.
pub(super) fn text(path: &Path, config: &Config) -> String {
    let rows = [
        ("host", host(config)),
        ("remotes", remotes(config)),
        ("branch", branch(config)),
        ("system", system(config)),
        ("gates", gates(config)),
        ("health", health(config)),
        ("drift", drift(config).into()),
        ("reboot", reboot(config)),
        ("cache", config.cache.as_ref().map_or_else(|| "none".into(), cache)),
        ("hooks", hooks(config)),
        ("report", report(config)),
        ("metrics", metrics(config)),
    ];
    let mut out = format!("OK: {}\n", path.display());
    for (name, row) in rows {
        let _ = writeln!(out, "  {name:<8} {}", clean(&row));
    }
    for warning in config.warnings() {
        let _ = writeln!(out, "WARNING: {}", clean(&warning));
    }
    out
}

fn host(config: &Config) -> String {
    match &config.machine_id {
        Some(id) => format!("{}, on the machine {id} only", config.hostname),
        None => config.hostname.clone(),
    }
}

fn remotes(config: &Config) -> String {
    let named = config.remotes.iter().map(|remote| format!("{} {}", remote.name, remote.url));
    named.collect::<Vec<_>>().join(", ")
}

fn branch(config: &Config) -> String {
    let how = match config.branch.operation {
        Operation::Switch => "switched to",
        Operation::Boot => "made the default of the next boot",
    };
    let rewritten = match config.branch.force_push {
        ForcePush::Refuse => "",
        ForcePush::Accept => ", rewritten or not",
    };
    let testing = match &config.branch.testing {
        Some(branch) => format!("; {branch} is tried until the next reboot"),
        None => String::new(),
    };
    format!("{} is {how}{rewritten}{testing}", config.branch.release)
}

fn system(config: &Config) -> String {
    let system = format!("{}#{}", config.system.flake_dir.display(), attribute(config));
    match unconfined(config) {
        Some(why) => format!("{system}; {why}"),
        None => system,
    }
}

/// Returns why commits would be evaluated with all the rights of the agent, as far as
/// that can be told here: the agent is root, and this need not be the host.
fn unconfined(config: &Config) -> Option<Unconfined> {
    let here = rustix::process::geteuid().is_root();
    match config.evaluator().err()? {
        Unconfined::NotRoot => None,
        Unconfined::NoDaemon { store } if store == "auto" && !here => None,
        why @ (Unconfined::NoDaemon { .. }
        | Unconfined::NoCapability
        | Unconfined::NoWay { .. }) => Some(why),
    }
}

fn attribute(config: &Config) -> String {
    config.system.attribute.replace("{hostname}", &config.hostname)
}

fn gates(config: &Config) -> String {
    let confirm = match config.activation.confirm {
        Confirm::No => None,
        Confirm::Manual => Some("each commit waits for fort-agent confirm".to_owned()),
        Confirm::After(after) => Some(format!(
            "each commit waits for fort-agent confirm, but goes ahead after {}",
            lasting(after)
        )),
    };
    let windows = (!config.activation.windows.is_empty())
        .then(|| format!("activated only {}", within(config, &config.activation.windows)));
    let gates: Vec<_> = confirm.into_iter().chain(windows).collect();
    if gates.is_empty() { "none: what is ready is activated".into() } else { gates.join("; ") }
}

/// Renders windows, and whose clock they are on.
fn within(config: &Config, windows: &Windows) -> String {
    let clock = zone(config).map_or_else(|| "the host's clock".into(), ToOwned::to_owned);
    format!("{windows} ({clock})")
}

fn zone(config: &Config) -> Option<&str> {
    config.activation.time_zone.as_ref()?.iana_name()
}

fn health(config: &Config) -> String {
    if !checks_units(config)
        && !config.health.remote
        && !config.health.checks.iter().any(|check| check.required)
    {
        return "nothing that could fail is checked: whatever can be activated is good; give it a \
                health.check, or look at units or a remote"
            .into();
    }
    let checks: Vec<_> = config.health.checks.iter().map(|check| check.name.as_str()).collect();
    let checks =
        if checks.is_empty() { String::new() } else { format!(", checks {}", checks.join(" ")) };
    let otherwise = match config.health.on_failure {
        OnFailure::Rollback => "or the system before is put back",
        OnFailure::Report => "and what fails is only reported",
    };
    format!("within {}{checks}; {otherwise}", lasting(config.health.timeout))
}

fn checks_units(config: &Config) -> bool {
    match (config.activation.runner, config.health.failed_units) {
        (Runner::Systemd, FailedUnits::New) => true,
        (Runner::Direct, _) | (Runner::Systemd, FailedUnits::None) => false,
    }
}

fn drift(config: &Config) -> &'static str {
    match config.activation.drift {
        Drift::Report => "what another hand activates stays until the next commit",
        Drift::Revert => "what another hand activates is reverted",
    }
}

fn reboot(config: &Config) -> String {
    match &config.reboot {
        Some(reboot) if !reboot.allow => "never by itself".into(),
        None => "never by itself".into(),
        Some(reboot) if reboot.windows.is_empty() => "by itself, when a system needs it".into(),
        Some(reboot) => {
            format!("by itself, when a system needs it, {}", within(config, &reboot.windows))
        }
    }
}

fn cache(cache: &Cache) -> String {
    let substitute = match cache.substitute {
        true => format!("fetched from, if signed by {}", key_names(cache).join(" ")),
        false => "not fetched from".into(),
    };
    let publish = if cache.publish { "given what is good" } else { "given nothing" };
    let token = cache.token_file.as_ref();
    let token = token.map(|file| format!("; token in {}", file.display())).unwrap_or_default();
    format!("{} at {}: {substitute}; {publish}{token}", cache.name, cache.endpoint)
}

fn key_names(cache: &Cache) -> Vec<&str> {
    cache.public_keys.iter().map(|key| key.split(':').next().unwrap_or_default()).collect()
}

fn programs(config: &Config) -> Vec<&str> {
    config.hooks.on_verdict.iter().filter_map(|hook| hook.first()).map(String::as_str).collect()
}

fn hooks(config: &Config) -> String {
    match programs(config)[..] {
        [] => "none".into(),
        ref programs => {
            format!("{}, for {} each", programs.join(" "), lasting(config.hooks.timeout))
        }
    }
}

fn report(config: &Config) -> String {
    match &config.report {
        None => "nowhere".into(),
        Some(report) => format!(
            "commit statuses of {} at {}; token in {}",
            report.repository,
            report.forgejo,
            report.token_file.display()
        ),
    }
}

fn metrics(config: &Config) -> String {
    match config.metrics.listen {
        Some(listen) => format!("http://{listen}/metrics"),
        None => "not listened for".into(),
    }
}

fn lasting(duration: Duration) -> String {
    took(millis(duration))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Renders the summary for programs: sections and keys as the file has them,
/// times in milliseconds.
pub(super) fn json(path: &Path, config: &Config) -> Value {
    let written = |windows: &Windows| json!(windows.written().collect::<Vec<_>>());
    let remotes = config.remotes.iter().map(
        |remote| json!({ "name": remote.name, "url": remote.url, "token_file": remote.token_file }),
    );
    let (confirm, confirm_ms) = match config.activation.confirm {
        Confirm::No => ("no", None),
        Confirm::Manual => ("manual", None),
        Confirm::After(after) => ("after", Some(millis(after))),
    };
    let checks = config.health.checks.iter();
    let checks = checks.map(|check| json!({ "name": check.name, "required": check.required }));
    json!({
        "file": path,
        "hostname": config.hostname,
        "machine_id": config.machine_id,
        "remote": remotes.collect::<Vec<_>>(),
        "branch": {
            "release": config.branch.release,
            "operation": match config.branch.operation {
                Operation::Switch => "switch",
                Operation::Boot => "boot",
            },
            "testing": config.branch.testing,
            "force_push": match config.branch.force_push {
                ForcePush::Refuse => "refuse",
                ForcePush::Accept => "accept",
            },
        },
        "system": {
            "flake_dir": config.system.flake_dir,
            "attribute": attribute(config),
            "unconfined": unconfined(config),
        },
        "activation": {
            "confirm": confirm,
            "confirm_ms": confirm_ms,
            "windows": written(&config.activation.windows),
            "time_zone": zone(config),
            "drift": match config.activation.drift {
                Drift::Report => "report",
                Drift::Revert => "revert",
            },
        },
        "health": {
            "timeout_ms": millis(config.health.timeout),
            "on_failure": match config.health.on_failure {
                OnFailure::Rollback => "rollback",
                OnFailure::Report => "report",
            },
            "units": checks_units(config),
            "remote": config.health.remote,
            "check": checks.collect::<Vec<_>>(),
        },
        "reboot": config.reboot.as_ref().map(|reboot| {
            json!({ "allow": reboot.allow, "windows": written(&reboot.windows) })
        }),
        "cache": config.cache.as_ref().map(|cache| json!({
            "endpoint": cache.endpoint,
            "name": cache.name,
            "token_file": cache.token_file,
            "keys": key_names(cache),
            "substitute": cache.substitute,
            "publish": cache.publish,
        })),
        "hooks": {
            "on_verdict": programs(config),
            "timeout_ms": millis(config.hooks.timeout),
        },
        "report": config.report.as_ref().map(|report| json!({
            "forgejo": report.forgejo,
            "repository": report.repository,
            "token_file": report.token_file,
        })),
        "metrics": { "listen": config.metrics.listen },
        "warnings": config.warnings(),
    })
}

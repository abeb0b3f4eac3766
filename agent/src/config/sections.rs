//! The sections of the contract: every key, what it may be, and its default,
//! written as it would be in the file.
//!
//! Where two values must fit each other, a default gives way to what was
//! written; two that were written and contradict are a mistake.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::announce::{hooks, report};
use super::cache::cache;
use super::section::Section;
use super::value::{self, absolute, count, duration, flag, positive, text};
use super::{
    Activation, Branch, Check, Config, Evaluate, FailedUnits, ForcePush, Health, Metrics, Nix,
    OnBusChange, OnFailure, Operation, Poll, Probe, Reboot, Remote, Retry, Runner, System,
    SystemKind, UnitLimits, nix_options, url, wording,
};
use crate::core::policy::{Drift, OnKernelChange, OnRollbackFailure};
use crate::git;
use fort_http::in_clear;

/// Problem of keys that nothing could act on without systemd.
const NEEDS_SYSTEMD: &str = "needs `activation.runner` to be \"systemd\"";

/// Reads everything; what is wrong is recorded in the document.
pub(super) fn config(s: &Section<'_>, kernel_hostname: &str) -> Config {
    let hostname = hostname(s, kernel_hostname);
    let activation = activation(&s.section("activation"));
    let direct = activation.runner == Runner::Direct;
    Config {
        state_dir: s.or("state_dir", value::own_directory, "'/var/lib/fort-agent'"),
        run_dir: s.or("run_dir", run_dir, "'/run/fort-agent'"),
        root: s.or("root", absolute, "'/'"),
        machine_id: s.optional("machine_id", value::machine_id),
        remotes: remotes(s),
        branch: branch(&s.section("branch"), &hostname),
        poll: poll(&s.section("poll")),
        system: system(&s.section("system"), &hostname, direct),
        git: git(&s.section("git")),
        nix: nix(&s.section("nix"), direct),
        activation,
        retry: retry(&s.section("retry")),
        reboot: reboot(s, direct),
        health: health(&s.section("health"), direct),
        cache: cache(s),
        metrics: metrics(&s.section("metrics")),
        hooks: hooks(&s.section("hooks")),
        report: report(s),
        hostname,
    }
}

fn hostname(s: &Section<'_>, kernel_hostname: &str) -> String {
    let kernel = value::name(&DeValue::String(kernel_hostname.into()));
    let written = s.optional("hostname", value::name);
    if !s.has("hostname") && kernel.is_err() {
        let kernel = wording::shown(kernel_hostname);
        s.missing("hostname", &format!("must be set: the kernel's, {kernel}, is no host name"));
    }
    // Without a good name, what is made of it must not be a second mistake.
    written.or(kernel.ok()).unwrap_or_else(|| "host".to_owned())
}

/// Reads `run_dir`. A socket's address has room for 107 bytes (unix(7)), and ours ends in `/bus`.
fn run_dir(value: &DeValue<'_>) -> Result<PathBuf, String> {
    let dir = value::own_directory(value)?;
    let long = dir.join("bus").as_os_str().len() > 107;
    if long { Err("be shorter: a socket's path has 107 bytes".to_owned()) } else { Ok(dir) }
}

fn remotes(s: &Section<'_>) -> Vec<Remote> {
    let mut names = BTreeSet::new();
    if !s.has("remote") {
        s.missing("remote", "is missing: at least one `[[remote]]` with `name` and `url`");
    }
    let sections = s.sections("remote");
    if s.has("remote") && sections.is_empty() {
        s.missing("remote", "is empty: at least one `[[remote]]` with `name` and `url`");
    }
    let read = |s: &Section<'_>| {
        let remote = Remote {
            name: s.required("name", value::name),
            url: s.required("url", url::git_url),
            insecure_http: s.or("insecure_http", flag, "false"),
            username: s.or("username", value::username, "'fort-agent'"),
            token_file: s.optional("token_file", absolute),
            ca_file: s.optional("ca_file", absolute),
            ssh_key_file: s.optional("ssh_key_file", value::ssh_path),
            known_hosts: s.optional("known_hosts", value::ssh_path),
            timeout: s.or("timeout", positive, "'20s'"),
        };
        if !remote.name.is_empty() && !names.insert(remote.name.clone()) {
            s.problem("name", &format!("{:?} is already that of another remote", remote.name));
        }
        unencrypted(s, &remote);
        ssh_keys(s, remote.url.starts_with("ssh://"));
        remote
    };
    sections.iter().map(read).collect()
}

/// Checks the use of http://: whoever is on the way decides what comes over it, which
/// runs as root; and a token would be theirs.
fn unencrypted(s: &Section<'_>, remote: &Remote) {
    match (in_clear(&remote.url), remote.insecure_http) {
        (true, false) => {
            let must = "be an https:// or ssh:// URL: over http:// whoever is on the way decides \
                        what runs on this host (`insecure_http = true` takes it all the same)";
            s.wrong("url", must);
        }
        (false, true) if s.has("url") => {
            s.problem("insecure_http", "is for an http:// `url` on another host only");
        }
        (true | false, _) if remote.url.starts_with("http://") && s.has("token_file") => {
            let what = "would be sent in clear: give the remote an https:// `url`, or no token";
            s.problem("token_file", what);
        }
        (true | false, _) => {}
    }
}

/// Checks that ssh:// has its keys and none of https://, for which it has no
/// use; and the reverse.
fn ssh_keys(s: &Section<'_>, ssh: bool) {
    for key in ["ssh_key_file", "known_hosts"] {
        match (ssh, s.has(key)) {
            (true, false) => s.missing(key, "is missing: an ssh:// `url` needs it"),
            (false, true) if s.has("url") => s.problem(key, "is for an ssh:// `url` only"),
            _ => {}
        }
    }
    for key in ["token_file", "ca_file", "username"] {
        if ssh && s.has(key) {
            s.problem(key, "is not for an ssh:// `url`: that has its user in it, and a key");
        }
    }
}

fn branch(s: &Section<'_>, hostname: &str) -> Branch {
    let name = |v: &DeValue<'_>| branch_name(v, hostname);
    let testing = |v: &DeValue<'_>| match v.as_str() {
        Some("") => Ok(None),
        _ => name(v).map(Some),
    };
    let branch = Branch {
        release: s.or("release", name, "'release'"),
        operation: s.choice(
            "operation",
            &[("switch", Operation::Switch), ("boot", Operation::Boot)],
            "switch",
        ),
        testing: s.or("testing", testing, "''"),
        force_push: s.choice(
            "force_push",
            &[("refuse", ForcePush::Refuse), ("accept", ForcePush::Accept)],
            "refuse",
        ),
    };
    if branch.testing.as_ref() == Some(&branch.release) && !branch.release.is_empty() {
        s.wrong("testing", "be another branch than `branch.release`");
    }
    branch
}

/// Reads a branch as git allows it, without `refs/heads/`.
fn branch_name(value: &DeValue<'_>, hostname: &str) -> Result<String, String> {
    let name = value::expanded(&text(value)?, hostname)?;
    if name.starts_with("refs/") {
        return Err("be a branch's name only, without refs/heads/".to_owned());
    }
    if !git::is_branch_name(&name) {
        let name = wording::shown(&name);
        return Err(format!("be a branch name that git allows, not {name}"));
    }
    Ok(name)
}

fn poll(s: &Section<'_>) -> Poll {
    Poll { interval: s.or("interval", positive, "'30s'"), jitter: s.or("jitter", duration, "'5s'") }
}

fn system(s: &Section<'_>, hostname: &str, direct: bool) -> System {
    if direct && s.has("limits") {
        s.problem("limits", NEEDS_SYSTEMD);
    }
    let dir = |v: &DeValue<'_>| value::inside(&value::expanded(&text(v)?, hostname)?);
    let file = |v: &DeValue<'_>| value::inside(&text(v)?);
    let attribute = |v: &DeValue<'_>| attribute(v, hostname);
    let kind = s.choice("kind", &[("flake", false), ("file", true)], "flake");
    let file = s.or("file", file, "'default.nix'");
    System {
        kind: if kind { SystemKind::File(file) } else { SystemKind::Flake },
        flake_dir: s.or("flake_dir", dir, "'.'"),
        attribute: s.or(
            "attribute",
            attribute,
            "'nixosConfigurations.{hostname}.config.system.build.toplevel'",
        ),
        evaluate: s.choice(
            "evaluate",
            &[("if-needed", Evaluate::IfNeeded), ("always", Evaluate::Always)],
            "if-needed",
        ),
        timeout: s.or("timeout", positive, "'2h'"),
        submodules: s.or("submodules", flag, "false"),
        limits: limits(&s.section("limits")),
    }
}

fn limits(s: &Section<'_>) -> UnitLimits {
    UnitLimits {
        memory_high: s.optional("memory_high", value::bytes),
        memory_max: s.optional("memory_max", value::bytes),
        cpu_weight: s.optional("cpu_weight", value::weight),
        io_weight: s.optional("io_weight", value::weight),
    }
}

/// Reads an attribute path as nix has it, with `{hostname}` left in it: where the hosts
/// are is seen from it.
fn attribute(value: &DeValue<'_>, hostname: &str) -> Result<String, String> {
    let text = text(value)?;
    value::expanded(&text, hostname)?;
    if text.matches('"').count() % 2 == 1 {
        return Err("close its quotes".to_owned());
    }
    Ok(text)
}

fn git(s: &Section<'_>) -> git::Limits {
    // Less than this, and what people have in their repositories does not fit.
    let at_least = |least: u64, value: &DeValue<'_>| match value::bytes(value)? {
        bytes if bytes < least => Err(format!("be at least \"{}M\"", least >> 20)),
        bytes => Ok(bytes),
    };
    git::Limits {
        memory: s.or("memory", |value| at_least(64 << 20, value), "'512M'"),
        pack: s.or("pack", |value| at_least(1 << 20, value), "'1G'"),
        tree: s.or("tree", |value| at_least(1 << 20, value), "'1G'"),
    }
}

fn nix(s: &Section<'_>, direct: bool) -> Nix {
    let options = s.table("options").map(|table| nix_options::read(s, table, direct));
    Nix {
        store: s.or("store", nix_options::store, "'auto'"),
        options: options.unwrap_or_default(),
        bin_dir: s.optional("bin_dir", absolute),
    }
}

fn activation(s: &Section<'_>) -> Activation {
    let runners = [("systemd", Runner::Systemd), ("direct", Runner::Direct)];
    let activation = Activation {
        runner: s.choice("runner", &runners, "systemd"),
        confirm: s.or("confirm", value::confirm, "'no'"),
        windows: s.or("windows", value::windows, "[]"),
        drift: s.choice("drift", &[("report", Drift::Report), ("revert", Drift::Revert)], "report"),
        timeout: s.or("timeout", positive, "'15m'"),
        time_zone: s.optional("time_zone", value::time_zone),
        on_kernel_change: s.choice(
            "on_kernel_change",
            &[("switch", OnKernelChange::Switch), ("boot", OnKernelChange::Boot)],
            "switch",
        ),
        on_bus_change: s.choice(
            "on_bus_change",
            &[("boot", OnBusChange::Boot), ("switch", OnBusChange::Switch)],
            "boot",
        ),
        on_rollback_failure: s.choice(
            "on_rollback_failure",
            &[("report", OnRollbackFailure::Report), ("reboot", OnRollbackFailure::Reboot)],
            "report",
        ),
        specialisation: s.or("specialisation", value::specialisation, "'keep'"),
    };
    let reboots = activation.on_rollback_failure == OnRollbackFailure::Reboot;
    if reboots && activation.runner == Runner::Direct {
        s.problem("on_rollback_failure", &format!("= \"reboot\" {NEEDS_SYSTEMD}"));
    }
    activation
}

fn retry(s: &Section<'_>) -> Retry {
    let mut retry = Retry {
        first: s.or("first", positive, "'60s'"),
        max: s.or("max", positive, "'32m'"),
        activations: s.or("activations", count, "3"),
    };
    match (s.has("first"), s.has("max")) {
        (true, true) if retry.first > retry.max && retry.max > Duration::ZERO => {
            s.wrong("max", "not be shorter than `retry.first`");
        }
        (true, _) => retry.max = retry.max.max(retry.first),
        (false, _) => retry.first = retry.first.min(retry.max),
    }
    retry
}

fn reboot(s: &Section<'_>, direct: bool) -> Option<Reboot> {
    let section = s.section("reboot");
    let reboot = Reboot {
        allow: section.or("allow", flag, "false"),
        windows: section.or("windows", value::windows, "[]"),
    };
    if reboot.allow && direct {
        section.problem("allow", &format!("= true {NEEDS_SYSTEMD}"));
    }
    s.has("reboot").then_some(reboot)
}

fn health(s: &Section<'_>, direct: bool) -> Health {
    let mut health = Health {
        grace: s.or("grace", duration, "'10s'"),
        timeout: s.or("timeout", positive, "'3m'"),
        failed_units: s.choice(
            "failed_units",
            &[("new", FailedUnits::New), ("none", FailedUnits::None)],
            "new",
        ),
        remote: s.or("remote", flag, "true"),
        on_failure: s.choice(
            "on_failure",
            &[("rollback", OnFailure::Rollback), ("report", OnFailure::Report)],
            "rollback",
        ),
        checks: checks(s, direct),
    };
    match (s.has("grace"), s.has("timeout")) {
        (true, true) if health.grace > health.timeout && health.timeout > Duration::ZERO => {
            s.wrong("grace", "not be longer than `health.timeout`");
        }
        (true, _) => health.timeout = health.timeout.max(health.grace),
        (false, _) => health.grace = health.grace.min(health.timeout),
    }
    health
}

fn checks(s: &Section<'_>, direct: bool) -> Vec<Check> {
    let mut names = BTreeSet::new();
    let read = |s: &Section<'_>| {
        let name = s.required("name", text);
        let required = s.or("required", flag, "true");
        let probes = [
            s.optional("http", url::http_url).map(Probe::Http),
            s.optional("command", value::command).map(Probe::Command),
            s.optional("tcp", value::endpoint).map(Probe::Tcp),
            s.optional("unit", value::unit).map(Probe::Unit),
        ];
        if !name.is_empty() && !names.insert(name.clone()) {
            s.problem(
                "name",
                &format!("{} is already that of another check", wording::shown(&name)),
            );
        }
        if direct && s.has("unit") {
            s.problem("unit", NEEDS_SYSTEMD);
        }
        let kinds = ["http", "command", "tcp", "unit"];
        match kinds.iter().filter(|kind| s.has(kind)).count() {
            1 => {}
            0 => s.problem_here("needs one of `http`, `command`, `tcp` and `unit`"),
            _ => s.problem_here("must have only one of `http`, `command`, `tcp` and `unit`"),
        }
        Some(Check { name, probe: probes.into_iter().flatten().next()?, required })
    };
    s.sections("check").iter().filter_map(read).collect()
}

fn metrics(s: &Section<'_>) -> Metrics {
    Metrics {
        listen: s.optional("listen", value::address),
        names: s.optional("names", value::host_names).unwrap_or_default(),
    }
}

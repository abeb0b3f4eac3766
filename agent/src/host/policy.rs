//! The configuration as the core wants it.

use std::path::Path;

use crate::config::{self, Config};
use crate::core::policy::{ForcePush, OnFailure, Operation, Policy};

/// Translates the configuration into the policy that decisions rest on.
pub(super) fn policy(config: &Config) -> Policy {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let system = &config.system;
    let place = match &system.kind {
        config::SystemKind::Flake => format!("flake:{}", text(&system.flake_dir)),
        config::SystemKind::File(file) => format!("file:{}", text(&system.flake_dir.join(file))),
    };
    let place = if system.submodules { format!("{place}+submodules") } else { place };
    Policy {
        hostname: config.hostname.clone(),
        machine_id: config.machine_id.clone(),
        remotes: config.remotes.iter().map(|remote| remote.name.as_str().into()).collect(),
        release: config.branch.release.as_str().into(),
        testing: config.branch.testing.as_deref().map(Into::into),
        operation: match config.branch.operation {
            config::Operation::Switch => Operation::Switch,
            config::Operation::Boot => Operation::Boot,
        },
        force_push: match config.branch.force_push {
            config::ForcePush::Refuse => ForcePush::Refuse,
            config::ForcePush::Accept => ForcePush::Accept,
        },
        recipe: format!("{place}#{}", system.attribute.replace("{hostname}", &config.hostname))
            .into(),
        poll_interval: config.poll.interval,
        poll_jitter: config.poll.jitter,
        retry_first: config.retry.first,
        retry_max: config.retry.max,
        activations: config.retry.activations,
        activation_timeout: config.activation.timeout,
        grace: config.health.grace,
        health_timeout: config.health.timeout,
        health_remote: config.health.remote,
        on_failure: match config.health.on_failure {
            config::OnFailure::Rollback => OnFailure::Rollback,
            config::OnFailure::Report => OnFailure::Report,
        },
        units: config.activation.runner == config::Runner::Systemd,
        on_rollback_failure: config.activation.on_rollback_failure,
        on_kernel_change: config.activation.on_kernel_change,
        specialisation: config.activation.specialisation.clone(),
        confirm: config.activation.confirm,
        drift: config.activation.drift,
        reboots: config.activation.runner == config::Runner::Systemd
            && config.reboot.as_ref().is_some_and(|reboot| reboot.allow),
        publish: config
            .cache
            .as_ref()
            .filter(|cache| cache.publish)
            .map(|cache| format!("{}/{}", cache.endpoint, cache.name).into()),
    }
}

//! Stalls in which people or the clock hold a deployment back.

use super::play::{SELDOM, Stage, Stall, realised};
use crate::support::system::Host;

fn two(stage: &mut Stage) {
    stage.head = stage.rig.push("release", &Host::new("two"));
}

/// From now on, with this in `[activation]`.
fn configured(stage: &mut Stage, activation: &str) {
    stage.rig.settings.activation = activation.into();
    stage.rig.stop();
    stage.rig.start();
    stage.rig.wait_in_sync(stage.one);
    two(stage);
}

pub(super) fn confirmation() -> Stall {
    Stall {
        cause: |stage| configured(stage, "confirm = \"manual\"\n"),
        in_effect: realised,
        every: SELDOM,
        state: "waiting",
        words: &["waits to be confirmed", "{head}"],
        lift: &["fort-agent confirm {head}"],
        undo: |stage| {
            stage.run(&["confirm", &stage.head.short()]);
            stage.head
        },
        ..Stall::USUAL
    }
}

pub(super) fn suspended() -> Stall {
    Stall {
        cause: |stage| {
            stage.run(&["suspend", "--reason", "moving house"]);
            two(stage);
        },
        in_effect: realised,
        every: SELDOM,
        state: "waiting",
        words: &["{head} is ready", "deployments are suspended", "moving house"],
        lift: &["fort-agent resume"],
        metrics: &["fort_agent_suspended 1"],
        undo: |stage| {
            stage.run(&["resume"]);
            stage.head
        },
        ..Stall::USUAL
    }
}

/// Closed for some hours, whatever time it is.
fn later() -> String {
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    let (from, to) = ((now.hour() + 5) % 24, (now.hour() + 6) % 24);
    format!("windows = [\"{from:02}:00-{to:02}:00\"]\ntime_zone = \"UTC\"\n")
}

pub(super) fn window() -> Stall {
    Stall {
        cause: |stage| configured(stage, &later()),
        in_effect: realised,
        every: SELDOM,
        state: "waiting",
        words: &["{head} is ready", "waits for a window"],
        lift: &["it goes ahead when the window opens"],
        undo: |stage| {
            // Hours later, as far as the windows are concerned.
            stage.rig.settings.activation = "windows = [\"00:00-24:00\"]\n".into();
            stage.rig.write_config();
            stage.head
        },
        ..Stall::USUAL
    }
}

//! Footprint of an agent after many polls, beside that after few.

use std::time::{Duration, Instant};

use super::measure::{Footprint, footprint};
use super::rig::Rig;

/// Polls before the first look: what is kept for good is there by then.
const FIRST: u64 = 2_000;

/// Footprints before and after many polls.
#[derive(Debug)]
pub(crate) struct Flat {
    pub(crate) polls: u64,
    pub(crate) took: Duration,
    pub(crate) before: Footprint,
    pub(crate) after: Footprint,
}

/// Polls as fast as it can, so often or for so long. The rig has deployed, and
/// is not started.
pub(crate) fn polled(rig: &mut Rig, polls: u64, time: Duration) -> Flat {
    rig.settings.poll = "interval = \"1ms\"\njitter = \"0s\"\n".into();
    rig.settings.log = "info".into();
    rig.forge.settle();
    let zero = rig.forge.counts().requests;
    rig.start();
    let began = Instant::now();
    while rig.forge.counts().requests <= zero + FIRST {
        assert!(began.elapsed() < time, "waited in vain for the first polls");
        std::thread::park_timeout(Duration::from_millis(50));
    }
    let (began, zero, before) = (Instant::now(), rig.forge.counts().requests, footprint(rig.pid()));
    let asked = || rig.forge.counts().requests - zero;
    while asked() < polls && began.elapsed() < time {
        std::thread::park_timeout(Duration::from_millis(50));
    }
    let (polls, took, after) = (asked(), began.elapsed(), footprint(rig.pid()));
    Flat { polls, took, before, after }
}

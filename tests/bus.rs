//! The real agent on a system bus: who may do what there, and what nonsense
//! does to it.

mod access;
mod nonsense;
mod strangers;

use crate::support::bus::SystemBus;
use crate::support::rig::Rig;

/// A host whose agent is on this bus, and has deployed one commit.
fn on(bus: &SystemBus) -> Rig {
    let (rig, _) = Rig::deployed_with(|rig| {
        rig.settings.bus = bus.address();
        // It polls when it is told to.
        rig.settings.poll = "interval = \"10m\"\njitter = \"0s\"\n".into();
    });
    bus.wait_agent();
    rig
}

//! When this host may be switched and rebooted, on the clock of its time zone.

use jiff::tz::TimeZone;

use crate::config::Config;
use crate::core::observed::Window;
use crate::core::types::Wall;
use crate::windows::{self, Windows};

/// Configured windows for deployments and reboots, with their time zone.
pub(super) struct Timetable {
    zone: TimeZone,
    deploy: Windows,
    reboot: Windows,
}

impl Timetable {
    pub(super) fn new(config: &Config) -> Self {
        let zone = config.activation.time_zone.clone();
        Self {
            zone: zone.unwrap_or_else(|| windows::host_zone(&config.root)),
            deploy: config.activation.windows.clone(),
            reboot: config.reboot.as_ref().map(|r| r.windows.clone()).unwrap_or_default(),
        }
    }

    /// Whether systems may be activated.
    pub(super) fn deploy(&self, now: Wall) -> Window {
        self.window(&self.deploy, now)
    }

    /// Whether the host may be rebooted.
    pub(super) fn reboot(&self, now: Wall) -> Window {
        self.window(&self.reboot, now)
    }

    fn window(&self, windows: &Windows, now: Wall) -> Window {
        let state = windows.at(now, &self.zone);
        Window { open: state.open, changes: state.changes }
    }
}

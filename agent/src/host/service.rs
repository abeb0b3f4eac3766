//! What the service manager is told: that the agent is ready, and that its loop
//! still turns. The watchdog is fed by the loop alone, when it turned.

use sd_notify::NotifyState;

/// The service manager, if there is one.
#[derive(Default)]
pub(super) struct ServiceManager {
    ready: bool,
}

impl ServiceManager {
    /// The loop has turned.
    pub(super) fn turned(&mut self) {
        let said = if self.ready {
            sd_notify::notify(&[NotifyState::Watchdog])
        } else {
            self.ready = true;
            sd_notify::notify(&[NotifyState::Ready, NotifyState::Watchdog])
        };
        if let Err(error) = said {
            tracing::debug!(%error, "the service manager could not be told");
        }
    }
}

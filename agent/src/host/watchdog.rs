//! Messages to the service manager: that the agent is ready, and that its loop still
//! turns. The watchdog is fed by the loop alone, when it turned and could look at the
//! host: an agent that cannot may be what is wrong, and is started anew.

use sd_notify::NotifyState;

/// The service manager, if there is one.
#[derive(Default)]
pub(super) struct ServiceManager {
    ready: bool,
}

impl ServiceManager {
    /// Reports a turn of the loop, in which it could look at the host or not. The agent
    /// is ready in any case: it answers, and asks the remotes.
    pub(super) fn turned(&mut self, looked: bool) {
        let ready = (!self.ready).then_some(NotifyState::Ready);
        let alive = looked.then_some(NotifyState::Watchdog);
        let said: Vec<NotifyState<'_>> = ready.into_iter().chain(alive).collect();
        if said.is_empty() {
            return;
        }
        self.ready = true;
        let said = sd_notify::notify(&said);
        if let Err(error) = said {
            tracing::debug!(%error, "the service manager could not be told");
        }
    }
}

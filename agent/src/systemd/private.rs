//! systemd without D-Bus: as root, over its own socket. For the way back from a
//! system that broke the bus.
//!
//! On that socket nobody is told when a job ends, so its end is looked for.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use zbus::proxy::CacheProperties;

use super::proxy::ManagerProxy;
use super::{CALL, Failed, Systemd, limited};

/// systemd's own socket, where one end of a connection is systemd itself.
const SOCKET: &str = "unix:path=/run/systemd/private";
/// Between two looks at a unit.
const LOOK: Duration = Duration::from_millis(100);

impl Systemd {
    /// Connects to systemd itself, which takes root and no bus.
    pub async fn connect_private() -> Result<Self, Failed> {
        let what = "systemd";
        let connection = zbus::connection::Builder::address(SOCKET).p2p().build();
        let connection = limited(what, CALL, connection).await?;
        let manager = ManagerProxy::builder(&connection).cache_properties(CacheProperties::No);
        let manager = limited(what, CALL, manager.build()).await?;
        Ok(Self { manager })
    }

    /// Lets systemd read its units anew.
    pub async fn reload(&self) -> Result<(), Failed> {
        limited("reading the units anew", CALL * 6, self.manager.reload()).await
    }

    /// Starts a unit and waits until it has started.
    pub async fn start_unit(&self, name: &str, limit: Duration) -> Result<(), Failed> {
        limited("starting a unit", CALL, self.manager.start_unit(name, "replace")).await?;
        self.settled(name, limit).await
    }

    /// Stops a unit, if it runs, and starts it; waits until it has started.
    pub async fn restart_unit(&self, name: &str, limit: Duration) -> Result<(), Failed> {
        limited("starting a unit anew", CALL, self.manager.restart_unit(name, "replace")).await?;
        self.settled(name, limit).await
    }

    /// Begins to start a unit that nothing is to get in the way of.
    pub async fn begin(&self, name: &str) -> Result<(), Failed> {
        let begun = self.manager.start_unit(name, "replace-irreversibly");
        limited("starting a unit", CALL, begun).await.map(|_| ())
    }

    async fn settled(&self, name: &str, limit: Duration) -> Result<(), Failed> {
        let settled = async {
            loop {
                sleep(LOOK).await;
                match self.unit(name).await? {
                    Some(state)
                        if matches!(state.active.as_str(), "activating" | "deactivating") => {}
                    Some(state) if state.active == "active" => return Ok(()),
                    Some(state) => {
                        return Err(Failed::Job { unit: name.to_owned(), result: state.active });
                    }
                    None => {
                        let result = "there is no such unit".to_owned();
                        return Err(Failed::Job { unit: name.to_owned(), result });
                    }
                }
            }
        };
        timeout(limit, settled)
            .await
            .unwrap_or(Err(Failed::Late { what: "starting a unit", limit }))
    }
}

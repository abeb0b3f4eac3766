//! systemd over D-Bus: jobs as transient units, and how the host's units fare.
//!
//! It decides nothing. A connection is made for each use: uses are rare, and a
//! kept one would not survive the restart of D-Bus that a switch may bring.
//! Everything has a deadline. Interfaces: org.freedesktop.systemd1(5).
//!
//! systemd answers root on a socket of its own as well, `/run/systemd/private`,
//! as systemctl does: the same interface with no bus between, and so the way to
//! a bus that is broken. All units can be managed there, and nothing else.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use tokio::time::timeout;
use zbus::proxy::CacheProperties;
use zbus::{Connection, OwnedObjectPath, Variant};

pub mod baseline;
mod finished;
pub mod jobs;
pub mod logind;
mod proxy;
pub mod units;

use crate::dbus::{self, Takes};
use finished::Finished;
use proxy::ManagerProxy;

/// Limit for connecting, and for each call.
const CALL: Duration = Duration::from_secs(10);
/// Limit for reading all units anew, which the generators are run for.
const RELOAD: Duration = Duration::from_secs(90);
/// Limit for starting or stopping a unit, which may have to wait for others.
const JOB: Duration = Duration::from_secs(30);
/// Name of the error for a unit that exists and was to be made.
const EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
/// Name of the error for a unit that is not there.
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// Failure of a request to systemd.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The bus, or systemd on it, does not answer.
    #[error("{what} did not answer within {} s", limit.as_secs())]
    Late {
        /// Name of the request.
        what: &'static str,
        /// Time within which the answer was due.
        limit: Duration,
    },
    /// systemd or the bus answered with an error.
    #[error("{what}")]
    Bus {
        /// Name of the request.
        what: &'static str,
        /// Error of the bus.
        source: zbus::Error,
    },
    /// The unit could not be started or stopped.
    #[error("{unit}: {result}")]
    Job {
        /// Name of the unit.
        unit: String,
        /// systemd's word for it.
        result: String,
    },
}

/// Transient service to be started.
#[derive(Debug)]
pub struct Service<'a> {
    /// Name of the unit, with `.service`.
    pub name: &'a str,
    /// Description that systemd shows.
    pub description: &'a str,
    /// The program and its arguments.
    pub argv: &'a [String],
    /// Variables, each as `NAME=VALUE`.
    pub environment: &'a [String],
    /// More properties, as `systemd.resource-control(5)` and the like name
    /// them on D-Bus.
    pub properties: Vec<(&'static str, Variant<'static>)>,
}

/// A connection to systemd.
#[derive(Debug)]
pub struct Systemd {
    manager: ManagerProxy<'static>,
}

impl Systemd {
    /// Connects over the system bus.
    pub async fn connect() -> Result<Self, Failed> {
        Self::on(&system_bus().await?).await
    }

    /// Connects to systemd itself, with no bus between; for root only. `root`
    /// is the prefix of the host's paths.
    pub async fn connect_private(root: &Path) -> Result<Self, Failed> {
        let connected = async { dbus::systemd(root, Takes::ASKING).await?.build().await };
        Self::on(&limited("systemd's private socket", CALL, connected).await?).await
    }

    async fn on(connection: &Connection) -> Result<Self, Failed> {
        let manager = ManagerProxy::builder(connection).cache_properties(CacheProperties::No);
        let manager = limited("systemd", CALL, manager.build()).await?;
        Ok(Self { manager })
    }

    /// Reads all units anew (`systemctl daemon-reload`), and waits for it.
    pub async fn reload(&self) -> Result<(), Failed> {
        limited("a daemon-reload", RELOAD, self.manager.reload()).await
    }

    /// Starts a unit and waits for it, but not longer than `limit`: systemd
    /// goes on with it all the same. One that is active stays as it is.
    pub async fn start_unit(&self, name: &str, limit: Duration) -> Result<(), Failed> {
        self.forget_failure(name).await?;
        let mut finished = Finished::listen(&self.manager).await?;
        let started = self.manager.start_unit(name, "replace");
        let job = limited("starting a unit", CALL, started).await?;
        finished.wait(&job, name, "starting a unit", limit).await
    }

    /// Stops a unit, if it is active, and starts it; waits as
    /// [`Systemd::start_unit`] does.
    pub async fn restart_unit(&self, name: &str, limit: Duration) -> Result<(), Failed> {
        self.forget_failure(name).await?;
        let mut finished = Finished::listen(&self.manager).await?;
        let restarted = self.manager.restart_unit(name, "replace");
        let job = limited("restarting a unit", CALL, restarted).await?;
        finished.wait(&job, name, "restarting a unit", limit).await
    }

    /// Begins to start a unit that nothing is to get in the way of.
    pub async fn begin(&self, name: &str) -> Result<(), Failed> {
        let begun = self.manager.start_unit(name, "replace-irreversibly");
        limited("starting a unit", CALL, begun).await.map(drop)
    }

    /// Starts a service and waits until its program runs. One of that name that runs
    /// already is fine: it is that job.
    pub async fn start(&self, service: &Service<'_>) -> Result<(), Failed> {
        let what = "starting a unit";
        // What a killed one left is in the way of its name.
        self.forget_failure(service.name).await?;
        let mut finished = Finished::listen(&self.manager).await?;
        let program = service.argv.first().cloned().unwrap_or_default();
        let exec = vec![(program, service.argv.to_vec(), false)];
        let mut properties: Vec<(&str, Variant<'_>)> = vec![
            ("Description", service.description.into()),
            ("Type", "exec".into()),
            ("CollectMode", "inactive-or-failed".into()),
            ("ExecStart", Variant::new(exec)),
            ("Environment", Variant::new(service.environment.to_vec())),
        ];
        properties.extend(service.properties.iter().map(|(k, v)| (*k, v.clone())));
        let started = self.manager.start_transient_unit(service.name, "fail", &properties, &[]);
        let job = match limited(what, CALL, started).await {
            Err(Failed::Bus { source, .. }) if is(&source, EXISTS) => return Ok(()),
            other => other?,
        };
        finished.wait(&job, service.name, what, JOB).await
    }

    /// Forgets that a unit has failed, or was started too often, so that it can be started again.
    async fn forget_failure(&self, name: &str) -> Result<(), Failed> {
        match limited("a unit", CALL, self.manager.reset_failed_unit(name)).await {
            // It is not loaded.
            Ok(()) | Err(Failed::Bus { .. }) => Ok(()),
            Err(late) => Err(late),
        }
    }

    /// Asks for a unit to be stopped, and does not wait for it. Fine if there is none.
    pub async fn stop(&self, name: &str) -> Result<(), Failed> {
        match limited("stopping a unit", CALL, self.manager.stop_unit(name, "replace")).await {
            Err(Failed::Bus { source, .. }) if is(&source, NO_SUCH_UNIT) => Ok(()),
            other => other.map(drop),
        }
    }

    /// Returns the path of a loaded unit's object.
    async fn unit_path(&self, name: &str) -> Result<OwnedObjectPath, Failed> {
        limited("a unit", CALL, self.manager.load_unit(name)).await
    }
}

async fn system_bus() -> Result<Connection, Failed> {
    let connected = async { dbus::system_bus(Takes::ASKING).await?.build().await };
    limited("the system bus", CALL, connected).await
}

/// Whether an error of the bus has this name.
fn is(error: &zbus::Error, name: &str) -> bool {
    if let zbus::Error::MethodError(found, ..) = error { found.as_str() == name } else { false }
}

async fn limited<T>(
    what: &'static str,
    limit: Duration,
    call: impl Future<Output = zbus::Result<T>>,
) -> Result<T, Failed> {
    match timeout(limit, call).await {
        Ok(result) => result.map_err(|source| Failed::Bus { what, source }),
        Err(_) => Err(Failed::Late { what, limit }),
    }
}

//! systemd over D-Bus: jobs as transient units, and how the host's units fare.
//!
//! It decides nothing. A connection is made for each use: uses are rare, and a
//! kept one would not survive the restart of D-Bus that a switch may bring.
//! Everything has a deadline. Interfaces: org.freedesktop.systemd1(5).

use std::future::Future;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::timeout;
use zbus::proxy::CacheProperties;
use zbus::{OwnedObjectPath, Variant};

pub mod baseline;
mod private;
mod proxy;
pub mod units;

use proxy::ManagerProxy;

/// For connecting, and for each call.
const CALL: Duration = Duration::from_secs(10);
/// For starting or stopping a unit, which may have to wait for others.
const JOB: Duration = Duration::from_secs(30);
/// Whoever asks for an existing unit is told so by this error.
const EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
/// The same of one that is not there.
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// What went wrong with systemd.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The bus, or systemd on it, does not answer.
    #[error("{what} did not answer within {} s", limit.as_secs())]
    Late {
        /// What was asked.
        what: &'static str,
        /// How long it had.
        limit: Duration,
    },
    /// It answered with an error.
    #[error("{what}")]
    Bus {
        /// What was asked.
        what: &'static str,
        /// Why not.
        source: zbus::Error,
    },
    /// The unit could not be started or stopped.
    #[error("{unit}: {result}")]
    Job {
        /// Which.
        unit: String,
        /// systemd's word for it.
        result: String,
    },
}

/// A transient service.
#[derive(Debug)]
pub struct Service<'a> {
    /// Its name, with `.service`.
    pub name: &'a str,
    /// Its description.
    pub description: &'a str,
    /// The program and its arguments.
    pub argv: &'a [String],
    /// `NAME=VALUE`.
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
        let what = "the system bus";
        let connection = limited(what, CALL, zbus::connection::Builder::system().build()).await?;
        let manager = ManagerProxy::builder(&connection).cache_properties(CacheProperties::No);
        let manager = limited(what, CALL, manager.build()).await?;
        Ok(Self { manager })
    }

    /// Starts a service and waits until its program runs. One of that name
    /// that runs already is fine: it is that job.
    pub async fn start(&self, service: &Service<'_>) -> Result<(), Failed> {
        let what = "starting a unit";
        // What a killed one left is in the way of its name.
        match limited(what, CALL, self.manager.reset_failed_unit(service.name)).await {
            Ok(()) | Err(Failed::Bus { .. }) => {}
            Err(late) => return Err(late),
        }
        limited(what, CALL, self.manager.subscribe()).await?;
        let mut removed = limited(what, CALL, self.manager.receive_job_removed()).await?;
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
        let result = async {
            while let Some(signal) = removed.next().await {
                if let Ok(args) = signal.args()
                    && *args.job() == job
                {
                    return args.result().clone();
                }
            }
            "the bus went away".to_owned()
        };
        match timeout(JOB, result).await {
            Ok(result) if result == "done" => Ok(()),
            Ok(result) => Err(Failed::Job { unit: service.name.to_owned(), result }),
            Err(_) => Err(Failed::Late { what, limit: JOB }),
        }
    }

    /// Asks for a unit to be stopped, and does not wait for it. Fine if there
    /// is none.
    pub async fn stop(&self, name: &str) -> Result<(), Failed> {
        match limited("stopping a unit", CALL, self.manager.stop_unit(name, "replace")).await {
            Err(Failed::Bus { source, .. }) if is(&source, NO_SUCH_UNIT) => Ok(()),
            other => other.map(drop),
        }
    }

    /// The path of a loaded unit's object.
    async fn unit_path(&self, name: &str) -> Result<OwnedObjectPath, Failed> {
        limited("a unit", CALL, self.manager.load_unit(name)).await
    }
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

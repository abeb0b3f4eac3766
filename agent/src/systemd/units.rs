//! How the host's units fare: one look at all of them.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use zbus::OwnedObjectPath;
use zbus::proxy::CacheProperties;

use super::proxy::{ServiceProxy, UnitProxy};
use super::{CALL, Failed, Systemd, limited};

/// State of a unit now.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct UnitState {
    /// Active state, as in `active` or `failed`.
    pub active: String,
    /// Sub state, as in `running` or `auto-restart`.
    pub sub: String,
    /// Number of restarts by systemd itself; of services.
    pub restarts: u32,
    /// Time since which it is active, in microseconds of the monotonic clock; 0 if it is
    /// not, or of others than restarted services.
    pub since: u64,
}

impl UnitState {
    /// Whether the unit has failed, or is about to be started again because it has.
    pub fn failed(&self) -> bool {
        self.active == "failed" || self.sub.starts_with("auto-restart")
    }

    /// Whether the unit has been started, and not only begun to be.
    pub fn up(&self) -> bool {
        self.active() && self.active != "activating"
    }

    /// Whether the unit is active or becoming so.
    pub fn active(&self) -> bool {
        matches!(self.active.as_str(), "active" | "activating" | "reloading" | "refreshing")
            && !self.failed()
    }
}

/// The loaded units by name.
pub type Units = BTreeMap<String, UnitState>;

/// Units that are not inactive, by name, and what they are instead.
pub type Active = BTreeMap<String, String>;

impl Systemd {
    /// Looks at all units of the system that count: not at what belongs to somebody's
    /// session, and not at the agent's own jobs.
    pub async fn units(&self) -> Result<Units, Failed> {
        let listed = limited("the list of units", CALL, self.manager.list_units()).await?;
        let counted = listed.into_iter().filter(|unit| counts(&unit.0));
        let states = counted.map(async |(name, _, _, active, sub, _, path, ..)| {
            let state = UnitState { active, sub, restarts: 0, since: 0 };
            (name.clone(), self.with_restarts(&name, state, path).await)
        });
        Ok(join_all(states).await.into_iter().collect())
    }

    /// Returns all units of the system that are not inactive; aliases are left out.
    pub async fn active(&self) -> Result<Active, Failed> {
        let listed = limited("the list of units", CALL, self.manager.list_units()).await?;
        let active = listed.into_iter().filter_map(|unit| {
            let (name, _, _, active, _, follows, ..) = unit;
            (follows.is_empty() && active != "inactive").then_some((name, active))
        });
        Ok(active.collect())
    }

    /// Returns the state of one unit; `None` if there is no such unit.
    pub async fn unit(&self, name: &str) -> Result<Option<UnitState>, Failed> {
        let what = "a unit";
        let path = self.unit_path(name).await?;
        let unit = UnitProxy::builder(self.manager.inner().connection())
            .path(path)
            .cache_properties(CacheProperties::No);
        let unit = limited(what, CALL, unit.build()).await?;
        if limited(what, CALL, unit.load_state()).await? == "not-found" {
            return Ok(None);
        }
        let active = limited(what, CALL, unit.active_state()).await?;
        let sub = limited(what, CALL, unit.sub_state()).await?;
        Ok(Some(UnitState { active, sub, restarts: 0, since: 0 }))
    }

    /// Whether a unit has failed, and systemd knows of nothing that would start it again: no
    /// timer, socket or path, no unit that upholds it, no job. A restart of its own is a state of
    /// its own.
    pub async fn stays_failed(&self, name: &str) -> Result<bool, Failed> {
        let what = "a unit";
        let path = self.unit_path(name).await?;
        let unit = UnitProxy::builder(self.manager.inner().connection())
            .path(path)
            .cache_properties(CacheProperties::No);
        let unit = limited(what, CALL, unit.build()).await?;
        Ok(limited(what, CALL, unit.active_state()).await? == "failed"
            && limited(what, CALL, unit.triggered_by()).await?.is_empty()
            && limited(what, CALL, unit.upheld_by()).await?.is_empty()
            && limited(what, CALL, unit.job()).await?.0 == 0)
    }

    /// Adds a service's restarts to its state. Best effort: a unit may go while it is looked at.
    async fn with_restarts(
        &self,
        name: &str,
        mut state: UnitState,
        path: OwnedObjectPath,
    ) -> UnitState {
        if !name.ends_with(".service") || state.active == "inactive" {
            return state;
        }
        let connection = self.manager.inner().connection();
        let look = async {
            let service = ServiceProxy::builder(connection)
                .path(path.clone())
                .cache_properties(CacheProperties::No)
                .build()
                .await?;
            state.restarts = service.restarts().await?;
            if state.restarts > 0 {
                let unit = UnitProxy::builder(connection)
                    .path(path)
                    .cache_properties(CacheProperties::No)
                    .build()
                    .await?;
                state.since = unit.active_enter_timestamp_monotonic().await?;
            }
            zbus::Result::Ok(())
        };
        let _ = limited("a service", CALL, look).await;
        state
    }
}

fn counts(unit: &str) -> bool {
    let of_people = ["user@", "user-", "session-", "user.slice"];
    !of_people.iter().any(|prefix| unit.starts_with(prefix)) && !unit.starts_with("fort-agent")
}

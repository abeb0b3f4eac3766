//! The publish job as this host starts and ends it. None of it fails: what goes
//! wrong with it is logged and shows as a job that did not begin, or goes on,
//! and the loop turns to the next step.

use super::world::Host;
use crate::config::Cache;
use crate::core::job::{JobId, PublishOrder};
use crate::jobs::dir::JobDir;
use crate::jobs::spec::{PublishHost, PublishSpec};

impl Host {
    /// Starts a publish job. If that fails it is seen as one that was killed.
    pub(super) fn start_publish(&mut self, id: &JobId, order: &PublishOrder) {
        let Some(settings) = self.config.cache.as_ref().and_then(Cache::publish_settings) else {
            return;
        };
        let host = PublishHost { nix: self.nix.clone(), settings };
        let spec = PublishSpec { order: order.clone(), host };
        let started =
            JobDir::create(&self.config.state_dir, id, &spec).and_then(|dir| self.start(id, &dir));
        if let Err(error) = started {
            tracing::warn!(%id, "the job could not be started: {error}");
        }
    }

    /// Tells a publish job to stop.
    pub(super) fn stop_publish(&mut self, id: &JobId) {
        if let Err(error) = self.stop(id) {
            tracing::warn!(%id, "the job could not be stopped: {error}");
        }
    }

    /// Removes the directory of a publish job. If that fails it is not looked at again.
    pub(super) fn remove_publish(&mut self, id: &JobId) {
        let removed = self.directory(id).remove();
        self.jobs.remove(id);
        if let Err(error) = removed {
            tracing::warn!(%id, "the job's directory could not be removed: {error}");
            self.passed_by.insert(id.clone());
        }
    }
}

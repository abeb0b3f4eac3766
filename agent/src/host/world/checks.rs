//! Checks of a system that was activated, and what its units were before.

use super::*;

impl Host {
    pub(in crate::host) fn failed_when_good_file(&self) -> PathBuf {
        self.config.state_dir.join("failed-when-good.json")
    }

    pub(in crate::host) fn run_checks(&mut self, id: &JobId) {
        let Some(Spec::Switch(order)) = self.jobs.get(id).and_then(|known| known.order.clone())
        else {
            return;
        };
        self.checking = true;
        let health = Health {
            checks: self.config.health.checks.clone(),
            remotes: if self.config.health.remote { self.lookouts.clone() } else { Vec::new() },
            branch: self.release_ref(),
            units: self.units_health(id),
            limit: CHECK.min(self.config.health.timeout / 2),
        };
        let (job, began) = (id.clone(), clock::mono());
        let hostname = self.config.hostname.clone();
        let doing = async move { Ok(health.round(&order, &hostname).await) };
        self.beside.run(Doing::Checks, doing, move |checks| {
            // Nothing was found to be well.
            let Findings { checks, hopeless } = checks.unwrap_or_else(health::cut_off);
            Event::Checked(Round { job, began, ended: clock::mono(), checks, hopeless })
        });
    }

    pub(in crate::host) fn units_health(&self, id: &JobId) -> Option<UnitsHealth> {
        let wanted = match (self.config.activation.runner, self.config.health.failed_units) {
            (Runner::Systemd, FailedUnits::New) => true,
            (Runner::Direct, _) | (Runner::Systemd, FailedUnits::None) => false,
        };
        // Without a baseline every failed unit would count: rather none.
        let baseline =
            self.directory(id).read(JobFile::Baseline).ok().flatten().filter(|_| wanted)?;
        Some(UnitsHealth { baseline, store: self.store.clone() })
    }

    /// Notes beside the loop which units have failed while the system is found good: the
    /// next system is not to blame for them.
    pub(in crate::host) fn note_failed_when_good(&self) {
        if self.config.activation.runner != Runner::Systemd {
            return;
        }
        let file = self.failed_when_good_file();
        let doing = async move {
            let look = async { Systemd::connect().await?.units().await };
            let units = look.await.map_err(|error| error.to_string())?;
            let failed = units.iter().filter(|(_, state)| state.failed());
            let failed: BTreeSet<&String> = failed.map(|(name, _)| name).collect();
            crate::files::write_json(&file, &failed, Durability::Passing)
                .map_err(|error| format!("cannot write {}: {error}", file.display()))
        };
        self.beside.run(Doing::Units, doing, |_| Event::Noted);
    }
}

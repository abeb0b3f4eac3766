//! One step at a time: what it takes on this host.

use super::*;

impl Host {
    /// Performs one step; fails if it could not be done or begun.
    pub(in crate::host) fn perform(&mut self, step: &Step, memory: &Memory) -> anyhow::Result<()> {
        match step {
            // Only the memory changes.
            Step::Wait { .. }
            | Step::Follow { .. }
            | Step::Settle { .. }
            | Step::AskToConfirm { .. }
            | Step::GiveUp { .. } => {}
            Step::Poll { remote, accepted } => self.remotes.poll(*remote, *accepted),
            Step::Compare { older, newer } => self.remotes.compare(*older, *newer),
            Step::KeepRoots(wanted) => self.keep_roots(wanted.clone()),
            Step::StartRealise(order) => {
                self.choose_evaluator().map_err(unwritten(&self.config.state_dir))?;
                let spec = RealiseSpec { order: order.clone(), host: self.realise_host() };
                let id = order.job(JobKind::Realise);
                let dir = JobDir::create(&self.config.state_dir, &id, &spec)
                    .map_err(unwritten(self.directory(&id).path()))?;
                self.start(&id, &dir)?;
            }
            Step::StartSwitch(order) => {
                let host = SwitchHost { machine: self.machine.clone(), nix: self.nix.clone() };
                let spec = SwitchSpec { order: order.clone(), host };
                let id = order.job();
                let dir = JobDir::create(&self.config.state_dir, &id, &spec)
                    .map_err(unwritten(self.directory(&id).path()))?;
                // Whatever the agent that it brings does to the journal.
                dir.write(JobFile::Memory, memory, Durability::Durable)
                    .map_err(unwritten(&dir.file(JobFile::Memory)))?;
                self.start(&id, &dir)?;
            }
            Step::ResumeSwitch(id) => {
                self.jobs.entry(id.clone()).or_default().resumed = Some(clock::mono());
                self.start(id, &self.directory(id))?;
            }
            Step::StartPublish(order) => self.start_publish(&order.job(), order),
            Step::StopJob(id) if id.kind == JobKind::Publish => self.stop_publish(id),
            Step::StopJob(id) => self.stop(id)?,
            Step::RemoveJob(id) if id.kind == JobKind::Publish => self.remove_publish(id),
            Step::RemoveJob(id) => {
                let dir = self.directory(id);
                if dir.path().parent() == Some(&dir::all(&self.config.state_dir)) {
                    dir.remove().map_err(unwritten(dir.path()))?;
                }
                let handover = self.machine.handover();
                handover::remove(&handover, &id.deployment).map_err(unwritten(&handover))?;
                self.jobs.remove(id);
                if id.kind == JobKind::Realise {
                    // Of one that was killed; it may be a million files.
                    let dest = self.exports().join(id.deployment.as_str());
                    tokio::task::spawn_blocking(move || git::export::sweep(&dest));
                }
            }
            Step::RunChecks(id) => self.run_checks(id),
            Step::Preflight { system, default, needs_agent, writes_boot } => {
                self.look_before(system.clone(), default.clone(), *needs_agent, *writes_boot);
            }
            Step::Look => self.look_for_a_remote(),
            Step::Disarm { system } => self.reboots.disarm(system.clone(), &self.beside),
            Step::LookAgainstReboot => self.reboots.ask(&self.beside),
            Step::Reboot { system: _ } => self.reboots.reboot(&self.beside),
            Step::WriteVerdict { job, verdict } => {
                let file = self.directory(job).file(JobFile::Verdict);
                self.write_verdict(job, verdict).map_err(unwritten(&file))?;
                if verdict.good {
                    self.note_failed_when_good();
                }
            }
        }
        Ok(())
    }

    pub(in crate::host) fn look_before(
        &mut self,
        system: StorePath,
        default: Option<StorePath>,
        needs_agent: bool,
        writes_boot: bool,
    ) {
        self.before.preflighting = true;
        let asked = before::Asked {
            root: self.config.root.clone(),
            store: self.store.clone(),
            nix: self.nix.clone(),
            running: self.machine.running().unwrap_or_default(),
            booted: self
                .machine
                .booted()
                .unwrap_or_default()
                .filter(|_| self.config.activation.on_kernel_change == OnKernelChange::Boot),
            system,
            default,
            needs_agent,
            writes_boot,
            on_bus_change: self.config.activation.on_bus_change,
        };
        let looks = asked.clone();
        let doing = async move { looks.refusal().await };
        self.beside.run(Doing::Preflight, doing, |refusal| {
            Event::Looked(Found::Preflight(asked.found(refusal)))
        });
    }

    pub(in crate::host) fn look_for_a_remote(&mut self) {
        self.before.looking = true;
        let (remotes, branch, began) = (self.lookouts.clone(), self.release_ref(), clock::mono());
        let doing = async move { Ok(before::look(&remotes, &branch, CHECK).await) };
        self.beside.run(Doing::Look, doing, move |found| {
            let look = found.unwrap_or_else(|error| before::no_look(began, error));
            Event::Looked(Found::Look(look))
        });
    }

    pub(in crate::host) fn release_ref(&self) -> String {
        format!("refs/heads/{}", self.config.branch.release)
    }

    pub(in crate::host) fn start(&mut self, id: &JobId, dir: &JobDir) -> std::io::Result<()> {
        self.watch(id, dir);
        let beside = self.beside.clone();
        match self.config.activation.runner {
            Runner::Direct => start::detached(&self.agent, id.kind, dir.path(), move || {
                beside.tell(Event::JobEnded);
            }),
            Runner::Systemd => {
                let (agent, id, dir) = (self.agent.clone(), id.clone(), dir.clone());
                let limits = self.config.system.limits;
                let lent = self.evaluator.clone().ok().filter(|_| id.kind == JobKind::Realise);
                let baseline = match id.kind {
                    JobKind::Switch => Some(self.failed_when_good_file()),
                    JobKind::Realise | JobKind::Publish => None,
                };
                let started = id.clone();
                let doing = async move {
                    let started = async {
                        if let Some(failed_when_good) = baseline {
                            take_baseline(&dir, &failed_when_good).await?;
                        }
                        start::unit(&agent, &id, dir.path(), &limits, lent.as_ref()).await?;
                        anyhow::Ok(())
                    };
                    started.await.map_err(|error| format!("{id}: {error:#}"))
                };
                // A job that did not begin is seen as such by its lock.
                beside.run(Doing::Start, doing, |result| Event::Started(started, result.err()));
                Ok(())
            }
        }
    }

    /// Writes the verdict where the guardian looks: into the job's directory. An agent
    /// that was given another state directory may not write there, and leaves it beside.
    pub(in crate::host) fn write_verdict(
        &self,
        id: &JobId,
        verdict: &Verdict,
    ) -> std::io::Result<()> {
        use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        let is_elsewhere = self.jobs.get(id).is_some_and(|known| known.elsewhere.is_some());
        match self.directory(id).write(JobFile::Verdict, verdict, Durability::Durable) {
            Err(error)
                if is_elsewhere
                    && matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem) =>
            {
                handover::leave_verdict(&self.machine.handover(), &id.deployment, verdict)
            }
            written => written,
        }
    }

    pub(in crate::host) fn stop(&mut self, id: &JobId) -> std::io::Result<()> {
        self.jobs.entry(id.clone()).or_default().stopping = true;
        let path = self.directory(id).path().to_owned();
        let beside = self.beside.clone();
        if self.config.activation.runner == Runner::Systemd {
            let id = id.clone();
            let doing = async move {
                start::stop_unit(&id).await.map_err(|error| format!("{id}: {error}"))
            };
            beside.run(Doing::Stop, doing, move |stopped| {
                if stopped.is_err() {
                    // It is only told so once: then without systemd.
                    let _ = start::signal(&path, Signal::TERM);
                }
                Event::JobEnded
            });
            return Ok(());
        }
        start::signal(&path, Signal::TERM)?;
        tokio::spawn(async move {
            tokio::time::sleep(STOP + Duration::from_secs(5)).await;
            // It holds its lock until it is dead, so this hits nobody else.
            let _ = start::signal(&path, Signal::KILL);
            beside.tell(Event::JobEnded);
        });
        Ok(())
    }

    pub(in crate::host) fn keep_roots(&mut self, wanted: BTreeMap<Purpose, StorePath>) {
        self.rooting = true;
        let (directory, nix) = (self.roots_dir(), self.nix.clone());
        // It was looked at a moment ago.
        let had = self.roots(&mut Gaps::default());
        let doing = async move {
            let changed = change_roots(&directory, &nix, &had, &wanted).await;
            changed.map_err(|error| format!("{error:#}"))
        };
        self.beside.run(Doing::Roots, doing, |_| Event::Rooted);
    }

    pub(in crate::host) fn realise_host(&self) -> RealiseHost {
        let system = &self.config.system;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let (kind, file) = match &system.kind {
            SystemKind::Flake => (nix::realise::RecipeKind::Flake, String::new()),
            SystemKind::File(file) => (nix::realise::RecipeKind::File, text(file)),
        };
        RealiseHost {
            clone: self.config.state_dir.join("git"),
            exports: self.exports(),
            hostname: self.config.hostname.clone(),
            kind,
            file,
            flake_dir: text(&system.flake_dir),
            attribute: system.attribute.clone(),
            nix: self.nix.clone(),
            evaluator: self.evaluator.clone().ok(),
            cache: self.config.substitute_settings(),
            timeout: system.timeout,
            submodules: system.submodules,
            limits: self.config.git,
        }
    }

    /// Chooses the evaluator anew for each commit: users come and go, and so does a
    /// daemon. Sees to it that the one that is chosen gets at what it is lent.
    pub(in crate::host) fn choose_evaluator(&mut self) -> std::io::Result<()> {
        let before = self.unconfined();
        self.evaluator = self.config.evaluator();
        if self.evaluator.as_ref().err() != before.as_ref() {
            log::evaluator(&self.evaluator);
        }
        if let Ok(evaluator) = &self.evaluator {
            evaluator.make_directories()?;
            evaluator.open_way(&self.config.state_dir)?;
        }
        Ok(())
    }
}

/// Records the units before the *first* activation only: a job that is started again, or
/// a second attempt, must not take the candidate's failures for granted.
async fn take_baseline(dir: &JobDir, failed_when_good: &Path) -> anyhow::Result<()> {
    if dir.read::<Baseline>(JobFile::Baseline)?.is_some() {
        return Ok(());
    }
    let before = Systemd::connect().await?.units().await?;
    let failed_when_good =
        crate::files::read_json(failed_when_good).unwrap_or_default().unwrap_or_default();
    let baseline = Baseline { before, failed_when_good };
    dir.write(JobFile::Baseline, &baseline, Durability::Durable)?;
    Ok(())
}

async fn change_roots(
    directory: &Path,
    nix: &Nix,
    had: &BTreeMap<Purpose, StorePath>,
    wanted: &BTreeMap<Purpose, StorePath>,
) -> anyhow::Result<()> {
    crate::files::private_directory(directory)?;
    let mut store = Store::of(nix);
    // First what is to be kept, then what may go.
    for (purpose, system) in wanted {
        if had.get(purpose) != Some(system) {
            store.root(&directory.join(purpose.as_str()), system).await?;
        }
    }
    for purpose in had.keys().filter(|purpose| !wanted.contains_key(purpose)) {
        roots::release(&directory.join(purpose.as_str()))?;
    }
    Ok(())
}

//! One look at this host: links, store, jobs and roots.

use super::*;

impl Host {
    /// Looks at the host once. Never fails: what could not be looked at is named in the result.
    pub(in crate::host) fn observe(&mut self, memory: &Memory, now: Now) -> Seen {
        let mut gaps = Gaps::default();
        if let Some(unseen) = sight::descriptors() {
            gaps.add(unseen);
        }
        if self.boot_id.is_none() {
            self.boot_id = gaps.see(Part::Boot, self.machine.boot_id());
        }
        let running = gaps.see(Part::Running, self.machine.running()).flatten();
        let booted = gaps.see(Part::Booted, self.machine.booted()).flatten();
        let (profile, odd_profile) =
            gaps.see(Part::Profile, self.machine.profile()).unwrap_or_default();
        let default = profile.as_ref().map(|generation| &generation.system);
        let known = || memory.settled.iter().map(|settled| &settled.system).chain(&memory.put);
        let matter = || systems_of(memory).chain(known()).chain(default);
        let (booted, _) = self.machine.whole(&self.store, booted, matter());
        let (running, specialisation) = self.machine.whole(&self.store, running, matter());
        let compared = self.reboot.why(&self.store, booted.as_ref(), default, now.mono);
        let reboot_why = compared.unwrap_or_else(|unseen| {
            gaps.add(unseen);
            None
        });
        let gave_up = self.reboots.gave_up(profile.as_ref(), booted.as_ref());
        let gave_up = gaps.see(Part::BootLoader, gave_up).unwrap_or_default();
        // Nobody else asks for it.
        let machine_id = self
            .config
            .machine_id
            .as_ref()
            .and_then(|_| gaps.see(Part::MachineId, self.machine.id()).flatten());
        let jobs = self.look_at_jobs(now.mono, &mut gaps);
        let damaged = |job: &Job| match &job.work {
            Work::Realise { outcome: Some(outcome), .. } => match outcome.result {
                Realised::Damaged { .. } => true,
                Realised::Built { .. }
                | Realised::NoSuchHost { .. }
                | Realised::Failed { .. }
                | Realised::Refused { .. }
                | Realised::Cancelled => false,
            },
            Work::Realise { outcome: None, .. } | Work::Switch { .. } => false,
            Work::Publish { .. } | Work::Unreadable => false,
        };
        if jobs.iter().any(damaged) {
            self.remotes.distrust_clone();
        }
        Seen {
            boot_id: self.boot_id(),
            machine_id,
            present: self.present(memory, &jobs, running.as_ref(), &mut gaps),
            revision: self.revision.of(&self.store, running.as_ref()),
            running,
            specialisation,
            booted,
            profile,
            odd_profile,
            reboot_why,
            roots: self.roots(&mut gaps),
            rooting: self.rooting,
            unwritten: self.remotes.unwritten(),
            remotes: self.remotes.seen(),
            relations: self.remotes.relations(),
            comparing: self.remotes.comparing(),
            jobs,
            checks: self.checks.clone(),
            checking: self.checking,
            preflight: self.before.preflight.clone(),
            preflighting: self.before.preflighting,
            look: self.before.look.clone(),
            looking: self.before.looking,
            gave_up,
            disarmed: self.reboots.disarmed.clone(),
            disarming: self.reboots.disarming,
            against: self.reboots.against.clone(),
            rebooting: self.reboots.rebooting,
            deploy_window: self.timetable.deploy(now.wall),
            reboot_window: self.timetable.reboot(now.wall),
            luck: luck(),
            unseen: gaps.into_unseen(),
        }
    }

    /// Repeats the last look after a step that only started work beside the loop: nothing
    /// on this host has changed by it.
    pub(in crate::host) fn observe_beside(&mut self, last: Seen) -> Seen {
        Seen {
            rooting: self.rooting,
            unwritten: self.remotes.unwritten(),
            remotes: self.remotes.seen(),
            relations: self.remotes.relations(),
            comparing: self.remotes.comparing(),
            checking: self.checking,
            preflighting: self.before.preflighting,
            looking: self.before.looking,
            disarming: self.reboots.disarming,
            rebooting: self.reboots.rebooting,
            luck: luck(),
            ..last
        }
    }

    pub(in crate::host) fn verdict_beside(&self, id: &JobId) -> Option<Verdict> {
        handover::verdict(&self.machine.handover(), &id.deployment).unwrap_or_default()
    }

    pub(in crate::host) fn look_at_jobs(&mut self, now: Mono, gaps: &mut Gaps) -> Vec<Job> {
        let before = self.unwatched.take();
        self.unwatched = self.watch.open().err();
        let own = gaps.see(Part::Jobs, dir::list(&self.config.state_dir));
        // One that an agent with another state directory began is ours now.
        let others = handover::of_others(&self.machine.handover(), &self.config.state_dir);
        let others = gaps.see(Part::Handover, others);
        let mut jobs = Vec::new();
        for dir in own.into_iter().chain(others).flatten() {
            if let Some(id) = dir.id().filter(|id| !self.passed_by.contains(id)) {
                let looked = self.look_at_job(id, &dir, now);
                jobs.extend(gaps.see(Part::Jobs, looked));
            }
        }
        match self.notes().filter(|_| self.unwatched != before) {
            Some(note) => tracing::warn!("{note}"),
            None if self.unwatched != before => tracing::info!("jobs are noticed at once again"),
            None => {}
        }
        jobs
    }

    /// Has a job's changes noticed at once, if that can be had.
    pub(in crate::host) fn watch(&mut self, id: &JobId, dir: &JobDir) {
        let known = self.jobs.entry(id.clone()).or_default();
        if !known.watched {
            match self.watch.add(dir.path()) {
                Ok(()) => known.watched = true,
                Err(lack) => self.unwatched = Some(lack),
            }
        }
    }

    pub(in crate::host) fn look_at_job(
        &mut self,
        id: JobId,
        dir: &JobDir,
        now: Mono,
    ) -> Result<Job, Unreadable> {
        let boot = self.boot_id();
        // One that an earlier agent started is watched from now on.
        self.watch(&id, dir);
        let known = self.jobs.entry(id.clone()).or_default();
        if known.order.is_none() {
            known.order = read_spec(&id, dir)?;
            let own = dir.path().parent() == Some(&dir::all(&self.config.state_dir));
            known.elsewhere = (!own).then(|| dir.clone());
        }
        let (resumed, stopping) = (known.resumed, known.stopping);
        let unstarted = known.unstarted.clone();
        let Some(spec) = known.order.clone() else {
            // One that only publishes is stopped before it is removed.
            let lives = id.kind == JobKind::Publish && dir.is_held();
            let life = if lives { Life::Running } else { Life::Ended };
            let (unstarted, remains, work) = (None, dir.remains(), Work::Unreadable);
            return Ok(Job { id, life, stopping, resumed, unstarted, remains, work });
        };
        let order = match &spec {
            Spec::Realise(order) => order,
            Spec::Switch(switch) => &switch.order,
            Spec::Publish(publish) => &publish.order,
        };
        // Life first, files second: a job that has ended writes no more.
        let mut life = dir.life(order, &boot, resumed, now);
        if life == Life::Starting && unstarted.is_some() {
            // Nobody starts it: there is nothing to wait for.
            life = Life::Ended;
        }
        let work = match spec {
            Spec::Realise(order) => Work::Realise {
                order,
                progress: dir.look(JobFile::Progress)?,
                outcome: dir.look(JobFile::Outcome)?,
            },
            Spec::Switch(order) => Work::Switch {
                order: *order,
                progress: dir.look(JobFile::Progress)?,
                verdict: dir.look(JobFile::Verdict)?.or_else(|| self.verdict_beside(&id)),
                outcome: dir.look(JobFile::Outcome)?,
            },
            // Nothing of a deployment rests on these.
            Spec::Publish(order) => Work::Publish {
                order: *order,
                progress: dir.read(JobFile::Progress).unwrap_or_default(),
                outcome: dir.read(JobFile::Outcome).unwrap_or_default(),
            },
        };
        Ok(Job { id, life, stopping, resumed, unstarted, remains: dir.remains(), work })
    }

    /// Returns which of the systems that matter are in the store.
    pub(in crate::host) fn present(
        &self,
        memory: &Memory,
        jobs: &[Job],
        running: Option<&StorePath>,
        gaps: &mut Gaps,
    ) -> BTreeSet<StorePath> {
        let built = jobs.iter().filter_map(Job::built);
        let target = memory.target.as_ref().map(|target| target.commit);
        let known = memory.systems.iter().filter(|known| Some(known.commit) == target);
        let named: BTreeSet<&StorePath> = known
            .map(|known| &known.system)
            .chain(built)
            .chain(systems_of(memory))
            .chain(running)
            .collect();
        let mut is_there = |system: &StorePath| gaps.see(Part::Store, self.in_store(system));
        named.into_iter().filter(|system| is_there(system) == Some(true)).cloned().collect()
    }

    /// Looks whether a system is in the store. Fails where that cannot be told: one that
    /// counts as gone is built anew, and kept no longer.
    pub(in crate::host) fn in_store(&self, system: &StorePath) -> Result<bool, Unreadable> {
        let program = self.store.physical(system).join("bin/switch-to-configuration");
        match std::fs::metadata(&program) {
            Ok(_) => Ok(true),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(false),
                Some(_) | None => Err(sight::at(program)(error)),
            },
        }
    }

    pub(in crate::host) fn roots(&self, gaps: &mut Gaps) -> BTreeMap<Purpose, StorePath> {
        let directory = self.roots_dir();
        let kept = |purpose: Purpose| {
            let root = roots::look(&directory.join(purpose.as_str()));
            Some((purpose, gaps.see(Part::Roots, root)??))
        };
        Purpose::ALL.into_iter().filter_map(kept).collect()
    }
}

/// Reads the order of a job; `None` if there is none, or none that can be understood.
fn read_spec(id: &JobId, dir: &JobDir) -> Result<Option<Spec>, Unreadable> {
    const FILE: JobFile = JobFile::Spec;
    Ok(match id.kind {
        JobKind::Realise => dir.look(FILE)?.map(|spec: RealiseSpec| Spec::Realise(spec.order)),
        JobKind::Switch => {
            dir.look(FILE)?.map(|spec: SwitchSpec| Spec::Switch(Box::new(spec.order)))
        }
        JobKind::Publish => {
            let spec: Option<PublishSpec> = dir.read(FILE).unwrap_or_default();
            spec.map(|spec| Spec::Publish(Box::new(spec.order)))
        }
    })
}

/// Returns the systems that the memory needs, whatever the target is.
fn systems_of(memory: &Memory) -> impl Iterator<Item = &StorePath> {
    let deployed = memory.deployment.iter().filter_map(|d| d.system.as_ref());
    deployed
        .chain(memory.awaiting.iter().map(|awaiting| &awaiting.system))
        .chain(memory.last_good.iter().map(|good| &good.system))
        .chain(memory.good_before.iter().map(|good| &good.system))
}

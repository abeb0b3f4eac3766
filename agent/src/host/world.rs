//! This host as the loop sees it: one look, and one step at a time. Both
//! return at once; what can wait runs beside the loop and is seen later.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use super::Event;
use super::before::{self, Before, Found};
use super::beside::{Beside, Work as Doing};
use super::reboots::Reboots;
use super::remotes::{Remotes, git_remote};
use super::revision::Revision;
use super::timetable::Timetable;
use crate::chance::luck;
use crate::clock;
use crate::config::{Config, FailedUnits, Kind, Runner};
use crate::core::decide::Step;
use crate::core::job::{JobId, Kind as JobKind, Order, PublishOrder, Realised, SwitchOrder};
use crate::core::memory::Memory;
use crate::core::policy::OnKernelChange;
use crate::core::seen::{Job, Life, Purpose, Round, Seen, Work};
use crate::core::types::{BootId, Mono, Now, StorePath};
use crate::files::Durability;
use crate::health::{self, Health, Lookout, UnitsHealth};
use crate::jobs::dir::{self, JobDir};
use crate::jobs::handover;
use crate::jobs::spec::{PublishSpec, RealiseHost, RealiseSpec, SwitchHost, SwitchSpec};
use crate::jobs::start;
use crate::jobs::way_back::BASELINE;
use crate::journal;
use crate::machine::{Machine, RebootCheck};
use crate::nix::{self, Nix, StoreRoot, roots};
use crate::store::Store;
use crate::substitute;
use crate::systemd::Systemd;
use crate::systemd::baseline::Baseline;
use crate::watch::Watch;

/// Limit of one check.
const CHECK: Duration = Duration::from_secs(10);
/// A job that was told to stop is killed after this.
const STOP: Duration = Duration::from_secs(10);

/// This host.
pub(super) struct Host {
    pub(super) remotes: Remotes,
    pub(super) config: Config,
    agent: PathBuf,
    machine: Machine,
    pub(super) nix: Nix,
    store: StoreRoot,
    boot_id: BootId,
    reboot: RebootCheck,
    revision: Revision,
    watch: Watch,
    pub(super) jobs: HashMap<JobId, Known>,
    /// Publish jobs that cannot even be removed.
    pub(super) passed_by: HashSet<JobId>,
    rooting: bool,
    checking: bool,
    checks: Option<Round>,
    before: Before,
    timetable: Timetable,
    pub(super) reboots: Reboots,
    pub(super) beside: Beside,
    /// The remotes, as they are looked for.
    lookouts: Vec<Lookout>,
}

/// What this agent did with a job, and what never changes of it.
#[derive(Default)]
pub(super) struct Known {
    resumed: Option<Mono>,
    stopping: bool,
    order: Option<Spec>,
    /// Its directory, if that is in another state directory.
    elsewhere: Option<JobDir>,
}

#[derive(Clone)]
enum Spec {
    Realise(Order),
    Switch(Box<SwitchOrder>),
    Publish(Box<PublishOrder>),
}

impl Host {
    pub(super) fn new(
        config: &Config,
        agent: PathBuf,
        nix: Nix,
        watch: Watch,
        beside: Beside,
    ) -> std::io::Result<Self> {
        Ok(Self {
            remotes: Remotes::new(config, agent.clone(), beside.clone()),
            lookouts: config.remotes.iter().map(git_remote).map(Lookout::new).collect(),
            boot_id: clock::boot_id(&config.root)?,
            machine: Machine { root: config.root.clone() },
            store: nix.store_root(),
            config: config.clone(),
            agent,
            nix,
            reboot: RebootCheck::default(),
            revision: Revision::default(),
            watch,
            jobs: HashMap::new(),
            passed_by: HashSet::new(),
            rooting: false,
            checking: false,
            checks: None,
            before: Before::default(),
            timetable: Timetable::new(config),
            reboots: Reboots::new(config),
            beside,
        })
    }

    /// Waits until a job's files change.
    pub(super) async fn jobs_changed(&mut self) {
        if self.watch.changed().await.is_err() {
            // Without it the loop's own tick has to do.
            std::future::pending::<()>().await;
        }
    }

    /// One look.
    pub(super) fn observe(&mut self, memory: &Memory, now: Now) -> std::io::Result<Seen> {
        let (running, booted) = (self.machine.running(), self.machine.booted());
        let profile = self.machine.profile()?;
        let default = profile.as_ref().map(|generation| &generation.system);
        let reboot_why = self.reboot.why(&self.store, booted.as_ref(), default);
        let gave_up = self.reboots.gave_up(profile.as_ref(), booted.as_ref());
        let jobs = self.look_at_jobs(now.mono)?;
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
        Ok(Seen {
            boot_id: self.boot_id.clone(),
            machine_id: self.machine.id(),
            present: self.present(memory, &jobs, running.as_ref()),
            revision: self.revision.of(&self.store, running.as_ref()),
            running,
            booted,
            profile,
            reboot_why,
            roots: self.roots(),
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
        })
    }

    /// The last look again, after a step that only started something beside
    /// the loop: nothing on this host has changed by it.
    pub(super) fn observe_beside(&mut self, last: Seen) -> Seen {
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

    /// A person says that it may be otherwise now.
    pub(super) fn forget_preflight(&mut self) {
        self.before.preflight = None;
    }

    /// One step.
    pub(super) fn perform(&mut self, step: &Step, memory: &Memory) -> anyhow::Result<()> {
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
                let id = step.starts();
                let spec = RealiseSpec { order: order.clone(), host: self.realise_host() };
                if let Some(id) = id {
                    let dir = JobDir::create(&self.config.state_dir, &id, &spec)?;
                    self.start(&id, &dir)?;
                }
            }
            Step::StartSwitch(order) => {
                let id = step.starts();
                let host = SwitchHost { machine: self.machine.clone(), nix: self.nix.clone() };
                let spec = SwitchSpec { order: order.clone(), host };
                if let Some(id) = id {
                    let dir = JobDir::create(&self.config.state_dir, &id, &spec)?;
                    // Whatever the agent that it brings does to the journal.
                    dir.write(journal::COPY, memory, Durability::Durable)?;
                    self.start(&id, &dir)?;
                }
            }
            Step::ResumeSwitch(id) => {
                self.jobs.entry(id.clone()).or_default().resumed = Some(clock::mono());
                self.start(id, &self.directory(id))?;
            }
            Step::StartPublish(order) => {
                if let Some(id) = step.starts() {
                    self.start_publish(&id, order);
                }
            }
            Step::StopJob(id) if id.kind == JobKind::Publish => self.stop_publish(id),
            Step::StopJob(id) => self.stop(id)?,
            Step::RemoveJob(id) if id.kind == JobKind::Publish => self.remove_publish(id),
            Step::RemoveJob(id) => {
                let dir = self.directory(id);
                if dir.path().parent() == Some(&dir::all(&self.config.state_dir)) {
                    dir.remove()?;
                }
                handover::remove(&self.machine.handover(), &id.deployment)?;
                self.jobs.remove(id);
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
                self.directory(job).write("verdict.json", verdict, Durability::Durable)?;
                if verdict.good {
                    self.note_failed_when_good();
                }
            }
        }
        Ok(())
    }

    /// Takes in that roots were changed.
    pub(super) fn rooted(&mut self) {
        self.rooting = false;
    }

    /// Takes in what was found before an activation, or after a put-back.
    pub(super) fn looked(&mut self, found: Found) {
        self.before.learn(found);
    }

    fn look_before(
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
            running: self.machine.running(),
            booted: self
                .machine
                .booted()
                .filter(|_| self.config.activation.on_kernel_change == OnKernelChange::Boot),
            system,
            default,
            needs_agent,
            writes_boot,
        };
        let looks = asked.clone();
        let doing = async move { looks.refusal().await };
        self.beside.run(Doing::Preflight, doing, |refusal| {
            Event::Looked(Found::Preflight(asked.found(refusal)))
        });
    }

    fn look_for_a_remote(&mut self) {
        self.before.looking = true;
        let (remotes, branch, began) = (self.lookouts.clone(), self.release_ref(), clock::mono());
        let doing = async move { Ok(before::look(&remotes, &branch, CHECK).await) };
        self.beside.run(Doing::Look, doing, move |found| {
            let look = found.unwrap_or_else(|error| before::no_look(began, error));
            Event::Looked(Found::Look(look))
        });
    }

    fn release_ref(&self) -> String {
        format!("refs/heads/{}", self.config.branch.release)
    }

    /// Takes in what a round of checks found.
    pub(super) fn checked(&mut self, round: Round) {
        self.checking = false;
        self.checks = Some(round);
    }

    pub(super) fn directory(&self, id: &JobId) -> JobDir {
        if let Some(elsewhere) = self.jobs.get(id).and_then(|known| known.elsewhere.clone()) {
            return elsewhere;
        }
        JobDir::at(dir::all(&self.config.state_dir).join(id.to_string()))
    }

    pub(super) fn start(&self, id: &JobId, dir: &JobDir) -> std::io::Result<()> {
        self.watch.add(dir.path())?;
        let beside = self.beside.clone();
        match self.config.activation.runner {
            Runner::Direct => start::detached(&self.agent, id.kind, dir.path(), move || {
                beside.tell(Event::JobEnded);
            }),
            Runner::Systemd => {
                let (agent, id, dir) = (self.agent.clone(), id.clone(), dir.clone());
                let limits = self.config.system.limits;
                let baseline = match id.kind {
                    JobKind::Switch => Some(self.failed_when_good_file()),
                    JobKind::Realise | JobKind::Publish => None,
                };
                let doing = async move {
                    let started = async {
                        if let Some(failed_when_good) = baseline {
                            take_baseline(&dir, &failed_when_good).await?;
                        }
                        start::unit(&agent, &id, dir.path(), &limits).await?;
                        anyhow::Ok(())
                    };
                    started.await.map_err(|error| format!("{id}: {error:#}"))
                };
                // A job that does not begin is seen as one that was killed.
                beside.run(Doing::Start, doing, |_| Event::JobEnded);
                Ok(())
            }
        }
    }

    fn failed_when_good_file(&self) -> PathBuf {
        self.config.state_dir.join("failed-when-good.json")
    }

    pub(super) fn stop(&mut self, id: &JobId) -> std::io::Result<()> {
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

    fn look_at_jobs(&mut self, now: Mono) -> std::io::Result<Vec<Job>> {
        let mut jobs = Vec::new();
        let own = dir::list(&self.config.state_dir)?;
        // One that an agent with another state directory began is ours now.
        let others = handover::of_others(&self.machine.handover(), &self.config.state_dir);
        for dir in own.into_iter().chain(others) {
            if let Some(id) = dir.id().filter(|id| !self.passed_by.contains(id)) {
                jobs.push(self.look_at_job(id, &dir, now));
            }
        }
        Ok(jobs)
    }

    fn look_at_job(&mut self, id: JobId, dir: &JobDir, now: Mono) -> Job {
        let boot = self.boot_id.clone();
        let known = self.jobs.entry(id.clone()).or_default();
        if known.order.is_none() {
            known.order = read_spec(&id, dir);
            let own = dir.path().parent() == Some(&dir::all(&self.config.state_dir));
            known.elsewhere = (!own).then(|| dir.clone());
            // One that an earlier agent started is watched from now on.
            let _ = self.watch.add(dir.path());
        }
        let (resumed, stopping) = (known.resumed, known.stopping);
        let Some(spec) = known.order.clone() else {
            // One that only publishes is stopped before it is removed.
            let lives = id.kind == JobKind::Publish && dir.is_held();
            let life = if lives { Life::Running } else { Life::Ended };
            return Job { id, life, stopping, resumed, work: Work::Unreadable };
        };
        let order = match &spec {
            Spec::Realise(order) => order,
            Spec::Switch(switch) => &switch.order,
            Spec::Publish(publish) => &publish.order,
        };
        // Life first, files second: a job that has ended writes no more.
        let life = dir.life(order, &boot, resumed, now);
        let work = match spec {
            Spec::Realise(order) => Work::Realise {
                order,
                progress: dir.read("progress.json").unwrap_or_default(),
                outcome: dir.read("outcome.json").unwrap_or_default(),
            },
            Spec::Switch(order) => Work::Switch {
                order: *order,
                progress: dir.read("progress.json").unwrap_or_default(),
                verdict: dir.read("verdict.json").unwrap_or_default(),
                outcome: dir.read("outcome.json").unwrap_or_default(),
            },
            Spec::Publish(order) => Work::Publish {
                order: *order,
                progress: dir.read("progress.json").unwrap_or_default(),
                outcome: dir.read("outcome.json").unwrap_or_default(),
            },
        };
        Job { id, life, stopping, resumed, work }
    }

    /// Of the systems that matter, those that are in the store.
    fn present(
        &self,
        memory: &Memory,
        jobs: &[Job],
        running: Option<&StorePath>,
    ) -> BTreeSet<StorePath> {
        let built = jobs.iter().filter_map(Job::built);
        let target = memory.target.as_ref().map(|target| target.commit);
        let known = memory.systems.iter().filter(|known| Some(known.commit) == target);
        known
            .map(|known| &known.system)
            .chain(built)
            .chain(memory.deployment.iter().filter_map(|d| d.system.as_ref()))
            .chain(memory.awaiting.iter().map(|awaiting| &awaiting.system))
            .chain(memory.last_good.iter().map(|good| &good.system))
            .chain(memory.good_before.iter().map(|good| &good.system))
            .chain(running)
            .filter(|system| self.in_store(system))
            .cloned()
            .collect()
    }

    fn in_store(&self, system: &StorePath) -> bool {
        self.store.physical(system).join("bin/switch-to-configuration").exists()
    }

    fn roots_dir(&self) -> PathBuf {
        self.config.state_dir.join("roots")
    }

    fn roots(&self) -> BTreeMap<Purpose, StorePath> {
        let directory = self.roots_dir();
        let kept = |purpose: Purpose| {
            let system = roots::kept(&directory.join(purpose.as_str())).ok()??;
            Some((purpose, system))
        };
        Purpose::ALL.into_iter().filter_map(kept).collect()
    }

    fn keep_roots(&mut self, wanted: BTreeMap<Purpose, StorePath>) {
        self.rooting = true;
        let (directory, nix) = (self.roots_dir(), self.nix.clone());
        let had = self.roots();
        let doing = async move {
            let changed = change_roots(&directory, &nix, &had, &wanted).await;
            changed.map_err(|error| format!("{error:#}"))
        };
        self.beside.run(Doing::Roots, doing, |_| Event::Rooted);
    }

    fn run_checks(&mut self, id: &JobId) {
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
            let checks = checks.unwrap_or_else(|error| vec![health::cut_off(error)]);
            Event::Checked(Round { job, began, ended: clock::mono(), checks })
        });
    }

    fn units_health(&self, id: &JobId) -> Option<UnitsHealth> {
        let wanted = match (self.config.activation.runner, self.config.health.failed_units) {
            (Runner::Systemd, FailedUnits::New) => true,
            (Runner::Direct, _) | (Runner::Systemd, FailedUnits::None) => false,
        };
        // Without a baseline every failed unit would count: rather none.
        let baseline = self.directory(id).read(BASELINE).ok().flatten().filter(|_| wanted)?;
        Some(UnitsHealth { baseline, store: self.store.clone() })
    }

    /// What has failed while the system is found good is not the next one's
    /// fault.
    fn note_failed_when_good(&self) {
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

    fn realise_host(&self) -> RealiseHost {
        let system = &self.config.system;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let (kind, file) = match &system.kind {
            Kind::Flake => (nix::realise::Kind::Flake, String::new()),
            Kind::File(file) => (nix::realise::Kind::File, text(file)),
        };
        RealiseHost {
            clone: self.config.state_dir.join("git"),
            exports: self.config.state_dir.join("exports"),
            hostname: self.config.hostname.clone(),
            kind,
            file,
            flake_dir: text(&system.flake_dir),
            attribute: system.attribute.clone(),
            nix: self.nix.clone(),
            cache: substitute::Settings::of(&self.config),
            timeout: system.timeout,
        }
    }
}

/// Before the *first* activation only: a job that is started again, or a
/// second attempt, must not take the candidate's failures for granted.
async fn take_baseline(dir: &JobDir, failed_when_good: &Path) -> anyhow::Result<()> {
    if dir.read::<Baseline>(BASELINE)?.is_some() {
        return Ok(());
    }
    let before = Systemd::connect().await?.units().await?;
    let failed_when_good =
        crate::files::read_json(failed_when_good).unwrap_or_default().unwrap_or_default();
    let baseline = Baseline { before, failed_when_good };
    dir.write(BASELINE, &baseline, Durability::Durable)?;
    Ok(())
}

fn read_spec(id: &JobId, dir: &JobDir) -> Option<Spec> {
    match id.kind {
        JobKind::Realise => {
            let spec: RealiseSpec = dir.read("spec.json").ok()??;
            Some(Spec::Realise(spec.order))
        }
        JobKind::Switch => {
            let spec: SwitchSpec = dir.read("spec.json").ok()??;
            Some(Spec::Switch(Box::new(spec.order)))
        }
        JobKind::Publish => {
            let spec: PublishSpec = dir.read("spec.json").ok()??;
            Some(Spec::Publish(Box::new(spec.order)))
        }
    }
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

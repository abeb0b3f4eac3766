//! The host as the loop sees it: one look, and one step at a time. Both return at once;
//! what can wait runs beside the loop and is seen later.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::Signal;

use super::Event;
use super::before::{self, Before, Found};
use super::log;
use super::reboots::Reboots;
use super::remotes::{Remotes, git_remote};
use super::revision::Revision;
use super::tasks::{Beside, Work as Doing};
use super::timetable::Timetable;
use crate::clock;
use crate::config::{Config, FailedUnits, Kind, Runner};
use crate::core::decide::Step;
use crate::core::job::{
    JobId, Kind as JobKind, Order, PublishOrder, Realised, SwitchOrder, Verdict,
};
use crate::core::memory::Memory;
use crate::core::observed::{Job, Life, Purpose, Round, Seen, Work};
use crate::core::policy::OnKernelChange;
use crate::core::status::Unconfined;
use crate::core::types::{BootId, Mono, Now, StorePath};
use crate::core::unseen::Part;
use crate::files::Durability;
use crate::git;
use crate::health::{self, Findings, Health, Lookout, UnitsHealth};
use crate::jitter::luck;
use crate::jobs::dir::{self, JobDir, JobFile};
use crate::jobs::handover;
use crate::jobs::spec::{PublishSpec, RealiseHost, RealiseSpec, SwitchHost, SwitchSpec};
use crate::jobs::start;
use crate::machine::{Machine, RebootCheck};
use crate::nix::evaluator::Evaluator;
use crate::nix::{self, Nix, StoreRoot, roots};
use crate::sight::{self, Gaps, Unreadable};
use crate::store::Store;
use crate::systemd::Systemd;
use crate::systemd::baseline::Baseline;
use crate::watch::{Lack, Watch};

/// Limit of one check.
const CHECK: Duration = Duration::from_secs(10);
/// Time after which a job that was told to stop is killed.
const STOP: Duration = Duration::from_secs(10);

/// Host that the agent runs on: its configuration, and what is known of its state.
pub(super) struct Host {
    pub(super) remotes: Remotes,
    pub(super) config: Config,
    agent: PathBuf,
    machine: Machine,
    pub(super) nix: Nix,
    /// User that evaluates commits, or the reason why they are evaluated with all rights.
    evaluator: Result<Evaluator, Unconfined>,
    store: StoreRoot,
    /// Id of this boot, looked up once; `None` while it is not known.
    boot_id: Option<BootId>,
    reboot: RebootCheck,
    revision: Revision,
    watch: Watch,
    /// Why jobs are not watched, if one is not.
    unwatched: Option<Lack>,
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

/// Bookkeeping on a job: what this agent did with it, and the parts of it that never change.
#[derive(Default)]
pub(super) struct Known {
    resumed: Option<Mono>,
    stopping: bool,
    /// Error of the last attempt to start the job.
    unstarted: Option<String>,
    /// Whether the job's files are watched.
    watched: bool,
    order: Option<Spec>,
    /// Directory of the job, if that is in another state directory.
    elsewhere: Option<JobDir>,
}

#[derive(Clone)]
enum Spec {
    Realise(Order),
    Switch(Box<SwitchOrder>),
    Publish(Box<PublishOrder>),
}

/// Failure of a step to write or remove a file: the state directory is not as it has to be.
#[derive(Debug, thiserror::Error)]
#[error("{}", path.display())]
pub(super) struct Unwritten {
    path: PathBuf,
    source: std::io::Error,
}

fn unwritten(path: &Path) -> impl FnOnce(std::io::Error) -> Unwritten {
    move |source| Unwritten { path: path.to_owned(), source }
}

impl Host {
    pub(super) fn new(config: &Config, agent: PathBuf, nix: Nix, beside: Beside) -> Self {
        let evaluator = config.evaluator();
        log::evaluator(&evaluator);
        Self {
            remotes: Remotes::new(config, agent.clone(), beside.clone()),
            lookouts: config.remotes.iter().map(git_remote).map(Lookout::new).collect(),
            boot_id: None,
            machine: Machine { root: config.root.clone() },
            evaluator,
            store: nix.store_root(),
            config: config.clone(),
            agent,
            nix,
            reboot: RebootCheck::default(),
            revision: Revision::default(),
            watch: Watch::default(),
            unwatched: None,
            jobs: HashMap::new(),
            passed_by: HashSet::new(),
            rooting: false,
            checking: false,
            checks: None,
            before: Before::default(),
            timetable: Timetable::new(config),
            reboots: Reboots::new(config),
            beside,
        }
    }

    /// Waits until a job's files change.
    pub(super) async fn jobs_changed(&mut self) {
        if self.watch.changed().await.is_err() {
            // Without it the loop's own tick has to do.
            std::future::pending::<()>().await;
        }
    }

    /// Returns a note, in words, on what the loop has to do without.
    pub(super) fn notes(&self) -> Option<String> {
        let lack = self.unwatched.as_ref()?;
        Some(format!("jobs are looked at every second, not as soon as they get on: {lack}"))
    }

    /// Whether a job gets on without being noticed.
    pub(super) fn is_unwatched(&self) -> bool {
        self.unwatched.is_some()
    }

    /// Looks at the host once. Never fails: what could not be looked at is named in the result.
    pub(super) fn observe(&mut self, memory: &Memory, now: Now) -> Seen {
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

    /// Returns the id of this boot; while that is not known, nothing is done that it matters for.
    fn boot_id(&self) -> BootId {
        self.boot_id.clone().unwrap_or_else(|| BootId("unknown".into()))
    }

    /// Repeats the last look after a step that only started work beside the loop: nothing
    /// on this host has changed by it.
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

    /// Forgets the last preflight: a person says that its result may be otherwise now.
    pub(super) fn forget_preflight(&mut self) {
        self.before.preflight = None;
    }

    /// Performs one step; fails if it could not be done or begun.
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

    /// Takes in whether systemd has started a job, and why not.
    pub(super) fn started(&mut self, id: &JobId, error: Option<String>) {
        if let Some(known) = self.jobs.get_mut(id) {
            let named = format!("{id}: ");
            known.unstarted =
                error.map(|error| error.strip_prefix(&named).unwrap_or(&error).to_owned());
        }
    }

    /// Takes in that roots were changed.
    pub(super) fn rooted(&mut self) {
        self.rooting = false;
    }

    /// Takes in what was found before an activation, or after a rollback.
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

    pub(super) fn start(&mut self, id: &JobId, dir: &JobDir) -> std::io::Result<()> {
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
    fn write_verdict(&self, id: &JobId, verdict: &Verdict) -> std::io::Result<()> {
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

    fn verdict_beside(&self, id: &JobId) -> Option<Verdict> {
        handover::verdict(&self.machine.handover(), &id.deployment).unwrap_or_default()
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

    fn look_at_jobs(&mut self, now: Mono, gaps: &mut Gaps) -> Vec<Job> {
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
    fn watch(&mut self, id: &JobId, dir: &JobDir) {
        let known = self.jobs.entry(id.clone()).or_default();
        if !known.watched {
            match self.watch.add(dir.path()) {
                Ok(()) => known.watched = true,
                Err(lack) => self.unwatched = Some(lack),
            }
        }
    }

    fn look_at_job(&mut self, id: JobId, dir: &JobDir, now: Mono) -> Result<Job, Unreadable> {
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
    fn present(
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
    fn in_store(&self, system: &StorePath) -> Result<bool, Unreadable> {
        let program = self.store.physical(system).join("bin/switch-to-configuration");
        match std::fs::metadata(&program) {
            Ok(_) => Ok(true),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(false),
                Some(_) | None => Err(sight::at(program)(error)),
            },
        }
    }

    fn exports(&self) -> PathBuf {
        self.config.state_dir.join("exports")
    }

    fn roots_dir(&self) -> PathBuf {
        self.config.state_dir.join("roots")
    }

    fn roots(&self, gaps: &mut Gaps) -> BTreeMap<Purpose, StorePath> {
        let directory = self.roots_dir();
        let kept = |purpose: Purpose| {
            let root = roots::look(&directory.join(purpose.as_str()));
            Some((purpose, gaps.see(Part::Roots, root)??))
        };
        Purpose::ALL.into_iter().filter_map(kept).collect()
    }

    fn keep_roots(&mut self, wanted: BTreeMap<Purpose, StorePath>) {
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
            let Findings { checks, hopeless } = checks.unwrap_or_else(health::cut_off);
            Event::Checked(Round { job, began, ended: clock::mono(), checks, hopeless })
        });
    }

    fn units_health(&self, id: &JobId) -> Option<UnitsHealth> {
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

    /// Why commits are evaluated with all the rights of the agent, if they are.
    pub(super) fn unconfined(&self) -> Option<Unconfined> {
        self.evaluator.as_ref().err().cloned()
    }

    /// Chooses the evaluator anew for each commit: users come and go, and so does a
    /// daemon. Sees to it that the one that is chosen gets at what it is lent.
    fn choose_evaluator(&mut self) -> std::io::Result<()> {
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

/// Returns the systems that the memory needs, whatever the target is.
fn systems_of(memory: &Memory) -> impl Iterator<Item = &StorePath> {
    let deployed = memory.deployment.iter().filter_map(|d| d.system.as_ref());
    deployed
        .chain(memory.awaiting.iter().map(|awaiting| &awaiting.system))
        .chain(memory.last_good.iter().map(|good| &good.system))
        .chain(memory.good_before.iter().map(|good| &good.system))
}

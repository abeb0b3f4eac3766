//! The host as the loop sees it: one look, and one step at a time. Both return at once;
//! what can wait runs beside the loop and is seen later.

mod checks;
mod look;
mod steps;

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
use crate::config::{Config, FailedUnits, Runner, SystemKind};
use crate::core::decide::Step;
use crate::core::job::{JobId, JobKind, Order, PublishOrder, Realised, SwitchOrder, Verdict};
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

    /// Returns the id of this boot; while that is not known, nothing is done that it matters for.
    fn boot_id(&self) -> BootId {
        self.boot_id.clone().unwrap_or_else(|| BootId("unknown".into()))
    }

    /// Forgets the last preflight: a person says that its result may be otherwise now.
    pub(super) fn forget_preflight(&mut self) {
        self.before.preflight = None;
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

    fn exports(&self) -> PathBuf {
        self.config.state_dir.join("exports")
    }

    fn roots_dir(&self) -> PathBuf {
        self.config.state_dir.join("roots")
    }

    /// Why commits are evaluated with all the rights of the agent, if they are.
    pub(super) fn unconfined(&self) -> Option<Unconfined> {
        self.evaluator.as_ref().err().cloned()
    }
}

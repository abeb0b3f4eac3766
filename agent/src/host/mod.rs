//! The loop on this host: look, decide, remember, do; then wait until
//! something happens or is due.
//!
//! What can take long (polls, fetches, checks, jobs) runs beside the loop and
//! comes back as an event; the loop itself never waits for any of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

mod before;
mod inhibitors;
mod interfaces;
mod log;
mod policy;
mod publishing;
mod reboots;
mod reload;
mod remotes;
mod revision;
mod shows;
mod tasks;
mod timetable;
mod turn;
mod watchdog;
mod world;

use self::reload::Configuration;
use self::tasks::Beside;
use self::watchdog::ServiceManager;
use self::world::{Host, Unwritten};
use crate::config::{Config, Runner};
use crate::control::{Command, Control, Shown, Told};
use crate::core::decide::{Decision, Outlook, Step, decide};
use crate::core::explain::{Moment, explain};
use crate::core::job::{JobId, Realised, RefusalCause};
use crate::core::memory::{Entry, Memory};
use crate::core::observed::{Against, Round, Seen, Work};
use crate::core::policy::Policy;
use crate::core::record::{fold, note};
use crate::core::request::{self, Prefix, Request};
use crate::core::status::{AgentView, Status, status};
use crate::core::types::{Mono, Now, StorePath};
use crate::crash;
use crate::files::{self, Durability};
use crate::journal::Journal;
use crate::machine::Machine;
use crate::metrics::Metrics;
use crate::nix::Nix;
use crate::own_directory::{self, NotOurs};
use crate::{VERSION, announce, bus, clock, web};

/// Outcome of a turn of the loop.
enum Turn {
    /// Moment before which nothing is to be done.
    Idle(Mono),
    /// A piece of work was started beside the loop, which changes nothing yet.
    Beside,
    /// A step was taken.
    Done,
}

/// Event that happened beside the loop.
enum Event {
    Polled(Box<remotes::Polled>),
    Compared(remotes::Compared),
    Checked(Round),
    Rooted,
    Looked(before::Found),
    Against(Option<Against>),
    /// The boot loader was told not to boot this system once; with when that was begun.
    Disarmed(StorePath, Mono),
    JobEnded,
    /// Whether systemd has started a job, and if not, why.
    Started(JobId, Option<String>),
    /// Change of the notes for the status: what works again, or does not any more.
    Noted,
}

/// Kind of event that ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Woken {
    /// Answers of remotes, and nothing else.
    ByRemotes,
    /// A change on this host is possible, or it is time to look.
    Otherwise,
}

impl Woken {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::ByRemotes, Self::ByRemotes) => Self::ByRemotes,
            (_, _) => Self::Otherwise,
        }
    }
}

impl Event {
    fn wakes(&self) -> Woken {
        match self {
            Self::Polled(_) | Self::Compared(_) => Woken::ByRemotes,
            Self::Checked(_)
            | Self::Rooted
            | Self::Looked(_)
            | Self::Against(_)
            | Self::Disarmed(..)
            | Self::JobEnded
            | Self::Started(..)
            | Self::Noted => Woken::Otherwise,
        }
    }
}

/// How long a look at this host holds while nothing is heard but remotes: a poll that
/// finds nothing new is to cost one look, not two.
const HOLDS: Duration = Duration::from_secs(1);
/// Largest number of steps in a row without a wait; with more, something is wrong.
const MOST_STEPS: u32 = 200;
/// Pause after that many steps, and after an error.
const PAUSE: Duration = Duration::from_secs(5);
/// Interval at which jobs that live are looked at, should a change be missed.
const TICK: Duration = Duration::from_secs(5);
/// Interval at which jobs are looked at whose changes are not noticed.
const UNWATCHED: Duration = Duration::from_secs(1);
/// Longest time between turns of the loop, each of which is reported (`/healthz`).
const TURN: Duration = Duration::from_secs(30);
/// Longest time that a job's last moment takes; after that the job hangs and is shown.
const CLEARING: Duration = Duration::from_secs(2);
/// Time without a turn after which the loop counts as stuck.
const STUCK: Duration = Duration::from_secs(120);
/// Largest number of commands that wait for the loop.
const COMMANDS: usize = 32;

/// Reason for the agent's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// SIGTERM or SIGINT told the agent to stop.
    Told,
    /// The configuration is another one now, and the agent is to be started anew.
    Reconfigured,
}

/// Runs the agent until it is told to stop, or the file that its configuration
/// was read from says something else. Jobs go on.
pub fn run(path: &Path, config: &Config) -> anyhow::Result<Ended> {
    // As its unit has it, whoever starts it: what it makes is for it alone.
    rustix::process::umask(rustix::fs::Mode::from(0o077));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        // For each remote a poll and three looks, should they all hang; and name
        // lookups and files besides.
        .max_blocking_threads(8 + 4 * config.remotes.len())
        .thread_keep_alive(Duration::from_secs(5))
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(serve(path, config));
    // A poll that hangs must not delay the end.
    runtime.shutdown_background();
    result
}

async fn serve(path: &Path, config: &Config) -> anyhow::Result<Ended> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    claim_directories(config)?;
    let mut journal = Journal::open(&config.state_dir)?;
    let memory = journal.load(clock::now().wall)?;
    let agent = std::env::current_exe().context("the agent's own program is not known")?;
    let (events, happened) = mpsc::unbounded_channel();
    let nix = find_nix(config)?;
    let noted = events.clone();
    let host = Host::new(config, agent, nix, Beside::new(events));
    let (shown, control, told) = front_door();
    let notes = announce::Notes::new(move || {
        let _ = noted.send(Event::Noted);
    });
    announce::begin(config, &memory.history, &control.shown, &notes)
        .context("cannot remember how far outsiders were told")?;
    let metrics = Arc::new(Metrics::new());
    metrics.recall(&memory.history);
    let turned = Arc::new(AtomicU64::new(clock::mono().as_millis()));
    let (stop, stopped) = oneshot::channel::<()>();
    let bus = bus::serve(control.clone(), &config.run_dir, async {
        let _ = stopped.await;
    })?;
    // Ends with the runtime.
    bus::serve_on_system_bus(control.clone(), std::future::pending());
    if let Some(listen) = config.metrics.listen {
        let (turned, metrics) = (turned.clone(), metrics.clone());
        let turns = Arc::new(move || {
            let last = Mono::from_millis(turned.load(Ordering::Relaxed));
            clock::mono().since(last) < STUCK
        });
        let kernel = rustix::system::uname();
        let own = [&*config.hostname, &*kernel.nodename().to_string_lossy()];
        let names = web::Names::new(own, &config.metrics.names);
        let pages =
            web::Pages { metrics, shown: control.shown, turns, notes: notes.clone(), names };
        // Ends with the runtime.
        web::serve(listen, pages, web::WebLimits::default(), std::future::pending());
    }
    let mut agent = Agent {
        policy: policy::policy(config),
        status_file: config.state_dir.join("status.json"),
        view: AgentView { version: VERSION.into(), started: clock::now().wall, unconfined: None },
        memory,
        journal,
        host,
        seen: None,
        looked: Mono::from_millis(0),
        decided: None,
        shown,
        metrics,
        turned,
        trouble: None,
        unwritten: None,
        configuration: Configuration::new(path, config),
        notes,
        said: log::Said::default(),
        clearing: None,
        happened,
        told,
    };
    tracing::info!(version = VERSION, hostname = %config.hostname, "fort-agent starts");
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let (why, ended) = tokio::select! {
        _ = terminate.recv() => ("SIGTERM", Ended::Told),
        _ = interrupt.recv() => ("SIGINT", Ended::Told),
        () = agent.turn_on() => ("another configuration", Ended::Reconfigured),
    };
    drop(stop);
    let _ = timeout(Duration::from_millis(500), bus).await;
    tracing::info!(why, "fort-agent stops; jobs go on");
    Ok(ended)
}

/// Claims the agent's own directories: their contents are believed, whoever made them.
fn claim_directories(config: &Config) -> Result<(), NotOurs> {
    let handover = Machine { root: config.root.clone() }.handover();
    // Made when there is something to hand over.
    let handover = handover.symlink_metadata().is_ok().then_some((&handover, "."));
    let own = [(&config.state_dir, "lock"), (&config.run_dir, "bus")];
    for (directory, ours) in own.into_iter().chain(handover) {
        own_directory::claim(directory, ours)?;
        match config.activation.runner {
            Runner::Systemd => own_directory::stays_in_place(directory)?,
            // A test's or a demo's host is below a directory of whoever runs it.
            Runner::Direct => {}
        }
    }
    Ok(())
}

fn find_nix(config: &Config) -> anyhow::Result<Nix> {
    let settings = config.nix_settings();
    files::private_directory(&settings.home)?;
    files::private_directory(&settings.cache)?;
    config.forget_unused_token();
    let path = std::env::var_os("PATH").unwrap_or_default();
    Ok(Nix::find(settings, &path)?)
}

fn front_door() -> (watch::Sender<Option<Arc<Shown>>>, Control, mpsc::Receiver<Told>) {
    let (shown, seen) = watch::channel(None);
    let (commands, told) = mpsc::channel(COMMANDS);
    (shown, Control { shown: seen, commands }, told)
}

struct Agent {
    policy: Policy,
    status_file: PathBuf,
    view: AgentView,
    memory: Memory,
    journal: Journal,
    host: Host,
    seen: Option<Seen>,
    /// When this host was last looked at.
    looked: Mono,
    /// Last decision, and when it was made: what is shown rests on it.
    decided: Option<(Decision, Now)>,
    shown: watch::Sender<Option<Arc<Shown>>>,
    metrics: Arc<Metrics>,
    turned: Arc<AtomicU64>,
    /// Failure of the loop itself, in words, if it cannot turn.
    trouble: Option<String>,
    /// The same failure, where the disk of the state directory caused it.
    unwritten: Option<String>,
    configuration: Configuration,
    /// Notes on outsiders that could not be told.
    notes: announce::Notes,
    /// The status that was last written and logged.
    said: log::Said,
    /// Moment since which a job's last moment is waited for.
    clearing: Option<Mono>,
    happened: mpsc::UnboundedReceiver<Event>,
    told: mpsc::Receiver<Told>,
}

impl Agent {
    /// Turns the loop until the configuration is another one.
    async fn turn_on(&mut self) {
        let mut service_manager = ServiceManager::default();
        let mut woken = Woken::Otherwise;
        loop {
            let until = self.turn_until_idle(woken);
            let now = clock::mono();
            self.turned.store(now.as_millis(), Ordering::Relaxed);
            let looked = self.seen.as_ref().is_some_and(|seen| seen.blind().is_none());
            service_manager.turned(looked);
            if self.configuration.has_changed() {
                return;
            }
            woken = self.wait(until.since(now)).await;
        }
    }

    async fn wait(&mut self, limit: Duration) -> Woken {
        let until = Instant::now() + limit;
        loop {
            tokio::select! {
                () = sleep_until(until) => {}
                event = self.happened.recv() => {
                    let mut woken = Woken::ByRemotes;
                    if let Some(event) = event {
                        woken = woken.and(event.wakes());
                        self.take_in(event);
                    }
                    // Its end may be a moment before its lock is free.
                    while let Ok(event) = self.happened.try_recv() {
                        woken = woken.and(event.wakes());
                        self.take_in(event);
                    }
                    return woken;
                }
                () = self.host.jobs_changed() => {}
                told = self.told.recv() => {
                    if let Some(told) = told {
                        let answer = self.obey(&told.command);
                        let _ = told.reply.send(answer);
                        if let Command::Explain(_) = told.command {
                            // Everybody may ask that: it costs no turn.
                            continue;
                        }
                    }
                }
            }
            return Woken::Otherwise;
        }
    }

    fn take_in(&mut self, event: Event) {
        match event {
            Event::Polled(polled) => {
                let (remote, answer) = self.host.remotes.polled(*polled);
                let result = match answer {
                    Ok(()) => "ok",
                    Err(error) => {
                        tracing::warn!(remote, "{error}");
                        "error"
                    }
                };
                self.metrics.polled(&remote, result);
            }
            Event::Compared(compared) => self.host.remotes.compared(compared),
            Event::Checked(round) => self.host.checked(round),
            Event::Rooted => self.host.rooted(),
            Event::Looked(found) => {
                if let Some(refusal) = found.refusal() {
                    self.metrics.refused(refusal.cause);
                }
                self.host.looked(found);
            }
            Event::Against(against) => self.host.reboots.learn(against),
            Event::Disarmed(system, began) => self.host.reboots.learn_disarmed(system, began),
            Event::Started(job, error) => self.host.started(&job, error),
            Event::JobEnded | Event::Noted => {}
        }
    }
}

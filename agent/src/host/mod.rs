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
mod tasks;
mod timetable;
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
        web::serve(listen, pages, web::Limits::default(), std::future::pending());
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

/// Returns why realise jobs that have just ended found no room: the preflight's part that
/// cannot wait until there is a system.
fn refusals(ended: &[Entry], seen: &Seen) -> Vec<RefusalCause> {
    let jobs = seen.jobs.iter().filter(|job| ended.iter().any(|e| e.id == job.id.deployment));
    let refused = jobs.filter_map(|job| match &job.work {
        Work::Realise { outcome: Some(outcome), .. } => match &outcome.result {
            Realised::Refused { refusal } => Some(refusal.cause),
            Realised::Built { .. }
            | Realised::NoSuchHost { .. }
            | Realised::Failed { .. }
            | Realised::Damaged { .. }
            | Realised::Cancelled => None,
        },
        Work::Realise { outcome: None, .. }
        | Work::Switch { .. }
        | Work::Publish { .. }
        | Work::Unreadable => None,
    });
    refused.collect()
}

/// Whether something could not be written for want of room or of a sound disk.
fn is_for_the_disk(error: &anyhow::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    if error.downcast_ref::<Unwritten>().is_some() {
        return true;
    }
    let mut errors = error.chain().filter_map(|error| error.downcast_ref::<std::io::Error>());
    errors.any(|error| matches!(error.kind(), QuotaExceeded | ReadOnlyFilesystem | StorageFull))
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

    /// Takes steps until there is nothing to do before the moment returned.
    fn turn_until_idle(&mut self, woken: Woken) -> Mono {
        let mut last = match woken {
            Woken::ByRemotes if clock::mono().since(self.looked) < HOLDS => self.seen.clone(),
            Woken::ByRemotes | Woken::Otherwise => None,
        };
        for _ in 0..MOST_STEPS {
            let now = clock::now();
            match self.turn(last.take(), now) {
                Ok(Turn::Idle(until)) => return until,
                Ok(Turn::Beside) => last.clone_from(&self.seen),
                Ok(Turn::Done) => {}
                Err(error) => {
                    let said = format!("{error:#}");
                    if is_for_the_disk(&error) && self.unwritten.as_ref() != Some(&said) {
                        // Seen with the next turn, which is now.
                        tracing::error!("{said}");
                        self.unwritten = Some(said);
                        continue;
                    }
                    if self.unwritten.as_ref() != Some(&said) {
                        if self.trouble.as_ref() != Some(&said) {
                            tracing::error!("{said}");
                        }
                        self.trouble = Some(said);
                        self.show_trouble();
                    }
                    return now.mono.plus(PAUSE);
                }
            }
        }
        tracing::error!("{MOST_STEPS} steps in a row: something goes in circles; pausing");
        clock::mono().plus(PAUSE)
    }

    /// Takes one turn: look, decide, remember, do. `last`: a look that still holds for
    /// what is on this host; a poll that finds nothing new is to cost little.
    fn turn(&mut self, last: Option<Seen>, now: Now) -> anyhow::Result<Turn> {
        let mut seen = match last {
            Some(last) => self.host.observe_beside(last),
            None => {
                self.looked = now.mono;
                self.host.observe(&self.memory, now)
            }
        };
        seen.unwritten = self.unwritten.clone().or(seen.unwritten);
        if self.journal.aside_is_gone() {
            self.memory.rebuilt = None;
        }
        let before = self.memory.history.last().map(|entry| entry.id.clone());
        let published = self.memory.publishing.clone();
        let under_way = self.memory.deployment.clone();
        let folded = fold(&self.policy, self.memory.clone(), &seen, now);
        let decision = decide(&self.policy, &folded, &seen, now);
        let memory = note(folded, &seen, &decision.step, now);
        // What is to be done must be known before it is done.
        if let Err(error) = self.journal.save(&memory)
            // Then nothing is done that would have to be.
            && seen.blind().is_none()
        {
            return Ok(self.cannot_remember(&memory, &error, seen, decision, now));
        }
        let ended: Vec<Entry> = memory
            .history
            .iter()
            .rev()
            .take_while(|entry| Some(&entry.id) != before.as_ref())
            .cloned()
            .collect();
        self.memory = memory;
        log::realised(under_way.as_ref(), self.memory.deployment.as_ref());
        for entry in ended.iter().rev() {
            log::ended(entry);
            self.metrics.ended(entry);
        }
        for refusal in refusals(&ended, &seen) {
            self.metrics.refused(refusal);
        }
        if let Some(ended) = self.memory.publishing.ended(&published, &seen) {
            log::published(&ended);
            self.metrics.published(ended.outcome);
        }
        // The next turn comes at once. What was decided was so before there was another
        // head: with that it would be said of what does not run yet. And nothing is told
        // of a poll before it is under way.
        let passes = matches!(decision.step, Step::Follow { .. } | Step::Poll { .. });
        if !self.only_clears(&decision, now.mono) && !passes {
            self.show(status(&self.policy, &self.memory, &seen, &decision, &self.view, now));
        }
        self.seen = Some(seen);
        log::step(&decision.step);
        let _passing = crash::step(&decision.step);
        let performed = self
            .host
            .perform(&decision.step, &self.memory)
            .with_context(|| log::failed(&decision.step));
        let turn = match decision.step {
            Step::Wait { until } => Turn::Idle(self.next_turn(until, now.mono)),
            Step::Poll { .. }
            | Step::Compare { .. }
            | Step::KeepRoots(_)
            | Step::RunChecks(_)
            | Step::Preflight { .. }
            | Step::Look
            | Step::Disarm { .. }
            | Step::LookAgainstReboot
            | Step::Reboot { .. } => Turn::Beside,
            Step::Follow { .. }
            | Step::StartRealise(_)
            | Step::StopJob(_)
            | Step::RemoveJob(_)
            | Step::StartSwitch(_)
            | Step::StartPublish(_)
            | Step::ResumeSwitch(_)
            | Step::WriteVerdict { .. }
            | Step::Settle { .. }
            | Step::AskToConfirm { .. }
            | Step::GiveUp { .. } => Turn::Done,
        };
        self.decided = Some((decision, now));
        performed?;
        let asks = matches!(
            self.decided,
            Some((Decision { step: Step::Poll { .. } | Step::Compare { .. }, .. }, _))
        );
        if asks {
            // That writes nothing here: what could not be may still not.
            return Ok(turn);
        }
        self.trouble = None;
        // What was in the way is to be seen no more.
        Ok(if self.unwritten.take().is_some() { Turn::Done } else { turn })
    }

    /// Whether all that is waited for is the last moment of a job that has told
    /// what came of it: that is no state of the host.
    fn only_clears(&mut self, decision: &Decision, now: Mono) -> bool {
        if decision.outlook != Outlook::Clearing {
            self.clearing = None;
            return false;
        }
        now.since(*self.clearing.get_or_insert(now)) < CLEARING
    }

    /// Shows that the memory cannot be written: nothing is done that could not be
    /// remembered, and the write is tried again after a pause.
    fn cannot_remember(
        &mut self,
        memory: &Memory,
        error: &std::io::Error,
        mut seen: Seen,
        decision: Decision,
        now: Now,
    ) -> Turn {
        let said = format!("cannot write {}: {error}", self.journal.path().display());
        if self.unwritten.as_ref() != Some(&said) {
            tracing::error!("{said}");
        }
        seen.unwritten = Some(said.clone());
        self.unwritten = Some(said);
        self.show(status(&self.policy, memory, &seen, &decision, &self.view, now));
        self.seen = Some(seen);
        self.decided = Some((decision, now));
        Turn::Idle(now.mono.plus(PAUSE))
    }

    fn next_turn(&self, until: Option<Mono>, now: Mono) -> Mono {
        let jobs = self.seen.as_ref().is_some_and(|seen| !seen.jobs.is_empty());
        let at_least = now.plus(match (jobs, self.host.is_unwatched()) {
            (true, true) => UNWATCHED,
            (true, false) => TICK,
            (false, _) => TURN,
        });
        until.map_or(at_least, |until| until.min(at_least))
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

    /// Explains the state from what is shown now, whatever has happened since.
    fn explain(&self, commit: Option<&Prefix>) -> Result<String, String> {
        let shown = self.shown.borrow().clone();
        let (Some(shown), Some(seen), Some((decision, now))) = (shown, &self.seen, &self.decided)
        else {
            return Err("the agent is starting".into());
        };
        let (policy, memory, status) = (&self.policy, &self.memory, &shown.status);
        let moment = Moment { policy, memory, seen, decision, status, now: *now };
        serde_json::to_string(&explain(commit, moment)?).map_err(|error| error.to_string())
    }

    fn obey(&mut self, command: &Command) -> Result<String, String> {
        match command {
            Command::Poll => {
                self.host.remotes.want();
                Ok("the remotes are asked now".into())
            }
            Command::Explain(commit) => self.explain(commit.as_ref()),
            Command::Ask(asked) => {
                let Some(seen) = &self.seen else { return Err("the agent is starting".into()) };
                let now = clock::now();
                let (memory, said) = request::answer(asked, &self.policy, &self.memory, seen, now)?;
                self.journal
                    .save(&memory)
                    .map_err(|error| format!("cannot write the journal: {error}"))?;
                self.memory = memory;
                if matches!(asked, Request::Retry(_)) {
                    // What was refused is looked at again now.
                    self.host.forget_preflight();
                }
                tracing::info!(?asked, "{said}");
                Ok(said)
            }
        }
    }

    fn show(&mut self, mut status: Status) {
        log::asides(self.shown.borrow().as_ref().map(|shown| &shown.status), &status);
        status.notes.extend(self.trouble.clone());
        status.notes.extend(self.host.notes());
        status.notes.extend(self.configuration.wrong.clone());
        status.notes.extend(self.host.beside.notes());
        status.notes.extend(self.notes.all());
        status.agent.unconfined = self.host.unconfined();
        self.publish(status);
    }

    /// Shows the last status again, with the reason why the loop cannot turn.
    fn show_trouble(&mut self) {
        let last = self.shown.borrow().clone();
        if let (Some(last), Some(trouble)) = (last, self.trouble.clone()) {
            let mut status = last.status.clone();
            if !status.notes.contains(&trouble) {
                status.notes.push(trouble);
                self.publish(status);
            }
        }
    }

    fn publish(&mut self, status: Status) {
        // Most turns change nothing but times, and this is a good part of what one costs.
        match &*self.shown.borrow() {
            Some(shown) if shown.status == status => {}
            Some(shown) if shown.status.differs_in_times_only(&status) => {
                self.metrics.observe_times(&status);
            }
            Some(_) | None => self.metrics.observe(&status),
        }
        let published = |status: &Status| {
            status.publish.as_ref().map(|it| (it.backlog == 0, it.last_error.clone()))
        };
        let written = self.said.last().map(published);
        let changed = self.said.is_news(&status, clock::mono());
        if changed {
            let deployment = status.deployment.as_ref();
            tracing::info!(
                state = status.state.as_str(),
                commit =
                    status.desired.as_ref().map(|desired| tracing::field::display(desired.commit)),
                deployment = deployment.map(|deployment| deployment.id.as_str()),
                stage = deployment.map(|deployment| deployment.stage.as_str()),
                cause = status.held.as_ref().map(|held| held.cause.as_str()),
                lift = status.lift.as_deref(),
                "{}",
                status.reason
            );
        }
        if changed || written != Some(published(&status)) {
            // For people who ask while the agent is down.
            let written = files::write_json(&self.status_file, &status, Durability::Passing);
            if let Err(error) = written {
                tracing::warn!(%error, "cannot write {}", self.status_file.display());
            }
            self.said.learn(&status);
        }
        self.shown.send_if_modified(|shown| {
            let history = self.memory.history.clone();
            let same = shown
                .as_ref()
                .is_some_and(|shown| shown.status == status && shown.history == history);
            if !same {
                *shown = Some(Arc::new(Shown { status, history }));
            }
            !same
        });
    }
}

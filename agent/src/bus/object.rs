//! The agent's object on D-Bus: what can be asked and told, whatever carries it.
//!
//! Replies are JSON in a string: they are what the command line prints with
//! `--json`, and may get more fields. A refusal has an error name of its own,
//! so that a program can tell it from a failure.

use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;
use zbus::Connection;
use zbus::message::{Flags, Header};
use zbus::object_server::SignalEmitter;

use super::polkit::{self, ACTION, Authorization};
use crate::control::{Command, Control, Shown, Told};
use crate::core::request::{Prefix, Request};
use crate::core::types::Commit;

/// How long the loop has for its first turn before a caller is told.
const FIRST_TURN: Duration = Duration::from_secs(3);
/// How long the loop may take to answer. A loop that turns answers at once.
const ANSWER: Duration = Duration::from_secs(8);

/// Why something was not done; each is an error name below the interface's.
#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "network.gisi.fort.Agent1.Error")]
pub enum Failure {
    /// The transport of the message failed.
    #[zbus(error)]
    ZBus(zbus::Error),
    /// The state does not allow it; the text says why.
    Refused(String),
    /// The caller may not do this.
    NotAuthorised(String),
    /// The arguments make no sense.
    InvalidArgument(String),
    /// The loop has not made its first turn.
    NotReady(String),
    /// The loop did not take the command, or did not answer.
    Stuck(String),
    /// Too much is asked at the same time.
    Busy(String),
}

/// How long the loop may take for what changes nothing, and everybody may ask: others wait.
const LOOK: Duration = Duration::from_secs(2);

/// Callers on the other side, and what they may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Callers {
    /// Only root, or the agent's own user: every peer was found to be one before it could speak.
    Root,
    /// Anybody: the bus knows who it is.
    OnTheBus,
}

impl Callers {
    /// Whether the caller of a method may change what the agent does.
    async fn may_manage(self, header: &Header<'_>, connection: &Connection) -> Result<(), Failure> {
        match self {
            Self::Root => Ok(()),
            Self::OnTheBus => match uid_of(header, connection).await {
                Some(0) => Ok(()),
                Some(uid) => by_polkit(uid, header, connection).await,
                None => Err(Failure::NotAuthorised("the caller is not known to the bus".into())),
            },
        }
    }
}

/// Asks polkit whether a user may do this; fails if not.
async fn by_polkit(uid: u32, header: &Header<'_>, connection: &Connection) -> Result<(), Failure> {
    let interactive = header.primary().flags().contains(Flags::ALLOW_INTERACTIVE_AUTH);
    let sender = header.sender().map(ToString::to_string).unwrap_or_default();
    tracing::debug!(uid, interactive, "asking polkit");
    let why = match polkit::may_manage(connection, &sender, interactive).await {
        Authorization::Yes => {
            let called = header.member().map(tracing::field::display);
            tracing::info!(uid, called, "polkit lets the caller");
            return Ok(());
        }
        Authorization::No => format!(
            "polkit does not let user {uid} do this ({ACTION}): run it as root, or allow that \
             action in a rule of polkit's"
        ),
        Authorization::Challenge => format!(
            "polkit lets user {uid} do this ({ACTION}) only after authentication, for which \
             nobody could be asked: run it as root"
        ),
        Authorization::Absent => {
            format!(
                "only root may do this, not user {uid}: there is no polkit to ask; run it as root"
            )
        }
        Authorization::Unknown(why) => {
            format!(
                "only root may do this, not user {uid}: polkit cannot tell ({why}); run it as root"
            )
        }
    };
    Err(Failure::NotAuthorised(why))
}

/// Returns the user who calls, as the bus knows it. Asks for nothing more: all of a
/// caller's credentials come with a descriptor of its process, and dbus-broker
/// disconnects whoever asks for them and takes none.
pub(super) async fn uid_of(header: &Header<'_>, connection: &Connection) -> Option<u32> {
    let sender = header.sender()?.to_owned();
    let ask = async {
        let bus = zbus::fdo::DBusProxy::new(connection).await.ok()?;
        bus.get_connection_unix_user(sender.into()).await.ok()
    };
    tokio::time::timeout(ANSWER, ask).await.ok()?
}

/// The object at [`super::PATH`].
#[derive(Clone, Debug)]
pub struct Agent {
    control: Control,
    callers: Callers,
}

impl Agent {
    /// Creates the object for one transport, whose callers are known.
    pub fn new(control: Control, callers: Callers) -> Self {
        Self { control, callers }
    }

    fn shown<T>(&self, view: impl FnOnce(&Shown) -> T) -> Option<T> {
        self.control.shown.borrow().as_deref().map(view)
    }

    async fn ready<T>(&self, view: impl FnOnce(&Shown) -> T) -> Result<T, Failure> {
        let mut shown = self.control.shown.clone();
        let turned = tokio::time::timeout(FIRST_TURN, shown.wait_for(Option::is_some)).await;
        let not_ready = || Failure::NotReady("the agent has only just been started".into());
        let turned = turned.map_err(|_| not_ready())?.map_err(|_| not_ready())?;
        turned.as_deref().map(view).ok_or_else(not_ready)
    }

    async fn tell(
        &self,
        header: &Header<'_>,
        connection: &Connection,
        command: Command,
    ) -> Result<String, Failure> {
        self.callers.may_manage(header, connection).await?;
        self.ask(command, ANSWER).await
    }

    /// Hands a command to the loop, whoever the caller is.
    async fn ask(&self, command: Command, limit: Duration) -> Result<String, Failure> {
        let (reply, answer) = oneshot::channel();
        self.control.commands.try_send(Told { command, reply }).map_err(|error| match error {
            TrySendError::Full(_) => Failure::Stuck("the agent's loop is stuck".into()),
            TrySendError::Closed(_) => Failure::Stuck("the agent is stopping".into()),
        })?;
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(Ok(done))) => Ok(done),
            Ok(Ok(Err(refused))) => Err(Failure::Refused(refused)),
            Ok(Err(_)) => Err(Failure::Stuck("the agent stopped before it answered".into())),
            Err(_) => {
                Err(Failure::Stuck("the agent's loop took the command but did not answer".into()))
            }
        }
    }
}

fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::Stuck(error.to_string()))
}

fn prefix(text: &str) -> Result<Prefix, Failure> {
    Prefix::parse(text).map_err(Failure::InvalidArgument)
}

// One call after the other on each connection: what a caller can make us hold
// at a time stays bounded.
#[zbus::interface(name = "network.gisi.fort.Agent1", spawn = false, introspection_docs = false)]
impl Agent {
    /// Returns the status, as JSON.
    async fn status(&self) -> Result<String, Failure> {
        self.ready(|shown| json(&shown.status)).await?
    }

    /// Returns at most so many deployments that ended, newest first, as JSON.
    async fn history(&self, most: u32) -> Result<String, Failure> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        self.ready(|shown| json(&shown.history.iter().rev().take(most).collect::<Vec<_>>())).await?
    }

    /// Explains why a commit (by default the desired one) is, or is not, the one that
    /// runs, as JSON. Everybody may ask; since one call comes after the other, nobody
    /// can fill the loop's queue with it.
    async fn explain(&self, commit: &str) -> Result<String, Failure> {
        let commit = if commit.is_empty() { None } else { Some(prefix(commit)?) };
        self.ready(|_| ()).await?;
        self.ask(Command::Explain(commit), LOOK).await
    }

    /// Looks at the remotes now; answers before they do.
    async fn poll(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, Failure> {
        self.tell(&header, connection, Command::Poll).await
    }

    /// Accepts a head that does not descend from the last accepted one.
    async fn accept(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
        commit: &str,
    ) -> Result<String, Failure> {
        let command = Command::Ask(Request::Accept(prefix(commit)?));
        self.tell(&header, connection, command).await
    }

    /// Lifts backoff and quarantine: of one commit, or of everything if that is
    /// empty.
    async fn retry(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
        commit: &str,
    ) -> Result<String, Failure> {
        let commit = if commit.is_empty() { None } else { Some(prefix(commit)?) };
        self.tell(&header, connection, Command::Ask(Request::Retry(commit))).await
    }

    /// Lets exactly this commit be activated.
    async fn confirm(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
        commit: &str,
    ) -> Result<String, Failure> {
        let command = Command::Ask(Request::Confirm(prefix(commit)?));
        self.tell(&header, connection, command).await
    }

    /// Activates nothing for so many seconds; 0: until told otherwise.
    async fn suspend(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
        reason: &str,
        seconds: u64,
    ) -> Result<String, Failure> {
        let lasts = (seconds > 0).then(|| Duration::from_secs(seconds));
        let request = Request::Suspend { reason: reason.to_owned(), lasts };
        self.tell(&header, connection, Command::Ask(request)).await
    }

    /// Ends a suspension: systems are activated again.
    async fn resume(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
    ) -> Result<String, Failure> {
        self.tell(&header, connection, Command::Ask(Request::Resume)).await
    }

    /// Goes back to the last good system before this one.
    async fn rollback(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
        reason: &str,
    ) -> Result<String, Failure> {
        let request = Request::Rollback { to: None, reason: reason.to_owned() };
        self.tell(&header, connection, Command::Ask(request)).await
    }

    /// Goes back to the good system of this commit.
    async fn rollback_to(
        &self,
        #[zbus(header)] header: Header<'_>,
        #[zbus(connection)] connection: &Connection,
        commit: &str,
        reason: &str,
    ) -> Result<String, Failure> {
        let request = Request::Rollback { to: Some(prefix(commit)?), reason: reason.to_owned() };
        self.tell(&header, connection, Command::Ask(request)).await
    }

    #[zbus(signal)]
    async fn status_changed(emitter: &SignalEmitter<'_>, status: &str) -> zbus::Result<()>;

    #[zbus(property)]
    fn state(&self) -> String {
        Facts::of(self).state
    }

    #[zbus(property)]
    fn reason(&self) -> String {
        Facts::of(self).reason
    }

    #[zbus(property)]
    fn desired_commit(&self) -> String {
        Facts::of(self).desired_commit
    }

    #[zbus(property)]
    fn running_commit(&self) -> String {
        Facts::of(self).running_commit
    }

    #[zbus(property)]
    fn in_sync(&self) -> bool {
        Facts::of(self).in_sync
    }
}

/// Values of the properties. Before the first turn: `starting`, and nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Facts {
    state: String,
    reason: String,
    desired_commit: String,
    running_commit: String,
    in_sync: bool,
}

impl Facts {
    fn of(agent: &Agent) -> Self {
        let text = |commit: Option<Commit>| commit.map(|c| c.to_string()).unwrap_or_default();
        let shown = agent.shown(|shown| {
            let status = &shown.status;
            Self {
                state: status.state.as_str().into(),
                reason: status.reason.clone(),
                desired_commit: text(status.desired.as_ref().map(|desired| desired.commit)),
                running_commit: text(status.running.commit),
                in_sync: status.in_sync(),
            }
        });
        shown.unwrap_or_else(|| Self { state: "starting".into(), ..Self::default() })
    }
}

/// Tells one connection of changes.
pub(super) struct Announcer {
    agent: Agent,
    emitter: SignalEmitter<'static>,
    said: Option<(Facts, String)>,
}

impl Announcer {
    /// Creates an announcer. The current state counts as said: the other side asks first.
    pub(super) fn new(agent: Agent, emitter: SignalEmitter<'static>) -> Self {
        let said = Self::now(&agent);
        Self { agent, emitter, said }
    }

    /// Signals what has changed. Fails when the connection does.
    pub(super) async fn announce(&mut self) -> zbus::Result<()> {
        let Some((facts, status)) = Self::now(&self.agent) else { return Ok(()) };
        let (before, same) = match &self.said {
            Some((before, said)) => (before.clone(), *said == status),
            None => (Facts::default(), false),
        };
        if same {
            return Ok(());
        }
        let (agent, emitter) = (&self.agent, &self.emitter);
        if facts.state != before.state {
            agent.state_changed(emitter).await?;
        }
        if facts.reason != before.reason {
            agent.reason_changed(emitter).await?;
        }
        if facts.desired_commit != before.desired_commit {
            agent.desired_commit_changed(emitter).await?;
        }
        if facts.running_commit != before.running_commit {
            agent.running_commit_changed(emitter).await?;
        }
        if facts.in_sync != before.in_sync {
            agent.in_sync_changed(emitter).await?;
        }
        Agent::status_changed(emitter, &status).await?;
        self.said = Some((facts, status));
        Ok(())
    }

    fn now(agent: &Agent) -> Option<(Facts, String)> {
        let status = agent.shown(|shown| json(&shown.status).ok()).flatten()?;
        Some((Facts::of(agent), status))
    }
}

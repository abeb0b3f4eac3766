//! Asks a running agent, with a deadline on everything.

use std::io;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;
use zbus::names::OwnedUniqueName;

use super::{NAME, PATH, SOCKET};
use crate::dbus::{self, Takes};

/// Time limits for connecting, and for each answer. Longer than the loop itself is
/// given, so that the agent can say what is wrong with it.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(10);

/// Name of the error of an agent that has no such method.
const UNKNOWN: &str = "org.freedesktop.DBus.Error.UnknownMethod";
/// Most changes that wait to be shown.
const CHANGES: NonZero<usize> = NonZero::new(16).expect("16 is not 0");

/// Why there is no answer, or not the wanted one.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No agent answers on its socket.
    #[error("the agent does not answer on {}: {why}", socket.display())]
    Silent {
        /// Socket where the agent was looked for.
        socket: PathBuf,
        /// Reason why there is no answer.
        why: String,
    },
    /// The agent runs, and the socket that it is asked on is gone from below it.
    #[error("the agent runs ({agent}), but its socket {} is gone: systemctl restart fort-agent makes it anew", socket.display())]
    Gone {
        /// Socket where the agent was looked for.
        socket: PathBuf,
        /// Process of the agent, as the message names it.
        agent: String,
    },
    /// The agent, or the kernel for it, says no.
    #[error("{0}")]
    Refused(String),
    /// The question makes no sense to the agent.
    #[error("{0}")]
    Invalid(String),
    /// The agent, or this program, tried and failed.
    #[error("{0}")]
    Failed(String),
}

/// A connection to a running agent.
#[derive(Debug)]
pub struct Client {
    connection: zbus::Connection,
    socket: PathBuf,
    /// Name of the agent on the bus; `None` where there is nobody else on the connection.
    destination: Option<&'static str>,
}

/// The agent, as it is seen on the system bus.
enum OnTheBus {
    There(Client),
    Absent,
    NoBus,
}

/// Why nobody was heard on the agent's own socket.
enum Unheard {
    /// The agent is behind a door that only root opens, if it is there at all.
    Hidden(PathBuf),
    Because(ClientError),
}

impl Client {
    /// Connects to the agent whose `run_dir` this is; where its socket cannot be
    /// reached, to the agent on the system bus.
    pub async fn connect(run_dir: &Path) -> Result<Self, ClientError> {
        match Self::on_socket(run_dir).await {
            Ok(client) => Ok(client),
            Err(unheard) => match (Self::on_system_bus(run_dir).await, unheard) {
                (OnTheBus::There(client), _) => Ok(client),
                (OnTheBus::Absent, Unheard::Hidden(socket)) => {
                    let why = "only root can see whether it runs, and it is not on the system bus";
                    Err(ClientError::Silent { socket, why: why.into() })
                }
                (OnTheBus::NoBus, Unheard::Hidden(socket)) => Err(only_root(&socket)),
                (OnTheBus::Absent | OnTheBus::NoBus, Unheard::Because(trouble)) => Err(trouble),
            },
        }
    }

    async fn on_system_bus(run_dir: &Path) -> OnTheBus {
        let connected = async {
            let builder = dbus::system_bus(Takes::WATCHING).await.ok()?;
            let connection = builder.method_timeout(ANSWER).build().await.ok()?;
            let bus = zbus::fdo::DBusProxy::new(&connection).await.ok()?;
            let there = bus.name_has_owner(NAME.try_into().ok()?).await.ok()?;
            Some((connection, there))
        };
        match timeout(CONNECT, connected).await {
            Ok(Some((connection, true))) => {
                let (socket, destination) = (run_dir.join(SOCKET), Some(NAME));
                OnTheBus::There(Self { connection, socket, destination })
            }
            Ok(Some((_, false))) => OnTheBus::Absent,
            Ok(None) | Err(_) => OnTheBus::NoBus,
        }
    }

    async fn on_socket(run_dir: &Path) -> Result<Self, Unheard> {
        let socket = run_dir.join(SOCKET);
        let silent =
            |why: String| Unheard::Because(ClientError::Silent { socket: socket.clone(), why });
        let late = |_| silent(format!("no answer within {} s", CONNECT.as_secs()));
        let stream = timeout(CONNECT, UnixStream::connect(&socket)).await.map_err(late)?;
        let stream = stream.map_err(|error| {
            let kind = error.kind();
            if kind == io::ErrorKind::PermissionDenied {
                Unheard::Hidden(socket.clone())
            } else if kind == io::ErrorKind::NotFound {
                silent("it is not running".into())
            } else if kind == io::ErrorKind::ConnectionRefused {
                silent("it is not running any more".into())
            } else {
                silent(error.to_string())
            }
        })?;
        let built = dbus::peer(stream, Takes::WATCHING).method_timeout(ANSWER).build();
        let connection = timeout(CONNECT, built).await.map_err(late)?.map_err(|error| {
            if matches!(&error, zbus::Error::Handshake(why) if why.contains("rejected")) {
                Unheard::Because(only_root(&socket))
            } else {
                silent(error.to_string())
            }
        })?;
        Ok(Self { connection, socket, destination: None })
    }

    /// Returns the status, as JSON.
    pub async fn status(&self) -> Result<String, ClientError> {
        self.call("Status", &()).await
    }

    /// Returns at most so many deployments that ended, newest first, as JSON.
    pub async fn history(&self, most: u32) -> Result<String, ClientError> {
        self.call("History", &(most,)).await
    }

    /// Explains why a commit (by default the desired one) is, or is not, the one that
    /// runs, as JSON.
    pub async fn explain(&self, commit: Option<&str>) -> Result<String, ClientError> {
        self.call("Explain", &(commit.unwrap_or_default(),)).await
    }

    /// Lets the agent look at the remotes; answers before they do.
    pub async fn poll(&self) -> Result<String, ClientError> {
        self.call("Poll", &()).await
    }

    /// Lets exactly this commit be activated.
    pub async fn confirm(&self, commit: &str) -> Result<String, ClientError> {
        self.call("Confirm", &(commit,)).await
    }

    /// Lets nothing be activated, for so many seconds or until [`Client::resume`].
    pub async fn suspend(&self, reason: &str, seconds: Option<u64>) -> Result<String, ClientError> {
        self.call("Suspend", &(reason, seconds.unwrap_or(0))).await
    }

    /// Ends a suspension of deployments.
    pub async fn resume(&self) -> Result<String, ClientError> {
        self.call("Resume", &()).await
    }

    /// Goes back to the last good system before this one, or to that of a commit.
    pub async fn rollback(&self, to: Option<&str>, reason: &str) -> Result<String, ClientError> {
        match to {
            Some(commit) => self.call("RollbackTo", &(commit, reason)).await,
            None => self.call("Rollback", &(reason,)).await,
        }
    }

    /// Accepts a head that does not descend from the last accepted one.
    pub async fn accept(&self, commit: &str) -> Result<String, ClientError> {
        self.call("Accept", &(commit,)).await
    }

    /// Lifts backoff and quarantine: of one commit, or of everything.
    pub async fn retry(&self, commit: Option<&str>) -> Result<String, ClientError> {
        self.call("Retry", &(commit.unwrap_or_default(),)).await
    }

    /// Returns each status from now on, as JSON, until the connection ends.
    pub async fn changes(&self) -> Result<impl Stream<Item = String> + Unpin, ClientError> {
        let silent = |error: zbus::Error| ClientError::Silent {
            socket: self.socket.clone(),
            why: error.to_string(),
        };
        let rule = zbus::MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .interface(NAME)
            .member("StatusChanged")
            .path(PATH);
        // On a message bus anybody may say anything.
        let rule = match self.destination {
            Some(name) => rule.sender(name),
            None => rule,
        };
        let rule = rule.build().map_err(silent)?;
        let messages = zbus::MessageStream::for_match_rule(rule, &self.connection, Some(CHANGES));
        let messages = messages.await.map_err(silent)?;
        let gone = self.gone().await;
        let agent = self.agent().await.map_err(silent)?;
        let status = move |message: zbus::Result<zbus::Message>| {
            let told = message.ok().filter(|told| match &agent {
                Some(agent) => told.header().sender() == Some(agent.inner()),
                None => true,
            });
            std::future::ready(told.and_then(|told| told.body().deserialize().ok()))
        };
        Ok(messages.filter_map(status).take_until(gone))
    }

    /// Returns the agent as the bus calls it; `None` where there is nobody else on the
    /// connection. A rule with a name that anybody could have does not do: the bus also
    /// passes on what somebody sends to this connection alone.
    async fn agent(&self) -> zbus::Result<Option<OwnedUniqueName>> {
        let Some(name) = self.destination else { return Ok(None) };
        let bus = zbus::fdo::DBusProxy::new(&self.connection).await?;
        Ok(Some(bus.get_name_owner(name.try_into()?).await?))
    }

    /// Returns a future that is done when the agent leaves the message bus. Without a
    /// bus the connection itself ends.
    async fn gone(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let watched = async {
            let name = self.destination?;
            let bus = zbus::fdo::DBusProxy::new(&self.connection).await.ok()?;
            bus.receive_name_owner_changed_with_args(&[(0, name), (2, "")]).await.ok()
        };
        match watched.await {
            Some(mut changes) => Box::pin(async move {
                changes.next().await;
            }),
            None => Box::pin(std::future::pending()),
        }
    }

    async fn call<B>(&self, method: &str, body: &B) -> Result<String, ClientError>
    where
        B: serde::Serialize + zbus::zvariant::DynamicType,
    {
        let silent = |why: String| ClientError::Silent { socket: self.socket.clone(), why };
        let call = self.connection.call_method(self.destination, PATH, Some(NAME), method, body);
        let late = |_| silent(format!("no answer within {} s", ANSWER.as_secs()));
        match timeout(ANSWER, call).await.map_err(late)? {
            Ok(reply) => reply.body().deserialize().map_err(|error| silent(error.to_string())),
            Err(zbus::Error::MethodError(name, text, _)) => {
                let text = text.unwrap_or_else(|| name.to_string());
                if name.as_str() == UNKNOWN {
                    return Err(ClientError::Failed(format!(
                        "the agent that runs does not know `{method}`: it is of another version; \
                         restart it if it is older than this program"
                    )));
                }
                match name.as_str().strip_prefix(NAME).and_then(|n| n.strip_prefix(".Error.")) {
                    Some("Refused" | "NotAuthorised") => Err(ClientError::Refused(text)),
                    Some("InvalidArgument") => Err(ClientError::Invalid(text)),
                    Some("NotReady") => Err(silent(text)),
                    _ => Err(ClientError::Failed(text)),
                }
            }
            Err(error) => Err(silent(error.to_string())),
        }
    }
}

fn only_root(socket: &Path) -> ClientError {
    ClientError::Refused(format!(
        "only root may talk to the agent ({}): run this as root",
        socket.display()
    ))
}

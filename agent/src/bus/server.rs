//! The object on a socket of the agent's own.
//!
//! The socket is below a directory that only root enters, has mode 0600, and each peer
//! is checked by what the kernel says of it (SO_PEERCRED), so that none of the three
//! alone has to be right. A connection has a task of its own: whatever a peer sends
//! ends at most its own connection.
//!
//! A surprise: when all connections are taken, the next one ends the oldest.
//! Clients that hang must not keep an operator from asking; and one that
//! watches for long connects again.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use zbus::object_server::SignalEmitter;

use super::handshake::handshake;
use super::object::{Agent, Announcer, Callers};
use super::{PATH, SOCKET};
use crate::control::Control;
use crate::dbus::{self, Takes};

/// Limits on what strangers and forgetful clients are granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusLimits {
    /// Most connections at a time.
    pub connections: usize,
    /// Time limit of the handshake.
    pub handshake: Duration,
    /// Time limit for taking in a signal.
    pub signal: Duration,
    /// Longest time without anything sent in either direction. Every poll of the
    /// remotes is a signal: a client that hears nothing for this long is not there any
    /// more.
    pub idle: Duration,
}

impl Default for BusLimits {
    fn default() -> Self {
        Self {
            connections: 64,
            handshake: Duration::from_secs(5),
            signal: Duration::from_secs(5),
            idle: Duration::from_secs(15 * 60),
        }
    }
}

/// Serves the loop on `run_dir/bus` until `shutdown` is done, then removes the
/// socket. `run_dir` is made (0700) if it is not there; what another agent left
/// there is replaced: whoever calls has made sure that none is alive.
///
/// Fails when the socket cannot be made.
pub fn serve(
    control: Control,
    run_dir: &Path,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<JoinHandle<()>> {
    serve_with(control, run_dir, BusLimits::default(), shutdown)
}

/// Serves as [`serve`] does, with limits of one's own.
pub fn serve_with(
    control: Control,
    run_dir: &Path,
    limits: BusLimits,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<JoinHandle<()>> {
    let (listener, path) = bind(run_dir)?;
    Ok(tokio::spawn(async move {
        tokio::select! {
            () = shutdown => {}
            () = accept(listener, control, limits) => {}
        }
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!("{} could not be removed: {error}", path.display());
        }
    }))
}

/// Makes the socket. It gets its mode before it gets its name: it can never
/// be met with a wider one.
fn bind(run_dir: &Path) -> anyhow::Result<(UnixListener, PathBuf)> {
    let path = run_dir.join(SOCKET);
    let new = run_dir.join("new");
    let made = || -> io::Result<UnixListener> {
        DirBuilder::new().recursive(true).mode(0o700).create(run_dir)?;
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&new)?;
        fs::set_permissions(&new, Permissions::from_mode(0o600))?;
        fs::rename(&new, &path)?;
        Ok(listener)
    };
    let listener =
        made().with_context(|| format!("the socket {} cannot be made", path.display()))?;
    Ok((listener, path))
}

async fn accept(listener: UnixListener, control: Control, limits: BusLimits) {
    let mut connections = JoinSet::new();
    let mut oldest: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                while connections.try_join_next().is_some() {}
                oldest.retain(|connection| !connection.is_finished());
                while oldest.len() >= limits.connections {
                    tracing::warn!("{} connections: the oldest is ended", oldest.len());
                    oldest.pop_front().iter().for_each(AbortHandle::abort);
                }
                oldest.push_back(connections.spawn(attend(stream, control.clone(), limits)));
            }
            Err(error) => {
                // Out of file descriptors, most likely: asking at once again
                // would only burn the processor.
                tracing::warn!("a caller could not be let in: {error}");
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn attend(stream: UnixStream, control: Control, limits: BusLimits) {
    let uid = match stream.peer_cred() {
        Ok(peer) => peer.uid(),
        Err(error) => {
            tracing::warn!("a caller is not known to the kernel: {error}");
            return;
        }
    };
    if uid != 0 && uid != rustix::process::geteuid().as_raw() {
        tracing::warn!("user {uid} was turned away");
        turn_away(stream).await;
        return;
    }
    if let Err(error) = converse(stream, uid, control, limits).await {
        tracing::debug!("a caller was let go: {error}");
    }
}

/// Refuses a peer in words that every D-Bus client knows, and gives it time to read them.
async fn turn_away(mut stream: UnixStream) {
    let _ = timeout(Duration::from_secs(1), async {
        stream.write_all(b"REJECTED\r\n").await?;
        // Closing with something unread would take the answer back. Whoever
        // was turned away hangs up.
        let mut unread = [0; 256];
        while stream.read(&mut unread).await? > 0 {}
        io::Result::Ok(())
    })
    .await;
}

async fn converse(
    mut stream: UnixStream,
    uid: u32,
    mut control: Control,
    limits: BusLimits,
) -> zbus::Result<()> {
    let agent = Agent::new(control.clone(), Callers::Root);
    let guid = zbus::Guid::generate();
    let late = |_| zbus::Error::Failure("the handshake took too long".into());
    let begun = handshake(&mut stream, uid, guid.as_str());
    let begun = timeout(limits.handshake, begun).await.map_err(late)??;
    let connection = dbus::served(stream, begun, guid, Takes::SERVING)
        .serve_at(PATH, agent.clone())
        .build()
        .await?;
    let emitter = SignalEmitter::new(&connection, PATH)?.into_owned();
    let mut announcer = Announcer::new(agent, emitter);
    control.shown.mark_unchanged();
    loop {
        tokio::select! {
            () = connection.closed() => return Ok(()),
            () = idle(&connection, limits.idle) => return Ok(()),
            changed = control.shown.changed() => {
                if changed.is_err() {
                    // The loop is gone; what it showed last can still be asked.
                    connection.closed().await;
                    return Ok(());
                }
                let slow = |_| zbus::Error::Failure("a signal was not taken in".into());
                timeout(limits.signal, announcer.announce()).await.map_err(slow)??;
            }
        }
    }
}

async fn idle(connection: &zbus::Connection, limit: Duration) {
    while timeout(limit, connection.monitor_activity()).await.is_ok() {}
}

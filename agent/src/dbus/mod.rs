//! Connections over D-Bus: the one place that makes any.
//!
//! Everybody on a host may send to a process that is on the system bus. So a
//! connection takes no file descriptors, and no message beyond a bound, whoever
//! asks for it. A descriptor can be a TCP socket that lingers: whoever closes it
//! last waits in the kernel for as long as its sender has chosen, and with it a
//! runtime of one thread. The bus passes none on to who has not asked for them; but
//! an answer that has one ends the connection, with dbus-broker, so nothing is asked
//! that is answered so.
//!
//! A surprise: a message that is too large is read past, and the connection goes
//! on. To end it is what the sender would like: the agent would be off the bus
//! for as long as somebody sends another.
//!
//! zbus's own ways to connect ask for descriptors, and make room for 128 MiB; a
//! test looks for them in the sources.

mod message;
mod transport;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::UnixStream;
use zbus::address::transport::{Transport, UnixSocket};
use zbus::connection::Builder;
use zbus::{Address, Guid};

pub(crate) use message::is_cut;
use transport::{Peer, Stream};

/// The largest messages that a connection takes in, in bytes, by their kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Takes {
    /// Calls of methods. A larger one arrives without its body: see [`is_cut`].
    pub(crate) calls: usize,
    /// Signals. A larger one does not arrive.
    pub(crate) signals: usize,
    /// Answers. They come from who was asked, so a larger one ends the
    /// connection: there is nothing else to tell the caller by.
    pub(crate) replies: usize,
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

impl Takes {
    /// Bounds for serving: nothing that the agent is told comes near a page. The bus's
    /// answers name all groups of a user.
    pub(crate) const SERVING: Self = Self { calls: 64 * KIB, signals: 64 * KIB, replies: MIB };
    /// Bounds for asking systemd and logind: the list of ten thousand units has 4 MiB.
    pub(crate) const ASKING: Self = Self { calls: 64 * KIB, signals: 64 * KIB, replies: 16 * MIB };
    /// Bounds for asking an agent, which tells its status in signals.
    pub(crate) const WATCHING: Self = Self { calls: 64 * KIB, signals: 4 * MIB, replies: 16 * MIB };
}

/// Connects to the system bus: where `DBUS_SYSTEM_BUS_ADDRESS` says, or else
/// where it always is.
pub(crate) async fn system_bus(takes: Takes) -> zbus::Result<Builder<'static>> {
    bus(Address::system()?, takes).await
}

/// Connects to the bus at an address, which must be that of a Unix socket.
pub(crate) async fn bus(address: Address, takes: Takes) -> zbus::Result<Builder<'static>> {
    let Some(path) = path_of(&address) else {
        let why = "only unix:path= and unix:abstract= are connected to";
        return Err(zbus::Error::Address(format!("{address}: {why}")));
    };
    let stream = UnixStream::connect(path).await;
    let stream =
        stream.map_err(|error| zbus::Error::Connection(Arc::new(error), address.into()))?;
    Ok(Builder::socket(Stream::new(stream, Peer::Bus, takes)))
}

/// Returns the path as tokio takes it: an abstract name comes after a zero.
fn path_of(address: &Address) -> Option<PathBuf> {
    let Transport::Unix(unix) = address.transport() else { return None };
    match unix.path() {
        UnixSocket::File(path) => Some(path.clone()),
        UnixSocket::Abstract(name) => {
            let mut path = OsString::from("\0");
            path.push(name);
            Some(path.into())
        }
        // A directory is for a server to make its socket in. The enum may grow.
        UnixSocket::Dir(_) | UnixSocket::TmpDir(_) | _ => None,
    }
}

/// Asks a peer that serves on a socket of its own, with no bus between.
pub(crate) fn peer(stream: UnixStream, takes: Takes) -> Builder<'static> {
    Builder::socket(Stream::new(stream, Peer::Server, takes)).p2p()
}

/// Asks systemd on its own socket, of the host whose paths begin with `root`.
pub(crate) async fn systemd(root: &Path, takes: Takes) -> zbus::Result<Builder<'static>> {
    let stream = UnixStream::connect(root.join("run/systemd/private")).await?;
    Ok(Builder::socket(Stream::new(stream, Peer::Systemd, takes)).p2p())
}

/// Serves a peer whose handshake is over; `begun` is what was already read of
/// its first message, and `guid` names this server.
pub(crate) fn served(
    stream: UnixStream,
    begun: Vec<u8>,
    guid: Guid<'static>,
    takes: Takes,
) -> Builder<'static> {
    let stream = Stream::new(stream, Peer::Client { begun }, takes);
    Builder::authenticated_socket(stream, guid).p2p()
}

#[cfg(test)]
mod tests;

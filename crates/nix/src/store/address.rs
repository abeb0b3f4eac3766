//! Where the store's daemon is: a socket, or a program to run.

use std::path::{Path, PathBuf};

use crate::Nix;

/// Where the system's daemon listens, unless the store says otherwise.
const SOCKET: &str = "/nix/var/nix/daemon-socket/socket";

/// Address of a process that speaks the protocol for a store.
pub(super) enum Address {
    /// A daemon that listens.
    Socket(PathBuf),
    /// The system's daemon if it listens; otherwise one that we run, which
    /// then finds the store by itself.
    SocketOr(PathBuf, Nix),
    /// A daemon of our own, on its pipes.
    Pipes(Nix),
}

impl Address {
    /// Whether a daemon listens already: to ask it costs next to nothing.
    pub(super) fn listens(&self) -> bool {
        match self {
            Self::Socket(_) => true,
            Self::SocketOr(socket, _) => socket.exists(),
            Self::Pipes(_) => false,
        }
    }

    pub(super) fn of(nix: &Nix) -> Self {
        match socket_of(nix.store()) {
            Some(socket) => Self::Socket(socket),
            None if nix.store() == "auto" => Self::SocketOr(SOCKET.into(), nix.clone()),
            None => Self::Pipes(nix.clone()),
        }
    }
}

/// Whether a daemon serves a store, named as `--store` takes it, for users that
/// could not write it. `auto` is served by the system's, where there is one.
pub fn has_daemon(store: &str) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    match socket_of(store) {
        Some(_) => true,
        None if store == "auto" => {
            std::fs::metadata(SOCKET).is_ok_and(|found| found.file_type().is_socket())
        }
        None => false,
    }
}

/// The socket that `--store` or NIX_REMOTE name: `daemon`, `unix://PATH`.
fn socket_of(store: &str) -> Option<PathBuf> {
    let base = store.split_once('?').map_or(store, |(base, _)| base);
    match (base, base.strip_prefix("unix://")) {
        ("daemon", _) | (_, Some("")) => Some(SOCKET.into()),
        (_, Some(path)) if Path::new(path).is_absolute() => Some(path.into()),
        (_, Some(_) | None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_read_from_every_way_to_write_a_store() {
        for (store, socket) in [
            ("daemon", Some(SOCKET)),
            ("unix://", Some(SOCKET)),
            ("unix://?root=/x", Some(SOCKET)),
            ("unix:///run/nix.sock", Some("/run/nix.sock")),
            ("unix:///run/nix.sock?root=/x", Some("/run/nix.sock")),
            ("auto", None),
            ("local", None),
            ("local?root=/x", None),
            ("/x", None),
            ("ssh-ng://host", None),
        ] {
            assert_eq!(socket_of(store).as_deref(), socket.map(Path::new), "{store}");
        }
    }
}

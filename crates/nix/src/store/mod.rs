//! Asks the Nix store what it has and what it lacks, in the daemon's protocol:
//! what a path consists of and refers to, which paths are valid, what would
//! have to be built or fetched.
//!
//! It changes nothing in the store but what is kept from the garbage collector;
//! that is the `nix` command's (`nix/`).
//! Surprises: texts of errors differ between versions and are for people only;
//! a request that fails ends the connection, and the next one makes another.
//!
//! The protocol is Nix's `libstore/worker-protocol.hh` and `daemon.cc`, as
//! spoken from 2.8 to 2.34.

mod address;
mod connection;
mod handshake;
mod operations;
mod root;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::address::Address;
pub use self::address::has_daemon;
use self::connection::Connection;
use crate::Nix;
use fort_core::types::StorePath;

/// Time limit of requests that the store answers from its own database.
const QUICK: Duration = Duration::from_secs(60);
/// Time limit of requests about which the store asks the caches: each cache may use up
/// its own time-outs.
const ASKS_CACHES: Duration = Duration::from_secs(300);
/// Requests that are sent before their answers are read. What is sent fits the
/// buffers of a socket or a pipe: a daemon that waits for us to read its
/// answers can never make us wait for it to read our requests.
const BATCH: usize = 64;
/// A closure of more paths than this is not one of ours: a bound, not a real
/// number.
const MOST_PATHS: usize = 500_000;

/// The store that [`Nix`] is run against. Connects at the first question.
pub struct Store {
    address: Address,
    options: Vec<(String, String)>,
    /// Time limit of requests that the store answers from its own database.
    limit: Duration,
    connection: Option<Connection>,
}

/// Metadata that the store keeps about a valid path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathInfo {
    /// Derivation that the path was built from, if that is known.
    pub deriver: Option<StorePath>,
    /// Hash of the path's contents, packed.
    pub nar_hash: NarHash,
    /// The length of its contents in bytes, packed.
    pub nar_size: u64,
    /// Paths that this one refers to; often itself, too.
    pub references: BTreeSet<StorePath>,
    /// Whether it was built here.
    pub ultimate: bool,
    /// Signatures of the path, each as `KEY:SIGNATURE`.
    pub signatures: Vec<String>,
    /// Content address of the path, if it has one.
    pub content_address: Option<String>,
}

/// The SHA-256 of a path's contents, packed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NarHash([u8; 32]);

/// Request to the store: a path, or the outputs of a derivation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The store path itself.
    Path(StorePath),
    /// All outputs of a derivation.
    Outputs(StorePath),
}

/// Work that is left until all wanted paths are in the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Missing {
    /// Derivations that would be built.
    pub build: BTreeSet<StorePath>,
    /// Paths that would be fetched.
    pub fetch: BTreeSet<StorePath>,
    /// Paths that nobody knows how to get.
    pub unknown: BTreeSet<StorePath>,
    /// Bytes to download, packed and compressed.
    pub download_size: u64,
    /// Bytes that they become in the store, packed.
    pub nar_size: u64,
}

/// Closure of some paths: these and all that they refer to, directly or not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Closure {
    /// The paths that the store has.
    pub paths: BTreeMap<StorePath, PathInfo>,
    /// Paths that are referred to, or were asked for, and are not valid.
    pub missing: BTreeSet<StorePath>,
}

/// The store could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreFailed {
    /// Nobody answers at the socket.
    #[error("the Nix daemon at {socket} cannot be reached")]
    Unreachable {
        /// Path of the daemon's socket.
        socket: String,
        /// Error of the attempt to connect.
        source: std::io::Error,
    },
    /// `nix-daemon` cannot be run.
    #[error("the Nix daemon cannot be run")]
    CannotStart(#[from] fort_sys::command::CannotStart),
    /// The connection ended before the answer did.
    #[error("the Nix daemon went away{}", after_colon(said))]
    Gone {
        /// The end of what it said on stderr, where that is ours to read.
        said: String,
    },
    /// The answer did not come in time.
    #[error("the Nix daemon did not answer within {} s", limit.as_secs())]
    Late {
        /// Time limit that was exceeded.
        limit: Duration,
    },
    /// The daemon understood the request, and refused it.
    #[error("the Nix daemon refused: {said}")]
    Refused {
        /// Error message of the daemon, for people.
        said: String,
    },
    /// A link that was to keep something could not be made.
    #[error("{} cannot be made a link", link.display())]
    NoLink {
        /// Path at which the link was to be made.
        link: PathBuf,
        /// Error of the attempt to make it.
        source: std::io::Error,
    },
    /// The daemon sent something that the protocol does not allow, or more than is reasonable.
    #[error("the Nix daemon does not speak its protocol: {what}")]
    Malformed {
        /// Description of the malformed data.
        what: String,
    },
}

impl StoreFailed {
    fn malformed(what: impl Into<String>) -> Self {
        Self::Malformed { what: what.into() }
    }
}

/// Asks a question over the connection that is there, or else a new one.
///
/// The connection is kept only after a whole answer: whatever else happens to
/// a question, the other end may be in the middle of one. Where a kept one has
/// ended, the daemon was restarted since, and is asked anew: what is asked here
/// is the same when it is asked twice. (A macro, since futures of async closures are
/// not known to be `Send`.)
macro_rules! ask {
    ($store:ident, $limit:expr, |$connection:ident| $question:expr) => {{
        let asking = async {
            if let Some(mut kept) = $store.connection.take() {
                let $connection = &mut kept;
                match $question.await {
                    Ok(answer) => {
                        $store.connection = Some(kept);
                        return Ok(answer);
                    }
                    Err(StoreFailed::Gone { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            let mut new = Connection::open(&$store.address, &$store.options).await?;
            let $connection = &mut new;
            let answer = $question.await?;
            $store.connection = Some(new);
            Ok(answer)
        };
        within($limit, asking).await
    }};
}

impl Store {
    /// Returns the store that this Nix uses, not connected yet.
    pub fn of(nix: &Nix) -> Self {
        let (address, options) = (Address::of(nix), nix.options().to_vec());
        Self { address, options, limit: QUICK, connection: None }
    }

    /// Sets the time limit of every request but those for which the store asks its caches.
    pub fn with_limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Whether the store has a path.
    pub async fn is_valid(&mut self, path: &StorePath) -> Result<bool, StoreFailed> {
        ask!(self, self.limit, |connection| connection.is_valid(path))
    }

    /// Keeps a path, and all that it refers to, from the garbage collector for
    /// as long as this is connected.
    pub async fn keep(&mut self, path: &StorePath) -> Result<(), StoreFailed> {
        ask!(self, self.limit, |connection| connection.add_temp_root(path))
    }

    /// Keeps a path as [`Store::keep`] does, if the store has it: whether it does.
    /// One that was collected before that is not there any more.
    pub async fn hold(&mut self, path: &StorePath) -> Result<bool, StoreFailed> {
        // Over one connection: what is kept is kept by that.
        ask!(self, self.limit, |connection| connection.hold(path))
    }

    /// Whether a daemon listens for questions, and none has to be started for them.
    pub fn listens(&self) -> bool {
        self.address.listens()
    }

    /// Makes `link` a root of a path that is in the store, whatever it was a
    /// root of before: for as long as the link is there. Its directory exists.
    pub async fn root(&mut self, link: &Path, path: &StorePath) -> Result<(), StoreFailed> {
        ask!(self, self.limit, |connection| root::make(connection, link, path))
    }

    /// The contents of a path, packed, as the store's daemon reads them: for
    /// what cannot be read otherwise.
    pub async fn nar(mut self, path: &StorePath, size: u64) -> Result<Nar, StoreFailed> {
        ask!(self, self.limit, |connection| connection.nar_from_path(path))?;
        let connection = self.connection.ok_or(StoreFailed::Gone { said: String::new() })?;
        Ok(Nar { connection, left: size, limit: self.limit })
    }

    /// Returns those of the given paths that the store has.
    pub async fn valid_paths(
        &mut self,
        paths: &BTreeSet<StorePath>,
    ) -> Result<BTreeSet<StorePath>, StoreFailed> {
        ask!(self, self.limit, |connection| connection.valid_paths(paths))
    }

    /// Returns the store's metadata of a path; `None` if the store does not have it.
    pub async fn path_info(&mut self, path: &StorePath) -> Result<Option<PathInfo>, StoreFailed> {
        Ok(self.path_infos(std::slice::from_ref(path)).await?.pop().flatten())
    }

    /// Returns what would have to be built or fetched. The store asks its caches first,
    /// and waits as long as they take to answer.
    pub async fn missing(&mut self, wanted: &[Wanted]) -> Result<Missing, StoreFailed> {
        ask!(self, ASKS_CACHES, |connection| connection.missing(wanted))
    }

    /// Everything that these paths refer to, directly or not.
    pub async fn closure(&mut self, of: &[StorePath]) -> Result<Closure, StoreFailed> {
        let mut closure = Closure::default();
        let mut known: BTreeSet<StorePath> = of.iter().cloned().collect();
        let mut next: Vec<StorePath> = known.iter().cloned().collect();
        while !next.is_empty() {
            if known.len() > MOST_PATHS {
                return Err(StoreFailed::malformed("a closure without end"));
            }
            let batch = next.split_off(next.len().saturating_sub(BATCH));
            let infos = self.path_infos(&batch).await?;
            for (path, info) in batch.into_iter().zip(infos) {
                let Some(info) = info else {
                    closure.missing.insert(path);
                    continue;
                };
                for reference in &info.references {
                    if known.insert(reference.clone()) {
                        next.push(reference.clone());
                    }
                }
                closure.paths.insert(path, info);
            }
        }
        Ok(closure)
    }

    /// Returns the metadata of at most [`BATCH`] paths, in their order.
    async fn path_infos(
        &mut self,
        paths: &[StorePath],
    ) -> Result<Vec<Option<PathInfo>>, StoreFailed> {
        ask!(self, self.limit, |connection| connection.path_infos(paths))
    }
}

/// The contents of a path, as they come.
pub struct Nar {
    connection: Connection,
    left: u64,
    limit: Duration,
}

impl Nar {
    /// The next of it, at most as much as fits; 0 at its end.
    pub async fn read(&mut self, buffer: &mut [u8]) -> Result<usize, StoreFailed> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let read = within(self.limit, self.connection.reader.some(&mut buffer[..most])).await?;
        self.left -= read as u64;
        Ok(read)
    }
}

async fn within<T>(
    limit: Duration,
    asking: impl Future<Output = Result<T, StoreFailed>>,
) -> Result<T, StoreFailed> {
    let late = |_| StoreFailed::Late { limit };
    tokio::time::timeout(limit, asking).await.map_err(late)?
}

impl NarHash {
    /// From 64 hexadecimal digits, as the daemon writes it.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// Returns the hash as its 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// In hexadecimal, as `nix-hash --flat --type sha256` prints it.
impl fmt::Display for NarHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NarHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn after_colon(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_64_digits_and_nothing_else() {
        let text = "0123456789abcdef".repeat(4);
        assert_eq!(NarHash::from_hex(&text).unwrap().to_string(), text);
        assert_eq!(NarHash::from_hex(&text[1..]), None);
        assert_eq!(NarHash::from_hex(&text.replace('a', "+")), None);
        assert_eq!(NarHash::from_hex(&format!("sha256:{text}")), None);
    }
}

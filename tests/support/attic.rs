//! An Attic server, as faithful as it was seen to be: its checks and what it
//! does not check, its tokens, its signatures, the words of its errors. It
//! can be told to misbehave, and it tells what it saw.
//!
//! It runs in threads of its own, so that any test can use it; dropping it
//! ends them. It keeps everything in a directory, and what one server kept the
//! next one in the same directory has. Beside the caches of Attic it has a
//! plain one, for `nix copy` to be measured against.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use self::fault::Plan;
use self::refusal::Refusal;
use self::seen::Seen;
use self::storage::{Cache, Object, Storage};
use self::token::Permission;
use super::forge::certify;

mod api;
mod body;
mod fault;
mod key;
mod names;
mod plain;
mod refusal;
mod seen;
mod serve;
mod storage;
mod substituter;
mod token;
mod upload;
mod zstd;

pub(crate) use self::fault::Fault;
#[allow(unused_imports, reason = "the tests, the bench and the demo take what they need")]
pub(crate) use self::seen::{Counts, Kind, Outcome, Upload};
pub(crate) use self::token::Claims;

/// The cache that a new server has: private, and not filtered by any upstream.
pub(crate) const CACHE: &str = "fort";

type Tls = Arc<tokio_rustls::rustls::ServerConfig>;

/// Attic server that runs in this process.
pub(crate) struct Attic {
    address: SocketAddr,
    name: String,
    dir: PathBuf,
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
    _temporary: Option<tempfile::TempDir>,
}

struct Shared {
    scheme: &'static str,
    storage: Storage,
    secret: Vec<u8>,
    plan: Mutex<Plan>,
    seen: Seen,
    life: watch::Sender<Life>,
}

/// A connection lives as long as the generation it was made in.
#[derive(Clone)]
struct Life {
    phase: Phase,
    generation: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Listening,
    Refusing,
    Over,
}

/// A request, and who asks.
struct Asked<'a> {
    shared: &'a Arc<Shared>,
    claims: Option<Claims>,
    fault: Fault,
}

impl Attic {
    /// In a temporary directory, over plain HTTP.
    pub(crate) fn start() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let mut attic = Self::start_in(temporary.path());
        attic._temporary = Some(temporary);
        attic
    }

    /// The same over HTTPS, with a CA of its own.
    pub(crate) fn start_tls() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let mut attic = Self::start_at(temporary.path(), "127.0.0.1", "127.0.0.1:0", true);
        attic._temporary = Some(temporary);
        attic
    }

    /// In a directory of the caller's, which keeps what it holds.
    pub(crate) fn start_in(dir: &Path) -> Self {
        Self::start_at(dir, "127.0.0.1", "127.0.0.1:0", false)
    }

    /// The same for others than this machine: by its name for them, on an
    /// address that they reach.
    pub(crate) fn start_at(dir: &Path, name: &str, address: &str, tls: bool) -> Self {
        let storage = Storage::open(dir);
        let tls = tls.then(|| certify(&dir.join("ca.pem"), name));
        let shared = Arc::new(Shared {
            scheme: if tls.is_some() { "https" } else { "http" },
            secret: storage.secret(),
            storage,
            plan: Mutex::new(Plan::new(Fault::None, None)),
            seen: Seen::default(),
            life: watch::Sender::new(Life { phase: Phase::Listening, generation: 0 }),
        });
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let for_thread = shared.clone();
        let thread = std::thread::spawn(move || {
            serve::listen(listener, address, tls.as_ref(), &for_thread);
        });
        let name = name.to_owned();
        let dir = dir.to_owned();
        let attic = Self { address, name, dir, shared, thread: Some(thread), _temporary: None };
        if attic.shared.storage.cache(CACHE).is_none() {
            attic.create_cache(CACHE, false, &[]);
        }
        attic
    }

    /// Where it is: what `[cache] endpoint` says.
    pub(crate) fn endpoint(&self) -> String {
        format!("{}://{}:{}", self.shared.scheme, self.name, self.address.port())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where Nix finds [`CACHE`].
    pub(crate) fn substituter(&self) -> String {
        format!("{}/{CACHE}", self.endpoint())
    }

    /// Where the plain cache is, which takes PUTs.
    pub(crate) fn plain(&self) -> String {
        format!("{}/_plain", self.endpoint())
    }

    /// Of a server over HTTPS.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// Public key by which Nix trusts [`CACHE`]: `name:base64`.
    pub(crate) fn public_key(&self) -> String {
        key::public(CACHE, &self.shared.storage.cache(CACHE).unwrap())
    }

    /// One more cache, as if its owner had made it.
    pub(crate) fn create_cache(&self, name: &str, is_public: bool, upstream_keys: &[&str]) {
        let cache = Cache {
            seed: storage::random(),
            is_public,
            store_dir: "/nix/store".into(),
            priority: 41,
            upstream_cache_key_names: upstream_keys.iter().map(|key| (*key).into()).collect(),
            key_name: None,
            retention: None,
        };
        self.shared.storage.set_cache(name, cache);
    }

    /// From now on [`CACHE`] is public, or private.
    pub(crate) fn set_public(&self, is_public: bool) {
        let cache = self.shared.storage.cache(CACHE).unwrap();
        self.shared.storage.set_cache(CACHE, Cache { is_public, ..cache });
    }

    /// From now on these keys count as upstream's for [`CACHE`].
    pub(crate) fn set_upstream_keys(&self, keys: &[&str]) {
        let upstream_cache_key_names = keys.iter().map(|key| (*key).into()).collect();
        let cache = self.shared.storage.cache(CACHE).unwrap();
        self.shared.storage.set_cache(CACHE, Cache { upstream_cache_key_names, ..cache });
    }

    /// A token for [`CACHE`] with these bits, good for an hour.
    pub(crate) fn token(&self, bits: &[&str]) -> String {
        self.sign(&Claims::new(CACHE, bits))
    }

    /// The token of an agent.
    pub(crate) fn token_rw(&self) -> String {
        self.token(&["r", "w"])
    }

    /// Any other token: expired, not good yet, for other caches.
    pub(crate) fn sign(&self, claims: &Claims) -> String {
        claims.sign(&self.shared.secret)
    }

    /// Has these store paths in [`CACHE`] from now on, without contents.
    pub(crate) fn pretend(&self, store_paths: &[&str]) {
        for store_path in store_paths {
            let (_, base_name) = store_path.rsplit_once('/').unwrap();
            let object = Object {
                store_path_hash: base_name[..32].to_owned(),
                store_path: (*store_path).to_owned(),
                references: Vec::new(),
                deriver: None,
                ca: None,
                nar_hash: "0".repeat(64),
                nar_size: 0,
            };
            self.shared.storage.set_object(CACHE, object);
        }
    }

    /// Loses the contents of a store path, which stays "present".
    pub(crate) fn lose(&self, store_path: &str) {
        let objects = self.shared.storage.objects(CACHE);
        let lost = objects.iter().find(|object| object.store_path == store_path).unwrap();
        self.shared.storage.lose_nar(&lost.nar_hash);
    }
}

impl Drop for Attic {
    fn drop(&mut self) {
        self.shared.life.send_modify(|life| {
            life.phase = Phase::Over;
            life.generation += 1;
        });
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Ends every connection and listens no more.
    fn refuse(&self) {
        self.life.send_modify(|life| {
            life.phase = Phase::Refusing;
            life.generation += 1;
        });
    }
}

impl Asked<'_> {
    /// By the token alone.
    fn permission(&self, cache: &str) -> Permission {
        self.claims.as_ref().map(|claims| claims.permission(cache)).unwrap_or_default()
    }

    /// The cache, if it may be used so.
    fn allowed(&self, name: &str, bit: &str) -> Result<Cache, Refusal> {
        let permission = self.permission(name);
        let Some(cache) = self.shared.storage.cache(name) else {
            return Err(permission.unknown());
        };
        permission.with_public(cache.is_public).require(bit)?;
        Ok(cache)
    }
}

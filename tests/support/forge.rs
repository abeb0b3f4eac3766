//! A small forge: git's own `http-backend` behind HTTPS with a private CA and
//! basic auth, on loopback. It can be told to misbehave, and it counts.
//!
//! It runs in a thread of its own, so that any test can use it; dropping it
//! ends it and everything it started.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use fort_agent::git::Remote;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::work::{Work, git};

mod cgi;
mod serve;

/// The token that a new forge accepts.
pub(crate) const TOKEN: &str = "s3cr3t-t0ken";

/// How the forge misbehaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The forge does not misbehave.
    None,
    /// Answers have this status, and a page that says so.
    Status(u16),
    /// A web page, with 200.
    Html,
    /// A line of its own in git's protocol, instead of what was asked.
    Says(String),
    /// Connections are reset as soon as something was sent on them.
    Reset,
    /// Requests are read and never answered.
    Hang,
    /// Answers come at one byte in 100 ms.
    Drip,
    /// Nobody listens at the forge's address.
    Refused,
    /// Every request is redirected below this address.
    Redirect(String),
    /// Packs end in the middle, the answer as a whole is well-formed.
    TruncatedPack,
    /// A byte in the middle of each pack is another one.
    CorruptedPack,
    /// The connection ends in the middle of a pack.
    CutPack,
    /// Nothing comes after the first half of a pack.
    HangInPack,
    /// Lists of branches have no end.
    EndlessRefs,
}

/// Counts of what a forge saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) connections: u64,
    pub(crate) requests: u64,
    /// Requests that carried any Authorization.
    pub(crate) authorized: u64,
    /// HTTP as sent and received by clients, headers included, TLS not.
    pub(crate) received: u64,
    pub(crate) sent: u64,
    /// Answers that a fault is holding up.
    pub(crate) held: u64,
}

/// When something was first seen; [`Forge::look_for`] says what.
#[derive(Clone, Debug, Default)]
pub(crate) struct Moments {
    text: Vec<u8>,
    /// A request came, whatever it was.
    pub(crate) asked: Option<SystemTime>,
    /// An answer that has the text in it left.
    pub(crate) told: Option<SystemTime>,
}

#[derive(Default)]
struct Counters {
    connections: AtomicU64,
    requests: AtomicU64,
    authorized: AtomicU64,
    received: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
    held: AtomicU64,
}

struct Shared {
    projects: PathBuf,
    fault: watch::Sender<Fault>,
    tokens: Mutex<HashSet<String>>,
    counters: Counters,
    moments: Mutex<Moments>,
    /// Set, if nothing changes any more.
    answers: OnceLock<cgi::Answers>,
    /// Goes up to drop every connection.
    generation: watch::Sender<u64>,
}

/// Git forge that runs over HTTPS in this process.
pub(crate) struct Forge {
    address: SocketAddr,
    name: String,
    dir: PathBuf,
    shared: Arc<Shared>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    _temporary: Option<tempfile::TempDir>,
}

/// A repository on the forge, and a work tree that pushes to it.
pub(crate) struct Repo {
    pub(crate) url: String,
    pub(crate) bare: PathBuf,
    pub(crate) work: Work,
}

impl Forge {
    /// In a temporary directory.
    pub(crate) fn start() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let mut forge = Self::start_in(temporary.path());
        forge._temporary = Some(temporary);
        forge
    }

    /// In a directory of the caller's.
    pub(crate) fn start_in(dir: &Path) -> Self {
        Self::start_at(dir, "127.0.0.1", "127.0.0.1:0")
    }

    /// The same for others than this machine: by its name for them, on an
    /// address that they reach.
    pub(crate) fn start_at(dir: &Path, name: &str, address: &str) -> Self {
        let projects = dir.join("projects");
        std::fs::create_dir_all(&projects).unwrap();
        let tls = certify(&dir.join("ca.pem"), name);
        std::fs::write(dir.join("token"), format!("{TOKEN}\n")).unwrap();
        let shared = Arc::new(Shared {
            projects,
            fault: watch::Sender::new(Fault::None),
            tokens: Mutex::new([TOKEN.to_owned()].into()),
            counters: Counters::default(),
            moments: Mutex::default(),
            answers: OnceLock::new(),
            generation: watch::Sender::new(0),
        });
        let listener = std::net::TcpListener::bind(address).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let for_thread = shared.clone();
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    () = serve::listen(listener, address, tls, for_thread) => {}
                    _ = stopped => {}
                }
            });
        });
        Self {
            address,
            name: name.to_owned(),
            dir: dir.to_owned(),
            shared,
            stop: Some(stop),
            thread: Some(thread),
            _temporary: None,
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}:{}", self.name, self.address.port())
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// Path of the file that holds [`TOKEN`].
    pub(crate) fn token_file(&self) -> PathBuf {
        self.dir.join("token")
    }

    /// From now on only this token is accepted.
    pub(crate) fn accept_token(&self, token: &str) {
        *self.shared.tokens.lock().unwrap() = [token.to_owned()].into();
    }

    /// A new, empty repository.
    pub(crate) fn repo(&self, name: &str) -> Repo {
        let bare = self.shared.projects.join(format!("{name}.git"));
        git(&self.dir, 0, &["init", "--quiet", "--bare", "-b", "main", bare.to_str().unwrap()]);
        git(&bare, 0, &["config", "http.receivepack", "true"]);
        git(&bare, 0, &["config", "gc.auto", "0"]);
        let work = Work::create(&self.dir.join("work").join(name), &bare);
        Repo { url: format!("{}/{name}.git", self.url()), bare, work }
    }

    /// How an agent is told of a repository here.
    pub(crate) fn remote(&self, repo: &Repo) -> Remote {
        Remote {
            name: "origin".into(),
            url: repo.url.clone(),
            username: "fort-agent".into(),
            token_file: Some(self.token_file()),
            ca_file: Some(self.ca_file()),
            ssh_key_file: None,
            known_hosts: None,
            timeout: Duration::from_secs(10),
        }
    }

    /// Nothing is pushed any more: the same question has the same answer, and
    /// git need not be run for it. For those who ask a hundred thousand times.
    pub(crate) fn settle(&self) {
        self.shared.answers.get_or_init(cgi::Answers::default);
    }

    /// Misbehave from now on, kept connections included. Returns when the
    /// port is in the state asked for.
    pub(crate) fn fault(&self, fault: Fault) {
        let refused = fault == Fault::Refused;
        let was_refused = *self.shared.fault.borrow() == Fault::Refused;
        self.shared.fault.send_replace(fault);
        if refused || was_refused {
            self.disconnect();
            wait_for("the port to open or close", || {
                std::net::TcpStream::connect(self.address).is_err() == refused
            });
        }
    }

    /// Drops every connection to the forge.
    pub(crate) fn disconnect(&self) {
        self.shared.generation.send_modify(|g| *g += 1);
    }

    /// From now on: notes the first request, and the first answer with this.
    pub(crate) fn look_for(&self, text: &str) {
        *self.shared.moments.lock().unwrap() = Moments { text: text.into(), ..Moments::default() };
    }

    pub(crate) fn moments(&self) -> Moments {
        self.shared.moments.lock().unwrap().clone()
    }

    pub(crate) fn counts(&self) -> Counts {
        let c = &self.shared.counters;
        let read = |n: &AtomicU64| n.load(Ordering::SeqCst);
        Counts {
            connections: read(&c.connections),
            requests: read(&c.requests),
            authorized: read(&c.authorized),
            received: read(&c.received),
            sent: read(&c.sent),
            held: read(&c.held),
        }
    }
}

impl Drop for Forge {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits, for at most twenty seconds.
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "waited in vain for {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Makes a CA, writes its certificate, and returns a server's configuration.
pub(super) fn certify(ca_file: &Path, name: &str) -> Arc<tokio_rustls::rustls::ServerConfig> {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    // Two CAs of one name would be taken for each other, up to the signature.
    let id = format!("test forge CA {:x?}", &ca_key.public_key_raw()[1..9]);
    ca.distinguished_name.push(DnType::CommonName, id);
    std::fs::write(ca_file, ca.self_signed(&ca_key).unwrap().pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec![name.to_owned(), "127.0.0.1".to_owned(), "localhost".to_owned()];
    let certificate = CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, &Issuer::from_params(&ca, &ca_key))
        .unwrap();
    let ring = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = tokio_rustls::rustls::ServerConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            tokio_rustls::rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .unwrap();
    Arc::new(config)
}

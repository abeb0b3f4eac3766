//! The agent's own client of the store, with the real Nix at the other end.

use std::collections::BTreeSet;
use std::future::Future;
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use fort_agent::core::types::StorePath;
use fort_agent::nix::{Nix, roots};
use fort_agent::store::{Missing, Store, StoreFailed, Wanted};

use crate::support::nix::{ScratchStore, processes_with};
use crate::support::rig::signal;
use crate::support::system::{Host, Repository};

/// A scratch store and a host that can be built in it.
pub(crate) struct Shelf {
    pub(crate) store: ScratchStore,
    repository: Repository,
}

/// Derivation and system of a host that was built.
pub(crate) struct Built {
    pub(crate) drv: StorePath,
    pub(crate) system: StorePath,
}

impl Shelf {
    pub(crate) fn of(host: &Host) -> Self {
        let store = ScratchStore::new();
        let repository = Repository::create(store.dir().join("repository"));
        repository.host("joker", host);
        Self { store, repository }
    }

    fn attribute(&self) -> String {
        let dir = self.repository.dir().display();
        format!("path:{dir}#nixosConfigurations.joker.config.system.build.toplevel")
    }

    /// Evaluates it, and builds nothing.
    fn evaluate(&self) -> Built {
        let apply = ["--apply", "d: [ d.drvPath d.outPath ]"];
        let json =
            self.store.run("nix", &[&["eval", "--json", &self.attribute()], &apply[..]].concat());
        let [drv, system]: [StorePath; 2] = serde_json::from_str(&json).unwrap();
        Built { drv, system }
    }

    pub(crate) fn build(&self) -> Built {
        let built = self.evaluate();
        self.store.run("nix", &["build", "--no-link", &self.attribute()]);
        built
    }

    pub(crate) fn described_as(&self, host: &Host) -> &Self {
        self.repository.host("joker", host);
        self
    }
}

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn paths(lines: &str) -> BTreeSet<StorePath> {
    lines.lines().map(|line| line.parse().unwrap()).collect()
}

fn with_parts() -> Host {
    Host { parts: 3, ..Host::new("one") }
}

/// Every question, answered as Nix's own programs answer it.
fn answers_as_nix_does(shelf: &Shelf, nix: &Nix) {
    let Built { drv, system } = shelf.build();
    let nowhere: StorePath = system.as_str().replace("-system", "-nothing").parse().unwrap();
    let mut store = Store::of(nix);
    block(async {
        let info = store.path_info(&system).await.unwrap().expect("it was built");
        let query = |what: &str| shelf.store.run("nix-store", &["--query", what, system.as_str()]);
        assert_eq!(info.deriver, Some(drv.clone()));
        assert_eq!(info.references, paths(&query("--references")));
        assert_eq!(info.nar_size.to_string(), query("--size"));
        assert!(info.ultimate && info.signatures.is_empty() && info.content_address.is_none());
        let hash = ["--type", "sha256", &info.nar_hash.to_string(), "--to-base32"];
        let hash = shelf.store.run("nix-hash", &hash);
        assert_eq!(format!("sha256:{hash}"), query("--hash"));
        // Added, not built: with a content address.
        let source = info.references.iter().find(|path| path.as_str().ends_with("-tools")).unwrap();
        let source = store.path_info(source).await.unwrap().unwrap();
        assert!(source.content_address.unwrap().starts_with("fixed:r:sha256:"));
        assert_eq!(source.deriver, None);

        assert_eq!(store.path_info(&nowhere).await.unwrap(), None);
        assert!(store.is_valid(&system).await.unwrap());
        assert!(!store.is_valid(&nowhere).await.unwrap());
        let both = BTreeSet::from([system.clone(), nowhere.clone()]);
        assert_eq!(store.valid_paths(&both).await.unwrap(), BTreeSet::from([system.clone()]));

        let closure = store.closure(&[drv.clone(), nowhere.clone()]).await.unwrap();
        let known = shelf.store.run("nix-store", &["--query", "--requisites", drv.as_str()]);
        assert_eq!(closure.paths.keys().cloned().collect::<BTreeSet<_>>(), paths(&known));
        assert_eq!(closure.missing, BTreeSet::from([nowhere.clone()]));

        let wanted = [Wanted::Outputs(drv), Wanted::Path(system.clone())];
        assert_eq!(store.missing(&wanted).await.unwrap(), Missing::default());
        let missing = store.missing(&[Wanted::Path(nowhere.clone())]).await.unwrap();
        assert_eq!(missing.unknown, BTreeSet::from([nowhere]));
    });
}

#[test]
fn over_pipes_it_answers_as_nix_does() {
    let shelf = Shelf::of(&with_parts());
    answers_as_nix_does(&shelf, &shelf.store.nix());
}

#[test]
fn over_the_socket_it_answers_as_nix_does() {
    let shelf = Shelf::of(&with_parts());
    let daemon = shelf.store.daemon();
    answers_as_nix_does(&shelf, &daemon.nix());
}

#[test]
fn what_would_be_built_is_told_before_it_is() {
    let shelf = Shelf::of(&with_parts());
    let Built { drv, .. } = shelf.evaluate();
    let mut store = Store::of(&shelf.store.nix());
    let missing = block(store.missing(&[Wanted::Outputs(drv.clone())])).unwrap();
    assert!(missing.build.contains(&drv));
    assert_eq!((missing.build.len(), missing.fetch.len(), missing.nar_size), (4, 0, 0));
    assert!(missing.unknown.is_empty());
}

#[test]
fn what_would_be_fetched_is_told_with_its_size() {
    let (shelf, built, nix) = elsewhere();
    let mut store = Store::of(&nix);
    let missing = block(store.missing(&[Wanted::Path(built.system.clone())])).unwrap();
    let closure = block(Store::of(&shelf.store.nix()).closure(&[built.system])).unwrap();
    assert_eq!(missing.fetch, closure.paths.keys().cloned().collect());
    assert_eq!(missing.nar_size, closure.paths.values().map(|info| info.nar_size).sum::<u64>());
    assert!(missing.download_size > 0 && missing.build.is_empty());
}

/// A system in a binary cache, and an empty store that reads from it by what
/// it is told in its options alone.
fn elsewhere() -> (Shelf, Built, Nix) {
    let shelf = Shelf::of(&with_parts());
    let built = shelf.build();
    let options = shelf.store.cache_of(&shelf.store.nix(), built.system.as_str());
    let options = options.each_ref().map(|(name, value)| (*name, value.as_str()));
    let root = shelf.store.dir().join("elsewhere");
    let nix = shelf.store.nix_with(format!("local?root={}", root.display()), &options);
    (shelf, built, nix)
}

#[test]
fn a_large_closure_is_asked_for_in_batches() {
    let shelf = Shelf::of(&Host { parts: 150, ..Host::new("one") });
    let Built { drv, .. } = shelf.evaluate();
    let known = shelf.store.run("nix-store", &["--query", "--requisites", drv.as_str()]);
    let closure = block(Store::of(&shelf.store.nix()).closure(&[drv])).unwrap();
    assert!(closure.paths.len() > 150);
    assert_eq!(closure.paths.keys().cloned().collect::<BTreeSet<_>>(), paths(&known));
}

#[test]
fn a_daemon_that_died_is_named_and_one_that_is_back_is_asked_again() {
    let shelf = Shelf::of(&Host::new("one"));
    let Built { system, .. } = shelf.build();
    let daemon = shelf.store.daemon();
    let mark =
        format!("NIX_DAEMON_SOCKET_PATH={}", shelf.store.dir().join("daemon-socket").display());
    let mut store = Store::of(&daemon.nix());
    block(async {
        assert!(store.is_valid(&system).await.unwrap());
        drop(daemon);
        // Its children serve the connections that they have.
        let children = processes_with(&mark);
        assert!(!children.is_empty());
        children.into_iter().for_each(|pid| signal(pid, "KILL"));
        let error = store.is_valid(&system).await.unwrap_err();
        assert!(matches!(error, StoreFailed::Unreachable { .. }), "{error:?}");
        let socket = shelf.store.dir().join("daemon-socket");
        let said = format!("the Nix daemon at {} cannot be reached", socket.display());
        assert_eq!(error.to_string(), said);

        let daemon = shelf.store.daemon();
        assert!(store.is_valid(&system).await.unwrap());
        // One that was restarted meanwhile is not even noticed.
        drop(daemon);
        processes_with(&mark).into_iter().for_each(|pid| signal(pid, "KILL"));
        let _daemon = shelf.store.daemon();
        assert!(store.is_valid(&system).await.unwrap());
    });
}

#[test]
fn a_store_that_cannot_be_opened_says_why() {
    let scratch = ScratchStore::new();
    let file = scratch.dir().join("file");
    std::fs::write(&file, "").unwrap();
    let nix = scratch.nix_on(format!("local?root={}", file.display()));
    let anything: StorePath = format!("/nix/store/{}-a", "0".repeat(32)).parse().unwrap();
    let error = block(Store::of(&nix).is_valid(&anything)).unwrap_err().to_string();
    // Nix's own words name what is wrong.
    assert!(error.starts_with("the Nix daemon went away: "), "{error}");
    assert!(error.contains(file.to_str().unwrap()), "{error}");
}

#[test]
fn a_refusal_is_in_the_daemons_words_and_the_next_question_is_answered() {
    let shelf = Shelf::of(&Host::new("one"));
    let Built { drv, .. } = shelf.evaluate();
    std::fs::write(shelf.store.root().physical(&drv), "no derivation").unwrap();
    let mut store = Store::of(&shelf.store.nix());
    let error = block(async {
        let error = store.missing(&[Wanted::Outputs(drv.clone())]).await.unwrap_err();
        assert!(store.is_valid(&drv).await.unwrap());
        error
    });
    let StoreFailed::Refused { said } = error else { panic!("{error:?}") };
    assert!(!said.is_empty() && !said.contains('\u{1b}'), "{said}");
}

/// Something that is no daemon, at a socket.
fn impostor(scratch: &ScratchStore, says: Vec<u8>) -> Nix {
    let socket = scratch.dir().join("socket");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let says = says.clone();
            std::thread::spawn(move || {
                let _ = stream.write_all(&says);
                let _ = stream.read_to_end(&mut Vec::new());
            });
        }
    });
    scratch.nix_on(format!("unix://{}", socket.display()))
}

fn greeting() -> Vec<u8> {
    let numbers = [0x6478_696f_u64, 1 << 8 | 35];
    let mut said: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    said.extend(6_u64.to_le_bytes());
    said.extend(b"2.26.3\0\0");
    // It trusts us, and has no more to say.
    said.extend([1_u64, 0x616c_7473].iter().flat_map(|number| number.to_le_bytes()));
    said
}

fn asked_an_impostor(says: Vec<u8>) -> StoreFailed {
    let scratch = ScratchStore::new();
    let nix = impostor(&scratch, says);
    let anything: StorePath = format!("/nix/store/{}-a", "0".repeat(32)).parse().unwrap();
    let mut store = Store::of(&nix).with_limit(Duration::from_millis(500));
    block(store.closure(&[anything])).unwrap_err()
}

#[test]
fn what_is_no_daemon_is_told_from_one() {
    let malformed = |says: &[u8]| {
        let error = asked_an_impostor(says.to_vec());
        let StoreFailed::Malformed { what } = error else { panic!("{error:?}") };
        what
    };
    assert!(malformed(b"HTTP/1.1 400 Bad Request\r\n\r\n").starts_with("it begins with"));
    let old = [&greeting()[..8], &(1_u64 << 8 | 20).to_le_bytes()].concat();
    assert_eq!(malformed(&old), "it speaks 1.20, not 1.34");
    // After the settings: an answer without end, and one of an unknown kind.
    let last = 0x616c_7473_u64.to_le_bytes();
    let endless = [&greeting()[..], &last, &last, &[1, 0, 0, 0, 0, 0, 0, 0], &[0xff; 8]].concat();
    assert!(malformed(&endless).contains("is the most"));
    let unknown = [&greeting()[..], &last, &[7; 8]].concat();
    assert_eq!(malformed(&unknown), "0x707070707070707 in an answer");
}

#[test]
fn a_daemon_that_says_nothing_is_not_waited_for_for_ever() {
    let began = Instant::now();
    for said in [Vec::new(), greeting()] {
        let error = asked_an_impostor(said);
        assert!(matches!(error, StoreFailed::Late { .. }), "{error:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(20));
}

/// Nothing of what is being read goes with the garbage, until we are gone.
fn keeps_for_as_long_as_it_is_connected(store: &ScratchStore, nix: &Nix) {
    let file = store.dir().join("kept");
    std::fs::write(&file, "kept").unwrap();
    let path: StorePath =
        store.run("nix-store", &["--add", file.to_str().unwrap()]).parse().unwrap();
    let mut asking = Store::of(nix);
    block(async {
        asking.keep(&path).await.unwrap();
        store.run("nix-store", &["--gc"]);
        assert!(asking.is_valid(&path).await.unwrap());
        drop(asking);
    });
    // Its daemon notices that we are gone in a moment of its own.
    let deadline = Instant::now() + Duration::from_secs(30);
    while store.has(&path) {
        assert!(Instant::now() < deadline, "{path} is kept for ever");
        store.run("nix-store", &["--gc"]);
    }
}

/// Checks that a root's target is kept, and collected once its link is changed or removed.
fn keeps_what_a_link_leads_to(store: &ScratchStore, nix: &Nix) {
    let add = |name: &str| -> StorePath {
        let file = store.dir().join(name);
        std::fs::write(&file, name).unwrap();
        store.run("nix-store", &["--add", file.to_str().unwrap()]).parse().unwrap()
    };
    let (one, two) = (add("one"), add("two"));
    let link = store.dir().join("root");
    let root = |path| block(Store::of(nix).root(&link, path));
    let collect = || store.run("nix-store", &["--gc"]);
    root(&one).unwrap();
    root(&two).unwrap();
    root(&one).unwrap();
    assert_eq!(roots::kept(&link).unwrap().as_ref(), Some(&one));
    // Whose own daemon is over; but a real one notices in a moment of its own.
    let deadline = Instant::now() + Duration::from_secs(30);
    while store.has(&two) {
        assert!(Instant::now() < deadline, "{two} is kept for ever");
        collect();
    }
    assert!(store.has(&one));
    // Nix itself knows it by its name.
    let known = store.run("nix-store", &["--query", "--roots", one.as_str()]);
    assert!(known.contains(link.to_str().unwrap()), "{known}");
    // What is gone cannot be kept, and the link is left as it was.
    let error = root(&two).unwrap_err();
    assert!(matches!(error, StoreFailed::Refused { .. }), "{error:?}");
    assert_eq!(roots::kept(&link).unwrap().as_ref(), Some(&one));
    roots::release(&link).unwrap();
    while store.has(&one) {
        assert!(Instant::now() < deadline, "{one} is kept for ever");
        collect();
    }
    root(&one).unwrap_err();
    assert_eq!(roots::kept(&link).unwrap(), None);
}

#[test]
fn over_the_socket_a_link_keeps_what_it_leads_to() {
    let store = ScratchStore::new();
    let daemon = store.daemon();
    keeps_what_a_link_leads_to(&store, &daemon.nix());
}

#[test]
fn over_pipes_a_link_keeps_what_it_leads_to() {
    let store = ScratchStore::new();
    keeps_what_a_link_leads_to(&store, &store.nix());
}

#[test]
fn over_the_socket_what_is_read_is_kept() {
    let store = ScratchStore::new();
    let daemon = store.daemon();
    keeps_for_as_long_as_it_is_connected(&store, &daemon.nix());
}

#[test]
fn over_pipes_what_is_read_is_kept() {
    let store = ScratchStore::new();
    keeps_for_as_long_as_it_is_connected(&store, &store.nix());
}

#[test]
fn questions_can_be_asked_beside_other_work() {
    fn beside(_: impl Future + Send) {}
    let scratch = ScratchStore::new();
    let mut store = Store::of(&scratch.nix());
    beside(async move { store.closure(&[]).await });
    assert!(Path::new(scratch.dir()).exists());
}

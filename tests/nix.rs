//! The agent's way to run Nix, on the real one.

use self::cancel::cancelled_while_building;
use std::future::{Future, pending};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use fort_agent::core::fault::Fault;
use fort_agent::core::types::{Commit, StorePath};
use fort_agent::nix::realise::{RealiseOutcome, RealiseSpec, RecipeKind, realise};
use fort_agent::nix::{Nix, Phase, Progress, Settings, profile, roots};
use fort_agent::store::Store;

mod faults;

use crate::support::nix::{ScratchStore, processes_with};
use crate::support::system::{Fetch, Host, Repository};

pub(crate) mod apart;
mod cancel;
mod failures;
mod locks;
mod unusable;

/// A repository, a scratch store, and what realises one from the other.
struct Bench {
    store: ScratchStore,
    repository: Repository,
}

impl Bench {
    fn new() -> Self {
        let store = ScratchStore::new();
        let repository = Repository::create(store.dir().join("repository"));
        Self { store, repository }
    }

    /// With one host committed.
    fn of(host: &Host) -> (Self, Commit) {
        let bench = Self::new();
        let commit = bench.repository.host("joker", host).commit("Describe joker");
        (bench, commit)
    }

    fn spec(&self, commit: Commit) -> RealiseSpec {
        let dir = self.store.dir();
        // With what may be in a path as it is, also for 2.8.
        let export = dir.join(format!("export+a=b/{commit}"));
        if !export.exists() {
            std::fs::create_dir_all(&export).unwrap();
            let tar = dir.join("export.tar");
            let output = format!("--output={}", tar.display());
            self.repository.git(&["archive", &output, &commit.to_string()]);
            let tar = Command::new("tar").arg("-xf").arg(&tar).arg("-C").arg(&export).status();
            assert!(tar.unwrap().success());
            // The time of a later commit, and of none.
            let touch = Command::new("touch").arg(export.join("flake.nix")).status();
            assert!(touch.unwrap().success());
        }
        let number = |arguments: &[&str]| self.repository.git(arguments).parse().unwrap();
        let revision = commit.to_string();
        RealiseSpec {
            commit,
            export,
            last_modified: number(&["log", "-1", "--format=%ct", &revision]),
            rev_count: number(&["rev-list", "--count", &revision]).unsigned_abs(),
            clone: self.clone_of_remote(),
            hostname: "joker".into(),
            kind: RecipeKind::Flake,
            file: "default.nix".into(),
            flake_dir: ".".into(),
            attribute: "nixosConfigurations.{hostname}.config.system.build.toplevel".into(),
            nix: self.store.nix(),
            evaluator: None,
            timeout: Duration::from_secs(120),
            out_link: dir.join("candidate"),
        }
    }

    /// As the agent's clones are: bare, and no branch of its own.
    fn clone_of_remote(&self) -> PathBuf {
        let clone = self.store.dir().join("clone.git");
        let dir = clone.to_str().unwrap();
        self.repository.git(&["init", "--quiet", "--bare", dir]);
        let here = self.repository.dir().to_str().unwrap();
        let refspec = "+refs/heads/*:refs/remotes/origin/*";
        self.repository.git(&["--git-dir", dir, "fetch", "--quiet", here, refspec]);
        clone
    }

    fn realise(&self, spec: &RealiseSpec) -> RealiseOutcome {
        block(realise(spec, None, |_| (), pending()))
    }

    /// Builds a commit of the repository with Nix alone. Returns the system and its derivation.
    fn built_by_nix(&self, commit: Commit) -> (StorePath, StorePath) {
        let url = format!(
            "git+file://{}?rev={commit}#nixosConfigurations.joker.config.system.build.toplevel",
            self.repository.dir().display()
        );
        let json = self.store.run("nix", &["build", "--json", "--no-link", &url]);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let path = |json: &serde_json::Value| json.as_str().unwrap().parse().unwrap();
        (path(&json[0]["outputs"]["out"]), path(&json[0]["drvPath"]))
    }

    fn system_file(&self, system: &StorePath, file: &str) -> String {
        let file = self.store.root().physical(system).join(file);
        std::fs::read_to_string(file).unwrap().trim().to_owned()
    }
}

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[track_caller]
fn built(outcome: RealiseOutcome) -> (StorePath, StorePath) {
    match outcome {
        RealiseOutcome::Built { system, drv } => (system, drv),
        other => panic!("not built: {other:#?}"),
    }
}

#[track_caller]
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_commit_becomes_a_rooted_system() {
    let (bench, commit) = Bench::of(&Host::new("one"));
    let spec = bench.spec(commit);
    let (system, _) = built(bench.realise(&spec));
    assert_eq!(bench.system_file(&system, "nixos-version"), "one");
    assert_eq!(roots::kept(&spec.out_link).unwrap(), Some(system));
    assert!(!spec.export.join("flake.lock").exists());
}

#[test]
fn it_is_the_system_that_nix_builds_from_the_repository() {
    let mut host = Host::new("one");
    host.knows_commit = true;
    let (bench, _) = Bench::of(&host);
    let commit = bench.repository.write("README", "second").commit("Document");
    let (system, drv) = built(bench.realise(&bench.spec(commit)));
    assert_eq!((system.clone(), drv), bench.built_by_nix(commit));
    let spec = bench.spec(commit);
    let known = format!("{commit} {} 2", spec.last_modified);
    assert_eq!(bench.system_file(&system, "etc/commit"), known);
}

#[test]
fn a_commit_that_changes_only_documents_is_the_same_system() {
    let (bench, commit) = Bench::of(&Host::new("one"));
    let first = built(bench.realise(&bench.spec(commit)));
    let commit = bench.repository.write("README", "words").commit("Document");
    assert_eq!(built(bench.realise(&bench.spec(commit))), first);
}

#[test]
fn a_flake_in_a_directory_reaches_the_rest_of_its_tree() {
    let bench = Bench::new();
    bench.repository.host("joker", &Host::new("one")).host_flake("joker").commit("Describe");
    let whole = bench.repository.commit("Nothing");
    let mut spec = bench.spec(whole);
    spec.flake_dir = "hosts/{hostname}".into();
    let (system, _) = built(bench.realise(&spec));
    assert_eq!(bench.system_file(&system, "nixos-version"), "one");
    // A commit that no branch of the clone has any more, and then another.
    bench.repository.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
    let other = bench.repository.host("joker", &Host::new("two")).commit("Other");
    let gone = spec.clone();
    spec = RealiseSpec { flake_dir: "./hosts/joker/".into(), ..bench.spec(other) };
    let (system, _) = built(bench.realise(&spec));
    assert_eq!(bench.system_file(&system, "nixos-version"), "two");
    built(bench.realise(&gone));
}

#[test]
fn a_tree_that_is_larger_than_what_nix_keeps_in_memory_is_built() {
    let bench = Bench::new();
    bench.repository.host("joker", &Host::new("one")).write("large", &"\0".repeat(40 << 20));
    let commit = bench.repository.commit("Describe joker, at length");
    let (system, _) = built(bench.realise(&bench.spec(commit)));
    assert_eq!(bench.system_file(&system, "nixos-version"), "one");
}

#[test]
fn a_file_without_a_flake_is_built() {
    let (bench, commit) = Bench::of(&Host::new("one"));
    std::fs::remove_file(bench.spec(commit).export.join("flake.nix")).unwrap();
    let spec = RealiseSpec { kind: RecipeKind::File, ..bench.spec(commit) };
    let (system, _) = built(bench.realise(&spec));
    assert_eq!(bench.system_file(&system, "etc/commit"), "unknown");
    let missing = RealiseSpec { hostname: "batman".into(), ..spec };
    let RealiseOutcome::NoSuchHost { hosts, .. } = bench.realise(&missing) else { panic!() };
    assert_eq!(hosts, ["joker"]);
}

#[test]
fn a_file_finds_nothing_through_the_hosts_search_path() {
    let (bench, _) = Bench::of(&Host::new("one"));
    let commit = bench.repository.write("default.nix", "import <nixpkgs> { }").commit("Search");
    let spec = RealiseSpec { kind: RecipeKind::File, ..bench.spec(commit) };
    let outcome = bench.realise(&spec);
    let RealiseOutcome::EvaluationFailed { cause, .. } = outcome else { panic!("{outcome:?}") };
    assert!(cause.contains("nixpkgs"), "{cause}");
}

#[test]
fn through_a_daemon_it_is_the_same() {
    let mark = "daemon-build-5e21";
    let (bench, commit) = Bench::of(&Host::new("one"));
    let daemon = bench.store.daemon();
    let spec = RealiseSpec { nix: daemon.nix(), ..bench.spec(commit) };
    let (system, _) = built(bench.realise(&spec));
    assert_eq!(bench.system_file(&system, "nixos-version"), "one");
    bench.store.run("nix-store", &["--gc"]);
    assert!(bench.store.has(&system));

    let mut host = Host::new("two");
    host.build_fails = "out of luck".into();
    let commit = bench.repository.host("joker", &host).commit("Fail");
    let outcome = bench.realise(&RealiseSpec { nix: daemon.nix(), ..bench.spec(commit) });
    let RealiseOutcome::BuildFailed { cause, drv, .. } = outcome else { panic!("{outcome:?}") };
    assert!(cause.ends_with("out of luck") && drv.is_some(), "{cause}");

    host.evaluation_error = Some("no luck".into());
    let commit = bench.repository.host("joker", &host).commit("Throw");
    let outcome = bench.realise(&RealiseSpec { nix: daemon.nix(), ..bench.spec(commit) });
    assert!(matches!(outcome, RealiseOutcome::EvaluationFailed { .. }), "{outcome:?}");

    let host = Host { build_seconds: 300, mark: mark.into(), ..Host::new("slow") };
    let commit = bench.repository.host("joker", &host).commit("Slow");
    let spec = RealiseSpec { nix: daemon.nix(), ..bench.spec(commit) };
    assert_eq!(cancelled_while_building(&spec, mark), RealiseOutcome::Cancelled);
    // The daemon notices by itself that its client has gone.
    eventually("the builder has gone", || processes_with(mark).is_empty());
}

#[test]
fn what_nobody_signed_is_built_whatever_is_said_of_signatures() {
    let (bench, commit) = Bench::of(&Host::new("one"));
    // Built elsewhere, and in a cache that signs nothing.
    let dir = bench.store.dir().display();
    let elsewhere = bench.store.nix_on(format!("local?root={dir}/elsewhere"));
    let there = RealiseSpec { nix: elsewhere.clone(), ..bench.spec(commit) };
    let (system, _) = built(bench.realise(&there));
    let cache = format!("file://{dir}/cache");
    bench.store.run_on(&elsewhere, "nix", &["copy", "--to", &cache, system.as_str()]);

    let options =
        [("substituters", cache.as_str()), ("require-sigs", "false"), ("fallback", "true")];
    let nix = bench.store.nix_with(bench.store.store(), &options);
    let here = RealiseSpec { nix: nix.clone(), ..bench.spec(commit) };
    assert_eq!(built(bench.realise(&here)).0, system);
    let info = block(Store::of(&bench.store.nix()).path_info(&system)).unwrap().unwrap();
    assert!(info.ultimate, "it came from the cache: {info:?}");
}

#[test]
fn the_profile_goes_forward_and_back() {
    let bench = Bench::new();
    let nix = bench.store.nix();
    let system = |version: &str| {
        let commit = bench.repository.host("joker", &Host::new(version)).commit(version);
        built(bench.realise(&bench.spec(commit))).0
    };
    let (one, two) = (system("one"), system("two"));
    let profile = bench.store.dir().join("root/nix/var/nix/profiles/system");
    std::fs::create_dir_all(profile.parent().unwrap()).unwrap();
    assert_eq!(profile::current(&profile).unwrap(), None);

    let first = block(nix.set_profile(&profile, &one)).unwrap();
    assert_eq!((first.number, &first.system), (1, &one));
    let second = block(nix.set_profile(&profile, &two)).unwrap();
    assert_eq!((second.number, &second.system), (2, &two));
    assert_eq!(profile::current(&profile).unwrap(), Some(second.clone()));
    assert!(block(nix.delete_generation(&profile, 2)).is_err());

    block(nix.switch_generation(&profile, 1)).unwrap();
    block(nix.delete_generation(&profile, 2)).unwrap();
    block(nix.delete_generation(&profile, 2)).unwrap();
    assert_eq!(profile::current(&profile).unwrap(), Some(first));
    assert!(profile.with_file_name("system-2-link").symlink_metadata().is_err());
    let refused = block(nix.switch_generation(&profile, 2)).unwrap_err();
    assert!(refused.to_string().contains('2'), "{refused}");

    let nowhere: StorePath = one.as_str().replace("-system", "-nothing").parse().unwrap();
    assert!(block(nix.set_profile(&profile, &nowhere)).is_err());
    assert_eq!(profile::current(&profile).unwrap().unwrap().system, one);

    // One that it did not make becomes one: links to nothing and to something else,
    // and what nix-env does nothing to.
    let third = profile.with_file_name("system-3-link");
    type Spoil = fn(&Path, &Path) -> std::io::Result<()>;
    let spoils: [Spoil; 5] = [
        |profile, _| symlink("system-99-link", profile),
        |profile, _| symlink("/dev/null", profile),
        |profile, _| std::fs::create_dir(profile),
        |profile, _| std::fs::write(profile, ""),
        |profile, third| {
            symlink("system-3-link", profile).and_then(|()| std::fs::create_dir(third))
        },
    ];
    for spoil in spoils {
        std::fs::remove_file(&profile).unwrap();
        spoil(&profile, &third).unwrap();
        assert_eq!(profile::current(&profile).unwrap(), None);
        let made = block(nix.set_profile(&profile, &one)).unwrap();
        assert_eq!((made.number, &made.system), (1, &one));
    }

    // What it is a profile of is kept in the store; the other is not.
    roots::release(&bench.store.dir().join("candidate")).unwrap();
    bench.store.run("nix-store", &["--gc"]);
    assert!(bench.store.has(&one) && !bench.store.has(&two));
}

#[test]
fn a_rooted_system_survives_garbage_collection() {
    let (bench, commit) = Bench::of(&Host::new("one"));
    let spec = bench.spec(commit);
    let (one, _) = built(bench.realise(&spec));
    bench.store.run("nix-store", &["--gc"]);
    assert!(bench.store.has(&one), "the candidate's own link keeps it");

    let last_good = bench.store.dir().join("last-good");
    block(Store::of(&bench.store.nix()).root(&last_good, &one)).unwrap();
    let commit = bench.repository.host("joker", &Host::new("two")).commit("Two");
    let (two, _) = built(bench.realise(&bench.spec(commit)));
    bench.store.run("nix-store", &["--gc"]);
    assert!(bench.store.has(&one) && bench.store.has(&two));

    block(Store::of(&bench.store.nix()).root(&last_good, &two)).unwrap();
    assert_eq!(roots::kept(&last_good).unwrap(), Some(two.clone()));
    roots::release(&spec.out_link).unwrap();
    bench.store.run("nix-store", &["--gc"]);
    assert!(!bench.store.has(&one) && bench.store.has(&two));

    roots::release(&last_good).unwrap();
    roots::release(&last_good).unwrap();
    assert_eq!(roots::kept(&last_good).unwrap(), None);
    bench.store.run("nix-store", &["--gc"]);
    assert!(!bench.store.has(&two));
    assert!(block(Store::of(&bench.store.nix()).root(&last_good, &two)).is_err());
}

/// A web server with one file, which is missing at first.
struct Shelf {
    address: std::net::SocketAddr,
    contents: std::sync::Arc<std::sync::Mutex<Option<String>>>,
}

impl Shelf {
    fn open() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let contents = std::sync::Arc::<std::sync::Mutex<Option<String>>>::default();
        let shelf = contents.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let contents = shelf.lock().unwrap().clone();
                let _ = answer(stream, contents);
            }
        });
        Self { address, contents }
    }

    fn url(&self) -> String {
        format!("http://{}/file", self.address)
    }

    fn put(&self, contents: &str) {
        *self.contents.lock().unwrap() = Some(contents.into());
    }
}

fn answer(mut stream: std::net::TcpStream, contents: Option<String>) -> std::io::Result<()> {
    use std::io::{BufRead, BufReader, Write};
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut request = BufReader::new(stream.try_clone()?).lines();
    while request.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let (status, body) = match contents {
        Some(contents) => ("200 OK", contents),
        None => ("404 Not Found", String::new()),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

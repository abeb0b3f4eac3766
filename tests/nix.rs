//! The agent's way to run Nix, on the real one.

use std::future::{Future, pending};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use fort_agent::core::fault::Fault;
use fort_agent::core::types::{Commit, StorePath};
use fort_agent::nix::realise::{Kind, RealiseOutcome, RealiseSpec, realise};
use fort_agent::nix::{Nix, Phase, Progress, Settings, profile, roots};
use fort_agent::store::Store;

mod faults;

use crate::support::nix::{ScratchStore, processes_with};
use crate::support::system::{Fetch, Host, Repository};

pub(crate) mod apart;
mod locks;

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
            kind: Kind::Flake,
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
    let spec = RealiseSpec { kind: Kind::File, ..bench.spec(commit) };
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
    let spec = RealiseSpec { kind: Kind::File, ..bench.spec(commit) };
    let outcome = bench.realise(&spec);
    let RealiseOutcome::EvaluationFailed { cause, .. } = outcome else { panic!("{outcome:?}") };
    assert!(cause.contains("nixpkgs"), "{cause}");
}

#[test]
fn an_evaluation_error_says_why() {
    let mut host = Host::new("one");
    host.evaluation_error = Some("the moon is not full".into());
    let (bench, commit) = Bench::of(&host);
    let outcome = bench.realise(&bench.spec(commit));
    let RealiseOutcome::EvaluationFailed { cause, tail } = outcome else { panic!("{outcome:?}") };
    assert_eq!(cause, "the moon is not full");
    assert!(tail.contains("the moon") && !tail.contains('\u{1b}'), "{tail}");
}

#[test]
fn a_syntax_error_is_an_evaluation_error() {
    let (bench, _) = Bench::of(&Host::new("one"));
    let commit = bench.repository.write("systems.nix", "{ commit }: {").commit("Break");
    let outcome = bench.realise(&bench.spec(commit));
    let RealiseOutcome::EvaluationFailed { cause, .. } = outcome else { panic!("{outcome:?}") };
    assert!(cause.starts_with("syntax error"), "{cause}");
}

#[test]
fn a_failed_build_names_its_derivation_and_last_words() {
    let mut host = Host::new("one");
    host.build_fails = "no rule to make target".into();
    host.build_noise = 5000;
    host.parts = 2;
    let (bench, commit) = Bench::of(&host);
    let outcome = bench.realise(&bench.spec(commit));
    let RealiseOutcome::BuildFailed { cause, tail, drv, .. } = outcome else {
        panic!("{outcome:?}")
    };
    assert!(drv.unwrap().as_str().ends_with("-system-joker.drv"));
    assert!(cause.ends_with("no rule to make target"), "{cause}");
    assert!(!cause.contains('\u{1b}') && cause.len() < 1000, "{cause}");
    assert!(tail.contains("system-joker> 5000\n"), "{tail}");
    assert!(!tail.contains("> 1\n") && tail.len() <= 16 << 10, "{} bytes", tail.len());
}

#[test]
fn a_build_that_failed_for_the_time_being_works_later() {
    let contents = "hello";
    // Of those five bytes.
    let sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    let shelf = Shelf::open();
    let mut host = Host::new("one");
    host.fetch = Some(Fetch { url: shelf.url(), sha256: sha256.into() });
    let (bench, commit) = Bench::of(&host);
    let spec = bench.spec(commit);
    let outcome = bench.realise(&spec);
    let RealiseOutcome::BuildFailed { .. } = outcome else { panic!("{outcome:?}") };
    shelf.put(contents);
    built(bench.realise(&spec));
}

#[test]
fn a_failed_build_during_evaluation_is_a_failed_build() {
    let (bench, _) = Bench::of(&Host::new("one"));
    let commit = imports_from_a_build(&bench, "exit 1", "x: x");
    let outcome = bench.realise(&bench.spec(commit));
    assert!(matches!(outcome, RealiseOutcome::BuildFailed { .. }), "{outcome:?}");
}

#[test]
fn an_evaluation_error_after_a_build_is_an_evaluation_error() {
    let (bench, _) = Bench::of(&Host::new("one"));
    let script = "echo 1 > $out";
    let commit = imports_from_a_build(&bench, script, "x: throw \"after ${toString x}\"");
    let outcome = bench.realise(&bench.spec(commit));
    let RealiseOutcome::EvaluationFailed { cause, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(cause, "after 1");
}

/// Commits a host that is a function of what a build makes.
fn imports_from_a_build(bench: &Bench, script: &str, function: &str) -> Commit {
    let platform = Host::new("").platform;
    let expression = format!(
        r#"{{ commit }}: let
             made = derivation {{
               name = "made"; system = "{platform}"; builder = "${{./tools}}/busybox";
               args = [ "sh" "-c" "{script}" ];
             }};
           in {{ nixosConfigurations.joker.config.system.build.toplevel = ({function}) (import made); }}"#
    );
    bench.repository.write("systems.nix", &expression).commit("Import from a build")
}

#[test]
fn a_host_that_is_not_described_is_told_from_other_errors() {
    let (bench, _) = Bench::of(&Host::new("one"));
    let commit = bench.repository.host("penguin.example.org", &Host::new("one")).commit("Two");
    let spec = RealiseSpec { hostname: "batman".into(), ..bench.spec(commit) };
    let hosts = vec!["joker".to_owned(), "penguin.example.org".to_owned()];
    let outcome = RealiseOutcome::NoSuchHost { hostname: "batman".into(), hosts };
    assert_eq!(bench.realise(&spec), outcome);
    let spec = RealiseSpec { hostname: "penguin.example.org".into(), ..spec };
    built(bench.realise(&spec));
    // The host is there, the rest of the attribute is not.
    let attribute = "nixosConfigurations.{hostname}.config.nothing".into();
    let outcome = bench.realise(&RealiseSpec { attribute, ..spec });
    assert!(matches!(outcome, RealiseOutcome::EvaluationFailed { .. }), "{outcome:?}");
}

#[test]
fn what_cannot_be_switched_to_is_no_system() {
    let (bench, _) = Bench::of(&Host::new("one"));
    let build = "\"$tools/busybox\" mkdir \"$out\"";
    let commit = bench.repository.write("scripts/build", build).commit("Build nothing");
    let outcome = bench.realise(&bench.spec(commit));
    let RealiseOutcome::EvaluationFailed { cause, .. } = outcome else { panic!("{outcome:?}") };
    assert!(cause.ends_with("is not a system: no bin/switch-to-configuration"), "{cause}");
}

#[test]
fn progress_is_told_while_it_builds() {
    let mut host = Host::new("one");
    host.parts = 4;
    let (bench, commit) = Bench::of(&host);
    let mut seen: Vec<Progress> = Vec::new();
    built(block(realise(&bench.spec(commit), None, |progress| seen.push(progress), pending())));
    assert_eq!(seen[0], Progress::default());
    let building = seen.iter().filter(|p| p.phase == Phase::Building);
    assert_eq!(building.clone().map(|p| p.to_build).max(), Some(5));
    assert_eq!(building.clone().map(|p| p.built).max(), Some(5));
    assert!(building.clone().any(|p| p.current.as_deref() == Some("system-joker")));
    assert!(seen.windows(2).all(|two| two[0] != two[1]));
}

fn slow(mark: &str) -> (Bench, Commit) {
    let mut host = Host::new("slow");
    host.build_seconds = 300;
    host.mark = mark.into();
    Bench::of(&host)
}

fn cancelled_while_building(spec: &RealiseSpec, mark: &str) -> RealiseOutcome {
    let (begun, seen) = tokio::sync::oneshot::channel::<()>();
    let mut begun = Some(begun);
    block(realise(
        spec,
        None,
        |progress| {
            let builds = progress.current.as_deref() == Some("system-joker");
            if builds && let Some(begun) = begun.take() {
                eventually("a builder runs", || !processes_with(mark).is_empty());
                begun.send(()).unwrap();
            }
        },
        async { seen.await.unwrap_or_default() },
    ))
}

#[test]
fn a_cancelled_build_leaves_no_builder() {
    let mark = "cancelled-build-c2a1";
    let (bench, commit) = slow(mark);
    let spec = bench.spec(commit);
    let outcome = cancelled_while_building(&spec, mark);
    assert_eq!(outcome, RealiseOutcome::Cancelled);
    assert_eq!(processes_with(mark), Vec::<u32>::new());
    assert_eq!(roots::kept(&spec.out_link).unwrap(), None);
}

#[test]
fn a_build_that_takes_too_long_is_stopped() {
    let mark = "late-build-77d0";
    let (bench, commit) = slow(mark);
    let spec = RealiseSpec { timeout: Duration::from_secs(3), ..bench.spec(commit) };
    let mut begun = false;
    let note = |progress: Progress| begun |= progress.current.is_some();
    assert_eq!(block(realise(&spec, None, note, pending())), RealiseOutcome::TimedOut);
    assert!(begun);
    assert_eq!(processes_with(mark), Vec::<u32>::new());
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
fn a_store_that_cannot_be_reached_says_nothing_about_the_commit() {
    let (bench, commit) = Bench::of(&Host::new("one"));
    let settings = Settings {
        bin_dir: None,
        store: format!("unix://{}/no-socket", bench.store.dir().display()),
        options: ScratchStore::options(),
        home: bench.store.dir().join("home"),
        cache: bench.store.dir().join("cache"),
    };
    let nix = Nix::find(settings, &crate::support::nix::search_path()).unwrap();
    let outcome = bench.realise(&RealiseSpec { nix, ..bench.spec(commit) });
    let RealiseOutcome::Broken { cause, .. } = outcome else { panic!("{outcome:?}") };
    assert!(cause.starts_with("the store cannot be reached: "), "{cause}");
}

#[test]
fn a_nix_that_went_away_says_nothing_about_the_commit() {
    let (bench, commit) = Bench::of(&Host::new("one"));
    let dir = bench.store.dir().join("bin");
    stand_in(&dir, "exit 0");
    let nix = found_in(&bench, &dir);
    std::fs::remove_dir_all(&dir).unwrap();
    let outcome = bench.realise(&RealiseSpec { nix, ..bench.spec(commit) });
    let RealiseOutcome::Broken { cause, .. } = outcome else { panic!("{outcome:?}") };
    assert!(cause.starts_with(&format!("cannot run {}/nix: No such file", dir.display())));
}

#[test]
fn a_tree_that_was_not_exported_says_nothing_about_the_commit() {
    let (bench, commit) = Bench::of(&Host::new("one"));
    let spec = RealiseSpec { export: "/nowhere".into(), ..bench.spec(commit) };
    let outcome = bench.realise(&spec);
    let (cause, fault) = ("no exported tree at /nowhere".into(), Fault::Nix);
    assert_eq!(outcome, RealiseOutcome::Broken { cause, fault });
}

#[test]
fn garbage_from_nix_is_survived_and_kept() {
    let (bench, commit) = Bench::of(&Host::new("one"));
    let dir = bench.store.dir().join("bin");
    stand_in(
        &dir,
        r#"if [ "$1" != path-info ]; then exit 0; fi
           printf '@nix {"action":"start","id":1,"type":105\n@nix \n@nix []\n' >&2
           printf '@nix {"action":"dance","id":"x"}\n@nix {"action":"stop","id":77}\n' >&2
           printf '@nix {"action":"result","id":-1,"type":105,"fields":{}}\n' >&2
           head -c 1000000 /dev/zero >&2; printf '\n\377\376 \033[31moops\033[0m\n' >&2
           head -c 3000000 /dev/zero | tr '\0' x
           exit 1"#,
    );
    let spec = RealiseSpec { nix: found_in(&bench, &dir), ..bench.spec(commit) };
    let outcome = bench.realise(&spec);
    let RealiseOutcome::EvaluationFailed { cause, tail } = outcome else { panic!("{outcome:?}") };
    assert_eq!(cause, "\u{fffd}\u{fffd} oops");
    assert!(tail.ends_with("oops") && tail.len() < 20_000);
    // It says that it went well, and nothing that can be understood.
    stand_in(&dir, "echo '[{\"drvPath\":7}]'");
    let outcome = bench.realise(&spec);
    assert!(matches!(outcome, RealiseOutcome::EvaluationFailed { .. }), "{outcome:?}");
    stand_in(&dir, "kill -9 $$");
    let outcome = bench.realise(&spec);
    let RealiseOutcome::Broken { cause, fault } = outcome else { panic!("{outcome:?}") };
    assert_eq!(fault, Fault::Nix);
    // Nothing was killed for that on this host meanwhile.
    assert_eq!(cause, "nix was killed by signal 9 while evaluating, not for want of memory");
}

/// Programs that do not behave like Nix, under its names.
fn stand_in(dir: &Path, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(dir).unwrap();
    for name in ["nix", "nix-env", "nix-store"] {
        std::fs::write(dir.join(name), format!("#!/bin/sh\n{script}\n")).unwrap();
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir.join(name), mode).unwrap();
    }
}

fn found_in(bench: &Bench, dir: &Path) -> Nix {
    let settings = Settings {
        bin_dir: Some(dir.to_owned()),
        store: bench.store.store(),
        options: Vec::new(),
        home: bench.store.dir().join("home"),
        cache: bench.store.dir().join("cache"),
    };
    Nix::find(settings, &crate::support::nix::search_path()).unwrap()
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

#[test]
fn nix_tells_its_version() {
    let store = ScratchStore::new();
    let version = block(store.nix().version()).unwrap();
    let said = store.run("nix-env", &["--version"]);
    assert!(said.contains(&format!(" {}.{}", version.major, version.minor)), "{said}");
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

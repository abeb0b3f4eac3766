//! Derivations of the user that evaluates, and how that user is chosen.

use super::*;

/// Nix with a program of its own in place of one of its, which first does something
/// in a shell: `$real` is the one of the machine, `$once` a file that is there once.
fn nix_where(bench: &Bench, nix: &Nix, program: &str, script: &str) -> Nix {
    let dir = bench.store.dir().join("bin");
    fs::create_dir_all(&dir).unwrap();
    for name in ["nix", "nix-env", "nix-store", "nix-daemon"] {
        let real = std::env::split_paths(&crate::support::nix::search_path())
            .map(|dir| dir.join(name))
            .find(|file| file.exists())
            .unwrap();
        let real = real.display();
        let once = dir.join("once").display().to_string();
        let text = if name == program {
            format!("#!/bin/sh\nreal={real} once={once}\n{script}\n")
        } else {
            format!("#!/bin/sh\nexec {real} \"$@\"\n")
        };
        fs::write(dir.join(name), text).unwrap();
        mode(&dir.join(name), 0o755);
    }
    fs::write(dir.join("once"), "").unwrap();
    let settings = Settings {
        bin_dir: Some(dir),
        store: nix.store().to_owned(),
        options: ScratchStore::options(),
        home: bench.store.dir().join("home"),
        cache: bench.store.dir().join("cache"),
    };
    Nix::find(settings, &crate::support::nix::search_path()).unwrap()
}

#[test]
fn a_derivation_that_is_collected_before_it_is_built_is_evaluated_again() {
    let apart = Apart::new();
    let commit = apart.bench.repository.host("joker", &Host::new("one")).commit("Describe joker");
    // Between the end of the evaluation and what holds its derivation.
    let script = "\"$real\" \"$@\" || exit; \
                  case \" $* \" in *\" path-info \"*) ;; *) exit 0;; esac; \
                  echo again >> \"$once.log\"; \
                  if [ -w \"$once\" ] && [ ! -s \"$once\" ]; then echo gone > \"$once\"; \
                  nix-store --gc > /dev/null 2>&1; fi";
    let nix = nix_where(&apart.bench, &apart.daemon.nix(), "nix", script);
    let once = apart.bench.store.dir().join("bin/once");
    for file in [once.clone(), once.with_extension("log")] {
        fs::write(&file, "").unwrap();
        mode(&file, 0o666);
    }
    let (system, _) = built(apart.realise(&RealiseSpec { nix, ..apart.spec(commit) }));
    assert!(apart.bench.store.has(&system));
    assert_eq!(fs::read_to_string(once.with_extension("log")).unwrap(), "again\nagain\n");
}

#[test]
fn where_nothing_holds_it_a_collected_derivation_is_evaluated_again_too() {
    let (bench, commit) = Bench::of(&Host::new("one"));
    // Between what nothing holds and Nix itself, which does.
    let script = "case \" $* \" in *\" --realise \"*) if [ ! -s \"$once\" ]; then \
                  echo gone > \"$once\"; \"$real\" --gc > /dev/null 2>&1; fi;; esac; \
                  exec \"$real\" \"$@\"";
    let nix = nix_where(&bench, &bench.store.nix(), "nix-store", script);
    let (system, _) = built(bench.realise(&RealiseSpec { nix, ..bench.spec(commit) }));
    assert!(bench.store.has(&system));
    assert_eq!(fs::read_to_string(bench.store.dir().join("bin/once")).unwrap(), "gone\n");
    // For ever: it ends, and says why.
    let script = "case \" $* \" in *\" --realise \"*) \"$real\" --gc > /dev/null 2>&1;; esac; \
                  exec \"$real\" \"$@\"";
    let nix = nix_where(&bench, &bench.store.nix(), "nix-store", script);
    bench.repository.host("joker", &Host::new("two"));
    let commit = bench.repository.commit("Change joker");
    let outcome = bench.realise(&RealiseSpec { nix, ..bench.spec(commit) });
    let RealiseOutcome::Broken { cause, .. } = outcome else { panic!("{outcome:?}") };
    assert!(cause.contains("collected as garbage 3 times"), "{cause}");
}

#[test]
fn what_the_user_gets_is_its_own_or_roots() {
    let apart = Apart::new();
    let own = &apart.evaluator.own.at;
    apart.evaluator.prepare(&apart.daemon.nix()).unwrap();
    let found = |path: PathBuf| {
        let found = path.symlink_metadata().unwrap();
        (found.uid(), found.gid(), found.mode() & 0o777)
    };
    let credentials = &apart.evaluator.credentials;
    let (uid, gid) = (credentials.uid, credentials.gid);
    assert_eq!(found(own.clone()), (0, gid, 0o750));
    assert_eq!(found(apart.evaluator.exports.at.clone()), (0, gid, 0o750));
    assert_eq!(found(own.join("nix.conf")), (0, gid, 0o640));
    assert_eq!(found(own.join("home")), (uid, gid, 0o700));
    // It is kept from one evaluation to the next, but not for another user; and
    // what somebody put in its place is not followed.
    fs::write(own.join("cache/kept"), "").unwrap();
    apart.evaluator.prepare(&apart.daemon.nix()).unwrap();
    assert!(own.join("cache/kept").exists());
    chown(own.join("cache"), Some(uid - 1), None).unwrap();
    fs::remove_dir(own.join("home")).unwrap();
    std::os::unix::fs::symlink(apart.secret(), own.join("home")).unwrap();
    apart.evaluator.prepare(&apart.daemon.nix()).unwrap();
    assert!(!own.join("cache/kept").exists());
    assert_eq!(found(own.join("cache")), (uid, gid, 0o700));
    assert_eq!(found(own.join("home")), (uid, gid, 0o700));
    assert_eq!(found(apart.secret()), (0, 0, 0o700));
}

#[test]
fn who_evaluates_is_chosen_by_what_can_be_done() {
    let store = ScratchStore::new();
    let choose = |name: &str, way| Evaluator::choose(name, &store.dir().join("state"), way);
    let none = Unconfined::NoDaemon { store: store.store() };
    assert_eq!(choose(&store.store(), Way::Plain), Err(none));
    mode(store.dir(), 0o700);
    let socket = format!("unix://{}/daemon-socket", store.dir().display());
    let Err(Unconfined::NoWay { user, path }) = choose(&socket, Way::Plain) else { panic!() };
    assert!(!user.is_empty() && Path::new(&path) == fs::canonicalize(store.dir()).unwrap());
    // In a unit that is no matter: there it sees them elsewhere.
    let evaluator = choose(&socket, Way::Unit).unwrap();
    assert_eq!(evaluator.own.at, store.dir().join("state/evaluation"));
    assert!(evaluator.own.seen.starts_with("/run/fort-agent-evaluation"));
    assert_ne!(evaluator.credentials.uid, 0);
    mode(store.dir(), 0o711);
    let evaluator = choose(&socket, Way::Plain).unwrap();
    assert_eq!(evaluator.exports.at, evaluator.exports.seen);
}

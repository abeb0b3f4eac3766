//! A Nix, a store or a tree that cannot be used.

use super::*;

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
pub(super) fn stand_in(dir: &Path, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(dir).unwrap();
    for name in ["nix", "nix-env", "nix-store"] {
        std::fs::write(dir.join(name), format!("#!/bin/sh\n{script}\n")).unwrap();
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(dir.join(name), mode).unwrap();
    }
}

pub(super) fn found_in(bench: &Bench, dir: &Path) -> Nix {
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
fn nix_tells_its_version() {
    let store = ScratchStore::new();
    let version = block(store.nix().version()).unwrap();
    let said = store.run("nix-env", &["--version"]);
    assert!(said.contains(&format!(" {}.{}", version.major, version.minor)), "{said}");
}

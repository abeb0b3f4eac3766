//! Commits that cannot be evaluated or built.

use super::*;

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
pub(super) fn imports_from_a_build(bench: &Bench, script: &str, function: &str) -> Commit {
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

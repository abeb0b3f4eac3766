//! Faults of the host rather than of a commit: told apart on the real Nix, and with
//! what would mend each.

use fort_agent::core::fault::Fault;
use fort_agent::nix::realise::{RealiseOutcome, RealiseSpec};

use super::{Bench, built};
use crate::support::system::Host;

#[track_caller]
fn fault(outcome: &RealiseOutcome) -> (Fault, &str) {
    match outcome {
        RealiseOutcome::BuildFailed { fault, cause, .. }
        | RealiseOutcome::Broken { fault, cause } => (*fault, cause),
        other => panic!("{other:#?}"),
    }
}

/// A bench, and a new system each time that it is realised with these options.
fn realised_with(bench: &Bench, version: &str, options: &[(&str, &str)]) -> RealiseOutcome {
    let commit = bench.repository.host("joker", &Host::new(version)).commit(version);
    let nix = bench.store.nix_with(bench.store.store(), options);
    bench.realise(&RealiseSpec { nix, ..bench.spec(commit) })
}

#[test]
fn a_system_for_another_architecture_is_no_evaluation_that_failed() {
    let mut host = Host::new("one");
    host.platform = "quantum-linux".into();
    let (bench, commit) = Bench::of(&host);
    let outcome = bench.realise(&bench.spec(commit));
    let (told, cause) = fault(&outcome);
    assert!(told == Fault::NoBuilder && cause.contains("quantum-linux"), "{outcome:#?}");
    // So is one of its parts, when the others were built.
    let (bench, _) = Bench::of(&Host::new("one"));
    let part = format!(
        r#"{{ commit }}: let
             make = system: name: attributes: derivation ({{
               inherit name system; builder = "${{./tools}}/busybox";
               args = [ "sh" "-c" "echo 1 > $out" ];
             }} // attributes);
             here = make "{}";
             parts = {{ a = here "a" {{ }}; b = make "quantum-linux" "b" {{ c = here "c" {{ }}; }}; }};
           in {{ nixosConfigurations.joker.config.system.build.toplevel = here "top" parts; }}"#,
        host_platform()
    );
    let commit = bench.repository.write("systems.nix", &part).commit("Parts");
    let outcome = bench.realise(&bench.spec(commit));
    assert_eq!(fault(&outcome).0, Fault::NoBuilder, "{outcome:#?}");
}

fn host_platform() -> String {
    Host::new("").platform
}

#[test]
fn a_host_that_may_build_nothing_says_so() {
    let (bench, _) = Bench::of(&Host::new("one"));
    let outcome = realised_with(&bench, "two", &[("max-jobs", "0")]);
    let (told, cause) = fault(&outcome);
    assert!(told == Fault::NoBuilder && cause.contains("max-jobs"), "{outcome:#?}");
}

#[test]
fn a_sandbox_that_cannot_be_made_is_no_evaluation_that_failed() {
    let (bench, _) = Bench::of(&Host::new("one"));
    let outcome = realised_with(&bench, "two", &[("sandbox-paths", "/nowhere/at/all")]);
    let (told, cause) = fault(&outcome);
    assert!(told == Fault::NotBegun && cause.contains("/nowhere/at/all"), "{outcome:#?}");
    let daemon = bench.store.daemon();
    let nix = daemon.nix().with(vec![("sandbox-paths".into(), "/nowhere/at/all".into())], None);
    let commit = bench.repository.host("joker", &Host::new("three")).commit("three");
    let outcome = bench.realise(&RealiseSpec { nix, ..bench.spec(commit) });
    assert_eq!(fault(&outcome).0, Fault::NotBegun, "{outcome:#?}");
}

#[test]
fn a_hook_that_fails_after_the_build_is_told_as_that_and_what_was_built_stays() {
    let (bench, _) = Bench::of(&Host::new("one"));
    let outcome = realised_with(&bench, "two", &[("post-build-hook", "/nowhere/upload")]);
    let (told, cause) = fault(&outcome);
    assert_eq!(told, Fault::PostBuildHook, "{outcome:#?}");
    assert!(cause.contains("/nowhere/upload") && cause.contains("No such file"), "{cause}");
    let RealiseOutcome::BuildFailed { drv: Some(drv), .. } = &outcome else {
        panic!("{outcome:?}")
    };
    assert!(drv.as_str().ends_with("-system-joker.drv"), "{drv}");
    // It is not run again for what is there.
    built(realised_with(&bench, "two", &[("post-build-hook", "/nowhere/upload")]));
    let daemon = bench.store.daemon();
    let nix = daemon.nix().with(vec![("post-build-hook".into(), "/nowhere/upload".into())], None);
    let commit = bench.repository.host("joker", &Host::new("three")).commit("three");
    let outcome = bench.realise(&RealiseSpec { nix, ..bench.spec(commit) });
    assert_eq!(fault(&outcome).0, Fault::PostBuildHook, "{outcome:#?}");
}

#[test]
fn a_mistake_in_nixs_settings_is_named_and_is_not_the_commits() {
    let (bench, commit) = Bench::of(&Host::new("one"));
    let settings = bench.store.dir().join("home/.config/nix");
    std::fs::create_dir_all(&settings).unwrap();
    for (wrong, named) in [
        ("max-jobs = many", "max-jobs"),
        ("sandbox = maybe", "sandbox"),
        ("one two three", "one two three"),
        ("include /nowhere/extra.conf", "/nowhere/extra.conf"),
    ] {
        std::fs::write(settings.join("nix.conf"), format!("{wrong}\n")).unwrap();
        let outcome = bench.realise(&bench.spec(commit));
        let (told, cause) = fault(&outcome);
        assert!(told == Fault::NixSettings && cause.contains(named), "{wrong}: {outcome:#?}");
        assert!(!cause.contains("--help"), "{cause}");
    }
    // Of a flake in a directory the version is asked first.
    let spec = RealiseSpec { flake_dir: "hosts/joker".into(), ..bench.spec(commit) };
    assert_eq!(fault(&bench.realise(&spec)).0, Fault::NixSettings);
}

#[test]
fn an_error_of_hundreds_of_kilobytes_is_told_by_its_beginning() {
    let mut host = Host::new("one");
    host.evaluation_error = Some("the moon is not full \u{1f315}\n".repeat(12_000));
    let (bench, commit) = Bench::of(&host);
    let outcome = bench.realise(&bench.spec(commit));
    let RealiseOutcome::EvaluationFailed { cause, tail } = outcome else { panic!("{outcome:?}") };
    assert!(cause.starts_with("the moon is not full") && cause.len() < 2000, "{cause}");
    assert!(tail.contains("the moon is not full"), "{tail}");
}

#[test]
fn settings_of_the_flake_that_are_not_followed_are_told() {
    let (bench, _) = Bench::of(&Host::new("one"));
    let flake = std::fs::read_to_string(bench.repository.dir().join("flake.nix")).unwrap();
    let flake = flake.replacen(
        '{',
        "{\n  nixConfig.extra-substituters = \"https://cache.example.org\";\n  \
         nixConfig.bash-prompt = \"no matter\";",
        1,
    );
    let commit = bench.repository.write("flake.nix", &flake).commit("Ask for a cache");
    let (mut ignored, spec) = (Vec::new(), bench.spec(commit));
    let realising = fort_agent::nix::realise::realise(
        &spec,
        None,
        |progress| ignored = progress.ignored,
        std::future::pending(),
    );
    built(super::block(realising));
    assert_eq!(ignored, ["extra-substituters"]);
}

//! Flakes that do not pin what they are made of, with a real Nix.

use std::fs;

use super::apart::{SECRET, files_with};
use super::*;

/// A flake whose toplevel is a real system, with these inputs; `arguments` are the
/// names that its outputs ask for.
fn flake(bench: &Bench, inputs: &str, arguments: &str) {
    let text = format!(
        "{{ {inputs} outputs = {{ self{arguments} }}: import ./systems.nix {{ commit = \"x\"; }}; }}"
    );
    bench.repository.host("joker", &Host::new("one")).write("flake.nix", &text);
}

#[track_caller]
fn unpinned(outcome: RealiseOutcome) -> Vec<String> {
    match outcome {
        RealiseOutcome::LockIncomplete { inputs, .. } => inputs,
        other => panic!("not refused: {other:#?}"),
    }
}

/// A directory outside of the tree that only root can read, with a flake in it.
fn outside(bench: &Bench, name: &str) -> PathBuf {
    let dir = bench.store.dir().join(name);
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("flake.nix"), format!("{{ outputs = {{ self }}: {{ }}; }} # {SECRET}"))
        .unwrap();
    dir
}

#[test]
fn an_input_that_nothing_pins_is_refused_before_nix_is_started() {
    let bench = Bench::new();
    let dir = outside(&bench, "outside").display().to_string();
    flake(&bench, &format!("inputs.s.url = \"path:{dir}\";"), ", s, nixpkgs");
    let commit = bench.repository.commit("Pin nothing");
    // Root reads it, and it would be in the store for everybody.
    assert_eq!(unpinned(bench.realise(&bench.spec(commit))), ["nixpkgs", "s"]);
    assert_eq!(files_with(SECRET, &bench.store.dir().join("store")), Vec::<PathBuf>::new());

    let pin = |name: &str| {
        format!(
            r#""{name}":{{"locked":{{"type":"path","path":"{dir}","lastModified":1,
               "narHash":"sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}}}}"#
        )
    };
    let lock = format!(
        r#"{{"nodes":{{"root":{{"inputs":{{"s":"s","nixpkgs":"n"}}}},{},
           "n":{{"locked":{{"type":"path","path":"{dir}"}}}}}},"root":"root","version":7}}"#,
        pin("s")
    );
    let commit = bench.repository.write("flake.lock", &lock).commit("Pin one");
    assert_eq!(unpinned(bench.realise(&bench.spec(commit))), ["nixpkgs"]);
    assert_eq!(files_with(SECRET, &bench.store.dir().join("store")), Vec::<PathBuf>::new());
}

#[test]
fn a_lock_that_is_not_the_flakes_is_refused_and_the_input_is_named() {
    let bench = Bench::new();
    let (one, two) = (outside(&bench, "one"), outside(&bench, "two"));
    fs::write(two.join("more"), "").unwrap();
    let inputs = |dir: &Path| format!("inputs.s.url = \"path:{}\";", dir.display());
    flake(&bench, &inputs(&one), ", s");
    bench.repository.git(&["add", "--all"]);
    let lock_it = |directory: &str| {
        let reference = format!("git+file://{}{directory}", bench.repository.dir().display());
        bench.store.run("nix", &["flake", "lock", &reference]);
    };
    lock_it("");
    let commit = bench.repository.commit("Pin it");
    built(bench.realise(&bench.spec(commit)));
    // Nobody can tell from the lock alone that this is another one.
    flake(&bench, &inputs(&two), ", s");
    let commit = bench.repository.commit("Take another one");
    assert_eq!(unpinned(bench.realise(&bench.spec(commit))), ["s"]);

    // The same below a flake in a directory, which Nix pins for itself.
    flake(&bench, &inputs(&one), ", s");
    bench.repository.host_flake("joker");
    let commit = bench.repository.commit("Take the first one again");
    let in_directory =
        |commit| RealiseSpec { flake_dir: "hosts/{hostname}".into(), ..bench.spec(commit) };
    let (system, _) = built(bench.realise(&in_directory(commit)));
    assert_eq!(bench.system_file(&system, "nixos-version"), "one");
    lock_it("?dir=hosts/joker");
    let commit = bench.repository.commit("Pin it as this version does");
    built(bench.realise(&in_directory(commit)));
    let text = fs::read_to_string(bench.repository.dir().join("hosts/joker/flake.lock")).unwrap();
    assert!(text.contains("\"path\": \"../..\""), "{text}");
    fs::remove_file(bench.repository.dir().join("flake.lock")).unwrap();
    fs::remove_file(bench.repository.dir().join("hosts/joker/flake.lock")).unwrap();
    let commit = bench.repository.commit("Pin nothing");
    assert_eq!(unpinned(bench.realise(&in_directory(commit))), ["systems/s"]);
}

//! `fort-agent push`, as CI calls it.

use std::process::{Command, Output};

use super::*;
use crate::support::attic::{Claims, Fault};

fn push(bench: &Bench, arguments: &[&str], section: &str) -> Output {
    let dir = bench.store.dir();
    let config = dir.join("config.toml");
    let text = format!(
        "state_dir = '{0}/state'\nrun_dir = '{0}/run'\n[activation]\nrunner = 'direct'\n\
         [[remote]]\nname = 'origin'\nurl = 'https://git.example.org/infra/nixos.git'\n\
         [nix]\nstore = '{1}'\noptions = {{ substituters = '' }}\n{section}",
        dir.display(),
        bench.store.store(),
    );
    fs::write(&config, text).unwrap();
    Command::new(env!("CARGO_BIN_EXE_fort-agent"))
        .arg("--config")
        .arg(&config)
        .arg("push")
        .args(arguments)
        .output()
        .unwrap()
}

fn section(bench: &Bench) -> String {
    format!(
        "[cache]\nendpoint = '{}'\nname = 'fort'\ntoken_file = '{}'\nsubstitute = false\n",
        bench.attic.endpoint(),
        bench.token_file().display(),
    )
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn it_says_what_it_did() {
    let bench = Bench::new();
    let paths = bench.star(3, 500_000);
    let link = bench.store.dir().join("result");
    std::os::unix::fs::symlink(bench.store.root().physical(&paths[3]), &link).unwrap();
    let done = push(&bench, &[link.to_str().unwrap()], &section(&bench));
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert!(text(&done.stdout).starts_with("published 4 paths, 1.9 MiB, in "), "{done:?}");
    assert!(bench.has(&paths));
    // No terminal: no bar, and nothing that a log could not show.
    assert!(!text(&done.stderr).contains(['\r', '\x1b']));

    let again = push(&bench, &["--json", paths[3].as_str()], &section(&bench));
    assert_eq!(again.status.code(), Some(0));
    let summary: PublishOutcome = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!((summary.sent, summary.left, summary.cause), (0, 0, None));
}

#[test]
fn it_fails_if_anything_was_not_published() {
    let bench = Bench::new();
    let paths = bench.star(2, 500_000);
    bench.attic.fault(Fault::ProxyBody(400_000));
    let partly = push(&bench, &[paths[2].as_str()], &section(&bench));
    assert_eq!(partly.status.code(), Some(1));
    assert!(text(&partly.stderr).contains("3 paths not published"), "{partly:?}");
    assert!(text(&partly.stderr).contains("-point0: it is larger than a proxy"), "{partly:?}");
    bench.attic.fault(Fault::None);
    bench.token(&bench.attic.sign(&Claims::new(CACHE, &["r", "w"]).expires_in(-1)));
    let refused = push(&bench, &["--json", paths[2].as_str()], &section(&bench));
    assert_eq!(refused.status.code(), Some(1));
    let summary: PublishOutcome = serde_json::from_slice(&refused.stdout).unwrap();
    assert!(cause(&summary).contains("it expired at"), "{summary:?}");
}

#[test]
fn what_it_was_called_with_is_checked_first() {
    let bench = Bench::new();
    let paths = bench.chain(1, 10);
    let wrong = |arguments: &[&str], section: &str, said: &str| {
        let output = push(&bench, arguments, section);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(text(&output.stderr).contains(said), "{output:?}");
    };
    wrong(&[], &section(&bench), "required");
    wrong(&["/etc/hostname"], &section(&bench), "/etc/hostname is not in the Nix store");
    wrong(&["/no/such"], &section(&bench), "/no/such: ");
    wrong(&[paths[0].as_str()], "", "no cache is configured");
    let off = "[cache]\nendpoint = 'http://127.0.0.1:1'\nname = 'fort'\nsubstitute = false\npublish = 'off'";
    wrong(&[paths[0].as_str()], off, "`cache.token_file` is missing");
}

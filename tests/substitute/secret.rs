//! Secrecy of the token: only the cache, Nix, and root can see it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;
use crate::support::attic::{Fault, Kind};

/// Every command line and every environment on this machine.
fn processes() -> Vec<(String, Vec<u8>)> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let numbered = processes
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok()));
    let files = numbered.flat_map(|entry| ["cmdline", "environ"].map(|f| entry.path().join(f)));
    files.map(|f| (f.display().to_string(), fs::read(f).unwrap_or_default())).collect()
}

/// Every regular file below a directory that has the text in it.
fn files_with(text: &str, below: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(below).into_iter().flatten().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files_with(text, &entry.path()));
        } else if kind.is_file() && has(&fs::read(entry.path()).unwrap_or_default(), text) {
            found.push(entry.path());
        }
    }
    found
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn the_token_is_in_no_argument_and_no_file_but_the_netrc() {
    let mut pair = Pair::new();
    let own = pair.rig.store.dir().join("own-netrc");
    let lines = "machine git.example.org\nlogin me\npassword mine\ndefault login a password b\n";
    fs::write(&own, lines).unwrap();
    pair.rig.settings.nix_options = format!("netrc-file = \"{}\"", own.display());
    let token = fs::read_to_string(pair.token_file()).unwrap().trim().to_owned();
    let (one, system) = pair.push_built("one");
    let size = info(&pair.builder, &system).nar_size;
    pair.attic.fault_for(Kind::Nar, Fault::Slow(size / 2));
    pair.rig.start();
    pair.rig.wait("a download", |status| status["deployment"]["progress"]["phase"] == "fetching");

    let seen = processes();
    let is_ours =
        |bytes: &[u8]| has(bytes, "extra-substituters") && has(bytes, &pair.attic.endpoint());
    assert!(seen.iter().any(|(_, bytes)| is_ours(bytes)), "nix runs, and can be seen");
    let telling: Vec<&String> =
        seen.iter().filter(|(_, bytes)| has(bytes, &token)).map(|(file, _)| file).collect();
    assert!(telling.is_empty(), "{telling:?}");
    let mut files = files_with(&token, pair.rig.store.dir());
    files.sort();
    assert_eq!(files, [pair.token_file(), pair.netrc()]);
    let mode = fs::metadata(pair.netrc()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let netrc = fs::read_to_string(pair.netrc()).unwrap();
    let ours = format!("machine 127.0.0.1\nlogin fort-agent\npassword {token}\n\n");
    assert_eq!(netrc, format!("{ours}{lines}"));

    pair.rig.wait_in_sync(one);
    assert!(pair.was_fetched(&system));
    assert!(!pair.rig.log().contains(&token));
    assert_eq!(pair.attic.authorizations().len(), 2, "the agent's, and that of who filled it");
}

#[test]
fn the_hosts_own_password_for_the_cache_stays_in_use() {
    let mut pair = Pair::new();
    let own = pair.rig.store.dir().join("own-netrc");
    let token = pair.attic.token(&["r"]);
    fs::write(&own, format!("machine 127.0.0.1 login me password {token}\n")).unwrap();
    pair.rig.settings.nix_options = format!("netrc-file = \"{}\"", own.display());
    pair.token("this-is-no-token");
    let (one, system) = pair.push_built("one");
    pair.rig.start();
    pair.rig.wait_in_sync(one);
    assert!(pair.was_fetched(&system));
    assert!(!pair.netrc().exists());
}

#[test]
fn a_host_that_fetches_no_more_keeps_no_token() {
    let mut pair = Pair::new();
    let (one, _) = pair.push_built("one");
    pair.rig.start();
    pair.rig.wait_in_sync(one);
    assert!(pair.netrc().exists());
    pair.rig.stop();
    pair.rig.settings.sections += "substitute = false\n";
    let (two, system) = pair.push_built("two");
    pair.rig.start();
    pair.rig.wait_in_sync(two);
    assert!(!pair.was_fetched(&system));
    assert!(!pair.netrc().exists());
}

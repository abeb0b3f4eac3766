//! Needs of the demo on the machine, by the names of Debian's packages.

use std::path::{Path, PathBuf};

use crate::support::nix::search_path;
use crate::support::rig::agent;

/// Everything that is missing, at once.
pub(crate) fn check() -> Result<(), String> {
    let programs = [
        ("nix", "nix-bin"),
        ("nix-env", "nix-bin"),
        ("git", "git"),
        ("flock", "util-linux"),
        ("chmod", "coreutils"),
    ];
    let mut missing: Vec<(String, &str)> = programs
        .into_iter()
        .filter(|(program, _)| find(program).is_none())
        .map(|(program, package)| (program.to_owned(), package))
        .collect();
    let busybox = std::env::var_os("FIXTURE_BUSYBOX").unwrap_or("/bin/busybox".into());
    if !is_static(Path::new(&busybox)) {
        let what = format!("a static {} (or FIXTURE_BUSYBOX=PATH)", busybox.display());
        missing.push((what, "busybox-static"));
    }
    if !missing.is_empty() {
        let (what, mut packages): (Vec<_>, Vec<_>) = missing.into_iter().unzip();
        packages.dedup();
        return Err(format!(
            "this machine lacks {}; on Debian or Ubuntu: apt-get install {}",
            what.join(", "),
            packages.join(" ")
        ));
    }
    let agent = agent();
    if !agent.exists() {
        return Err(format!("{} is not built yet: cargo build", agent.display()));
    }
    Ok(())
}

fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&search_path()).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// A program that names a loader needs libraries, and finds none in a sandbox.
fn is_static(program: &Path) -> bool {
    let names_loader = |bytes: &[u8]| {
        [&b"/ld-linux"[..], b"/ld-musl", b"/ld64.so"]
            .iter()
            .any(|loader| bytes.windows(loader.len()).any(|window| window == *loader))
    };
    // It is named near the beginning, if at all.
    std::fs::read(program).is_ok_and(|bytes| !names_loader(&bytes[..bytes.len().min(4096)]))
}

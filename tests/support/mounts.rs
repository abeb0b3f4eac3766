//! Tests that mount file systems, each in a mount namespace of its own: what
//! is mounted goes with the test, and nobody else sees it.

use std::path::Path;
use std::process::Command;

/// Set in the process that has its own mounts.
const INSIDE: &str = "FORT_TEST_MOUNTS";

/// Runs the body of a test, named as the test binary names it, once more in a
/// process with a mount namespace of its own.
pub fn in_own_mounts(test: &str, body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return body();
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]);
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.arg("--").arg(std::env::current_exe().unwrap());
    let output = command.args(["--exact", test, "--nocapture"]).env(INSIDE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
    // A misspelt name is none of the tests, and all of none pass.
    assert!(said.contains("1 passed"), "{said}{errors}");
}

/// Mounts an empty file system of this size, as `mount` writes it; closed to others, as
/// a directory of the agent's has to be.
pub fn mount(directory: &Path, size: &str) {
    std::fs::create_dir_all(directory).unwrap();
    mounting(&["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "none"], directory);
}

/// Makes it another size.
pub fn resize(directory: &Path, size: &str) {
    mounting(&["-o", &format!("remount,size={size}")], directory);
}

fn mounting(arguments: &[&str], directory: &Path) {
    assert!(std::env::var_os(INSIDE).is_some(), "this mounts only in its own namespace");
    let mounted = Command::new("mount").args(arguments).arg(directory).status().unwrap();
    assert!(mounted.success(), "mount {arguments:?}");
}

/// Bytes that are free in a directory's file system.
pub fn free(directory: &Path) -> u64 {
    let space = rustix::fs::statvfs(directory).unwrap();
    space.f_bavail * space.f_frsize
}

/// Writes a file that takes all but so many bytes of what is free.
pub fn fill(directory: &Path, leave: u64) {
    let length = free(directory).checked_sub(leave).expect("there is more than is to be left");
    let file = std::fs::File::create(directory.join("filler")).unwrap();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, length).unwrap();
}

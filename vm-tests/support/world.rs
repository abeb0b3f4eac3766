//! A test's own world: mounts, network, process numbers and a control group
//! that nothing outside sees. The kernel clears it away with its first
//! process, which is the test.
//!
//! A test starts itself a second time, in there: namespaces are entered at the
//! start of a process, and tests are threads.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::cluster::Cluster;
use super::image::Image;

/// Says to the inner process which control group is its own.
const INNER: &str = "FORT_AGENT_VM_WORLD";

/// Where everything of a world is: in memory, and gone with it.
pub(crate) const PLACE: &str = "/run/world";

/// Control groups, seen from inside: the world's own below it.
pub(crate) const CGROUPS: &str = "/sys/fs/cgroup";

/// Runs a test on one image; it must be there.
pub(crate) fn on<F: FnOnce(&Cluster)>(image: Image, test: F) {
    if let Some(cgroup) = std::env::var_os(INNER) {
        let root = image.root().unwrap_or_else(|why| panic!("{why}"));
        test(&Cluster::new(image, root, enter(&PathBuf::from(cgroup))));
    } else {
        start_inner::<F>();
    }
}

/// Runs a test on every image there is, one after the other.
pub(crate) fn on_each<F: Fn(&Cluster)>(test: F) {
    let Some(cgroup) = std::env::var_os(INNER) else { return start_inner::<F>() };
    let cgroup = enter(&PathBuf::from(cgroup));
    for image in Image::ALL {
        match image.root() {
            Ok(root) => {
                eprintln!("--- on {}", image.name());
                test(&Cluster::new(image, root, cgroup.clone()));
            }
            // setup insists on it.
            Err(why) if image == Image::Trixie => panic!("{why}"),
            Err(why) => eprintln!("*** LEFT OUT on {}: {why}", image.name()),
        }
    }
}

/// Runs this test again, as the first process of a new world.
fn start_inner<F>() {
    assert!(rustix::process::geteuid().is_root(), "whole hosts need root");
    // `vm::boot::a_fact::{{closure}}`: the test, as its harness knows it.
    let name = std::any::type_name::<F>();
    let name = name.strip_prefix("vm::").unwrap_or(name);
    let name = name.split("::{{closure}}").next().unwrap_or(name);
    let cgroup = format!("fort-agent-vm-{}", std::process::id());
    let cgroups = cgroup_of("self");
    remove_left_over();
    let status = Command::new("setpriv")
        // Whatever ends this process ends the world, and nobody else need know.
        .args(["--pdeathsig", "KILL", "unshare", "--mount", "--net", "--pid", "--fork"])
        .args(["--kill-child=KILL", "--mount-proc", "--propagation", "private"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--include-ignored"])
        .env(INNER, cgroups.join(&cgroup))
        .env("RUST_TEST_THREADS", "1")
        .status()
        .unwrap();
    if let Some(hierarchy) = hierarchy() {
        remove_groups(&hierarchy.join(&cgroup));
    }
    assert!(status.success(), "the test failed in its world: {status}");
}

/// Mounts what the world needs; returns its control group.
fn enter(cgroup: &Path) -> PathBuf {
    // Hosts want version 2 and nothing else, whatever this machine has.
    let _ = Command::new("umount").args(["--recursive", CGROUPS]).output();
    run("mount", &["-t", "cgroup2", "cgroup2", CGROUPS]);
    run("mount", &["-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"]);
    std::fs::create_dir_all(PLACE).unwrap();
    let cgroup = Path::new(CGROUPS).join(cgroup);
    std::fs::create_dir(&cgroup).unwrap();
    run("ip", &["link", "set", "lo", "up"]);
    cgroup
}

/// A process's control group of version 2, below where that is mounted.
pub(crate) fn cgroup_of(process: &str) -> PathBuf {
    let groups = std::fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap_or_default();
    groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default().into()
}

/// Where this process's control group is, outside of a world.
fn hierarchy() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let place = mounts.lines().find_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
        [_, place, "cgroup2", ..] => Some(place),
        _ => None,
    });
    Some(Path::new(place?).join(cgroup_of("self")))
}

/// Removes the control groups of worlds that were killed: the kernel keeps
/// those, empty. Named by the process that started it.
fn remove_left_over() {
    let Some(hierarchy) = hierarchy() else { return };
    for entry in std::fs::read_dir(hierarchy).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let started_by = name.strip_prefix("fort-agent-vm-");
        if started_by.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove_groups(&entry.path());
        }
    }
}

/// Removes a control group and those below; one that is in use stays.
pub(crate) fn remove_groups(group: &Path) {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(group);
}

/// Runs a program that must succeed: what it printed.
#[track_caller]
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect(program);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

//! The directories that the agent believes what it finds in, and what it leaves of
//! its memory.

use std::fs::{self, Permissions};
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit};

use crate::support::rig::{LONG, Rig};
use crate::support::system::Host;

const NOBODY: u32 = 65534;

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Returns the error message of an agent that refuses to start.
fn refused(rig: &Rig) -> String {
    let mut agent = rig.agent_command(&["run"]);
    let mut agent = agent.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    let status = loop {
        if let Some(status) = agent.try_wait().unwrap() {
            break status;
        }
        if began.elapsed() > LONG {
            agent.kill().unwrap();
            panic!("it starts");
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    let mut said = String::new();
    agent.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    said
}

#[test]
fn a_directory_that_others_can_change_is_refused_and_what_mends_it_is_said() {
    assert!(geteuid().is_root(), "giving a directory away needs root");
    let mut rig = Rig::new();
    rig.write_config();
    let one = rig.push("release", &Host::new("one"));
    let below = |name: &str| rig.store.dir().join(name);
    let directories = [below("state"), below("run"), below("root/run/fort-agent-handover")];
    for directory in &directories {
        fs::create_dir_all(directory).unwrap();
        mode(directory, 0o700);
    }
    for directory in &directories {
        let name = directory.display();
        mode(directory, 0o777);
        let said = refused(&rig);
        assert!(said.contains(&format!("{name} has mode 0777 (owner 0)")), "{said}");
        assert!(said.contains(&format!("chmod 0700 {name}")), "{said}");
        mode(directory, 0o700);
        chown(directory, Some(NOBODY), None).unwrap();
        let said = refused(&rig);
        assert!(said.contains(&format!("{name} belongs to user 65534 (mode 0700)")), "{said}");
        assert!(said.contains(&format!("chown -h 0 {name}")), "{said}");
        chown(directory, Some(0), None).unwrap();
        // Nothing was begun: who could have put something there could still.
        assert_eq!(fs::read_dir(below("state")).unwrap().count(), 0, "{name}");
    }
    rig.start();
    rig.wait_in_sync(one);
}

/// The soft limit of a process's core dumps.
fn core_limit(pid: u32) -> String {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size"));
    line.unwrap().split_whitespace().next().unwrap().to_owned()
}

#[test]
fn neither_the_agent_nor_a_job_nor_what_that_runs_leaves_its_memory_behind() {
    // What they are started with.
    let maximum = getrlimit(Resource::Core).maximum;
    assert_ne!(maximum, Some(0), "nothing dumps here, whatever the agent does");
    setrlimit(Resource::Core, Rlimit { current: maximum, maximum }).unwrap();
    assert_ne!(core_limit(std::process::id()), "0");

    let mut rig = Rig::new();
    let mut slow = Host::new("one");
    slow.build_seconds = 600;
    rig.push("release", &slow);
    rig.start();
    rig.wait("building", |status| status["deployment"]["progress"]["phase"] == "building");
    let jobs = rig.job_processes("realise");
    assert_eq!(jobs.len(), 1);
    let children = format!("/proc/{}/task/{0}/children", jobs[0]);
    let children = fs::read_to_string(children).unwrap();
    let children: Vec<u32> = children.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert!(!children.is_empty(), "it runs nix");
    for pid in [rig.pid()].into_iter().chain(jobs).chain(children) {
        assert_eq!(core_limit(pid), "0", "{pid}");
    }
}

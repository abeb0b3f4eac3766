//! A whole cluster of one: a forge, a repository of fixture systems, and a
//! host with the real agent, below one temporary directory.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fort_agent::core::types::Commit;

use super::attic::Attic;
use super::forge::{Forge, Repo, TOKEN};
use super::nix::{Daemon, ScratchStore, search_path};
use super::system::{Host, Repository};

mod asked;
mod cache;
mod crash;
mod host;
pub(crate) mod settings;

pub(crate) use self::asked::LONG;
use self::settings::{Settings, TRIES};

/// The agent under test. The demo is an example, for which cargo names no
/// binary: there it is where cargo puts it, above the examples.
pub(crate) fn agent() -> PathBuf {
    let beside = || {
        let demo = std::env::current_exe().expect("a program knows its own path");
        demo.ancestors().nth(2).expect("it is in target/PROFILE/examples").join("fort-agent")
    };
    // Another one to measure, such as one that was built for release.
    let named = std::env::var_os("FORT_AGENT_BENCH").map(PathBuf::from);
    let built = option_env!("CARGO_BIN_EXE_fort-agent").map(PathBuf::from);
    named.or(built).unwrap_or_else(beside)
}

/// Name of the host.
pub(crate) const HOST: &str = "joker";
/// The branch that it tries, where it tries one.
pub(crate) const TESTING: &str = "release-joker-test";

/// A forge, a repository and a host.
pub(crate) struct Rig {
    pub(crate) forge: Arc<Forge>,
    pub(crate) repo: Arc<Repo>,
    pub(crate) tree: Arc<Repository>,
    pub(crate) store: ScratchStore,
    pub(crate) settings: Settings,
    /// The cluster's cache, if it has one.
    pub(crate) cache: Option<Attic>,
    /// Serves the store, as on a real host; without one Nix opens it itself.
    pub(crate) daemon: Option<Daemon>,
    agent: Option<Child>,
    started: u32,
}

impl Rig {
    /// A host on which nothing runs yet, an empty repository, and an agent
    /// that is not started.
    pub(crate) fn new() -> Self {
        let store = ScratchStore::new();
        let tree = store.dir().join("tree");
        let forge = Forge::start();
        let repo = forge.repo("nixos");
        Self::of(forge.into(), repo.into(), Repository::create(tree).into(), store)
    }

    /// The same below a directory of the caller's, who also removes it: the
    /// work tree in `work`, the others in `forge` and `host`.
    pub(crate) fn below(dir: &Path) -> Self {
        let store = ScratchStore::at(&dir.join("host"));
        let forge = Forge::start_in(&dir.join("forge"));
        let repo = forge.repo("nixos");
        Self::of(forge.into(), repo.into(), Repository::create(dir.join("work")).into(), store)
    }

    /// Another host that is to be the same, with a store of its own in a
    /// directory of the caller's.
    pub(crate) fn beside(&self, dir: &Path) -> Self {
        let store = ScratchStore::at(dir);
        Self::of(self.forge.clone(), self.repo.clone(), self.tree.clone(), store)
    }

    fn of(forge: Arc<Forge>, repo: Arc<Repo>, tree: Arc<Repository>, store: ScratchStore) -> Self {
        let rig = Self {
            forge,
            repo,
            tree,
            store,
            settings: Settings::default(),
            cache: None,
            daemon: None,
            agent: None,
            started: 0,
        };
        rig.boot("boot-1");
        rig
    }

    /// A host on which the agent has deployed a first commit, `one`.
    pub(crate) fn deployed() -> (Self, Commit) {
        Self::deployed_with(|_| {})
    }

    /// The same, and it tries a branch.
    pub(crate) fn trying() -> (Self, Commit) {
        Self::deployed_with(|rig| rig.settings.branch = TRIES.into())
    }

    /// One that runs `one`, with other settings.
    pub(crate) fn deployed_with(settings: impl FnOnce(&mut Self)) -> (Self, Commit) {
        let mut rig = Self::new();
        settings(&mut rig);
        let one = rig.push("release", &Host::new("one"));
        rig.start();
        rig.wait_in_sync(one);
        (rig, one)
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.store.dir().join("root")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.store.dir().join("state")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.store.dir().join("config.toml")
    }

    /// Describes the host, commits, and pushes to a branch.
    pub(crate) fn push(&self, branch: &str, host: &Host) -> Commit {
        self.tree.host(HOST, host);
        self.push_tree(branch, &host.version)
    }

    /// Commits the tree as it is, and pushes to a branch.
    pub(crate) fn push_tree(&self, branch: &str, message: &str) -> Commit {
        let commit = self.tree.commit(message);
        self.push_head(branch);
        commit
    }

    /// Pushes what is checked out, whatever the branch was.
    pub(crate) fn push_head(&self, branch: &str) {
        self.push_to(&self.repo, branch);
    }

    pub(crate) fn delete_branch(&self, branch: &str) {
        let bare = self.repo.bare.to_str().unwrap();
        self.tree.git(&["push", "--quiet", bare, &format!(":refs/heads/{branch}")]);
    }

    /// Pushes what is checked out to another repository.
    pub(crate) fn push_to(&self, repo: &Repo, branch: &str) {
        let bare = repo.bare.to_str().unwrap();
        self.tree.git(&["push", "--quiet", bare, &format!("+HEAD:refs/heads/{branch}")]);
    }

    /// Checks out a commit: what is pushed next descends from it.
    pub(crate) fn check_out(&self, commit: Commit) {
        self.tree.git(&["reset", "--quiet", "--hard", &commit.to_string()]);
    }

    /// Starts the agent with the settings as they are now.
    pub(crate) fn start(&mut self) {
        self.write_config();
        self.started += 1;
        let log = std::fs::File::create(self.store.dir().join(format!("log.{}", self.started)));
        let agent = self
            .within(self.agent_command(&["run"]))
            .envs(self.crash_environment())
            .envs(self.settings.notify.as_ref().map(|socket| ("NOTIFY_SOCKET", socket)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.unwrap())
            .spawn()
            .unwrap();
        self.agent = Some(agent);
    }

    /// The agent's program with its configuration and these arguments.
    pub(crate) fn agent_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(agent());
        command
            .arg("--config")
            .arg(self.config())
            .args(arguments)
            .env_clear()
            .env("PATH", self.search_path())
            .env("DBUS_SYSTEM_BUS_ADDRESS", &self.settings.bus)
            .env("FORT_AGENT_LOG", &self.settings.log)
            .envs(self.settings.patience.map(|it| ("FORT_AGENT_PATIENCE", it.to_string())));
        command
    }

    /// A command as it is run by another program, if one is to.
    fn within(&self, command: Command) -> Command {
        let [program, arguments @ ..] = &self.settings.within[..] else { return command };
        let mut outer = Command::new(program);
        outer.args(arguments).arg(command.get_program()).args(command.get_args()).env_clear();
        outer.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        outer
    }

    /// The usual one, after the programs of this host alone.
    fn search_path(&self) -> OsString {
        let programs = [self.programs()].into_iter();
        let usual = search_path();
        std::env::join_paths(programs.chain(std::env::split_paths(&usual))).unwrap()
    }

    pub(crate) fn programs(&self) -> PathBuf {
        self.store.dir().join("programs")
    }

    /// Runs a command of the agent. Returns its exit code and its output.
    pub(crate) fn tell(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.agent_command(arguments).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&said).into_owned())
    }

    /// Runs a command of the agent. Returns its JSON on stdout; `None` if the command failed.
    pub(crate) fn hear(&self, arguments: &[&str]) -> Option<serde_json::Value> {
        let output = self.agent_command(arguments).output().unwrap();
        let said = || String::from_utf8_lossy(&output.stdout).into_owned();
        let read =
            || serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said()));
        output.status.success().then(read)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.agent.as_ref().expect("the agent was started").id()
    }

    /// Ends the agent as an operator would; jobs go on.
    pub(crate) fn stop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            signal(agent.id(), "TERM");
            let began = Instant::now();
            while agent.try_wait().unwrap().is_none() {
                assert!(began.elapsed() < LONG, "it does not stop");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Kills the agent; jobs go on.
    pub(crate) fn kill(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill().unwrap();
            agent.wait().unwrap();
        }
    }

    /// The agent's own words, of every start.
    pub(crate) fn log(&self) -> String {
        let mut text = String::new();
        for n in 1..=self.started {
            let path = self.store.dir().join(format!("log.{n}"));
            text.push_str(&std::fs::read_to_string(path).unwrap_or_default());
        }
        let jobs = std::fs::read_dir(self.state().join("jobs"));
        for job in jobs.into_iter().flatten().flatten() {
            let log = std::fs::read_to_string(job.path().join("log")).unwrap_or_default();
            let _ = write!(text, "--- {}\n{log}", job.path().display());
        }
        text
    }
}

impl Rig {
    /// Whatever a test did: neither the log nor a file of the agent's repeats the token.
    fn assert_no_secret_is_told(&self) {
        let entries = std::fs::read_dir(self.state()).into_iter().flatten().flatten();
        let files = entries.map(|entry| entry.path());
        let files = files.filter(|file| file.extension().is_some_and(|it| it == "json"));
        let told = files.filter_map(|file| std::fs::read_to_string(file).ok());
        for text in told.chain([self.log()]) {
            assert!(!text.contains(TOKEN), "the token is told: {text}");
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("switches: {:?}\nlog:\n{}", self.switched(), self.log());
        }
        self.kill();
        if !std::thread::panicking() {
            self.assert_no_secret_is_told();
        }
        // Its jobs outlive it by design; the test's end ends them too.
        let mark = self.store.dir().to_string_lossy().into_owned();
        for pid in jobs_of(&mark) {
            signal(pid, "KILL");
        }
    }
}

/// The job processes whose directory is below this one.
pub(crate) fn jobs_of(directory: &str) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.contains("\0job\0") && line.contains(directory)
    })
    .collect()
}

/// Signals a process by its number.
pub(crate) fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status();
}

//! Systems for whole hosts: those of tests/fixture with units and files of
//! their own, and scripts that do to a host what NixOS's do.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::shared::system::{self, Repository};
use super::world::run;

/// Where the agent's configuration is, in a system and on its host.
pub(crate) const CONFIG: &str = "fort-agent/config.toml";

/// The unit that hosts run the agent as.
pub(crate) const UNIT: &str = include_str!("../units/fort-agent.service");

const AGENT_UNIT: &str = "fort-agent.service";

/// The timer that starts the agent should it be gone.
const REVIVE: &str = include_str!("../units/fort-agent-revive.timer");

/// A host's system: the knobs that every fixture has, and files for its etc.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    name: String,
    /// Knobs of the system, as tests/support/system.rs describes them.
    pub(crate) knobs: system::Host,
    etc: BTreeMap<String, String>,
}

impl Host {
    /// A host and its version; no units but `web.service`, which changes with
    /// the version.
    pub(crate) fn new(name: &str, version: &str) -> Self {
        let host =
            Self { name: name.into(), knobs: system::Host::new(version), etc: BTreeMap::default() };
        let changes = "Description=The web, @version@\nX-Restart-Triggers=@version@";
        host.unit("web.service", &service(changes, "sleep infinity"))
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The same host at another version.
    pub(crate) fn at(&self, version: &str) -> Self {
        let mut host = self.clone();
        host.knobs.version = version.into();
        host
    }

    /// With a unit, or another text of it. `WantedBy=` lines enable it;
    /// `@version@`, `@agent@` and `@out@` are filled in.
    pub(crate) fn unit(self, name: &str, text: &str) -> Self {
        self.file(&format!("systemd/system/{name}"), text)
    }

    pub(crate) fn without_unit(mut self, name: &str) -> Self {
        assert!(self.etc.remove(&format!("systemd/system/{name}")).is_some(), "no unit {name}");
        self
    }

    /// With a file below its etc.
    pub(crate) fn file(mut self, path: &str, text: &str) -> Self {
        self.etc.insert(path.into(), text.into());
        self
    }

    /// With commands that its activation runs, with `sh -eu`; it fails if they do.
    pub(crate) fn activation(self, script: &str) -> Self {
        self.file("fixture/activate", script)
    }

    /// With a pre-switch check, run with `sh -eu`: it refuses if that fails.
    pub(crate) fn check(self, script: &str) -> Self {
        self.file("fixture/check", script)
    }

    /// With the agent, under this configuration. Its unit says which, so that
    /// it is restarted when that changes.
    pub(crate) fn agent(self, config: &str) -> Self {
        let trigger = config.lines().collect::<Vec<_>>().join(";").replace('%', "%%");
        let unit = UNIT.replacen("[Unit]\n", &format!("[Unit]\nX-Restart-Triggers={trigger}\n"), 1);
        self.unit(AGENT_UNIT, &unit).unit("fort-agent-revive.timer", REVIVE).file(CONFIG, config)
    }

    /// The same with its state where systemd makes no such directories, as the module
    /// renders it. Its activation makes the directory.
    pub(crate) fn agent_at(self, config: &str, state_dir: &str) -> Self {
        let moved = self.agent(&format!("state_dir = \"{state_dir}\"\n{config}"));
        let unit = moved.etc[&format!("systemd/system/{AGENT_UNIT}")].clone();
        let elsewhere = format!("ReadWritePaths={state_dir}\n");
        let there = unit.replacen("StateDirectory=fort-agent\n", &elsewhere, 1);
        assert_ne!(there, unit);
        moved.unit(AGENT_UNIT, &there).activation(&format!("mkdir -p -m 0700 {state_dir}"))
    }

    /// Describes it in a repository; not committed.
    pub(crate) fn write(&self, tree: &Repository) {
        let etc = tree.dir().join("hosts").join(&self.name).join("etc");
        let _ = fs::remove_dir_all(etc);
        tree.host(&self.name, &self.knobs);
        for (path, text) in &self.etc {
            tree.write(&format!("hosts/{}/etc/{path}", self.name), text);
        }
    }
}

/// A unit file of a simple service that default.target wants. `unit` are more
/// lines for `[Unit]`; `command` is one that systemd finds.
pub(crate) fn service(unit: &str, command: &str) -> String {
    format!(
        "[Unit]\n{unit}\n[Service]\nExecStart={command}\n[Install]\nWantedBy=multi-user.target\n"
    )
}

/// A repository of such systems, nothing committed.
pub(crate) fn repository(dir: &Path) -> Repository {
    let tree = Repository::create(dir);
    tree.write("scripts/build", include_str!("../fixture/build"));
    tree.write("scripts/activate", include_str!("../fixture/activate"));
    tree.write("scripts/init", include_str!("../fixture/init"));
    let switch = include_str!("../fixture/switch-to-configuration");
    tree.write("scripts/switch-to-configuration", switch);
    tree
}

/// An agent's program, as systems refer to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Agent {
    /// Path of the program on this machine.
    pub(crate) file: PathBuf,
    /// SHA-256 of the program as an archive, in hexadecimal.
    pub(crate) sha256: String,
}

impl Agent {
    /// The one under test, as small as it goes, in a directory. Another mark
    /// makes another program, which behaves the same.
    pub(crate) fn create(dir: &Path, mark: &str) -> Self {
        fs::create_dir_all(dir).unwrap();
        let file = dir.join("fort-agent");
        run("strip", &["-o", file.to_str().unwrap(), env!("CARGO_BIN_EXE_fort-agent")]);
        let mut program = fs::File::options().append(true).open(&file).unwrap();
        program.write_all(mark.as_bytes()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        let sha256 = run("nix-hash", &["--type", "sha256", file.to_str().unwrap()]);
        Self { file, sha256 }
    }

    /// Makes it the agent of all systems in a repository; not committed.
    /// Programs do not go through git: hosts must have got it.
    pub(crate) fn write(&self, tree: &Repository) {
        let reference = format!("{{ \"outputHash\": \"{}\" }}\n", self.sha256);
        tree.write("tools/agent.json", &reference);
    }
}

//! Repositories that describe fixture systems: shaped like NixOS's, built in
//! a moment without nixpkgs, with a knob for every way to go wrong.
//!
//! The repository is `tests/fixture/` and a static busybox as
//! `tools/busybox`. A commit changes `hosts/NAME.json`, which [`Host`] writes.
//! What a running system shows, below `FORT_AGENT_ROOT`:
//!
//! | file | says |
//! |---|---|
//! | run/current-system | the running one, a link to its logical store path |
//! | run/fixture/version | what its service would show |
//! | boot/default | what the boot loader would boot |
//! | var/log/switches | `ACTION SYSTEM` of every switch that got the lock |
//! | var/log/began-ACTION | the last system whose switch began, and by its mtime when |
//! | run/fixture/go | made by a test: ends every hang |

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use fort_agent::core::types::Commit;
use serde::Serialize;

/// Debian's busybox-static; elsewhere `FIXTURE_BUSYBOX` says where one is.
const BUSYBOX: &str = "/bin/busybox";

/// A host's system, as `hosts/NAME.json` describes it.
#[derive(Debug, Clone, Serialize)]
pub struct Host {
    /// Version that the system's service shows.
    pub version: String,
    /// The contents of its kernel and initrd.
    pub kernel: String,
    /// Inhibitors of a switch to or from the system: none, or a JSON object with a line for each.
    pub inhibitors: String,
    /// Platform of the builders, as in `x86_64-linux`.
    pub platform: String,
    /// In the environment of its builders (`FIXTURE_MARK`).
    pub mark: String,
    /// Error message of the evaluation, if it is to fail.
    pub evaluation_error: Option<String>,
    /// Last line of the builder, if the build is to fail; empty if not.
    pub build_fails: String,
    /// Time that the build takes, in seconds.
    pub build_seconds: u32,
    /// Number of lines that the builder writes first.
    pub build_noise: u32,
    /// Number of other derivations that the system depends on.
    pub parts: u32,
    /// Download that the system depends on: one that can fail now and work later.
    pub fetch: Option<Fetch>,
    /// Whether the system changes with every commit: `etc/commit` has the revision, its
    /// time and number.
    pub knows_commit: bool,
    /// The names of its specialisations, whose services show `VERSION NAME`.
    pub specialisations: Vec<&'static str>,
    /// How its switch-to-configuration behaves.
    #[serde(serialize_with = "as_shell")]
    pub switch: Switch,
}

/// A file that a build downloads.
#[derive(Debug, Clone, Serialize)]
pub struct Fetch {
    /// Where from: http on loopback.
    pub url: String,
    /// Of its contents, in hexadecimal.
    pub sha256: String,
}

/// How switch-to-configuration behaves; actions are `test`, `boot`, `switch`
/// and `dry-activate`.
#[derive(Debug, Clone, Default)]
pub struct Switch {
    /// An action's exit code. 1 and 100: nothing was activated. Others come
    /// after everything was done.
    pub exit: BTreeMap<&'static str, u8>,
    /// An action hangs for so many seconds before anything has moved.
    pub hang: BTreeMap<&'static str, u32>,
    /// The same after it has.
    pub hang_after: BTreeMap<&'static str, u32>,
    /// An action kills itself by a signal before anything has moved.
    pub signal: BTreeMap<&'static str, u8>,
    /// The same after it has.
    pub signal_after: BTreeMap<&'static str, u8>,
    /// An action ends with this code before anything has moved.
    pub die: BTreeMap<&'static str, u8>,
    /// The same after it has, and after units were stopped that it does not start: so the real
    /// one ends with whatever errno was the last.
    pub die_after: BTreeMap<&'static str, u8>,
    /// Whether `activate` fails; the switch goes on, as NixOS's does.
    pub activate_fails: bool,
    /// Whether the switch refuses everything with 1, unless NIXOS_NO_CHECK=1.
    pub refuse_check: bool,
}

impl Host {
    /// One with which everything is fine.
    pub fn new(version: &str) -> Self {
        Self {
            version: version.into(),
            kernel: "kernel 1".into(),
            inhibitors: String::new(),
            platform: format!("{}-linux", std::env::consts::ARCH),
            mark: "none".into(),
            evaluation_error: None,
            build_fails: String::new(),
            build_seconds: 0,
            build_noise: 0,
            parts: 0,
            fetch: None,
            knows_commit: false,
            specialisations: Vec::new(),
            switch: Switch::default(),
        }
    }

    /// Describes a host whose switch ends with this code.
    pub fn exits(version: &str, action: &'static str, code: u8) -> Self {
        let mut host = Self::new(version);
        host.switch.exit.insert(action, code);
        host
    }
}

/// Knobs as the shell script reads them.
fn as_shell<S: serde::Serializer>(switch: &Switch, serializer: S) -> Result<S::Ok, S::Error> {
    let mut shell = String::new();
    let mut write = |knob: &str, actions: Vec<(&str, u32)>| {
        for (action, value) in actions {
            let _ = writeln!(shell, "{knob}_{}={value}", action.replace('-', "_"));
        }
    };
    let wide = |map: &BTreeMap<&'static str, u8>| {
        map.iter().map(|(action, value)| (*action, u32::from(*value))).collect()
    };
    let all = |map: &BTreeMap<&'static str, u32>| map.iter().map(|(a, v)| (*a, *v)).collect();
    write("exit", wide(&switch.exit));
    write("hang", all(&switch.hang));
    write("hang_after", all(&switch.hang_after));
    write("die", wide(&switch.die));
    write("die_after", wide(&switch.die_after));
    write("signal", wide(&switch.signal));
    write("signal_after", wide(&switch.signal_after));
    if switch.activate_fails {
        shell.push_str("activate_fails=1\n");
    }
    if switch.refuse_check {
        shell.push_str("refuse_check=1\n");
    }
    serializer.serialize_str(&shell)
}

/// A repository of fixture systems, with a work tree.
pub struct Repository {
    dir: PathBuf,
}

impl Repository {
    /// Makes one in a directory that does not exist yet: nothing committed,
    /// no host described, on branch `main`.
    pub fn create(dir: impl Into<PathBuf>) -> Self {
        let repository = Self { dir: dir.into() };
        for (path, text) in [
            ("flake.nix", include_str!("../fixture/flake.nix")),
            ("default.nix", include_str!("../fixture/default.nix")),
            ("systems.nix", include_str!("../fixture/systems.nix")),
            ("scripts/part", include_str!("../fixture/scripts/part")),
            ("scripts/build", include_str!("../fixture/scripts/build")),
            ("scripts/activate", include_str!("../fixture/scripts/activate")),
            ("scripts/init", include_str!("../fixture/scripts/init")),
            (
                "scripts/switch-to-configuration",
                include_str!("../fixture/scripts/switch-to-configuration"),
            ),
        ] {
            repository.write(path, text);
        }
        let busybox = std::env::var_os("FIXTURE_BUSYBOX").unwrap_or(BUSYBOX.into());
        let busybox = fs::read(&busybox).expect("a static busybox (Debian: busybox-static)");
        repository.write_bytes("tools/busybox", &busybox);
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(repository.dir.join("tools/busybox"), mode).unwrap();
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository
    }

    /// Directory of the work tree.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Describes a host in `hosts/NAME.json`.
    pub fn host(&self, name: &str, host: &Host) -> &Self {
        let json = serde_json::to_string_pretty(host).unwrap();
        self.write(&format!("hosts/{name}.json"), &json)
    }

    /// Gives a host its own flake, in `hosts/NAME`.
    pub fn host_flake(&self, name: &str) -> &Self {
        let text = include_str!("../fixture/host-flake.nix");
        self.write(&format!("hosts/{name}/flake.nix"), text)
    }

    /// Writes any other file.
    pub fn write(&self, path: &str, text: &str) -> &Self {
        self.write_bytes(path, text.as_bytes())
    }

    fn write_bytes(&self, path: &str, bytes: &[u8]) -> &Self {
        let file = self.dir.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
        self
    }

    /// Commits everything, even if nothing changed.
    pub fn commit(&self, message: &str) -> Commit {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", message]);
        self.git(&["rev-parse", "HEAD"]).parse().unwrap()
    }

    /// Runs git in it, on nobody's settings: what it printed.
    pub fn git(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("git");
        command.current_dir(&self.dir).args(arguments).env_clear().envs([
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_AUTHOR_NAME", "A"),
            ("GIT_AUTHOR_EMAIL", "a@example.org"),
            ("GIT_COMMITTER_NAME", "A"),
            ("GIT_COMMITTER_EMAIL", "a@example.org"),
        ]);
        let output = command.env("PATH", super::nix::search_path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

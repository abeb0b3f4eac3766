//! A scratch Nix: its own store below a temporary directory, which nothing
//! outside knows of and no network is asked about.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fort_agent::nix::{Nix, Settings, StoreRoot};

/// A store that goes when this does, unless the directory is the caller's.
pub struct ScratchStore {
    dir: PathBuf,
    temporary: Option<tempfile::TempDir>,
}

impl ScratchStore {
    /// Makes an empty store in a temporary directory.
    pub fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        Self { dir: temporary.path().to_owned(), temporary: Some(temporary) }
    }

    /// An empty one in a directory that the caller removes.
    pub fn at(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        Self { dir: dir.to_owned(), temporary: None }
    }

    /// Where it keeps everything, and room for the test's own files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// URL of the store, for `[nix] store`.
    pub fn store(&self) -> String {
        format!("local?root={}", self.dir().join("store").display())
    }

    /// Where its paths really are.
    pub fn root(&self) -> StoreRoot {
        StoreRoot::of(&self.store())
    }

    /// `[nix] options` for it.
    pub fn options() -> Vec<(String, String)> {
        // Offline at once, instead of after the resolver's time-out; and root
        // builds as root, where no build users have been made.
        [("substituters", ""), ("flake-registry", ""), ("build-users-group", ""), ("max-jobs", "2")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    /// The agent's Nix on it.
    pub fn nix(&self) -> Nix {
        self.nix_on(self.store())
    }

    /// The agent's Nix on a store of that name.
    pub fn nix_on(&self, store: String) -> Nix {
        self.nix_with(store, &[])
    }

    /// The same, told more options.
    pub fn nix_with(&self, store: String, options: &[(&str, &str)]) -> Nix {
        let more = options.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        let settings = Settings {
            bin_dir: None,
            store,
            options: Self::options().into_iter().chain(more).collect(),
            home: self.dir().join("home"),
            cache: self.dir().join("cache"),
        };
        Nix::find(settings, &search_path()).expect("nix-bin is installed")
    }

    /// Serves it through a daemon of its own.
    pub fn daemon(&self) -> Daemon {
        self.daemon_with(&[])
    }

    /// The same, told more options.
    pub fn daemon_with(&self, options: &[(&str, &str)]) -> Daemon {
        let socket = self.dir().join("daemon-socket");
        let mut command = Command::new("nix-daemon");
        command.env_clear().envs(self.nix().environment());
        command.env("NIX_DAEMON_SOCKET_PATH", &socket);
        let more = options.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        for (name, value) in Self::options().into_iter().chain(more) {
            command.args(["--option", &name, &value]);
        }
        let process = command.stderr(Stdio::null()).spawn().unwrap();
        let root = self.dir().join("store");
        let store = format!("unix://{}?root={}", socket.display(), root.display());
        let daemon = Daemon { process, nix: self.nix_on(store.clone()), store };
        let deadline = Instant::now() + Duration::from_secs(30);
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            assert!(Instant::now() < deadline, "nix-daemon does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        daemon
    }

    /// A Nix program as somebody else on the host would run it: what it
    /// printed. Panics if it fails.
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        self.run_on(&self.nix(), program, arguments)
    }

    /// The same on the store of another Nix.
    pub fn run_on(&self, nix: &Nix, program: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(nix.environment());
        if program == "nix" {
            command.args(["--extra-experimental-features", "nix-command flakes"]);
        }
        for (name, value) in nix.options() {
            command.args(["--option", name, value]);
        }
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Copies a path of another Nix's, with all that it refers to, into a cache of
    /// files that signs: the options that have it read from there.
    pub fn cache_of(&self, nix: &Nix, path: &str) -> [(&'static str, String); 2] {
        let at = |name: &str| self.dir().join(name).display().to_string();
        let (secret, public) = (at("cache-key"), at("cache-key.pub"));
        let generate = ["--generate-binary-cache-key", "test-1", &secret, &public];
        self.run("nix-store", &generate);
        let cache = format!("file://{}", at("cache"));
        let signing = format!("{cache}?secret-key={secret}");
        self.run_on(nix, "nix", &["copy", "--to", &signing, path]);
        let key = std::fs::read_to_string(public).unwrap().trim().to_owned();
        [("substituters", cache), ("trusted-public-keys", key)]
    }

    /// Whether a store path is really there.
    pub fn has(&self, path: &fort_agent::core::types::StorePath) -> bool {
        self.root().physical(path).symlink_metadata().is_ok()
    }
}

/// A daemon that is stopped when this is dropped.
pub struct Daemon {
    process: Child,
    nix: Nix,
    store: String,
}

impl Daemon {
    /// The agent's Nix as its client.
    pub fn nix(&self) -> Nix {
        self.nix.clone()
    }

    /// URL of the daemon's store, for `[nix] store` of its clients.
    pub fn store(&self) -> &str {
        &self.store
    }

    /// Id of the daemon's process; each connection is served by a child of that.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Nix makes its store read-only, which stops only those who are not root.
impl Drop for ScratchStore {
    fn drop(&mut self) {
        if self.temporary.is_some() {
            let _ = Command::new("chmod").args(["-R", "u+w"]).arg(self.dir()).status();
        }
    }
}

/// Where programs are found.
pub fn search_path() -> OsString {
    std::env::var_os("PATH").expect("tests have a PATH")
}

/// The processes whose environment has this text, by pid.
pub fn processes_with(mark: &str) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let has = |pid: &u32| {
        let file = PathBuf::from(format!("/proc/{pid}/environ"));
        let environment = std::fs::read(file).unwrap_or_default();
        environment.windows(mark.len()).any(|window| window == mark.as_bytes())
    };
    pids.filter(has).collect()
}

//! Talks to Nix through its command line: which programs, with which
//! environment and options, against which store.
//!
//! It does not speak the store's protocol and decides nothing. Surprises:
//! error texts differ between versions and are for people only; and store
//! paths are logical, so that reading one goes through [`StoreRoot`].

mod build;
mod course;
mod evaluate;
pub mod evaluator;
mod flake;
mod lent_repository;
mod log;
mod memory;
pub mod nar;
pub mod profile;
pub mod realise;
mod reference;
pub mod roots;
pub mod store;
mod store_root;

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::log::{Phase, Progress};
pub use self::store_root::StoreRoot;
use fort_sys::command::{CannotStart, Command, Finished, plain};
use fort_sys::environment;

/// The option that says where names and passwords are.
const NETRC_FILE: &str = "netrc-file";

/// Options that nothing replaces: these come last on every command line. A repository
/// that may set substituters and trusted keys decides what this host believes; so does
/// a cache, where nothing has to be signed.
const ALWAYS: [(&str, &str); 2] = [("accept-flake-config", "false"), ("require-sigs", "true")];

/// Time limit of commands that only read or link.
const QUICK: Duration = Duration::from_secs(120);

/// How Nix is run: fixed at start, and part of a job's specification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nix {
    /// The directory of `nix`, `nix-env` and `nix-store`.
    bin_dir: PathBuf,
    /// Where Nix finds git and ssh, for flake inputs.
    search_path: PathBuf,
    /// Store URL as `--store` takes it; `auto` leaves the choice to Nix.
    store: String,
    /// `--option NAME VALUE` for every call.
    options: Vec<(String, String)>,
    /// `HOME`: not a person's, whose settings would apply.
    home: PathBuf,
    /// Nix's cache directory, set as `XDG_CACHE_HOME`.
    cache: PathBuf,
}

/// Where and how Nix is to be run: `[nix]` of the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where nix and nix-env are; absent: the first of the search path.
    pub bin_dir: Option<PathBuf>,
    /// Store URL as `--store` takes it, or `auto`.
    pub store: String,
    /// `--option NAME VALUE`, lists joined by blanks.
    pub options: Vec<(String, String)>,
    /// Nix's `HOME`, below state_dir.
    pub home: PathBuf,
    /// Nix's cache directory, below state_dir.
    pub cache: PathBuf,
}

/// There is no Nix where it was looked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no executable nix, nix-env and nix-store in {looked_in}")]
pub struct NoNix {
    looked_in: String,
}

/// Version of a Nix, as far as the agent distinguishes versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Major version number: 2 in 2.8.
    pub major: u32,
    /// Minor version number: 8 in 2.8.
    pub minor: u32,
    /// Lix: forked from 2.18, with numbers of its own from 2.90 on.
    pub lix: bool,
}

/// Nix could not be asked, or its answer not understood.
#[derive(Debug, thiserror::Error)]
pub enum NixFailed {
    /// Nix could not be started.
    #[error("nix cannot be run")]
    CannotStart(#[from] CannotStart),
    /// Nix ended with a failure; its error message is for people.
    #[error("{what}: {said}")]
    Refused {
        /// Request that failed, as named in the error message.
        what: String,
        /// End of Nix's output, or how the process ended.
        said: String,
    },
}

impl Nix {
    /// Finds Nix's programs, in `bin_dir` or else in `search_path` (a `PATH`).
    pub fn find(settings: Settings, search_path: &OsStr) -> Result<Self, NoNix> {
        let Settings { bin_dir, store, options, home, cache } = settings;
        let mut looked_in: Vec<PathBuf> = std::env::split_paths(search_path).collect();
        if let Some(dir) = &bin_dir {
            looked_in = vec![dir.clone()];
        }
        // The link is kept as it is found: what it leads to may be collected
        // as garbage when the next system brings another Nix.
        let found = looked_in.iter().find(|dir| {
            let has = |name: &str| executable(&dir.join(name));
            dir.is_absolute() && has("nix") && has("nix-env") && has("nix-store")
        });
        let Some(found) = found.cloned() else {
            let looked_in = std::env::join_paths(&looked_in).unwrap_or_default();
            return Err(NoNix { looked_in: plain(looked_in.as_encoded_bytes()) });
        };
        let mut path = found.clone().into_os_string();
        if !search_path.is_empty() {
            path.push(":");
            path.push(search_path);
        }
        let options = lists_last(options);
        Ok(Self { bin_dir: found, search_path: path.into(), store, options, home, cache })
    }

    /// The environment of every call: complete, nothing else is inherited.
    ///
    /// Neither NIX_PATH nor NIX_CONFIG: they would change what is built. The
    /// proxies are read from this process each time, and never written into a
    /// job's specification, because their URLs may hold passwords.
    pub fn environment(&self) -> Vec<(OsString, OsString)> {
        let mut variables: Vec<(OsString, OsString)> = vec![
            ("PATH".into(), self.search_path.clone().into()),
            ("HOME".into(), self.home.clone().into()),
            ("XDG_CACHE_HOME".into(), self.cache.clone().into()),
            ("LANG".into(), "C.UTF-8".into()),
        ];
        if self.store != "auto" {
            variables.push(("NIX_REMOTE".into(), self.store.clone().into()));
        }
        let handed_on = environment::of_nix().into_iter();
        variables.extend(handed_on.map(|(name, value)| (name.into(), value)));
        variables
    }

    /// Returns the store URL as `--store` takes it; `auto` leaves the choice to Nix.
    pub fn store(&self) -> &str {
        &self.store
    }

    /// Returns a copy of this Nix with further options: those of the configuration come
    /// after them and win, but for lists (`extra-NAME`), which add up; and with another
    /// file of names and passwords, which has those of the first one.
    pub fn with(&self, options: Vec<(String, String)>, netrc: Option<&Path>) -> Self {
        let netrc = netrc.map(|file| (NETRC_FILE.into(), file.to_string_lossy().into_owned()));
        let all = options.into_iter().chain(self.options.iter().cloned()).chain(netrc);
        Self { options: lists_last(all.collect()), ..self.clone() }
    }

    /// Where Nix reads names and passwords, as this host has it configured;
    /// nothing if it does not say.
    pub async fn netrc_file(&self) -> Option<PathBuf> {
        if let Some((_, file)) = self.options.iter().rfind(|(name, _)| name == NETRC_FILE) {
            return Some(file.into());
        }
        // Newer ones call it `config show`, and know this name too.
        let command = self.nix(&["show-config", "--json"]).time_limit(QUICK);
        let done = command.run(std::future::pending()).await.ok()?;
        let said: Configured = serde_json::from_slice(&done.stdout).ok()?;
        Some(said.netrc_file.value).filter(|file| file.is_absolute())
    }

    /// `--option NAME VALUE` for every call.
    pub fn options(&self) -> &[(String, String)] {
        &self.options
    }

    /// A daemon for this store that speaks its protocol over its stdin and
    /// stdout, for where none listens.
    pub fn daemon_on_pipes(&self) -> Command {
        // NIX_REMOTE says which store, as it does for every program.
        self.program("nix-daemon").arg("--stdio")
    }

    /// Where the store that it writes really is.
    pub fn store_root(&self) -> StoreRoot {
        StoreRoot::of(&self.store)
    }

    /// Asks Nix for its version.
    pub async fn version(&self) -> Result<Version, NixFailed> {
        let command = self.program("nix").arg("--version").time_limit(QUICK);
        let said = succeed("nix --version", command.run(std::future::pending()).await?)?;
        let said = plain(&said);
        Version::parse(&said).ok_or_else(|| NixFailed::Refused {
            what: "nix --version".into(),
            said: format!("no version in {:?}", said.chars().take(80).collect::<String>()),
        })
    }

    /// `nix SUBCOMMAND` with what every such call gets.
    fn nix(&self, subcommand: &[&str]) -> Command {
        self.program("nix")
            .args(subcommand.iter().copied())
            .args(["--extra-experimental-features", "nix-command flakes"])
            .args(self.option_arguments())
    }

    /// `nix-store --realise` with what every such call gets. It has no flakes; but
    /// without their names Nix warns of the options that are for them.
    fn realising(&self) -> Command {
        self.program("nix-store")
            .args(["--realise", "--option", "extra-experimental-features", "nix-command flakes"])
            .args(self.option_arguments())
    }

    /// One of the older programs, which know no experimental features.
    fn old(&self, program: &str) -> Command {
        self.program(program).args(self.option_arguments()).time_limit(QUICK)
    }

    fn program(&self, name: &str) -> Command {
        Command::new(self.bin_dir.join(name)).environment(self.environment())
    }

    /// Builds the command of a program by its canonical path, which every user can
    /// reach even where the directory that the agent knows it by is closed to that
    /// user.
    fn program_for_all(&self, name: &str) -> Command {
        let program = self.bin_dir.join(name);
        let program = std::fs::canonicalize(&program).unwrap_or(program);
        Command::new(program).environment(self.environment())
    }

    fn option_arguments(&self) -> impl Iterator<Item = String> {
        let always = ALWAYS.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let options = self.options.iter().cloned().chain(always);
        options.flat_map(|(name, value)| ["--option".to_owned(), name, value])
    }
}

impl Version {
    /// From what `nix --version` prints: `nix (Nix) 2.8.0`,
    /// `nix (Lix, like Nix) 2.91.1`, `nix (Determinate Nix 3.6.2) 2.29.0`.
    fn parse(said: &str) -> Option<Self> {
        let line = said.lines().next()?;
        let mut numbers = line.split_whitespace().last()?.split(|c: char| !c.is_ascii_digit());
        let major = numbers.next()?.parse().ok()?;
        let minor = numbers.next()?.parse().ok()?;
        Some(Self { major, minor, lix: line.contains("(Lix") })
    }

    /// Whether `path:` references may name a directory: from 2.26 on.
    fn takes_dir_of_paths(self) -> bool {
        !self.lix && (self.major, self.minor) >= (2, 26)
    }
}

/// Answer of `nix show-config --json`, as far as it is of interest.
#[derive(Deserialize)]
struct Configured {
    #[serde(rename = "netrc-file")]
    netrc_file: Value,
}

#[derive(Deserialize)]
struct Value {
    value: PathBuf,
}

/// Options in the order in which Nix is to read them: one that adds to a list
/// would be lost before one that sets it.
fn lists_last(mut options: Vec<(String, String)>) -> Vec<(String, String)> {
    options.sort_by_key(|(name, _)| name.starts_with("extra-"));
    options
}

/// Returns the output of a program that succeeded, or an error with the end of its stderr.
fn succeed(what: &str, done: Finished) -> Result<Vec<u8>, NixFailed> {
    if done.end.success() {
        return Ok(done.stdout);
    }
    let said = if done.stderr.is_empty() { done.end.to_string() } else { done.stderr };
    Err(NixFailed::Refused { what: what.to_owned(), said })
}

fn executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests;

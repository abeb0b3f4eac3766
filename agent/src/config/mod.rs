//! The configuration: one TOML file, strict, every mistake named at once.
//!
//! Reads and checks; opens nothing that the file names (a token file may not be
//! there yet, a directory is made later). What comes out was checked once and
//! needs no second look. The one thing that is looked up is a time zone's name,
//! in the tz database. Keys whose feature is not built yet are mistakes too
//! (`unbuilt.rs`): an operator must not believe in what is not there.
//!
//! A surprise: where two values must fit each other (`health.grace` and
//! `health.timeout`, `retry.first` and `retry.max`) and one was left out, its
//! default gives way to the one that was written.

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeTable;

use crate::core::policy::{Confirm, Drift, OnKernelChange, OnRollbackFailure, Specialisation};
use crate::foreign_file;
use crate::git;
use crate::windows::{TimeZone, Windows};

mod announce;
mod brackets;
mod cache;
mod document;
pub mod duration;
mod nix_options;
mod places;
mod problem;
mod section;
mod sections;
mod settings;
mod unbuilt;
mod url;
mod value;
mod warnings;
mod wording;

pub use announce::{Hooks, Report};
pub use cache::Cache;
pub use places::{Places, places};
pub use problem::{Problem, Problems};

/// Larger is not a configuration, and would only cost memory.
const MOST_BYTES: usize = 1 << 20;

/// Everything the agent is told. `{hostname}` is already replaced, but in
/// `system.attribute`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// This host's name in the repository; the kernel's by default.
    pub hostname: String,
    /// Where the agent keeps what outlives a boot. Absolute.
    pub state_dir: PathBuf,
    /// Where the agent's socket is. Absolute; `bus` fits below it.
    pub run_dir: PathBuf,
    /// The prefix of the host's own paths. Absolute; `/` on a real host.
    pub root: PathBuf,
    /// The only machine this may run on: 32 hexadecimal digits.
    pub machine_id: Option<String>,
    /// Where the repository is, in order of preference. Never empty.
    pub remotes: Vec<Remote>,
    /// Which branches are followed, and how.
    pub branch: Branch,
    /// How often the remotes are asked.
    pub poll: Poll,
    /// Where in the repository this host's system is.
    pub system: System,
    /// What git may cost this host.
    pub git: git::Limits,
    /// How nix is run.
    pub nix: Nix,
    /// How a system is made the running one.
    pub activation: Activation,
    /// When something that failed is tried again.
    pub retry: Retry,
    /// Whether and when the agent reboots; without it never.
    pub reboot: Option<Reboot>,
    /// What a system must prove.
    pub health: Health,
    /// The cluster's binary cache; without it none is used.
    pub cache: Option<Cache>,
    /// Whether there is a listener for metrics.
    pub metrics: Metrics,
    /// What is run when a deployment ends.
    pub hooks: Hooks,
    /// Where results are shown as commit statuses; without it nowhere.
    pub report: Option<Report>,
}

/// One place the repository is served from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Its name in status, logs and metrics; unique.
    pub name: String,
    /// `https://`, `ssh://`, `file://` (for tests), or `http://` on this very host
    /// or with `insecure_http`, and without a token. The scheme is in lower case.
    /// Holds no password, and a user only with `ssh://`.
    pub url: String,
    /// Whether `url` may be `http://` on another host: whoever is on the way there
    /// then decides what runs. Default false.
    pub insecure_http: bool,
    /// Sent with the token. Default `fort-agent`.
    pub username: String,
    /// Holds the token; read at every use, may be absent or empty for now.
    pub token_file: Option<PathBuf>,
    /// The certificate authorities to trust for it, in PEM.
    pub ca_file: Option<PathBuf>,
    /// The private key for `ssh://`; there if and only if `known_hosts` is.
    pub ssh_key_file: Option<PathBuf>,
    /// The only host keys that are accepted for it.
    pub known_hosts: Option<PathBuf>,
    /// How long it may be silent. Default 20 s.
    pub timeout: Duration,
}

/// The branches, without `refs/heads/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// Default `release`.
    pub release: String,
    /// What is done with a system of the release branch.
    pub operation: Operation,
    /// Tried until the next reboot while it is ahead of the release. Default: none.
    pub testing: Option<String>,
    /// What is done with a head that does not descend from the last one.
    pub force_push: ForcePush,
}

/// What is done with a system of the release branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Operation {
    /// It is made the running system and, once verified, the one that boots.
    #[default]
    Switch,
    /// It only becomes the one that boots next.
    Boot,
}

/// What is done with a head that does not descend from the last accepted one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForcePush {
    /// It is held until somebody accepts it.
    #[default]
    Refuse,
    /// It is followed.
    Accept,
}

/// How often the remotes are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poll {
    /// Longer than zero. Default 30 s.
    pub interval: Duration,
    /// Up to this is added at random; may be zero. Default 5 s.
    pub jitter: Duration,
}

/// Where in the repository this host's system is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    /// What is evaluated.
    pub kind: Kind,
    /// Relative to the top of the repository, never out of it; `.` is the top.
    pub flake_dir: PathBuf,
    /// The attribute path of the system, as nix reads one; `{hostname}` is
    /// still in it.
    pub attribute: String,
    /// Whether a system that a manifest names is evaluated all the same.
    pub evaluate: Evaluate,
    /// How long evaluating and building may take. Default 2 h.
    pub timeout: Duration,
    /// Whether submodules are part of the tree. Default false.
    pub submodules: bool,
    /// What it may use of the host, under systemd. Default: as everybody.
    pub limits: Limits,
}

/// What a realise job may use: systemd.resource-control(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Bytes, above which it is slowed down.
    pub memory_high: Option<u64>,
    /// Bytes, above which it is killed.
    pub memory_max: Option<u64>,
    /// From 1 to 10000; a unit's usual weight is 100.
    pub cpu_weight: Option<u32>,
    /// From 1 to 10000; a unit's usual weight is 100.
    pub io_weight: Option<u32>,
}

/// What is evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// The flake in `flake_dir`.
    Flake,
    /// This file, relative to `flake_dir` and never out of it.
    File(PathBuf),
}

/// When a commit is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Evaluate {
    /// When nothing else says which system it describes.
    #[default]
    IfNeeded,
    /// Always.
    Always,
}

/// How nix is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nix {
    /// What `--store` and `NIX_REMOTE` take. Default `auto`.
    pub store: String,
    /// `--option NAME VALUE`, rendered as nix reads it, by name.
    pub options: Vec<(String, String)>,
    /// Where nix is; looked up in PATH where absent.
    pub bin_dir: Option<PathBuf>,
}

/// How a system is made the running one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activation {
    /// Who runs the long work.
    pub runner: Runner,
    /// Whether a commit waits for a person.
    pub confirm: Confirm,
    /// When systems may be activated.
    pub windows: Windows,
    /// What is done when another hand has switched the host.
    pub drift: Drift,
    /// How long activating may take. Default 15 min.
    pub timeout: Duration,
    /// Whose clock windows are on; by default the host's.
    pub time_zone: Option<TimeZone>,
    /// What is done with a system that runs in full only after a reboot.
    pub on_kernel_change: OnKernelChange,
    /// What is done with a system that brings another message bus.
    pub on_bus_change: OnBusChange,
    /// What is done when the old system could not be put back.
    pub on_rollback_failure: OnRollbackFailure,
    /// Which specialisation of a system is activated.
    pub specialisation: Specialisation,
}

/// What is done with a system that brings another implementation of the message bus,
/// or expects another interface of systemd, than runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnBusChange {
    /// It only becomes the one that boots next.
    #[default]
    Boot,
    /// As with every other.
    Switch,
}

/// Who runs the long work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Runner {
    /// systemd, in transient units.
    #[default]
    Systemd,
    /// Detached processes of the agent: for containers, tests and the demo.
    Direct,
}

/// When something that failed is tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// After the first failure; doubles from there. Default 60 s.
    pub first: Duration,
    /// The longest wait; never shorter than `first`. Default 32 min.
    pub max: Duration,
    /// How often a system is activated before it is quarantined. Default 3.
    pub activations: u32,
}

/// Whether and when the agent reboots the host for a system that needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reboot {
    /// Whether it does at all. Default false.
    pub allow: bool,
    /// When it may, in `activation.time_zone`. Default: always.
    pub windows: Windows,
}

/// What a system must prove before it boots by default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// How long a unit may settle; never longer than `timeout`. Default 10 s.
    pub grace: Duration,
    /// From the end of the activation, for everything. Default 3 min.
    pub timeout: Duration,
    /// Whether failed units count.
    pub failed_units: FailedUnits,
    /// Whether a remote must answer from the new system. Default true.
    pub remote: bool,
    /// What is done with a system that does not prove itself.
    pub on_failure: OnFailure,
    /// The operator's own checks.
    pub checks: Vec<Check>,
}

/// Which failed units count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FailedUnits {
    /// Those that had not failed before. Without systemd: none.
    #[default]
    New,
    /// None.
    None,
}

/// What is done with a system that does not prove itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// The last good system is put back.
    #[default]
    Rollback,
    /// It is kept, and said.
    Report,
}

/// One of the operator's own checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Its name in status, history and metrics; unique.
    pub name: String,
    /// How it is asked.
    pub probe: Probe,
    /// Whether its failure puts the last good system back. Default true.
    pub required: bool,
}

/// How a check is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// This `http://` or `https://` URL answers with success.
    Http(String),
    /// This program, with these arguments, exits with 0. Absolute, or a name to
    /// be found in PATH; never empty; no shell.
    Command(Vec<String>),
    /// `HOST:PORT` accepts a connection. The host may be a name.
    Tcp(String),
    /// This unit of systemd's is active.
    Unit(String),
}

/// Whether there is a listener for metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// Where; none by default.
    pub listen: Option<SocketAddr>,
    /// More names that it is asked by than its addresses and its own.
    pub names: Vec<String>,
}

/// Reads the configuration of this host from a file of at most 1 MiB.
pub fn load(path: &Path) -> Result<Config, Problems> {
    let kernel = rustix::system::uname();
    parse(&read(path)?, path, &kernel.nodename().to_string_lossy())
}

/// Checks the text of a configuration. `file` is only named in problems.
pub fn parse(text: &str, file: &Path, kernel_hostname: &str) -> Result<Config, Problems> {
    let Understood { config, problems, .. } = understand(text, file, kernel_hostname);
    problems.map_or(Ok(config), Err)
}

fn read(path: &Path) -> Result<String, Problems> {
    let unusable = |message: String| Problems::of_file(path, message);
    let unreadable = |e: std::io::Error| unusable(format!("cannot be read: {e}"));
    let mut bytes = Vec::new();
    let file = foreign_file::open(path).map_err(unreadable)?;
    file.take(MOST_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > MOST_BYTES {
        return Err(unusable("is larger than 1 MiB".to_owned()));
    }
    String::from_utf8(bytes).map_err(|e| {
        let good = &e.as_bytes()[..e.utf8_error().valid_up_to()];
        let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
        unusable(format!("line {line} is not UTF-8"))
    })
}

/// What could be understood of a text.
struct Understood {
    /// Where there are problems, what stands in for them is in it.
    config: Config,
    problems: Option<Problems>,
    /// Only what begins before this was read as it was written.
    intact: usize,
}

fn understand(text: &str, file: &Path, kernel_hostname: &str) -> Understood {
    let schema = document::Document::schema(|root| {
        let _ = sections::config(&root, kernel_hostname);
    });
    let (tree, errors) = DeTable::parse_recoverable(text);
    let mistakes = syntax_problems(&errors, text);
    // What comes before the line of the first mistake was read as written.
    let first = mistakes.iter().map(|mistake| mistake.span.start).min();
    let intact = first.map_or(usize::MAX, |at| {
        text.get(..at).and_then(|before| before.rfind('\n')).unwrap_or_default()
    });
    let document = document::Document::new(schema, intact);
    let config = sections::config(&document.root(Some(tree.get_ref())), kernel_hostname);
    let mut found = document.into_problems();
    found.extend(mistakes.into_iter().take(document::MOST_PROBLEMS));
    let problems = (!found.is_empty()).then(|| Problems::located(found, text, file));
    Understood { config, problems, intact }
}

/// The mistakes in the syntax. What follows a bracket that is never closed is none of
/// its own: only that is told.
fn syntax_problems(errors: &[toml::de::Error], text: &str) -> Vec<problem::Found> {
    let mut mistakes: Vec<_> = errors.iter().map(|error| syntax_problem(error, text)).collect();
    if !errors.is_empty()
        && let Some(at) = brackets::never_closed(text)
    {
        mistakes.retain(|mistake| mistake.span.start < at);
        let bracket = text.get(at..=at).unwrap_or_default();
        let message = format!("not TOML: this `{bracket}` is never closed");
        mistakes.push(problem::Found { span: at..at + 1, key: None, message });
    }
    mistakes
}

fn syntax_problem(error: &toml::de::Error, text: &str) -> problem::Found {
    let span = error.span().unwrap_or(text.len()..text.len());
    let message = format!("not TOML: {}", error.message().replace('\n', " "));
    problem::Found { span, key: None, message }
}

#[cfg(test)]
mod module_tests;
#[cfg(test)]
mod tests;

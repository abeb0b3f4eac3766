//! The configuration, understood: every section with its values.

use super::*;

/// Everything the agent is told. `{hostname}` is already replaced, but in
/// `system.attribute`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Name of this host in the repository; the kernel's host name by default.
    pub hostname: String,
    /// Directory where the agent keeps what outlives a boot. Absolute.
    pub state_dir: PathBuf,
    /// Directory of the agent's socket. Absolute; `bus` fits below it.
    pub run_dir: PathBuf,
    /// The prefix of the host's own paths. Absolute; `/` on a real host.
    pub root: PathBuf,
    /// ID of the only machine that this may run on: 32 hexadecimal digits. `None`: any.
    pub machine_id: Option<String>,
    /// Servers of the repository, in order of preference. Never empty.
    pub remotes: Vec<Remote>,
    /// Branches that are followed, and how.
    pub branch: Branch,
    /// How often the remotes are asked.
    pub poll: Poll,
    /// Where in the repository this host's system is.
    pub system: System,
    /// Limits on the memory and disk space that git may use.
    pub git: git::Limits,
    /// How nix is run.
    pub nix: Nix,
    /// How and when a system is made the running one.
    pub activation: Activation,
    /// When something that failed is tried again.
    pub retry: Retry,
    /// Whether and when the agent reboots; without it never.
    pub reboot: Option<Reboot>,
    /// Checks that a system must pass.
    pub health: Health,
    /// The cluster's binary cache; without it none is used.
    pub cache: Option<Cache>,
    /// Whether there is a listener for metrics.
    pub metrics: Metrics,
    /// Programs that are run when a deployment ends.
    pub hooks: Hooks,
    /// Where results are shown as commit statuses; without it nowhere.
    pub report: Option<Report>,
}

/// Server of the repository, and how to ask it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// Name of the remote in status, logs and metrics; unique.
    pub name: String,
    /// URL of the repository: `https://`, `ssh://`, `file://` (for tests), or `http://`
    /// on this very host or with `insecure_http`, and without a token. The scheme is in
    /// lower case. Holds no password, and a user only with `ssh://`.
    pub url: String,
    /// Whether `url` may be `http://` on another host: whoever is on the way there
    /// then decides what runs. Default false.
    pub insecure_http: bool,
    /// User name that is sent with the token. Default `fort-agent`.
    pub username: String,
    /// File with the token; read at every use, may be absent or empty for now.
    pub token_file: Option<PathBuf>,
    /// File with the certificate authorities to trust for the remote, in PEM.
    pub ca_file: Option<PathBuf>,
    /// File with the private key for `ssh://`; there if and only if `known_hosts` is.
    pub ssh_key_file: Option<PathBuf>,
    /// File with the only host keys that are accepted for the remote.
    pub known_hosts: Option<PathBuf>,
    /// How long the remote may be silent. Default 20 s.
    pub timeout: Duration,
}

/// Branches that are followed, without `refs/heads/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// Name of the release branch. Default `release`.
    pub release: String,
    /// How a system of the release branch is deployed.
    pub operation: Operation,
    /// Branch that is tried until the next reboot, while it is ahead of the release.
    /// `None` by default.
    pub testing: Option<String>,
    /// How a head is treated that does not descend from the last accepted one.
    pub force_push: ForcePush,
}

/// How a system of the release branch is deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Operation {
    /// The system is made the running one and, once verified, the one that boots.
    #[default]
    Switch,
    /// The system only becomes the one that boots next.
    Boot,
}

/// How a head is treated that does not descend from the last accepted one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ForcePush {
    /// The head is held until somebody accepts it.
    #[default]
    Refuse,
    /// The head is followed as any other.
    Accept,
}

/// How often the remotes are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poll {
    /// Time between two polls, longer than zero. Default 30 s.
    pub interval: Duration,
    /// Largest random addition to the interval; may be zero. Default 5 s.
    pub jitter: Duration,
}

/// Where in the repository this host's system is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    /// Whether a flake or a file is evaluated.
    pub kind: SystemKind,
    /// Directory of the flake or file, relative to the top of the repository and never
    /// out of it; `.` is the top.
    pub flake_dir: PathBuf,
    /// Attribute path of the system, as nix reads one; `{hostname}` is still in it.
    pub attribute: String,
    /// Whether a system that a manifest names is evaluated all the same.
    pub evaluate: Evaluate,
    /// How long evaluating and building may take. Default 2 h.
    pub timeout: Duration,
    /// Whether submodules are part of the tree. Default false.
    pub submodules: bool,
    /// Resources of the host that a realise job may use, under systemd. Default: as everybody.
    pub limits: UnitLimits,
}

/// Resources of the host that a realise job may use: systemd.resource-control(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UnitLimits {
    /// Memory in bytes above which the job is slowed down.
    pub memory_high: Option<u64>,
    /// Memory in bytes above which the job is killed.
    pub memory_max: Option<u64>,
    /// Weight of the job's processor time, from 1 to 10000; a unit's usual weight is 100.
    pub cpu_weight: Option<u32>,
    /// Weight of the job's input and output, from 1 to 10000; a unit's usual weight is 100.
    pub io_weight: Option<u32>,
}

/// Kind of source that is evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SystemKind {
    /// The flake in `flake_dir`.
    Flake,
    /// A file, relative to `flake_dir` and never out of it.
    File(PathBuf),
}

/// When a commit is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Evaluate {
    /// When nothing else says which system it describes.
    #[default]
    IfNeeded,
    /// For every commit, whatever else says which system it describes.
    Always,
}

/// How nix is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nix {
    /// Store, as `--store` and `NIX_REMOTE` take it. Default `auto`.
    pub store: String,
    /// Options for `--option NAME VALUE`, rendered as nix reads them, by name.
    pub options: Vec<(String, String)>,
    /// Directory of nix's programs; looked up in PATH where absent.
    pub bin_dir: Option<PathBuf>,
}

/// How and when a system is made the running one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activation {
    /// Runner of the long work, such as building and switching.
    pub runner: Runner,
    /// Whether a commit waits for a person.
    pub confirm: Confirm,
    /// When systems may be activated.
    pub windows: Windows,
    /// Reaction when another hand has switched the host.
    pub drift: Drift,
    /// Time limit of an activation. Default 15 min.
    pub timeout: Duration,
    /// Time zone of the windows; by default the host's.
    pub time_zone: Option<TimeZone>,
    /// How a system is deployed that runs in full only after a reboot.
    pub on_kernel_change: OnKernelChange,
    /// How a system is deployed that brings another message bus.
    pub on_bus_change: OnBusChange,
    /// Reaction to a rollback that failed.
    pub on_rollback_failure: OnRollbackFailure,
    /// Specialisation of a system that is activated.
    pub specialisation: Specialisation,
}

/// How a system is deployed that brings another implementation of the message bus, or
/// expects another interface of systemd, than runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnBusChange {
    /// The system only becomes the one that boots next.
    #[default]
    Boot,
    /// The system is deployed as every other.
    Switch,
}

/// Runner of the long work, such as building and switching.
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
    /// Wait after the first failure; doubles from there. Default 60 s.
    pub first: Duration,
    /// The longest wait; never shorter than `first`. Default 32 min.
    pub max: Duration,
    /// How often a system is activated before it is quarantined. Default 3.
    pub activations: u32,
}

/// Whether and when the agent reboots the host for a system that needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reboot {
    /// Whether the agent reboots the host at all. Default false.
    pub allow: bool,
    /// When the agent may reboot the host, in `activation.time_zone`. Default: always.
    pub windows: Windows,
}

/// Checks that a system must pass before it boots by default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// How long a unit may settle; never longer than `timeout`. Default 10 s.
    pub grace: Duration,
    /// Time limit of all checks, from the end of the activation. Default 3 min.
    pub timeout: Duration,
    /// Whether failed units count.
    pub failed_units: FailedUnits,
    /// Whether a remote must answer from the new system. Default true.
    pub remote: bool,
    /// Reaction to a system that does not pass.
    pub on_failure: OnFailure,
    /// The operator's own checks.
    pub checks: Vec<Check>,
}

/// Failed units that count against a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FailedUnits {
    /// Units that had not failed before. Without systemd: none.
    #[default]
    New,
    /// No unit, failed or not.
    None,
}

/// Reaction to a system that does not pass its checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// The agent rolls back to the last good system.
    #[default]
    Rollback,
    /// The system is kept, and its failure reported.
    Report,
}

/// One of the operator's own checks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Name of the check in status, history and metrics; unique.
    pub name: String,
    /// Probe that decides whether the check passes.
    pub probe: Probe,
    /// Whether a failure of the check rolls back to the last good system. Default true.
    pub required: bool,
}

/// Probe of a check, and what must be so for it to pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// An `http://` or `https://` URL that answers with success.
    Http(String),
    /// A program that exits with 0, and its arguments. Absolute, or a name to be found
    /// in PATH; never empty; no shell.
    Command(Vec<String>),
    /// `HOST:PORT` that accepts a connection. The host may be a name.
    Tcp(String),
    /// A unit of systemd's that is active.
    Unit(String),
}

/// Listener for metrics, if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// Address and port to listen on; `None` by default.
    pub listen: Option<SocketAddr>,
    /// Names that this host is asked by, besides its addresses and its own name.
    pub names: Vec<String>,
}

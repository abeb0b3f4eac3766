//! The command line: what can be typed, and what the exit code says.
//!
//! Everything but `run` and `job` asks the running agent over its socket and
//! renders the answer; nothing here decides. A closed pipe (`| head`) is not an
//! error, and nothing may panic on it.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command as ProcessCommand, ExitCode};

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueHint};

use crate::config::{self, Config, Places, Problems};
use crate::host::Ended;

mod check_config;
mod client;
mod diff;
mod explain;
mod history;
mod man;
mod push;
mod status;
mod summary;
mod watch;

/// Path of the configuration when no other is named.
const CONFIG: &str = "/etc/fort-agent/config.toml";
/// Environment variable that names another configuration.
const CONFIG_VARIABLE: &str = "FORT_AGENT_CONFIG";

/// Commands of the interface that this version does not have.
const UNBUILT: &[&str] = &["release"];

/// Keeps this host at what a git branch says.
#[derive(Debug, Parser)]
#[command(name = "fort-agent", version, max_term_width = 100)]
struct Line {
    /// The configuration [default: $FORT_AGENT_CONFIG or
    /// /etc/fort-agent/config.toml]
    #[arg(long, global = true, value_name = "PATH", value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent; stops on SIGTERM, work under way goes on
    Run,
    /// What runs, what should run, why they differ, and what happens next
    Status {
        /// Go on, and show each change as it comes; Ctrl-C ends it
        #[arg(long)]
        watch: bool,
        #[command(flatten)]
        format: Format,
    },
    /// Why a commit is, or is not, the one that runs: each rule with its evidence
    Explain {
        /// Its first seven or more digits [default: of the desired one]
        commit: Option<String>,
        #[command(flatten)]
        format: Format,
    },
    /// What a commit's system would change: packages, size and units
    Diff {
        /// Its first seven or more digits [default: of the desired one]
        commit: Option<String>,
        /// Let the commit's own program say which units it would touch. It runs as
        /// root: not for a commit that is still to be confirmed
        #[arg(long)]
        execute: bool,
        #[command(flatten)]
        format: Format,
    },
    /// How deployments ended, newest first
    History {
        /// At most so many [default: 20 for people, all with --json]
        #[arg(short = 'n', value_name = "N")]
        most: Option<u32>,
        #[command(flatten)]
        format: Format,
    },
    /// Look at the remotes now
    Poll(Format),
    /// Let exactly this commit be activated, where that waits for a person
    Confirm {
        /// Its first seven or more digits
        commit: String,
        #[command(flatten)]
        format: Format,
    },
    /// Accept a head that does not descend from the last accepted one
    Accept {
        /// Its first seven or more digits
        commit: String,
        #[command(flatten)]
        format: Format,
    },
    /// Activate nothing until `resume`; fetching, building and reporting go on
    Suspend {
        /// It ends by itself after this time, as in 2h or 30m
        #[arg(long = "for", value_name = "TIME", value_parser = client::seconds)]
        seconds: Option<u64>,
        /// Why, for whoever wonders
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        #[command(flatten)]
        format: Format,
    },
    /// End a suspension
    Resume(Format),
    /// Go back to the last good system before this one, and quarantine this one
    Rollback {
        /// To this commit, and no other: its first seven or more digits
        commit: Option<String>,
        /// Why, for whoever wonders
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        #[command(flatten)]
        format: Format,
    },
    /// Lift backoff and quarantine, and try again now
    Retry {
        /// Of this commit only: its first seven or more digits
        commit: Option<String>,
        #[command(flatten)]
        format: Format,
    },
    /// Check a configuration and name every mistake in it
    CheckConfig {
        /// Another file than --config says
        #[arg(value_hint = ValueHint::FilePath)]
        path: Option<PathBuf>,
        #[command(flatten)]
        format: Format,
    },
    /// Give the configured cache what it lacks of store paths and all that they
    /// refer to
    Push {
        /// Store paths, or links to them such as ./result
        #[arg(required = true, value_name = "PATH", value_hint = ValueHint::AnyPath)]
        paths: Vec<PathBuf>,
        #[command(flatten)]
        format: Format,
    },
    /// Print what a shell needs to complete these commands
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write those of all commands
    Man {
        /// Write all of them into this directory instead
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        out: Option<PathBuf>,
    },
    /// Work in a process of its own; started by the agent
    #[command(hide = true, disable_help_flag = true)]
    Job {
        /// Which, and its own arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<OsString>,
    },
}

#[derive(Clone, Copy, Debug, Args)]
struct Format {
    /// For programs
    #[arg(long)]
    json: bool,
}

/// How a command ended; as in the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    Silent = 3,
    Refused = 4,
}

/// Output of a command, and how it ended.
#[derive(Debug)]
struct Said {
    /// Text that goes to stdout.
    out: String,
    /// Text that goes to stderr: what is wrong and what to do; without a newline at its end.
    err: String,
    exit: Exit,
}

impl Said {
    fn done(out: String) -> Self {
        Self { out, err: String::new(), exit: Exit::Done }
    }

    fn not(exit: Exit, err: impl Into<String>) -> Self {
        Self { out: String::new(), err: err.into(), exit }
    }
}

/// Runs what this process was called for.
pub fn main() -> ExitCode {
    crate::core_dumps::forbid();
    match Line::try_parse() {
        Ok(line) => perform(line),
        Err(error) => misread(&error),
    }
}

fn perform(line: Line) -> ExitCode {
    let path = config_path(line.config);
    let with_config = |ask: &dyn Fn(&Config) -> Said| match config::load(&path) {
        Ok(config) => tell(&ask(&config)),
        Err(problems) => tell(&misconfigured(&path, &problems)),
    };
    let with_agent =
        |ask: &dyn Fn(&Places) -> Said| match config::places(&path, path == Path::new(CONFIG)) {
            Ok((places, None)) => tell(&ask(&places)),
            Ok((places, Some(problems))) => tell(&despite(&path, &problems, ask(&places))),
            Err(problems) => tell(&misconfigured(&path, &problems)),
        };
    match line.command {
        Command::Run => run(&path),
        Command::Job { args } => {
            crate::logging::init();
            crate::jobs::main(&args)
        }
        Command::Status { watch: true, format } => {
            with_agent(&|places| watch::watch(places, format.json))
        }
        Command::Status { watch: false, format } => {
            with_agent(&|places| client::status(places, format.json))
        }
        Command::Explain { commit, format } => {
            with_agent(&|places| client::explain(places, commit.as_deref(), format.json))
        }
        Command::Diff { commit, execute, format } => {
            let commit = commit.as_deref();
            with_config(&|config| diff::diff(config, commit, execute, format.json))
        }
        Command::Confirm { commit, format } => {
            with_agent(&|places| client::confirm(places, &commit, format.json))
        }
        Command::Suspend { seconds, reason, format } => {
            let reason = reason.unwrap_or_default();
            with_agent(&|places| client::suspend(places, &reason, seconds, format.json))
        }
        Command::Resume(format) => with_agent(&|places| client::resume(places, format.json)),
        Command::Rollback { commit, reason, format } => {
            let reason = reason.unwrap_or_default();
            let commit = commit.as_deref();
            with_agent(&|places| client::rollback(places, commit, &reason, format.json))
        }
        Command::Completions { shell } => tell(&man::completions(shell)),
        Command::Man { out } => tell(&man::man(out.as_deref())),
        Command::History { most, format } => {
            with_agent(&|places| client::history(places, most, format.json))
        }
        Command::Poll(format) => with_agent(&|places| client::poll(places, format.json)),
        Command::Accept { commit, format } => {
            with_agent(&|places| client::accept(places, &commit, format.json))
        }
        Command::Retry { commit, format } => {
            with_agent(&|places| client::retry(places, commit.as_deref(), format.json))
        }
        Command::Push { paths, format } => {
            with_config(&|config| push::push(config, &paths, format.json))
        }
        Command::CheckConfig { path: other, format } => {
            tell(&check_config::check(other.as_deref().unwrap_or(&path), format.json))
        }
    }
}

fn run(path: &Path) -> ExitCode {
    let config = match config::load(path) {
        Ok(config) => config,
        Err(problems) => return tell(&misconfigured(path, &problems)),
    };
    crate::logging::init();
    match crate::host::run(path, &config) {
        Ok(Ended::Told) => tell(&Said::done(String::new())),
        // As systemd would, and where there is none as well.
        Ok(Ended::Reconfigured) => {
            let error = begin_anew();
            tell(&Said::not(Exit::Failed, format!("fort-agent: cannot start anew: {error}")))
        }
        // The alternate form has the causes, on the same line.
        Err(error) => tell(&Said::not(Exit::Failed, format!("fort-agent: {error:#}"))),
    }
}

/// Replaces the process by the same program with the same arguments. Returns only if that fails.
fn begin_anew() -> io::Error {
    let program = crate::jobs::itself();
    let mut arguments = env::args_os();
    let called = arguments.next().unwrap_or_else(|| "fort-agent".into());
    ProcessCommand::new(program).arg0(called).args(arguments).exec()
}

fn config_path(told: Option<PathBuf>) -> PathBuf {
    let variable = || std::env::var_os(CONFIG_VARIABLE).filter(|value| !value.is_empty());
    told.or_else(|| variable().map(PathBuf::from)).unwrap_or_else(|| PathBuf::from(CONFIG))
}

/// Adds to an answer that the agent's file has mistakes by now: it goes on with what it
/// read before. An agent that is silent may be so because of them.
fn despite(path: &Path, problems: &Problems, mut said: Said) -> Said {
    let err = match said.exit {
        Exit::Silent => {
            said.exit = Exit::Usage;
            misconfigured(path, problems).err
        }
        Exit::Done | Exit::Failed | Exit::Usage | Exit::Refused => stale(path, problems),
    };
    said.err = if said.err.is_empty() { err } else { format!("{}\n{err}", said.err) };
    said
}

fn stale(path: &Path, problems: &Problems) -> String {
    if let Some(unreadable) = problems.iter().find(|problem| problem.line.is_none()) {
        return format!("fort-agent: {unreadable}; this is what the agent of this host says");
    }
    format!(
        "fort-agent: {} in {}: the agent goes on with what it read before; run \
         `fort-agent check-config`",
        mistakes(problems),
        path.display()
    )
}

fn mistakes(problems: &Problems) -> String {
    match problems.iter().count() {
        1 => "a mistake".into(),
        many => format!("{many} mistakes"),
    }
}

fn misconfigured(path: &Path, problems: &Problems) -> Said {
    let mistakes = mistakes(problems);
    let named = std::env::var_os(CONFIG_VARIABLE).is_some() || path != Path::new(CONFIG);
    let hint = if named { "" } else { "\n(--config PATH or FORT_AGENT_CONFIG name another file)" };
    Said::not(Exit::Usage, format!("{problems}\nfort-agent: {mistakes} in the configuration{hint}"))
}

/// Prints clap's message: help and version on stdout, the rest on stderr.
fn misread(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    let text = text.trim_end();
    if !error.use_stderr() {
        return tell(&Said::done(format!("{text}\n")));
    }
    let unbuilt = (error.kind() == ErrorKind::InvalidSubcommand)
        .then(|| {
            let typed = error.get(clap::error::ContextKind::InvalidSubcommand)?.to_string();
            UNBUILT.contains(&typed.as_str()).then_some(typed)
        })
        .flatten();
    tell(&match unbuilt {
        Some(command) => Said::not(
            Exit::Usage,
            format!("fort-agent: `{command}` is not supported by this version"),
        ),
        None => Said::not(Exit::Usage, text),
    })
}

/// Prints the output, and returns its exit code. Nobody listening is no failure; not
/// being able to write (a full disk) is one.
fn tell(said: &Said) -> ExitCode {
    let heard = write(&mut io::stdout().lock(), &said.out);
    if !said.err.is_empty() {
        // There is nobody left to tell that stderr is closed.
        let _ = write(&mut io::stderr().lock(), &format!("{}\n", said.err));
    }
    let exit = match (heard, said.exit) {
        (Err(_), Exit::Done) => Exit::Failed,
        (Ok(()) | Err(_), exit) => exit,
    };
    ExitCode::from(exit as u8)
}

fn write(to: &mut impl Write, text: &str) -> io::Result<()> {
    match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests;

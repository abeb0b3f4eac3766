//! Completions and manual pages, from the definitions that the command line is
//! read by.

use std::io;
use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::{Exit, Line, Said};

const PROGRAM: &str = "fort-agent";

/// Prints the script that a shell reads to complete the commands.
pub(super) fn completions(shell: Shell) -> Said {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut shown(), PROGRAM, &mut script);
    match String::from_utf8(script) {
        // clap_complete 4.6.11 writes the dash of the program's name in two ways,
        // so that no command's own options would be found.
        Ok(script) => Said::done(script.replace("fort__subcmd__agent", "fort__agent")),
        Err(error) => Said::not(Exit::Failed, format!("fort-agent: {error}")),
    }
}

/// Prints the page of the whole program; or writes all pages into a directory.
pub(super) fn man(out: Option<&Path>) -> Said {
    let Some(out) = out else {
        return match page().map(String::from_utf8) {
            Ok(Ok(page)) => Said::done(page),
            Ok(Err(error)) => Said::not(Exit::Failed, format!("fort-agent: {error}")),
            Err(error) => Said::not(Exit::Failed, format!("fort-agent: {error}")),
        };
    };
    match write_all(out) {
        Ok(written) => Said::done(written),
        Err(error) => {
            let what = format!("fort-agent: the pages cannot be written to {}", out.display());
            Said::not(Exit::Failed, format!("{what}: {error}"))
        }
    }
}

fn write_all(out: &Path) -> io::Result<String> {
    std::fs::create_dir_all(out)?;
    let mut written = String::new();
    let mut write = |name: String, page: Vec<u8>| {
        let path = out.join(name);
        std::fs::write(&path, page)?;
        written.push_str(&format!("{}\n", path.display()));
        io::Result::Ok(())
    };
    write(format!("{PROGRAM}.1"), page()?)?;
    let whole = shown();
    for command in whole.get_subcommands() {
        let name = format!("{PROGRAM}-{}", command.get_name());
        let mut page = Vec::new();
        // Its name in the page's head, and how it is typed in the synopsis.
        let typed = format!("{PROGRAM} {}", command.get_name());
        let command = command.clone().bin_name(typed).display_name(&name).version(None::<&str>);
        Man::new(command).manual("fort-agent").render(&mut page)?;
        write(format!("{name}.1"), page)?;
    }
    Ok(written)
}

/// Renders the page of the whole program.
fn page() -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let man = Man::new(shown()).manual("fort-agent");
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    let mut more = Roff::new();
    more.control("SH", ["COMMANDS"]);
    for command in shown().get_subcommands() {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let arguments = command.clone().bin_name("").render_usage().to_string();
        let arguments = arguments.trim_start_matches("Usage:").trim();
        more.control("TP", []);
        more.text([bold(command.get_name()), roman(format!(" {arguments}"))]);
        more.text([roman(about)]);
    }
    for (heading, rows) in [("EXIT STATUS", EXITS), ("FILES", FILES), ("ENVIRONMENT", VARIABLES)] {
        more.control("SH", [heading]);
        for (name, what) in rows {
            more.control("TP", []);
            more.text([bold(*name)]);
            more.text([roman(*what)]);
        }
    }
    more.to_writer(&mut page)?;
    man.render_version_section(&mut page)?;
    Ok(page)
}

const EXITS: &[(&str, &str)] = &[
    ("0", "Done."),
    ("1", "Failed; the cause is on stderr."),
    ("2", "What was typed, or the configuration, is wrong."),
    ("3", "The agent answers neither on its own socket nor on the system bus."),
    ("4", "Refused: not authorised, or the state does not allow it."),
];
const FILES: &[(&str, &str)] = &[
    ("/etc/fort-agent/config.toml", "The configuration."),
    ("/var/lib/fort-agent", "What the agent remembers, unless state_dir says otherwise."),
    ("/run/fort-agent/bus", "Where it is asked, unless run_dir says otherwise."),
];
const VARIABLES: &[(&str, &str)] = &[
    ("FORT_AGENT_CONFIG", "Another configuration; --config comes before it."),
    ("NO_COLOR", "If set to anything: no colours."),
    ("TZ", "The time zone that times are shown in."),
];

/// Returns the commands that a person may type: all but those that the agent itself calls.
fn shown() -> clap::Command {
    let whole = Line::command();
    let mut shown = clap::Command::new(PROGRAM)
        .version(crate::VERSION)
        .disable_help_subcommand(true)
        .subcommand_required(true)
        .args(whole.get_arguments().cloned());
    if let Some(about) = whole.get_about() {
        shown = shown.about(about.clone());
    }
    let commands = whole.get_subcommands().filter(|command| !command.is_hide_set());
    shown.subcommands(commands.cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_does_not_change_unnoticed() {
        let page = man(None).out.replace(env!("CARGO_PKG_VERSION"), "VERSION");
        assert!(!page.contains("fort-agent-job") && !page.contains("trailing"), "{page}");
        insta::assert_snapshot!(page);
    }

    #[test]
    fn every_command_has_a_page_and_every_shell_its_completions() {
        let out = tempfile::tempdir().unwrap();
        let said = man(Some(out.path()));
        let shown = shown();
        assert_eq!(said.out.lines().count(), 1 + shown.get_subcommands().count());
        for command in shown.get_subcommands() {
            let name = format!("fort-agent-{}.1", command.get_name());
            let page = std::fs::read_to_string(out.path().join(&name)).unwrap();
            assert!(page.contains(command.get_name()), "{name}");
        }
        for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
            let script = completions(shell).out;
            assert!(script.contains("suspend") && script.contains("config"), "{shell}: {script}");
            assert!(!script.contains("started by the agent"), "{shell}");
        }
    }
}

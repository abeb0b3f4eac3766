//! Where a running agent is found, whatever else is wrong with the file.
//!
//! An agent goes on with the configuration it began with when its file is
//! spoilt. Whoever wants to ask it then needs only its socket.

use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::{Config, Problems};

/// Where an agent answers, and where it leaves what it said last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Directory of the agent's socket.
    pub run_dir: PathBuf,
    /// Directory of what outlives the agent, such as its last status.
    pub state_dir: PathBuf,
}

impl Places {
    /// Takes the directories from a configuration.
    pub fn of(config: &Config) -> Self {
        Self { run_dir: config.run_dir.clone(), state_dir: config.state_dir.clone() }
    }
}

/// Finds the agent of a configuration file, and what is wrong with the file.
///
/// Where the file does not say for certain, its problems are all there is:
/// another agent must not be told what this one was meant to hear. Unless it is
/// `the_hosts`, the file of the one agent of this host, whose places are then
/// the usual ones.
pub fn places(file: &Path, the_hosts: bool) -> Result<(Places, Option<Problems>), Problems> {
    let kernel = rustix::system::uname();
    let kernel = kernel.nodename().to_string_lossy();
    let usual = || Places::of(&super::understand("", file, &kernel).config);
    let text = match super::read(file) {
        Ok(text) => text,
        Err(problems) if the_hosts => return Ok((usual(), Some(problems))),
        Err(problems) => return Err(problems),
    };
    let understood = super::understand(&text, file, &kernel);
    let mut places = Places::of(&understood.config);
    let Some(problems) = understood.problems else { return Ok((places, None)) };
    let key = "run_dir";
    let wrong = problems.iter().any(|problem| problem.key.as_deref() == Some(key));
    // Behind a mistake in the syntax it may well have been written.
    let lost = || text.get(..understood.intact).is_some_and(|intact| !has(intact, key));
    let sure = !wrong && !places.run_dir.as_os_str().is_empty() && !lost();
    if !sure && !the_hosts {
        return Err(problems);
    }
    // A value that is wrong was read as nothing.
    let usual = usual();
    for (place, usual) in
        [(&mut places.run_dir, usual.run_dir), (&mut places.state_dir, usual.state_dir)]
    {
        if place.as_os_str().is_empty() {
            *place = usual;
        }
    }
    Ok((places, Some(problems)))
}

fn has(text: &str, key: &str) -> bool {
    let (tree, _) = DeTable::parse_recoverable(text);
    tree.get_ref().keys().any(|name| name.get_ref() == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REMOTE: &str = "[[remote]]\nname = \"o\"\nurl = \"https://git.example.org/x\"\n";

    /// Returns the `run_dir` that is found, and whether anything is wrong with the file.
    fn found(text: &str, the_hosts: bool) -> Option<(String, bool)> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let (places, problems) = places(file.path(), the_hosts).ok()?;
        Some((places.run_dir.display().to_string(), problems.is_some()))
    }

    #[test]
    fn what_is_wrong_elsewhere_does_not_hide_the_agent() {
        let there = |wrong| Some(("/run/x".to_owned(), wrong));
        assert_eq!(found(&format!("run_dir = \"/run/x\"\n{REMOTE}"), false), there(false));
        assert_eq!(found(&format!("run_dir = \"/run/x\"\nrot = 1\n{REMOTE}"), false), there(true));
        assert_eq!(found("run_dir = \"/run/x\"\n[poll\ninterval = 3\n", false), there(true));
        let usual = Some(("/run/fort-agent".to_owned(), true));
        assert_eq!(found(&format!("{REMOTE}[poll]\ninterval = \"-5s\"\n"), false), usual);
    }

    #[test]
    fn another_agent_is_never_meant() {
        let unsure =
            ["rundir = \"/run/x\"\n", "run_dir = 3\n", "run_dir = \"x\"\n", "x = = 3\nrun_dir = 1"];
        for text in unsure {
            let text = format!("{text}{REMOTE}");
            assert!(found(&text, false).is_none(), "{text}");
            assert!(found(&text, true).is_some(), "{text}");
        }
        assert_eq!(found("run_dir = \"x\"\n", true), Some(("/run/fort-agent".into(), true)));
        let nowhere = Path::new("/nowhere/config.toml");
        assert!(places(nowhere, false).is_err());
        let (places, problems) = places(nowhere, true).unwrap();
        assert_eq!(places.state_dir, Path::new("/var/lib/fort-agent"));
        assert!(problems.is_some());
    }
}

//! `check-config`: every mistake at once, or in a few lines what was understood.

use std::path::Path;

use crate::config::{self, Config, Operation};

use super::{Exit, Said};

pub(super) fn check(path: &Path, json: bool) -> Said {
    match config::load(path) {
        Ok(_) if json => Said::done("[]\n".into()),
        Ok(config) => Said::done(summary(path, &config)),
        Err(problems) if json => match serde_json::to_string_pretty(&problems) {
            Ok(list) => Said { out: format!("{list}\n"), err: String::new(), exit: Exit::Usage },
            Err(error) => Said::not(Exit::Failed, error.to_string()),
        },
        Err(problems) => Said::not(Exit::Usage, problems.to_string()),
    }
}

/// What somebody who mistook one thing for another would notice.
fn summary(path: &Path, config: &Config) -> String {
    let how = match config.branch.operation {
        Operation::Switch => "switched to",
        Operation::Boot => "made the default of the next boot",
    };
    let testing = match &config.branch.testing {
        Some(branch) => format!("; {branch} is tried until the next reboot"),
        None => String::new(),
    };
    let checks: Vec<_> = config.health.checks.iter().map(|check| check.name.as_str()).collect();
    let checks =
        if checks.is_empty() { String::new() } else { format!(", checks {}", checks.join(" ")) };
    let remotes: Vec<_> =
        config.remotes.iter().map(|remote| format!("{} {}", remote.name, remote.url)).collect();
    let metrics = match config.metrics.listen {
        Some(listen) => format!("http://{listen}/metrics"),
        None => "not listened for".into(),
    };
    format!(
        "OK: {}\n  host     {}\n  remotes  {}\n  branch   {} is {how}{testing}\n  \
         system   {}#{}\n  health   within {}{checks}\n  metrics  {metrics}\n",
        path.display(),
        config.hostname,
        remotes.join(", "),
        config.branch.release,
        config.system.flake_dir.display(),
        config.system.attribute.replace("{hostname}", &config.hostname),
        seconds(config.health.timeout),
    )
}

fn seconds(duration: std::time::Duration) -> String {
    super::text::took(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn a_good_configuration_is_summed_up() {
        let file = file(
            "hostname = \"joker\"\nactivation.runner = \"direct\"\n[[remote]]\nname = \"origin\"\n\
             url = \"https://git.example.org/x.git\"\n[[health.check]]\nname = \"web\"\n\
             tcp = \"127.0.0.1:80\"\n",
        );
        let said = check(file.path(), false);
        assert_eq!(said.exit, Exit::Done, "{}", said.err);
        insta::assert_snapshot!(said.out.replace(&file.path().display().to_string(), "FILE"));
        assert_eq!(check(file.path(), true).out, "[]\n");
    }

    #[test]
    fn every_problem_is_listed_and_the_exit_code_is_that_of_usage() {
        let file = file(
            "[[remote]]\nname = \"o\"\nurl = \"https://x/\"\n[poll]\ninterval = \"-5s\"\nperiod = 3\n",
        );
        let said = check(file.path(), false);
        assert_eq!((said.exit, said.out.as_str()), (Exit::Usage, ""));
        assert!(said.err.contains(":5:") && said.err.contains(":6:"), "{}", said.err);
        let said = check(file.path(), true);
        assert_eq!((said.exit, said.err.as_str()), (Exit::Usage, ""));
        let list: Vec<serde_json::Value> = serde_json::from_str(&said.out).unwrap();
        assert!(list.iter().any(|problem| problem["line"] == 5), "{list:?}");
        assert!(list.iter().any(|problem| problem["line"] == 6), "{list:?}");
    }
}

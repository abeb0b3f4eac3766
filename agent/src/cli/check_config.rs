//! `check-config`: every mistake at once, or in a few lines what was understood.
//! With `--json` it is a list of mistakes, or an object of what was understood.

use std::path::Path;

use serde::Serialize;

use crate::config;

use super::{Exit, Said, summary};

pub(super) fn check(path: &Path, json: bool) -> Said {
    match config::load(path) {
        Ok(config) if json => written(&summary::json(path, &config), Exit::Done),
        Ok(config) => Said::done(summary::text(path, &config)),
        Err(problems) if json => written(&problems, Exit::Usage),
        Err(problems) => Said::not(Exit::Usage, problems.to_string()),
    }
}

fn written(value: &impl Serialize, exit: Exit) -> Said {
    match serde_json::to_string_pretty(value) {
        Ok(text) => Said { out: format!("{text}\n"), err: String::new(), exit },
        Err(error) => Said::not(Exit::Failed, error.to_string()),
    }
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
            "hostname = \"joker\"\nactivation.runner = \"direct\"\nnix.store = \"daemon\"\n[[remote]]\nname = \"origin\"\n\
             url = \"https://git.example.org/x.git\"\n[[health.check]]\nname = \"web\"\n\
             tcp = \"127.0.0.1:80\"\n",
        );
        let said = check(file.path(), false);
        assert_eq!(said.exit, Exit::Done, "{}", said.err);
        insta::assert_snapshot!(said.out.replace(&file.path().display().to_string(), "FILE"));
    }

    #[test]
    fn a_configuration_by_which_no_system_can_fail_is_told_as_such() {
        let of = |health: &str| {
            let file = file(&format!(
                "hostname = \"joker\"\nactivation.runner = \"direct\"\n[[remote]]\nname = \"origin\"\n\
                 url = \"https://git.example.org/x.git\"\n{health}"
            ));
            check(file.path(), false).out
        };
        let none = "nothing that could fail is checked";
        assert!(of("[health]\nremote = false\n").contains(none));
        let web = "[[health.check]]\nname = \"web\"\ntcp = \"127.0.0.1:80\"\n";
        let optional = format!("[health]\nremote = false\n{web}required = false\n");
        assert!(of(&optional).contains(none));
        for health in ["", &format!("[health]\nremote = false\n{web}")] {
            assert!(!of(health).contains(none), "{health}");
        }
    }

    #[test]
    fn all_that_a_person_may_be_surprised_by_is_in_it_and_no_secret() {
        let token = file("a secret");
        let file = file(&format!(
            "hostname = \"joker\"\nmachine_id = \"0123456789abcdef0123456789abcdef\"\n\
             [nix]\nstore = \"local?root=/x\"\n\
             [branch]\ntesting = \"\"\nforce_push = \"accept\"\n\
             [[remote]]\nname = \"origin\"\nurl = \"https://git.example.org/x.git\"\n\
             token_file = \"{token}\"\n\
             [activation]\nconfirm = \"10m\"\nwindows = [\"Mon,Wed 02:00-05:00\", \"Sat 22:00-04:00\"]\n\
             time_zone = \"Europe/Berlin\"\ndrift = \"revert\"\n\
             [reboot]\nallow = true\nwindows = [\"Sun 03:00-04:00\"]\n\
             [health]\non_failure = \"report\"\n\
             [cache]\nendpoint = \"https://cache.example.org/\"\nname = \"fort\"\n\
             token_file = \"{token}\"\n\
             public_key = \"fort:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"\n\
             [hooks]\non_verdict = [[\"/bin/notify\", \"--password\", \"a secret\"], [\"/bin/log\"]]\n\
             [report]\nforgejo = \"https://git.example.org\"\nrepository = \"infra/nixos\"\n\
             token_file = \"{token}\"\n[metrics]\nlisten = \"100.64.0.7:9101\"\n",
            token = token.path().display()
        ));
        let shown = |json| {
            let said = check(file.path(), json);
            assert_eq!((said.exit, said.err.as_str()), (Exit::Done, ""));
            assert!(!said.out.contains("a secret"), "{}", said.out);
            let named = said.out.replace(&file.path().display().to_string(), "FILE");
            named.replace(&token.path().display().to_string(), "TOKEN")
        };
        insta::assert_snapshot!(shown(false));
        insta::assert_snapshot!(shown(true));
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

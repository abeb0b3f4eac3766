//! Warnings about a configuration without mistakes: what it means and its owner may not expect.

use super::Config;
use crate::core::job::{REMOTE_CHECK, UNITS_CHECK};
use fort_http::in_clear;

impl Config {
    /// Sentences for people, each about a key; none where nothing is to be said.
    pub fn warnings(&self) -> Vec<String> {
        let remotes = self.remotes.iter().filter_map(|remote| {
            let name = &remote.name;
            if in_clear(&remote.url) {
                Some(format!(
                    "`remote.insecure_http` of {name}: whoever is on the way to it decides what \
                     runs on this host"
                ))
            } else if remote.url.starts_with("file://") {
                Some(format!(
                    "`remote.url` of {name} is a directory of this host, which is for tests: \
                     whoever can write there decides what runs on this host"
                ))
            } else {
                None
            }
        });
        let testing = self.branch.testing.as_ref().map(|testing| {
            format!(
                "`branch.testing`: whoever can push to {testing} is root on this host until its \
                 next reboot: protect that branch as {} is protected",
                self.branch.release
            )
        });
        let report = self.report.as_ref().map(|report| {
            format!(
                "`report.token_file`: a token that may set statuses of {} (write:repository) may \
                 push to it as well, from every host that has one: protect every branch that is \
                 followed against its account",
                report.repository
            )
        });
        let named = self.health.checks.iter().map(|check| &check.name);
        let named = named.filter(|name| [REMOTE_CHECK, UNITS_CHECK].contains(&name.as_str())).map(|name| {
            format!(
                "`health.check` {name}: the agent has a check of its own that is called so: in the                  history and in metrics the two cannot be told apart"
            )
        });
        remotes.chain(testing).chain(report).chain(named).collect()
    }
}

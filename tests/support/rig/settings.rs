//! The agent's configuration, as tests want it.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::super::forge::{Forge, Repo};
use super::super::nix::ScratchStore;
use super::{HOST, Rig};

/// For `[branch]`: what is pushed to it is tried until the next reboot.
pub(crate) const TRIES: &str = "testing = \"release-{hostname}-test\"\n";

/// Settings that a test may want other than usual.
pub(crate) struct Settings {
    /// Lines for the top of the configuration.
    pub(crate) top: String,
    /// Whole sections, after the others.
    pub(crate) sections: String,
    /// Lines of the section `[health]`; as for the other sections below.
    pub(crate) health: String,
    pub(crate) branch: String,
    pub(crate) poll: String,
    pub(crate) system: String,
    /// `[nix] options` besides the usual ones, as in an inline table.
    pub(crate) nix_options: String,
    pub(crate) retry: String,
    /// Filter of the agent's log, as `FORT_AGENT_LOG` has it.
    pub(crate) log: String,
    pub(crate) activation: String,
    /// The system bus. None, usually: the machine's own agent, if it has one,
    /// is not meant.
    pub(crate) bus: String,
    /// Whether jobs are started by `systemd` or, as usual, `direct`.
    pub(crate) runner: &'static str,
    /// Deadlines beside the loop, at most, in milliseconds.
    pub(crate) patience: Option<u32>,
    /// A program with its arguments that runs the agent in its own place; none, usually.
    pub(crate) within: Vec<String>,
    /// Where the service manager listens, if there is one.
    pub(crate) notify: Option<PathBuf>,
    /// The store, when it is not the usual one.
    pub(crate) store: Option<String>,
    /// Of the remotes, when they are not the usual one.
    pub(crate) remotes: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            top: String::new(),
            sections: String::new(),
            health: "grace = \"0s\"\ntimeout = \"4s\"\n".into(),
            branch: String::new(),
            poll: "interval = \"200ms\"\njitter = \"0s\"\n".into(),
            system: String::new(),
            nix_options: String::new(),
            retry: "first = \"1s\"\nmax = \"4s\"\n".into(),
            log: "debug,hyper=info,rustls=info,reqwest=info".into(),
            activation: String::new(),
            bus: "unix:path=/nonexistent".into(),
            runner: "direct",
            patience: None,
            within: Vec::new(),
            notify: None,
            store: None,
            remotes: None,
        }
    }
}
impl Rig {
    pub(crate) fn write_config(&self) {
        let Settings {
            top,
            sections,
            health,
            branch,
            poll,
            system,
            nix_options,
            retry,
            activation,
            runner,
            store,
            remotes,
            ..
        } = &self.settings;
        let usual_remote = remote("origin", &self.forge, &self.repo, "3s");
        // Root builds as root in tests alone, and that is refused where they are none.
        let is_test = |name: &str| *runner == "direct" || name != "build-users-group";
        let usual = ScratchStore::options().into_iter().filter(|(name, _)| is_test(name));
        let options = usual.fold(String::new(), |mut text, (k, v)| {
            let _ = write!(text, "{k} = \"{v}\", ");
            text
        });
        let usual_store =
            || self.daemon.as_ref().map_or(self.store.store(), |it| it.store().to_owned());
        let dir = self.store.dir().display();
        let text = format!(
            "hostname = \"{HOST}\"\nstate_dir = \"{dir}/state\"\nrun_dir = \"{dir}/run\"\n\
             root = \"{dir}/root\"\n{top}\n{}\n\
             [branch]\n{branch}\n\
             [poll]\n{poll}\n\
             [system]\n{system}\n\
             [nix]\nstore = \"{}\"\noptions = {{ {} }}\n\
             [activation]\nrunner = \"{runner}\"\n{activation}\n\
             [retry]\n{retry}\n\
             [health]\n{health}\n{sections}\n",
            remotes.as_deref().unwrap_or(&usual_remote),
            store.clone().unwrap_or_else(usual_store),
            format!("{options}{nix_options}").trim_end_matches(", "),
        );
        std::fs::write(self.config(), text).unwrap();
    }
}

/// A section for a remote.
pub(crate) fn remote(name: &str, forge: &Forge, repo: &Repo, timeout: &str) -> String {
    format!(
        "[[remote]]\nname = \"{name}\"\nurl = \"{}\"\ntoken_file = \"{}\"\n\
         ca_file = \"{}\"\ntimeout = \"{timeout}\"\n",
        repo.url,
        forge.token_file().display(),
        forge.ca_file().display(),
    )
}

//! Kinds of failure to get a system, told apart by what a person would do about them; their
//! words, and what lifts them.

use serde::{Deserialize, Serialize};

/// Reason why a system could not be got, by what a person would do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The commit's expression describes no system.
    Evaluation,
    /// A part of the system was not built or fetched.
    Build,
    /// The kernel killed what was at work, for want of memory.
    Memory,
    /// Nix cannot read its own settings.
    NixSettings,
    /// The program that the host has Nix run after each build (`post-build-hook`) failed.
    PostBuildHook,
    /// No machine that Nix may use builds this, by system, features or `max-jobs`.
    NoBuilder,
    /// A build was not even begun: its sandbox, say, could not be made.
    NotBegun,
    /// Nix cannot be run, was killed, or does not reach its store.
    Nix,
    /// The work took longer than it may.
    Late,
    /// The agent's own directory cannot be written.
    StateDir,
    /// The job never began its work.
    JobNotBegun,
    /// The job was killed before it could say what came of it.
    JobKilled,
    /// A fault that this version does not know: a newer agent wrote it.
    #[serde(other)]
    Other,
}

impl Fault {
    /// All faults that this version tells apart.
    pub const ALL: [Self; 12] = [
        Self::Evaluation,
        Self::Build,
        Self::Memory,
        Self::NixSettings,
        Self::PostBuildHook,
        Self::NoBuilder,
        Self::NotBegun,
        Self::Nix,
        Self::Late,
        Self::StateDir,
        Self::JobNotBegun,
        Self::JobKilled,
    ];

    /// Whether the fault says anything of the commit: only then is it the commit's failure.
    pub fn is_of_the_commit(self) -> bool {
        match self {
            Self::Evaluation | Self::Build | Self::NoBuilder | Self::Late => true,
            Self::Memory
            | Self::NixSettings
            | Self::PostBuildHook
            | Self::NotBegun
            | Self::Nix
            | Self::StateDir
            | Self::JobNotBegun
            | Self::JobKilled
            | Self::Other => false,
        }
    }

    /// Returns the cause as people read it: what Nix or the system said, after what that means.
    pub fn told(self, said: &str) -> String {
        match self.heading() {
            Some(heading) => format!("{heading}: {said}"),
            None => said.to_owned(),
        }
    }

    fn heading(self) -> Option<&'static str> {
        match self {
            Self::Evaluation => Some("evaluation failed"),
            Self::Memory => Some("killed for want of memory"),
            Self::NixSettings => Some("Nix cannot read its settings"),
            Self::PostBuildHook => Some("the host's post-build-hook failed"),
            Self::NoBuilder => Some("no machine here may build it"),
            Self::NotBegun => Some("its build could not be begun"),
            Self::Build
            | Self::Nix
            | Self::Late
            | Self::StateDir
            | Self::JobNotBegun
            | Self::JobKilled
            | Self::Other => None,
        }
    }

    /// Returns what is to be done besides trying again; none where a commit mends it.
    pub fn lift(self) -> Option<&'static str> {
        match self {
            Self::Evaluation | Self::Build | Self::Late | Self::Other => None,
            Self::Memory => Some(
                "give it more memory or swap, raise [system] limits, or let another host build it",
            ),
            Self::NixSettings => Some("correct nix.conf, or [nix] options"),
            Self::PostBuildHook => Some("mend post-build-hook in nix.conf, or take it out"),
            Self::NoBuilder => Some(
                "push a commit that this host can build, or give its Nix max-jobs, builders or \
                 extra-platforms",
            ),
            Self::NotBegun => {
                Some("mend what Nix needs for a build on this host (sandbox, namespaces, room)")
            }
            Self::Nix => Some("see why Nix does not work: systemctl status nix-daemon"),
            Self::JobNotBegun => Some("see why nothing can be started: systemctl status dbus"),
            Self::JobKilled => Some("see what killed it: journalctl -u 'fort-agent-realise-*'"),
            Self::StateDir => Some("make room in state_dir, or mend its disk"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_a_newer_agent_is_read() {
        let read: Fault = serde_json::from_str(r#""stolen-disk""#).unwrap();
        assert_eq!(read, Fault::Other);
        assert_eq!(serde_json::to_string(&Fault::NoBuilder).unwrap(), r#""no-builder""#);
    }

    #[test]
    fn what_a_commit_cannot_mend_says_what_does() {
        for fault in [Fault::Memory, Fault::NixSettings, Fault::PostBuildHook, Fault::NotBegun] {
            assert!(!fault.is_of_the_commit() && fault.lift().is_some(), "{fault:?}");
        }
        assert!(Fault::Evaluation.is_of_the_commit() && Fault::Evaluation.lift().is_none());
    }
}

//! Traces that a `switch-to-configuration` leaves besides its exit code: its output, in
//! the words of nixpkgs, and the list of units that it has still to start.

use std::path::Path;

use crate::core::guardian::Traces;

/// Lists below a host's root in which it writes down what it has still to do, should it
/// be killed.
const LISTS: [&str; 3] = ["start-list", "restart-list", "reload-list"];

/// Listener to the output of `switch-to-configuration`, line by line.
#[derive(Debug, Default)]
pub(super) struct Listener {
    /// Whether its activation did not get through.
    incomplete: bool,
    locked_out: bool,
    began: bool,
}

impl Listener {
    /// Takes in a line of its output.
    pub(super) fn hear(&mut self, line: &str) {
        self.incomplete |= says_incomplete(line);
        self.locked_out |= line == "Could not acquire lock";
        self.began |= says_begun(line);
    }

    /// Whether an activation has said that it did not get through: by
    /// `switch-to-configuration`, or of one of its snippets. It goes on all the same, and the
    /// code that says so is lost if there is a failed unit on the host, old or new.
    pub(super) fn incomplete(&self) -> bool {
        self.incomplete
    }

    /// Returns the traces of the program, with what its list of units to start says below `root`.
    pub(super) fn traces(self, root: &Path) -> Traces {
        // The others may stay, with nothing in them.
        let left = std::fs::read_to_string(list(root, LISTS[0])).unwrap_or_default();
        Traces {
            locked_out: self.locked_out,
            began: self.began,
            unfinished: !left.trim().is_empty(),
            hanging: Vec::new(),
        }
    }
}

/// Removes its lists: what a killed candidate left would be started by the old system.
pub(super) fn remove_lists(root: &Path) {
    for name in LISTS {
        let _ = std::fs::remove_file(list(root, name));
    }
}

fn list(root: &Path, name: &str) -> std::path::PathBuf {
    root.join("run/nixos").join(name)
}

fn says_incomplete(line: &str) -> bool {
    line == "Failed to run activate script"
        || line.starts_with("Activation script snippet '") && line.contains("' failed (")
}

/// Whether a line says that units are being changed. Stopping comes first; where nothing
/// is to be stopped that is worth a line, activating does.
fn says_begun(line: &str) -> bool {
    ["stopping the following units: ", "stopping swap device: ", "activating the configuration..."]
        .iter()
        .any(|begins| line.starts_with(begins))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(lines: &[&str]) -> Listener {
        let mut listener = Listener::default();
        lines.iter().for_each(|line| listener.hear(line));
        listener
    }

    // The lines as nixpkgs' switch-to-configuration and activation-script.nix print them.

    #[test]
    fn an_activation_says_when_it_did_not_get_through() {
        assert!(heard(&["Failed to run activate script"]).incomplete());
        assert!(heard(&["Activation script snippet 'agenixInstall' failed (1)"]).incomplete());
        assert!(!heard(&["warning: the following units failed: web.service"]).incomplete());
        assert!(!heard(&["setting up /etc..."]).incomplete());
    }

    #[test]
    fn a_switch_says_when_it_begins_and_when_it_was_locked_out() {
        let root = tempfile::tempdir().unwrap();
        let traces = |lines: &[&str]| heard(lines).traces(root.path());
        assert_eq!(traces(&["Pre-switch checks failed"]), Traces::default());
        for line in ["stopping the following units: web.service", "activating the configuration..."]
        {
            assert_eq!(traces(&[line]), Traces { began: true, ..Traces::default() }, "{line}");
        }
        let locked_out = Traces { locked_out: true, ..Traces::default() };
        assert_eq!(traces(&["Could not acquire lock"]), locked_out);
        assert_eq!(
            traces(&["Unable to list users with logind: Did not receive a reply"]),
            Traces::default()
        );
    }

    #[test]
    fn units_that_are_still_to_be_started_are_a_trace_until_the_list_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let unfinished = || Listener::default().traces(root.path()).unfinished;
        assert!(!unfinished());
        std::fs::create_dir_all(root.path().join("run/nixos")).unwrap();
        std::fs::write(list(root.path(), "reload-list"), "web.service\n").unwrap();
        std::fs::write(list(root.path(), "start-list"), "\n").unwrap();
        assert!(!unfinished());
        std::fs::write(list(root.path(), "start-list"), "web.service\n").unwrap();
        assert!(unfinished());
        remove_lists(root.path());
        assert!(!unfinished());
    }
}

//! Commands that run on a host, and what is waited for there.

use super::*;

impl Machine {
    /// Runs a command on it, as root, outside of all its units.
    pub(crate) fn run(&self, command: &[&str]) -> Output {
        self.command(command).output().unwrap()
    }

    /// The same, not waited for.
    pub(crate) fn spawn(&self, command: &[&str]) -> Child {
        self.command(command).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// A command on it, to be started; it must be on.
    pub(crate) fn command(&self, command: &[&str]) -> Command {
        let leader = self.leader().unwrap_or_else(|| panic!("{} is off", self.name));
        let group = Path::new(CGROUPS).join(cgroup_of(&leader.to_string()));
        let mut enter = Command::new("sh");
        enter
            .args(["-c", "echo $$ > \"$0\" && exec \"$@\""])
            .arg(group.join("cgroup.procs"))
            .args(["nsenter", "-t", &leader.to_string(), "-m", "-u", "-i", "-n", "-p", "-C"])
            .args(["-r", "-w", "-F", "--", "sh", "-c", WAIT, "wait"])
            .args(["env", "-i", &format!("PATH={PATH}"), "LANG=C.UTF-8"])
            .args(command)
            .stdin(Stdio::null());
        enter
    }

    /// Runs a command, whether it succeeds or not. Returns its output.
    pub(crate) fn tell(&self, command: &[&str]) -> String {
        let output = self.run(command);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Runs a command that must succeed: what it printed.
    #[track_caller]
    pub(crate) fn must(&self, command: &[&str]) -> String {
        let output = self.run(command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} {command:?}: {}\n{said}", self.name, output.status);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Waits for a condition.
    #[track_caller]
    pub(crate) fn wait_until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = Instant::now() + LONG;
        while !condition() {
            assert!(
                Instant::now() < deadline,
                "{}: waited in vain for {what}\n{}\n{}",
                self.name,
                self.console_text(),
                self.failed_units()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until a command succeeds.
    #[track_caller]
    pub(crate) fn wait_for(&self, command: &[&str]) {
        self.wait_until(&format!("{command:?}"), || self.run(command).status.success());
    }

    /// The units that are failed, one per line.
    pub(crate) fn failed_units(&self) -> String {
        if self.leader().is_none() {
            return String::new();
        }
        self.tell(&["systemctl", "list-units", "--failed", "--plain", "--no-legend"])
    }

    /// A property of a unit.
    pub(crate) fn unit(&self, unit: &str, property: &str) -> String {
        self.tell(&["systemctl", "show", "--value", "-p", property, unit])
    }

    /// Whether a unit is active.
    pub(crate) fn is_active(&self, unit: &str) -> bool {
        self.unit(unit, "ActiveState") == "active"
    }

    /// Journal of the host, all boots; `matches` as for journalctl.
    pub(crate) fn journal(&self, matches: &[&str]) -> String {
        self.tell(&[&["journalctl", "--no-pager", "-o", "short-monotonic"], matches].concat())
    }

    /// Status of the agent; `None` if it does not answer.
    pub(crate) fn status(&self) -> Option<Value> {
        let output = self.run(&["/run/current-system/sw/bin/fort-agent", "status", "--json"]);
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    /// Waits until the agent's status is as wanted.
    #[track_caller]
    pub(crate) fn wait_status(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = None;
        self.wait_until(what, || {
            last = self.status().or(last.take());
            last.as_ref().is_some_and(&wanted)
        });
        last.unwrap()
    }

    /// Waits until a commit runs, was verified, and nothing else is to do.
    #[track_caller]
    pub(crate) fn wait_in_sync(&self, commit: Commit) -> Value {
        self.wait_status(&format!("in sync with {commit}"), |status| {
            status["state"] == "up-to-date"
                && status["desired"]["commit"] == commit.to_string()
                && status["running"]["commit"] == commit.to_string()
                && status["deployment"].is_null()
        })
    }
}

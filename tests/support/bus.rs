//! A system bus of the test's own, with the policy that is shipped, and the
//! real polkitd on it.
//!
//! polkitd reads actions and rules from fixed places only, so it gets a mount
//! namespace in which those are the test's; nobody else sees that.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::rig::signal;

const NAME: &str = "network.gisi.fort.Agent1";
const OBJECT: &str = "/network/gisi/fort/Agent1";
/// Program of polkit, as Debian's `polkitd` installs it.
const POLKITD: &str = "/usr/lib/polkit-1/polkitd";
/// How other programs find polkit's policy for the bus.
const POLKIT_BUS_POLICY: &str = "/usr/share/dbus-1/system.d/org.freedesktop.PolicyKit1.conf";
const DEADLINE: Duration = Duration::from_secs(20);

/// Message bus with the agent's policy, for tests alone.
pub(crate) struct SystemBus {
    dir: tempfile::TempDir,
    daemon: Child,
    polkit: Option<Child>,
}

/// Result of a call over the bus.
#[derive(Debug)]
pub(crate) struct Called {
    pub(crate) ok: bool,
    pub(crate) said: String,
}

fn shipped(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("share").join(file)
}

impl SystemBus {
    /// Starts a bus without polkit.
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let include = |file: &Path| format!("<include>{}</include>", file.display());
        // The defaults are those of system.conf.
        let config = format!(
            "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN\" \
             \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n<busconfig>\
             <type>system</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
             <policy context=\"default\"><allow user=\"*\"/><deny own=\"*\"/>\
             <deny send_type=\"method_call\"/><allow send_type=\"signal\"/>\
             <allow send_requested_reply=\"true\" send_type=\"method_return\"/>\
             <allow send_requested_reply=\"true\" send_type=\"error\"/>\
             <allow receive_type=\"method_call\"/><allow receive_type=\"method_return\"/>\
             <allow receive_type=\"error\"/><allow receive_type=\"signal\"/>\
             <allow send_destination=\"org.freedesktop.DBus\"/></policy>{}{}</busconfig>",
            dir.path().join("socket").display(),
            include(&shipped("dbus-1/system.d/network.gisi.fort.Agent1.conf")),
            include(Path::new(POLKIT_BUS_POLICY)),
        );
        let file = dir.path().join("bus.conf");
        std::fs::write(&file, config).unwrap();
        let daemon = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", file.display()))
            .args(["--nofork", "--nopidfile"])
            .stdin(Stdio::null())
            .spawn()
            .expect("dbus-daemon is installed");
        let bus = Self { dir, daemon, polkit: None };
        wait_for("the bus", || bus.owner("org.freedesktop.DBus"));
        bus
    }

    /// Address of the bus, for `DBUS_SYSTEM_BUS_ADDRESS`.
    pub(crate) fn address(&self) -> String {
        format!("unix:path={}", self.dir.path().join("socket").display())
    }

    /// Starts polkitd with the shipped action and this rule, or none.
    pub(crate) fn polkit(&mut self, rule: &str) {
        let directory = |name: &str| {
            let path = self.dir.path().join(name);
            let _ = std::fs::create_dir(&path);
            path
        };
        let (actions, rules) = (directory("actions"), directory("rules"));
        let action = "network.gisi.fort.agent1.policy";
        std::fs::copy(shipped(&format!("polkit-1/actions/{action}")), actions.join(action))
            .unwrap();
        let mut file = std::fs::File::create(rules.join("50-test.rules")).unwrap();
        file.write_all(rule.as_bytes()).unwrap();
        assert!(Path::new(POLKITD).exists(), "polkitd is not installed: {POLKITD}");
        let script = format!(
            "mount --bind {} /usr/share/polkit-1/actions && \
             mount --bind {} /etc/polkit-1/rules.d && exec {POLKITD} --no-debug",
            actions.display(),
            rules.display()
        );
        let polkit = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "--", "/bin/sh", "-c", &script])
            .env("DBUS_SYSTEM_BUS_ADDRESS", self.address())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.polkit = Some(polkit);
        wait_for("polkitd", || self.owner("org.freedesktop.PolicyKit1"));
    }

    /// polkitd answers no more, or again.
    pub(crate) fn hold_polkit(&self, held: bool) {
        let polkit = self.polkit.as_ref().expect("polkitd was started");
        signal(polkit.id(), if held { "STOP" } else { "CONT" });
    }

    /// Waits until the agent is there.
    pub(crate) fn wait_agent(&self) {
        wait_for("the agent on the bus", || self.owner(NAME));
    }

    fn owner(&self, name: &str) -> bool {
        let ask = ["org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus"];
        let mut command = self.busctl(0);
        command.arg("call").args(ask).args(["NameHasOwner", "s", name]);
        let output = command.output().unwrap();
        output.status.success() && output.stdout.ends_with(b"true\n")
    }

    /// The agent's method, called by this user.
    pub(crate) fn call(&self, uid: u32, method: &str, arguments: &[&str]) -> Called {
        self.calling(uid, method, arguments).called()
    }

    /// The same, without waiting for it.
    pub(crate) fn calling(&self, uid: u32, method: &str, arguments: &[&str]) -> Calling {
        self.calling_as(uid, "yes", method, arguments)
    }

    /// The same; `ask`: whether a person may be asked.
    pub(crate) fn calling_as(
        &self,
        uid: u32,
        ask: &str,
        method: &str,
        arguments: &[&str],
    ) -> Calling {
        let mut command = self.busctl(uid);
        command.arg(format!("--allow-interactive-authorization={ask}"));
        command.args(["--timeout=60", "call", NAME, OBJECT, NAME, method]).args(arguments);
        Calling(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// Reads what anybody can read of the agent's object: its properties, or its description.
    pub(crate) fn look(&self, uid: u32, how: &[&str]) -> Called {
        let (interface, arguments) = how.split_first().unwrap();
        let mut command = self.busctl(uid);
        command.args(["call", NAME, OBJECT, interface]).args(arguments);
        Called::of(command.output().unwrap())
    }

    fn busctl(&self, uid: u32) -> Command {
        let (uid, mut command) = (uid.to_string(), Command::new("setpriv"));
        command.args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "--", "busctl"]);
        command.arg(format!("--address={}", self.address())).stdin(Stdio::null());
        command
    }
}

/// A call under way.
pub(crate) struct Calling(Child);

impl Calling {
    pub(crate) fn called(self) -> Called {
        Called::of(self.0.wait_with_output().unwrap())
    }
}

impl Called {
    fn of(output: Output) -> Self {
        let said = [output.stdout, output.stderr].concat();
        Self { ok: output.status.success(), said: String::from_utf8_lossy(&said).into_owned() }
    }
}

impl Drop for SystemBus {
    fn drop(&mut self) {
        for child in self.polkit.iter_mut().chain([&mut self.daemon]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < DEADLINE, "never came: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

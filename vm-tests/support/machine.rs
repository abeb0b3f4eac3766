//! A host: an image with a layer of its own over it, booted by systemd-nspawn.
//!
//! What a boot loader does is done by `fixture/boot`. A reboot from inside
//! boots again; a power cut kills every process at once and keeps the disk.

mod commands;
mod install;
mod power;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use fort_agent::core::types::Commit;
use serde_json::Value;

use super::cluster::{FORGE, GATEWAY};
use super::shared::system::Repository;
use super::systems::Agent;
use super::world::{CGROUPS, PLACE, cgroup_of, remove_groups, run};

/// Longer than anything here takes, even on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// The environment of commands on a host.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// User that evaluates commits, as module.nix makes it.
pub(crate) const EVALUATOR: &str = "fort-agent-eval";

/// Boots for as long as it ends by a reboot, which is 133.
const POWER: &str = r#"
echo $$ > "$1/power/cgroup.procs"
group="$1"
shift
while :; do
    sh -c 'echo $$ > "$0/host/cgroup.procs"; exec "$@"' "$group" "$@"
    code=$?
    echo "ended with $code"
    [ "$code" = 133 ] || exit "$code"
done
"#;

/// Adds the program that is there to the store, under its own hash.
const ADD_AGENT: &str =
    "nix-store --add-fixed --recursive sha256 /var/lib/fixture/fort-agent > /dev/null";

/// Waits for a command that it starts, and ends as that does. nsenter would do so
/// itself, but stops when the command is stopped: a shutdown stops every process of a
/// host for a moment, and nobody would tell nsenter to go on.
const WAIT: &str = r#"
"$@"
code=$?
[ "$code" -le 128 ] || kill -"$((code - 128))" $$ 2>/dev/null
exit "$code"
"#;

/// A host, running or not.
pub(crate) struct Machine {
    name: String,
    address: String,
    bridge: &'static str,
    dir: PathBuf,
    cgroup: PathBuf,
    power: std::cell::RefCell<Option<Child>>,
}

impl Machine {
    pub(super) fn new(
        name: &str,
        address: &str,
        bridge: &'static str,
        image: &Path,
        cgroups: &Path,
    ) -> Self {
        let dir = Path::new(PLACE).join(name);
        for part in ["upper", "work", "root"] {
            fs::create_dir_all(dir.join(part)).unwrap();
        }
        let layers = format!(
            "lowerdir={},upperdir={d}/upper,workdir={d}/work",
            image.display(),
            d = dir.display()
        );
        let root = dir.join("root");
        run("mount", &["-t", "overlay", "-o", &layers, "overlay", root.to_str().unwrap()]);
        let cgroup = cgroups.join(name);
        for part in ["power", "host"] {
            fs::create_dir_all(cgroup.join(part)).unwrap();
        }
        let machine = Self {
            name: name.into(),
            address: address.into(),
            bridge,
            dir,
            cgroup,
            power: None.into(),
        };
        machine.prepare();
        machine
    }

    /// Writes the identity of the host: its machine id, names and network.
    fn prepare(&self) {
        let id = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap().replace('-', "");
        self.write("/etc/machine-id", id.as_bytes());
        self.write("/etc/hostname", format!("{}\n", self.name).as_bytes());
        let hosts = format!("127.0.0.1 localhost\n127.0.1.1 {}\n{FORGE} forge\n", self.name);
        self.write("/etc/hosts", hosts.as_bytes());
        self.write("/etc/resolv.conf", format!("nameserver {GATEWAY}\n").as_bytes());
        let network = format!(
            "[Match]\nName=host0\n[Network]\nAddress={}/24\nGateway={GATEWAY}\n\
             LinkLocalAddressing=no\nIPv6AcceptRA=no\n",
            self.address
        );
        self.write("/etc/systemd/network/10-host0.network", network.as_bytes());
        // As on NixOS: everybody reaches Nix's daemon, and there is who evaluates.
        let socket = "d /nix/var/nix/daemon-socket 755 root root\n";
        self.write("/etc/tmpfiles.d/nix-daemon.conf", socket.as_bytes());
        let user =
            format!("{EVALUATOR}:x:871:871:Evaluates commits:/var/empty:/usr/sbin/nologin\n");
        for (file, line) in [("/etc/passwd", user), ("/etc/group", format!("{EVALUATOR}:x:871:\n"))]
        {
            let listed = fs::read_to_string(self.disk(file)).unwrap();
            self.write(file, (listed + &line).as_bytes());
        }
        self.write("/usr/sbin/fixture-boot", include_bytes!("../fixture/boot"));
        self.set_mode("/usr/sbin/fixture-boot", 0o755);
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Path of a host's file on its disk. Links are not followed, and what the host has
    /// mounted (/run) is not there.
    pub(crate) fn disk(&self, path: &str) -> PathBuf {
        self.dir.join("root").join(path.trim_start_matches('/'))
    }

    /// Where a path of its is as its processes see it, mounts and all; while it
    /// is off: on its disk.
    pub(crate) fn seen(&self, path: &str) -> PathBuf {
        match self.leader() {
            Some(leader) => {
                Path::new(&format!("/proc/{leader}/root")).join(path.trim_start_matches('/'))
            }
            None => self.disk(path),
        }
    }

    /// Writes a file on its disk.
    pub(crate) fn write(&self, path: &str, bytes: &[u8]) {
        let place = self.disk(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, bytes).unwrap();
    }

    pub(crate) fn set_mode(&self, path: &str, mode: u32) {
        fs::set_permissions(self.disk(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A file as its processes see it, without the last newline; empty if
    /// there is none. While it is off: from its disk.
    pub(crate) fn read(&self, path: &str) -> String {
        if self.leader().is_some() {
            let output = self.run(&["cat", path]);
            return String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        }
        fs::read_to_string(self.disk(path)).unwrap_or_default().trim_end().to_owned()
    }

    /// The target of a link, as its processes see it.
    pub(crate) fn link(&self, path: &str) -> Option<String> {
        let root = match self.leader() {
            Some(leader) => PathBuf::from(format!("/proc/{leader}/root")),
            None => self.dir.join("root"),
        };
        let target = fs::read_link(root.join(path.trim_start_matches('/'))).ok()?;
        Some(target.to_string_lossy().into_owned())
    }

    /// The system that runs.
    pub(crate) fn running(&self) -> Option<String> {
        self.link("/run/current-system")
    }

    /// The system that was booted.
    pub(crate) fn booted(&self) -> Option<String> {
        self.link("/run/booted-system")
    }

    /// The system that the boot loader boots.
    pub(crate) fn default(&self) -> Option<String> {
        Some(self.read("/boot/default")).filter(|system| !system.is_empty())
    }

    /// Version that the running system's fixture shows.
    pub(crate) fn version(&self) -> String {
        self.read("/run/fixture/version")
    }

    /// Every switch that got the lock: its action and its system.
    pub(crate) fn switches(&self) -> Vec<(String, String)> {
        let log = self.read("/var/log/switches");
        let split = |line: &str| line.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned()));
        log.lines().filter_map(split).collect()
    }

    /// How often it was booted: from its disk, since it may be about to reboot.
    pub(crate) fn boots(&self) -> usize {
        fs::read_to_string(self.disk("/var/log/boots")).unwrap_or_default().lines().count()
    }

    /// The program that is its system bus, as the bus itself says.
    pub(crate) fn bus(&self) -> String {
        let name = "org.freedesktop.DBus";
        let call = ["busctl", "--system", "call", name, "/org/freedesktop/DBus", name];
        let process = self.must(&[&call[..], &["GetConnectionUnixProcessID", "s", name]].concat());
        let process = process.strip_prefix("u ").unwrap();
        self.must(&["readlink", &format!("/proc/{process}/exe")])
    }

    /// Switches it on and waits until everything has started. Units that
    /// failed are the test's to look at.
    pub(crate) fn boot(&self) {
        self.switch_on();
        self.wait_booted();
    }

    /// Switches the machine on.
    pub(crate) fn switch_on(&self) {
        assert!(self.power.borrow().is_none(), "{} is on", self.name);
        self.wait_unplugged();
        let log = fs::File::options().create(true).append(true).open(self.console()).unwrap();
        let child = Command::new("sh")
            .args(["-c", POWER, "power"])
            .arg(&self.cgroup)
            .args(self.nspawn())
            .args(["--network-bridge", self.bridge, "--console=pipe"])
            .args(["--kill-signal=SIGRTMIN+3", "/usr/sbin/fixture-boot"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        *self.power.borrow_mut() = Some(child);
    }

    /// The forge's end of its wire.
    fn wire(&self) -> String {
        format!("vb-{}", self.name)
    }

    /// The kernel takes a moment to remove the link of a host that is gone, and
    /// the next one has the same name.
    fn wait_unplugged(&self) {
        let link = self.wire();
        let plugged = || {
            let shown = Command::new("ip").args(["link", "show", &link]).output().unwrap();
            shown.status.success()
        };
        let began = Instant::now();
        while plugged() {
            assert!(began.elapsed() < LONG, "{link} stays");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn nspawn(&self) -> Vec<String> {
        let root = self.dir.join("root");
        ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--link-journal=no"]
            .into_iter()
            .chain(["--resolv-conf=off", "--timezone=off", "-M", &self.name, "-D"])
            .chain(root.to_str())
            .map(str::to_owned)
            .collect()
    }

    /// Waits until it has booted.
    #[track_caller]
    pub(crate) fn wait_booted(&self) {
        self.wait_until("it to boot", || {
            let ended = match self.power.borrow_mut().as_mut() {
                Some(power) => power.try_wait().unwrap(),
                None => panic!("{} is off", self.name),
            };
            assert!(ended.is_none(), "{} did not boot:\n{}", self.name, self.console_text());
            let Some(leader) = self.leader() else { return false };
            Path::new(&format!("/proc/{leader}/root/run/systemd/private")).exists()
                && matches!(
                    self.tell(&["systemctl", "is-system-running", "--wait"]).as_str(),
                    "running" | "degraded"
                )
        });
    }

    /// First process of the host, by its number on this machine.
    pub(crate) fn leader(&self) -> Option<u32> {
        fn search(group: &Path) -> Option<u32> {
            let members = fs::read_to_string(group.join("cgroup.procs")).ok()?;
            let first = members.lines().filter_map(|pid| pid.parse().ok()).find(|pid: &u32| {
                let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
                let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
                let numbers = numbers.map(|n| n.split_whitespace().collect::<Vec<_>>());
                // Before it has its own name for things it is still nspawn.
                numbers.is_some_and(|n| n.len() == 2 && n[1] == "1")
            });
            let below = fs::read_dir(group).into_iter().flatten().flatten();
            first.or_else(|| {
                below
                    .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                    .find_map(|entry| search(&entry.path()))
            })
        }
        search(&self.cgroup.join("host"))
    }

    /// Kills every process of a unit at once, as `systemctl kill` does but
    /// without asking anybody: whether it was there.
    pub(crate) fn kill_unit(&self, unit: &str) -> bool {
        let slice = self.leader().and_then(|leader| {
            // init.scope, beside system.slice.
            let group = Path::new(CGROUPS).join(cgroup_of(&leader.to_string()));
            Some(group.parent()?.join("system.slice"))
        });
        slice.is_some_and(|slice| fs::write(slice.join(unit).join("cgroup.kill"), "1").is_ok())
    }

    fn console(&self) -> PathBuf {
        self.dir.join("console")
    }

    /// Output on the host's console, all boots.
    pub(crate) fn console_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.console()).unwrap_or_default()).into_owned()
    }

    /// Prints all that helps to understand a failed test, on stderr.
    fn tell_all(&self) {
        let mut out = std::io::stderr().lock();
        let _ = writeln!(out, "--- console of {}\n{}", self.name, self.console_text());
        if self.leader().is_some() {
            let _ = writeln!(out, "--- journal of {}\n{}", self.name, self.journal(&["-n", "200"]));
            let status = self.tell(&["/run/current-system/sw/bin/fort-agent", "status", "--json"]);
            let _ = writeln!(out, "--- status of {}\n{status}", self.name);
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell_all();
        }
        self.power_cut();
        let root = self.dir.join("root");
        let _ = Command::new("umount").args(["--recursive", "--lazy"]).arg(root).output();
        remove_groups(&self.cgroup);
    }
}

//! The host besides its agent: what it shows, and what a person or a power
//! cut does to it.

use std::path::PathBuf;
use std::process::Command;

use fort_agent::core::types::StorePath;
use serde_json::Value;

use super::super::firmware;
use super::super::system::Host;
use super::{HOST, Rig, jobs_of};

impl Rig {
    /// Another boot, of the default system or of what is to be booted once. The
    /// agent is not running then.
    pub(crate) fn boot(&self, id: &str) {
        let random = self.root().join("proc/sys/kernel/random");
        std::fs::create_dir_all(&random).unwrap();
        std::fs::create_dir_all(self.root().join("run")).unwrap();
        std::fs::write(random.join("boot_id"), id).unwrap();
        let once = self.oneshot().filter(|system| !self.panics(system));
        firmware::forget_oneshot(&self.variables());
        let Some(system) = once.or(self.boot_default()) else { return };
        let init = self.physical(&system).join("init");
        let status = Command::new(init).env("FORT_AGENT_ROOT", self.root()).status().unwrap();
        assert!(status.success());
    }

    /// From now on it is systemd-boot that boots this host.
    pub(crate) fn install_systemd_boot(&self) {
        firmware::create(&self.variables());
        firmware::write_bootctl(&self.programs().join("bootctl"), &self.variables());
        std::fs::create_dir_all(self.entries()).unwrap();
    }

    /// The system that it boots once.
    pub(crate) fn oneshot(&self) -> Option<String> {
        firmware::oneshot(&self.variables(), &self.entries())
    }

    fn variables(&self) -> PathBuf {
        self.root().join(firmware::VARIABLES)
    }

    fn entries(&self) -> PathBuf {
        self.root().join("boot/loader/entries")
    }

    /// A kernel whose text says so never gets far.
    fn panics(&self, system: &str) -> bool {
        let kernel = std::fs::read_to_string(self.physical(system).join("kernel"));
        kernel.unwrap().contains("panic")
    }

    /// Switches to a system as a person would, past the agent.
    pub(crate) fn switch_by_hand(&self, system: &StorePath) {
        let program = self.store.root().physical(system).join("bin/switch-to-configuration");
        let status =
            Command::new(program).arg("test").env("FORT_AGENT_ROOT", self.root()).status().unwrap();
        assert!(status.success());
    }

    /// Builds a host's system in the work tree as it is, past the agent.
    pub(crate) fn build_by_hand(&self, host: &Host) -> StorePath {
        self.tree.host(HOST, host);
        self.tree.git(&["add", "--all"]);
        let dir = self.tree.dir().display();
        let attribute =
            format!("git+file://{dir}#nixosConfigurations.{HOST}.config.system.build.toplevel");
        let said = self.store.run("nix", &["build", "--json", "--no-link", &attribute]);
        let said: Value = serde_json::from_str(&said).unwrap();
        said[0]["outputs"]["out"].as_str().unwrap().parse().unwrap()
    }
    /// Version that the fixture's service shows.
    pub(crate) fn version(&self) -> String {
        let path = self.root().join("run/fixture/version");
        std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
    }

    /// The switches that the host has seen: the action and the system.
    pub(crate) fn switches(&self) -> Vec<(String, String)> {
        let path = self.root().join("var/log/switches");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let split = |line: &str| line.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned()));
        text.lines().filter_map(split).collect()
    }

    /// The same, each as `ACTION VERSION`.
    pub(crate) fn switched(&self) -> Vec<String> {
        let named = |(action, system): (String, String)| {
            let version = std::fs::read_to_string(self.physical(&system).join("nixos-version"));
            format!("{action} {}", version.unwrap_or(system))
        };
        self.switches().into_iter().map(named).collect()
    }

    /// System that the boot loader would boot.
    pub(crate) fn boot_default(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.root().join("boot/default")).ok()?;
        Some(text.trim().to_owned())
    }

    /// The number of profile generations.
    pub(crate) fn generations(&self) -> usize {
        let directory = self.root().join("nix/var/nix/profiles");
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries.filter(|e| e.file_name().to_string_lossy().ends_with("-link")).count()
    }

    /// Where what a link names really is, if that is a store path.
    pub(crate) fn physical_of(&self, target: &std::path::Path) -> Option<PathBuf> {
        let path = target.to_str()?.parse().ok()?;
        Some(self.store.root().physical(&path))
    }

    /// Where a store path really is.
    pub(crate) fn physical(&self, system: &str) -> PathBuf {
        self.store.root().physical(&system.parse().unwrap())
    }

    /// The directories of the jobs of a kind.
    pub(crate) fn jobs(&self, kind: &str) -> Vec<PathBuf> {
        let jobs = std::fs::read_dir(self.state().join("jobs")).into_iter().flatten().flatten();
        let of_kind = |path: &PathBuf| {
            path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(kind))
        };
        jobs.map(|entry| entry.path()).filter(of_kind).collect()
    }

    /// The processes of the jobs of a kind.
    pub(crate) fn job_processes(&self, kind: &str) -> Vec<u32> {
        jobs_of(self.state().join("jobs").join(kind).to_str().unwrap())
    }
}

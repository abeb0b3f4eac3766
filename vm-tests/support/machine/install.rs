//! Systems that are built, installed and switched to on a host.

use super::*;

impl Machine {
    /// Runs a system's switch-to-configuration by hand: its exit code, if it
    /// was not killed, and what it said.
    pub(crate) fn switch(&self, system: &str, action: &str) -> (Option<i32>, String) {
        let program = format!("{system}/bin/switch-to-configuration");
        let output = self.run(&[&program, action]);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Puts a directory of this machine's onto its disk.
    pub(crate) fn copy_in(&self, from: &Path, to: &str) {
        let to = self.disk(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        let _ = fs::remove_dir_all(&to);
        run("cp", &["-aT", from.to_str().unwrap(), to.to_str().unwrap()]);
    }

    /// Builds its system of a work tree on it, through its Nix daemon: the
    /// store path. Not through git: what is not committed counts.
    #[track_caller]
    pub(crate) fn build(&self, tree: &Repository) -> String {
        self.bring(tree);
        self.must(&["sh", "-euc", &self.build_script(), "build"])
    }

    /// Makes its system of a work tree what it boots, while it is off: what an
    /// installation does. Needs no daemon.
    #[track_caller]
    pub(crate) fn install(&self, tree: &Repository, agent: &Agent) {
        self.bring(tree);
        self.bring_agent(agent);
        let script = format!(
            "{ADD_AGENT}\n{}\nsystem=\"$(readlink /var/lib/fixture/system)\"\n\
             nix-env -p /nix/var/nix/profiles/system --set \"$system\"\n\
             NIXOS_INSTALL_BOOTLOADER=1 \"$system/bin/switch-to-configuration\" boot\n\
             rm -r /var/lib/fixture /var/log/switches",
            self.build_script()
        );
        let nspawn = self.nspawn();
        let mut command = Command::new("sh");
        command
            .args(["-c", "echo $$ > \"$0/host/cgroup.procs\"; exec \"$@\""])
            .arg(&self.cgroup)
            .args(nspawn)
            .args(["--console=pipe", "--private-network", "/bin/sh", "-euc", &script])
            .stdin(Stdio::null());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} cannot be installed: {said}", self.name);
        remove_groups(&self.cgroup.join("host"));
        fs::create_dir_all(self.cgroup.join("host")).unwrap();
    }

    /// Puts an agent's program into its store, as a cache would.
    #[track_caller]
    pub(crate) fn receive(&self, agent: &Agent) {
        self.bring_agent(agent);
        self.must(&["sh", "-euc", ADD_AGENT]);
    }

    pub(super) fn bring_agent(&self, agent: &Agent) {
        let place = self.disk("/var/lib/fixture");
        fs::create_dir_all(&place).unwrap();
        fs::copy(&agent.file, place.join("fort-agent")).unwrap();
    }

    pub(super) fn bring(&self, tree: &Repository) {
        // Not .git: a path of a flake, not a repository.
        let place = self.disk("/var/lib/fixture/tree");
        let _ = fs::remove_dir_all(&place);
        fs::create_dir_all(&place).unwrap();
        for part in ["flake.nix", "systems.nix", "scripts", "tools", "hosts"] {
            let from = tree.dir().join(part);
            run("cp", &["-a", from.to_str().unwrap(), place.to_str().unwrap()]);
        }
    }

    pub(super) fn build_script(&self) -> String {
        format!(
            "nix --extra-experimental-features 'nix-command flakes' build \
             --out-link /var/lib/fixture/system --print-out-paths --no-write-lock-file \
             path:/var/lib/fixture/tree#nixosConfigurations.{}.config.system.build.toplevel",
            self.name
        )
    }
}

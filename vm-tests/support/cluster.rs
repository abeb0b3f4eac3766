//! A forge and hosts on one network.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use fort_agent::core::types::Commit;

use super::image::{Image, Root};
use super::machine::Machine;
use super::shared::forge::{Forge, Repo};
use super::shared::system::Repository;
use super::systems::{self, Agent, Host};
use super::world::{PLACE, run};

/// The hosts' default gateway.
pub(crate) const GATEWAY: &str = "10.83.0.1";
/// Where the forge is: behind the gateway, so that a route is needed.
pub(crate) const FORGE: &str = "192.0.2.1";
const BRIDGE: &str = "hosts";

/// Policy of the system bus about access to the agent.
const BUS_POLICY: &[u8] =
    include_bytes!("../../agent/share/dbus-1/system.d/network.gisi.fort.Agent1.conf");

/// A forge, a repository on it, and a network that hosts can be added to.
pub(crate) struct Cluster {
    image: Image,
    root: Root,
    cgroup: PathBuf,
    forge: OnceLock<(Forge, Repo)>,
    tree: Repository,
    agent: Agent,
    hosts: Cell<u8>,
}

/// Pace of an agent: its waiting times, and how often it tries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Setting `retry.activations` of the agent.
    pub(crate) activations: u32,
    /// Setting `retry.first` of the agent.
    pub(crate) first: &'static str,
    /// Setting `health.grace` of the agent.
    pub(crate) grace: &'static str,
    /// Setting `health.timeout` of the agent.
    pub(crate) health: &'static str,
    /// Setting `activation.timeout` of the agent.
    pub(crate) activation: &'static str,
}

impl Default for Pace {
    fn default() -> Self {
        Self { activations: 3, first: "1s", grace: "1s", health: "20s", activation: "15m" }
    }
}

impl Cluster {
    pub(super) fn new(image: Image, root: Root, cgroup: PathBuf) -> Self {
        let _ = std::fs::remove_dir_all(PLACE);
        std::fs::create_dir_all(PLACE).unwrap();
        run("ip", &["link", "add", BRIDGE, "type", "bridge", "forward_delay", "0"]);
        run("ip", &["address", "add", &format!("{GATEWAY}/24"), "dev", BRIDGE]);
        run("ip", &["address", "add", &format!("{FORGE}/32"), "dev", BRIDGE]);
        run("ip", &["link", "set", BRIDGE, "up"]);
        let tree = systems::repository(&Path::new(PLACE).join("tree"));
        let agent = Agent::create(&Path::new(PLACE).join("agent"), "");
        agent.write(&tree);
        let hosts = Cell::new(10);
        Self { image, root, cgroup, forge: OnceLock::new(), tree, agent, hosts }
    }

    pub(crate) fn image(&self) -> Image {
        self.image
    }

    /// A new host: not booted, nothing installed. At its first boot it is the
    /// plain distribution.
    pub(crate) fn machine(&self, name: &str) -> Machine {
        self.hosts.set(self.hosts.get() + 1);
        let address = format!("10.83.0.{}", self.hosts.get());
        let machine = Machine::new(name, &address, BRIDGE, self.root.path(), &self.cgroup);
        // On NixOS it comes with the system, by `services.dbus.packages`.
        machine.write("/usr/share/dbus-1/system.d/fort-agent.conf", BUS_POLICY);
        if let Some((forge, _)) = self.forge.get() {
            trust(&machine, forge);
        }
        machine
    }

    /// A new host with a first system installed by hand, which it boots: the
    /// system profile and the boot loader's default are that.
    pub(crate) fn installed(&self, host: &Host) -> Machine {
        let machine = self.machine(host.name());
        host.write(&self.tree);
        machine.install(&self.tree, &self.agent);
        machine
    }

    /// Installs a host and boots it.
    pub(crate) fn booted(&self, host: &Host) -> Machine {
        let machine = self.installed(host);
        machine.boot();
        machine
    }

    /// The repository's work tree.
    pub(crate) fn tree(&self) -> &Repository {
        &self.tree
    }

    /// Another agent's program that behaves the same. Systems have it from now
    /// on, and hosts must be given it ([`Machine::receive`]).
    pub(crate) fn other_agent(&self, mark: &str) -> Agent {
        let agent = Agent::create(&Path::new(PLACE).join("agent").join(mark), mark);
        agent.write(&self.tree);
        agent
    }

    /// The forge, at `https://forge:3000` for hosts. They know it, its CA and
    /// its token when they are made after it was first asked for.
    pub(crate) fn forge(&self) -> &Forge {
        &self.with_forge().0
    }

    /// The repository `nixos` on the forge.
    pub(crate) fn repo(&self) -> &Repo {
        &self.with_forge().1
    }

    /// A directory of the world's.
    pub(crate) fn place(&self, name: &str) -> PathBuf {
        let place = Path::new(PLACE).join(name);
        std::fs::create_dir_all(&place).unwrap();
        place
    }

    /// Where something listens that hosts know by the name `forge`.
    pub(crate) fn forge_address(&self, port: u16) -> String {
        format!("{FORGE}:{port}")
    }

    fn with_forge(&self) -> &(Forge, Repo) {
        self.forge.get_or_init(|| {
            let dir = Path::new(PLACE).join("forge");
            let forge = Forge::start_at(&dir, "forge", &format!("{FORGE}:3000"));
            let repo = forge.repo("nixos");
            (forge, repo)
        })
    }

    /// An agent's configuration that follows this repository, quickly. `more`
    /// are whole sections; `[poll]`, `[retry]`, `[health]` and
    /// `[activation]` are taken.
    pub(crate) fn agent_config(&self, more: &str) -> String {
        self.agent_config_at(&Pace::default(), more)
    }

    /// The same at another pace.
    pub(crate) fn agent_config_at(&self, pace: &Pace, more: &str) -> String {
        let Pace { activations, first, grace, health, activation } = pace;
        format!(
            "[[remote]]\nname = \"origin\"\nurl = \"{}\"\nusername = \"fort-agent\"\n\
             token_file = \"/etc/forge-token\"\nca_file = \"/etc/ssl/forge.pem\"\n\
             [poll]\ninterval = \"200ms\"\njitter = \"0s\"\n\
             [nix]\nstore = \"daemon\"\n\
             [activation]\ntimeout = \"{activation}\"\n\
             [retry]\nfirst = \"{first}\"\nmax = \"4s\"\nactivations = {activations}\n\
             [health]\ngrace = \"{grace}\"\ntimeout = \"{health}\"\n{more}",
            self.repo().url
        )
    }

    /// Writes hosts into the tree, commits it, and pushes it to a branch.
    pub(crate) fn push(&self, branch: &str, hosts: &[&Host]) -> Commit {
        for host in hosts {
            host.write(&self.tree);
        }
        let commit = self.tree.commit("Change systems");
        self.push_head(branch);
        commit
    }

    /// Pushes what is checked out, whatever the branch was.
    pub(crate) fn push_head(&self, branch: &str) {
        let bare = self.repo().bare.to_str().unwrap().to_owned();
        self.tree.git(&["push", "--quiet", &bare, &format!("+HEAD:refs/heads/{branch}")]);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The world is used again for the next image.
        run("ip", &["link", "delete", BRIDGE]);
    }
}

/// Lets a host know the forge: its CA and its token.
fn trust(machine: &Machine, forge: &Forge) {
    let ca = std::fs::read(forge.ca_file()).unwrap();
    machine.write("/etc/ssl/forge.pem", &ca);
    machine.write("/etc/forge-token", &std::fs::read(forge.token_file()).unwrap());
    machine.set_mode("/etc/forge-token", 0o600);
}

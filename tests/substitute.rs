//! A host that fetches what another one built: the real agent and a real Nix
//! at one end, a faithful Attic server in the middle, another store at the
//! other.

use std::fs;
use std::future::Future;
use std::path::PathBuf;

use fort_agent::core::types::{Commit, StorePath};
use fort_agent::publish::{self, PublishLimits, publish};
use fort_agent::store::{PathInfo, Store};
use serde_json::Value;

use crate::support::attic::{Attic, CACHE};
use crate::support::nix::ScratchStore;
use crate::support::rig::{HOST, Rig};
use crate::support::system::Host;

mod down;
mod secret;
mod signed;
mod through;
mod whole;

/// A host that is to fetch, a host that builds, and the cache between them.
struct Pair {
    rig: Rig,
    attic: Attic,
    builder: ScratchStore,
}

impl Pair {
    /// The cache is private and empty, and the agent has a token for it; it is
    /// not started.
    fn new() -> Self {
        let (rig, attic, builder) = (Rig::new(), Attic::start(), ScratchStore::new());
        let mut pair = Self { rig, attic, builder };
        pair.token(&pair.attic.token(&["r"]));
        pair.rig.settings.sections = pair.section(&pair.attic.public_key());
        pair
    }

    /// `[cache]`, trusting a key.
    fn section(&self, key: &str) -> String {
        format!(
            "[cache]\nendpoint = \"{}\"\nname = \"{CACHE}\"\ntoken_file = \"{}\"\n\
             public_key = \"{key}\"\npublish = \"off\"\n",
            self.attic.endpoint(),
            self.token_file().display()
        )
    }

    fn token_file(&self) -> PathBuf {
        self.rig.store.dir().join("attic-token")
    }

    fn token(&self, token: &str) {
        fs::write(self.token_file(), format!("{token}\n")).unwrap();
    }

    fn netrc(&self) -> PathBuf {
        self.rig.state().join("netrc")
    }

    /// Commits and pushes a host that the cache knows nothing of.
    fn push(&self, version: &str) -> Commit {
        self.rig.push("release", &host(version))
    }

    /// The same, with all of it in the cache before the agent hears of it.
    fn push_built(&self, version: &str) -> (Commit, StorePath) {
        self.rig.tree.host(HOST, &host(version));
        let system = self.build(version);
        self.give(&system);
        (self.rig.push_tree("release", version), system)
    }

    /// Builds what the work tree describes, where the agent's store is not.
    fn build(&self, version: &str) -> StorePath {
        self.rig.tree.host(HOST, &host(version));
        self.rig.tree.git(&["add", "--all"]);
        let said = self.builder.run("nix", &["build", "--json", "--no-link", &self.attribute()]);
        let said: Value = serde_json::from_str(&said).unwrap();
        said[0]["outputs"]["out"].as_str().unwrap().parse().unwrap()
    }

    fn attribute(&self) -> String {
        let dir = self.rig.tree.dir().display();
        format!("git+file://{dir}#nixosConfigurations.{HOST}.config.system.build.toplevel")
    }

    /// Gives the cache what it lacks of a system of the builder's.
    fn give(&self, system: &StorePath) {
        let token_file = self.builder.dir().join("token");
        fs::write(&token_file, self.attic.token_rw()).unwrap();
        let settings = publish::Settings {
            endpoint: self.attic.endpoint(),
            name: CACHE.into(),
            token_file,
            upstream_keys: Vec::new(),
            jobs: 4,
        };
        let (nix, paths) = (self.builder.nix(), std::slice::from_ref(system));
        let outcome = block(publish(
            &nix,
            &settings,
            &PublishLimits::JOB,
            paths,
            |_| {},
            std::future::pending(),
        ));
        assert_eq!((outcome.cause, outcome.left), (None, 0));
    }

    /// Returns the metadata of a path in the agent's store.
    fn info(&self, path: &StorePath) -> PathInfo {
        info(&self.rig.store, path)
    }

    /// Whether it came from the cache, by its signature, and no builder was run.
    fn was_fetched(&self, path: &StorePath) -> bool {
        let info = self.info(path);
        let signed = info.signatures.iter().any(|by| by.starts_with(&format!("{CACHE}:")));
        assert_ne!(signed, info.ultimate, "{info:?}");
        signed
    }

    fn running(&self) -> StorePath {
        let status = self.rig.status().unwrap();
        status["running"]["system"].as_str().unwrap().parse().unwrap()
    }
}

/// With dependencies that are built, too.
fn host(version: &str) -> Host {
    Host { parts: 3, ..Host::new(version) }
}

fn info(store: &ScratchStore, path: &StorePath) -> PathInfo {
    block(Store::of(&store.nix()).path_info(path)).unwrap().expect("it is in the store")
}

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

//! The cluster's cache, and what the agent gives it.

use std::path::PathBuf;

use serde_json::Value;

use super::super::attic::Attic;
use super::Rig;

impl Rig {
    /// Starts a cache that the agent publishes to.
    pub(crate) fn publish(&mut self) {
        let cache = Attic::start();
        let token = self.push_token();
        std::fs::write(&token, cache.token_rw()).unwrap();
        self.settings.sections.push_str(&format!(
            "[cache]\nendpoint = \"{}\"\nname = \"fort\"\ntoken_file = \"{}\"\n\
             substitute = false\n",
            cache.endpoint(),
            token.display()
        ));
        self.cache = Some(cache);
    }

    /// Where the agent finds the token.
    pub(crate) fn push_token(&self) -> PathBuf {
        self.store.dir().join("push-token")
    }

    pub(crate) fn cache(&self) -> &Attic {
        self.cache.as_ref().expect("it has a cache")
    }

    /// Waits until the cache has all of what runs.
    pub(crate) fn wait_published(&self) -> Value {
        let status = self.wait("it is published", |status| {
            status["publish"]["backlog"] == 0
                && status["publish"]["system"] == status["running"]["system"]
        });
        let system = status["running"]["system"].as_str().unwrap().to_owned();
        assert!(self.cache().stored().contains(&system), "{system}: {:?}", self.cache().stored());
        status
    }
}

//! What Nix says in words.

use super::*;

impl Log {
    pub(super) fn message(&mut self, level: u64, msg: &str, raw_msg: Option<String>) {
        // 0 is an error, 1 a warning, 3 is for people who wait.
        match level {
            0 | 1 => {}
            3 => return self.learn_announced(msg),
            _ => return,
        }
        let said = plain(msg.as_bytes());
        self.say(&said);
        if level == 1 {
            return self.learn_ignored(&said);
        }
        if self.error.is_some() {
            return;
        }
        // A daemon's asides come as errors, but as nothing else than text.
        if raw_msg.is_none() && ASIDES.iter().any(|aside| said.starts_with(aside)) {
            return;
        }
        let text = match raw_msg {
            Some(raw) => plain(raw.as_bytes()),
            None => without_trace(&said).to_owned(),
        };
        let running = |kind: u64| self.activities.values().any(|a| a.kind == kind);
        let realising = running(REALISE) || running(BUILDS);
        self.error = Some(FirstError { text, realising });
    }

    /// One of the paths that are listed before anything is begun.
    pub(super) fn learn_announced(&mut self, msg: &str) {
        let Some(path) = msg.strip_prefix("  ").filter(|path| path.starts_with(STORE)) else {
            return;
        };
        if self.announced.builds + self.announced.fetches == 0 {
            (self.announced.built, self.announced.fetched) =
                (self.sum(BUILDS).0, self.sum(COPY_PATHS).0);
        }
        match path.ends_with(".drv") {
            true => self.announced.builds += 1,
            false => self.announced.fetches += 1,
        }
    }

    /// A setting of the flake's own that is not followed: `accept-flake-config` is
    /// off, whatever the flake says.
    pub(super) fn learn_ignored(&mut self, warning: &str) {
        let Some((_, rest)) = warning.split_once("flake configuration setting '") else { return };
        let Some((name, _)) = rest.split_once('\'') else { return };
        let name: String = name.chars().take(SETTING_CHARS).collect();
        if self.ignored.len() < MOST_IGNORED && !self.ignored.contains(&name) {
            self.ignored.push(name);
        }
    }

    pub(super) fn say(&mut self, text: &str) {
        self.tail.push(text.as_bytes());
        self.tail.push(b"\n");
    }
}

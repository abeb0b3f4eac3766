//! How far Nix is, from what it says.

use super::*;

impl Log {
    /// Returns how far Nix is.
    pub(crate) fn progress(&self) -> Progress {
        let (built, to_build) = self.sum(BUILDS);
        let (fetched, to_fetch) = self.sum(COPY_PATHS);
        let (to_build, to_fetch) = match &self.announced {
            // Without a word of it the counters must do, and what is still to be
            // fetched is among what they have as to be built.
            Announced { builds: 0, fetches: 0, .. } if fetched < to_fetch => (0, to_fetch),
            Announced { builds: 0, fetches: 0, .. } => (to_build, to_fetch),
            announced => (
                built.max(announced.built.saturating_add(announced.builds)),
                fetched.max(announced.fetched.saturating_add(announced.fetches)),
            ),
        };
        let (copied, bytes_known) = self.sum(COPY_PATH);
        let announced = self.activities.values().map(|a| a.bytes);
        let bytes_expected = announced.fold(0, u64::saturating_add).max(bytes_known);
        // Before 2.34 Nix says nothing of the last piece of a path, which is all
        // of a small one; what came over the wire is packed, or is as much.
        let (transferred, _) = self.sum(CONTENTS);
        let bytes_done = copied.max(transferred.min(bytes_expected));
        let newest = |kinds: &[u64]| {
            let running = self.activities.values().filter(|a| kinds.contains(&a.kind));
            running.max_by_key(|a| a.order)
        };
        let build = newest(&[BUILD]);
        // A path is fetched by a transfer of a file, whose name says less.
        let fetch = newest(&[COPY_PATH, SUBSTITUTE]).or_else(|| newest(&[FILE_TRANSFER, CONTENTS]));
        let phase = match (build, fetch) {
            (None, Some(_)) => Phase::Fetching,
            (None, None) if !self.evaluated && newest(&[REALISE, BUILDS]).is_none() => {
                Phase::Evaluating
            }
            (None, None) | (Some(_), _) => Phase::Building,
        };
        let current = build.or(fetch).and_then(|a| a.subject.as_deref()).map(name);
        let ignored = self.ignored.clone();
        Progress {
            phase,
            built,
            to_build,
            fetched,
            to_fetch,
            bytes_done,
            bytes_expected,
            current,
            ignored,
        }
    }

    pub(crate) fn sum(&self, kind: u64) -> (u64, u64) {
        let ended = self.done.get(&kind).copied().unwrap_or(0);
        let running = self.activities.values().filter(|a| a.kind == kind);
        running.fold((ended, ended), |(done, expected), a| {
            (done.saturating_add(a.done), expected.saturating_add(a.expected))
        })
    }
}

/// Phase of Nix's work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Working out what the system is.
    #[default]
    Evaluating,
    /// Downloading, and nothing else.
    Fetching,
    /// Building, perhaps downloading as well.
    Building,
}

/// How far Nix is. The numbers to come grow while it finds out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Phase that Nix is in.
    pub phase: Phase,
    /// Number of derivations built.
    pub built: u64,
    /// Number of derivations to build, with those built.
    pub to_build: u64,
    /// Number of store paths downloaded.
    pub fetched: u64,
    /// Number of store paths to download, with those downloaded.
    pub to_fetch: u64,
    /// Number of bytes downloaded, unpacked.
    pub bytes_done: u64,
    /// Number of bytes to download, unpacked.
    pub bytes_expected: u64,
    /// The name of what was begun last and still runs.
    pub current: Option<String>,
    /// Settings of the flake's `nixConfig` that Nix was not allowed to follow.
    pub ignored: Vec<String>,
}

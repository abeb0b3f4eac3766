//! Storage of a server, in a directory: contents as files, by their hash, and the
//! metadata of each as a file of JSON. Written as it comes, with no more in memory than
//! a piece of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use ring::digest::{Context, SHA256};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};

use super::body::{Broken, Incoming};

pub(super) struct Storage {
    dir: PathBuf,
    kept: Mutex<Kept>,
    partial: AtomicU64,
}

#[derive(Default)]
struct Kept {
    caches: BTreeMap<String, Cache>,
    /// By cache and hash.
    objects: BTreeMap<(String, String), Object>,
    /// The contents that are whole, by their hash.
    nars: BTreeSet<String>,
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Cache {
    pub(super) seed: [u8; 32],
    pub(super) is_public: bool,
    pub(super) store_dir: String,
    pub(super) priority: i32,
    pub(super) upstream_cache_key_names: Vec<String>,
    /// Of a key that was brought along; else the cache's.
    #[serde(default)]
    pub(super) key_name: Option<String>,
    /// In seconds; the server's own if none.
    #[serde(default)]
    pub(super) retention: Option<u32>,
}

/// A store path in a cache, as it was sent.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Object {
    pub(super) store_path_hash: String,
    pub(super) store_path: String,
    pub(super) references: Vec<String>,
    pub(super) deriver: Option<String>,
    pub(super) ca: Option<String>,
    /// Of its contents, in hex.
    pub(super) nar_hash: String,
    pub(super) nar_size: u64,
}

/// A body that was written to a file, which goes unless it is kept.
pub(super) struct Received {
    file: PathBuf,
    pub(super) hash: String,
    pub(super) size: u64,
}

impl Storage {
    /// Opens the storage in a directory, which may be empty.
    pub(super) fn open(dir: &Path) -> Self {
        // What was left half-way is of no use to anybody.
        let _ = std::fs::remove_dir_all(dir.join("partial"));
        for part in ["partial", "nar", "caches", "objects", "plain"] {
            std::fs::create_dir_all(dir.join(part)).unwrap();
        }
        let mut kept = Kept::default();
        for (name, text) in files(&dir.join("caches")) {
            let cache = serde_json::from_slice(&text).unwrap();
            for (hash, text) in files(&dir.join("objects").join(&name)) {
                let object = serde_json::from_slice(&text).unwrap();
                kept.objects.insert((name.clone(), hash), object);
            }
            kept.caches.insert(name, cache);
        }
        let nars = std::fs::read_dir(dir.join("nar")).unwrap();
        kept.nars = nars.map(|nar| nar.unwrap().file_name().into_string().unwrap()).collect();
        Self { dir: dir.to_owned(), kept: Mutex::new(kept), partial: AtomicU64::new(0) }
    }

    /// The secret that its tokens are signed with; made at the first start.
    pub(super) fn secret(&self) -> Vec<u8> {
        let file = self.dir.join("secret");
        std::fs::read(&file).unwrap_or_else(|_| {
            let secret = random().to_vec();
            std::fs::write(&file, &secret).unwrap();
            secret
        })
    }

    pub(super) fn cache(&self, name: &str) -> Option<Cache> {
        self.kept.lock().unwrap().caches.get(name).cloned()
    }

    /// Also what replaces one.
    pub(super) fn set_cache(&self, name: &str, cache: Cache) {
        let file = self.dir.join("caches").join(name);
        std::fs::write(file, serde_json::to_vec(&cache).unwrap()).unwrap();
        std::fs::create_dir_all(self.dir.join("objects").join(name)).unwrap();
        self.kept.lock().unwrap().caches.insert(name.to_owned(), cache);
    }

    pub(super) fn remove_cache(&self, name: &str) {
        std::fs::remove_file(self.dir.join("caches").join(name)).unwrap();
        let _ = std::fs::remove_dir_all(self.dir.join("objects").join(name));
        let mut kept = self.kept.lock().unwrap();
        kept.caches.remove(name);
        kept.objects.retain(|(cache, _), _| cache != name);
    }

    pub(super) fn object(&self, cache: &str, hash: &str) -> Option<Object> {
        let key = (cache.to_owned(), hash.to_owned());
        self.kept.lock().unwrap().objects.get(&key).cloned()
    }

    pub(super) fn objects(&self, cache: &str) -> Vec<Object> {
        let kept = self.kept.lock().unwrap();
        let of_it = kept.objects.iter().filter(|((name, _), _)| name == cache);
        of_it.map(|(_, object)| object.clone()).collect()
    }

    pub(super) fn set_object(&self, cache: &str, object: Object) {
        let file = self.dir.join("objects").join(cache).join(&object.store_path_hash);
        std::fs::write(file, serde_json::to_vec(&object).unwrap()).unwrap();
        let key = (cache.to_owned(), object.store_path_hash.clone());
        self.kept.lock().unwrap().objects.insert(key, object);
    }

    pub(super) fn has_nar(&self, hash: &str) -> bool {
        self.kept.lock().unwrap().nars.contains(hash)
    }

    pub(super) fn nar(&self, hash: &str) -> Option<File> {
        File::open(self.dir.join("nar").join(hash)).ok()
    }

    pub(super) fn keep_nar(&self, received: Received) {
        let hash = received.hash.clone();
        received.keep(&self.dir.join("nar").join(&hash));
        self.kept.lock().unwrap().nars.insert(hash);
    }

    /// Loses contents, as a disk does; what is known about them stays.
    pub(super) fn lose_nar(&self, hash: &str) {
        std::fs::remove_file(self.dir.join("nar").join(hash)).unwrap();
        self.kept.lock().unwrap().nars.remove(hash);
    }

    /// Where the plain cache has a file of that name; none if it is outside.
    pub(super) fn plain(&self, segments: &[&str]) -> Option<PathBuf> {
        let outside = segments.is_empty() || segments.iter().any(|s| s.is_empty() || *s == "..");
        (!outside).then(|| segments.iter().fold(self.dir.join("plain"), |dir, s| dir.join(s)))
    }

    /// Writes what comes, but no more than the limit.
    pub(super) async fn receive(
        &self,
        body: &mut Incoming<'_>,
        limit: u64,
    ) -> Result<Received, Broken> {
        let number = self.partial.fetch_add(1, Ordering::SeqCst);
        let file = self.dir.join("partial").join(number.to_string());
        let mut received = Received { file, hash: String::new(), size: 0 };
        let mut file = File::create_new(&received.file).unwrap();
        let mut hash = Context::new(&SHA256);
        while received.size < limit
            && let Some(piece) = body.next().await?
        {
            let rest = usize::try_from(limit - received.size).unwrap_or(usize::MAX);
            let piece = &piece[..piece.len().min(rest)];
            hash.update(piece);
            file.write_all(piece).unwrap();
            received.size += piece.len() as u64;
        }
        received.hash = hex(hash.finish().as_ref());
        Ok(received)
    }
}

impl Received {
    pub(super) fn keep(self, to: &Path) {
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::rename(&self.file, to).unwrap();
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        // Not there any more if it was kept.
        let _ = std::fs::remove_file(&self.file);
    }
}

pub(super) fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).unwrap();
    bytes
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let read = |entry: std::fs::DirEntry| {
        (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
    };
    entries.map(read).collect()
}

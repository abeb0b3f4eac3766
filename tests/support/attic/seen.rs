//! Record of what a server saw, for tests to ask about.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::{Attic, CACHE};

/// Purpose of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The page at `/`.
    Front,
    CacheConfig,
    CreateCache,
    /// A cache is changed, or removed.
    ChangeCache,
    GetMissing,
    Upload,
    CacheInfo,
    NarInfo,
    Nar,
    /// The plain cache beside it.
    Plain,
    Other,
}

/// How many requests of each kind came, and what they weighed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) connections: u64,
    pub(crate) requests: u64,
    pub(crate) cache_config: u64,
    pub(crate) create_cache: u64,
    pub(crate) get_missing: u64,
    pub(crate) uploads: u64,
    pub(crate) cache_info: u64,
    pub(crate) narinfo: u64,
    pub(crate) nar: u64,
    pub(crate) plain: u64,
    /// Requests that carried any Authorization.
    pub(crate) authorized: u64,
    /// HTTP as sent and received by clients, headers included, TLS not.
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) most_uploads_at_once: u64,
    /// Answers that a fault is holding up.
    pub(crate) held: u64,
}

/// An upload whose information could be read.
#[derive(Clone, Debug)]
pub(crate) struct Upload {
    pub(crate) store_path: String,
    /// As they were sent.
    pub(crate) references: Vec<String>,
    pub(crate) nar_size: u64,
    /// Whether its information came in front of the body.
    pub(crate) preamble: bool,
    /// How much of the body was read so far.
    pub(crate) received: u64,
    pub(crate) outcome: Outcome,
    pub(crate) began: Instant,
    pub(crate) ended: Option<Instant>,
}

/// Outcome of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Not over yet, or the client went away.
    Open,
    Uploaded,
    Deduplicated,
    /// The upload was refused with this status.
    Refused(u16),
}

#[derive(Default)]
pub(super) struct Seen {
    kinds: Mutex<BTreeMap<Kind, u64>>,
    authorizations: Mutex<BTreeSet<String>>,
    authorized: AtomicU64,
    uploads: Mutex<Uploads>,
    pub(super) connections: AtomicU64,
    pub(super) received: std::sync::Arc<AtomicU64>,
    pub(super) sent: std::sync::Arc<AtomicU64>,
    pub(super) held: AtomicU64,
}

#[derive(Default)]
struct Uploads {
    log: Vec<Upload>,
    open: u64,
    most: u64,
    confirmed: u64,
    last: Option<u64>,
    holes: Vec<String>,
}

/// An upload that is under way; it ends with this.
pub(super) struct UnderWay<'a>(&'a Seen);

impl Seen {
    pub(super) fn request(&self, kind: Kind, authorization: Option<&str>) {
        *self.kinds.lock().unwrap().entry(kind).or_default() += 1;
        if let Some(authorization) = authorization {
            self.authorized.fetch_add(1, Ordering::SeqCst);
            self.authorizations.lock().unwrap().insert(authorization.to_owned());
        }
    }

    pub(super) fn upload_comes(&self) -> UnderWay<'_> {
        let mut uploads = self.uploads.lock().unwrap();
        uploads.open += 1;
        uploads.most = uploads.most.max(uploads.open);
        UnderWay(self)
    }

    /// Records the beginning of an upload. Returns its index in the log.
    pub(super) fn upload_begins(&self, upload: Upload) -> usize {
        let mut uploads = self.uploads.lock().unwrap();
        uploads.log.push(upload);
        uploads.log.len() - 1
    }

    /// Says whether it was the last one that is to be confirmed.
    pub(super) fn upload_ends(&self, place: usize, outcome: Outcome, received: u64) -> bool {
        let mut uploads = self.uploads.lock().unwrap();
        uploads.log[place].outcome = outcome;
        uploads.log[place].received = received;
        uploads.log[place].ended = Some(Instant::now());
        if matches!(outcome, Outcome::Uploaded | Outcome::Deduplicated) {
            uploads.confirmed += 1;
        }
        let over = uploads.last == Some(uploads.confirmed);
        if over {
            uploads.last = None;
        }
        over
    }

    pub(super) fn upload_receives(&self, place: usize, received: u64) {
        self.uploads.lock().unwrap().log[place].received = received;
    }

    /// Whether an upload that refers to this hash has come as far as its end.
    pub(super) fn follower_is_at_its_end(&self, hash: &str) -> bool {
        let uploads = self.uploads.lock().unwrap();
        uploads.log.iter().any(|upload| {
            let far = upload.received + 1 >= upload.nar_size;
            let refers = upload.references.iter().any(|reference| reference.starts_with(hash));
            upload.ended.is_none() && far && refers && !upload.store_path.contains(hash)
        })
    }

    /// Something was stored whose references are not there.
    pub(super) fn hole(&self, store_path: &str) {
        self.uploads.lock().unwrap().holes.push(store_path.to_owned());
    }

    pub(super) fn last_after(&self, more: u64) {
        let mut uploads = self.uploads.lock().unwrap();
        uploads.last = Some(uploads.confirmed + more);
    }

    pub(super) fn upload_log(&self) -> Vec<Upload> {
        self.uploads.lock().unwrap().log.clone()
    }

    pub(super) fn authorizations(&self) -> BTreeSet<String> {
        self.authorizations.lock().unwrap().clone()
    }

    pub(super) fn counts(&self) -> Counts {
        let kinds = self.kinds.lock().unwrap();
        let of = |kind| kinds.get(&kind).copied().unwrap_or(0);
        let read = |n: &AtomicU64| n.load(Ordering::SeqCst);
        Counts {
            connections: read(&self.connections),
            requests: kinds.values().sum(),
            cache_config: of(Kind::CacheConfig),
            create_cache: of(Kind::CreateCache),
            get_missing: of(Kind::GetMissing),
            uploads: of(Kind::Upload),
            cache_info: of(Kind::CacheInfo),
            narinfo: of(Kind::NarInfo),
            nar: of(Kind::Nar),
            plain: of(Kind::Plain),
            authorized: read(&self.authorized),
            received: read(&self.received),
            sent: read(&self.sent),
            most_uploads_at_once: self.uploads.lock().unwrap().most,
            held: read(&self.held),
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.uploads.lock().unwrap().open -= 1;
    }
}

/// For tests to ask.
impl Attic {
    pub(crate) fn counts(&self) -> Counts {
        self.shared.seen.counts()
    }

    /// Every Authorization that was sent here.
    pub(crate) fn authorizations(&self) -> BTreeSet<String> {
        self.shared.seen.authorizations()
    }

    /// The uploads in the order in which they came.
    pub(crate) fn upload_log(&self) -> Vec<Upload> {
        self.shared.seen.upload_log()
    }

    /// The store paths that were sent again after they had been confirmed.
    pub(crate) fn sent_again(&self) -> Vec<String> {
        let mut confirmed = BTreeSet::new();
        let mut again = Vec::new();
        for upload in self.upload_log() {
            if confirmed.contains(&upload.store_path) {
                again.push(upload.store_path.clone());
            }
            if matches!(upload.outcome, Outcome::Uploaded | Outcome::Deduplicated) {
                confirmed.insert(upload.store_path);
            }
        }
        again
    }

    /// Every store path that was stored while something that it refers to was
    /// not there: at that moment it could not be fetched.
    pub(crate) fn holes(&self) -> Vec<String> {
        self.shared.seen.uploads.lock().unwrap().holes.clone()
    }

    /// The store paths in [`CACHE`], sorted.
    pub(crate) fn stored(&self) -> Vec<String> {
        let objects = self.shared.storage.objects(CACHE).into_iter();
        let paths: BTreeSet<String> = objects.map(|object| object.store_path).collect();
        paths.into_iter().collect()
    }
}

//! `upload-path`: what is checked, in which order, and what is not. Neither
//! the store path nor its references are looked at.

use std::time::{Duration, Instant};

use hyper::http::request::Parts;
use hyper::{HeaderMap, Response};
use serde::Deserialize;

use super::body::{Broken, Incoming};
use super::fault::Fault;
use super::names::{CacheName, NarHash, PathHash};
use super::refusal::{Body, Refusal, json};
use super::seen::{Outcome, Upload};
use super::storage::Object;
use super::{Asked, zstd};

const INFO: &str = "x-attic-nar-info";
const PREAMBLE: &str = "x-attic-nar-info-preamble-size";
const LARGEST_INFO: usize = 1024 * 1024;
/// From here on Attic cuts contents into chunks, and words errors otherwise.
const CHUNKED_FROM: u64 = 64 * 1024;

#[derive(Deserialize)]
struct Info {
    cache: CacheName,
    store_path_hash: PathHash,
    store_path: String,
    references: Vec<String>,
    deriver: Option<String>,
    #[serde(rename = "system")]
    _system: Option<String>,
    #[serde(rename = "sigs")]
    _sigs: Vec<String>,
    ca: Option<String>,
    nar_hash: NarHash,
    nar_size: u64,
}

pub(super) async fn upload(
    head: &Parts,
    body: hyper::body::Incoming,
    asked: &Asked<'_>,
) -> Result<Response<Body>, Refusal> {
    let seen = &asked.shared.seen;
    let _under_way = seen.upload_comes();
    let mut body = Incoming::new(body, asked.shared, &asked.fault);
    let info = info(&head.headers, &mut body).await?;
    let place = seen.upload_begins(Upload {
        store_path: info.store_path.clone(),
        references: info.references.clone(),
        nar_size: info.nar_size,
        preamble: head.headers.contains_key(PREAMBLE),
        received: 0,
        outcome: Outcome::Open,
        began: Instant::now(),
        ended: None,
    });
    body.place = Some(place);
    seen.upload_receives(place, body.came);
    let stored = store(info, &mut body, asked).await;
    let (outcome, answer) = match stored {
        Ok((outcome, answer)) => (outcome, Ok(json(&answer))),
        Err(refusal @ Refusal::Cut) => (Outcome::Open, Err(refusal)),
        Err(refusal) => (Outcome::Refused(refusal.code()), Err(refusal)),
    };
    if seen.upload_ends(place, outcome, body.came) {
        // This answer still leaves: the connection ends when it has.
        asked.shared.refuse();
    }
    answer
}

/// In a header, or in front of the body.
async fn info(headers: &HeaderMap, body: &mut Incoming<'_>) -> Result<Info, Refusal> {
    if let Some(size) = headers.get(PREAMBLE) {
        let size = size
            .to_str()
            .map_err(|_| Refusal::request("X-Attic-Nar-Info-Preamble-Size has invalid encoding"))?;
        let size: usize = size.parse().map_err(|_| {
            Refusal::request("X-Attic-Nar-Info-Preamble-Size must be a valid unsigned integer")
        })?;
        if size > LARGEST_INFO {
            return Err(Refusal::request("Upload info is too large"));
        }
        let preamble = body.first(size).await.map_err(unread)?;
        if preamble.len() != size {
            return Err(Refusal::request("Upload info doesn't match specified size"));
        }
        serde_json::from_slice(&preamble).map_err(Refusal::request)
    } else if let Some(info) = headers.get(INFO) {
        serde_json::from_slice(info.as_bytes()).map_err(Refusal::request)
    } else {
        Err(Refusal::request("X-Attic-Nar-Info must be set"))
    }
}

async fn store(
    info: Info,
    body: &mut Incoming<'_>,
    asked: &Asked<'_>,
) -> Result<(Outcome, serde_json::Value), Refusal> {
    asked.allowed(&info.cache.0, "w")?;
    body.upload_of(info.nar_size);
    let storage = &asked.shared.storage;
    let known = storage.has_nar(&info.nar_hash.0);
    if known && asked.fault == Fault::NoProof {
        let answer = serde_json::json!({"kind": "Deduplicated", "frac_deduplicated": null});
        keep(info, asked);
        return Ok((Outcome::Deduplicated, answer));
    }
    let chunked = info.nar_size >= CHUNKED_FROM;
    // What comes after as many bytes as were announced is not looked at, but
    // for contents that are there already.
    let limit = if known { u64::MAX } else { info.nar_size };
    let received = storage.receive(body, limit).await.map_err(|broken| match broken {
        Broken::Client if !known && !chunked => Refusal::internal(),
        broken => unread(broken),
    })?;
    if received.hash != info.nar_hash.0 || received.size != info.nar_size {
        let what = if known || chunked { "Bad NAR Hash or Size" } else { "Bad chunk hash or size" };
        return Err(Refusal::request(what));
    }
    if let Fault::AwaitsFollower { last } = &asked.fault
        && info.store_path != *last
    {
        while !asked.shared.seen.follower_is_at_its_end(&info.store_path_hash.0) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    let (outcome, answer) = if known {
        let answer = serde_json::json!({"kind": "Deduplicated", "frac_deduplicated": null});
        (Outcome::Deduplicated, answer)
    } else {
        let fraction = chunked.then_some(0.0);
        let size = zstd::size(received.size);
        storage.keep_nar(received);
        let answer = serde_json::json!({"kind": "Uploaded", "file_size": size, "frac_deduplicated": fraction});
        (Outcome::Uploaded, answer)
    };
    keep(info, asked);
    Ok((outcome, answer))
}

/// The path is there from now on.
fn keep(info: Info, asked: &Asked<'_>) {
    let storage = &asked.shared.storage;
    let own = |reference: &String| reference.starts_with(&info.store_path_hash.0);
    let there = |reference: &String| {
        let hash = reference.get(..32).unwrap_or_default();
        own(reference) || storage.object(&info.cache.0, hash).is_some()
    };
    if !info.references.iter().all(there) {
        asked.shared.seen.hole(&info.store_path);
    }
    let object = Object {
        store_path_hash: info.store_path_hash.0,
        store_path: info.store_path,
        references: info.references,
        deriver: info.deriver,
        ca: info.ca,
        nar_hash: info.nar_hash.0,
        nar_size: info.nar_size,
    };
    storage.set_object(&info.cache.0, object);
}

fn unread(broken: Broken) -> Refusal {
    match broken {
        Broken::Client => Refusal::request("error reading a body from connection"),
        Broken::Fault(refusal) => refusal,
    }
}

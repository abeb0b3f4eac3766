//! Handlers of the API's endpoints: `cache-config` and `get-missing-paths`.

use std::collections::HashSet;
use std::fmt;

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Response};
use serde::de::{DeserializeOwned, Error as _, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;

use super::fault::Fault;
use super::names::{CacheName, PathHash};
use super::refusal::{Body, Refusal, full, json};
use super::storage::{Cache, random};
use super::{Asked, key};

/// Largest body that the framework reads, in bytes.
const LARGEST_BODY: usize = 2 * 1024 * 1024;
/// Most variables of one sqlite statement: the cache's name is one of them.
const MOST_VARIABLES: usize = 32_766;

#[derive(Deserialize)]
struct Create {
    keypair: Keypair,
    is_public: bool,
    store_dir: String,
    priority: i32,
    upstream_cache_key_names: Vec<String>,
}

/// Change of a cache's configuration. Fields that are absent stay as they are.
#[derive(Deserialize)]
struct Change {
    keypair: Option<Keypair>,
    is_public: Option<bool>,
    store_dir: Option<String>,
    priority: Option<i32>,
    upstream_cache_key_names: Option<Vec<String>>,
    retention_period: Option<Retention>,
}

#[derive(Deserialize)]
enum Keypair {
    Generate,
    Keypair(Secret),
}

/// A key that was brought along: its name, and its seed.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Secret(String, [u8; 32]);

#[derive(Deserialize)]
enum Retention {
    Global,
    Period(u32),
}

#[derive(Deserialize)]
struct Missing {
    #[serde(deserialize_with = "cache")]
    cache: CacheName,
    #[serde(deserialize_with = "hashes")]
    store_path_hashes: Vec<PathHash>,
}

impl TryFrom<String> for Secret {
    type Error = String;

    fn try_from(written: String) -> Result<Self, String> {
        key::secret(&written).map(|(name, seed)| Self(name, seed))
    }
}

impl Keypair {
    /// The name of the key, if it has one of its own, and its seed.
    fn take(self) -> (Option<String>, [u8; 32]) {
        match self {
            Self::Generate => (None, random()),
            Self::Keypair(Secret(name, seed)) => (Some(name), seed),
        }
    }
}

/// The framework says in which field something is wrong, and in which element.
fn cache<'de, D: Deserializer<'de>>(from: D) -> Result<CacheName, D::Error> {
    CacheName::deserialize(from).map_err(|why| D::Error::custom(format!("cache: {why}")))
}

fn hashes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<PathHash>, D::Error> {
    struct Hashes;
    impl<'de> Visitor<'de> for Hashes {
        type Value = Vec<PathHash>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a sequence")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut hashes = Vec::new();
            loop {
                let at = hashes.len();
                let wrong = |why| A::Error::custom(format!("store_path_hashes[{at}]: {why}"));
                match list.next_element().map_err(wrong)? {
                    Some(hash) => hashes.push(hash),
                    None => return Ok(hashes),
                }
            }
        }
    }
    from.deserialize_seq(Hashes)
}

pub(super) fn cache_config(
    head: &Parts,
    name: &str,
    asked: &Asked<'_>,
) -> Result<Response<Body>, Refusal> {
    let CacheName(name) = in_path(name)?;
    let cache = asked.allowed(&name, "r")?;
    // As Attic does it where it was not told: from the name it was asked by.
    let host = head.headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
    let api = match &asked.fault {
        Fault::Elsewhere(origin) => format!("{origin}/"),
        _ => format!("{}://{host}/", asked.shared.scheme),
    };
    Ok(json(&serde_json::json!({
        "substituter_endpoint": format!("{api}{name}"),
        "api_endpoint": api,
        "public_key": key::public(&name, &cache),
        "is_public": cache.is_public,
        "store_dir": cache.store_dir,
        "priority": cache.priority,
        "upstream_cache_key_names": cache.upstream_cache_key_names,
        "retention_period": cache.retention.map_or("Global".into(), |period| {
            serde_json::json!({"Period": period})
        }),
    })))
}

pub(super) async fn create_cache(
    head: &Parts,
    body: hyper::body::Incoming,
    name: &str,
    asked: &Asked<'_>,
) -> Result<Response<Body>, Refusal> {
    let CacheName(name) = in_path(name)?;
    let create: Create = read(&head.headers, body).await?;
    asked.permission(&name).require("cc")?;
    if asked.shared.storage.cache(&name).is_some() {
        return Err(Refusal::cache_exists());
    }
    let (key_name, seed) = create.keypair.take();
    let cache = Cache {
        seed,
        key_name,
        retention: None,
        is_public: create.is_public,
        store_dir: create.store_dir,
        priority: create.priority,
        upstream_cache_key_names: create.upstream_cache_key_names,
    };
    asked.shared.storage.set_cache(&name, cache);
    Ok(Response::new(full("")))
}

pub(super) async fn change_cache(
    head: &Parts,
    body: hyper::body::Incoming,
    name: &str,
    asked: &Asked<'_>,
) -> Result<Response<Body>, Refusal> {
    let CacheName(name) = in_path(name)?;
    let change: Change = read(&head.headers, body).await?;
    let mut cache = asked.allowed(&name, "cr")?;
    let mut changed = false;
    let mut set = |wanted: bool| changed |= wanted;
    set(change.keypair.is_some());
    if let Some(keypair) = change.keypair {
        (cache.key_name, cache.seed) = keypair.take();
    }
    set(change.is_public.is_some());
    cache.is_public = change.is_public.unwrap_or(cache.is_public);
    set(change.store_dir.is_some());
    cache.store_dir = change.store_dir.unwrap_or(cache.store_dir);
    set(change.priority.is_some());
    cache.priority = change.priority.unwrap_or(cache.priority);
    set(change.upstream_cache_key_names.is_some());
    cache.upstream_cache_key_names =
        change.upstream_cache_key_names.unwrap_or(cache.upstream_cache_key_names);
    set(change.retention_period.is_some());
    if let Some(retention) = change.retention_period {
        asked.permission(&name).require("cq")?;
        cache.retention = match retention {
            Retention::Global => None,
            Retention::Period(seconds) => Some(seconds),
        };
    }
    if !changed {
        return Err(Refusal::request("No modifiable fields were set."));
    }
    asked.shared.storage.set_cache(&name, cache);
    Ok(Response::new(full("")))
}

pub(super) fn remove_cache(name: &str, asked: &Asked<'_>) -> Result<Response<Body>, Refusal> {
    let CacheName(name) = in_path(name)?;
    asked.allowed(&name, "cd")?;
    asked.shared.storage.remove_cache(&name);
    Ok(Response::new(full("")))
}

pub(super) async fn get_missing(
    head: &Parts,
    body: hyper::body::Incoming,
    asked: &Asked<'_>,
) -> Result<Response<Body>, Refusal> {
    let request: Missing = read(&head.headers, body).await?;
    asked.allowed(&request.cache.0, "w")?;
    let hashes: HashSet<PathHash> = request.store_path_hashes.into_iter().collect();
    if hashes.len() + 1 > MOST_VARIABLES {
        return Err(Refusal::internal());
    }
    let storage = &asked.shared.storage;
    let missing = |hash: &String| storage.object(&request.cache.0, hash).is_none();
    // In the set's order, which is none.
    let missing: Vec<String> = hashes.into_iter().map(|hash| hash.0).filter(missing).collect();
    Ok(json(&serde_json::json!({"missing_paths": missing})))
}

/// A name in a URL.
pub(super) fn in_path(name: &str) -> Result<CacheName, Refusal> {
    CacheName::try_from(name.to_owned())
        .map_err(|why| Refusal::Text(400, format!("Invalid URL: {why}")))
}

/// A body as the framework reads it.
async fn read<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: hyper::body::Incoming,
) -> Result<T, Refusal> {
    let kind = headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.split(';').next() != Some("application/json") {
        let text = "Expected request with `Content-Type: application/json`";
        return Err(Refusal::Text(415, text.into()));
    }
    let body = Limited::new(body, LARGEST_BODY).collect().await.map_err(|failed| {
        let (status, why) = match failed.downcast_ref::<LengthLimitError>() {
            Some(_) => (413, "length limit exceeded"),
            None => (400, "error reading a body from connection"),
        };
        Refusal::Text(status, format!("Failed to buffer the request body: {why}"))
    })?;
    let text = body.to_bytes();
    // First this: a field that says where it is wrong would say so of what is
    // no JSON at all.
    let is_json = serde_json::from_slice::<IgnoredAny>(&text);
    is_json.and_then(|_| serde_json::from_slice(&text)).map_err(|why| match why.classify() {
        Category::Data => {
            let what = "Failed to deserialize the JSON body into the target type";
            Refusal::Text(422, format!("{what}: {why}"))
        }
        Category::Syntax | Category::Eof | Category::Io => {
            Refusal::Text(400, format!("Failed to parse the request body as JSON: {why}"))
        }
    })
}

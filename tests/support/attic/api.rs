//! `cache-config` and `get-missing-paths`. Changing and removing a cache are
//! left out: nothing here asks for them.

use std::collections::HashSet;

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::fault::Fault;
use super::names::{CacheName, PathHash};
use super::refusal::{Body, Refusal, full, json};
use super::storage::{Cache, random};
use super::{Asked, key};

/// What the framework reads of a body at most.
const LARGEST_BODY: usize = 2 * 1024 * 1024;
/// What sqlite takes in one statement: the cache's name is one of them.
const MOST_VARIABLES: usize = 32_766;

#[derive(Deserialize)]
struct Create {
    #[serde(rename = "keypair")]
    _keypair: Keypair,
    is_public: bool,
    store_dir: String,
    priority: i32,
    upstream_cache_key_names: Vec<String>,
}

#[derive(Deserialize)]
enum Keypair {
    Generate,
}

#[derive(Deserialize)]
struct Missing {
    cache: CacheName,
    store_path_hashes: Vec<PathHash>,
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
        "public_key": key::public(&name, &cache.seed),
        "is_public": cache.is_public,
        "store_dir": cache.store_dir,
        "priority": cache.priority,
        "upstream_cache_key_names": cache.upstream_cache_key_names,
        "retention_period": "Global",
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
    let cache = Cache {
        seed: random(),
        is_public: create.is_public,
        store_dir: create.store_dir,
        priority: create.priority,
        upstream_cache_key_names: create.upstream_cache_key_names,
    };
    asked.shared.storage.set_cache(&name, cache);
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
    serde_json::from_slice(&body.to_bytes()).map_err(|why| match why.classify() {
        Category::Data => {
            let what = "Failed to deserialize the JSON body into the target type";
            Refusal::Text(422, format!("{what}: {why}"))
        }
        Category::Syntax | Category::Eof | Category::Io => {
            Refusal::Text(400, format!("Failed to parse the request body as JSON: {why}"))
        }
    })
}

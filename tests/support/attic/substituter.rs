//! Files that Nix reads: a cache's information, that of store paths, and their contents.

use std::fmt::Write as _;

use hyper::Response;

use super::api::in_path;
use super::names::{CacheName, PathHash};
use super::refusal::{Body, Refusal, full};
use super::storage::{Cache, Object};
use super::zstd::of_file;
use super::{Asked, key};

pub(super) fn cache_info(name: &str, asked: &Asked<'_>) -> Result<Response<Body>, Refusal> {
    let CacheName(name) = in_path(name)?;
    let cache = asked.allowed(&name, "r")?;
    let Cache { store_dir, priority, .. } = &cache;
    let text = format!("WantMassQuery: 1\nStoreDir: {store_dir}\nPriority: {priority}\n");
    Ok(answer("text/x-nix-cache-info", &cache, full(text)))
}

pub(super) fn narinfo(
    name: &str,
    file: &str,
    asked: &Asked<'_>,
) -> Result<Response<Body>, Refusal> {
    let CacheName(name) = in_path(name)?;
    let (cache, object) = find(&name, file, "narinfo", asked)?;
    let signature = key::sign(&name, &cache, &object).ok_or_else(Refusal::internal)?;
    let mut text = format!(
        "StorePath: {}\nURL: nar/{}.nar\nCompression: zstd\nNarHash: sha256:{}\nNarSize: {}\n\
         References: {}\n",
        object.store_path,
        object.store_path_hash,
        object.nar_hash,
        object.nar_size,
        object.references.join(" ")
    );
    let mut line = |name: &str, value: &str| writeln!(text, "{name}: {value}").unwrap();
    if let Some(deriver) = &object.deriver {
        line("Deriver", deriver);
    }
    line("Sig", &signature);
    if let Some(ca) = &object.ca {
        line("CA", ca);
    }
    Ok(answer("text/x-nix-narinfo", &cache, full(text)))
}

pub(super) fn nar(name: &str, file: &str, asked: &Asked<'_>) -> Result<Response<Body>, Refusal> {
    let CacheName(name) = in_path(name)?;
    let (cache, object) = find(&name, file, "nar", asked)?;
    let contents = asked.shared.storage.nar(&object.nar_hash).ok_or_else(Refusal::incomplete)?;
    Ok(answer("application/x-nix-nar", &cache, of_file(contents)))
}

/// Looks for the path before it asks who wants to know, as Attic does.
fn find(
    name: &str,
    file: &str,
    ending: &str,
    asked: &Asked<'_>,
) -> Result<(Cache, Object), Refusal> {
    let hash = match file.split_once('.') {
        Some((hash, found)) if found == ending => hash,
        _ => return Err(Refusal::not_found()),
    };
    let PathHash(hash) = PathHash::try_from(hash.to_owned()).map_err(|_| {
        let why = "Error from the common components.";
        Refusal::Attic(500, "InvalidStorePathHash", why.into())
    })?;
    let storage = &asked.shared.storage;
    let cache = storage.cache(name).ok_or_else(Refusal::no_such_object)?;
    let object = storage.object(name, &hash).ok_or_else(Refusal::no_such_object)?;
    asked.permission(name).with_public(cache.is_public).require("r")?;
    Ok((cache, object))
}

fn answer(kind: &str, cache: &Cache, body: Body) -> Response<Body> {
    let mut answer = Response::builder().header("content-type", kind);
    if cache.is_public {
        answer = answer.header("x-attic-cache-visibility", "public");
    }
    answer.body(body).unwrap()
}

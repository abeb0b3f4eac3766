//! Beginning of a path's upload: the metadata that the store has of it.

use serde::Serialize;

use super::AtticFailed;
use fort_core::types::StorePath;
use fort_nix::store::PathInfo;

/// Path with the metadata that the store has of it.
#[derive(Debug, Clone, Copy)]
pub struct NarInfo<'a> {
    /// Path that is uploaded.
    pub path: &'a StorePath,
    /// Metadata of the path in the store.
    pub info: &'a PathInfo,
}

#[derive(Serialize)]
struct Told<'a> {
    cache: &'a str,
    store_path_hash: &'a str,
    store_path: &'a str,
    references: Vec<&'a str>,
    system: Option<&'a str>,
    deriver: Option<&'a str>,
    sigs: &'a [String],
    ca: Option<&'a str>,
    nar_hash: String,
    nar_size: u64,
}

impl NarInfo<'_> {
    pub(super) fn to_json(self, cache: &str) -> Result<Vec<u8>, AtticFailed> {
        let Self { path, info } = self;
        let told = Told {
            cache,
            store_path_hash: path.hash(),
            store_path: path.as_str(),
            // In the order of their names, which a set of paths has: the server
            // signs them in the order in which they come, and Nix checks that
            // signature against the sorted ones.
            references: info.references.iter().map(StorePath::base_name).collect(),
            system: None,
            deriver: info.deriver.as_ref().map(StorePath::base_name),
            sigs: &info.signatures,
            ca: info.content_address.as_deref(),
            nar_hash: format!("sha256:{}", info.nar_hash),
            nar_size: info.nar_size,
        };
        let malformed = |e: serde_json::Error| AtticFailed::Malformed { what: e.to_string() };
        serde_json::to_vec(&told).map_err(malformed)
    }
}

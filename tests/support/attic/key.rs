//! The cache's key, and the signature that Nix checks.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use super::storage::{Cache, Object};

/// As Nix is told it: `name:base64`. The name is the cache's, unless its key
/// was brought along.
pub(super) fn public(cache_name: &str, cache: &Cache) -> String {
    format!("{}:{}", name(cache_name, cache), STANDARD.encode(pair(&cache.seed).public_key()))
}

/// A secret key as Nix writes it, `name:base64` of both halves: its name, and
/// the half that counts.
pub(super) fn secret(written: &str) -> Result<(String, [u8; 32]), String> {
    let (name, key) = written.split_once(':').ok_or("The string lacks a colon separator.")?;
    let bytes = STANDARD.decode(key).map_err(|why| format!("Base64 decode error: {why}"))?;
    let (true, Some(seed)) = (bytes.len() == 64, bytes.first_chunk()) else {
        let actual = bytes.len();
        return Err(format!("Invalid base64 payload length: Expected 64 (keypair), got {actual}"));
    };
    Ok((name.to_owned(), *seed))
}

/// Over the references in the order in which they were sent: Nix checks it
/// over sorted ones. None where the store path has no directory at all.
pub(super) fn sign(cache_name: &str, cache: &Cache, object: &Object) -> Option<String> {
    let dir = Path::new(&object.store_path).parent()?.to_str()?;
    let references: Vec<String> =
        object.references.iter().map(|reference| format!("{dir}/{reference}")).collect();
    let hash = nix_base32::to_nix_base32(&unhex(&object.nar_hash));
    let fingerprint = format!(
        "1;{};sha256:{hash};{};{}",
        object.store_path,
        object.nar_size,
        references.join(",")
    );
    let signature = pair(&cache.seed).sign(fingerprint.as_bytes());
    Some(format!("{}:{}", name(cache_name, cache), STANDARD.encode(signature)))
}

fn name<'a>(cache_name: &'a str, cache: &'a Cache) -> &'a str {
    cache.key_name.as_deref().unwrap_or(cache_name)
}

fn pair(seed: &[u8; 32]) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(seed).unwrap()
}

fn unhex(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

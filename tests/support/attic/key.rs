//! The cache's key, and the signature that Nix checks.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use super::storage::Object;

/// As Nix is told it: `name:base64`.
pub(super) fn public(name: &str, seed: &[u8; 32]) -> String {
    format!("{name}:{}", STANDARD.encode(pair(seed).public_key()))
}

/// Over the references in the order in which they were sent: Nix checks it
/// over sorted ones. None where the store path has no directory.
pub(super) fn sign(name: &str, seed: &[u8; 32], object: &Object) -> Option<String> {
    let (dir, _) = object.store_path.rsplit_once('/')?;
    let references: Vec<String> =
        object.references.iter().map(|reference| format!("{dir}/{reference}")).collect();
    let hash = nix_base32::to_nix_base32(&unhex(&object.nar_hash));
    let fingerprint = format!(
        "1;{};sha256:{hash};{};{}",
        object.store_path,
        object.nar_size,
        references.join(",")
    );
    let signature = pair(seed).sign(fingerprint.as_bytes());
    Some(format!("{name}:{}", STANDARD.encode(signature)))
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

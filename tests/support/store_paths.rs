//! Store paths that nobody built: put into a scratch store with any contents
//! and any references, as many as a test wants.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use fort_agent::core::types::StorePath;

use super::nix::ScratchStore;

/// A path that is to be.
#[derive(Clone, Debug)]
pub struct Plant {
    pub name: String,
    /// Of its one file.
    pub size: u64,
    /// Others of the same planting, by their places; itself, too, if it says.
    pub references: Vec<usize>,
}

impl Plant {
    pub fn new(name: &str, size: u64, references: &[usize]) -> Self {
        Self { name: name.to_owned(), size, references: references.to_vec() }
    }
}

/// The digits of a store path's hash.
const DIGITS: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// Of a file's noise, which is repeated.
const BLOCK: usize = 64 << 10;

/// Puts them into the store, and tells Nix that they are valid.
pub fn plant(store: &ScratchStore, plants: &[Plant]) -> Vec<StorePath> {
    let root = store.root();
    let directory = root.directory().to_owned();
    fs::create_dir_all(&directory).unwrap();
    let path = |at: usize| -> StorePath {
        let hash: String =
            (0..32).map(|digit| char::from(DIGITS[(at * 7919 + digit * (at + 3)) % 32])).collect();
        // A hash that no two share: its end counts.
        let count: String =
            [at >> 15, at >> 10, at >> 5, at].map(|n| char::from(DIGITS[n % 32])).iter().collect();
        format!("/nix/store/{}{count}-{}", &hash[..28], plants[at].name).parse().unwrap()
    };
    let paths: Vec<StorePath> = (0..plants.len()).map(path).collect();
    let mut database = String::new();
    for (at, plant) in plants.iter().enumerate() {
        let place = root.physical(&paths[at]);
        write_noise(&place, plant.size, at as u64);
        let (hash, size) = nar_of(&place);
        database += &format!("{}\n{hash}\n{size}\n\n{}\n", paths[at], plant.references.len());
        for reference in &plant.references {
            database += &format!("{}\n", paths[*reference]);
        }
    }
    let mut command = Command::new("nix-store");
    command.arg("--load-db").env_clear().envs(store.nix().environment());
    for (name, value) in ScratchStore::options() {
        command.args(["--option", &name, &value]);
    }
    let mut loading = command.stdin(Stdio::piped()).spawn().unwrap();
    loading.stdin.take().unwrap().write_all(database.as_bytes()).unwrap();
    assert!(loading.wait().unwrap().success());
    paths
}

/// A file of noise, the same each time; no two files share a block.
fn write_noise(place: &Path, size: u64, seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut block = Vec::with_capacity(BLOCK);
    while block.len() < BLOCK {
        // Marsaglia's xorshift64.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        block.extend(state.to_le_bytes());
    }
    let mut file = fs::File::create(place).unwrap();
    let mut left = size;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
        file.write_all(&block[..most]).unwrap();
        left -= most as u64;
    }
    fs::set_permissions(place, fs::Permissions::from_mode(0o444)).unwrap();
}

/// The hash and the length of what a path is, packed.
fn nar_of(place: &Path) -> (String, u64) {
    let mut archive = nix_nar::Encoder::new(place).unwrap();
    let mut hashing = ring::digest::Context::new(&ring::digest::SHA256);
    let (mut buffer, mut size) = (vec![0; 1 << 20], 0);
    loop {
        match archive.read(&mut buffer).unwrap() {
            0 => break,
            read => {
                hashing.update(&buffer[..read]);
                size += read as u64;
            }
        }
    }
    let digest = hashing.finish();
    (digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect(), size)
}

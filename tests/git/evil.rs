//! Packs and trees as nobody in good faith makes them, in a repository that a
//! real git serves.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use fort_agent::core::types::Commit;
use gix::zlib::Compression;
use gix::zlib::stream::deflate;

use crate::support::work::{EPOCH, git, hermetic};

const BLOB: u8 = 3;
const OFS_DELTA: u8 = 6;

/// A pack that is being written: gitformat-pack(5).
pub(super) struct Pack {
    bytes: Vec<u8>,
    objects: u32,
}

/// Where in its pack an object is.
#[derive(Clone, Copy)]
pub(super) struct At(usize);

impl Pack {
    pub(super) fn new() -> Self {
        Self { bytes: b"PACK\0\0\0\x02\0\0\0\0".to_vec(), objects: 0 }
    }

    /// A blob of so many bytes, all of them zero.
    pub(super) fn zeros(&mut self, size: usize) -> At {
        self.object(BLOB, None, &vec![0; size])
    }

    /// A blob of `size` bytes: those of `base`, the last of them replaced.
    pub(super) fn like(&mut self, base: At, size: usize, end: &[u8]) -> At {
        let mut delta = [length(size), length(size)].concat();
        let (mut at, kept) = (0, size - end.len());
        while at < kept {
            // Copy: an offset of four bytes, and a size of three.
            let copied = (kept - at).min(0xff_ffff);
            delta.push(0b1111_1111);
            delta.extend_from_slice(&u32::try_from(at).unwrap().to_le_bytes());
            delta.extend_from_slice(&u32::try_from(copied).unwrap().to_le_bytes()[..3]);
            at += copied;
        }
        delta.push(u8::try_from(end.len()).unwrap());
        delta.extend_from_slice(end);
        self.object(OFS_DELTA, Some(base), &delta)
    }

    fn object(&mut self, kind: u8, base: Option<At>, content: &[u8]) -> At {
        let at = self.bytes.len();
        let mut size = content.len();
        let mut byte = kind << 4 | (size & 15) as u8;
        size >>= 4;
        while size > 0 {
            self.bytes.push(byte | 0x80);
            byte = (size & 0x7f) as u8;
            size >>= 7;
        }
        self.bytes.push(byte);
        if let Some(At(base)) = base {
            let mut distance = at - base;
            let mut offset = vec![(distance & 0x7f) as u8];
            while distance >> 7 > 0 {
                distance = (distance >> 7) - 1;
                offset.push((distance & 0x7f) as u8 | 0x80);
            }
            self.bytes.extend(offset.iter().rev());
        }
        let mut packed = deflate::Write::new(Vec::new(), Compression::BEST_SPEED);
        packed.write_all(content).unwrap();
        packed.flush().unwrap();
        self.bytes.extend(packed.into_inner());
        self.objects += 1;
        At(at)
    }

    /// Gives it to a repository: its size, and the ids of its objects.
    pub(super) fn put(mut self, bare: &Path) -> (usize, Vec<String>) {
        self.bytes[8..12].copy_from_slice(&self.objects.to_be_bytes());
        let mut hasher = gix::hash::hasher(gix::hash::Kind::Sha1);
        hasher.update(&self.bytes);
        self.bytes.extend_from_slice(hasher.try_finalize().unwrap().as_bytes());
        let said = fed(bare, &["index-pack", "--stdin"], &self.bytes);
        let name = said.rsplit('\t').next().unwrap();
        let index = std::fs::read(bare.join(format!("objects/pack/pack-{name}.idx"))).unwrap();
        let listed = fed(bare, &["show-index"], &index);
        let ids = listed.lines().map(|line| line.split(' ').nth(1).unwrap().to_owned());
        (self.bytes.len(), ids.collect())
    }
}

/// A size as deltas begin with.
fn length(mut size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while size >> 7 > 0 {
        bytes.push((size & 0x7f) as u8 | 0x80);
        size >>= 7;
    }
    bytes.push(size as u8);
    bytes
}

/// A chain of deltas, each of whose results is as large as the first, and is in use
/// until the last is known: each link has two siblings that rest on the same.
pub(super) fn chain(bare: &Path, links: usize, size: usize) -> (usize, Vec<String>) {
    let mut pack = Pack::new();
    let mut base = pack.zeros(size);
    for link in 0..links {
        let end = |part: &str| format!("{part}{link}").into_bytes();
        pack.like(base, size, &end("a"));
        let next = pack.like(base, size, &end("next"));
        pack.like(base, size, &end("z"));
        base = next;
    }
    pack.put(bare)
}

/// A tree of entries that need not be such that git would make them.
pub(super) fn tree(bare: &Path, entries: &[(&str, String, &str)]) -> String {
    let mut bytes = Vec::new();
    for (mode, name, id) in entries {
        bytes.extend_from_slice(format!("{mode} {name}\0").as_bytes());
        bytes.extend_from_slice(id.parse::<Commit>().unwrap().as_bytes());
    }
    object(bare, "tree", &bytes)
}

/// Of files with these contents.
pub(super) fn tree_of_blobs(bare: &Path, ids: &[String]) -> String {
    let entries = ids.iter().map(|id| ("100644", format!("f{id}"), id.as_str()));
    let mut entries: Vec<_> = entries.collect();
    entries.sort_by(|a, b| a.1.cmp(&b.1));
    tree(bare, &entries)
}

/// Any object, whatever git would say.
pub(super) fn object(bare: &Path, kind: &str, content: &[u8]) -> String {
    fed(bare, &["hash-object", "-w", "--literally", "--stdin", "-t", kind], content)
}

/// A commit of a tree, on a branch, on top of what is there.
pub(super) fn commit(bare: &Path, branch: &str, tree: &str) -> Commit {
    let mut arguments = vec!["commit-tree", "-m", "crafted", tree];
    let parent = hermetic(bare, 0).args(["rev-parse", "--verify", branch]).output().unwrap();
    let parent = String::from_utf8(parent.stdout).unwrap();
    if !parent.is_empty() {
        arguments.extend(["-p", parent.trim()]);
    }
    let made = git(bare, EPOCH, &arguments);
    git(bare, 0, &["update-ref", &format!("refs/heads/{branch}"), &made]);
    made.parse().unwrap()
}

/// Bytes that nothing makes smaller.
pub(super) fn noise(size: usize, mut seed: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(seed ^ (seed >> 29)).to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// Runs git with an input. Returns its output.
fn fed(dir: &Path, arguments: &[&str], input: &[u8]) -> String {
    let mut child = hermetic(dir, EPOCH)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writing = std::thread::spawn(move || stdin.write_all(&input).unwrap());
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap();
    assert!(output.status.success(), "git {arguments:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// Disk space that a directory takes, in bytes.
pub(super) fn on_disk(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let mut inodes = std::collections::BTreeSet::new();
    let mut blocks = 0;
    let mut left: Vec<PathBuf> = vec![dir.to_owned()];
    while let Some(path) = left.pop() {
        let data = path.symlink_metadata().unwrap();
        if inodes.insert(data.ino()) {
            blocks += data.blocks();
        }
        if data.is_dir() {
            left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    blocks * 512
}

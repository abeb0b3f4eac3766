//! Names what to build: a flake reference to exactly one commit's tree, or a
//! file in it, and the attribute.
//!
//! An exported tree as `path:` is several times quicker than `git+file:` and
//! builds the same. Nix before 2.26 cannot name a directory of one, so there
//! the clone itself is named, through a small repository beside Nix's cache
//! that borrows the clone's objects and has the commit as its one branch:
//! those versions fetch by branch, our clone has none, and nothing in the
//! clone can move under them.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use super::evaluator::open_to_readers;
use super::realise::{RealiseSpec, RecipeKind};
use super::{Version, lent_repository};
use fort_core::types::Commit;

/// Largest part of a tree that Nix keeps in memory by itself, in bytes (`nar-buffer-size`).
const BUFFER: u64 = 32 << 20;
/// Bytes that a file takes in an archive besides its contents, at most: its name, twice
/// that of the longest, and some words.
const PER_ENTRY: u64 = 1024;

/// The installable of an attribute, as arguments for `nix build` or `eval`.
pub(super) struct Reference {
    /// A flake's reference, or a file.
    base: Base,
    /// Size of the tree as an archive, at most, in bytes.
    archive: u64,
}

enum Base {
    Flake(String),
    File(PathBuf),
}

impl Reference {
    /// Returns the reference that the specification names. `version` matters for flakes
    /// in a directory only.
    pub(super) fn of(spec: &RealiseSpec, version: Option<Version>) -> io::Result<Self> {
        let dir = in_tree(&spec.directory())?;
        match spec.kind {
            RecipeKind::File => {
                let archive = prepare(&spec.export, Stamp::None)?;
                let file = spec.seen(&spec.export).join(dir).join(in_tree(&spec.file)?);
                Ok(Self { base: Base::File(file), archive })
            }
            RecipeKind::Flake => flake(spec, &dir, version),
        }
    }

    /// Bytes of the tree that Nix has to keep in memory; `None` if it does so by
    /// itself. A tree that Nix before 2.26 writes to a disk first loses the time that
    /// its reference states.
    pub(super) fn buffer(&self) -> Option<u64> {
        (self.archive > BUFFER).then_some(self.archive)
    }

    /// The reference of the flake, if it is one.
    pub(super) fn flake(&self) -> Option<&str> {
        match &self.base {
            Base::Flake(flake) => Some(flake),
            Base::File(_) => None,
        }
    }

    /// Arguments that name an attribute, given as Nix writes attribute paths.
    pub(super) fn arguments(&self, attribute: &str) -> Vec<String> {
        match &self.base {
            Base::Flake(flake) => vec![format!("{flake}#{}", encoded(attribute.as_bytes()))],
            // Evaluating a file is impure: nothing in Nix forbids it to read
            // other files. At least it finds nothing by name.
            Base::File(file) => {
                let file = file.to_string_lossy().into_owned();
                ["--option", "nix-path", "", "--file", &file, attribute].map(String::from).into()
            }
        }
    }
}

fn flake(spec: &RealiseSpec, dir: &Path, version: Option<Version>) -> io::Result<Reference> {
    let flake = |reference: String, archive| Reference { base: Base::Flake(reference), archive };
    let commit = spec.commit;
    let whole = dir.as_os_str().is_empty();
    if whole || version.is_some_and(Version::takes_dir_of_paths) {
        let RealiseSpec { rev_count, .. } = spec;
        let last_modified = spec.last_modified.max(0);
        let archive = prepare(&spec.export, Stamp::At(last_modified))?;
        let dir = if whole {
            String::new()
        } else {
            format!("dir={}&", encoded(dir.as_os_str().as_encoded_bytes()))
        };
        let reference = format!(
            "path:{}?{dir}rev={commit}&lastModified={last_modified}&revCount={rev_count}",
            encoded_path(&spec.seen(&spec.export))
        );
        return Ok(flake(reference, archive));
    }
    let repository = match &spec.evaluator {
        Some(evaluator) => lent_repository::lend(evaluator, &spec.clone, &branch(commit), commit)?,
        None => {
            let repository = spec.nix.cache.join("fort-agent/one-commit.git");
            borrow(&repository, &spec.clone, commit)?;
            repository
        }
    };
    let repository = spec.seen(&repository);
    let reference = format!(
        "git+file://{}?dir={}&ref={}&rev={commit}",
        encoded_path(&repository),
        encoded(dir.as_os_str().as_encoded_bytes()),
        branch(commit)
    );
    Ok(flake(reference, 0))
}

/// Modification times that the files of a tree get.
#[derive(Clone, Copy)]
enum Stamp {
    /// The ones that they have.
    None,
    /// The newest is this one, in seconds since 1970.
    At(i64),
}

/// Lets the evaluating user read a tree, and sets its times: before 2.26 Nix refuses
/// `lastModified` if it is anything else than the newest. That belongs to the top
/// directory alone; files, which other trees may share, all get the same. Returns the
/// size of the tree as an archive, at most, in bytes.
fn prepare(tree: &Path, stamp: Stamp) -> io::Result<u64> {
    let mut archive = PER_ENTRY;
    let mut directories = vec![tree.to_owned()];
    open_to_readers(tree, &tree.symlink_metadata()?)?;
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let found = entry.metadata()?;
            archive += found.len() + PER_ENTRY;
            open_to_readers(&entry.path(), &found)?;
            if matches!(stamp, Stamp::At(_)) && found.mtime() != 0 {
                set_modified(&entry.path(), 0)?;
            }
            if found.is_dir() {
                directories.push(entry.path());
            }
        }
    }
    if let Stamp::At(last_modified) = stamp {
        set_modified(tree, last_modified)?;
    }
    Ok(archive)
}

/// Sets the modification time of a file; of the link itself, if it is one.
fn set_modified(path: &Path, seconds: i64) -> io::Result<()> {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Name of a commit's branch: every commit has its own, so that Nix's copy never has to go back.
fn branch(commit: Commit) -> String {
    format!("commit-{commit}")
}

/// Makes a bare repository that has one branch, at the commit, and no objects but those
/// of the clone. Its place is always the same: Nix keeps a copy of the history for
/// every place that it was given.
fn borrow(repository: &Path, clone: &Path, commit: Commit) -> io::Result<()> {
    let branch = branch(commit);
    let heads = repository.join("refs/heads");
    fs::create_dir_all(&heads)?;
    fs::create_dir_all(repository.join("objects/info"))?;
    for head in fs::read_dir(&heads)? {
        let head = head?.path();
        if head.file_name() != Some(branch.as_ref()) {
            fs::remove_file(head)?;
        }
    }
    let mut objects = clone.join("objects").into_os_string();
    objects.push("\n");
    fs::write(repository.join("objects/info/alternates"), objects.as_encoded_bytes())?;
    fs::write(repository.join("config"), "[core]\n\trepositoryformatversion = 0\n\tbare = true\n")?;
    fs::write(heads.join(&branch), format!("{commit}\n"))?;
    fs::write(repository.join("HEAD"), format!("ref: refs/heads/{branch}\n"))
}

/// A path below the tree: configuration says where to look in a commit, not
/// elsewhere on the host.
pub(super) fn in_tree(path: &str) -> io::Result<PathBuf> {
    use std::path::Component;
    let mut clean = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(io::Error::other(format!("{path:?} is not below the tree")));
            }
        }
    }
    Ok(clean)
}

/// An attribute path whose placeholder is one attribute, whatever is in it.
pub(super) fn attribute_of_host(attribute: &str, hostname: &str) -> String {
    unquoted(attribute).replace("{hostname}", &attribute_name(hostname))
}

/// The attribute whose names are the hosts, if the path has one: `PREFIX` of
/// `PREFIX.{hostname}.REST`.
pub(super) fn prefix_of_host(attribute: &str) -> Option<String> {
    let attribute = unquoted(attribute);
    let (prefix, rest) = attribute.split_once("{hostname}")?;
    let ends = rest.is_empty() || rest.starts_with('.');
    prefix.strip_suffix('.').filter(|prefix| ends && !prefix.is_empty()).map(str::to_owned)
}

fn unquoted(attribute: &str) -> String {
    attribute.replace("\"{hostname}\"", "{hostname}")
}

/// One name in an attribute path: quoted unless it is an identifier.
fn attribute_name(name: &str) -> String {
    let simple = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '\'');
    if name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(simple) {
        name.to_owned()
    } else {
        format!("\"{name}\"")
    }
}

/// The path of an URL. 2.8 does not decode it, so what may stand there does.
fn encoded_path(path: &Path) -> String {
    encode(path.as_os_str().as_encoded_bytes(), b"!$&()*+;=")
}

/// A value or a fragment of an URL.
fn encoded(bytes: &[u8]) -> String {
    encode(bytes, b"")
}

/// Percent-encodes what could end a part of an URL or be taken for another.
fn encode(bytes: &[u8], fine_here: &[u8]) -> String {
    let mut encoded = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~/@:,'".contains(&byte) || fine_here.contains(&byte)
        {
            encoded.push(byte.into());
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_special_in_an_url_is_encoded() {
        let odd = "/a b/é#?&%+=^\"";
        assert_eq!(encoded(odd.as_bytes()), "/a%20b/%C3%A9%23%3F%26%25%2B%3D%5E%22");
        assert_eq!(encoded_path(Path::new(odd)), "/a%20b/%C3%A9%23%3F&%25+=%5E%22");
        assert_eq!(encoded(b"/var/lib/fort-agent/x_1.2~3"), "/var/lib/fort-agent/x_1.2~3");
    }

    #[test]
    fn a_host_is_one_attribute_whatever_its_name() {
        let attribute = |host| attribute_of_host("a.{hostname}.b", host);
        assert_eq!(attribute("joker"), "a.joker.b");
        assert_eq!(attribute("joker.example.org"), "a.\"joker.example.org\".b");
        assert_eq!(attribute("10"), "a.\"10\".b");
        assert_eq!(attribute_of_host("a.\"{hostname}\".b", "x.y"), "a.\"x.y\".b");
    }

    #[test]
    fn the_hosts_are_what_stands_before_the_placeholder() {
        assert_eq!(prefix_of_host("a.b.{hostname}.c").as_deref(), Some("a.b"));
        assert_eq!(prefix_of_host("a.\"{hostname}\"").as_deref(), Some("a"));
        for none in ["a.b", "{hostname}.a", "a.x{hostname}.c", "a.{hostname}x.c"] {
            assert_eq!(prefix_of_host(none), None, "{none}");
        }
    }

    #[test]
    fn only_what_is_below_the_tree_can_be_named() {
        for (given, clean) in [(".", ""), ("./a//b/", "a/b"), ("", ""), ("a/./b", "a/b")] {
            assert_eq!(in_tree(given).unwrap(), Path::new(clean));
        }
        for bad in ["..", "a/../..", "/etc", "a/.."] {
            assert!(in_tree(bad).is_err(), "{bad}");
        }
    }
}

//! Where store paths really are.
//!
//! A store with a root (`local?root=DIR`) names its paths `/nix/store/..` and
//! keeps them below `DIR`. Links between them stay logical, so the kernel
//! would follow them to the wrong place: they are followed here.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use fort_core::types::StorePath;

const STORE: &str = "/nix/store";

/// As many links as the kernel follows.
const MOST_LINKS: usize = 40;

/// Where the paths of one store really are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreRoot {
    /// Physical directory that stands for `/nix/store`.
    store_dir: PathBuf,
}

impl StoreRoot {
    /// Of what `--store` or NIX_REMOTE take: `local?root=DIR` (or any other
    /// kind with that parameter, or with `real=STOREDIR`), or `DIR` alone.
    /// Every other one is at `/nix/store`.
    pub fn of(store: &str) -> Self {
        let (base, query) = store.split_once('?').unwrap_or((store, ""));
        let parameter = |name: &str| {
            let mut pairs = query.split('&').rev().filter_map(|pair| pair.split_once('='));
            let found = pairs.find(|(key, value)| *key == name && !value.is_empty());
            found.map(|(_, value)| percent_decoded(value))
        };
        let root = parameter("root").or_else(|| base.starts_with('/').then(|| base.into()));
        let below = |root: PathBuf| root.join(STORE.trim_start_matches('/'));
        let store_dir = parameter("real").or(root.map(below)).unwrap_or_else(|| STORE.into());
        Self { store_dir }
    }

    /// The directory that the store's paths really are in.
    pub fn directory(&self) -> &Path {
        &self.store_dir
    }

    /// Where a store path really is.
    pub fn physical(&self, path: &StorePath) -> PathBuf {
        self.store_dir.join(path.base_name())
    }

    /// Where a file really is, every link followed; its last component must
    /// exist. What is outside the store is where it says.
    ///
    /// Fails as opening it would: not found, or too many links.
    pub fn resolve(&self, logical: &Path) -> io::Result<PathBuf> {
        let mut rest = parts(logical);
        let mut found = PathBuf::from("/");
        let mut links = 0;
        while let Some(part) = rest.pop_front() {
            if part == ".." {
                found.pop();
                continue;
            }
            found.push(part);
            let here = self.placed(&found);
            if !here.symlink_metadata()?.is_symlink() {
                continue;
            }
            links += 1;
            if links > MOST_LINKS {
                return Err(io::Error::other(format!("too many links: {}", logical.display())));
            }
            let target = here.read_link()?;
            if target.is_absolute() {
                found = "/".into();
            } else {
                found.pop();
            }
            parts(&target).into_iter().rev().for_each(|part| rest.push_front(part));
        }
        Ok(self.placed(&found))
    }

    /// A logical path without links, where it really is.
    fn placed(&self, logical: &Path) -> PathBuf {
        match logical.strip_prefix(STORE) {
            Ok(below) => self.store_dir.join(below),
            // On the way to a store that is elsewhere, `/nix` may be missing.
            Err(_) if Path::new(STORE).starts_with(logical) => {
                let levels = Path::new(STORE).components().count() - logical.components().count();
                self.store_dir.ancestors().nth(levels).unwrap_or(logical).to_owned()
            }
            Err(_) => logical.to_owned(),
        }
    }
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let parts = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    parts.collect()
}

/// As Nix decodes the values of a store's parameters (`util/url.cc`); a `%`
/// that begins no code stands for itself.
fn percent_decoded(text: &str) -> PathBuf {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = text.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    OsString::from_vec(decoded).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const HASH: &str = "0123456789abcdfghijklmnpqrsvwxyz";

    #[test]
    fn the_root_is_read_from_every_way_to_write_a_store() {
        for (store, dir) in [
            ("auto", "/nix/store"),
            ("daemon", "/nix/store"),
            ("unix:///run/nix.sock", "/nix/store"),
            ("local", "/nix/store"),
            ("local?root=/x", "/x/nix/store"),
            ("local?root=/x/", "/x/nix/store"),
            ("local?state=/s&root=/a%20b%2fc&x=1", "/a b/c/nix/store"),
            ("local?root=/100%", "/100%/nix/store"),
            ("local?root=", "/nix/store"),
            ("local://?root=/x", "/x/nix/store"),
            ("local:///?root=/x", "/x/nix/store"),
            ("/x", "/x/nix/store"),
            ("/x?state=/y", "/x/nix/store"),
            ("local?root=/x&real=/y/store", "/y/store"),
        ] {
            assert_eq!(StoreRoot::of(store).store_dir, Path::new(dir), "{store}");
        }
        let path: StorePath = format!("/nix/store/{HASH}-a").parse().unwrap();
        let real = StoreRoot::of("local?root=/x").physical(&path);
        assert_eq!(real, PathBuf::from(format!("/x/nix/store/{HASH}-a")));
    }

    #[test]
    fn links_are_followed_inside_the_store() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path();
        let store = dir.join("nix/store");
        std::fs::create_dir_all(store.join("a/bin")).unwrap();
        std::fs::create_dir_all(store.join("b/bin")).unwrap();
        std::fs::write(store.join("b/bin/run"), "").unwrap();
        symlink("/nix/store/b/bin/run", store.join("a/bin/run")).unwrap();
        symlink("../a/bin", store.join("b/up")).unwrap();
        symlink("loop", store.join("a/loop")).unwrap();
        symlink("/dev/null", store.join("a/null")).unwrap();
        let root = StoreRoot::of(&format!("local?root={}", dir.display()));
        let resolve = |path: &str| root.resolve(Path::new(path));
        assert_eq!(resolve("/nix/store/b/../b/./up/run").unwrap(), store.join("b/bin/run"));
        assert_eq!(resolve("/nix/store/a/null").unwrap(), Path::new("/dev/null"));
        assert_eq!(resolve("/nix/store").unwrap(), store);
        let missing = resolve("/nix/store/a/none").unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        assert!(resolve("/nix/store/a/loop").is_err());
    }
}

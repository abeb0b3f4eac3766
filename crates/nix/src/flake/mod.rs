//! Whether a flake pins all of its inputs: what is evaluated is one commit's tree,
//! and nothing that another host, or this one tomorrow, gets another version of.
//!
//! Read from `flake.nix` and `flake.lock` before Nix is started, which fetches what
//! is not pinned before it says so. What cannot be read here is left to Nix, which
//! refuses to change a lock (`--no-update-lock-file`).
//!
//! An input beside its flake, in the same tree, is pinned by being there. Nix wants
//! it in the lock all the same, and in the form of its own version; there it may
//! complete the lock for itself (`--no-write-lock-file`), and is asked first whether
//! it would complete anything else ([`differing`]).

mod declared;
mod lock;
mod tokens;

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use self::declared::{From, declared};
use self::lock::{Lock, Node, Pin};

/// Larger is no `flake.nix` or `flake.lock` that anybody has written.
const LARGEST: u64 = 4 << 20;
/// Flakes in flakes, at most.
const DEEPEST: usize = 8;
/// Inputs that are named, at most.
const MOST_NAMED: usize = 20;

/// How the inputs of a flake are pinned, all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pinned {
    /// Nix may have to complete the lock for itself: what lacks is in the tree.
    pub(super) beside: bool,
    /// There is no input from elsewhere, which Nix could pin otherwise.
    pub(super) alone: bool,
}

/// Inputs that nothing pins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unpinned {
    /// Names of the inputs, from the flake that is built.
    pub(super) inputs: Vec<String>,
}

/// Looks up how a flake in a directory of a tree pins its inputs; the error names those
/// that it does not pin.
pub(super) fn pinned(tree: &Path, directory: &Path) -> Result<Pinned, Unpinned> {
    let mut look = Look { tree, unpinned: Vec::new(), beside: false, alone: true };
    let lock = look.lock_in(directory);
    if let Some(lock) = &lock {
        let (unpinned, older) = lock.unpinned();
        look.unpinned = unpinned;
        look.beside |= older;
        look.flake(directory, "", Some((lock, lock.root())), &[], 0);
    } else {
        look.flake(directory, "", None, &[], 0);
    }
    let Look { mut unpinned, beside, alone, .. } = look;
    unpinned.sort();
    unpinned.dedup();
    unpinned.truncate(MOST_NAMED);
    if unpinned.is_empty() {
        Ok(Pinned { beside, alone })
    } else {
        Err(Unpinned { inputs: unpinned })
    }
}

/// The inputs that Nix would pin otherwise than the lock of a flake does, by what
/// `nix flake metadata --json --no-write-lock-file` prints; but for those beside it.
pub(super) fn differing(tree: &Path, directory: &Path, metadata: &[u8]) -> Option<Vec<String>> {
    #[derive(serde::Deserialize)]
    struct Metadata {
        locks: Lock,
    }
    let Metadata { locks: theirs } = serde_json::from_slice(metadata).ok()?;
    let look = Look { tree, unpinned: Vec::new(), beside: false, alone: true };
    let mut compared = Compared { look: &look, theirs: &theirs, differing: Vec::new() };
    let ours = look.lock_in(directory).unwrap_or_default();
    compared.compare(theirs.root()?, (&ours, ours.root()), Some(directory), "", 0);
    let mut differing = compared.differing;
    differing.sort();
    differing.dedup();
    Some(differing)
}

/// Two locks of one flake.
struct Compared<'a> {
    look: &'a Look<'a>,
    theirs: &'a Lock,
    differing: Vec<String>,
}

impl Compared<'_> {
    /// Compares the inputs of a node with those that ours has. `directory`: where the
    /// flake is, if it is in the tree.
    fn compare(
        &mut self,
        their: &Node,
        (ours, our): (&Lock, Option<&Node>),
        directory: Option<&Path>,
        place: &str,
        depth: usize,
    ) {
        if depth > DEEPEST || self.differing.len() >= MOST_NAMED {
            return;
        }
        for name in their.names() {
            let Some(new) = self.theirs.input(their, name) else { continue };
            let old = our.and_then(|our| ours.input(our, name));
            let below = format!("{place}{name}/");
            match new.pin() {
                Pin::Beside | Pin::BesideWithHash => {
                    let path = directory.zip(new.path());
                    let beside = path.and_then(|(from, path)| in_tree(from, path));
                    let beside = beside.as_deref();
                    if old.is_some() {
                        self.compare(new, (ours, old), beside, &below, depth + 1);
                    } else if let Some(directory) = beside {
                        // Its own lock is what was taken over.
                        let own = self.look.lock_in(directory).unwrap_or_default();
                        self.compare(new, (&own, own.root()), beside, &below, depth + 1);
                    }
                }
                Pin::Fixed | Pin::None => {
                    if old.is_none_or(|old| old.hash() != new.hash()) {
                        self.differing.push(format!("{place}{name}"));
                    }
                    self.compare(new, (ours, old), None, &below, depth + 1);
                }
            }
        }
    }
}

struct Look<'a> {
    tree: &'a Path,
    unpinned: Vec<String>,
    /// Whether Nix may have to complete a lock for what is in the tree.
    beside: bool,
    /// Whether nothing comes from elsewhere, as far as that can be told.
    alone: bool,
}

impl Look<'_> {
    /// Looks at one flake in the tree. `place`: what its inputs' names begin with;
    /// `pins`: where they are pinned; `follows`: those that its user sets.
    fn flake(
        &mut self,
        directory: &Path,
        place: &str,
        pins: Option<(&Lock, Option<&Node>)>,
        follows: &[String],
        depth: usize,
    ) {
        let text = self.read(&directory.join("flake.nix"));
        let inputs = text.and_then(|text| declared(&String::from_utf8_lossy(&text)));
        // What cannot be told is left to Nix.
        let Some(inputs) = inputs else {
            self.alone = false;
            return;
        };
        for (name, input) in inputs {
            if follows.contains(&name) {
                continue;
            }
            let place = format!("{place}{name}");
            let known = pins.and_then(|(_, node)| node).is_some_and(|node| node.has(&name));
            let path = match input.from {
                From::Beside(path) => path,
                From::Another | From::Elsewhere if known => {
                    self.alone = false;
                    continue;
                }
                From::Another => continue,
                From::Elsewhere => {
                    self.unpinned.push(place);
                    continue;
                }
            };
            self.beside |= !known;
            let beside = in_tree(directory, &path);
            let (Some(beside), true) = (beside, input.is_flake && depth < DEEPEST) else {
                continue;
            };
            let place = format!("{place}/");
            if let (true, Some((lock, Some(node)))) = (known, pins) {
                let node = lock.input(node, &name);
                self.flake(&beside, &place, Some((lock, node)), &input.follows, depth + 1);
            } else if let Some(lock) = self.lock_in(&beside) {
                // Its own lock says it, which its user's lock takes over.
                let (unpinned, _) = lock.unpinned();
                self.unpinned.extend(unpinned.into_iter().map(|name| format!("{place}{name}")));
                let pins = Some((&lock, lock.root()));
                self.flake(&beside, &place, pins, &input.follows, depth + 1);
            } else {
                self.flake(&beside, &place, None, &input.follows, depth + 1);
            }
        }
    }

    fn lock_in(&self, directory: &Path) -> Option<Lock> {
        Lock::parse(&self.read(&directory.join("flake.lock"))?)
    }

    /// A file of the tree; a link of the commit's may lead out of it.
    fn read(&self, path: &Path) -> Option<Vec<u8>> {
        let tree = fs::canonicalize(self.tree).ok()?;
        let file = fs::canonicalize(tree.join(path)).ok()?;
        if !file.starts_with(&tree) || !file.is_file() {
            return None;
        }
        let mut bytes = Vec::new();
        fs::File::open(file).ok()?.take(LARGEST).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }
}

/// A path from a directory of the tree, if it stays in there.
fn in_tree(directory: &Path, path: &str) -> Option<PathBuf> {
    use std::path::Component;
    let mut found = directory.to_owned();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => found.push(name),
            Component::CurDir => {}
            Component::ParentDir => found.pop().then_some(())?,
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree of these files.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let file = dir.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        dir
    }

    fn look(files: &[(&str, &str)], directory: &str) -> Result<Pinned, Vec<String>> {
        let tree = tree(files);
        pinned(tree.path(), Path::new(directory)).map_err(|unpinned| unpinned.inputs)
    }

    fn lock(nodes: &str) -> String {
        format!("{{\"nodes\":{{{nodes}}},\"root\":\"root\",\"version\":7}}")
    }

    const TWO: &str = "{ inputs.a.url = \"github:x/a\"; outputs = { self, a, b }: { }; }";
    const ALONE: Pinned = Pinned { beside: false, alone: true };
    const WHOLE: Pinned = Pinned { beside: false, alone: false };
    const NONE: &str = "{ outputs = { self }: { }; }";

    #[test]
    fn without_inputs_no_lock_is_needed() {
        assert_eq!(look(&[("flake.nix", NONE)], ""), Ok(ALONE));
        assert_eq!(
            look(&[("flake.nix", NONE), ("flake.lock", &lock("\"root\":{}"))], ""),
            Ok(ALONE)
        );
    }

    #[test]
    fn inputs_that_the_lock_lacks_are_named() {
        let unpinned = |names: &[&str]| Err(names.iter().map(|n| (*n).to_owned()).collect());
        assert_eq!(look(&[("flake.nix", TWO)], ""), unpinned(&["a", "b"]));
        let some = lock(r#""root":{"inputs":{"a":"a"}},"a":{"locked":{"rev":"1"}}"#);
        assert_eq!(look(&[("flake.nix", TWO), ("flake.lock", &some)], ""), unpinned(&["b"]));
        let all = lock(
            r#""root":{"inputs":{"a":"a","b":["a","n"]}},
               "a":{"inputs":{"n":"n"},"locked":{"rev":"1"}},"n":{"locked":{"narHash":"sha256-x"}}"#,
        );
        assert_eq!(look(&[("flake.nix", TWO), ("flake.lock", &all)], ""), Ok(WHOLE));
        let mutable = all.replace("\"narHash\":\"sha256-x\"", "\"ref\":\"main\"");
        assert_eq!(look(&[("flake.nix", TWO), ("flake.lock", &mutable)], ""), unpinned(&["a/n"]));
        // In the flake's own directory, and nowhere else.
        let elsewhere = [("x/flake.nix", TWO), ("flake.lock", all.as_str())];
        assert_eq!(look(&elsewhere, "x"), unpinned(&["a", "b"]));
    }

    #[test]
    fn what_is_in_the_tree_needs_no_lock_but_what_it_needs_does() {
        let host = "{ inputs.r.url = \"path:../..\"; outputs = { self, r }: { }; }";
        let alone = Ok(Pinned { beside: true, alone: true });
        assert_eq!(look(&[("h/a/flake.nix", host), ("flake.nix", NONE)], "h/a"), alone);
        let needs = [("h/a/flake.nix", host), ("flake.nix", TWO)];
        assert_eq!(look(&needs, "h/a"), Err(vec!["r/a".into(), "r/b".into()]));
        let all = lock(r#""root":{"inputs":{"a":"a","b":"a"}},"a":{"locked":{"rev":"1"}}"#);
        let its_own = [needs[0], needs[1], ("flake.lock", all.as_str())];
        assert_eq!(look(&its_own, "h/a"), Ok(Pinned { beside: true, alone: false }));
        // As newer ones write it, it is whole; as older ones do, it is not for all.
        let node = r#""locked":{"type":"path","path":"../.."},"parent":[]"#;
        let newer = lock(&format!(
            r#""root":{{"inputs":{{"r":"r"}}}},"r":{{"inputs":{{"a":"a","b":"a"}},{node}}},
               "a":{{"locked":{{"rev":"1"}}}}"#
        ));
        let in_lock = |lock: &str| look(&[needs[0], needs[1], ("h/a/flake.lock", lock)], "h/a");
        assert_eq!(in_lock(&newer), Ok(WHOLE));
        let older = newer.replace(node, r#""locked":{"type":"path","path":"../..","narHash":"x"}"#);
        assert_eq!(in_lock(&older), Ok(Pinned { beside: true, alone: false }));
        let less = newer.replace(",\"b\":\"a\"", "");
        assert_eq!(in_lock(&less), Err(vec!["r/b".into()]));
        // What its user sets it does not need itself.
        let sets = "{ inputs.r = { url = \"../..\"; inputs.a.follows = \"\"; \
                    inputs.b.follows = \"\"; }; outputs = { self, r }: { }; }";
        assert_eq!(look(&[("h/a/flake.nix", sets), ("flake.nix", TWO)], "h/a"), alone);
    }

    #[test]
    fn flakes_that_need_each_other_end_and_links_lead_nowhere() {
        let circle = "{ inputs.a.url = \"path:./.\"; outputs = { self, a }: { }; }";
        assert_eq!(look(&[("flake.nix", circle)], ""), Ok(Pinned { beside: true, alone: true }));
        let (outside, tree) = (tree(&[("flake.nix", TWO)]), tree(&[]));
        std::os::unix::fs::symlink(outside.path().join("flake.nix"), tree.path().join("flake.nix"))
            .unwrap();
        assert_eq!(pinned(tree.path(), Path::new("")), Ok(WHOLE), "it is left to Nix");
        let out = "{ inputs.a.url = \"path:../../a\"; outputs = { self, a }: { }; }";
        assert!(look(&[("x/flake.nix", out)], "x").is_ok());
    }

    #[test]
    fn what_nix_would_pin_otherwise_is_named() {
        let file = |b: &str| {
            lock(&format!(
                r#""root":{{"inputs":{{"a":"a","r":"r"}}}},"a":{{"inputs":{{"n":"n"}},"locked":{{"narHash":"1"}}}},
                   "n":{{"locked":{{"narHash":"{b}"}}}},"r":{{"locked":{{"type":"path","path":"./r"}},"parent":[]}}"#
            ))
        };
        let tree = tree(&[("flake.lock", &file("2"))]);
        let differing = |locks: &str| {
            differing(tree.path(), Path::new(""), format!("{{\"locks\":{locks}}}").as_bytes())
        };
        assert_eq!(differing(&file("2")), Some(vec![]));
        assert_eq!(differing(&file("3")), Some(vec!["a/n".into()]));
        let more = file("2").replace("\"a\":\"a\",", "\"a\":\"a\",\"m\":\"n\",");
        assert_eq!(differing(&more), Some(vec!["m".into()]));
        assert_eq!(differing("7"), None);
    }
}

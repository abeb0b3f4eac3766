//! Pins of a `flake.lock`, as Nix writes it (`libexpr/flake/lockfile.cc`, versions 5 to 7).
//!
//! An input beside its flake is in the same tree, and needs no pin. Nix before
//! 2.26 gives it a hash all the same, newer ones the flake that it is beside
//! (`parent`): each refuses to take the other's form as it is.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

/// A lock file; as long as its nodes are not looked at, anything can be wrong.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Lock {
    #[serde(default)]
    nodes: BTreeMap<String, Node>,
    #[serde(default)]
    root: String,
}

/// A flake or another tree that the lock knows.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Node {
    #[serde(default)]
    inputs: BTreeMap<String, Reference>,
    #[serde(default)]
    locked: Option<Map<String, Value>>,
    #[serde(default)]
    parent: Option<Value>,
}

/// Target of a node's input.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Reference {
    /// The input is the node with this key.
    Node(String),
    /// The input at this path, from the root.
    Follows(Vec<String>),
}

/// How a node is pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pin {
    /// By a hash or a revision.
    Fixed,
    /// By being beside its flake, which Nix from 2.26 on takes as it is.
    Beside,
    /// By being beside its flake, though it has a hash: Nix from 2.26 on writes it
    /// anew.
    BesideWithHash,
    /// The node is not pinned at all.
    None,
}

impl Lock {
    /// From the text of a lock file; `None` if Nix could not read it either.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// Returns the node of the flake itself.
    pub(super) fn root(&self) -> Option<&Node> {
        self.nodes.get(&self.root)
    }

    /// The node that an input of a node is; `None` if it is none that is there.
    pub(super) fn input<'a>(&'a self, of: &'a Node, name: &str) -> Option<&'a Node> {
        let mut reference = of.inputs.get(name)?;
        // Those that follow each other in a circle are nowhere.
        for _ in 0..=self.nodes.len() {
            let path = match reference {
                Reference::Node(node) => return self.nodes.get(node),
                Reference::Follows(path) => path,
            };
            let Some((last, before)) = path.split_last() else { return self.root() };
            let mut node = self.root()?;
            for name in before {
                let Reference::Node(next) = node.inputs.get(name)? else { return None };
                node = self.nodes.get(next)?;
            }
            reference = node.inputs.get(last)?;
        }
        None
    }

    /// The nodes that are not pinned, or are referred to and not there, by the names
    /// that lead there from the root; and whether one is in the older form.
    pub(super) fn unpinned(&self) -> (Vec<String>, bool) {
        let (mut unpinned, mut older) = (Vec::new(), false);
        let mut seen: Vec<&str> = vec![&self.root];
        let mut next: Vec<(&str, String)> = vec![(&self.root, String::new())];
        while let Some((key, place)) = next.pop() {
            let Some(node) = self.nodes.get(key) else { continue };
            for (name, reference) in &node.inputs {
                let place = format!("{place}{name}");
                let Reference::Node(to) = reference else { continue };
                match self.nodes.get(to).map(Node::pin) {
                    Some(Pin::Fixed | Pin::Beside) => {}
                    Some(Pin::BesideWithHash) => older = true,
                    Some(Pin::None) | None => unpinned.push(place.clone()),
                }
                if !seen.contains(&to.as_str()) {
                    seen.push(to);
                    next.push((to, format!("{place}/")));
                }
            }
        }
        unpinned.sort();
        (unpinned, older)
    }
}

impl Node {
    /// Whether it has an input of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.inputs.contains_key(name)
    }

    /// How it is pinned.
    pub(super) fn pin(&self) -> Pin {
        let Some(locked) = &self.locked else { return Pin::None };
        let text = |name: &str| locked.get(name).and_then(Value::as_str).unwrap_or_default();
        let fixed = !text("narHash").is_empty() || !text("rev").is_empty();
        let beside = text("type") == "path" && !text("path").starts_with('/');
        match (beside, self.parent.is_some(), fixed) {
            (true, true, _) => Pin::Beside,
            (true, false, true) => Pin::BesideWithHash,
            (true, false, false) | (false, _, false) => Pin::None,
            (false, _, true) => Pin::Fixed,
        }
    }

    /// The hash that it is pinned by, if it is.
    pub(super) fn hash(&self) -> Option<&str> {
        self.locked.as_ref()?.get("narHash")?.as_str()
    }

    /// The path that it is at, if it is one.
    pub(super) fn path(&self) -> Option<&str> {
        self.locked.as_ref()?.get("path")?.as_str()
    }

    /// Returns the names of the node's inputs.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.inputs.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(nodes: &str) -> Lock {
        Lock::parse(format!("{{\"nodes\":{{{nodes}}},\"root\":\"root\",\"version\":7}}").as_bytes())
            .unwrap()
    }

    #[test]
    fn both_forms_of_what_is_in_the_tree_are_pins() {
        let pin = |node: &str| {
            let lock = lock(&format!("\"root\":{{\"inputs\":{{\"a\":\"x\"}}}},\"x\":{node}"));
            lock.input(lock.root().unwrap(), "a").unwrap().pin()
        };
        let beside = r#""locked":{"type":"path","path":"./a""#;
        assert_eq!(pin(&format!("{{{beside}}},\"parent\":[]}}")), Pin::Beside);
        let hash = r#""narHash":"sha256-8o0D=""#;
        assert_eq!(pin(&format!("{{{beside},{hash}}}}}")), Pin::BesideWithHash);
        assert_eq!(pin(&format!("{{{beside}}}}}")), Pin::None);
        let path = r#"{"locked":{"type":"path","path":"/a""#;
        assert_eq!(pin(&format!("{path}}}}}")), Pin::None);
        assert_eq!(pin(&format!("{path},{hash}}}}}")), Pin::Fixed);
        let git = r#"{"locked":{"type":"github","owner":"a","repo":"b""#;
        assert_eq!(pin(&format!("{git},\"rev\":\"0123\"}}}}")), Pin::Fixed);
        assert_eq!(pin(&format!("{git},\"rev\":\"\"}}}}")), Pin::None);
        assert_eq!(pin("{}"), Pin::None);
    }

    #[test]
    fn what_is_not_pinned_is_named_from_the_root() {
        let lock = lock(
            r#""root":{"inputs":{"a":"a","b":["a","n"],"gone":"nowhere"}},
               "a":{"inputs":{"n":"n"},"locked":{"rev":"01"}},
               "n":{"inputs":{"a":"a"},"locked":{}}, "unused":{"locked":{}}"#,
        );
        assert_eq!(lock.unpinned().0, ["a/n", "gone"]);
        let root = lock.root().unwrap();
        assert_eq!(lock.input(root, "b").unwrap().pin(), Pin::None);
        assert!(lock.input(root, "gone").is_none() && lock.input(root, "c").is_none());
    }

    #[test]
    fn circles_and_nonsense_end() {
        let lock = lock(r#""root":{"inputs":{"a":["b"],"b":["a"],"c":[],"d":["x","y"]}}"#);
        let root = lock.root().unwrap();
        assert!(lock.input(root, "a").is_none() && lock.input(root, "d").is_none());
        assert!(lock.input(root, "c").is_some());
        for text in ["", "7", "{\"nodes\":7}", "{\"nodes\":{\"a\":{\"inputs\":{\"b\":7}}}}"] {
            assert!(Lock::parse(text.as_bytes()).is_none(), "{text}");
        }
        assert!(Lock::parse(b"{}").unwrap().root().is_none());
    }
}

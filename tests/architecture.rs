//! Structure of the code as the documents describe it, compared with the manifests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

type Graph = BTreeMap<String, BTreeSet<String>>;

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The crates of the workspace: each with its directory and what it uses of the others.
fn manifests() -> BTreeMap<String, (PathBuf, BTreeSet<String>)> {
    let crates = std::fs::read_dir(top().join("crates")).unwrap().map(|it| it.unwrap().path());
    let directories = crates.filter(|it| it.is_dir()).chain([top().join("agent")]);
    let read = |directory: PathBuf| {
        let text = std::fs::read_to_string(directory.join("Cargo.toml")).unwrap();
        let manifest: toml::Table = text.parse().unwrap();
        let name = manifest["package"]["name"].as_str().unwrap().to_owned();
        let used = manifest["dependencies"].as_table().unwrap().keys();
        let ours = used.filter(|it| it.starts_with("fort-")).cloned().collect();
        (name, (directory, ours))
    };
    directories.map(read).collect()
}

#[test]
fn the_drawn_graph_of_crates_is_that_of_their_manifests() {
    let text = std::fs::read_to_string(top().join("ARCHITECTURE.md")).unwrap();
    let (_, drawn) = text.split_once("```text\nfort-agent:").expect("a drawn graph");
    let drawn = format!("fort-agent:{}", drawn.split_once("```").unwrap().0);
    let words = |line: &str| {
        let (name, uses) = line.split_once(':').unwrap();
        (name.to_owned(), uses.split_whitespace().map(str::to_owned).collect())
    };
    let drawn: Graph = drawn.lines().map(words).collect();
    let found: Graph = manifests().into_iter().map(|(name, (_, uses))| (name, uses)).collect();
    assert_eq!(drawn, found);
}

#[test]
fn every_crate_has_a_line_in_the_list_of_crates() {
    let list = std::fs::read_to_string(top().join("crates/README.md")).unwrap();
    for (name, (directory, _)) in manifests() {
        let folder = directory.file_name().unwrap().to_str().unwrap();
        assert!(list.contains(&format!("]({folder})")) || folder == "agent", "{name}");
    }
}

#[test]
fn what_decides_has_nothing_that_could_do_anything() {
    let text = std::fs::read_to_string(top().join("crates/core/Cargo.toml")).unwrap();
    let manifest: toml::Table = text.parse().unwrap();
    let used: Vec<&str> =
        manifest["dependencies"].as_table().unwrap().keys().map(String::as_str).collect();
    assert_eq!(used, ["jiff", "serde", "serde_json", "thiserror"]);
}

/// The rooms of the agent's own crate, each with those that it uses outside tests.
fn rooms() -> Graph {
    let source = top().join("agent/src");
    let mut files = vec![source.clone()];
    let mut graph = Graph::new();
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(std::fs::read_dir(&path).unwrap().map(|it| it.unwrap().path()));
            continue;
        }
        let inside = path.strip_prefix(&source).unwrap().with_extension("");
        let is_test = inside.to_str().unwrap().ends_with("tests") || inside.ends_with("fixture");
        if path.extension().is_none_or(|it| it != "rs") || is_test {
            continue;
        }
        let room = inside.components().next().unwrap().as_os_str().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let used = graph.entry(room).or_default();
        for named in code.split("crate::").skip(1) {
            // `crate::{a, b::c}` names several.
            let several = named.strip_prefix('{').and_then(|it| it.split('}').next());
            for one in several.unwrap_or(named).split(',').take(several.map_or(1, |_| 99)) {
                let word = |c: char| !c.is_ascii_alphanumeric() && c != '_';
                used.insert(one.trim().split(word).next().unwrap().to_owned());
            }
        }
    }
    let known: BTreeSet<String> = graph.keys().cloned().collect();
    for (room, used) in &mut graph {
        used.retain(|other| known.contains(other) && other != room);
    }
    graph
}

#[test]
fn no_room_of_the_agent_is_used_by_what_it_uses() {
    let mut graph = rooms();
    assert!(graph["cli"].contains("host") && graph["web"].contains("wording"), "{graph:?}");
    graph.remove("main");
    graph.remove("lib");
    // Whatever uses nothing that is left is no part of a circle.
    while let Some(free) = graph.iter().find(|(_, used)| used.is_empty()).map(|(it, _)| it.clone())
    {
        graph.remove(&free);
        graph.values_mut().for_each(|used| used.retain(|other| *other != free));
    }
    assert!(graph.is_empty(), "a circle: {graph:?}");
}

#[test]
fn every_field_of_the_memory_is_explained() {
    let source = std::fs::read_to_string(top().join("crates/core/src/memory.rs")).unwrap();
    let (_, memory) = source.split_once("pub struct Memory {").unwrap();
    let (memory, _) = memory.split_once("\n}").unwrap();
    let fields = memory.lines().filter_map(|line| line.strip_prefix("    pub "));
    let fields: BTreeSet<&str> = fields.filter_map(|it| it.split(':').next()).collect();
    let text = std::fs::read_to_string(top().join("ARCHITECTURE.md")).unwrap();
    let (_, list) = text.split_once("## What is remembered").unwrap();
    let (list, _) = list.split_once("\n## ").unwrap();
    let rows = list.lines().filter_map(|line| line.strip_prefix("| `")?.split('|').next());
    let named: BTreeSet<&str> = rows.flat_map(|row| row.split('`').step_by(2)).collect();
    assert_eq!(named, fields);
}

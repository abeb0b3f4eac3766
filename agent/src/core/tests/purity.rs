//! What the core must not even name.

use std::path::Path;

fn sources(under: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(under).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            found.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
        }
    }
}

#[test]
fn nothing_in_core_imports_from_outside_core() {
    let mut found = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/core"), &mut found);
    assert!(found.len() > 10);
    // In parts, so that this file may pass as well.
    let root = ["cra", "te::"].concat();
    let (own, by_name) = (format!("{root}core"), ["fort", "_agent::"].concat());
    for (path, text) in found {
        for line in text.lines().filter(|line| line.contains(&root)) {
            assert_eq!(line.matches(&own).count(), line.matches(&root).count(), "{path}: {line}");
        }
        assert!(!text.contains(&by_name), "{path}");
    }
}

//! Trees that an export refuses, and what it leaves behind then.

use super::*;

#[test]
fn names_that_are_paths_are_refused() {
    let source = Source::new();
    let blob = source.object("blob", b"evil");
    for name in [&b".git"[..], b".GIT", b".gIt", b".", b"..", b"", b"a/b", b"../x", b"/etc/x"] {
        let commit = source.crafted(&[("100644", name, &blob)]);
        let error = source.export(commit, "out", None).unwrap_err();
        let shown = String::from_utf8_lossy(name);
        assert!(matches!(error, ExportError::Refused { .. }), "{shown:?}: {error:?}");
        assert_eq!(fs::read_dir(source.dir.path()).unwrap().count(), 0, "{shown:?}");
    }
    let inner = source.object("tree", b"");
    for name in [&b".git"[..], b"..", b"a/b"] {
        let commit = source.crafted(&[("40000", name, &inner)]);
        assert!(source.export(commit, "out", None).is_err());
    }
}

#[test]
fn a_name_that_is_there_twice_is_refused() {
    let source = Source::new();
    let target = source.object("blob", b"/tmp");
    let blob = source.object("blob", b"evil");
    let mut inner = b"100644 x\0".to_vec();
    inner.extend_from_slice(blob.parse::<Commit>().unwrap().as_bytes());
    let directory = source.object("tree", &inner);
    for twice in [
        [("120000", &b"a"[..], target.as_str()), ("40000", b"a", directory.as_str())],
        [("120000", b"a", &target), ("100644", b"a", &blob)],
        [("40000", b"a", &directory), ("40000", b"a", &directory)],
    ] {
        let refusal = source.refusal(source.crafted(&twice));
        assert_eq!(refusal.1, Unfit::Twice);
    }
}

#[test]
fn endless_nesting_is_refused() {
    let source = Source::new();
    let wrap = |inner: &str| {
        let mut tree = b"40000 d\0".to_vec();
        tree.extend_from_slice(inner.parse::<Commit>().unwrap().as_bytes());
        source.object("tree", &tree)
    };
    let mut deep = source.object("tree", b"");
    for _ in 0..120 {
        deep = wrap(&deep);
    }
    let commit = source.crafted(&[("40000", b"d", &deep)]);
    assert_eq!(source.refusal(commit).1, Unfit::Nested);
}

/// Two levels of directories that all have the same files.
fn bushy(bare: &Path, files: usize) -> String {
    let blob = evil::object(bare, "blob", &[b'x'; 5000]);
    let small = evil::object(bare, "blob", b"s");
    let mut entries: Vec<(&str, String, &str)> = vec![("100644", "large".into(), &blob)];
    entries.extend((0..files).map(|n| ("100644", format!("s{n:03}"), small.as_str())));
    let leaf = evil::tree(bare, &entries);
    let branches = |of: &str| {
        let entries: Vec<_> = (0..20).map(|n| ("40000", format!("d{n:02}"), of)).collect();
        evil::tree(bare, &entries)
    };
    branches(&branches(&leaf))
}

#[test]
fn a_tree_that_unfolds_is_refused_when_it_takes_more_than_is_granted() {
    let source = Source::new();
    // Twenty files twenty times twenty times, of a block each.
    let commit = evil::commit(&source.repo.bare, "main", &bushy(&source.repo.bare, 20));
    let limits = Limits { tree: 16 << 20, ..Limits::default() };
    let order = Export { limits, ..source.order(commit, "out", None) };
    let refused = export(&order).unwrap_err();
    assert_eq!(refused, ExportError::TooLarge { limit: 16 << 20 });
    assert!(refused.to_string().contains("16.0 MiB"), "{refused}");
    assert_eq!(fs::read_dir(source.dir.path()).unwrap().count(), 0);
    let whole = Export { limits: Limits::default(), ..order };
    assert_eq!(tree(&export(&whole).unwrap().dir).len(), 20 * 20 * 22 + 20);
}

#[test]
fn what_is_the_same_takes_room_once_and_counts_each_time() {
    let source = Source::new();
    let bare = &source.repo.bare;
    let blob = evil::object(bare, "blob", &evil::noise(1 << 20, 1));
    let entries: Vec<_> = (0..60).map(|n| ("100644", format!("f{n:02}"), blob.as_str())).collect();
    let mut entries = entries;
    entries.push(("100755", "x".into(), &blob));
    let commit = evil::commit(bare, "main", &evil::tree(bare, &entries));
    source.export(commit, "out", None).unwrap();
    let taken = evil::on_disk(&source.to("out"));
    assert!(taken < 4 << 20, "{taken}: once, and once executable");
    let mode = |name: &str| source.to("out").join(name).metadata().unwrap().mode() & 0o777;
    assert_eq!((mode("f00"), mode("x")), (0o444, 0o555));
    // Nix would copy each.
    let limits = Limits { tree: 32 << 20, ..Limits::default() };
    let order = Export { limits, ..source.order(commit, "again", None) };
    assert_eq!(export(&order).unwrap_err(), ExportError::TooLarge { limit: 32 << 20 });
    let linked = Export { previous: Some(source.to("out")), ..order };
    assert_eq!(export(&linked).unwrap_err(), ExportError::TooLarge { limit: 32 << 20 });
}

#[test]
fn an_export_leaves_room_on_the_disk_and_says_how_much() {
    in_own_mounts(
        "git::export::limits::an_export_leaves_room_on_the_disk_and_says_how_much",
        || {
            let source = Source::new();
            for n in 0..12 {
                source.repo.work.write(&format!("n{n}"), evil::noise(1 << 20, n));
            }
            let commit = source.commit();
            let disk = source.to("disk");
            mount(&disk, "100M");
            fill(&disk, 20 << 20);
            let order = Export { dest: disk.join("out"), ..source.order(commit, "", None) };
            let refused = export(&order).unwrap_err();
            let ExportError::NoRoom(found) = &refused else { panic!("{refused:?}") };
            // A twentieth of the disk stays free, and what Nix's copy will take.
            assert_eq!(found.keep, 5 << 20);
            assert!(found.free > found.keep, "{found:?}");
            assert!(refused.to_string().contains("5.0 MiB are to stay free"), "{refused}");
            assert_eq!(free(&disk), 20 << 20, "nothing is left of it");
        },
    );
}

#[test]
fn an_export_that_is_killed_or_called_off_leaves_nothing() {
    let source = Source::new();
    let commit = evil::commit(&source.repo.bare, "main", &bushy(&source.repo.bare, 200));
    let order = source.order(commit, "out", None);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let begun = || fs::read_dir(source.dir.path()).unwrap().count() > 0;
    let agent = crate::support::rig::agent();
    runtime.block_on(async {
        let export = fort_agent::git::export::run(&agent, &order);
        let until_begun = async {
            while !begun() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            done = export => panic!("{done:?}"),
            () = until_begun => {}
        }
    });
    wait_for("the export to go", || {
        // Its process may have had a last word.
        fort_agent::git::export::sweep_all(source.dir.path());
        !begun()
    });
    // One whose parent is gone ends by itself.
    let mut child = std::process::Command::new(&agent)
        .args(["job", "export"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut line = serde_json::to_vec(&order).unwrap();
    line.push(b'\n');
    stdin.write_all(&line).unwrap();
    wait_for("an export to begin", begun);
    drop(stdin);
    wait_for("it to end", || child.try_wait().unwrap().is_some());
    let left = source.to(&format!("out.partial-{}", child.id()));
    assert!(left.exists() || source.to("out").exists(), "it was at it");
    // The next one, or whoever removes its job, removes that.
    fort_agent::git::export::sweep(&order.dest);
    assert!(!left.exists());
}
